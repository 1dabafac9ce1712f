//! What all sockets of one user share: how many there may be, and how many commands a second.
//!
//! A node counts its own. What the other nodes have is asked of a [`ConnectionCount`], so that a
//! user who spreads sockets over nodes gets no more than one who does not.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use uuid::Uuid;

use crate::domain::rate::TokenBucket;

/// How many sockets a user has on the other nodes.
pub trait ConnectionCount: Send + Sync {
    /// One more of `user_id` opened on this node, which makes it `here` of them. The order of calls,
    /// of this and of `closed`, is the order of what they tell. Returns how many there are on all other
    /// nodes, as far as is known. Must answer soon, or with what is known: the socket waits for it.
    fn opened(&self, user_id: Uuid, here: u32) -> BoxFuture<'static, u32>;
    /// One less is open on this node, which has `here` of them left.
    fn closed(&self, user_id: Uuid, here: u32);
    /// `user_id` has spent so many commands on this node. Returns for how long they have none left
    /// over all nodes, as far as is known.
    fn spent(
        &self,
        user_id: Uuid,
        commands: u32,
        limits: UserLimits,
    ) -> BoxFuture<'static, Duration>;
}

/// There is no other node.
pub struct Alone;

impl ConnectionCount for Alone {
    fn opened(&self, _: Uuid, _: u32) -> BoxFuture<'static, u32> {
        ready(0).boxed()
    }

    fn closed(&self, _: Uuid, _: u32) {}

    fn spent(&self, _: Uuid, _: u32, _: UserLimits) -> BoxFuture<'static, Duration> {
        ready(Duration::ZERO).boxed()
    }
}

/// What one user may do.
#[derive(Debug, Clone, Copy)]
pub struct UserLimits {
    /// Sockets at a time, over all nodes.
    pub connections: u32,
    /// Commands per second on average, over all nodes.
    pub per_second: u32,
    /// Commands at once after a pause.
    pub burst: u32,
}

/// Commands that are spent before other nodes are told of them.
const UNTOLD: u32 = 10;

/// The commands that a user's sockets on this node may send between them. Nobody waits for other
/// nodes: they are told afterwards, and when there is nothing left over all of them, this node
/// lets nothing through for a while.
pub struct Allowance {
    limits: UserLimits,
    spending: Arc<Mutex<Spending>>,
    /// Whose it is, and who is told.
    told: Option<(Uuid, Arc<dyn ConnectionCount>)>,
}

struct Spending {
    bucket: TokenBucket,
    untold: u32,
    /// Nothing is left over all nodes until then.
    paused_until: Option<Instant>,
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Allowance {
    /// A full one.
    pub fn new(limits: UserLimits) -> Self {
        let bucket = TokenBucket::full(limits.per_second, limits.burst);
        let spending = Spending { bucket, untold: 0, paused_until: None };
        Self { limits, spending: Arc::new(Mutex::new(spending)), told: None }
    }

    /// A full one of `user_id`, of which `others` are told.
    fn of(user_id: Uuid, limits: UserLimits, others: Arc<dyn ConnectionCount>) -> Self {
        Self { told: Some((user_id, others)), ..Self::new(limits) }
    }

    /// Takes one command at `now`, or refuses with how long to wait.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        let mut spending = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = spending.paused_until {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(left);
            }
            spending.paused_until = None;
        }
        spending.bucket.take(now)?;
        spending.untold += 1;
        if spending.untold < UNTOLD {
            return Ok(());
        }
        let untold = std::mem::take(&mut spending.untold);
        drop(spending);
        if let Some((user_id, others)) = &self.told {
            let wait = others.spent(*user_id, untold, self.limits);
            let spending = self.spending.clone();
            tokio::spawn(async move {
                let wait = wait.await;
                let mut spending = spending.lock().unwrap_or_else(PoisonError::into_inner);
                spending.paused_until = (!wait.is_zero()).then(|| Instant::now() + wait);
            });
        }
        Ok(())
    }

    /// Commands per second on average.
    pub fn per_second(&self) -> u32 {
        self.limits.per_second
    }

    /// Sockets at a time.
    pub fn connections(&self) -> u32 {
        self.limits.connections
    }
}

struct User {
    here: u32,
    allowance: Arc<Allowance>,
}

struct Shared {
    limits: UserLimits,
    users: Mutex<HashMap<Uuid, User>>,
    elsewhere: Arc<dyn ConnectionCount>,
}

/// The users who have sockets on this node. Clones share it.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

impl Connections {
    /// Nobody yet. Memory is bounded by the sockets: a user without one is forgotten.
    pub fn new(limits: UserLimits, elsewhere: Arc<dyn ConnectionCount>) -> Self {
        Self(Arc::new(Shared { limits, users: Mutex::default(), elsewhere }))
    }

