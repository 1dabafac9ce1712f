//! One transaction for everything that several calendars want at once.
//!
//! Order inside the transaction: advisory locks in key order; holds that ran out; steps with rows
//! that exist, in their order; new rows, all in one statement, where `ON CONFLICT DO NOTHING`
//! lets a loser lose without failing the others; then what follows from all of it: audit trail,
//! calendar versions, user events, notifications, pushes.

mod external;
mod insert;
mod news;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use uuid::Uuid;

use super::bookings::Booking;
use super::calendars::{self, Block, Change};
use super::catalogue::Offer;
use super::user_events::NewUserEvent;
use super::{Conn, bookings};
use crate::domain::access::Role;
use crate::domain::booking::Step;
use crate::domain::channel::Channel;
use crate::domain::refusal::Refusal;

pub use external::Replacement;
pub use insert::{NewBooking, Placement};

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
    /// Any step of `domain::booking`.
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
    /// Close a time. Bookings in it stay.
    Block(Block),
    /// Open a closed time again.
    Unblock(Uuid),
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
}

/// What became of a job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The row as it now is.
    Booked(Box<Booking>),
    /// The time was taken by somebody else.
    Taken,
    /// The job was refused; nothing of it is stored.
    Refused(Refusal),
    /// The time is closed.
    Blocked(Block),
    /// The time is open again.
    Unblocked(Block),
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
    pub data: serde_json::Value,
}

/// Everything that a committed batch brought about.
#[derive(Debug, Default)]
pub struct Committed {
    /// One per job, in order.
    pub outcomes: Vec<Outcome>,
    /// What the sockets are to hear, in order per channel.
    pub events: Vec<StoredEvent>,
}

/// Rules of the transaction that come from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct CommitRules {
    /// How long a push waits for an acknowledgement of a live device.
    pub push_window: Duration,
}

/// What the transaction collects on its way.
#[derive(Default)]
struct Ledger {
    outcomes: Vec<Option<Outcome>>,
    trail: Vec<news::TrailEntry>,
    changes: BTreeMap<Uuid, Vec<Change>>,
    hours_changed: Vec<Uuid>,
    events: Vec<NewUserEvent>,
    notices: Vec<news::Addressed>,
}

impl Ledger {
    fn settle(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = Some(outcome);
        }
    }

    fn changed(&mut self, practitioner_id: Uuid, start: Timestamp, end: Timestamp, state: &str) {
        let change = Change { start, end, state: state.to_owned() };
        self.changes.entry(practitioner_id).or_default().push(change);
    }
}

/// Commits `jobs` as one transaction.
pub async fn commit(conn: &mut Conn, rules: CommitRules, jobs: &[Job]) -> QueryResult<Committed> {
    conn.transaction(async |conn| {
        let mut ledger = Ledger { outcomes: vec![None; jobs.len()], ..Ledger::default() };
        let practitioners = lock(conn, jobs).await?;
        steps::lapse(conn, &practitioners, &mut ledger).await?;
        for (index, job) in jobs.iter().enumerate() {
            steps::take(conn, index, job, &mut ledger).await?;
        }
        insert::place_all(conn, jobs, &mut ledger).await?;
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
    diesel::sql_query("SELECT pg_advisory_xact_lock(k) FROM unnest($1) AS t (k)")
        .bind::<Array<BigInt>, _>(&keys)
        .execute(conn)
        .await?;
    let mut practitioners: Vec<Uuid> = jobs.iter().map(|j| j.practitioner_id).collect();
    practitioners.sort_unstable();
    practitioners.dedup();
    Ok(practitioners)
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
    for (practitioner_id, changes) in &ledger.changes {
        let hours_changed = ledger.hours_changed.contains(practitioner_id);
        let data = serde_json::json!({ "changes": changes, "hoursChanged": hours_changed });
        let (seq, at) = calendars::append_change(conn, *practitioner_id, &data).await?;
        stored.push(StoredEvent {
            channel: Channel::Calendar(*practitioner_id),
            seq,
            event: "availability:changed",
            at,
            data: calendar_event(seq, data),
        });
    }
    news::tell(conn, rules, &mut ledger, &mut stored).await?;
    Ok(Committed {
        outcomes: ledger.outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Done)).collect(),
        events: stored,
    })
}

/// The data of `availability:changed`: what `calendar_changes` keeps, plus the version.
pub fn calendar_event(version: i64, mut data: serde_json::Value) -> serde_json::Value {
    if let Some(object) = data.as_object_mut() {
        object.insert("version".to_owned(), version.into());
    }
    data
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
