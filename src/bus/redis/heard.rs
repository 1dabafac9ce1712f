//! Whether anything of another node was missed.
//!
//! A node numbers what it tells, per topic, also what it had to drop, and says its last number
//! every second. So whoever listens knows at the next message, or after a second, that one is
//! missing, whatever lost it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::TOPICS;

/// Nodes that were not heard for so long are forgotten; should they come back, that is a gap.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Nodes that are remembered. Beyond it all are forgotten, which costs a round of catching up.
const NODES: usize = 1_000;

/// The last number of each node and topic.
#[derive(Default)]
pub(super) struct Heard(HashMap<Uuid, Node>);

struct Node {
    last: [u64; TOPICS],
    at: Instant,
}

impl Heard {
    /// `node` says in `topic` that `before` messages went before this one, and with it `until`.
    /// True when one of those before was not heard.
    pub(super) fn hear(
        &mut self,
        node: Uuid,
        topic: usize,
        (before, until): (u64, u64),
        now: Instant,
    ) -> bool {
        if !self.0.contains_key(&node) {
            self.0.retain(|_, node| now.duration_since(node.at) < FORGOTTEN);
            if self.0.len() >= NODES {
                self.0.clear();
            }
        }
        let known = self.0.entry(node).or_insert(Node { last: [0; TOPICS], at: now });
        known.at = now;
        let Some(last) = known.last.get_mut(topic) else { return false };
        let missed = before > *last;
        *last = until.max(*last);
        missed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of messages that were lost anywhere, the listener learns by the next one that comes, or
        /// by the beat; without a loss it never catches up.
        #[test]
        fn a_loss_is_noticed_and_nothing_else(
            fates in proptest::collection::vec((0usize..3, any::<bool>(), any::<bool>()), 0..100),
        ) {
            let (node, now) = (Uuid::from_u128(1), Instant::now());
            let mut heard = Heard::default();
            let mut sent = [0u64; 3];
            let mut lost = [false; 3];
            for (topic, arrives, is_beat) in fates {
                if !is_beat {
                    sent[topic] += 1;
                }
                if !arrives {
                    lost[topic] |= !is_beat;
                    continue;
                }
                let before = if is_beat { sent[topic] } else { sent[topic] - 1 };
                let missed = heard.hear(node, topic, (before, sent[topic]), now);
                prop_assert_eq!(missed, lost[topic]);
                lost[topic] = false;
            }
        }
    }

    #[test]
    fn a_node_that_was_away_has_a_gap() {
        let (node, now) = (Uuid::from_u128(1), Instant::now());
        let mut heard = Heard::default();
        assert!(!heard.hear(node, 0, (0, 1), now));
        assert!(!heard.hear(Uuid::from_u128(2), 0, (0, 1), now + FORGOTTEN));
        assert!(heard.hear(node, 0, (1, 2), now + FORGOTTEN), "who knows what it said meanwhile");
    }
}
