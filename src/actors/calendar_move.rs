//! Moving a booking, and making a series, as a calendar actor does it: checked in memory by the same
//! rules as a new booking, then committed as one.

use actix::{ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use jiff::Timestamp;
use uuid::Uuid;

use super::calendar::CalendarActor;
use super::calendar_place::Place;
use super::calendar_place::{booked, check_seats};
use crate::domain::access::Role;
use crate::domain::availability::Hours;
use crate::domain::busy::{Buffers, Viewpoint};
use crate::domain::refusal::{Clash, Refusal};
use crate::domain::time::Interval;
use crate::error::{Error, Result};
use crate::models::bookings::Booking;
use crate::models::calendar_commit::{Command, Move, NewBooking, Outcome};

/// Move a booking to another time.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Booking>")]
pub struct Reschedule {
    /// The booking as it was read.
    pub booking: Booking,
    pub start: Timestamp,
    pub actor: Uuid,
    pub role: Role,
    pub reason: Option<String>,
    pub expected_version: Option<i64>,
}

impl Handler<Reschedule> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<Booking>>;

    fn handle(&mut self, ask: Reschedule, _: &mut Context<Self>) -> Self::Result {
        match self.plan_move(&ask) {
            Ok(to) => {
                let done = self.commit(Some(ask.actor), Command::Reschedule(to), Vec::new());
                Box::pin(done.map(|outcome, _, _| booked(outcome?)))
            }
            Err(e) => Box::pin(async { Err(e) }.into_actor(self)),
        }
    }
}

impl CalendarActor {
    /// Whether the new time can be booked. A seeker also keeps the notice of the time that they
    /// leave: what is too late to book is too late to give back by moving.
    fn plan_move(&mut self, ask: &Reschedule) -> Result<Move> {
        let now = crate::clock::now();
        let state = self.state()?;
        let row = &ask.booking;
        // Whatever lengths are offered now, it keeps its own.
        let offer = state.offer(row.service_id, None)?;
        let mut rules = offer
            .rules
            .clone()
            .lasting(row.duration_minutes.into())
            .map_err(|e| Error::Fault(format!("stored booking: {e}")))?;
        rules.buffers = buffers_of(row);
        if ask.actor == row.seeker_id && row.scheduled_at < rules.earliest(now) {
            return Err(Refusal::SlotUnavailable("notice".into()).into());
        }
        let view = Viewpoint {
            moving: Some(row.id.as_u128()),
            ..state.view(Some(row.seeker_id), u32::try_from(row.seats).unwrap_or(1), now)
        };
        state.check(&rules, ask.start, view)?;
        let time = Interval::lasting(ask.start, rules.duration());
        let occupied = rules.buffers.around(time);
        Ok(Move {
            booking_id: row.id,
            new_id: Uuid::now_v7(),
            scheduled_at: time.start(),
            ends_at: time.end(),
            occupied_from: occupied.start(),
            occupied_until: occupied.end(),
            instant_confirm: offer.offer.instant_confirm,
            capacity: row.group_session_id.map(|_| offer.offer.capacity),
            over_own_hold: state.has_hold_in(occupied, row.seeker_id),
            limits: state.limit_checks(&rules, ask.start),
            role: ask.role,
            reason: ask.reason.clone(),
            expected_version: ask.expected_version,
        })
    }
}

/// The buffers that were stored with a booking.
fn buffers_of(row: &Booking) -> Buffers {
    let between = |from: Timestamp, until: Timestamp| {
        u16::try_from(until.duration_since(from).as_mins()).unwrap_or(u16::MAX)
    };
    Buffers {
        before_min: between(row.occupied_from, row.scheduled_at),
        after_min: between(row.ends_at, row.occupied_until),
    }
}

/// Book the same slot week after week: all of them or none.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Booking>>")]
pub struct PlaceSeries {
    /// The first of them; a booking, not a hold.
    pub first: Place,
    /// How many in all.
    pub count: u16,
    /// Weeks from one to the next.
    pub every_weeks: std::num::NonZeroU16,
}

impl Handler<PlaceSeries> for CalendarActor {
    type Result = ResponseActFuture<Self, Result<Vec<Booking>>>;

    fn handle(&mut self, ask: PlaceSeries, _: &mut Context<Self>) -> Self::Result {
        let wanted = match self.plan_series(&ask) {
            Ok(wanted) => wanted,
            Err(e) => return Box::pin(async { Err(e) }.into_actor(self)),
        };
        let reserved = wanted.iter().filter(|n| n.pending_blocks).map(|n| n.id).collect();
        let done = self.commit(Some(ask.first.seeker_id), Command::PlaceSeries(wanted), reserved);
        Box::pin(done.map(|outcome, _, _| match outcome? {
            Outcome::Series(rows) => Ok(rows),
            Outcome::Clashes(starts) => {
                let clash = |(starts_at, full): (Timestamp, bool)| Clash {
                    starts_at,
                    code: if full { "slot_unavailable" } else { "slot_taken" },
                    rule: full.then(|| "limit".into()),
                };
                Err(Refusal::SeriesClash(starts.into_iter().map(clash).collect()).into())
            }
            other => booked(other).map(|row| vec![row]),
        }))
    }
}

impl CalendarActor {
    fn plan_series(&mut self, ask: &PlaceSeries) -> Result<Vec<NewBooking>> {
        let (booking_rules, now) = (self.rules, crate::clock::now());
        let state = self.state()?;
        if state.practitioner_user_id == ask.first.seeker_id {
            return Err(Refusal::Forbidden.into());
        }
        let offer = state.offer(ask.first.service_id, ask.first.minutes)?;
        check_seats(offer, ask.first.seats)?;
        let view = state.view(Some(ask.first.seeker_id), ask.first.seats.into(), now);
        let starts = weekly(ask, state.hours());
        let mut clashes = Vec::new();
        for start in &starts {
            match state.check(&offer.rules, *start, view) {
                Ok(()) => {}
                Err(Refusal::SlotUnavailable(rule)) => {
                    let (starts_at, code) = (*start, "slot_unavailable");
                    clashes.push(Clash { starts_at, code, rule: Some(rule) });
                }
                Err(_) => {
                    clashes.push(Clash { starts_at: *start, code: "slot_taken", rule: None });
                }
            }
        }
        if !clashes.is_empty() {
            return Err(Refusal::SeriesClash(clashes).into());
        }
        let series_id = Some(ask.first.key.unwrap_or_else(Uuid::now_v7));
        // The first has the key's id: one key never makes two series, whoever else lets them stand.
        let each = |(n, start): (usize, &Timestamp)| {
            let key = ask.first.key.filter(|_| n == 0);
            let place = Place { start: *start, key, ..ask.first.clone() };
            NewBooking { series_id, ..state.new_booking(offer, &place, booking_rules) }
        };
        let wanted: Vec<NewBooking> = starts.iter().enumerate().map(each).collect();
        wanted.iter().filter(|new| new.pending_blocks).for_each(|new| state.reserve(new));
        Ok(wanted)
    }
}

/// The starts of the series: the same time by the practitioner's clock.
fn weekly(ask: &PlaceSeries, hours: &Hours) -> Vec<Timestamp> {
    let days = i32::from(ask.every_weeks.get()).saturating_mul(7);
    let later = (1..i32::from(ask.count)).map(|n| n.saturating_mul(days));
    let later = later.map(|days| hours.days_later(ask.first.start, days));
    std::iter::once(ask.first.start).chain(later).collect()
}
