//! Offering the waiting list what opens when hours, offers, blocked times or a calendar elsewhere
//! change. What a booking gives up is offered in the transaction that gives it up; here nobody knows
//! which slots there are before the rules were asked, so it is a job of its own that follows. The
//! change leaves a row that says so, and the sweep does what a node that died did not come to.

use std::collections::BTreeSet;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::calendar::{BookingRules, CalendarActor, Place};
use super::calendar_state::CalendarState;
use super::error::Result;
use crate::domain::time::{Interval, shifted};
use crate::models::calendar_commit::{Command, NewBooking, Outcome};
use crate::models::waitlist::{self, Entry};

/// Entries that are looked at after a change, those who wait the longest; the others wait for the
/// next one.
const LOOKED_AT: i64 = 100;

/// Offer what opened, if that is still to be done; the calendar is read again first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<()>")]
pub struct OfferOpenings;

impl Handler<OfferOpenings> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, _: OfferOpenings, ctx: &mut Context<Self>) -> Self::Result {
        if let Err(e) = self.state() {
            return Box::pin(async { Err(e) }.into_actor(self));
        }
        self.reload(ctx);
        self.offer_openings()
    }
}

impl CalendarActor {
    /// The same without waiting for it; the memory follows the change already.
    pub(super) fn offer_openings_soon(&self, ctx: &mut Context<Self>) {
        ctx.spawn(self.offer_openings().map(|done, actor, _| {
            if let Err(e) = done {
                let id = actor.id;
                tracing::warn!(practitioner = %id, "what opened is offered later: {e:?}");
            }
        }));
    }

    fn offer_openings(&self) -> ResponseActFuture<Self, Result<()>> {
        let (pool, id) = (self.pool.clone(), self.id);
        let read = async move {
            let mut conn = pool.get().await?;
            let Some(look) = waitlist::look(&mut conn, id).await? else { return Ok(None) };
            Ok(Some((look, waitlist::longest_waiting(&mut conn, id, LOOKED_AT).await?)))
        };
        let read = read.into_actor(self);
        let done = read.then(|found: Result<Option<(i64, Vec<Entry>)>>, actor, _| {
            let offers = found.and_then(|found| {
                let Some((look, entries)) = found else { return Ok(None) };
                Ok(Some((look, actor.plan_offers(&entries)?)))
            });
            match offers {
                Ok(Some((look, offers))) => {
                    let reserved = offers.iter().map(|(_, new)| new.id).collect();
                    actor.commit(None, Command::OfferOpened { look, offers }, reserved)
                }
                Ok(None) => Box::pin(async { Ok(Outcome::Done) }.into_actor(actor)),
                Err(e) => Box::pin(async { Err(e) }.into_actor(actor)),
            }
        });
        Box::pin(done.map(|done, _, _| done.map(|_| ())))
    }

    /// A slot for each of who wait, in their order, as far as there are some: one for each seeker,
    /// and reserved in memory.
    fn plan_offers(&mut self, entries: &[Entry]) -> Result<Vec<(Uuid, NewBooking)>> {
        let (rules, now) = (self.rules, super::now());
        let state = self.state()?;
        let (mut offers, mut seekers) = (Vec::new(), BTreeSet::new());
        for entry in entries {
            if seekers.contains(&entry.seeker_id) {
                continue;
            }
            let Some(new) = state.opening_for(entry, rules, now) else { continue };
            state.reserve(&new);
            seekers.insert(entry.seeker_id);
            offers.push((entry.id, new));
        }
        Ok(offers)
    }
}

impl CalendarState {
    /// A hold of the first slot that the entry waits for, in the offer's own length.
    fn opening_for(
        &self,
        entry: &Entry,
        rules: BookingRules,
        now: Timestamp,
    ) -> Option<NewBooking> {
        let time = Interval::new(entry.from_at, entry.until_at).ok()?;
        let offer = self.offer(entry.service_id, None).ok()?;
        // As anybody sees it: what the seeker holds themselves is not to make room.
        let view = self.view(None, 1, now);
        let start = self.query(&offer.rules, view).first_start(time)?;
        let place = Place {
            seeker_id: entry.seeker_id,
            service_id: entry.service_id,
            start,
            minutes: None,
            hold: true,
            notes: None,
            seats: 1,
            key: None,
        };
        let fits = shifted(start, offer.rules.duration()) <= time.end();
        fits.then(|| self.new_booking(offer, &place, rules))
    }
}
