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

use super::calendar::CalendarActor;
use super::calendar_batch::BookingRules;
use super::calendar_place::Place;
use super::calendar_state::CalendarState;
use crate::domain::time::{Interval, shifted};
use crate::error::{Error, Result};
use crate::models::calendar_commit::{Command, NewBooking};
use crate::models::waitlist::{self, Entry, Look};

/// Entries that are read at once, and whose offers are one transaction.
const PAGE: i64 = 100;
/// Entries that are looked at after a change, those who wait the longest; the others wait for the
/// next one.
const LOOKED_AT: usize = 2_000;
/// Offers after which the rest is left to the sweep, which finds who waits still.
const OFFERS: usize = 200;

/// Offer what opened, if that is still to be done.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<()>")]
pub struct OfferOpenings;

impl Handler<OfferOpenings> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, _: OfferOpenings, _: &mut Context<Self>) -> Self::Result {
        if let Err(e) = self.state() {
            return Box::pin(async { Err(e) }.into_actor(self));
        }
        self.offer_openings()
    }
}

/// How far the list was gone through.
struct Round {
    look: Look,
    /// The entry that was the last to be looked at.
    after: Option<(Timestamp, Uuid)>,
    looked_at: usize,
    offered: usize,
    /// Who was offered something: one slot for each seeker.
    seekers: BTreeSet<Uuid>,
}

/// What comes of a page of the list.
struct Planned {
    round: Round,
    /// Entries, each with the hold that it gets.
    offers: Vec<(Uuid, NewBooking)>,
    next: Next,
}

/// What comes after a page.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Page,
    /// The round ends, and the sweep begins another one.
    Sweep,
    /// All was looked at.
    End,
}

impl CalendarActor {
    /// The same without waiting for it.
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
            Ok(waitlist::look(&mut conn, id).await?)
        };
        let read = read.into_actor(self);
        Box::pin(read.then(|look: Result<Option<Look>>, actor, ctx| {
            let look = match look {
                Ok(Some(look)) => look,
                Ok(None) => return actor.at_once(Ok(())),
                Err(e) => return actor.at_once(Err(e)),
            };
            // Nothing here goes on before that is done, or failed.
            if actor.state().is_ok_and(|state| state.loaded < look.version) {
                actor.reload(ctx);
            }
            let seekers = BTreeSet::new();
            actor.offer_page(Round { look, after: None, looked_at: 0, offered: 0, seekers })
        }))
    }

    fn at_once(&self, done: Result<()>) -> ResponseActFuture<Self, Result<()>> {
        Box::pin(async { done }.into_actor(self))
    }

    /// Offers what there is to the next who wait, then goes on. Between two pages others have their
    /// turn.
    fn offer_page(&self, round: Round) -> ResponseActFuture<Self, Result<()>> {
        let (pool, id, after) = (self.pool.clone(), self.id, round.after);
        let read = async move {
            // A reading that was asked for just now is waited for from the next turn on.
            tokio::task::yield_now().await;
            let mut conn = pool.get().await?;
            Ok(waitlist::waiting(&mut conn, id, after, PAGE).await?)
        };
        let read = read.into_actor(self);
        Box::pin(read.then(|page: Result<Vec<Entry>>, actor, _| {
            let planned = match page.and_then(|page| actor.plan_page(round, &page)) {
                Ok(planned) => planned,
                Err(e) => return actor.at_once(Err(e)),
            };
            let Planned { round, offers, next } = planned;
            if offers.is_empty() && next == Next::Page {
                return actor.offer_page(round);
            }
            let reserved = offers.iter().map(|(_, new)| new.id).collect();
            let look = (next == Next::End).then_some(round.look.wanted);
            let done = actor.commit(None, Command::OfferOpened { look, offers }, reserved);
            Box::pin(done.then(move |done, actor, _| match (done, next) {
                (Err(e), _) => actor.at_once(Err(e)),
                (Ok(_), Next::Page) => actor.offer_page(round),
                (Ok(_), Next::Sweep | Next::End) => actor.at_once(Ok(())),
            }))
        }))
    }

    /// A slot for each of who wait, in their order, as far as there are some: reserved in memory.
    fn plan_page(&mut self, mut round: Round, page: &[Entry]) -> Result<Planned> {
        let (rules, now) = (self.rules, crate::clock::now());
        let state = self.state()?;
        if state.loaded < round.look.version {
            let cause = "what opened is not known, the calendar could not be read again";
            return Err(Error::Unavailable(cause.to_owned()));
        }
        let mut offers = Vec::new();
        for entry in page {
            if round.seekers.contains(&entry.seeker_id) {
                continue;
            }
            let Some(new) = state.opening_for(entry, rules, now) else { continue };
            state.reserve(&new);
            round.seekers.insert(entry.seeker_id);
            offers.push((entry.id, new));
        }
        round.after = page.last().map(|entry| (entry.created_at, entry.id));
        round.looked_at += page.len();
        round.offered += offers.len();
        let is_last = i64::try_from(page.len()).is_ok_and(|n| n < PAGE);
        let next = if is_last || round.looked_at >= LOOKED_AT {
            Next::End
        } else if round.offered >= OFFERS {
            Next::Sweep
        } else {
            Next::Page
        };
        Ok(Planned { round, offers, next })
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
