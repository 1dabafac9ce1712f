//! How nodes tell each other that something happened, and what they know together.
//!
//! PostgreSQL is the truth for everything durable; the bus only makes it quick. A lost message
//! costs the time until the next one (or the next beat of its node), never data.

mod redis;
mod wire;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::channel::Channel;
use crate::domain::presence::View;

pub use self::redis::{Away, Members, RedisBus, RedisFault, Seen, Told};

/// What one node tells the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Envelope {
    /// An event of a channel; `text` is the event as sockets get it.
    Event {
        /// The channel.
        #[serde(with = "named")]
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
    /// A channel is not this user's any more.
    Expel {
        /// The channel.
        #[serde(with = "named")]
        channel: Channel,
        /// Who followed it.
        user_id: Uuid,
    },
    /// A member of a conversation has read more of it.
    Read {
        /// The conversation.
        conversation_id: Uuid,
        /// Who.
        user_id: Uuid,
        /// Up to there.
        seq: i64,
    },
    /// A password was tried.
    Login {
        /// At which account, if it is one.
        email: String,
        /// From where.
        address: Option<IpAddr>,
        /// Whether it was wrong; if not, the account's count starts afresh.
        failed: bool,
    },
    /// Over all nodes a user is seen as this from now on.
    Presence {
        /// Who.
        user_id: Uuid,
        /// Greater than that of every earlier change of this user.
        version: i64,
        /// What others may see.
        view: View,
    },
}

impl Envelope {
    /// What it is about, which decides the topic: about one thing everything comes in order.
    fn about(&self) -> Uuid {
        match self {
            Self::Event { channel, .. } | Self::Expel { channel, .. } => channel.id(),
            Self::Read { conversation_id, .. } => *conversation_id,
            // Any that is always the same: tries at one account come in order.
            Self::Login { email, .. } => Uuid::from_u128(email.bytes().map(u128::from).sum()),
            Self::Revoke { user_id, .. } | Self::Presence { user_id, .. } => *user_id,
        }
    }
}

/// What comes from other nodes.
#[derive(Debug)]
pub enum Incoming {
    /// Another node told this.
    Told(Envelope),
    /// Something that another node told may not have come: read what there is.
    Missed,
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

    /// What all nodes know of their users together; none with a single node.
    pub fn members(&self) -> Option<Members> {
        match self {
            Self::InProcess => None,
            Self::Redis(bus) => Some(bus.members()),
        }
    }
}

/// Channels by their names.
mod named {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::domain::channel::Channel;

    pub(super) fn serialize<S: Serializer>(channel: &Channel, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(channel)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Channel, D::Error> {
        let name = String::deserialize(d)?;
        name.parse().map_err(|_| de::Error::custom("not a channel"))
    }
}
