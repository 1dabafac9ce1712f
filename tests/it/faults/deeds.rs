//! What a device does to conversations: new messages, and changes of those that it knows.
//!
//! A change whose answer was lost is sent again, and the first one may be carried out after the
//! second. That is harmless as long as no further change of the same message follows, so there is
//! none.

use std::collections::HashSet;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::history::Channel;

/// As many different ones as everybody may give to one message, and few enough to meet.
const EMOJIS: [&str; 3] = ["👍", "🙏", "🎉"];
/// The messages that people mostly look at.
const NEWEST: usize = 20;

/// Something to be done, until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Send { text: String },
    Edit { message: Uuid, text: String },
    Delete { message: Uuid },
    React { message: Uuid, emoji: &'static str, give: bool },
}

impl Deed {
    pub fn op(&self) -> &'static str {
        match self {
            Self::Send { .. } => "message:send",
            Self::Edit { .. } => "message:edit",
            Self::Delete { .. } => "message:delete",
            Self::React { .. } => "message:react",
        }
    }

    /// The data of the command. `key` is the client id of a new message.
    pub fn data(&self, channel: &str, key: Uuid) -> Value {
        let mut data = match self {
            Self::Send { text } => json!({ "clientId": key, "content": text }),
            Self::Edit { message, text } => json!({ "messageId": message, "content": text }),
            Self::Delete { message } => json!({ "messageId": message }),
            Self::React { message, emoji, give } => {
                json!({ "messageId": message, "emoji": emoji, "remove": !give })
            }
        };
        data["conversationId"] = channel.strip_prefix("conversation:").unwrap().into();
        data
    }

    /// The message that is to change.
    pub fn changes(&self) -> Option<Uuid> {
        match self {
            Self::Send { .. } => None,
            Self::Edit { message, .. } | Self::Delete { message } | Self::React { message, .. } => {
                Some(*message)
            }
        }
    }
}

/// The messages that a device knows and may still change.
#[derive(Default)]
pub struct Memory {
    own: Vec<(Channel, Uuid)>,
    seen: Vec<(Channel, Uuid)>,
    /// Not to be changed any more.
    left: HashSet<Uuid>,
    given: HashSet<(Uuid, &'static str)>,
    edits: usize,
}

impl Memory {
    /// The device wrote a message.
    pub fn wrote(&mut self, channel: &Channel, id: Uuid) {
        self.own.push((channel.clone(), id));
    }

    /// It was told of a new one, its own or another's.
    pub fn saw(&mut self, channel: &Channel, id: Uuid) {
        self.seen.push((channel.clone(), id));
    }

    /// It makes no further change of this one.
    pub fn leave(&mut self, id: Uuid) {
        self.left.insert(id);
    }

    /// A change of one that it knows; none when the chosen one is left alone, or is `busy`.
    pub fn think(
        &mut self,
        name: &str,
        rng: &mut StdRng,
        busy: impl Fn(Uuid) -> bool,
    ) -> Option<(Channel, Deed)> {
        let dice = rng.random_range(0..10);
        let from = if dice < 5 { &self.seen } else { &self.own };
        let newest = if rng.random_bool(0.7) { NEWEST } else { from.len() };
        let oldest = from.len().saturating_sub(newest);
        if from.is_empty() {
            return None;
        }
        let (channel, message) = from[rng.random_range(oldest..from.len())].clone();
        if self.left.contains(&message) || busy(message) {
            return None;
        }
        let deed = match dice {
            0..5 => {
                let emoji = EMOJIS[rng.random_range(0..EMOJIS.len())];
                let give = self.given.insert((message, emoji));
                if !give {
                    self.given.remove(&(message, emoji));
                }
                Deed::React { message, emoji, give }
            }
            5..9 => {
                self.edits += 1;
                Deed::Edit { message, text: format!("{name}, edit {}", self.edits) }
            }
            _ => {
                self.leave(message);
                Deed::Delete { message }
            }
        };
        Some((channel, deed))
    }
}
