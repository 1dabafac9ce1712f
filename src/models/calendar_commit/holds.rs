//! The life of a hold: it runs out, is kept longer, becomes a booking.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::insert::Placement;
use super::{Command, CommitRules, Job, Ledger, Outcome, give_back, news, reload, waiting};
use crate::domain::booking::Status;
use crate::domain::refusal::Refusal;
use crate::models::bookings::{self, Booking};
use crate::models::fixed::Fixed;
use crate::models::schema::bookings as table;
use crate::models::{Conn, catalogue};

/// Flips every hold of `practitioners` that ran out, and every request that nobody answered before
/// its session began, by the database's clock.
pub(super) async fn lapse(
    conn: &mut Conn,
    rules: CommitRules,
    practitioners: &[Uuid],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    struct Lapse;
    let update = "UPDATE bookings SET version = version + 1,
                status = CASE status WHEN 'held' THEN 'lapsed' ELSE 'expired' END,
                refund_percent = CASE status WHEN 'held' THEN NULL ELSE 100 END,
                ical_sequence = ical_sequence + CASE status WHEN 'held' THEN 0 ELSE 1 END
          WHERE (status = 'held' AND hold_expires_at <= statement_timestamp()
                 OR status = 'pending' AND scheduled_at <= statement_timestamp())
            AND practitioner_id = ANY (";
    let whose = practitioners.to_vec().into_sql::<Array<SqlUuid>>();
    let ids: Vec<Uuid> =
        Fixed::<_, _, SqlUuid>::new(Lapse, update, whose, ") RETURNING id").load(conn).await?;
    for id in ids {
        let row = reload(conn, id).await?;
        let kept_time = if row.status == Status::Expired.as_str() {
            news::ended(ledger, &row, Status::Pending, "expire", None);
            news::expired(ledger, &row);
            row.pending_blocks
        } else {
            news::ended(ledger, &row, Status::Held, "lapse", None);
            true
        };
        if kept_time {
            give_back(conn, rules, &row, ledger).await?;
        }
        ledger.others.push(row);
    }
    Ok(())
}

/// The most holds of one seeker at a time, on all calendars together. What the waiting list holds for
/// them counts, and is never refused.
pub const MAX_HOLDS: u16 = 10;

/// First half of the keys of the advisory locks of seekers: apart from those of calendars, which are
/// one number.
const OF_SEEKERS: i32 = 1;

/// Refuses what would be one hold too many for its seeker; returns which jobs those are, and whose,
/// for [`admit_again`]. Exact, also over calendars and nodes: who counts has the seeker's lock until
/// its holds are stored. Nothing is asked when nothing is to be held.
pub(super) async fn refuse_too_many(
    conn: &mut Conn,
    jobs: &[Job],
    ledger: &mut Ledger,
) -> QueryResult<Vec<(usize, Uuid)>> {
    let holder = |job: &Job| match &job.command {
        Command::Place(new) if matches!(new.placement, Placement::Hold(_)) => Some(new.seeker_id),
        _ => None,
    };
    let seekers: BTreeSet<Uuid> = jobs.iter().filter_map(holder).collect();
    if seekers.is_empty() {
        return Ok(Vec::new());
    }
    let keys: BTreeSet<i32> = seekers.iter().copied().map(seeker_key).collect();
    diesel::sql_query("SELECT pg_advisory_xact_lock($1, k) FROM unnest($2) AS t (k)")
        .bind::<Integer, _>(OF_SEEKERS)
        .bind::<Array<Integer>, _>(keys.into_iter().collect::<Vec<_>>())
        .execute(conn)
        .await?;
    let mut held = counted(conn, seekers.into_iter().collect()).await?;
    let mut refused = Vec::new();
    for (index, seeker_id) in jobs.iter().map(holder).enumerate() {
        let Some(seeker_id) = seeker_id else { continue };
        let count = held.entry(seeker_id).or_default();
        if *count < MAX_HOLDS.into() {
            *count += 1;
        } else {
            let refusal = Refusal::TooManyHolds { limit: MAX_HOLDS };
            ledger.settle(index, Outcome::Refused(refusal));
            refused.push((index, seeker_id));
        }
    }
    Ok(refused)
}

/// Admits those of `refused` for which there is room after all, since what was counted before them lost
/// or was given back. Whether there are any: then they are to be carried out.
pub(super) async fn admit_again(
    conn: &mut Conn,
    refused: &mut Vec<(usize, Uuid)>,
    ledger: &mut Ledger,
) -> QueryResult<bool> {
    if refused.is_empty() {
        return Ok(false);
    }
    let seekers: BTreeSet<Uuid> = refused.iter().map(|(_, seeker_id)| *seeker_id).collect();
    let mut held = counted(conn, seekers.into_iter().collect()).await?;
    let before = refused.len();
    refused.retain(|(index, seeker_id)| {
        let count = held.entry(*seeker_id).or_default();
        let is_full = *count >= MAX_HOLDS.into();
        if !is_full {
            *count += 1;
            ledger.open(*index);
        }
        is_full
    });
    Ok(refused.len() < before)
}

/// The end of a UUID of version 7 is random. Two seekers that share a key wait for each other.
fn seeker_key(id: Uuid) -> i32 {
    let [.., a, b, c, d] = id.into_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// How many holds of each of these seekers stand.
async fn counted(conn: &mut Conn, seekers: Vec<Uuid>) -> QueryResult<HashMap<Uuid, i64>> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = SqlUuid)]
        seeker_id: Uuid,
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let rows: Vec<Held> = diesel::sql_query(
        "SELECT seeker_id, count(*) FROM bookings
          WHERE seeker_id = ANY ($1) AND status = 'held' AND hold_expires_at > statement_timestamp()
          GROUP BY seeker_id",
    )
    .bind::<Array<SqlUuid>, _>(seekers)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.seeker_id, row.count)).collect())
}

