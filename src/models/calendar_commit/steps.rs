//! Jobs one by one: steps of bookings, blocked times, schedules, and what has its own file beside.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::insert::{self, NewBooking, Placed};
use super::{
    Command, CommitRules, Job, Ledger, Outcome, blocks, external, give_back, holds, moves, news,
    reload, waiting,
};
use crate::domain::access::{Relation, Role};
use crate::domain::booking::{self, Facts, Status, Step};
use crate::domain::cancellation::Policy;
use crate::domain::refusal::Refusal;
use crate::models::bookings::{self, Booking};
use crate::models::schema::bookings as table;
use crate::models::{Conn, calendars, catalogue, practitioners, waitlist};

/// Carries out `job` unless it is a `Place` without seats, which `insert` does for all at once.
pub(super) async fn take(
    conn: &mut Conn,
    rules: CommitRules,
    index: usize,
    job: &Job,
    ledger: &mut Ledger,
) -> QueryResult<()> {
    let outcome = match &job.command {
        Command::Place(new) if new.capacity.is_none() => return Ok(()),
        Command::Place(new) => place(conn, job, new, ledger).await?,
        Command::PlaceSeries(wanted) => moves::series(conn, job, wanted, ledger).await?,
        Command::Reschedule(to) => moves::reschedule(conn, rules, job, to, ledger).await?,
        Command::Lapse => Outcome::Done,
        Command::BookHold { .. } => holds::book_hold(conn, rules, job, ledger).await?,
        Command::ExtendHold { hold_id, seeker_id, by_seconds, at_most_seconds } => {
            let seconds = (*by_seconds, *at_most_seconds);
            holds::extend(conn, job, (*hold_id, *seeker_id), seconds, ledger).await?
        }
        Command::Step { booking_id, .. } | Command::Edit { booking_id, .. } => {
            change(conn, rules, job, *booking_id, ledger).await?
        }
        Command::Block(times) => blocks::block(conn, job, times, ledger).await?,
        Command::Unblock { block_id, whole_series } => {
            blocks::unblock(conn, job, *block_id, *whole_series, ledger).await?
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
        Command::OfferOpened { look, offers } => {
            waiting::offer_opened(conn, job, *look, offers, ledger).await?
        }
    };
    let changes = !matches!(outcome, Outcome::Refused(_) | Outcome::External { changed: false });
    if changes && job.command.may_open() {
        waitlist::opened(conn, job.practitioner_id).await?;
    }
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

/// One booking with seats.
async fn place(
    conn: &mut Conn,
    job: &Job,
    new: &NewBooking,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    match insert::place_one(conn, job.practitioner_id, new, ledger).await? {
        Placed::Stored(row) => {
            news::placed(ledger, job.actor, &row, new.placement);
            Ok(Outcome::Booked(row))
        }
        Placed::Taken => insert::lost(conn, job.practitioner_id, new).await,
        Placed::Full => Ok(Outcome::Refused(Refusal::SlotUnavailable("limit".into()))),
    }
}

/// What is done to a booking that exists.
async fn change(
    conn: &mut Conn,
    rules: CommitRules,
    job: &Job,
    booking_id: Uuid,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    match bookings::lock(conn, booking_id).await? {
        Some(row) if row.practitioner_id == job.practitioner_id => match &job.command {
            Command::Edit { .. } => edit(conn, job, &row, ledger).await,
            _ => step(conn, rules, job, &row, ledger).await,
        },
        _ => Ok(Outcome::Refused(Refusal::NotFound("booking"))),
    }
}

async fn edit(
    conn: &mut Conn,
    job: &Job,
    row: &Booking,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Command::Edit { role, notes, expected_version, .. } = &job.command else {
        return Ok(Outcome::Done);
    };
    let (facts, relation) = match known(row, job.actor) {
        Ok(known) => known,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    if let Err(refusal) =
        booking::may_edit(facts, *role, relation).and_then(|()| is_version(row, *expected_version))
    {
        return Ok(Outcome::Refused(refusal));
    }
    diesel::update(table::table.find(row.id))
        .set((table::notes.eq(notes.as_deref()), table::version.eq(table::version + 1)))
        .execute(conn)
        .await?;
    let edited = reload(conn, row.id).await?;
    news::trail(ledger, Some(row), &edited, "edit", job.actor, None);
    news::edited(ledger, &edited);
    Ok(Outcome::Booked(Box::new(edited)))
}

/// What a step writes besides the state.
#[derive(Default)]
struct Written<'a> {
    cancellation_reason: Option<&'a str>,
    session_notes: Option<&'a str>,
    /// What the audit trail says.
    why: Option<&'a str>,
    refund_percent: Option<i16>,
    /// Whether calendars of both sides must take notice.
    sequence: i32,
}

async fn step(
    conn: &mut Conn,
    rules: CommitRules,
    job: &Job,
    row: &Booking,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let Command::Step { step, role, reason, expected_version, .. } = &job.command else {
        return Ok(Outcome::Done);
    };
    let now = Timestamp::from(statement_time(conn).await?);
    let (_, to) = match decide(row, *step, *role, job.actor, *expected_version, now) {
        Ok(states) => states,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    if *step == Step::Confirm && !row.blocks && bookings::is_taken(conn, row).await? {
        return Ok(Outcome::Refused(Refusal::SlotTaken));
    }
    let written = written(row, *step, to, job.actor, reason.as_deref(), now);
    diesel::update(table::table.find(row.id))
        .set((
            table::status.eq(to.as_str()),
            table::cancellation_reason.eq(written.cancellation_reason),
            table::session_notes.eq(written.session_notes),
            table::refund_percent.eq(written.refund_percent),
            table::ical_sequence.eq(table::ical_sequence + written.sequence),
            table::version.eq(table::version + 1),
        ))
        .execute(conn)
        .await?;
    if *step == Step::End {
        practitioners::count_session(conn, row.practitioner_id).await?;
    }
    let after = reload(conn, row.id).await?;
    news::trail(ledger, Some(row), &after, step.as_str(), job.actor, written.why);
    match (row.blocks, after.blocks) {
        (true, false) => give_back(conn, rules, &after, ledger).await?,
        (false, true) => {
            let (start, end) = (after.occupied_from, after.occupied_until);
            ledger.changed(after.practitioner_id, start, end, "busy");
        }
        _ => {}
    }
    news::stepped(ledger, &after, *step, job.actor);
    Ok(Outcome::Booked(Box::new(after)))
}

fn written<'a>(
    row: &Booking,
    step: Step,
    to: Status,
    actor: Option<Uuid>,
    reason: Option<&'a str>,
    now: Timestamp,
) -> Written<'a> {
    let mut written = Written {
        why: reason,
        refund_percent: to.refund_percent().map(i16::from),
        ..Written::default()
    };
    match step {
        // Notes of a session are the practitioner's; the audit trail is for both sides.
        Step::End => written.session_notes = written.why.take(),
        Step::Cancel | Step::Decline => {
            written.cancellation_reason = reason;
            written.sequence = 1;
            if let (Step::Cancel, Ok((facts, relation))) = (step, known(row, actor)) {
                let policy: Policy =
                    serde_json::from_value(row.cancellation_policy.clone()).unwrap_or_default();
                let percent = booking::cancel_percent(facts, &policy, relation, now);
                written.refund_percent = Some(i16::from(percent));
            }
        }
        Step::Release | Step::Confirm | Step::Reschedule | Step::Start | Step::NoShow => {}
    }
    written
}

/// What a decision needs to know of the row and of who asks.
fn known(row: &Booking, actor: Option<Uuid>) -> Result<(Facts, Relation), Refusal> {
    let status = Status::parse(&row.status).ok_or(Refusal::NotFound("booking"))?;
    let facts = Facts { status, version: row.version, starts_at: row.scheduled_at };
    let relation = Relation {
        owner: actor == Some(row.seeker_id),
        practitioner: actor == Some(row.practitioner_user_id),
    };
    Ok((facts, relation))
}

fn is_version(row: &Booking, expected: Option<i64>) -> Result<(), Refusal> {
    if expected.is_some_and(|v| v != row.version) {
        return Err(Refusal::VersionConflict { current: row.version });
    }
    Ok(())
}

/// The states that the step leads from and to, or why it is refused.
pub(super) fn decide(
    row: &Booking,
    step: Step,
    role: Role,
    actor: Option<Uuid>,
    expected_version: Option<i64>,
    now: Timestamp,
) -> Result<(Status, Status), Refusal> {
    let (facts, relation) = known(row, actor)?;
    let to = booking::decide(facts, step, role, relation, now)?;
    is_version(row, expected_version)?;
    Ok((facts.status, to))
}

pub(super) async fn statement_time(conn: &mut Conn) -> QueryResult<jiff_diesel::Timestamp> {
    use diesel::sql_types::Timestamptz;
    diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()")).get_result(conn).await
}
