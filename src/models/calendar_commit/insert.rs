//! New rows in `bookings`: all holds and bookings of a batch in one statement.

use std::collections::HashMap;

use diesel::dsl::AsExprOf;
use diesel::expression::{AsExpression, TypedExpressionType};
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, SqlType, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel::{IntoSql, QueryResult, QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::limits::{self, LimitCheck};
use super::{Command, Job, Ledger, Outcome, freed, news, reload, seats, waiting};
use crate::domain::booking::{Status, Step};
use crate::domain::refusal::Refusal;
use crate::models::Conn;
use crate::models::bookings::{Booking, RowTypes};
use crate::models::fixed::Fixed;
use crate::models::user_blocks;

/// How a new row comes into being.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Placement {
    /// As a hold that runs out after so many seconds, by the database's clock.
    Hold(f64),
    /// As a booking that waits for the practitioner.
    Pending,
    /// As a booking that is agreed at once.
    Confirmed,
}

impl Placement {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Hold(_) => Status::Held,
            Self::Pending => Status::Pending,
            Self::Confirmed => Status::Confirmed,
        }
    }
}

/// A hold or booking that is to be inserted; its price is copied from the offer of now.
#[derive(Debug, Clone)]
pub struct NewBooking {
    pub id: Uuid,
    pub seeker_id: Uuid,
    pub service_id: Uuid,
    pub scheduled_at: Timestamp,
    pub duration_minutes: i32,
    pub ends_at: Timestamp,
    /// Start less the buffer before.
    pub occupied_from: Timestamp,
    /// End plus the buffer after.
    pub occupied_until: Timestamp,
    /// Minor units of `currency`.
    pub total_amount: i64,
    /// The platform's share of it.
    pub commission_amount: i64,
    pub currency: String,
    pub notes: Option<String>,
    pub placement: Placement,
    /// Whether the seeker's own holds are known to be in the way: they make room for it.
    pub over_own_hold: bool,
    /// How many come.
    pub seats: i32,
    /// The seats of the session, if several may join it.
    pub capacity: Option<i32>,
    /// Whether it keeps others out while it waits for an answer.
    pub pending_blocks: bool,
    /// Copied from the offer, see `domain::cancellation`.
    pub cancellation_policy: serde_json::Value,
    /// What bookings made together have in common.
    pub series_id: Option<Uuid>,
    /// What it takes the place of.
    pub replaces: Option<Replaced>,
    /// What it has to fit into besides.
    pub limits: Vec<LimitCheck>,
}

/// The booking that a new one takes the place of.
#[derive(Debug, Clone, Copy)]
pub struct Replaced {
    pub id: Uuid,
    /// The first booking of the chain.
    pub chain_id: Uuid,
    /// The new one's `SEQUENCE`.
    pub ical_sequence: i32,
}

/// A new row as it goes into the statement.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// The place of its job in the batch.
    pub index: usize,
    pub practitioner_id: Uuid,
    pub new: &'a NewBooking,
    pub group_session_id: Option<Uuid>,
}

