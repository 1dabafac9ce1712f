//! What goes into a socket's machine and what comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::actors::connections::Allowance;
use crate::actors::protocol::Close;
use crate::domain::access::Role;
use crate::error::Result;

/// Who a socket belongs to, as the access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user_id: Uuid,
    pub session_id: Uuid,
    /// What the account may do, until the token is renewed.
    pub role: Role,
    /// When the access token runs out.
    pub expires_at: Timestamp,
}

/// Times and sizes that a socket lives by.
#[derive(Debug, Clone, Copy)]
pub struct SocketRules {
    /// How often the hub pings; silence for two of them ends the socket.
    pub heartbeat: Duration,
    /// How long a socket may stay without a valid token.
    pub auth_timeout: Duration,
    /// Largest frame, and largest message put together from fragments, in bytes.
    pub max_message: usize,
    /// Sends every message back instead of carrying out commands.
    #[cfg(feature = "autobahn")]
    pub echo: bool,
}

/// A part of a fragmented message (RFC 6455 section 5.4).
#[derive(Debug)]
pub enum Piece {
    FirstText(Bytes),
    FirstBinary(Bytes),
    More(Bytes),
    Last(Bytes),
}

/// What happens to a socket.
#[derive(Debug)]
pub enum Input {
    /// A whole text frame.
    Text(ByteString),
    /// A whole binary frame.
    Binary(Bytes),
    /// A fragment of either.
    Fragment(Piece),
    /// A ping frame with its payload.
    Ping(Bytes),
    /// A pong frame.
    Pong,
    /// The peer's close frame.
    Goodbye,
    /// The transport, or a reader of the socket's channels, can not go on.
    Broken(Close),
    /// What came of [`Effect::Verify`], and of the token that came with the upgrade.
    Verified(Result<Known>),
    /// The user has as many sockets as one may have.
    Crowded,
    /// What came of [`Effect::Start`].
    Finished(Result<Value>),
    /// Time has passed.
    Tick,
    /// The session is no more.
    Revoked,
    /// The hub stops, and this socket is to be closed at that time.
    Drain(Duration),
}

/// A token that was found valid.
#[derive(Debug)]
pub struct Known {
    pub identity: Identity,
    /// How long the token is good from now on.
    pub left: Duration,
    /// What all sockets of the user share; for the first token of a socket.
    pub allowance: Option<Arc<Allowance>>,
}

/// A command that is not the machine's own.
#[derive(Debug, PartialEq)]
pub enum Op {
    Ping,
    Subscribe(Value),
    Resume(Value),
    Unsubscribe(Value),
    SetPresence(Value),
    /// One of the floors above.
    Call(Identity, String, Value),
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Find out who a token belongs to; [`Input::Verified`] is expected.
    Verify(String),
    /// The socket has an owner from now on: their own channel opens, presence is told.
    Adopt(Identity),
    /// Carry it out; [`Input::Finished`] is expected.
    Start(Op),
    /// Answer the command `id`, whose op is for the log.
    Answer { id: Value, op: String, result: Result<Value> },
    /// Send a ping frame.
    Ping,
    /// Send a pong frame with this payload.
    Pong(Bytes),
    /// Send these bytes as they are.
    #[cfg(feature = "autobahn")]
    Send(Bytes),
    /// Send a close frame, and nothing after it.
    Close(Close),
}

/// How much of `bytes` is whole characters of UTF-8 when the first `from` bytes are; none when no
/// further byte can mend it.
pub(super) fn utf8_up_to(bytes: &[u8], from: usize) -> Option<usize> {
    match std::str::from_utf8(bytes.get(from..).unwrap_or_default()) {
        Ok(text) => Some(from + text.len()),
        Err(e) if e.error_len().is_none() => Some(from + e.valid_up_to()),
        Err(_) => None,
    }
}
