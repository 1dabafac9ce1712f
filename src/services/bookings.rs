//! Holds and bookings.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::auth::Caller;
use crate::actors::calendar::{Calendars, Change};
use crate::actors::calendar_move::{PlaceSeries, Reschedule};
use crate::actors::calendar_place::Place;
use crate::domain::access::{Action, Relation, Role, allows};
use crate::domain::booking::{Status, Step};
use crate::domain::refusal::{Problems, Refusal};
use crate::error::{Error, Result};
use crate::models::booking_lists::{self as lists, ListFilter};
use crate::models::bookings::{self, Booking, BookingEvent, BookingView};
use crate::models::calendar_commit::{Command, Outcome};
use crate::models::pool::Pool;
use crate::models::{Conn, Part, booking_trail, user_blocks};

/// What is to be held or booked.
#[derive(Debug, Clone)]
pub struct Wish {
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    pub starts_at: Timestamp,
    /// One of the lengths that the service is offered in; its own when `None`.
    pub minutes: Option<i32>,
    pub notes: Option<String>,
    /// How many come, where several may.
    pub seats: u16,
    /// The id of the `Idempotency-Key`, by which [`Bookings::made`] finds what came of it.
    pub key: Option<Uuid>,
}

impl Wish {
    fn place(self, caller: &Caller, hold: bool) -> Place {
        Place {
            seeker_id: caller.user_id,
            service_id: self.service_id,
            start: self.starts_at,
            minutes: self.minutes,
            hold,
            notes: self.notes,
            seats: self.seats,
            key: self.key,
        }
    }
}

/// The most bookings of one series.
pub const MAX_SERIES: u16 = 52;
/// The most weeks from one to the next.
const MAX_WEEKS: u16 = 8;

/// Holds and bookings.
pub struct Bookings {
    pool: Pool,
    calendars: Calendars,
    hold_ttl: Duration,
}

/// The longest that a hold may last, extension included.
const MAX_HOLD: Duration = Duration::from_secs(900);

impl Bookings {
    /// Bookings in the database of `pool`, made by `calendars`; a hold is extended by `hold_ttl`.
    pub fn new(pool: Pool, calendars: Calendars, hold_ttl: Duration) -> Self {
        Self { pool, calendars, hold_ttl }
    }

    /// Holds a slot for a while; it is the caller's to book.
    pub async fn hold(&self, caller: &Caller, wish: Wish) -> Result<Booking> {
        self.place(caller, wish, true).await
    }

    /// Books a slot directly.
    pub async fn book(&self, caller: &Caller, wish: Wish) -> Result<Booking> {
        self.place(caller, wish, false).await
    }

    async fn place(&self, caller: &Caller, wish: Wish, hold: bool) -> Result<Booking> {
        may_book(caller)?;
        check_notes(wish.notes.as_deref())?;
        self.calendars.ask(wish.practitioner_id, wish.place(caller, hold)).await
    }

    /// Who blocks, or is blocked, books nothing there; what is booked stays.
    async fn refuse_blocked(&self, caller: &Caller, practitioner_id: Uuid) -> Result<()> {
        let mut conn = self.pool.get().await?;
        match user_blocks::with_practice(&mut conn, caller.user_id, practitioner_id).await? {
            true => Err(Refusal::Blocked.into()),
            false => Ok(()),
        }
    }

    /// Books the same slot `count` times, every so many weeks by the practitioner's clock: all of
    /// them, or none and which of them clash.
    pub async fn book_series(
        &self,
        caller: &Caller,
        wish: Wish,
        count: u16,
        every_weeks: u16,
    ) -> Result<Vec<Booking>> {
        may_book(caller)?;
        check_notes(wish.notes.as_deref())?;
        let mut problems = Problems::default();
        let problem = format!("must be 2 to {MAX_SERIES}");
        problems.require((2..=MAX_SERIES).contains(&count), "count", &problem);
        let problem = format!("must be 1 to {MAX_WEEKS}");
        problems.require(every_weeks <= MAX_WEEKS, "everyWeeks", &problem);
        let weeks = std::num::NonZeroU16::new(every_weeks);
        problems.require(weeks.is_some(), "everyWeeks", &problem);
        problems.into_result()?;
        let every_weeks = weeks.unwrap_or(std::num::NonZeroU16::MIN);
        let practitioner_id = wish.practitioner_id;
        self.refuse_blocked(caller, practitioner_id).await?;
        let series = PlaceSeries { first: wish.place(caller, false), count, every_weeks };
        self.calendars.ask(practitioner_id, series).await
    }