/// A row is refused by the constraint (`ON CONFLICT DO NOTHING` covers exclusion constraints), by a
/// blocked time, or because one of the two blocks the other; what was agreed before can be moved all
/// the same. The winners come back as `models::bookings` reads them. The columns come as arrays in
/// this order.
const INSERT: &str = "
WITH b AS (
INSERT INTO bookings (id, seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes,
    ends_at, occupied_from, occupied_until, total_amount, commission_amount, currency, status,
    hold_expires_at, notes, seats, group_session_id, pending_blocks, cancellation_policy, series_id,
    rescheduled_from, chain_id, ical_sequence)
SELECT t.id, t.seeker_id, t.practitioner_id, t.service_id, t.scheduled_at, t.duration_minutes,
    t.ends_at, t.occupied_from, t.occupied_until, t.total_amount, t.commission_amount, t.currency,
    t.status, statement_timestamp() + make_interval(secs => t.hold_seconds), t.notes, t.seats,
    t.group_session_id, t.pending_blocks, t.cancellation_policy, t.series_id, t.rescheduled_from,
    t.chain_id, t.ical_sequence
  FROM unnest(";
const INSERT_END: &str = ") WITH ORDINALITY
    AS t (id, seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes, ends_at,
          occupied_from, occupied_until, total_amount, commission_amount, currency, status,
          hold_seconds, notes, seats, group_session_id, pending_blocks, cancellation_policy,
          series_id, rescheduled_from, chain_id, ical_sequence, place)
 WHERE NOT EXISTS (SELECT 1 FROM blocked_times b WHERE b.practitioner_id = t.practitioner_id
                      AND b.starts_at < t.occupied_until AND b.ends_at > t.occupied_from)
   AND (t.status <> 'pending' OR t.pending_blocks
        OR NOT EXISTS (SELECT 1 FROM bookings o WHERE o.practitioner_id = t.practitioner_id
                          AND o.blocks AND o.occupied && tstzrange(t.occupied_from, t.occupied_until)
                          AND coalesce(o.group_session_id <> t.group_session_id, true)))
   AND (t.rescheduled_from IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM practitioners p JOIN user_blocks k
            ON k.blocker_id = t.seeker_id AND k.blocked_id = p.user_id
         WHERE p.id = t.practitioner_id))
   AND (t.rescheduled_from IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM practitioners p JOIN user_blocks k
            ON k.blocker_id = p.user_id AND k.blocked_id = t.seeker_id
         WHERE p.id = t.practitioner_id))
 ORDER BY t.place
ON CONFLICT DO NOTHING
RETURNING *)
SELECT b.id, b.seeker_id, b.practitioner_id, b.service_id, b.scheduled_at, b.duration_minutes,
    b.ends_at, b.occupied_from, b.occupied_until, b.total_amount, b.commission_amount, b.currency,
    b.status, b.hold_expires_at, b.cancellation_reason, b.notes, b.session_notes, b.version,
    b.created_at, b.seats, b.group_session_id, b.pending_blocks, b.rescheduled_from, b.chain_id,
    b.ical_sequence, b.series_id, b.cancellation_policy, b.refund_percent, b.blocks, p.user_id,
    s.name
  FROM b JOIN practitioners p ON p.id = b.practitioner_id JOIN services s ON s.id = b.service_id";

/// Names the text of the insert.
struct Insert;

/// Holds give way to what their owner wants instead, unless that would lose all the same.
const YIELD: &str = "
UPDATE bookings h SET status = 'released', version = h.version + 1
  FROM unnest($1, $2, $3, $4) AS t (seeker_id, practitioner_id, occupied_from, occupied_until)
 WHERE h.practitioner_id = t.practitioner_id AND h.seeker_id = t.seeker_id AND h.status = 'held'
   AND h.occupied && tstzrange(t.occupied_from, t.occupied_until)
   AND NOT EXISTS (SELECT 1 FROM bookings o WHERE o.practitioner_id = t.practitioner_id
                      AND o.occupied && tstzrange(t.occupied_from, t.occupied_until) AND o.blocks
                      AND (o.status <> 'held' OR o.seeker_id <> t.seeker_id)
                      AND coalesce(o.group_session_id <> h.group_session_id, true))
   AND NOT EXISTS (SELECT 1 FROM blocked_times b WHERE b.practitioner_id = t.practitioner_id
                      AND b.starts_at < t.occupied_until AND b.ends_at > t.occupied_from)
RETURNING h.id";

