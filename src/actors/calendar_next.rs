//! The next slot that is free, as a calendar actor finds it.

use actix::{Context, Handler, Message};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::calendar::CalendarActor;
use crate::domain::rules::MAX_DAYS_SEARCHED;
use crate::domain::time::Interval;
use crate::error::Result;

/// Which slot is the first that can be booked? The search ends after [`MAX_DAYS_SEARCHED`] days.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Next>")]
pub struct GetNext {
    pub service_id: Uuid,
    /// One of the lengths that it is offered in; its own when `None`.
    pub minutes: Option<i32>,
    /// The earliest start, now unless given.
    pub from: Option<Timestamp>,
    /// Whose own holds are not in the way.
    pub asker: Option<Uuid>,
}

/// The first slot.
#[derive(Debug, Clone)]
pub struct Next {
    /// The calendar's version that it was computed from.
    pub version: i64,
    pub duration_minutes: i32,
    /// `None` when nothing is free within the horizon and before `searched_until`.
    pub start: Option<Timestamp>,
    pub searched_until: Timestamp,
}

impl Handler<GetNext> for CalendarActor {
    type Result = Result<Next>;

    fn handle(&mut self, ask: GetNext, _: &mut Context<Self>) -> Result<Next> {
        let now = crate::clock::now();
        let state = self.state()?;
        let offer = state.offer(ask.service_id, ask.minutes)?;
        let days = SignedDuration::from_hours(i64::from(MAX_DAYS_SEARCHED) * 24);
        let range = Interval::lasting(ask.from.unwrap_or(now).max(now), days);
        Ok(Next {
            version: state.version,
            duration_minutes: offer.offer.duration_minutes,
            start: state.query(&offer.rules, state.view(ask.asker, 1, now)).first_start(range),
            searched_until: range.end(),
        })
    }
}
