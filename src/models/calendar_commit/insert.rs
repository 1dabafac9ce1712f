//! New rows in `bookings`: all holds and bookings of a batch in one statement.

use std::collections::BTreeMap;

use diesel::QueryResult;
use diesel::sql_types::{
    Array, BigInt, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::limits::{self, LimitCheck};
use super::{Command, Job, Ledger, Outcome, freed, news, reload};
use crate::domain::booking::{Status, Step};
use crate::domain::refusal::Refusal;
use crate::models::{Conn, bookings};

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
    /// What it has to fit into besides.
    pub limits: Vec<LimitCheck>,
}

/// The place of a job in its batch, the job, and what it wants inserted.
pub(super) type Wanted<'a> = (usize, &'a Job, &'a NewBooking);

/// A row is refused by the constraint (`ON CONFLICT DO NOTHING` covers exclusion constraints) or
/// by a blocked time; the winners' ids come back.
const INSERT: &str = "
INSERT INTO bookings (id, seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes,
    ends_at, occupied_from, occupied_until, total_amount, commission_amount, currency, status,
    hold_expires_at, notes)
SELECT t.id, t.seeker_id, t.practitioner_id, t.service_id, t.scheduled_at, t.duration_minutes,
    t.ends_at, t.occupied_from, t.occupied_until, t.total_amount, t.commission_amount, t.currency,
    t.status, statement_timestamp() + make_interval(secs => t.hold_seconds), t.notes
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) WITH ORDINALITY
    AS t (id, seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes, ends_at,
          occupied_from, occupied_until, total_amount, commission_amount, currency, status,
          hold_seconds, notes, place)
 WHERE NOT EXISTS (SELECT 1 FROM blocked_times b WHERE b.practitioner_id = t.practitioner_id
                      AND b.starts_at < t.occupied_until AND b.ends_at > t.occupied_from)
 ORDER BY t.place
ON CONFLICT DO NOTHING
RETURNING id";

/// Holds give way to what their owner wants instead, unless that would lose all the same.
const YIELD: &str = "
UPDATE bookings h SET status = 'released', version = h.version + 1
  FROM unnest($1, $2, $3, $4) AS t (seeker_id, practitioner_id, occupied_from, occupied_until)
 WHERE h.practitioner_id = t.practitioner_id AND h.seeker_id = t.seeker_id AND h.status = 'held'
   AND h.occupied && tstzrange(t.occupied_from, t.occupied_until)
   AND NOT EXISTS (SELECT 1 FROM bookings o WHERE o.practitioner_id = t.practitioner_id
                      AND o.occupied && tstzrange(t.occupied_from, t.occupied_until)
                      AND o.status IN ('held', 'pending', 'confirmed', 'in_session')
                      AND (o.status <> 'held' OR o.seeker_id <> t.seeker_id))
   AND NOT EXISTS (SELECT 1 FROM blocked_times b WHERE b.practitioner_id = t.practitioner_id
                      AND b.starts_at < t.occupied_until AND b.ends_at > t.occupied_from)
RETURNING h.id";

