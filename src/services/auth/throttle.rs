//! Slows down guessing without locking out the owner of an account.
//!
//! Failures count per account *and* address together, and per address over all accounts. An
//! attacker somewhere else therefore never uses up the owner's attempts. A try that is under way
//! is no failure yet, but takes the place of one: it waits while so many are under way that their
//! failing would use up what is left, so that a thousand guesses at once are no more than a few.
//! Kept in memory, bounded: the least recently used entry makes room. Nodes tell each other of tries
//! that ended; what the bus loses, or a restart, is forgotten.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio::sync::Notify;

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
/// Tries that may wait for others to end; further ones are sent away.
const WAITING: u32 = 1_000;
/// How long one waits before it is sent away.
const PATIENCE: Duration = Duration::from_secs(5);
/// When one that was sent away may come again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(PartialEq, Eq, Hash, Clone)]
enum Key {
    AccountFrom(String, Option<IpAddr>),
    Address(IpAddr),
    Registrations(IpAddr),
}

#[derive(Clone, Copy)]
struct Count {
    failed: u32,
    /// When the first of them failed.
    since: Instant,
    under_way: u32,
}

impl Count {
    fn new() -> Self {
        Self { failed: 0, since: Instant::now(), under_way: 0 }
    }

    fn fail(&mut self) {
        if self.failed == 0 || self.since.elapsed() >= WINDOW {
            (self.failed, self.since) = (0, Instant::now());
        }
        self.failed += 1;
    }
}

/// Whether there is room for one more.
enum Room {
    Yes,
    /// Once a try that is under way turns out well.
    Perhaps,
    /// Not before this has passed.
    After(Duration),
}

struct Counts {
    entries: LruCache<Key, Count>,
    waiting: u32,
}

impl Counts {
    fn room(&mut self, key: &Key, limit: u32) -> Room {
        let Some(count) = self.entries.get(key) else { return Room::Yes };
        let left = WINDOW.saturating_sub(count.since.elapsed());
        let failed = if left.is_zero() { 0 } else { count.failed };
        match (failed >= limit, failed.saturating_add(count.under_way) >= limit) {
            (true, _) => Room::After(left),
            (false, true) => Room::Perhaps,
            (false, false) => Room::Yes,
        }
    }

    fn entry(&mut self, key: &Key) -> &mut Count {
        self.entries.get_or_insert_mut(key.clone(), Count::new)
    }
}

/// The counters.
pub(super) struct Throttle {
    counts: Mutex<Counts>,
    /// A try has ended.
    ended: Notify,
    patience: Duration,
}

impl Default for Throttle {
    fn default() -> Self {
        let counts = Counts { entries: LruCache::new(ENTRIES), waiting: 0 };
        Self { counts: Mutex::new(counts), ended: Notify::new(), patience: PATIENCE }
    }
}

/// What a try counts against, with the limits.
fn keys_of(email: &str, address: Option<IpAddr>) -> Vec<(Key, u32)> {
    let mut keys = vec![(Key::AccountFrom(email.to_owned(), address), PER_ACCOUNT)];
    keys.extend(address.map(|address| (Key::Address(address), PER_ADDRESS)));
    keys
}

/// A password that is being tried. Dropped with nothing said, it counts as never made: the hub was
/// too busy to look, or the client hung up and learns nothing.
pub(super) struct Try<'a> {
    throttle: &'a Throttle,
    /// What it counts against.
    keys: Vec<(Key, u32)>,
}

impl Try<'_> {
    /// The password was right: the owner starts afresh. True when there is something to forget.
    pub(super) fn succeeded(self) -> bool {
        self.throttle.forget(&self.keys)
    }

    /// The password was wrong.
    pub(super) fn failed(self) {
        self.throttle.fail(&self.keys);
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut counts = self.throttle.counts();
        for (key, _) in &self.keys {
            // Gone when a hundred thousand others came in between.
            if let Some(count) = counts.entries.get_mut(key) {
                count.under_way = count.under_way.saturating_sub(1);
            }
        }
        drop(counts);
        self.throttle.ended.notify_waiters();
    }
}

/// One that waits; counted for as long as it does.
struct Waiting<'a>(&'a Throttle);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts().waiting -= 1;
    }
}

