//! One transaction for everything that several calendars want at once.
//!
//! Order inside the transaction: advisory locks in key order, those of seekers who want to hold
//! something after those of calendars; holds that ran out; steps with rows
//! that exist and whatever else needs more than one statement, in their order; new rows, all in one
//! statement, where `ON CONFLICT DO NOTHING` lets a loser lose without failing the others; then what
//! follows from all of it: audit trail, calendar versions, user events, notifications, pushes.
//!
//! A time that becomes free goes to whoever waits for it in the same transaction, see `waiting`.

mod blocks;
mod external;
mod holds;
mod insert;
mod limits;
mod moves;
mod news;
mod seats;
mod steps;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::sql_types::{Array, BigInt};
use diesel::{IntoSql, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::bookings::Booking;
use super::calendars::{self, Block, Change};
use super::catalogue::Offer;
use super::fixed::Fixed;
use super::json::Json;
use super::notices::Addressed;
use super::user_events::NewUserEvent;
use super::{Conn, bookings};
use crate::domain::access::Role;
use crate::domain::booking::Step;
use crate::domain::channel::Channel;
use crate::domain::refusal::Refusal;

pub use self::external::Replacement;
pub use self::holds::MAX_HOLDS;
pub use self::insert::{NewBooking, Placement};
pub use self::limits::LimitCheck;
pub use self::moves::Move;

/// What a calendar wants committed. Every job belongs to one practitioner.
#[derive(Debug, Clone)]
pub struct Job {
    pub practitioner_id: Uuid,
    /// Who asked; nobody when the hub itself does.
    pub actor: Option<Uuid>,
    pub command: Command,
}

/// The change that is wanted.
#[derive(Debug, Clone)]
pub enum Command {
    /// A hold or a booking of a free time.
    Place(NewBooking),
    /// Turn the seeker's hold into a booking.
    BookHold {
        /// The hold's id, which becomes the booking's.
        hold_id: Uuid,
        /// The owner of the hold.
        seeker_id: Uuid,
        /// The seeker's words to the practitioner.
        notes: Option<String>,
        /// The id of the `Idempotency-Key` that it is booked under.
        key: Option<Uuid>,
    },
    /// Keep the seeker's hold once more for its time.
    ExtendHold {
        /// The hold.
        hold_id: Uuid,
        /// Its owner.
        seeker_id: Uuid,
        /// How many seconds it is kept longer.
        by_seconds: f64,
        /// How many seconds after it was made it ends at the latest.
        at_most_seconds: f64,
    },
    /// Bookings that belong together: all of them, or none.
    PlaceSeries(Vec<NewBooking>),
    /// A booking at another time, instead of the one there is.
    Reschedule(Move),
    /// The seeker's words to the practitioner, anew.
    Edit {
        /// The booking.
        booking_id: Uuid,
        /// The role of the one who asks.
        role: Role,
        /// What it says from now on.
        notes: Option<String>,
        /// The version that they saw, if they said so.
        expected_version: Option<i64>,
    },
    /// Any step of `domain::booking` but a move, which needs to know where to.
    Step {
        /// The booking or hold.
        booking_id: Uuid,
        /// What to do with it.
        step: Step,
        /// The role of the one who asks.
        role: Role,
        /// Their words: why, or at the end of a session what happened in it.
        reason: Option<String>,
        /// The version that they saw, if they said so.
        expected_version: Option<i64>,
    },
    /// Close times: one, or a series. Bookings in them stay.
    Block(Vec<Block>),
    /// Open a closed time again.
    Unblock {
        /// The blocked time.
        block_id: Uuid,
        /// Whether all times of its series are meant.
        whole_series: bool,
    },
    /// Add an offer or change it. What was booked before keeps its price.
    PutOffer(Offer),
    /// Replace the weekly hours, overrides and zone.
    PutSchedule {
        /// The validated schedule, see `domain::availability`.
        schedule: serde_json::Value,
        /// The version that the writer saw, if they said so.
        expected_version: Option<i64>,
    },
    /// Replace the busy times that come from a calendar elsewhere. Bookings in the new ones stay.
    ReplaceExternal(Replacement),
    /// Forget a calendar elsewhere, and with it its busy times.
    RemoveExternal(Uuid),
    /// Nothing of its own: flips holds that ran out.
    Lapse,
    /// Hold for who waits what opened in another way than by the end of a booking.
    OfferOpened {
        /// What `waitlist::look` said was wanted, before the slots were looked for; `None` when that
        /// is not all.
        look: Option<i64>,
        /// Entries of the waiting list, each with the hold that it gets.
        offers: Vec<(Uuid, NewBooking)>,
    },
}

/// What became of a job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The row as it now is.
    Booked(Box<Booking>),
    /// All bookings of a series.
    Series(Vec<Booking>),
    /// The time was taken by somebody else.
    Taken,
    /// These starts of a series are taken, or (true) their day or week is full; nothing of it is
    /// stored.
    Clashes(Vec<(Timestamp, bool)>),
    /// The job was refused; nothing of it is stored.
    Refused(Refusal),
    /// The times are closed.
    Blocked(Vec<Block>),
    /// The times are open again; the one that was named is the first.
    Unblocked(Vec<Block>),
    /// The schedule has this version.
    Scheduled(i64),
    /// The busy times of a calendar elsewhere are what was read there.
    External {
        /// Whether any time is busy or free that was not before.
        changed: bool,
    },
    /// Done, with nothing to tell.
    Done,
}

