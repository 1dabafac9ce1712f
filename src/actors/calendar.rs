//! One practitioner's calendar: decides from memory, commits through the committer.
//!
//! A time that is taken is refused without touching the database. A free one is reserved in memory
//! at once, so that of a thousand requests for it one goes to the database; what the database then
//! says is the truth, and the memory follows it.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message,
    ResponseActFuture, SpawnHandle, WrapFuture,
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use super::calendar_batch::{BookingRules, CalendarBatch};
pub use super::calendar_move::{PlaceSeries, Reschedule};
pub use super::calendar_next::{GetNext, Next};
pub use super::calendar_place::Place;
use super::calendar_place::check_seats;
use super::calendar_state::CalendarState;
pub use super::calendar_waiting::OfferOpenings;
use super::committer::Committer;
use super::directory::Directory;
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::error::{Error, Result};
use crate::models::bookings::Booking;
use crate::models::calendar_commit::{Command, Job, Outcome};
use crate::models::calendars;
use crate::models::pool::Pool;

/// An actor that nobody spoke to for so long stops; the next message starts it again.
const IDLE: Duration = Duration::from_secs(600);
/// How often a calendar that is in use is compared with the database.
const RECHECK: Duration = Duration::from_secs(5);
/// Before something that did not succeed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One practitioner's calendar.
pub struct CalendarActor {
    pub(super) id: Uuid,
    pub(super) pool: Pool,
    committer: Committer<CalendarBatch>,
    pub(super) rules: BookingRules,
    /// `None` while it is read; then why it could not be, or what it is.
    state: Option<Result<CalendarState>>,
    /// Goes off when the next hold runs out.
    lapse: Option<SpawnHandle>,
    last_used: Timestamp,
}

impl Actor for CalendarActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.reload(ctx);
        // Calendars that came into use at once, as after a start, need not ask at once for ever.
        let [.., high, low] = self.id.into_bytes();
        let share = f64::from(u16::from_be_bytes([high, low])) / 65_536.0;
        ctx.run_later(RECHECK.mul_f64(share), |_, ctx| {
            ctx.run_interval(RECHECK, Self::recheck);
        });
        ctx.run_interval(IDLE / 2, |actor, ctx| {
            if crate::clock::now().duration_since(actor.last_used).unsigned_abs() > IDLE {
                ctx.stop();
            }
        });
    }
}

impl CalendarActor {
    /// Looks whether another node wrote without the bus having told: a slot that was freed there
    /// would be refused here for as long as this actor lives.
    fn recheck(&mut self, ctx: &mut Context<Self>) {
        let quiet = crate::clock::now().duration_since(self.last_used).unsigned_abs() > RECHECK;
        if quiet {
            return;
        }
        let (pool, id) = (self.pool.clone(), self.id);
        let look = async move {
            let mut conn = pool.get().await?;
            Ok::<_, Error>(calendars::version(&mut conn, id).await?)
        };
        ctx.spawn(look.into_actor(self).map(|version, actor, ctx| {
            let Some(Ok(state)) = &actor.state else { return };
            if matches!(version, Ok(Some(version)) if version > state.version) {
                actor.reload(ctx);
            }
        }));
    }

    /// Reads the calendar anew; messages wait until that is done.
    pub(super) fn reload(&mut self, ctx: &mut Context<Self>) {
        let (pool, id) = (self.pool.clone(), self.id);
        let load = async move {
            let mut conn = pool.get().await?;
            CalendarState::load(&mut conn, id, crate::clock::now()).await
        };
        ctx.wait(load.into_actor(self).map(|loaded, actor, ctx| actor.loaded(loaded, ctx)));
    }

    fn loaded(&mut self, loaded: Result<CalendarState>, ctx: &mut Context<Self>) {
        let gone = matches!(loaded, Err(Error::Refused(Refusal::NotFound(_))));
        match loaded {
            Ok(state) => {
                self.state = Some(Ok(state));
                self.arm(ctx);
            }
            // Commits may be under way, whose answers must not be lost. What is in memory is good
            // enough meanwhile: the database decides.
            Err(e) if !gone && matches!(self.state, Some(Ok(_))) => {
                tracing::warn!("a calendar could not be read again, it is tried anew: {e:?}");
                ctx.run_later(RETRY, CalendarActor::reload);
            }
            Err(e) => {
                self.state = Some(Err(e));
                // Answers those who wait, then makes room for another attempt.
                ctx.run_later(Duration::from_millis(100), |_, ctx| ctx.stop());
            }
        }
    }

