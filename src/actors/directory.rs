//! Finds the actor of a thing, or starts it.
//!
//! Actors of one kind are spread over the hub's actor threads. An actor that was idle stops itself
//! and one that panicked is gone; the next caller gets a new one, rebuilt from PostgreSQL.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, ArbiterHandle, Context};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Actors of one kind that may be alive at once.
const MAX_ALIVE: usize = 50_000;
/// Messages of one kind that may be on their way at once; more are `overloaded`.
const MAX_IN_FLIGHT: usize = 8_192;
/// How often to look for actors that stopped.
const PRUNE_EVERY: usize = 1_024;

type Starter<K, A> = Arc<dyn Fn(K, &mut Context<A>) -> A + Send + Sync>;

/// The actors of one kind, by key.
pub struct Directory<K, A: Actor<Context = Context<A>>> {
    alive: Arc<Mutex<HashMap<K, Addr<A>>>>,
    threads: Arc<[ArbiterHandle]>,
    next: Arc<AtomicUsize>,
    in_flight: Arc<Semaphore>,
    start: Starter<K, A>,
}

impl<K, A: Actor<Context = Context<A>>> Clone for Directory<K, A> {
    fn clone(&self) -> Self {
        Self {
            alive: self.alive.clone(),
            threads: self.threads.clone(),
            next: self.next.clone(),
            in_flight: self.in_flight.clone(),
            start: self.start.clone(),
        }
    }
}

impl<K, A> Directory<K, A>
where
    K: Copy + Eq + Hash + Send + 'static,
    A: Actor<Context = Context<A>> + Send,
{
    /// A directory over `threads` (at least one) whose actors are made by `start`.
    pub fn new(
        threads: Arc<[ArbiterHandle]>,
        start: impl Fn(K, &mut Context<A>) -> A + Send + Sync + 'static,
    ) -> Self {
        Self {
            alive: Arc::default(),
            threads,
            next: Arc::default(),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            start: Arc::new(start),
        }
    }

    /// A permit to send one message; `overloaded` when too many are on their way.
    pub fn permit(&self) -> Result<OwnedSemaphorePermit> {
        self.in_flight.clone().try_acquire_owned().map_err(|_| Error::overloaded())
    }

    /// The actor of `key`, if it is alive.
    pub fn find(&self, key: K) -> Option<Addr<A>> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.get(&key).filter(|addr| addr.connected()).cloned()
    }

    /// All that are alive.
    pub fn all(&self) -> Vec<Addr<A>> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.values().filter(|addr| addr.connected()).cloned().collect()
    }

    /// The actor of `key`, started if it is not alive.
    pub fn find_or_start(&self, key: K) -> Result<Addr<A>> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addr) = alive.get(&key).filter(|addr| addr.connected()) {
            return Ok(addr.clone());
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(PRUNE_EVERY) || alive.len() >= MAX_ALIVE {
            alive.retain(|_, addr| addr.connected());
        }
        if alive.len() >= MAX_ALIVE {
            return Err(Error::overloaded());
        }
        let thread = self
            .threads
            .get(turn % self.threads.len().max(1))
            .ok_or_else(|| Error::Fault("no actor thread".to_owned()))?;
        let start = self.start.clone();
        let addr = A::start_in_arbiter(thread, move |ctx| start(key, ctx));
        alive.insert(key, addr.clone());
        Ok(addr)
    }
}