/// A durable event that the transaction stored and that sockets are to be told of.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub channel: Channel,
    pub seq: i64,
    pub event: &'static str,
    pub at: Timestamp,
    pub data: Json,
}

/// Everything that a committed batch brought about.
#[derive(Debug, Default)]
pub struct Committed {
    /// One per job, in order.
    pub outcomes: Vec<Outcome>,
    /// What the sockets are to hear, in order per channel.
    pub events: Vec<StoredEvent>,
    /// Rows that changed besides those that the outcomes hold, as they now are.
    pub others: Vec<Booking>,
}

/// Rules of the transaction that come from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct CommitRules {
    /// How long a push waits for an acknowledgement of a live device.
    pub push_window: Duration,
    /// The platform's share of what the hub books by itself, in basis points of the price.
    pub commission_bps: u16,
}

/// What the transaction collects on its way.
#[derive(Default)]
struct Ledger {
    outcomes: Vec<Option<Outcome>>,
    trail: Vec<news::TrailEntry>,
    changes: BTreeMap<Uuid, Vec<Change>>,
    hours_changed: Vec<Uuid>,
    events: Vec<NewUserEvent>,
    notices: Vec<Addressed>,
    /// Bookings whose reminders are to be written, if they are confirmed in the end.
    agreed: Vec<Uuid>,
    /// Bookings whose reminders are to be called off, before others are written.
    over: Vec<Uuid>,
    others: Vec<Booking>,
}

impl Ledger {
    fn settle(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = Some(outcome);
        }
    }

    /// Takes back what was settled: the job is still to be carried out.
    fn open(&mut self, index: usize) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = None;
        }
    }

    fn is_settled(&self, index: usize) -> bool {
        self.outcomes.get(index).is_some_and(Option::is_some)
    }

    fn changed(&mut self, practitioner_id: Uuid, start: Timestamp, end: Timestamp, state: &str) {
        let change = Change { start, end, state: state.to_owned() };
        self.changes.entry(practitioner_id).or_default().push(change);
    }

    /// Takes over what a part of the transaction brought about that might have been undone.
    fn absorb(&mut self, part: Self) {
        self.trail.extend(part.trail);
        for (practitioner_id, changes) in part.changes {
            self.changes.entry(practitioner_id).or_default().extend(changes);
        }
        self.events.extend(part.events);
        self.notices.extend(part.notices);
        self.agreed.extend(part.agreed);
        self.over.extend(part.over);
        self.others.extend(part.others);
    }
}

/// Commits `jobs` as one transaction.
pub async fn commit(conn: &mut Conn, rules: CommitRules, jobs: &[Job]) -> QueryResult<Committed> {
    conn.transaction(async |conn| {
        let mut ledger = Ledger { outcomes: vec![None; jobs.len()], ..Ledger::default() };
        let practitioners = lock(conn, jobs).await?;
        holds::lapse(conn, rules, &practitioners, &mut ledger).await?;
        let mut refused = holds::refuse_too_many(conn, jobs, &mut ledger).await?;
        loop {
            for (index, job) in jobs.iter().enumerate() {
                if !ledger.is_settled(index) {
                    steps::take(conn, rules, index, job, &mut ledger).await?;
                }
            }
            insert::place_all(conn, jobs, &mut ledger).await?;
            if !holds::admit_again(conn, &mut refused, &mut ledger).await? {
                break;
            }
        }
        follow_up(conn, rules, ledger).await
    })
    .await
}