    pub(super) fn state(&mut self) -> Result<&mut CalendarState> {
        self.last_used = crate::clock::now();
        match &mut self.state {
            Some(Ok(state)) => Ok(state),
            Some(Err(e)) => Err(e.clone()),
            None => Err(Error::Fault("calendar not loaded".to_owned())),
        }
    }

    /// Commits `command` and lets the memory follow. `reserved` are the ids that stand in memory
    /// for rows that are not there yet.
    pub(super) fn commit(
        &self,
        actor: Option<Uuid>,
        command: Command,
        reserved: Vec<Uuid>,
    ) -> ResponseActFuture<Self, Result<Outcome>> {
        let committer = self.committer.clone();
        let job = Job { practitioner_id: self.id, actor, command };
        let submit = async move { committer.submit(job).await };
        Box::pin(submit.into_actor(self).map(move |settled, actor, ctx| {
            let (outcome, version, others) = match settled {
                Ok(settled) => (Ok(settled.outcome), settled.version, settled.others),
                Err(e) => (Err(e), None, Vec::new()),
            };
            actor.follow(outcome.as_ref(), version, &others, &reserved, ctx);
            outcome
        }))
    }

    fn follow(
        &mut self,
        outcome: std::result::Result<&Outcome, &Error>,
        version: Option<i64>,
        others: &[Booking],
        reserved: &[Uuid],
        ctx: &mut Context<Self>,
    ) {
        let Some(Ok(state)) = &mut self.state else { return };
        if let Some(version) = version {
            if version <= state.loaded {
                // It was read after this commit, and knows what came of it since.
                return;
            }
            state.version = state.version.max(version);
        }
        reserved.iter().for_each(|id| state.forget(*id));
        others.iter().for_each(|row| state.apply(row));
        match outcome {
            Ok(Outcome::Booked(row)) => state.apply(row),
            Ok(Outcome::Series(rows)) => rows.iter().for_each(|row| state.apply(row)),
            Ok(Outcome::Blocked(times)) => times.iter().for_each(|time| state.block(time)),
            Ok(Outcome::Unblocked(times)) => times.iter().for_each(|time| state.forget(time.id)),
            // The database knew better, or nobody knows: read it again.
            Ok(
                Outcome::Taken
                | Outcome::Clashes(_)
                | Outcome::Scheduled(_)
                | Outcome::Refused(Refusal::SlotUnavailable(_))
                | Outcome::External { changed: true },
            )
            | Err(Error::Unavailable(_) | Error::Fault(_)) => self.reload(ctx),
            Ok(Outcome::Refused(_) | Outcome::External { changed: false } | Outcome::Done)
            | Err(Error::Refused(_)) => {}
        }
        self.arm(ctx);
    }

    /// Sees to it that those who watch the calendar are told when the next hold runs out. Bookings
    /// need no telling: they flip the holds in their way themselves.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(old) = self.lapse.take() {
            ctx.cancel_future(old);
        }
        let Some(Ok(state)) = &self.state else { return };
        let Some(expires_at) = state.next_expiry() else { return };
        let left = expires_at.duration_since(crate::clock::now());
        // One that ran out while nobody looked, or that could not be flipped, waits a little.
        let soon = if left.is_positive() { Duration::from_millis(20) } else { RETRY };
        let wait = left.max(SignedDuration::ZERO).unsigned_abs() + soon;
        self.lapse = Some(ctx.run_later(wait, |actor, ctx| {
            actor.lapse = None;
            let done = actor.commit(None, Command::Lapse, Vec::new());
            ctx.spawn(done.map(|_, actor, ctx| {
                if let Some(Ok(state)) = &mut actor.state {
                    state.forget_lapsed(crate::clock::now());
                }
                actor.arm(ctx);
            }));
        }));
    }
}

