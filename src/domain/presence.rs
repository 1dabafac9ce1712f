//! From the sockets of a user's devices to what others see: online, away or offline, with a grace;
//! and how often others are told.
//!
//! A user is online if any device is, and away if all are. A device that left counts on for the
//! grace as it was, so that a reconnect inside it is invisible to others.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Watchers of a user hear of at most one change in this time, and always of the last one.
pub const PACE: Duration = Duration::from_secs(2);

/// What others see. The greater one counts where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// No device is connected.
    #[default]
    Offline,
    /// Devices are connected, and all say that nobody looks at them.
    Away,
    /// Somebody is there.
    Online,
}

impl State {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Away => "away",
            Self::Online => "online",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Offline, Self::Away, Self::Online].into_iter().find(|s| s.as_str() == word)
    }
}

/// A user as others may see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct View {
    /// What they are.
    pub state: State,
    /// When a device last came, went or was used, as far as is known.
    pub last_seen: Option<Timestamp>,
}

impl View {
    /// What two sources that know of different devices tell together.
    pub fn and(self, other: Self) -> Self {
        Self { state: self.state.max(other.state), last_seen: self.last_seen.max(other.last_seen) }
    }
}

/// The devices of one user, as one node knows them.
#[derive(Debug, Default)]
pub struct Presence {
    /// Of each open socket, what its device says: online or away.
    sockets: BTreeMap<u64, State>,
    /// What devices that left said, and until when it counts. Emptied by every new socket, so no
    /// longer than the list of sockets ever was.
    leaving: Vec<(State, Timestamp)>,
    last_seen: Option<Timestamp>,
}

impl Presence {
    /// A device opened the socket `socket`; it is online.
    pub fn connect(&mut self, socket: u64, now: Timestamp) {
        self.sockets.insert(socket, State::Online);
        self.leaving.clear();
        self.last_seen = Some(now);
    }

    /// The socket `socket` is gone; what it said counts for `grace`, unless another one comes.
    pub fn disconnect(&mut self, socket: u64, now: Timestamp, grace: Duration) {
        if let Some(state) = self.sockets.remove(&socket) {
            self.last_seen = Some(now);
            self.leaving.push((state, now.saturating_add(grace).unwrap_or(Timestamp::MAX)));
        }
    }

    /// The device behind `socket` says that it is used, or that it is not; false when the socket
    /// is gone.
    pub fn say(&mut self, socket: u64, away: bool, now: Timestamp) -> bool {
        let Some(state) = self.sockets.get_mut(&socket) else { return false };
        *state = if away { State::Away } else { State::Online };
        if !away {
            // What it said before it left is over.
            self.leaving.clear();
            self.last_seen = Some(now);
        }
        true
    }

    /// What others may see at `now`.
    pub fn view(&self, now: Timestamp) -> View {
        let leaving =
            self.leaving.iter().filter(|(_, until)| *until > now).map(|(state, _)| *state);
        let state = self.sockets.values().copied().chain(leaving).max().unwrap_or_default();
        View { state, last_seen: self.last_seen }
    }

    /// When `view` changes by itself next, if ever.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.leaving.iter().map(|(_, until)| *until).filter(|until| *until > now).min()
    }

    /// Whether nothing is left to remember at `now`: no socket, no device that is just leaving.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.sockets.is_empty() && self.due(now).is_none()
    }
}

/// What becomes of a change that was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Watchers are told now.
    Tell(View),
    /// It waits; ask [`Pacer::due`] after this time, which is when another one waits already, too.
    Wait(Duration),
    /// Something newer is known, or the same was told.
    Old,
}

/// Holds back what watchers of one user are told, so that they hear of one change in [`PACE`].
/// Time is a duration since any fixed moment that the caller chose.
#[derive(Debug, Clone, Default)]
pub struct Pacer {
    told: Option<(Duration, View)>,
    /// The newest change that was heard of.
    version: i64,
    waiting: Option<View>,
}

impl Pacer {
    /// Takes a change; changes on several nodes are ordered by `version`, and one without is newer
    /// than everything before it.
    pub fn offer(&mut self, version: Option<i64>, view: View, now: Duration) -> Pace {
        let version = version.unwrap_or(self.version.saturating_add(1));
        if version <= self.version {
            return Pace::Old;
        }
        self.version = version;
        match self.told {
            Some((at, _)) if now < at + PACE => {
                self.waiting = Some(view);
                Pace::Wait((at + PACE).saturating_sub(now))
            }
            Some((_, told)) if told.state == view.state => Pace::Old,
            _ => {
                self.told = Some((now, view));
                Pace::Tell(view)
            }
        }
    }

    /// What watchers are told now, after having waited. A change that was taken back is none.
    pub fn due(&mut self, now: Duration) -> Option<View> {
        if self.told.is_some_and(|(at, _)| now < at + PACE) {
            return None;
        }
        let view = self.waiting.take()?;
        if self.told.is_some_and(|(_, told)| told.state == view.state) {
            return None;
        }
        self.told = Some((now, view));
        Some(view)
    }

    /// Whether this can be forgotten: nothing waits, and nothing was told for `kept`.
    pub fn is_over(&self, now: Duration, kept: Duration) -> bool {
        self.waiting.is_none() && self.told.is_none_or(|(at, _)| at + kept <= now)
    }
}

#[cfg(test)]
mod tests;
