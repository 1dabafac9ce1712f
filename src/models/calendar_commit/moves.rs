//! What takes more than one booking to do: moving one to another time, and making a series. Either
//! all of it happens or nothing; a savepoint keeps a loser from failing the batch.

use diesel::QueryResult;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use uuid::Uuid;

use super::insert::{NewBooking, Placement, Replaced, place_one};
use super::{CommitRules, Job, Ledger, Outcome, give_back, news, reload, steps};
use crate::domain::access::Role;
use crate::domain::booking::{self, Status, Step};
use crate::domain::cancellation::Policy;
use crate::domain::refusal::Refusal;
use crate::models::Conn;
use crate::models::bookings::{self, Booking};
use crate::models::schema::bookings as table;

/// Where a booking is moved to. Price, seats, length and policy stay as they were.
#[derive(Debug, Clone)]
pub struct Move {
    pub booking_id: Uuid,
    /// The id of the booking at the new time.
    pub new_id: Uuid,
    pub scheduled_at: Timestamp,
    pub ends_at: Timestamp,
    pub occupied_from: Timestamp,
    pub occupied_until: Timestamp,
    /// Whether a booking of the service needs no answer.
    pub instant_confirm: bool,
    /// The seats of the session, if several may join it.
    pub capacity: Option<i32>,
    /// Whether holds of the seeker are known to be in the way.
    pub over_own_hold: bool,
    /// The role of the one who asks.
    pub role: Role,
    pub reason: Option<String>,
    /// The version that they saw, if they said so.
    pub expected_version: Option<i64>,
}

/// Moves a booking: the old one ends, the new one stands, or everything stays as it was.
pub(super) async fn reschedule(
    conn: &mut Conn,
    rules: CommitRules,
    job: &Job,
    to: &Move,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Some(old) = bookings::lock(conn, to.booking_id)
        .await?
        .filter(|row| row.practitioner_id == job.practitioner_id)
    else {
        return Ok(Outcome::Refused(Refusal::NotFound("booking")));
    };
    let now = Timestamp::from(steps::statement_time(conn).await?);
    let decided =
        steps::decide(&old, Step::Reschedule, to.role, job.actor, to.expected_version, now);
    let from = match decided {
        Ok((from, _)) => from,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let new = moved(&old, from, job, to, now);
    let mut part = Ledger::default();
    let moved = conn
        .transaction(async |conn| {
            diesel::update(table::table.find(old.id))
                .set((
                    table::status.eq(Status::Rescheduled.as_str()),
                    table::version.eq(table::version + 1),
                ))
                .execute(conn)
                .await?;
            let placed = place_one(conn, old.practitioner_id, &new, &mut part).await?;
            Ok((reload(conn, old.id).await?, placed.ok_or(Error::RollbackTransaction)?))
        })
        .await;
    let (ended, booking) = match moved {
        Ok(both) => both,
        Err(Error::RollbackTransaction) => return Ok(Outcome::Taken),
        Err(e) => return Err(e),
    };
    ledger.absorb(part);
    let why = to.reason.as_deref();
    news::trail(ledger, Some(&old), &ended, Step::Reschedule.as_str(), job.actor, why);
    news::trail(ledger, None, &booking, Step::Reschedule.as_str(), job.actor, why);
    news::moved(ledger, &ended, &booking);
    if old.blocks {
        give_back(conn, rules, &ended, ledger).await?;
    }
    ledger.others.push(ended);
    Ok(Outcome::Booked(Box::new(booking)))
}

/// The booking at the new time. Who moves it when little would come back does not get more by
/// cancelling it there.
fn moved(old: &Booking, from: Status, job: &Job, to: &Move, now: Timestamp) -> NewBooking {
    let by_seeker = job.actor == Some(old.seeker_id);
    let policy: Policy =
        serde_json::from_value(old.cancellation_policy.clone()).unwrap_or_default();
    let policy = if by_seeker && from == Status::Confirmed {
        policy.capped(policy.percent_at(old.scheduled_at, now))
    } else {
        policy
    };
    let placement = match booking::moved_status(from, by_seeker, to.instant_confirm) {
        Status::Confirmed => Placement::Confirmed,
        _ => Placement::Pending,
    };
    NewBooking {
        id: to.new_id,
        seeker_id: old.seeker_id,
        service_id: old.service_id,
        scheduled_at: to.scheduled_at,
        duration_minutes: old.duration_minutes,
        ends_at: to.ends_at,
        occupied_from: to.occupied_from,
        occupied_until: to.occupied_until,
        total_amount: old.total_amount,
        commission_amount: old.commission_amount,
        currency: old.currency.clone(),
        notes: old.notes.clone(),
        placement,
        over_own_hold: to.over_own_hold,
        seats: old.seats,
        capacity: to.capacity,
        pending_blocks: old.pending_blocks,
        cancellation_policy: serde_json::to_value(policy).unwrap_or_default(),
        series_id: old.series_id,
        replaces: Some(Replaced {
            id: old.id,
            chain_id: old.chain_id.unwrap_or(old.id),
            ical_sequence: old.ical_sequence.saturating_add(1),
        }),
    }
}

/// Makes all bookings of a series, or none and says which starts are taken.
pub(super) async fn series(
    conn: &mut Conn,
    job: &Job,
    wanted: &[NewBooking],
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let mut part = Ledger::default();
    let mut clashes = Vec::new();
    let made = conn
        .transaction(async |conn| {
            let mut rows = Vec::with_capacity(wanted.len());
            for new in wanted {
                match place_one(conn, job.practitioner_id, new, &mut part).await? {
                    Some(row) => rows.push(row),
                    None => clashes.push(new.scheduled_at),
                }
            }
            if clashes.is_empty() { Ok(rows) } else { Err(Error::RollbackTransaction) }
        })
        .await;
    let rows = match made {
        Ok(rows) => rows,
        Err(Error::RollbackTransaction) => return Ok(Outcome::Clashes(clashes)),
        Err(e) => return Err(e),
    };
    ledger.absorb(part);
    news::series(ledger, job.actor, &rows);
    Ok(Outcome::Series(rows))
}
