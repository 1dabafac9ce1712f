//! How nodes tell each other that something happened.
//!
//! PostgreSQL is the truth for everything durable; the bus only makes it quick. A lost message
//! costs the time until the next one (or the client's next `ping`), never data.

mod redis;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::channel::Channel;

pub use self::redis::{RedisBus, RedisFault};

/// What one node tells the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Envelope {
    /// An event of a channel; `text` is the event as sockets get it.
    Event {
        /// The channel.
        channel: Channel,
        /// Its seq, if it is durable.
        seq: Option<i64>,
        /// The JSON.
        text: String,
    },
    /// Close the sockets of these sessions.
    Revoke {
        /// Whose sessions.
        user_id: Uuid,
        /// Which.
        sessions: Vec<Uuid>,
    },
}

/// The bus of this node.
#[derive(Clone)]
pub enum Bus {
    /// There is no other node: what is published here is heard here, by the fan-out itself.
    InProcess,
    /// Redis pub/sub.
    Redis(RedisBus),
}

impl Bus {
    /// `none` with a single node, else `connected` or `lost`.
    pub fn state(&self) -> &'static str {
        match self {
            Self::InProcess => "none",
            Self::Redis(bus) if bus.is_listening() => "connected",
            Self::Redis(_) => "lost",
        }
    }

    /// Tells the other nodes, without waiting. At the limit of what may wait it is dropped.
    pub fn publish(&self, envelope: &Envelope) {
        match self {
            Self::InProcess => {}
            Self::Redis(bus) => bus.publish(envelope),
        }
    }
}

/// The form on the wire between nodes.
#[derive(Serialize, Deserialize)]
struct Wire {
    /// The node that sent it, which need not hear it again.
    node: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sessions: Vec<Uuid>,
}

fn encode(node: Uuid, envelope: &Envelope) -> Option<Vec<u8>> {
    let wire = match envelope {
        Envelope::Event { channel, seq, text } => Wire {
            node,
            channel: Some(channel.to_string()),
            seq: *seq,
            text: Some(text.clone()),
            user_id: None,
            sessions: Vec::new(),
        },
        Envelope::Revoke { user_id, sessions } => Wire {
            node,
            channel: None,
            seq: None,
            text: None,
            user_id: Some(*user_id),
            sessions: sessions.clone(),
        },
    };
    serde_json::to_vec(&wire).ok()
}

/// Reads a message; `None` for our own and for what a newer version may have sent.
fn decode(own: Uuid, bytes: &[u8]) -> Option<Envelope> {
    let wire: Wire = serde_json::from_slice(bytes).ok()?;
    if wire.node == own {
        return None;
    }
    if let Some(user_id) = wire.user_id {
        return Some(Envelope::Revoke { user_id, sessions: wire.sessions });
    }
    let channel = wire.channel?.parse().ok()?;
    Some(Envelope::Event { channel, seq: wire.seq, text: wire.text? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_read_back_on_other_nodes_only() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for envelope in [
            Envelope::Event { channel: Channel::Calendar(a), seq: Some(3), text: "{}".to_owned() },
            Envelope::Revoke { user_id: a, sessions: vec![b] },
        ] {
            let bytes = encode(a, &envelope).unwrap();
            assert_eq!(decode(b, &bytes), Some(envelope));
            assert_eq!(decode(a, &bytes), None);
        }
        assert_eq!(decode(a, b"nonsense"), None);
    }
}
