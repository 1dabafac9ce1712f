//! The form of envelopes between nodes: who tells it, the how manieth of its topic it is, and the
//! envelope as JSON; without one it is a beat.

use uuid::Uuid;

use super::Envelope;

/// A message as it came; its body is not read yet.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    pub node: Uuid,
    pub number: u64,
    /// None for a beat.
    pub body: Option<&'a [u8]>,
}

pub(super) fn encode(envelope: &Envelope) -> Option<Vec<u8>> {
    serde_json::to_vec(envelope).ok()
}

/// Reads a body; `None` for what a newer version may have sent.
pub(super) fn decode(body: &[u8]) -> Option<Envelope> {
    serde_json::from_slice(body).ok()
}

pub(super) fn message(node: Uuid, number: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{} {number} ", node.simple()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn beat(node: Uuid, number: u64) -> Vec<u8> {
    format!("{} {number}", node.simple()).into_bytes()
}

pub(super) fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let node = Uuid::try_parse_ascii(parts.next()?).ok()?;
    let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    Some(Message { node, number, body: parts.next() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::channel::Channel;
    use crate::domain::presence::{State, View};

    #[test]
    fn envelopes_read_back() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let view = View { state: State::Away, last_seen: Some(jiff::Timestamp::UNIX_EPOCH) };
        for envelope in [
            Envelope::Event { channel: Channel::Calendar(a), seq: Some(3), text: "{}".to_owned() },
            Envelope::Event { channel: Channel::User(b), seq: None, text: String::new() },
            Envelope::Revoke { user_id: a, sessions: vec![b] },
            Envelope::Expel { channel: Channel::Conversation(a), user_id: b },
            Envelope::Presence { user_id: a, version: 7, view },
            Envelope::Login {
                email: "a@b.in".to_owned(),
                address: "::1".parse().ok(),
                failed: true,
            },
        ] {
            let bytes = message(a, 9, &encode(&envelope).unwrap());
            let read = read(&bytes).unwrap();
            assert_eq!((read.node, read.number), (a, 9));
            assert_eq!(decode(read.body.unwrap()), Some(envelope));
        }
        let bytes = beat(a, 7);
        assert_eq!(read(&bytes), Some(Message { node: a, number: 7, body: None }));
        for bad in ["", "nonsense", "00000000000000000000000000000001 x y"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"{\"kind\":\"newer\"}"), None);
    }
}
