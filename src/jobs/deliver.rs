//! Delivers due pushes. Any number of nodes may run this: rows are taken with `SKIP LOCKED`, for a
//! lease that outlives a delivery, so that a worker that dies loses nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::clock::now;
use crate::domain::notify::{self, Category};
use crate::error::{Error, Result};
use crate::models::devices;
use crate::models::outbox::{self, Taken, Verdict};
use crate::models::pool::Pool;
use crate::outbound::EndpointPolicy;
use crate::push::{FcmToken, Outcome, Push, PushMessage, Subscription, Target, Urgency};

/// Deliveries under way at once. Each ends within the timeout of the push client.
const UNDER_WAY: usize = 64;
/// Deliveries taken at once.
const BATCH: usize = 32;
/// A worker that does not settle a delivery within this has died.
const LEASE: Duration = Duration::from_secs(120);
/// Pause when nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// Attempts at one delivery.
const ATTEMPTS: i32 = 8;
/// Pause before the second attempt; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause, also for a push service that asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// How long a push service keeps what it can not deliver at once; reminders not that long.
const TTL_SECONDS: u32 = 24 * 3_600;

/// What the worker needs.
#[derive(Clone)]
pub struct Deliverer {
    pub pool: Pool,
    pub push: Arc<Push>,
    /// Where pushes may go.
    pub endpoints: EndpointPolicy,
}

/// Works until told to stop; what is under way is finished first. A slow push service keeps its own
/// deliveries waiting, and the others only once it has all the places.
pub async fn run(worker: Deliverer, mut stop: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    loop {
        while let Some(done) = under_way.try_join_next() {
            check(done);
        }
        let wait = match worker.round(&mut under_way).await {
            Ok(0) => IDLE,
            Ok(_) => Duration::ZERO,
            Err(e) => {
                tracing::error!("pushes are not delivered: {e:?}");
                IDLE * 4
            }
        };
        if !super::pause(&mut stop, wait).await {
            break;
        }
    }
    while let Some(done) = under_way.join_next().await {
        check(done);
    }
}

fn check(done: std::result::Result<Result<()>, JoinError>) {
    if let Err(e) = done.map_err(|e| Error::Fault(e.to_string())).and_then(|r| r) {
        tracing::error!("a push was not settled: {e:?}");
    }
}

impl Deliverer {
    /// Starts what is due, as far as there is room; returns how much that was.
    async fn round(&self, under_way: &mut JoinSet<Result<()>>) -> Result<usize> {
        let room = UNDER_WAY.saturating_sub(under_way.len()).min(BATCH);
        let Some(room) = i64::try_from(room).ok().filter(|room| *room > 0) else { return Ok(0) };
        let mut conn = self.pool.get().await?;
        outbox::expand_due(&mut conn, room).await?;
        let taken = outbox::take(&mut conn, room, LEASE).await?;
        drop(conn);
        let count = taken.len();
        for delivery in taken {
            let worker = self.clone();
            under_way.spawn(async move { worker.deliver(&delivery).await });
        }
        Ok(count)
    }

    async fn deliver(&self, taken: &Taken) -> Result<()> {
        let outcome = match self.target(taken) {
            Some(target) => self.push.send(&target, &message(taken, now())).await,
            None => Outcome::Rejected { reason: "the stored device is not valid".to_owned() },
        };
        let mut conn = self.pool.get().await?;
        let verdict = match outcome {
            Outcome::Delivered => Verdict::Delivered,
            Outcome::Gone => {
                // Its deliveries go with it.
                return Ok(devices::forget(&mut conn, taken.device_id).await?);
            }
            Outcome::TooLarge => Verdict::Failed("too large".to_owned()),
            Outcome::Rejected { reason } => Verdict::Failed(reason),
            Outcome::Retry { reason, .. } if taken.attempts >= ATTEMPTS => Verdict::Failed(reason),
            Outcome::Retry { after, reason } => {
                Verdict::Again(pause_after(taken.attempts, after), reason)
            }
        };
        if let Verdict::Failed(reason) = &verdict {
            tracing::warn!(delivery = %taken.id, reason, "a push failed for good");
        }
        Ok(outbox::settle(&mut conn, taken.id, &verdict).await?)
    }

    fn target(&self, taken: &Taken) -> Option<Target> {
        match (taken.kind.as_str(), &taken.p256dh, &taken.auth) {
            ("web_push", Some(p256dh), Some(auth)) => {
                Subscription::parse(&taken.address, p256dh, auth, self.endpoints)
                    .ok()
                    .map(Target::WebPush)
            }
            ("fcm", _, _) => FcmToken::parse(&taken.address).ok().map(Target::Fcm),
            _ => None,
        }
    }
}

/// Doubles with each attempt; a push service that names a time is obeyed, within bounds.
fn pause_after(attempts: i32, asked: Option<Duration>) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    let own = FIRST_PAUSE.saturating_mul(1 << doublings);
    asked.map_or(own, |asked| asked.max(own)).min(LONGEST_PAUSE)
}

fn message(taken: &Taken, now: Timestamp) -> PushMessage {
    let text =
        |key: &str| taken.payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut data: std::collections::BTreeMap<String, String> = taken
        .payload
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| match value {
            Value::String(text) => (key.clone(), text.clone()),
            other => (key.clone(), other.to_string()),
        })
        .collect();
    let (category, starts_at) = (Category::of(&text("kind")), data.get("startsAt"));
    let starts_at = starts_at.and_then(|text| text.parse().ok());
    let ttl_seconds = notify::kept_for(category, starts_at, now, TTL_SECONDS);
    data.insert("kind".to_owned(), text("kind"));
    PushMessage {
        id: taken.dedupe_key.clone(),
        title: text("title"),
        body: text("body"),
        data,
        ttl_seconds,
        urgency: Urgency::High,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause_after(1, None), FIRST_PAUSE);
        assert_eq!(pause_after(3, None), FIRST_PAUSE * 4);
        assert_eq!(pause_after(30, None), LONGEST_PAUSE);
        assert_eq!(pause_after(1, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(pause_after(1, Some(Duration::from_secs(90_000))), LONGEST_PAUSE);
    }
}
