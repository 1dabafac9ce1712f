//! What a watcher of a calendar knows: a snapshot, and the deltas after it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

/// A change of an event, or a span of a snapshot.
#[derive(Debug, Deserialize)]
pub struct Span {
    start: Timestamp,
    end: Timestamp,
    state: Option<String>,
}

/// A calendar's snapshot, as `subscribe` answers it.
#[derive(Debug, Deserialize)]
pub struct Snapshot {
    from: Timestamp,
    until: Timestamp,
    busy: Vec<Span>,
}

/// The busy minutes, as a set: no notion of intervals to be wrong about.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Busy(BTreeSet<i64>);

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

impl Busy {
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut busy = Self::default();
        busy.apply(&snapshot.busy);
        busy
    }

    /// Applies changes in their order; a span without a state is busy.
    pub fn apply(&mut self, changes: &[Span]) {
        for change in changes {
            let minutes = minute(change.start)..minute(change.end);
            if change.state.as_deref() == Some("free") {
                minutes.for_each(|m| _ = self.0.remove(&m));
            } else {
                self.0.extend(minutes);
            }
        }
    }

    /// The minutes in which a watcher that knows `self` is wrong, inside what `fresh` tells of.
    pub fn differs_from(&self, fresh: &Snapshot) -> Vec<i64> {
        // What began before the snapshot is told from its beginning on.
        let window = minute(fresh.from) + 1..minute(fresh.until);
        let other = Self::of(fresh);
        let differing = self.0.symmetric_difference(&other.0);
        differing.copied().filter(|m| window.contains(m)).collect()
    }
}
