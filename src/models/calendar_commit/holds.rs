//! The life of a hold: it runs out, is kept longer, becomes a booking.

use diesel::prelude::*;
use diesel::sql_types::{Array, Double, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

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
        let span = (row.occupied_from, row.occupied_until);
        super::freed(conn, row.practitioner_id, span, ledger).await?;
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
