//! The words of the WebSocket contract, without a transport: commands in, answers and events out,
//! close codes. PROTOCOL.md section 3; `docs/websocket.md` is its public form.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::channel::Channel;

/// Largest frame and largest message from a client, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// Channels that one socket may follow, its own `user:` channel included.
pub const MAX_SUBSCRIPTIONS: usize = 100;
/// Commands that may wait on one socket while one is carried out.
pub const MAX_QUEUED: usize = 64;
/// Commands per second that one socket may send on average.
pub const COMMANDS_PER_SECOND: u32 = 50;
/// Commands that it may send at once after a pause.
pub const COMMAND_BURST: u32 = 100;

/// Why the hub ends a socket. 4000–4499: reconnect; 4500–4999: do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client said goodbye.
    Normal,
    /// The bytes are no WebSocket frames.
    Malformed,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A frame or message over the limit.
    TooBig,
    /// The hub stops; come back elsewhere or later.
    ShuttingDown,
    /// The client reads slower than its channels write.
    SlowConsumer,
    /// Nothing was heard for two heartbeats.
    HeartbeatMissed,
    /// The access token ran out and was not renewed.
    TokenExpired,
    /// The hub has more work than it takes.
    Overloaded,
    /// No valid token in time.
    Unauthenticated,
    /// The session was revoked.
    Revoked,
    /// Text that is no command.
    ProtocolError,
    /// More sockets than one user may have.
    TooManyConnections,
}

impl Close {
    /// The code on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Malformed => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::ShuttingDown => 4000,
            Self::SlowConsumer => 4001,
            Self::HeartbeatMissed => 4002,
            Self::TokenExpired => 4003,
            Self::Overloaded => 4004,
            Self::Unauthenticated => 4500,
            Self::Revoked => 4501,
            Self::ProtocolError => 4502,
            Self::TooManyConnections => 4503,
        }
    }

    /// The words beside the code. A hub with too much to do also says when to come again, each
    /// time another time, so that those who come do not come together.
    pub fn reason(self) -> Cow<'static, str> {
        if self == Self::Overloaded {
            let wait = reconnect_after().as_millis();
            return format!("overloaded; reconnectAfterMs={wait}").into();
        }
        match self {
            Self::Normal => "bye",
            Self::Malformed => "malformed frame",
            Self::NotUtf8 => "not UTF-8",
            Self::TooBig => "frame too big",
            Self::ShuttingDown => "shutting down",
            Self::SlowConsumer => "slow consumer",
            Self::HeartbeatMissed => "heartbeat missed",
            Self::TokenExpired => "token expired",
            Self::Overloaded => "overloaded",
            Self::Unauthenticated => "unauthenticated",
            Self::Revoked => "revoked",
            Self::ProtocolError => "protocol error",
            Self::TooManyConnections => "too many connections",
        }
        .into()
    }

    /// The whole close frame.
    pub fn frame(self) -> Bytes {
        let reason = self.reason();
        let mut payload = BytesMut::with_capacity(2 + reason.len());
        payload.put_u16(self.code());
        payload.put_slice(reason.as_bytes());
        frame(0x88, &payload)
    }
}

/// How long a client should wait that finds the hub with too much to do: 1 to 5 s, at random.
pub fn reconnect_after() -> Duration {
    Duration::from_millis(rand::random_range(1_000..5_000))
}

/// A client's command. Its `id` comes back with the answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// A number or a string.
    pub id: Value,
    pub op: String,
    #[serde(default = "empty")]
    pub data: Value,
}

fn empty() -> Value {
    json!({})
}

/// Reads a text frame; `None` when it is no command at all, which ends the socket with 4502.
pub fn parse(text: &str) -> Option<Command> {
    let command: Command = serde_json::from_str(text).ok()?;
    let known_id = match &command.id {
        Value::Number(_) => true,
        Value::String(id) => id.len() <= 100,
        _ => false,
    };
    (known_id && command.op.len() <= 64 && command.data.is_object()).then_some(command)
}

/// An error as the socket tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct WireError {
    pub code: &'static str,
    pub message: String,
    pub details: Option<Value>,
    pub retry_after: Option<Duration>,
}

/// The answer to the command with `id`.
pub fn answer(id: &Value, result: &Result<Value, WireError>) -> String {
    match result {
        Ok(data) => json!({ "id": id, "ok": true, "data": data }),
        Err(e) => {
            let mut error = json!({ "code": e.code, "message": e.message });
            if let (Some(object), Some(details)) = (error.as_object_mut(), &e.details) {
                object.insert("details".to_owned(), details.clone());
            }
            if let (Some(object), Some(after)) = (error.as_object_mut(), e.retry_after) {
                let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                object.insert("retryAfterMs".to_owned(), millis.into());
            }
            json!({ "id": id, "ok": false, "error": error })
        }
    }
    .to_string()
}

/// An event as text. `at` is RFC 3339.
pub fn event(
    name: &str,
    channel: Channel,
    seq: Option<i64>,
    at: &str,
    data: &impl Display,
) -> String {
    // Neither names nor channels nor instants need escapes. The data go as they are: a tree around
    // them would be a copy of theirs.
    let seq = seq.map(|seq| format!(r#","seq":{seq}"#)).unwrap_or_default();
    format!(r#"{{"at":"{at}","channel":"{channel}","data":{data},"event":"{name}"{seq}}}"#)
}

/// A server's text frame around `text`.
pub fn text_frame(text: &str) -> Bytes {
    frame(0x81, text.as_bytes())
}

/// A server's frame (RFC 6455 section 5.2: unmasked) with this first byte (final bit and opcode).
/// A control frame's payload has at most 125 bytes.
pub fn frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(first);
    match payload.len() {
        n @ 0..=125 => frame.put_u8(u8::try_from(n).unwrap_or(125)),
        n @ 126..=0xffff => {
            frame.put_u8(126);
            frame.put_u16(u16::try_from(n).unwrap_or(u16::MAX));
        }
        n => {
            frame.put_u8(127);
            frame.put_u64(n as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_need_an_id_an_op_and_an_object() {
        let c = parse(r#"{"id":1,"op":"ping"}"#).unwrap();
        assert_eq!((c.op.as_str(), &c.data), ("ping", &json!({})));
        assert!(parse(r#"{"id":"a","op":"x","data":{"k":1}}"#).is_some());
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"op":"x"}"#,
            r#"{"id":null,"op":"x"}"#,
            r#"{"id":[],"op":"x"}"#,
            r#"{"id":1,"op":"x","data":3}"#,
            r#"{"id":1,"op":"x","more":1}"#,
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn close_codes_say_whether_to_reconnect() {
        assert_eq!(Close::SlowConsumer.frame().get(..4), Some(&[0x88, 15, 0x0f, 0xa1][..]));
        assert!(Close::TokenExpired.code() < 4500 && Close::Revoked.code() >= 4500);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn frames_carry_their_text(length in 0usize..70_000) {
            let text = "x".repeat(length);
            let frame = text_frame(&text);
            let header = match length { 0..=125 => 2, 126..=65_535 => 4, _ => 10 };
            prop_assert_eq!(frame.len(), header + length);
        }
    }
}
