//! Blocked times of a practice.

use uuid::Uuid;

use super::{Practices, read};
use crate::clock::now;
use crate::domain::access::Action;
use crate::domain::availability::Hours;
use crate::domain::refusal::{Problems, Refusal};
use crate::domain::repeat::Repeat;
use crate::domain::time::Interval;
use crate::error::{Error, Result};
use crate::models::calendar_commit::{Command, Outcome};
use crate::models::calendars::{self, Block};
use crate::models::practitioners::Practice;
use crate::services::auth::Caller;

impl Practices {
    /// Closes a time, or a series that begins with it, and returns what was closed, in order.
    /// Bookings in it stay; the practitioner cancels them or not.
    pub async fn block(
        &self,
        caller: &Caller,
        id: Uuid,
        time: Interval,
        reason: Option<String>,
        repeat: Option<&Repeat>,
    ) -> Result<Vec<Block>> {
        let practice = self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        let mut problems = Problems::default();
        problems.require(!time.is_empty(), "endsAt", "must be after startsAt");
        problems.require(time.end() > now(), "endsAt", "must be in the future");
        let days = time.end().duration_since(time.start()).as_hours() / 24;
        problems.require(days <= 366, "endsAt", "must be at most 366 days after startsAt");
        if let Some(reason) = &reason {
            problems.length("reason", reason, 0, 200);
        }
        problems.into_result()?;
        let times = match repeat {
            Some(repeat) => times(&practice, repeat, time)?,
            None => vec![time],
        };
        let series_id = repeat.map(|_| Uuid::now_v7());
        let block = |time: Interval| Block {
            id: Uuid::now_v7(),
            starts_at: time.start(),
            ends_at: time.end(),
            reason: reason.clone(),
            series_id,
        };
        let blocks = times.into_iter().map(block).collect();
        blocks_of(self.change(caller, id, Command::Block(blocks)).await?)
    }

    /// Opens a closed time again, or its whole series, and returns what was opened: the named one
    /// first.
    pub async fn unblock(
        &self,
        caller: &Caller,
        id: Uuid,
        block_id: Uuid,
        whole_series: bool,
    ) -> Result<Vec<Block>> {
        self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        let command = Command::Unblock { block_id, whole_series };
        blocks_of(self.change(caller, id, command).await?)
    }

    /// The blocked times that have not passed.
    pub async fn blocks(&self, caller: &Caller, id: Uuid) -> Result<Vec<Block>> {
        self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        let mut conn = self.pool.get().await?;
        Ok(calendars::blocks_after(&mut conn, id, now()).await?)
    }
}

fn times(practice: &Practice, repeat: &Repeat, first: Interval) -> Result<Vec<Interval>> {
    let hours = Hours::new(&read(practice)?)
        .map_err(|e| Error::Fault(format!("stored schedule: {}", e.field)))?;
    Ok(repeat.times(first, &hours).map_err(Refusal::Validation)?)
}

fn blocks_of(outcome: Outcome) -> Result<Vec<Block>> {
    match outcome {
        Outcome::Blocked(blocks) | Outcome::Unblocked(blocks) => Ok(blocks),
        _ => Err(Error::Fault("a block had another outcome".to_owned())),
    }
}
