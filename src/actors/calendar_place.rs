//! Holding and booking, as a calendar actor does it.

use actix::{ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use jiff::Timestamp;
use uuid::Uuid;

use super::calendar::{BookingRules, CalendarActor};
use super::calendar_state::OfferRules;
use super::error::{Error, Result};
use crate::domain::money::commission;
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
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
    /// True: keep it for a while. False: book it.
    pub hold: bool,
    pub notes: Option<String>,
}

impl Handler<Place> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<Booking>>;

    fn handle(&mut self, place: Place, _: &mut Context<Self>) -> Self::Result {
        match self.prepare(&place) {
            Ok(Plan::Commit(command, reserved)) => {
                let done = self.commit(Some(place.seeker_id), *command, reserved);
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
        let (rules, now) = (self.rules, super::now());
        let state = self.state()?;
        if state.practitioner_user_id == place.seeker_id {
            return Err(Refusal::Forbidden.into());
        }
        let offer = state.offer(place.service_id)?;
        if let Some(hold_id) = state.own_hold(offer, place.start, place.seeker_id, now) {
            if place.hold {
                return Ok(Plan::Held(hold_id));
            }
            let (seeker_id, notes) = (place.seeker_id, place.notes.clone());
            return Ok(Plan::Commit(
                Box::new(Command::BookHold { hold_id, seeker_id, notes }),
                None,
            ));
        }
        state.check(offer, place.start, place.seeker_id, now)?;
        let over_own_hold = state.has_hold_near(offer, place.start, place.seeker_id);
        let new = NewBooking { over_own_hold, ..new_booking(offer, place, rules) };
        let (id, offer) = (new.id, offer.offer.clone());
        state.reserve(id, &offer, place.start);
        Ok(Plan::Commit(Box::new(Command::Place(new)), Some(id)))
    }
}

fn new_booking(offer: &OfferRules, place: &Place, rules: BookingRules) -> NewBooking {
    let time = Interval::lasting(place.start, offer.rules.duration());
    let occupied = offer.rules.buffers.around(time);
    let offer = &offer.offer;
    NewBooking {
        id: Uuid::now_v7(),
        seeker_id: place.seeker_id,
        service_id: place.service_id,
        scheduled_at: time.start(),
        duration_minutes: offer.duration_minutes,
        ends_at: time.end(),
        occupied_from: occupied.start(),
        occupied_until: occupied.end(),
        total_amount: offer.price,
        commission_amount: commission(offer.price, rules.commission_bps),
        currency: offer.currency.clone(),
        notes: place.notes.clone(),
        placement: match (place.hold, offer.instant_confirm) {
            (true, _) => Placement::Hold(rules.hold_ttl.as_secs_f64()),
            (false, true) => Placement::Confirmed,
            (false, false) => Placement::Pending,
        },
        over_own_hold: false,
    }
}

fn booked(outcome: Outcome) -> Result<Booking> {
    match outcome {
        Outcome::Booked(row) => Ok(*row),
        Outcome::Taken => Err(Refusal::SlotTaken.into()),
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Blocked(_)
        | Outcome::Unblocked(_)
        | Outcome::Scheduled(_)
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
