//! Which events tell a state, so that of two only the newer one matters.
//!
//! An event that is not named here and has no `seq` only matters at its moment, like typing.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::outbox::{MergeKey, State};
use crate::domain::channel::Channel;

/// What `event` tells the state of; `None` when a later event does not make it needless.
pub(super) fn key(channel: Channel, event: &str, data: &Value) -> Option<MergeKey> {
    let id = |field| data.get(field)?.as_str().and_then(|id| Uuid::try_parse(id).ok());
    let (what, of) = match event {
        "user:online" | "user:away" | "user:offline" => (State::Presence, id("userId")),
        "message:delivered" => (State::Delivered, id("userId")),
        "message:read" => (State::Read, id("userId")),
        // Two kinds of news share the name: where the conversation is, and how far the user has
        // read.
        "conversation:updated" if data.get("lastSeq").is_some() => {
            (State::Head, id("conversationId"))
        }
        "conversation:updated" if data.get("readSeq").is_some() => {
            (State::Unread, id("conversationId"))
        }
        _ => return None,
    };
    Some(MergeKey { channel, what, of: of? })
}

/// The same for an event as sockets get it.
pub(super) fn key_in(channel: Channel, text: &str) -> Option<MergeKey> {
    #[derive(Deserialize)]
    struct Told {
        event: String,
        data: Value,
    }
    let told: Told = serde_json::from_str(text).ok()?;
    key(channel, &told.event, &told.data)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actors::protocol;

    #[test]
    fn states_are_told_apart_by_whose_they_are() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let channel = Channel::Conversation(a);
        let read = key(channel, "message:read", &json!({ "userId": a })).unwrap();
        assert_eq!(key(channel, "message:read", &json!({ "userId": a, "upTo": 9 })), Some(read));
        assert_ne!(key(channel, "message:read", &json!({ "userId": b })), Some(read));
        assert_ne!(key(channel, "message:delivered", &json!({ "userId": a })), Some(read));
        assert_eq!(key(channel, "typing:start", &json!({ "userId": a })), None);
        let online = key(Channel::Presence(b), "user:online", &json!({ "userId": b }));
        assert!(online.is_some());
        assert_eq!(online, key(Channel::Presence(b), "user:offline", &json!({ "userId": b })));
    }

    #[test]
    fn an_event_of_another_node_has_the_same_key() {
        let channel = Channel::User(Uuid::from_u128(1));
        let data = json!({ "conversationId": Uuid::from_u128(2), "lastSeq": 3 });
        let text = protocol::event("conversation:updated", channel, None, "now", &data);
        let known = key(channel, "conversation:updated", &data);
        assert!(known.is_some());
        assert_eq!(key_in(channel, &text), known);
    }
}