impl Throttle {
    /// Lets `address` try a password at `email`, at once or when tries under way have ended well.
    /// Refuses with how long to wait.
    pub(super) async fn admit_login(
        &self,
        email: &str,
        address: Option<IpAddr>,
    ) -> Result<Try<'_>, Refusal> {
        let keys = keys_of(email, address);
        let deadline = tokio::time::Instant::now() + self.patience;
        let mut waiting = None;
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Before the look, so that what ends in between is not missed.
            ended.as_mut().enable();
            if self.take_place(&keys)? {
                return Ok(Try { throttle: self, keys });
            }
            if waiting.is_none() {
                waiting = Some(self.queue()?);
            }
            let in_time = tokio::time::timeout_at(deadline, ended).await;
            in_time.map_err(|_| Refusal::RateLimited(AGAIN))?;
        }
    }

    /// A try at another node has ended; counts as one here.
    pub(super) fn ended_elsewhere(&self, email: &str, address: Option<IpAddr>, failed: bool) {
        let keys = keys_of(email, address);
        if failed {
            self.fail(&keys);
        } else {
            self.forget(&keys);
        }
    }

    fn fail(&self, keys: &[(Key, u32)]) {
        let mut counts = self.counts();
        for (key, _) in keys {
            counts.entry(key).fail();
        }
    }

    fn forget(&self, keys: &[(Key, u32)]) -> bool {
        let mut counts = self.counts();
        let accounts = keys.iter().filter(|(key, _)| matches!(key, Key::AccountFrom(..)));
        accounts.fold(false, |any, (key, _)| {
            let failed = std::mem::take(&mut counts.entry(key).failed);
            any || failed > 0
        })
    }

    /// Counts a try against `keys`; false while others under way have to end first.
    fn take_place(&self, keys: &[(Key, u32)]) -> Result<bool, Refusal> {
        let mut counts = self.counts();
        for (key, limit) in keys {
            match counts.room(key, *limit) {
                Room::Yes => {}
                Room::Perhaps => return Ok(false),
                Room::After(wait) => return Err(Refusal::RateLimited(wait)),
            }
        }
        for (key, _) in keys {
            counts.entry(key).under_way += 1;
        }
        Ok(true)
    }

    fn queue(&self) -> Result<Waiting<'_>, Refusal> {
        let mut counts = self.counts();
        if counts.waiting >= WAITING {
            return Err(Refusal::RateLimited(AGAIN));
        }
        counts.waiting += 1;
        Ok(Waiting(self))
    }

    /// Whether `address` may register another account.
    pub(super) fn admit_registration(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        // The machine's own scripts and tests register thousands.
        let Some(address) = address.filter(|a| !a.is_loopback()) else { return Ok(()) };
        let key = Key::Registrations(address);
        let mut counts = self.counts();
        if let Room::After(wait) = counts.room(&key, REGISTRATIONS) {
            return Err(Refusal::RateLimited(wait));
        }
        counts.entry(&key).fail();
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const ATTACKER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const OWNER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    #[tokio::test]
    async fn an_attacker_elsewhere_does_not_lock_the_owner_out() {
        let throttle = Throttle::default();
        for _ in 0..PER_ACCOUNT {
            throttle.admit_login("a@b.in", ATTACKER).await.unwrap().failed();
        }
        assert!(throttle.admit_login("a@b.in", ATTACKER).await.is_err());
        assert!(throttle.admit_login("c@d.in", ATTACKER).await.is_ok());
        assert!(throttle.admit_login("a@b.in", OWNER).await.is_ok());
    }

    #[tokio::test]
    async fn one_address_can_not_try_every_account() {
        let throttle = Throttle::default();
        for n in 0..PER_ADDRESS {
            throttle.admit_login(&format!("{n}@b.in"), ATTACKER).await.unwrap().failed();
        }
        assert!(throttle.admit_login("new@b.in", ATTACKER).await.is_err());
    }

    #[tokio::test]
    async fn what_came_to_nothing_counts_for_nothing() {
        let throttle = Throttle::default();
        for n in 0..2 * PER_ADDRESS {
            drop(throttle.admit_login("a@b.in", ATTACKER).await.unwrap());
            drop(throttle.admit_login(&format!("{n}@b.in"), ATTACKER).await.unwrap());
        }
        assert!(throttle.counts().entries.iter().all(|(_, c)| c.failed == 0 && c.under_way == 0));
    }

    #[tokio::test]
    async fn right_passwords_at_once_wait_for_each_other() {
        let throttle = Throttle::default();
        let log_in = async || {
            let admitted = throttle.admit_login("a@b.in", OWNER).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            admitted.map(Try::succeeded).is_ok()
        };
        let admitted = join_all((0..40).map(|_| log_in())).await;
        assert_eq!(admitted.iter().filter(|ok| **ok).count(), 40);
    }

    #[tokio::test]
    async fn a_try_that_waits_too_long_may_come_again_soon() {
        let throttle = Throttle { patience: Duration::from_millis(20), ..Throttle::default() };
        let mut slow = Vec::new();
        for _ in 0..PER_ACCOUNT {
            slow.push(throttle.admit_login("a@b.in", OWNER).await.unwrap());
        }
        let refused = throttle.admit_login("a@b.in", OWNER).await.err();
        assert_eq!(refused, Some(Refusal::RateLimited(AGAIN)));
        slow.clear();
        assert!(throttle.admit_login("a@b.in", OWNER).await.is_ok());
        assert_eq!(throttle.counts().waiting, 0);
    }

    #[tokio::test]
    async fn a_thousand_guesses_at_once_are_no_more_than_a_few() {
        let throttle = Throttle::default();
        let guess = async |email: String| {
            let admitted = throttle.admit_login(&email, ATTACKER).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            admitted.map(Try::failed).is_ok()
        };
        for (emails, limit) in [(1, PER_ACCOUNT), (1_000, PER_ADDRESS)] {
            let guesses = (0..1_000).map(|n| guess(format!("{}@{emails}.in", n % emails)));
            let made = join_all(guesses).await.into_iter().filter(|made| *made).count();
            let before = if emails == 1 { 0 } else { PER_ACCOUNT };
            assert_eq!(u32::try_from(made).unwrap(), limit - before);
        }
    }
}
