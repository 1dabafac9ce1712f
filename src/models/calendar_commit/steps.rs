//! Changes of rows that exist: holds that ran out, steps of bookings, blocked times, schedules.

use diesel::prelude::*;
use diesel::sql_types::{Array, Double, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Command, Job, Ledger, Outcome, external, freed, news, reload};
use crate::domain::access::{Relation, Role};
use crate::domain::booking::{self, Facts, Status, Step};
use crate::domain::refusal::Refusal;
use crate::models::bookings::{self, Booking};
use crate::models::schema::bookings as table;
use crate::models::{Conn, calendars, catalogue, practitioners};

/// Flips every hold of `practitioners` that ran out, and every request that nobody answered before
/// its session began, by the database's clock.
pub(super) async fn lapse(
    conn: &mut Conn,
    practitioners: &[Uuid],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "UPDATE bookings SET version = version + 1,
                status = CASE status WHEN 'held' THEN 'lapsed' ELSE 'expired' END
          WHERE practitioner_id = ANY ($1)
            AND (status = 'held' AND hold_expires_at <= statement_timestamp()
                 OR status = 'pending' AND scheduled_at <= statement_timestamp()) RETURNING id",
    )
    .bind::<Array<SqlUuid>, _>(practitioners)
    .load(conn)
    .await?;
    for Row { id } in rows {
        let row = reload(conn, id).await?;
        if row.status == Status::Expired.as_str() {
            news::trail(ledger, &row, "expire", Some(Status::Pending), None, None);
            news::expired(ledger, &row);
        } else {
            news::trail(ledger, &row, "lapse", Some(Status::Held), None, None);
        }
        freed(conn, row.practitioner_id, (row.occupied_from, row.occupied_until), ledger).await?;
    }
    Ok(())
}

/// Carries out `job` unless it is a `Place`, which `insert` does for all at once.
pub(super) async fn take(
    conn: &mut Conn,
    index: usize,
    job: &Job,
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let outcome = match &job.command {
        Command::Place(_) => return Ok(()),
        Command::Lapse => Outcome::Done,
        Command::BookHold { hold_id, seeker_id, notes } => {
            book_hold(conn, job, *hold_id, *seeker_id, notes.as_deref(), ledger).await?
        }
        Command::ExtendHold { hold_id, seeker_id, by_seconds, at_most_seconds } => {
            let seconds = (*by_seconds, *at_most_seconds);
            extend_hold(conn, job, *hold_id, *seeker_id, seconds, ledger).await?
        }
        Command::Step { booking_id, .. } => match bookings::lock(conn, *booking_id).await? {
            Some(row) if row.practitioner_id == job.practitioner_id => {
                step(conn, job, &row, ledger).await?
            }
            _ => Outcome::Refused(Refusal::NotFound("booking")),
        },
        Command::Block(block) => {
            calendars::insert_block(conn, job.practitioner_id, block).await?;
            ledger.changed(job.practitioner_id, block.starts_at, block.ends_at, "busy");
            Outcome::Blocked(block.clone())
        }
        Command::Unblock(id) => {
            match calendars::remove_block(conn, job.practitioner_id, *id).await? {
                Some(block) => {
                    let span = (block.starts_at, block.ends_at);
                    freed(conn, job.practitioner_id, span, ledger).await?;
                    Outcome::Unblocked(block)
                }
                None => Outcome::Refused(Refusal::NotFound("block")),
            }
        }
        Command::ReplaceExternal(wanted) => external::replace(conn, job, wanted, ledger).await?,
        Command::RemoveExternal(id) => external::remove(conn, job, *id, ledger).await?,
        Command::PutOffer(offer) => {
            catalogue::put_offer(conn, offer).await?;
            ledger.hours_changed.push(job.practitioner_id);
            Outcome::Done
        }
        Command::PutSchedule { schedule, expected_version } => {
            put_schedule(conn, job, schedule, *expected_version, ledger).await?
        }
    };
    ledger.settle(index, outcome);
    Ok(())
}

async fn put_schedule(
    conn: &mut Conn,
    job: &Job,
    schedule: &serde_json::Value,
    expected: Option<i64>,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let id = job.practitioner_id;
    match calendars::put_schedule(conn, id, expected, schedule).await? {
        Some(version) => {
            ledger.hours_changed.push(id);
            Ok(Outcome::Scheduled(version))
        }
        None => {
            use crate::models::schema::practitioners as rows;
            let current = rows::table.find(id).select(rows::schedule_version).first(conn).await?;
            Ok(Outcome::Refused(Refusal::VersionConflict { current }))
        }
    }
}

