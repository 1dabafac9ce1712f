//! Forgets what is over: old keys, settled pushes and reminders, dead tokens, holds and unanswered requests
//! whose calendar sleeps. Offers what opened where the node that was to do so is gone.
//!
//! Nothing else depends on it. A hold that ran out is bookable without it; the sweep only tells those
//! who watch a calendar that nobody has touched since.

use std::time::Duration;

use tokio::sync::watch;

use crate::actors::calendar::{Calendars, Change};
use crate::actors::calendar_waiting::OfferOpenings;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::calendar_commit::Command;
use crate::models::pool::Pool;
use crate::models::{calendars, departures, idempotency, outbox, reminders, sessions, waitlist};

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(30);
/// How long settled pushes and reminders are kept, in days.
const KEPT_DAYS: i32 = 7;
/// Calendars with lapsed holds, and those in which time opened, that one sweep looks at.
const CALENDARS: i64 = 500;

/// Sweeps until told to stop.
pub async fn run(pool: Pool, all: Calendars, mut stop: watch::Receiver<bool>) {
    while super::pause(&mut stop, EVERY).await {
        if let Err(e) = sweep(&pool, &all).await {
            tracing::warn!("a sweep failed and is tried again: {e:?}");
        }
    }
}

async fn sweep(pool: &Pool, all: &Calendars) -> Result<()> {
    let mut conn = pool.get().await?;
    let keys = idempotency::forget_old(&mut conn).await?;
    let pushes = outbox::forget_old(&mut conn, KEPT_DAYS).await?;
    let reminders = reminders::forget_old(&mut conn, KEPT_DAYS).await?;
    let departures = departures::forget_old(&mut conn).await?;
    let tokens = sessions::forget_expired(&mut conn).await?;
    let sleeping = calendars::with_lapsed(&mut conn, CALENDARS).await?;
    drop(conn);
    tracing::debug!(
        keys,
        pushes,
        reminders,
        tokens,
        departures,
        calendars = sleeping.len(),
        "swept"
    );
    for practitioner_id in sleeping {
        let change = Change { actor: None, command: Command::Lapse };
        if let Err(e) = all.ask(practitioner_id, change).await {
            tracing::warn!(practitioner = %practitioner_id, "a calendar was not swept: {e:?}");
        }
    }
    offer_openings(pool, all).await
}

/// What opened where the node that was to offer it is gone.
async fn offer_openings(pool: &Pool, all: &Calendars) -> Result<()> {
    let mut conn = pool.get().await?;
    let looks = waitlist::looks(&mut conn, CALENDARS).await?;
    drop(conn);
    for (practitioner_id, look) in looks {
        match all.ask(practitioner_id, OfferOpenings).await {
            Ok(()) => {}
            // Only a race gets here: the row goes with its practice.
            Err(Error::Refused(Refusal::NotFound(_))) => {
                let mut conn = pool.get().await?;
                waitlist::looked(&mut conn, practitioner_id, look).await?;
            }
            Err(e) => {
                tracing::warn!(practitioner = %practitioner_id, "an opening was not offered: {e:?}");
            }
        }
    }
    Ok(())
}
