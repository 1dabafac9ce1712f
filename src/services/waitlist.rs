//! Waiting for a slot that somebody else has.

use uuid::Uuid;

use super::auth::Caller;
use crate::actors::calendar::{Calendars, GetSlots};
use crate::actors::calendar_waiting::OfferOpenings;
use crate::clock::now;
use crate::domain::access::{Action, Relation, allows};
use crate::domain::refusal::{Problems, Refusal};
use crate::domain::time::Interval;
use crate::error::Result;
use crate::models::pool::Pool;
use crate::models::user_blocks;
use crate::models::waitlist::{self, Entry};

/// Entries that one seeker may have waiting.
const MAX_WAITING: i64 = 20;
/// The longest time that one entry may wait for, in days.
const MAX_DAYS: i64 = 31;
/// Entries that are listed.
const LISTED: i64 = 100;

/// The waiting list.
pub struct Waitlist {
    pool: Pool,
    calendars: Calendars,
}

impl Waitlist {
    /// The list in the database of `pool`.
    pub fn new(pool: Pool, calendars: Calendars) -> Self {
        Self { pool, calendars }
    }

    /// Lets the caller wait for a slot of a service whose session lies in `time`. Refuses when one
    /// can be booked now.
    pub async fn join(
        &self,
        caller: &Caller,
        practitioner_id: Uuid,
        service_id: Uuid,
        time: Interval,
    ) -> Result<Entry> {
        if !allows(caller.role, Action::BookingCreate, Relation::default()) {
            return Err(Refusal::Forbidden.into());
        }
        let now = now();
        let mut problems = Problems::default();
        problems.require(!time.is_empty(), "to", "must be after from");
        problems.require(time.end() > now, "to", "must be in the future");
        let days = time.end().duration_since(time.start()).as_hours() / 24;
        let problem = format!("must be at most {MAX_DAYS} days after from");
        problems.require(days <= MAX_DAYS, "to", &problem);
        problems.into_result()?;
        let mut conn = self.pool.get().await?;
        if user_blocks::with_practice(&mut conn, caller.user_id, practitioner_id).await? {
            return Err(Refusal::Blocked.into());
        }
        drop(conn);
        let asker = Some(caller.user_id);
        let ask = GetSlots { service_id, minutes: None, range: time, asker, seats: 1 };
        let slots = self.calendars.ask(practitioner_id, ask).await?;
        if !slots.starts.is_empty() {
            return Err(Refusal::field("from", "a slot in this time can be booked now").into());
        }
        let mut conn = self.pool.get().await?;
        if waitlist::count_waiting(&mut conn, caller.user_id, now).await? >= MAX_WAITING {
            let problem = format!("you wait for {MAX_WAITING} times already");
            return Err(Refusal::field("from", problem).into());
        }
        let entry = Entry {
            id: Uuid::now_v7(),
            seeker_id: caller.user_id,
            practitioner_id,
            service_id,
            from_at: time.start(),
            until_at: time.end(),
            status: "waiting".to_owned(),
            hold_id: None,
            created_at: now,
        };
        let changed = waitlist::join(&mut conn, &entry, slots.version).await?;
        drop(conn);
        if changed && let Err(e) = self.calendars.ask(practitioner_id, OfferOpenings).await {
            tracing::warn!(practitioner = %practitioner_id, "what opened is offered later: {e:?}");
        }
        Ok(entry)
    }

    /// The caller's entries whose time is not over, the newest first.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Entry>> {
        let mut conn = self.pool.get().await?;
        Ok(waitlist::of_seeker(&mut conn, caller.user_id, now(), LISTED).await?)
    }

    /// Takes the caller off the list. An offer is given back by its hold.
    pub async fn leave(&self, caller: &Caller, id: Uuid) -> Result<()> {
        let mut conn = self.pool.get().await?;
        if waitlist::leave(&mut conn, id, caller.user_id).await? {
            Ok(())
        } else {
            Err(Refusal::NotFound("entry").into())
        }
    }
}
