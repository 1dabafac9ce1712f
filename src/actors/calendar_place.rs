//! Holding and booking, as a calendar actor does it.

use actix::{ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use jiff::Timestamp;
use uuid::Uuid;

use super::calendar::CalendarActor;
use super::calendar_batch::BookingRules;
use super::calendar_state::{CalendarState, OfferRules};
use crate::domain::money::commission;
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::error::{Error, Result};
use crate::models::bookings::{self, Booking};
use crate::models::calendar_commit::{Command, NewBooking, Outcome, Placement};
use crate::models::pool::Pool;

/// Hold a slot, or book it directly.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Booking>")]
pub struct Place {
    pub seeker_id: Uuid,
    pub service_id: Uuid,
    pub start: Timestamp,
    /// One of the lengths that the service is offered in; its own when `None`.
    pub minutes: Option<i32>,
    /// True: keep it for a while. False: book it.
    pub hold: bool,
    pub notes: Option<String>,
    /// How many come.
    pub seats: u16,
    /// The id of the `Idempotency-Key`: that of the row, so that it is found again.
    pub key: Option<Uuid>,
}

impl Handler<Place> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<Booking>>;

    fn handle(&mut self, place: Place, _: &mut Context<Self>) -> Self::Result {
        match self.prepare(&place) {
            Ok(Plan::Commit(command, reserved)) => {
                let done =
                    self.commit(Some(place.seeker_id), *command, reserved.into_iter().collect());
                Box::pin(done.map(|outcome, _, _| booked(outcome?)))
            }
            Ok(Plan::Held(id)) => {
                let pool = self.pool.clone();
                Box::pin(async move { held(&pool, id).await }.into_actor(self))
            }
            Err(e) => Box::pin(async { Err(e) }.into_actor(self)),
        }
    }
}

/// What a wish comes to.
enum Plan {
    /// A commit; the id stands in memory for the row until then.
    Commit(Box<Command>, Option<Uuid>),
    /// The seeker holds just that already.
    Held(Uuid),
}

impl CalendarActor {
    fn prepare(&mut self, place: &Place) -> Result<Plan> {
        let (rules, now) = (self.rules, crate::clock::now());
        let state = self.state()?;
        if state.practitioner_user_id == place.seeker_id {
            return Err(Refusal::Forbidden.into());
        }
        let offer = state.offer(place.service_id, place.minutes)?;
        check_seats(offer, place.seats)?;
        let view = state.view(Some(place.seeker_id), place.seats.into(), now);
        if let Some(hold_id) = state.own_hold(offer, place.start, view) {
            if place.hold {
                return Ok(Plan::Held(hold_id));
            }
            let (seeker_id, notes, key) = (place.seeker_id, place.notes.clone(), place.key);
            return Ok(Plan::Commit(
                Box::new(Command::BookHold { hold_id, seeker_id, notes, key }),
                None,
            ));
        }
        state.check(&offer.rules, place.start, view)?;
        let new = state.new_booking(offer, place, rules);
        let keeps_time = new.placement != Placement::Pending || new.pending_blocks;
        if keeps_time {
            state.reserve(&new);
        }
        let reserved = keeps_time.then_some(new.id);
        Ok(Plan::Commit(Box::new(Command::Place(new)), reserved))
    }
}

/// Refuses more seats than a session has.
pub(super) fn check_seats(offer: &OfferRules, seats: u16) -> Result<()> {
    let capacity = offer.offer.capacity;
    if (1..=capacity).contains(&i32::from(seats)) {
        return Ok(());
    }
    let problem = format!("must be 1 to {capacity}, the seats of one session");
    Err(Refusal::field("seats", problem).into())
}

impl CalendarState {
    /// The row that `place` asks for, with price and policy of the offer of now.
    pub(super) fn new_booking(
        &self,
        offer: &OfferRules,
        place: &Place,
        rules: BookingRules,
    ) -> NewBooking {
        let time = Interval::lasting(place.start, offer.rules.duration());
        let occupied = offer.rules.buffers.around(time);
        let over_own_hold = self.has_hold_in(occupied, place.seeker_id);
        let limits = self.limit_checks(&offer.rules, place.start);
        let offer = &offer.offer;
        let total_amount = offer.price.saturating_mul(place.seats.into());
        NewBooking {
            id: place.key.unwrap_or_else(Uuid::now_v7),
            seeker_id: place.seeker_id,
            service_id: place.service_id,
            scheduled_at: time.start(),
            duration_minutes: offer.duration_minutes,
            ends_at: time.end(),
            occupied_from: occupied.start(),
            occupied_until: occupied.end(),
            total_amount,
            commission_amount: commission(total_amount, rules.commission_bps),
            currency: offer.currency.clone(),
            notes: place.notes.clone(),
            placement: match (place.hold, offer.instant_confirm) {
                (true, _) => Placement::Hold(rules.hold_ttl.as_secs_f64()),
                (false, true) => Placement::Confirmed,
                (false, false) => Placement::Pending,
            },
            over_own_hold,
            seats: place.seats.into(),
            capacity: (offer.capacity > 1).then_some(offer.capacity),
            pending_blocks: offer.pending_blocks,
            cancellation_policy: offer.cancellation_policy.clone(),
            series_id: None,
            replaces: None,
            limits,
        }
    }
}

/// The row, or why there is none.
pub(super) fn booked(outcome: Outcome) -> Result<Booking> {
    match outcome {
        Outcome::Booked(row) => Ok(*row),
        Outcome::Taken => Err(Refusal::SlotTaken.into()),
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Blocked(_)
        | Outcome::Unblocked(_)
        | Outcome::Scheduled(_)
        | Outcome::Series(_)
        | Outcome::Clashes(_)
        | Outcome::External { .. }
        | Outcome::Done => Err(Error::Fault("a booking had another outcome".to_owned())),
    }
}

/// The hold as it is stored. Asking again does not make it last longer.
async fn held(pool: &Pool, id: Uuid) -> Result<Booking> {
    let mut conn = pool.get().await?;
    let row = bookings::find(&mut conn, id).await?;
    Ok(row.filter(|row| row.status == "held").ok_or(Refusal::HoldExpired)?)
}