    /// Moves a booking that the caller may see to another time. What comes back is the booking at
    /// the new time; the old one ends as `rescheduled`. A refused time leaves all as it was.
    pub async fn reschedule(
        &self,
        caller: &Caller,
        booking_id: Uuid,
        start: Timestamp,
        reason: Option<String>,
        expected_version: Option<i64>,
    ) -> Result<Booking> {
        check_reason("reason", reason.as_deref(), 1_000)?;
        let booking = self.find(caller, booking_id).await?;
        let practitioner_id = booking.practitioner_id;
        let (actor, role) = (caller.user_id, caller.role);
        let ask = Reschedule { booking, start, actor, role, reason, expected_version };
        self.calendars.ask(practitioner_id, ask).await
    }

    /// Changes the seeker's words to the practitioner.
    pub async fn edit(
        &self,
        caller: &Caller,
        booking_id: Uuid,
        notes: Option<String>,
        expected_version: Option<i64>,
    ) -> Result<Booking> {
        check_notes(notes.as_deref())?;
        let row = self.find(caller, booking_id).await?;
        let command = Command::Edit { booking_id, role: caller.role, notes, expected_version };
        self.change(caller, &row, command).await
    }

    /// What a request of the caller with an `Idempotency-Key` of the id `key` made, as it was right
    /// after `action` (`hold` or `book`) and whatever became of it since. Nothing is no error.
    pub async fn made(
        &self,
        caller: &Caller,
        key: Uuid,
        action: &'static str,
    ) -> Result<Vec<Booking>> {
        let mut conn = self.pool.get().await?;
        Ok(booking_trail::made(&mut conn, caller.user_id, key, action).await?)
    }

    /// The caller's holds that stand.
    pub async fn holds(&self, caller: &Caller) -> Result<Vec<Booking>> {
        let mut conn = self.pool.get().await?;
        Ok(bookings::holds_of(&mut conn, caller.user_id).await?)
    }

    /// Turns the caller's hold into a booking.
    pub async fn book_hold(
        &self,
        caller: &Caller,
        hold_id: Uuid,
        notes: Option<String>,
        key: Option<Uuid>,
    ) -> Result<Booking> {
        may_book(caller)?;
        check_notes(notes.as_deref())?;
        let hold = self.row(hold_id).await?.filter(|row| row.seeker_id == caller.user_id);
        let hold = hold.ok_or(Refusal::NotFound("hold"))?;
        self.refuse_blocked(caller, hold.practitioner_id).await?;
        let seeker_id = caller.user_id;
        self.change(caller, &hold, Command::BookHold { hold_id, seeker_id, notes, key }).await
    }

    /// Keeps the caller's hold for its time once more, within the longest that a hold may last.
    pub async fn extend(&self, caller: &Caller, hold_id: Uuid) -> Result<Booking> {
        let hold = self.row(hold_id).await?.filter(|row| row.seeker_id == caller.user_id);
        let hold = hold.ok_or(Refusal::NotFound("hold"))?;
        let command = Command::ExtendHold {
            hold_id,
            seeker_id: caller.user_id,
            by_seconds: self.hold_ttl.as_secs_f64(),
            at_most_seconds: MAX_HOLD.as_secs_f64(),
        };
        match self.change(caller, &hold, command).await {
            Err(Error::Refused(Refusal::InvalidTransition { state: "held", .. })) => {
                Err(Refusal::HoldExtended.into())
            }
            extended => extended,
        }
    }

    /// Gives the caller's hold back.
    pub async fn release(&self, caller: &Caller, hold_id: Uuid) -> Result<()> {
        let hold = self.row(hold_id).await?.filter(|row| row.seeker_id == caller.user_id);
        let hold = hold.ok_or(Refusal::NotFound("hold"))?;
        match Status::parse(&hold.status) {
            Some(Status::Held) => {
                match self.step(caller, &hold, Step::Release, None, None).await {
                    // It ran out before it was given back.
                    Err(Error::Refused(Refusal::InvalidTransition {
                        state: "lapsed" | "released",
                        ..
                    })) => Ok(()),
                    released => released.map(|_| ()),
                }
            }
            // Giving back what is not held any more is no mistake.
            Some(Status::Released | Status::Lapsed) => Ok(()),
            _ => Err(Refusal::NotFound("hold").into()),
        }
    }

    /// Takes a step with a booking that the caller may see. `reason` is why; at the end of a session
    /// it is the practitioner's notes.
    pub async fn take_step(
        &self,
        caller: &Caller,
        booking_id: Uuid,
        step: Step,
        reason: Option<String>,
        expected_version: Option<i64>,
    ) -> Result<Booking> {
        let (field, max) = if step == Step::End { ("notes", 10_000) } else { ("reason", 1_000) };
        check_reason(field, reason.as_deref(), max)?;
        let row = self.find(caller, booking_id).await?;
        self.step(caller, &row, step, reason, expected_version).await
    }