/// Takes the advisory locks of all practitioners concerned, in the order of their keys, which is
/// what keeps two nodes from waiting for each other.
async fn lock(conn: &mut Conn, jobs: &[Job]) -> QueryResult<Vec<Uuid>> {
    let by_key: BTreeMap<i64, Uuid> =
        jobs.iter().map(|j| (lock_key(j.practitioner_id), j.practitioner_id)).collect();
    let keys: Vec<i64> = by_key.keys().copied().collect();
    struct Lock;
    let keys = keys.into_sql::<Array<BigInt>>();
    let select = "SELECT pg_advisory_xact_lock(k) FROM unnest(";
    Fixed::<_, _, ()>::new(Lock, select, keys, ") AS t (k)").execute(conn).await?;
    let mut practitioners: Vec<Uuid> = jobs.iter().map(|j| j.practitioner_id).collect();
    practitioners.sort_unstable();
    practitioners.dedup();
    Ok(practitioners)
}

/// Keeps out what changes this calendar until the transaction ends.
pub(super) async fn lock_one(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<()> {
    let lock = diesel::sql_query("SELECT pg_advisory_xact_lock($1)");
    lock.bind::<BigInt, _>(lock_key(practitioner_id)).execute(conn).await?;
    Ok(())
}

/// The advisory lock of a practitioner: two practitioners that share a key wait for each other
/// needlessly, and nothing worse.
fn lock_key(practitioner_id: Uuid) -> i64 {
    let (high, low) = practitioner_id.as_u64_pair();
    i64::from_ne_bytes((high ^ low).to_ne_bytes())
}

async fn follow_up(
    conn: &mut Conn,
    rules: CommitRules,
    mut ledger: Ledger,
) -> QueryResult<Committed> {
    news::write_trail(conn, &ledger.trail).await?;
    let mut stored = Vec::new();
    for practitioner_id in &ledger.hours_changed {
        ledger.changes.entry(*practitioner_id).or_default();
    }
    let news = |version| {
        let hours_changed = &ledger.hours_changed;
        move |(id, changes): (&Uuid, &Vec<Change>)| {
            let hours_changed = hours_changed.contains(id);
            Json::of(&AvailabilityChanged { changes, hours_changed, version })
        }
    };
    let changes: Vec<(Uuid, Json)> =
        ledger.changes.iter().map(|entry| (*entry.0, news(None)(entry))).collect();
    for new in calendars::append_changes(conn, &changes).await? {
        let Some(entry) = ledger.changes.get_key_value(&new.practitioner_id) else { continue };
        stored.push(StoredEvent {
            channel: Channel::Calendar(new.practitioner_id),
            seq: new.version,
            event: "availability:changed",
            at: new.created_at,
            data: news(Some(new.version))(entry),
        });
    }
    news::tell(conn, rules, &mut ledger, &mut stored).await?;
    Ok(Committed {
        outcomes: ledger.outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Done)).collect(),
        events: stored,
        others: ledger.others,
    })
}

/// The data of `availability:changed`; `calendar_changes` keeps it without the version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AvailabilityChanged<'a> {
    changes: &'a [Change],
    hours_changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
}

/// The data of `availability:changed` from what `calendar_changes` keeps of it.
pub fn calendar_event(version: i64, mut data: serde_json::Value) -> serde_json::Value {
    if let Some(object) = data.as_object_mut() {
        object.insert("version".to_owned(), version.into());
    }
    data
}

/// The row ended and kept its time until now: it is free again, and goes to who waits for it.
async fn give_back(
    conn: &mut Conn,
    rules: CommitRules,
    row: &Booking,
    ledger: &mut Ledger,
) -> QueryResult<()> {
    freed(conn, row.practitioner_id, (row.occupied_from, row.occupied_until), ledger).await?;
    waiting::offer(conn, rules, row, ledger).await
}

/// Notes that `span` of a calendar is free again, except where something else keeps it busy.
async fn freed(
    conn: &mut Conn,
    practitioner_id: Uuid,
    (start, end): (Timestamp, Timestamp),
    ledger: &mut Ledger,
) -> QueryResult<()> {
    ledger.changed(practitioner_id, start, end, "free");
    for (from, until) in calendars::busy_spans(conn, practitioner_id, start, end).await? {
        ledger.changed(practitioner_id, from.max(start), until.min(end), "busy");
    }
    Ok(())
}

async fn reload(conn: &mut Conn, id: Uuid) -> QueryResult<Booking> {
    bookings::find(conn, id).await?.ok_or(diesel::result::Error::NotFound)
}