#[derive(QueryableByName)]
struct Winner {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Inserts every `Command::Place` of `jobs`; the losers' outcome is `Taken`, or a refusal when a
/// limit is reached.
pub(super) async fn place_all(
    conn: &mut Conn,
    jobs: &[Job],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let mut wanted: Vec<Wanted<'_>> = jobs
        .iter()
        .enumerate()
        .filter_map(|(i, job)| match &job.command {
            Command::Place(new) => Some((i, job, new)),
            _ => None,
        })
        .collect();
    while !wanted.is_empty() {
        let admitted = limits::admit(conn, wanted).await?;
        if admitted.now.is_empty() {
            for (index, ..) in admitted.full {
                ledger.settle(index, Outcome::Refused(Refusal::SlotUnavailable("limit".into())));
            }
            break;
        }
        yield_own_holds(conn, &admitted.now, ledger).await?;
        let winners = insert(conn, &admitted.now).await?;
        admitted.make_room(conn, &winners, ledger).await?;
        settle(conn, &admitted.now, &winners, ledger).await?;
        // Who found no room looks again, since some of those may have lost.
        wanted = admitted.full;
    }
    Ok(())
}

async fn settle(
    conn: &mut Conn,
    wanted: &[Wanted<'_>],
    winners: &[Uuid],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let mut rows: BTreeMap<Uuid, bookings::Booking> =
        bookings::find_all(conn, winners).await?.into_iter().map(|b| (b.id, b)).collect();
    for (index, job, new) in wanted.iter().copied() {
        let Some(row) = rows.remove(&new.id) else {
            ledger.settle(index, Outcome::Taken);
            continue;
        };
        ledger.changed(job.practitioner_id, row.occupied_from, row.occupied_until, "busy");
        news::placed(ledger, job.actor, &row, new.placement);
        ledger.settle(index, Outcome::Booked(Box::new(row)));
    }
    Ok(())
}

async fn yield_own_holds(
    conn: &mut Conn,
    wanted: &[Wanted<'_>],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let over: Vec<_> = wanted.iter().filter(|(_, _, new)| new.over_own_hold).collect();
    if over.is_empty() {
        return Ok(());
    }
    let froms = over.iter().map(|(_, _, n)| n.occupied_from.to_diesel());
    let untils = over.iter().map(|(_, _, n)| n.occupied_until.to_diesel());
    let yielded: Vec<Winner> = sql_query(YIELD)
        .bind::<Array<SqlUuid>, _>(over.iter().map(|(_, _, n)| n.seeker_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(
            over.iter().map(|(_, j, _)| j.practitioner_id).collect::<Vec<_>>(),
        )
        .bind::<Array<Timestamptz>, _>(froms.collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(untils.collect::<Vec<_>>())
        .load(conn)
        .await?;
    for Winner { id } in yielded {
        let row = reload(conn, id).await?;
        news::trail(
            ledger,
            &row,
            Step::Release.as_str(),
            Some(Status::Held),
            Some(row.seeker_id),
            None,
        );
        freed(conn, row.practitioner_id, (row.occupied_from, row.occupied_until), ledger).await?;
    }
    Ok(())
}

async fn insert(conn: &mut Conn, wanted: &[Wanted<'_>]) -> QueryResult<Vec<Uuid>> {
    fn column<T>(wanted: &[Wanted<'_>], value: impl Fn(&Job, &NewBooking) -> T) -> Vec<T> {
        wanted.iter().map(|(_, job, new)| value(job, new)).collect()
    }
    let winners: Vec<Winner> = sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(wanted, |_, n| n.id))
        .bind::<Array<SqlUuid>, _>(column(wanted, |_, n| n.seeker_id))
        .bind::<Array<SqlUuid>, _>(column(wanted, |j, _| j.practitioner_id))
        .bind::<Array<SqlUuid>, _>(column(wanted, |_, n| n.service_id))
        .bind::<Array<Timestamptz>, _>(column(wanted, |_, n| n.scheduled_at.to_diesel()))
        .bind::<Array<Integer>, _>(column(wanted, |_, n| n.duration_minutes))
        .bind::<Array<Timestamptz>, _>(column(wanted, |_, n| n.ends_at.to_diesel()))
        .bind::<Array<Timestamptz>, _>(column(wanted, |_, n| n.occupied_from.to_diesel()))
        .bind::<Array<Timestamptz>, _>(column(wanted, |_, n| n.occupied_until.to_diesel()))
        .bind::<Array<BigInt>, _>(column(wanted, |_, n| n.total_amount))
        .bind::<Array<BigInt>, _>(column(wanted, |_, n| n.commission_amount))
        .bind::<Array<Text>, _>(column(wanted, |_, n| n.currency.clone()))
        .bind::<Array<Text>, _>(column(wanted, |_, n| n.placement.status().as_str()))
        .bind::<Array<Nullable<Double>>, _>(column(wanted, |_, n| match n.placement {
            Placement::Hold(seconds) => Some(seconds),
            Placement::Pending | Placement::Confirmed => None,
        }))
        .bind::<Array<Nullable<Text>>, _>(column(wanted, |_, n| n.notes.clone()))
        .load(conn)
        .await?;
    Ok(winners.into_iter().map(|w| w.id).collect())
}