    async fn step(
        &self,
        caller: &Caller,
        row: &Booking,
        step: Step,
        reason: Option<String>,
        expected_version: Option<i64>,
    ) -> Result<Booking> {
        let (booking_id, role) = (row.id, caller.role);
        let command = Command::Step { booking_id, step, role, reason, expected_version };
        self.change(caller, row, command).await
    }

    async fn change(&self, caller: &Caller, row: &Booking, command: Command) -> Result<Booking> {
        let change = Change { actor: Some(caller.user_id), command };
        match self.calendars.ask(row.practitioner_id, change).await? {
            Outcome::Booked(row) => Ok(*row),
            _ => Err(Error::Fault("a booking had another outcome".to_owned())),
        }
    }

    /// A booking that the caller may see: their own, one with their practice, any for an
    /// administrator. All others are `NotFound`, and so are holds.
    pub async fn find(&self, caller: &Caller, id: Uuid) -> Result<Booking> {
        let row = self.row(id).await?.filter(|row| {
            let relation = Relation {
                owner: row.seeker_id == caller.user_id,
                practitioner: row.practitioner_user_id == caller.user_id,
            };
            allows(caller.role, Action::BookingRead, relation)
                && !matches!(row.status.as_str(), "held" | "released" | "lapsed")
        });
        Ok(row.ok_or(Refusal::NotFound("booking"))?)
    }

    /// Bookings of the caller that `filter` lets through (whose they are is not its to say), and how
    /// many there are unless `part` says where the part before it ended.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: ListFilter,
        part: Part,
        limit: i64,
    ) -> Result<(Vec<BookingView>, Option<i64>)> {
        if let Some(word) = &filter.status
            && Status::parse(word).is_none()
        {
            return Err(Refusal::field("status", "must be a status of bookings").into());
        }
        let everybodys = caller.role == Role::Admin;
        let of_user = (!everybodys).then_some(caller.user_id);
        let filter = ListFilter { of_user, ..filter };
        let mut conn = self.pool.get().await?;
        let (rows, total) = lists::list(&mut conn, &filter, limit, part).await?;
        Ok((named(&mut conn, caller, &rows).await?, total))
    }

    /// A booking that the caller may see, with the name of who booked unless that is the caller.
    pub async fn view(&self, caller: &Caller, id: Uuid) -> Result<BookingView> {
        let row = self.find(caller, id).await?;
        let mut conn = self.pool.get().await?;
        let view = named(&mut conn, caller, &[row]).await?.pop();
        Ok(view.ok_or(Refusal::NotFound("booking"))?)
    }

    /// The audit trail of a booking that the caller may see.
    pub async fn events(&self, caller: &Caller, id: Uuid) -> Result<Vec<BookingEvent>> {
        self.find(caller, id).await?;
        let mut conn = self.pool.get().await?;
        Ok(bookings::events(&mut conn, id).await?)
    }

    async fn row(&self, id: Uuid) -> Result<Option<Booking>> {
        let mut conn = self.pool.get().await?;
        Ok(bookings::find(&mut conn, id).await?)
    }
}

/// The caller's views of `rows`. Seekers' own bookings name nobody, and cost no question.
async fn named(conn: &mut Conn, caller: &Caller, rows: &[Booking]) -> Result<Vec<BookingView>> {
    let others = rows.iter().any(|row| row.seeker_id != caller.user_id);
    let names = if others { lists::seekers(conn, rows).await? } else { HashMap::new() };
    let view = |row: &Booking| {
        let theirs = names.get(&row.seeker_id).filter(|_| row.seeker_id != caller.user_id);
        BookingView { seeker: theirs.cloned(), ..row.view(caller.user_id) }
    };
    Ok(rows.iter().map(view).collect())
}

fn may_book(caller: &Caller) -> Result<()> {
    if allows(caller.role, Action::BookingCreate, Relation::default()) {
        Ok(())
    } else {
        Err(Refusal::Forbidden.into())
    }
}

fn check_notes(notes: Option<&str>) -> Result<()> {
    check_reason("notes", notes, 2_000)
}

fn check_reason(field: &str, text: Option<&str>, max: usize) -> Result<()> {
    let mut problems = Problems::default();
    problems.length(field, text.unwrap_or_default(), 0, max);
    Ok(problems.into_result()?)
}
