//! Slows down guessing without locking out the owner of an account.
//!
//! Failures count per account *and* address together, and per address over all accounts. An
//! attacker somewhere else therefore never uses up the owner's attempts. Kept in memory, per node,
//! bounded: the least recently used entry makes room.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::domain::refusal::Refusal;

/// Failures of one address at one account, before it has to wait.
const PER_ACCOUNT: u32 = 5;
/// Failures of one address over all accounts.
const PER_ADDRESS: u32 = 50;
/// Registrations from one address.
const REGISTRATIONS: u32 = 30;
/// Time in which they count.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Entries that are kept.
const ENTRIES: NonZeroUsize = match NonZeroUsize::new(100_000) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

#[derive(PartialEq, Eq, Hash, Clone)]
enum Key {
    AccountFrom(String, Option<IpAddr>),
    Address(IpAddr),
    Registrations(IpAddr),
}

#[derive(Clone, Copy)]
struct Count {
    n: u32,
    since: Instant,
}

/// The counters.
pub(super) struct Throttle(Mutex<LruCache<Key, Count>>);

impl Default for Throttle {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(ENTRIES)))
    }
}

impl Throttle {
    /// Whether `address` may try a password at `email` now; refuses with how long to wait. The try
    /// counts as failed until it succeeds, so that tries made at once do not pass together.
    pub(super) fn admit_login(&self, email: &str, address: Option<IpAddr>) -> Result<(), Refusal> {
        let pair = Key::AccountFrom(email.to_owned(), address);
        self.check(&pair, PER_ACCOUNT)?;
        if let Some(address) = address {
            self.check(&Key::Address(address), PER_ADDRESS)?;
            self.count(Key::Address(address));
        }
        self.count(pair);
        Ok(())
    }

    /// The password was right: the owner starts afresh.
    pub(super) fn login_succeeded(&self, email: &str, address: Option<IpAddr>) {
        let mut counts = self.counts();
        counts.pop(&Key::AccountFrom(email.to_owned(), address));
        if let Some(count) = address.and_then(|a| counts.get_mut(&Key::Address(a))) {
            count.n = count.n.saturating_sub(1);
        }
    }

    /// Whether `address` may register another account.
    pub(super) fn admit_registration(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        // The machine's own scripts and tests register thousands.
        let Some(address) = address.filter(|a| !a.is_loopback()) else { return Ok(()) };
        let key = Key::Registrations(address);
        self.check(&key, REGISTRATIONS)?;
        self.count(key);
        Ok(())
    }

    fn check(&self, key: &Key, limit: u32) -> Result<(), Refusal> {
        match self.counts().get(key) {
            Some(count) if count.n >= limit && count.since.elapsed() < WINDOW => {
                Err(Refusal::RateLimited(WINDOW.saturating_sub(count.since.elapsed())))
            }
            _ => Ok(()),
        }
    }

    fn count(&self, key: Key) {
        let mut counts = self.counts();
        let fresh = Count { n: 0, since: Instant::now() };
        let count = counts.get_or_insert_mut(key, || fresh);
        if count.since.elapsed() >= WINDOW {
            *count = fresh;
        }
        count.n += 1;
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, LruCache<Key, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attacker_elsewhere_does_not_lock_the_owner_out() {
        let throttle = Throttle::default();
        let (attacker, owner) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..PER_ACCOUNT {
            assert!(throttle.admit_login("a@b.in", Some(attacker)).is_ok());
        }
        assert!(throttle.admit_login("a@b.in", Some(attacker)).is_err());
        assert!(throttle.admit_login("c@d.in", Some(attacker)).is_ok());
        assert!(throttle.admit_login("a@b.in", Some(owner)).is_ok());
    }

    #[test]
    fn one_address_can_not_try_every_account() {
        let throttle = Throttle::default();
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        for n in 0..PER_ADDRESS {
            assert!(throttle.admit_login(&format!("{n}@b.in"), address).is_ok());
        }
        assert!(throttle.admit_login("new@b.in", address).is_err());
    }
}