/// A hold becomes a booking if it is its owner's and has not run out.
async fn book_hold(
    conn: &mut Conn,
    job: &Job,
    hold_id: Uuid,
    seeker_id: Uuid,
    notes: Option<&str>,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let row = bookings::lock(conn, hold_id).await?;
    let Some(row) =
        row.filter(|r| r.seeker_id == seeker_id && r.practitioner_id == job.practitioner_id)
    else {
        return Ok(Outcome::Refused(Refusal::NotFound("hold")));
    };
    match Status::parse(&row.status) {
        Some(Status::Held) => {}
        Some(Status::Lapsed | Status::Released) => {
            return Ok(Outcome::Refused(Refusal::HoldExpired));
        }
        Some(_) | None => return Ok(Outcome::Refused(Refusal::AlreadyExists("booking"))),
    }
    let instant = catalogue::offers_of(conn, row.practitioner_id, false)
        .await?
        .into_iter()
        .any(|(offer, _)| offer.service_id == row.service_id && offer.instant_confirm);
    let status = if instant { Status::Confirmed } else { Status::Pending };
    diesel::update(table::table.find(hold_id))
        .set((
            table::status.eq(status.as_str()),
            table::hold_expires_at.eq(None::<jiff_diesel::Timestamp>),
            table::notes.eq(notes),
            table::version.eq(table::version + 1),
        ))
        .execute(conn)
        .await?;
    let row = reload(conn, hold_id).await?;
    news::trail(ledger, &row, "book", Some(Status::Held), job.actor, None);
    news::booked(ledger, &row, status);
    Ok(Outcome::Booked(Box::new(row)))
}

/// A hold that still stands is kept longer, once.
async fn extend_hold(
    conn: &mut Conn,
    job: &Job,
    hold_id: Uuid,
    seeker_id: Uuid,
    (by, at_most): (f64, f64),
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let row = bookings::lock(conn, hold_id).await?;
    let Some(row) =
        row.filter(|r| r.seeker_id == seeker_id && r.practitioner_id == job.practitioner_id)
    else {
        return Ok(Outcome::Refused(Refusal::NotFound("hold")));
    };
    if row.status != Status::Held.as_str() {
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
        let (state, version) = (Status::Held.as_str(), row.version);
        return Ok(Outcome::Refused(Refusal::InvalidTransition { state, version }));
    }
    let row = reload(conn, hold_id).await?;
    news::trail(ledger, &row, "extend", Some(Status::Held), job.actor, None);
    Ok(Outcome::Booked(Box::new(row)))
}

async fn step(
    conn: &mut Conn,
    job: &Job,
    row: &Booking,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Command::Step { step, role, reason, expected_version, .. } = &job.command else {
        return Ok(Outcome::Done);
    };
    let now = Timestamp::from(statement_time(conn).await?);
    let (from, to) = match decide(row, *step, *role, job.actor, *expected_version, now) {
        Ok(states) => states,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let (mut cancelled_for, mut session_notes, mut why) = (None, None, reason.as_deref());
    match step {
        // Notes of a session are the practitioner's; the audit trail is for both sides.
        Step::End => session_notes = why.take(),
        Step::Cancel | Step::Decline => cancelled_for = why,
        Step::Release | Step::Confirm | Step::Start | Step::NoShow => {}
    }
    diesel::update(table::table.find(row.id))
        .set((
            table::status.eq(to.as_str()),
            table::cancellation_reason.eq(cancelled_for),
            table::session_notes.eq(session_notes),
            table::version.eq(table::version + 1),
        ))
        .execute(conn)
        .await?;
    if *step == Step::End {
        practitioners::count_session(conn, row.practitioner_id).await?;
    }
    let row = reload(conn, row.id).await?;
    news::trail(ledger, &row, step.as_str(), Some(from), job.actor, why);
    if !to.blocks() {
        freed(conn, row.practitioner_id, (row.occupied_from, row.occupied_until), ledger).await?;
    }
    news::stepped(ledger, &row, *step, job.actor);
    Ok(Outcome::Booked(Box::new(row)))
}

fn decide(
    row: &Booking,
    step: Step,
    role: Role,
    actor: Option<Uuid>,
    expected_version: Option<i64>,
    now: Timestamp,
) -> Result<(Status, Status), Refusal> {
    let status = Status::parse(&row.status).ok_or(Refusal::NotFound("booking"))?;
    let facts = Facts { status, version: row.version, starts_at: row.scheduled_at };
    let relation = Relation {
        owner: actor == Some(row.seeker_id),
        practitioner: actor == Some(row.practitioner_user_id),
    };
    let to = booking::decide(facts, step, role, relation, now)?;
    if expected_version.is_some_and(|v| v != row.version) {
        return Err(Refusal::VersionConflict { current: row.version });
    }
    Ok((status, to))
}

pub(super) async fn statement_time(conn: &mut Conn) -> QueryResult<jiff_diesel::Timestamp> {
    use diesel::sql_types::Timestamptz;
    diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()")).get_result(conn).await
}
