//! The words of the WebSocket contract, without a transport: commands in, answers and events out,
//! close codes. PROTOCOL.md section 3; `docs/websocket.md` is its public form.

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

    /// The words beside the code, for people.
    pub fn reason(self) -> &'static str {
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
    }

    /// The whole close frame.
    pub fn frame(self) -> Bytes {
        let reason = self.reason().as_bytes();
        let mut frame = BytesMut::with_capacity(4 + reason.len());
        frame.put_u8(0x88);
        // Control frames hold at most 125 bytes; every reason above is far shorter.
        frame.put_u8(u8::try_from(2 + reason.len()).unwrap_or(125));
        frame.put_u16(self.code());
        frame.put_slice(reason);
        frame.freeze()
    }
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
pub fn event(name: &str, channel: Channel, seq: Option<i64>, at: &str, data: &Value) -> String {
    let channel = channel.to_string();
    match seq {
        Some(seq) => {
            json!({ "event": name, "channel": channel, "seq": seq, "at": at, "data": data })
        }
        None => json!({ "event": name, "channel": channel, "at": at, "data": data }),
    }
    .to_string()
}

/// A server's text frame (RFC 6455 section 5.2: final, unmasked) around `text`.
pub fn text_frame(text: &str) -> Bytes {
    let mut frame = BytesMut::with_capacity(text.len() + 10);
    frame.put_u8(0x81);
    match text.len() {
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
    frame.put_slice(text.as_bytes());
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
