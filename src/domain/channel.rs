//! Names of the channels that sockets follow.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A channel of the WebSocket contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Everything about one user, for that user alone: bookings, notifications, inbox heads.
    User(Uuid),
    /// The messages of one conversation, for its members.
    Conversation(Uuid),
    /// What is busy in one practitioner's calendar, for everybody.
    Calendar(Uuid),
    /// Whether one user is online, for those who share a conversation or a booking with them.
    Presence(Uuid),
}

impl Channel {
    /// Of what it is the channel.
    pub fn id(self) -> Uuid {
        match self {
            Self::User(id) | Self::Conversation(id) | Self::Calendar(id) | Self::Presence(id) => id,
        }
    }

    /// Whether its events are kept and carry a `seq`.
    pub fn is_durable(self) -> bool {
        match self {
            Self::User(_) | Self::Conversation(_) | Self::Calendar(_) => true,
            Self::Presence(_) => false,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Conversation(id) => write!(f, "conversation:{id}"),
            Self::Calendar(id) => write!(f, "calendar:{id}"),
            Self::Presence(id) => write!(f, "presence:{id}"),
        }
    }
}

/// The text is no channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAChannel;

impl FromStr for Channel {
    type Err = NotAChannel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').ok_or(NotAChannel)?;
        let id = Uuid::try_parse(id).map_err(|_| NotAChannel)?;
        match kind {
            "user" => Ok(Self::User(id)),
            "conversation" => Ok(Self::Conversation(id)),
            "calendar" => Ok(Self::Calendar(id)),
            "presence" => Ok(Self::Presence(id)),
            _ => Err(NotAChannel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let id = Uuid::from_u128(7);
        for channel in [
            Channel::User(id),
            Channel::Conversation(id),
            Channel::Calendar(id),
            Channel::Presence(id),
        ] {
            assert_eq!(channel.to_string().parse(), Ok(channel));
        }
        assert_eq!("room:x".parse::<Channel>(), Err(NotAChannel));
        assert_eq!(format!("room:{id}").parse::<Channel>(), Err(NotAChannel));
    }
}
