//! What may become of events without `seq` when a socket is slow.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::outbox::{Kind, MergeKey, State};
use crate::domain::channel::Channel;

/// Whether `event` matters at its moment only, tells a state of which the newest is enough, or has to
/// arrive.
pub(super) fn kind(channel: Channel, event: &str, data: &Value) -> Kind {
    match (event, key(channel, event, data)) {
        (_, Some(key)) => Kind::Newest(key),
        ("typing:start" | "typing:stop", None) => Kind::Fleeting,
        (_, None) => Kind::Kept,
    }
}

/// What `event` tells the state of; `None` when a later event does not make it needless.
fn key(channel: Channel, event: &str, data: &Value) -> Option<MergeKey> {
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
pub(super) fn kind_in(channel: Channel, text: &str) -> Kind {
    #[derive(Deserialize)]
    struct Told {
        event: String,
        data: Value,
    }
    serde_json::from_str(text)
        .map_or(Kind::Kept, |Told { event, data }| kind(channel, &event, &data))
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
        assert_eq!(kind(channel, "typing:start", &json!({ "userId": a })), Kind::Fleeting);
        let left = json!({ "conversationId": a, "left": true });
        assert_eq!(kind(Channel::User(b), "conversation:updated", &left), Kind::Kept);
        let read = json!({ "notificationIds": [a], "unread": 0 });
        assert_eq!(kind(Channel::User(b), "notification:read", &read), Kind::Kept);
        let online = key(Channel::Presence(b), "user:online", &json!({ "userId": b }));
        assert!(online.is_some());
        assert_eq!(online, key(Channel::Presence(b), "user:offline", &json!({ "userId": b })));
    }

    #[test]
    fn an_event_of_another_node_is_treated_the_same() {
        let channel = Channel::User(Uuid::from_u128(1));
        let data = json!({ "conversationId": Uuid::from_u128(2), "lastSeq": 3 });
        let text = protocol::event("conversation:updated", channel, None, "now", &data);
        let known = kind(channel, "conversation:updated", &data);
        assert!(matches!(known, Kind::Newest(_)));
        assert_eq!(kind_in(channel, &text), known);
    }
}
