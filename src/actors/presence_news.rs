//! What watchers of a user's presence are told: seldom, and always the last change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::fanout::Fanout;
use super::protocol;
use crate::domain::channel::Channel;
use crate::domain::presence::{Pace, Pacer, State, View};

/// Users whose last change is remembered; beyond them watchers are told at once.
const PACED: usize = 100_000;
/// How often to forget old ones: when the book has grown by so many.
const PRUNE_EVERY: usize = 1_024;
/// How long a change is remembered, so that an older one from another node is known as such.
const KEPT: Duration = Duration::from_secs(60);

/// Tells the watchers on this node.
#[derive(Clone)]
pub(super) struct PresenceNews {
    fanout: Fanout,
    pacers: Arc<Mutex<Pacers>>,
}

struct Pacers {
    by_user: HashMap<Uuid, Pacer>,
    prune_at: usize,
    /// The moment that the pacers count from.
    since: Instant,
}

impl PresenceNews {
    pub(super) fn new(fanout: Fanout) -> Self {
        let pacers =
            Pacers { by_user: HashMap::new(), prune_at: PRUNE_EVERY, since: Instant::now() };
        Self { fanout, pacers: Arc::new(Mutex::new(pacers)) }
    }

    /// Tells that `user_id` is seen as `view` from now on, at once or when it is time. `version`
    /// orders changes that were made on several nodes; one without is the newest.
    pub(super) fn tell(&self, user_id: Uuid, version: Option<i64>, view: View) {
        match self.lock().pace(user_id, version, view) {
            Pace::Tell(view) => self.deliver(user_id, view),
            Pace::Wait(left) => {
                let news = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(left).await;
                    news.remind(user_id);
                });
            }
            Pace::Old => {}
        }
    }

    fn remind(&self, user_id: Uuid) {
        let due = {
            let mut pacers = self.lock();
            let now = pacers.since.elapsed();
            pacers.by_user.get_mut(&user_id).and_then(|pacer| pacer.due(now))
        };
        if let Some(view) = due {
            self.deliver(user_id, view);
        }
    }

    fn deliver(&self, user_id: Uuid, view: View) {
        let event = match view.state {
            State::Online => "user:online",
            State::Away => "user:away",
            State::Offline => "user:offline",
        };
        let (channel, at) = (Channel::Presence(user_id), crate::clock::now().to_string());
        let text = protocol::event(event, channel, None, &at, &shown(user_id, view));
        self.fanout.deliver(channel, None, &text);
    }

    fn lock(&self) -> MutexGuard<'_, Pacers> {
        self.pacers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pacers {
    fn pace(&mut self, user_id: Uuid, version: Option<i64>, view: View) -> Pace {
        let now = self.since.elapsed();
        if self.by_user.len() >= self.prune_at {
            self.by_user.retain(|_, pacer| !pacer.is_over(now, KEPT));
            self.prune_at = self.by_user.len().saturating_add(PRUNE_EVERY).min(PACED);
        }
        if self.by_user.len() >= PACED && !self.by_user.contains_key(&user_id) {
            return Pace::Tell(view);
        }
        self.by_user.entry(user_id).or_default().offer(version, view, now)
    }
}

/// A user's presence as the contract has it.
pub(super) fn shown(user_id: Uuid, view: View) -> Value {
    json!({ "userId": user_id, "state": view.state.as_str(), "lastSeen": view.last_seen })
}