    /// One more socket of `user_id`; none when there are as many as one may have. Of several that
    /// come at once for the last place, none may get it, but never more than one.
    pub async fn enter(&self, user_id: Uuid) -> Option<Seat> {
        // The seat is given back when it is dropped, also by a socket that went away meanwhile.
        let (here, elsewhere, seat) = self.sit(user_id)?;
        let elsewhere = elsewhere.await;
        (here.saturating_add(elsewhere) <= self.0.limits.connections).then_some(seat)
    }

    fn sit(&self, user_id: Uuid) -> Option<(u32, BoxFuture<'static, u32>, Seat)> {
        let mut users = self.users();
        let user = users.entry(user_id).or_insert_with(|| User {
            here: 0,
            allowance: Arc::new(Allowance::of(user_id, self.0.limits, self.0.elsewhere.clone())),
        });
        if user.here >= self.0.limits.connections {
            return None;
        }
        user.here += 1;
        let allowance = user.allowance.clone();
        let here = user.here;
        // Told under the lock, so that what is told last is what there is.
        let elsewhere = self.0.elsewhere.opened(user_id, here);
        Some((here, elsewhere, Seat { user_id, allowance, connections: self.clone() }))
    }

    /// Lets `tell` say how many sockets `user_id` has on this node, in one order with what is said
    /// when they open and close. It must not wait.
    pub fn tell<T>(&self, user_id: Uuid, tell: impl FnOnce(u32) -> T) -> T {
        let users = self.users();
        tell(users.get(&user_id).map_or(0, |user| user.here))
    }

    fn stand_up(&self, user_id: Uuid) {
        let mut users = self.users();
        let Some(user) = users.get_mut(&user_id) else { return };
        user.here = user.here.saturating_sub(1);
        let here = user.here;
        if here == 0 {
            users.remove(&user_id);
        }
        self.0.elsewhere.closed(user_id, here);
    }

    fn users(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, User>> {
        self.0.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket's place among its user's; dropped, it is free again.
pub struct Seat {
    user_id: Uuid,
    allowance: Arc<Allowance>,
    connections: Connections,
}

impl Seat {
    /// What the user's sockets share.
    pub fn allowance(&self) -> Arc<Allowance> {
        self.allowance.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.stand_up(self.user_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: UserLimits = UserLimits { connections: 2, per_second: 1, burst: 3 };

    /// So many on other nodes.
    struct Elsewhere(u32);

    impl ConnectionCount for Elsewhere {
        fn opened(&self, _: Uuid, _: u32) -> BoxFuture<'static, u32> {
            ready(self.0).boxed()
        }

        fn closed(&self, _: Uuid, _: u32) {}

        fn spent(&self, _: Uuid, _: u32, _: UserLimits) -> BoxFuture<'static, Duration> {
            ready(Duration::ZERO).boxed()
        }
    }

    fn enter(connections: &Connections, user: u128) -> Option<Seat> {
        connections.enter(Uuid::from_u128(user)).now_or_never().unwrap()
    }

    #[test]
    fn a_user_has_so_many_sockets_and_those_that_close_make_room() {
        let connections = Connections::new(LIMITS, Arc::new(Alone));
        let first = enter(&connections, 1).unwrap();
        let _second = enter(&connections, 1).unwrap();
        assert!(enter(&connections, 1).is_none());
        let other = enter(&connections, 2).unwrap();
        drop(first);
        assert!(enter(&connections, 1).is_some());
        drop(other);
        assert_eq!(connections.users().len(), 1, "who has none is forgotten");
    }

    #[test]
    fn those_of_other_nodes_count() {
        let connections = Connections::new(LIMITS, Arc::new(Elsewhere(1)));
        let _first = enter(&connections, 1).unwrap();
        assert!(enter(&connections, 1).is_none());
        assert_eq!(connections.users().values().map(|u| u.here).sum::<u32>(), 1);
    }

    #[test]
    fn the_sockets_of_a_user_share_one_allowance() {
        let connections = Connections::new(LIMITS, Arc::new(Alone));
        let (a, b) = (enter(&connections, 1).unwrap(), enter(&connections, 1).unwrap());
        for seat in [&a, &b, &a] {
            assert_eq!(seat.allowance().take(Duration::ZERO), Ok(()));
        }
        assert_eq!(b.allowance().take(Duration::ZERO), Err(Duration::from_secs(1)));
        let other = enter(&connections, 2).unwrap();
        assert_eq!(other.allowance().take(Duration::ZERO), Ok(()));
    }
}
