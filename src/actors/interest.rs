//! Which channels a worker's sockets follow, as other threads may ask: an event that nobody follows
//! needs neither a frame nor a message to the worker.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::channel::Channel;

/// The channels that one board has followers of. Clones share them.
///
/// A board notes a channel before the first follower reads its head. So whoever commits and then
/// finds the channel missing here has committed before that read, which sees the event.
#[derive(Debug, Clone, Default)]
pub struct Interest(Arc<RwLock<HashSet<Channel>>>);

impl Interest {
    /// Whether somebody follows `channel`.
    pub fn has(&self, channel: Channel) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&channel)
    }

    /// The first follower of `channel` is there.
    pub(super) fn begin(&self, channel: Channel) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(channel);
    }

    /// The last follower of `channel` is gone.
    pub(super) fn end(&self, channel: Channel) {
        let mut channels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        channels.remove(&channel);
        // What a storm of sockets left behind.
        if channels.capacity() > 1_024 && channels.len() * 8 < channels.capacity() {
            channels.shrink_to_fit();
        }
    }
}