#[derive(QueryableByName)]
struct Winner {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Inserts every `Command::Place` of `jobs` that needs no seats counted and is not refused yet; the losers' outcome is
/// `Taken`, or a refusal when a limit is reached.
pub(super) async fn place_all(
    conn: &mut Conn,
    jobs: &[Job],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let mut wanted: Vec<Row<'_>> = jobs
        .iter()
        .enumerate()
        .filter_map(|(index, job)| match &job.command {
            Command::Place(new) if new.capacity.is_none() && !ledger.is_settled(index) => {
                let practitioner_id = job.practitioner_id;
                Some(Row { index, practitioner_id, new, group_session_id: None })
            }
            _ => None,
        })
        .collect();
    while !wanted.is_empty() {
        let admitted = limits::admit(conn, wanted).await?;
        if admitted.now.is_empty() {
            for row in admitted.full {
                let refusal = Refusal::SlotUnavailable("limit".into());
                ledger.settle(row.index, Outcome::Refused(refusal));
            }
            break;
        }
        yield_own_holds(conn, &admitted.now, ledger).await?;
        let winners = insert(conn, &admitted.now).await?;
        admitted.make_room(conn, &winners, ledger).await?;
        settle(conn, jobs, &admitted.now, winners, ledger).await?;
        // Who found no room looks again, since some of those may have lost.
        wanted = admitted.full;
    }
    Ok(())
}

async fn settle(
    conn: &mut Conn,
    jobs: &[Job],
    wanted: &[Row<'_>],
    winners: Vec<Booking>,
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let mut stored: HashMap<Uuid, Booking> = winners.into_iter().map(|b| (b.id, b)).collect();
    for row in wanted {
        let Some(booking) = stored.remove(&row.new.id) else {
            ledger.settle(row.index, lost(conn, row.practitioner_id, row.new).await?);
            continue;
        };
        busy(ledger, &booking);
        let actor = jobs.get(row.index).and_then(|job| job.actor);
        news::placed(ledger, actor, &booking, row.new.placement);
        ledger.settle(row.index, Outcome::Booked(Box::new(booking)));
    }
    Ok(())
}

/// What a row that was not stored came to.
pub(super) async fn lost(
    conn: &mut Conn,
    practitioner_id: Uuid,
    new: &NewBooking,
) -> QueryResult<Outcome> {
    let apart = user_blocks::with_practice(conn, new.seeker_id, practitioner_id).await?;
    Ok(if apart { Outcome::Refused(Refusal::Blocked) } else { Outcome::Taken })
}

/// What became of one row.
pub(super) enum Placed {
    Stored(Box<Booking>),
    /// The time or the seats are taken.
    Taken,
    /// A limit of its day or week is reached.
    Full,
}

/// Inserts one row, with its seats if it takes some. What others are to hear of it is the caller's.
pub(super) async fn place_one(
    conn: &mut Conn,
    practitioner_id: Uuid,
    new: &NewBooking,
    ledger: &mut Ledger,
) -> QueryResult<Placed> {
    let row = Row { index: 0, practitioner_id, new, group_session_id: None };
    let admitted = limits::admit(conn, vec![row]).await?;
    let [row] = admitted.now.as_slice() else { return Ok(Placed::Full) };
    let mut row = *row;
    yield_own_holds(conn, &[row], ledger).await?;
    if let Some(capacity) = new.capacity {
        let session = seats::open(conn, row, capacity).await?;
        if session.taken + new.seats > session.capacity {
            return Ok(Placed::Taken);
        }
        row.group_session_id = Some(session.id);
    }
    let mut winners = insert(conn, &[row]).await?;
    admitted.make_room(conn, &winners, ledger).await?;
    let Some(booking) = winners.pop() else { return Ok(Placed::Taken) };
    busy(ledger, &booking);
    Ok(Placed::Stored(Box::new(booking)))
}

/// Notes the time that a new row keeps from others.
fn busy(ledger: &mut Ledger, row: &Booking) {
    if row.blocks {
        ledger.changed(row.practitioner_id, row.occupied_from, row.occupied_until, "busy");
    }
}

async fn yield_own_holds(
    conn: &mut Conn,
    rows: &[Row<'_>],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let over: Vec<&Row<'_>> = rows.iter().filter(|row| row.new.over_own_hold).collect();
    if over.is_empty() {
        return Ok(());
    }
    let froms = over.iter().map(|row| row.new.occupied_from.to_diesel());
    let untils = over.iter().map(|row| row.new.occupied_until.to_diesel());
    let yielded: Vec<Winner> = sql_query(YIELD)
        .bind::<Array<SqlUuid>, _>(over.iter().map(|row| row.new.seeker_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(over.iter().map(|row| row.practitioner_id).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(froms.collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(untils.collect::<Vec<_>>())
        .load(conn)
        .await?;
    for Winner { id } in yielded {
        let row = reload(conn, id).await?;
        let actor = Some(row.seeker_id);
        news::ended(ledger, &row, Status::Held, Step::Release.as_str(), actor);
        freed(conn, row.practitioner_id, (row.occupied_from, row.occupied_until), ledger).await?;
        // Who books what they were offered need not do it by the hold.
        let books = rows.iter().any(|wish| {
            (wish.practitioner_id, wish.new.service_id) == (row.practitioner_id, row.service_id)
                && (wish.new.seeker_id, wish.new.scheduled_at) == (row.seeker_id, row.scheduled_at)
                && !matches!(wish.new.placement, Placement::Hold(_))
        });
        waiting::settle(conn, &[id], if books { "booked" } else { "missed" }).await?;
        ledger.others.push(row);
    }
    Ok(())
}

async fn insert(conn: &mut Conn, rows: &[Row<'_>]) -> QueryResult<Vec<Booking>> {
    /// One column of all rows.
    fn column<'a, ST, T>(
        rows: &[Row<'a>],
        value: impl Fn(&'a NewBooking) -> T,
    ) -> AsExprOf<Vec<T>, Array<ST>>
    where
        ST: SqlType + TypedExpressionType,
        Array<ST>: TypedExpressionType,
        Vec<T>: AsExpression<Array<ST>>,
    {
        rows.iter().map(|row| value(row.new)).collect::<Vec<T>>().into_sql::<Array<ST>>()
    }
    let held = |n: &NewBooking| match n.placement {
        Placement::Hold(seconds) => Some(seconds),
        Placement::Pending | Placement::Confirmed => None,
    };
    let practitioners: Vec<Uuid> = rows.iter().map(|row| row.practitioner_id).collect();
    let groups: Vec<Option<Uuid>> = rows.iter().map(|row| row.group_session_id).collect();
    let binds = (
        column::<SqlUuid, _>(rows, |n| n.id),
        column::<SqlUuid, _>(rows, |n| n.seeker_id),
        practitioners.into_sql::<Array<SqlUuid>>(),
        column::<SqlUuid, _>(rows, |n| n.service_id),
        column::<Timestamptz, _>(rows, |n| n.scheduled_at.to_diesel()),
        column::<Integer, _>(rows, |n| n.duration_minutes),
        column::<Timestamptz, _>(rows, |n| n.ends_at.to_diesel()),
        column::<Timestamptz, _>(rows, |n| n.occupied_from.to_diesel()),
        column::<Timestamptz, _>(rows, |n| n.occupied_until.to_diesel()),
        column::<BigInt, _>(rows, |n| n.total_amount),
        column::<BigInt, _>(rows, |n| n.commission_amount),
        column::<Text, _>(rows, |n| n.currency.as_str()),
        column::<Text, _>(rows, |n| n.placement.status().as_str()),
        column::<Nullable<Double>, _>(rows, held),
        column::<Nullable<Text>, _>(rows, |n| n.notes.as_deref()),
        column::<Integer, _>(rows, |n| n.seats),
        groups.into_sql::<Array<Nullable<SqlUuid>>>(),
        column::<Bool, _>(rows, |n| n.pending_blocks),
        column::<Jsonb, _>(rows, |n| &n.cancellation_policy),
        column::<Nullable<SqlUuid>, _>(rows, |n| n.series_id),
        column::<Nullable<SqlUuid>, _>(rows, |n| n.replaces.map(|r| r.id)),
        column::<Nullable<SqlUuid>, _>(rows, |n| n.replaces.map(|r| r.chain_id)),
        column::<Integer, _>(rows, |n| n.replaces.map_or(0, |r| r.ical_sequence)),
    );
    Fixed::<_, _, RowTypes>::new(Insert, INSERT, binds, INSERT_END).load(conn).await
}
