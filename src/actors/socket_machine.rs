//! What one socket does, without a transport: frames, finished commands and the time go in, what
//! is to be done comes out. The driver is `session.rs`.
//!
//! Whatever comes in, these hold (and are tested below without a socket): a command is answered at
//! most once; what is carried out is answered in the order it came; nothing leaves after the close;
//! nobody is served before they have said who they are; no queue is longer than its limit.
//!
//! `now` is a time since any fixed moment, the same for all sockets of the process.

mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use bytestring::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::words::{Effect, Identity, Input, Known, Op, Piece, SocketRules};

use self::words::utf8_up_to;
use super::connections::Allowance;
use super::protocol::{self, Close, Command};
use crate::domain::input;
use crate::domain::rate::TokenBucket;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};

/// How long a command under way may keep a socket open that is to be closed by a drain.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Running {
    Nothing,
    /// A token is looked at; the id of its command, none for the one of the upgrade.
    Verify(Option<Value>),
    Command {
        id: Value,
        op: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// One socket's state.
#[derive(Debug)]
pub struct Machine {
    rules: SocketRules,
    identity: Option<Identity>,
    allowance: Option<Arc<Allowance>>,
    queue: VecDeque<Command>,
    running: Running,
    bucket: TokenBucket,
    pieces: BytesMut,
    /// How much of `pieces` is known to be UTF-8; none while they are binary.
    valid: Option<usize>,
    /// Up to a tenth of the heartbeat, so that sockets that opened together do not beat together.
    jitter: Duration,
    heard_at: Duration,
    ping_at: Duration,
    /// When the token runs out, or when one must have come.
    token_until: Duration,
    drain_at: Option<Duration>,
    closed: bool,
}

impl Machine {
    /// The socket `id`, opened at `now`; `expected` when a token came with the upgrade, so that
    /// [`Input::Verified`] follows without being asked for.
    pub fn new(id: u64, now: Duration, rules: SocketRules, expected: bool) -> Self {
        let tenth = u64::try_from(rules.heartbeat.as_millis() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(id.wrapping_mul(2_654_435_761) % tenth.max(1));
        Self {
            rules,
            identity: None,
            allowance: None,
            queue: VecDeque::new(),
            running: if expected { Running::Verify(None) } else { Running::Nothing },
            bucket: TokenBucket::full(protocol::COMMANDS_PER_SECOND, protocol::COMMAND_BURST),
            pieces: BytesMut::new(),
            valid: None,
            jitter,
            heard_at: now,
            ping_at: now + rules.heartbeat.saturating_sub(jitter),
            token_until: now + rules.auth_timeout,
            drain_at: None,
            closed: false,
        }
    }

    /// Who the socket belongs to, once that is known.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// When [`Input::Tick`] has something to do at the latest.
    pub fn due(&self) -> Duration {
        if self.closed {
            return Duration::MAX;
        }
        let silent = self.heard_at + self.rules.heartbeat * 2;
        let drain = self.drain_at.map_or(Duration::MAX, |at| match self.running {
            Running::Nothing => at,
            Running::Verify(_) | Running::Command { .. } => at + DRAIN_PATIENCE,
        });
        self.ping_at.min(silent).min(self.token_until).min(drain)
    }

    /// Takes what happened at `now`; what is to be done comes back.
    pub fn on(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.closed {
            return out;
        }
        match input {
            Input::Text(text) => {
                self.heard_at = now;
                self.message(now, &text, &mut out);
            }
            Input::Binary(bytes) => {
                self.heard_at = now;
                self.binary(&bytes, &mut out);
            }
            Input::Fragment(piece) => {
                self.heard_at = now;
                self.fragment(now, piece, &mut out);
            }
            Input::Ping(payload) => {
                self.heard_at = now;
                out.push(Effect::Pong(payload));
            }
            Input::Pong => self.heard_at = now,
            Input::Goodbye => self.close(Close::Normal, &mut out),
            Input::Broken(why) => self.close(why, &mut out),
            Input::Verified(checked) => self.verified(now, checked, &mut out),
            Input::Crowded => self.close(Close::TooManyConnections, &mut out),
            Input::Finished(result) => self.finished(now, result, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Revoked => self.close(Close::Revoked, &mut out),
            Input::Drain(at) => self.drain_at = Some(at),
        }
        out
    }

    fn close(&mut self, why: Close, out: &mut Vec<Effect>) {
        self.closed = true;
        self.queue = VecDeque::new();
        self.pieces = BytesMut::new();
        out.push(Effect::Close(why));
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if self.token_until <= now {
            let why = match (&self.identity, &self.running) {
                (Some(_), _) => Close::TokenExpired,
                // The hub is slow, not the client.
                (None, Running::Verify(_)) => Close::Overloaded,
                (None, _) => Close::Unauthenticated,
            };
            return self.close(why, out);
        }
        if now.saturating_sub(self.heard_at) >= self.rules.heartbeat * 2 {
            return self.close(Close::HeartbeatMissed, out);
        }
        if let Some(at) = self.drain_at.filter(|at| *at <= now)
            && (matches!(self.running, Running::Nothing) || at + DRAIN_PATIENCE <= now)
        {
            return self.close(Close::ShuttingDown, out);
        }
        if self.ping_at <= now {
            self.ping_at = now + self.rules.heartbeat.saturating_sub(self.jitter);
            out.push(Effect::Ping);
        }
    }

    fn binary(&mut self, bytes: &[u8], out: &mut Vec<Effect>) {
        if !self.echoes(0x82, bytes, out) {
            self.close(Close::ProtocolError, out);
        }
    }

    /// Sends a message back, if that is what this socket is for.
    #[cfg(feature = "autobahn")]
    fn echoes(&self, first: u8, bytes: &[u8], out: &mut Vec<Effect>) -> bool {
        if self.rules.echo {
            out.push(Effect::Send(protocol::frame(first, bytes)));
        }
        self.rules.echo
    }

    #[cfg(not(feature = "autobahn"))]
    #[allow(clippy::unused_self)]
    fn echoes(&self, _: u8, _: &[u8], _: &mut Vec<Effect>) -> bool {
        false
    }

    /// Puts fragments together, counted against the limit of one frame. Text that can not become
    /// UTF-8 any more is refused before its end.
    fn fragment(&mut self, now: Duration, piece: Piece, out: &mut Vec<Effect>) {
        let (bytes, last) = match piece {
            Piece::FirstText(bytes) => {
                self.valid = Some(0);
                (bytes, false)
            }
            Piece::FirstBinary(bytes) => {
                self.valid = None;
                if !self.takes_binary() {
                    return self.close(Close::ProtocolError, out);
                }
                (bytes, false)
            }
            Piece::More(bytes) => (bytes, false),
            Piece::Last(bytes) => (bytes, true),
        };
        if self.pieces.len() + bytes.len() > self.rules.max_message {
            return self.close(Close::TooBig, out);
        }
        self.pieces.extend_from_slice(&bytes);
        if let Some(valid) = self.valid {
            let Some(valid) = utf8_up_to(&self.pieces, valid) else {
                return self.close(Close::NotUtf8, out);
            };
            self.valid = Some(valid);
        }
        if last {
            let message = std::mem::take(&mut self.pieces).freeze();
            match self.valid {
                None => self.binary(&message, out),
                Some(_) => match ByteString::try_from(message) {
                    Ok(text) => self.message(now, &text, out),
                    Err(_) => self.close(Close::NotUtf8, out),
                },
            }
        }
    }

    #[cfg(feature = "autobahn")]
    fn takes_binary(&self) -> bool {
        self.rules.echo
    }

    #[cfg(not(feature = "autobahn"))]
    #[allow(clippy::unused_self)]
    fn takes_binary(&self) -> bool {
        false
    }

    fn message(&mut self, now: Duration, text: &str, out: &mut Vec<Effect>) {
        if self.echoes(0x81, text.as_bytes(), out) {
            return;
        }
        let Some(command) = protocol::parse(text) else {
            return self.close(Close::ProtocolError, out);
        };
        // The socket's own bucket first: a socket that floods takes nothing from the user's others.
        let allowed = self.bucket.take(now).and_then(|()| match &self.allowance {
            Some(allowance) => allowance.take(now),
            None => Ok(()),
        });
        if let Err(wait) = allowed {
            return refuse(command, Refusal::RateLimited(wait).into(), out);
        }
        if self.queue.len() >= protocol::MAX_QUEUED {
            return refuse(command, Error::overloaded(), out);
        }
        self.queue.push_back(command);
        self.next(now, out);
    }

    /// Takes the next command if none is being carried out.
    fn next(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if self.closed {
            return;
        }
        if self.drain_at.is_some_and(|at| at <= now) && matches!(self.running, Running::Nothing) {
            return self.close(Close::ShuttingDown, out);
        }
        while !self.closed && matches!(self.running, Running::Nothing) {
            let Some(command) = self.queue.pop_front() else { return };
            self.carry_out(command, out);
        }
    }

    fn carry_out(&mut self, command: Command, out: &mut Vec<Effect>) {
        if command.op == "auth" {
            return match input::parse_value::<Auth>(command.data) {
                Ok(auth) => {
                    self.running = Running::Verify(Some(command.id));
                    out.push(Effect::Verify(auth.token));
                }
                Err(refusal) => out.push(answer(command.id, "auth", Err(refusal.into()))),
            };
        }
        let Some(who) = self.identity.clone() else {
            refuse(command, Refusal::Unauthenticated.into(), out);
            return self.close(Close::Unauthenticated, out);
        };
        let Command { id, op, data } = command;
        let start = match op.as_str() {
            "ping" => match input::parse_value::<Nothing>(data) {
                Ok(Nothing {}) => Op::Ping,
                Err(refusal) => return out.push(answer(id, &op, Err(refusal.into()))),
            },
            "subscribe" => Op::Subscribe(data),
            "resume" => Op::Resume(data),
            "unsubscribe" => Op::Unsubscribe(data),
            "presence:set" => Op::SetPresence(data),
            _ => Op::Call(who, op.clone(), data),
        };
        self.running = Running::Command { id, op };
        out.push(Effect::Start(start));
    }

    fn finished(&mut self, now: Duration, result: Result<Value>, out: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.running, Running::Nothing) {
            Running::Command { id, op } => out.push(Effect::Answer { id, op, result }),
            // Nothing of the kind was asked for.
            other => return self.running = other,
        }
        self.next(now, out);
    }

    fn verified(&mut self, now: Duration, checked: Result<Known>, out: &mut Vec<Effect>) {
        let id = match std::mem::replace(&mut self.running, Running::Nothing) {
            Running::Verify(id) => id,
            other => return self.running = other,
        };
        match checked {
            Ok(known)
                if self.identity.as_ref().is_some_and(|i| i.user_id != known.identity.user_id) =>
            {
                out.extend(id.map(|id| answer(id, "auth", Err(Refusal::Forbidden.into()))));
            }
            Ok(Known { identity, left, allowance }) => {
                self.token_until = now + left;
                self.allowance = self.allowance.take().or(allowance);
                out.extend(id.map(|id| answer(id, "auth", Ok(self.welcome(&identity)))));
                if self.identity.replace(identity.clone()).is_none() {
                    out.push(Effect::Adopt(identity));
                }
            }
            Err(e) => {
                // Who is told 4500 logs in anew: only for what is wrong with the token.
                let why = if e.is_passing() { Close::Overloaded } else { Close::Unauthenticated };
                out.extend(id.map(|id| answer(id, "auth", Err(e))));
                if self.identity.is_none() {
                    self.close(why, out);
                }
            }
        }
        self.next(now, out);
    }

    fn welcome(&self, who: &Identity) -> Value {
        let heartbeat = u64::try_from(self.rules.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let (rate, connections) = match &self.allowance {
            Some(allowance) => (allowance.per_second(), allowance.connections()),
            None => (protocol::COMMANDS_PER_SECOND, 1),
        };
        json!({
            "userId": who.user_id,
            "sessionId": who.session_id,
            "expiresAt": who.expires_at,
            "heartbeatMs": heartbeat,
            "limits": {
                "frameBytes": self.rules.max_message,
                "subscriptions": protocol::MAX_SUBSCRIPTIONS,
                "commandsPerSecond": protocol::COMMANDS_PER_SECOND,
                "userCommandsPerSecond": rate,
                "queuedCommands": protocol::MAX_QUEUED,
                "connections": connections,
            },
        })
    }
}

fn answer(id: Value, op: &str, result: Result<Value>) -> Effect {
    Effect::Answer { id, op: op.to_owned(), result }
}

fn refuse(command: Command, why: Error, out: &mut Vec<Effect>) {
    out.push(Effect::Answer { id: command.id, op: command.op, result: Err(why) });
}

#[cfg(test)]
mod tests;