/// Which slots can be booked?
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Slots>")]
pub struct GetSlots {
    pub service_id: Uuid,
    /// One of the lengths that it is offered in; its own when `None`.
    pub minutes: Option<i32>,
    pub range: Interval,
    /// Whose own holds are not in the way.
    pub asker: Option<Uuid>,
    /// How many want to come.
    pub seats: u16,
}

/// The slots of a service.
#[derive(Debug, Clone)]
pub struct Slots {
    /// The calendar's version that they were computed from.
    pub version: i64,
    pub duration_minutes: i32,
    pub starts: Vec<Timestamp>,
    /// For a service that several may come to: the seats that are left at each of the starts.
    pub seats_left: Option<Vec<u32>>,
}

impl Handler<GetSlots> for CalendarActor {
    type Result = Result<Slots>;

    fn handle(&mut self, ask: GetSlots, _: &mut Context<Self>) -> Result<Slots> {
        let state = self.state()?;
        let offer = state.offer(ask.service_id, ask.minutes)?;
        check_seats(offer, ask.seats)?;
        let view = state.view(ask.asker, ask.seats.into(), crate::clock::now());
        let starts = state.query(&offer.rules, view).slots(ask.range);
        let seats_left = state.seats_left(offer, &starts, view);
        let duration_minutes = offer.offer.duration_minutes;
        Ok(Slots { version: state.version, duration_minutes, starts, seats_left })
    }
}

/// Any other change: book a hold, take a step, block a time, replace the schedule or an offer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Outcome>")]
pub struct Change {
    /// Who asks; nobody when the hub itself does.
    pub actor: Option<Uuid>,
    pub command: Command,
}

impl Handler<Change> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<Outcome>>;

    fn handle(&mut self, change: Change, _: &mut Context<Self>) -> Self::Result {
        if let Err(e) = self.state() {
            return Box::pin(async { Err(e) }.into_actor(self));
        }
        let reads_anew = matches!(change.command, Command::PutOffer(_));
        let may_open = change.command.may_open();
        let done = self.commit(change.actor, change.command, Vec::new());
        Box::pin(done.map(move |outcome, actor, ctx| match outcome? {
            Outcome::Refused(refusal) => Err(refusal.into()),
            other => {
                if reads_anew {
                    actor.reload(ctx);
                }
                if may_open {
                    actor.offer_openings_soon(ctx);
                }
                Ok(other)
            }
        }))
    }
}

/// Another node wrote: read the calendar again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Refresh;

impl Handler<Refresh> for CalendarActor {
    type Result = ();

    fn handle(&mut self, _: Refresh, ctx: &mut Context<Self>) {
        self.reload(ctx);
    }
}

/// All calendars.
#[derive(Clone)]
pub struct Calendars(Directory<Uuid, CalendarActor>);

impl Calendars {
    /// Calendars whose actors run on `threads`.
    pub fn new(
        threads: Arc<[ArbiterHandle]>,
        pool: Pool,
        committer: Committer<CalendarBatch>,
        rules: BookingRules,
    ) -> Self {
        Self(Directory::new(threads, move |id, _| CalendarActor {
            id,
            pool: pool.clone(),
            committer: committer.clone(),
            rules,
            state: None,
            lapse: None,
            last_used: crate::clock::now(),
        }))
    }

    /// Sends `message` to the calendar of `practitioner_id` and waits for its answer. An actor that
    /// stopped just then is started again, once.
    pub async fn ask<M, T>(&self, practitioner_id: Uuid, message: M) -> Result<T>
    where
        M: Message<Result = Result<T>> + Clone + Send + 'static,
        T: Send + 'static,
        CalendarActor: Handler<M>,
    {
        let _permit = self.0.permit()?;
        match self.0.find_or_start(practitioner_id)?.send(message.clone()).await {
            Ok(answer) => answer,
            Err(_) => self.0.find_or_start(practitioner_id)?.send(message).await?,
        }
    }

    /// Lets the calendar, if it is in memory, read again what is stored. Does not wait: the bus can not.
    pub fn refresh_soon(&self, practitioner_id: Uuid) {
        if let Some(actor) = self.0.find(practitioner_id)
            && actor.try_send(Refresh).is_err()
        {
            tracing::debug!("a calendar is too busy to be refreshed; the database decides anyway");
        }
    }
}
