//! From the sockets of a user's devices to what others see: online or offline, with a grace.
//!
//! A reconnect inside the grace is invisible to others.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

/// What others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The first device connected.
    Online,
    /// The grace after the last device's goodbye is over.
    Offline,
}

/// One user's devices and what others believe about the user.
#[derive(Debug, Default)]
pub struct Presence {
    sockets: BTreeSet<u64>,
    online: bool,
    last_seen: Option<Timestamp>,
    offline_at: Option<Timestamp>,
}

impl Presence {
    /// A device opened the socket `socket`.
    pub fn connect(&mut self, socket: u64, now: Timestamp) -> Option<Change> {
        self.sockets.insert(socket);
        self.offline_at = None;
        self.last_seen = Some(now);
        if self.online {
            return None;
        }
        self.online = true;
        Some(Change::Online)
    }

    /// The socket `socket` is gone; the user goes offline after `grace` unless another comes.
    pub fn disconnect(&mut self, socket: u64, now: Timestamp, grace: Duration) {
        if self.sockets.remove(&socket) && self.sockets.is_empty() {
            self.last_seen = Some(now);
            self.offline_at = Some(now.saturating_add(grace).unwrap_or(Timestamp::MAX));
        }
    }

    /// Tells what is due at `now`.
    pub fn tick(&mut self, now: Timestamp) -> Option<Change> {
        if self.offline_at.is_some_and(|due| due <= now) {
            self.offline_at = None;
            self.online = false;
            return Some(Change::Offline);
        }
        None
    }

    /// When `tick` has something to tell, if ever.
    pub fn due(&self) -> Option<Timestamp> {
        self.offline_at
    }

    /// Whether others see the user as online.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// When a device of the user last came or went.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// Whether nothing is left to remember: no socket, no pending goodbye.
    pub fn is_idle(&self) -> bool {
        self.sockets.is_empty() && !self.online
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_reconnect_inside_the_grace_is_invisible() {
        let mut p = Presence::default();
        assert_eq!(p.connect(1, at(0)), Some(Change::Online));
        p.disconnect(1, at(10), GRACE);
        assert_eq!(p.tick(at(24)), None);
        assert_eq!(p.connect(2, at(24)), None);
        assert_eq!(p.tick(at(100)), None);
        p.disconnect(2, at(100), GRACE);
        assert_eq!(p.tick(at(115)), Some(Change::Offline));
        assert!(p.is_idle());
    }

    proptest! {
        /// Changes alternate, and after the grace without a socket the user is offline.
        #[test]
        fn changes_alternate(steps in proptest::collection::vec((0u64..4, any::<bool>(), 0i64..20), 0..60)) {
            let mut p = Presence::default();
            let mut open = BTreeSet::new();
            let mut online = false;
            let mut now = 0;
            for (socket, connects, wait) in steps {
                now += wait;
                for change in [p.tick(at(now)), if connects {
                    open.insert(socket);
                    p.connect(socket, at(now))
                } else {
                    open.remove(&socket);
                    p.disconnect(socket, at(now), GRACE);
                    None
                }].into_iter().flatten() {
                    prop_assert_eq!(change == Change::Online, !online);
                    online = !online;
                }
                prop_assert!(open.is_empty() || online);
            }
            p.tick(at(now + 15));
            prop_assert_eq!(p.is_online(), !open.is_empty());
        }
    }
}