/// The hold, locked, if it is the seeker's and of this practitioner.
async fn lock_own(
    conn: &mut Conn,
    job: &Job,
    hold_id: Uuid,
    seeker_id: Uuid,
) -> QueryResult<Option<Booking>> {
    let row = bookings::lock(conn, hold_id).await?;
    Ok(row.filter(|r| r.seeker_id == seeker_id && r.practitioner_id == job.practitioner_id))
}

/// A hold becomes a booking if it is its owner's and has not run out.
pub(super) async fn book_hold(
    conn: &mut Conn,
    rules: CommitRules,
    job: &Job,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Command::BookHold { hold_id, seeker_id, notes, key } = &job.command else {
        return Ok(Outcome::Done);
    };
    let (hold_id, seeker_id) = (*hold_id, *seeker_id);
    let Some(held) = lock_own(conn, job, hold_id, seeker_id).await? else {
        return Ok(Outcome::Refused(Refusal::NotFound("hold")));
    };
    match Status::parse(&held.status) {
        Some(Status::Held) => {}
        Some(Status::Lapsed | Status::Released) => {
            return Ok(Outcome::Refused(Refusal::HoldExpired));
        }
        Some(_) | None => return Ok(Outcome::Refused(Refusal::AlreadyExists("booking"))),
    }
    let instant = catalogue::offers_of(conn, held.practitioner_id, false)
        .await?
        .into_iter()
        .any(|(offer, _)| offer.service_id == held.service_id && offer.instant_confirm);
    let status = if instant { Status::Confirmed } else { Status::Pending };
    diesel::update(table::table.find(hold_id))
        .set((
            table::status.eq(status.as_str()),
            table::hold_expires_at.eq(None::<jiff_diesel::Timestamp>),
            table::notes.eq(notes.as_deref()),
            table::booked_under.eq(key),
            table::version.eq(table::version + 1),
        ))
        .execute(conn)
        .await?;
    waiting::settle(conn, &[hold_id], "booked").await?;
    let row = reload(conn, hold_id).await?;
    news::trail(ledger, Some(&held), &row, "book", job.actor, None);
    news::booked(ledger, &row, status);
    if !row.blocks {
        // As a request it keeps nobody out, unlike the hold.
        give_back(conn, rules, &row, ledger).await?;
    }
    Ok(Outcome::Booked(Box::new(row)))
}

/// A hold that still stands is kept longer, once.
pub(super) async fn extend(
    conn: &mut Conn,
    job: &Job,
    (hold_id, seeker_id): (Uuid, Uuid),
    (by, at_most): (f64, f64),
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Some(held) = lock_own(conn, job, hold_id, seeker_id).await? else {
        return Ok(Outcome::Refused(Refusal::NotFound("hold")));
    };
    if held.status != Status::Held.as_str() {
        return Ok(Outcome::Refused(Refusal::HoldExpired));
    }
    let extended = diesel::sql_query(
        "UPDATE bookings SET hold_extended = true, version = version + 1,
                hold_expires_at = least(hold_expires_at + make_interval(secs => $2),
                                        created_at + make_interval(secs => $3))
          WHERE id = $1 AND NOT hold_extended",
    )
    .bind::<SqlUuid, _>(hold_id)
    .bind::<Double, _>(by)
    .bind::<Double, _>(at_most)
    .execute(conn)
    .await?;
    if extended == 0 {
        let (state, version) = (Status::Held.as_str(), held.version);
        return Ok(Outcome::Refused(Refusal::InvalidTransition { state, version }));
    }
    let row = reload(conn, hold_id).await?;
    news::trail(ledger, Some(&held), &row, "extend", job.actor, None);
    Ok(Outcome::Booked(Box::new(row)))
}
