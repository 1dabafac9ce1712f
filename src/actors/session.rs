//! One WebSocket. The only file that knows actix-web-actors, so that replacing it is one file's
//! work.
//!
//! What goes out does not pass through the actor: answers and events are pushed to the socket's
//! [`Line`], which is written straight into the connection. So a peer that does not read costs at
//! most the line's capacity, events need no message per socket, and the actor runs on whatever its
//! peer does.
//!
//! Commands are carried out one at a time in their order, which is what makes two `message:send`
//! in a row arrive in a row.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Running, SpawnHandle, StreamHandler,
    WrapFuture,
};
use actix_http::ws::{Codec, Item};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, Message as Frame, ProtocolError, WebsocketContext};
use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::error::{Error, Result};
use super::frame_guard::{FrameGuard, Verdict};
use super::line::Line;
use super::presence::PresenceBook;
use super::protocol::{self, Close, Command, WireError};
use super::response::Response;
use super::switchboard::SharedBoard;
use super::wire::Tap;
use crate::domain::channel::Channel;
use crate::domain::rate::TokenBucket;
use crate::domain::refusal::Refusal;
use crate::models::pool::Pool;

/// Who a socket belongs to.
#[derive(Debug, Clone)]
pub struct Identity {
    pub user_id: Uuid,
    pub session_id: Uuid,
    /// When the access token runs out.
    pub expires_at: Timestamp,
}

/// What a socket asks of the floors above: the table of operations lives in `http/ws_ops.rs`.
pub trait SocketOps: 'static {
    /// Who the token belongs to.
    fn authenticate(&self, token: String) -> LocalBoxFuture<'static, Result<Identity>>;
    /// Carries out `op`; `UnknownOp` when there is no such one.
    fn call(
        &self,
        who: Identity,
        op: String,
        data: Value,
    ) -> LocalBoxFuture<'static, Result<Value>>;
    /// How an error reads on the wire.
    fn explain(&self, error: &Error) -> WireError;
}

/// Times that come from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct SocketRules {
    /// How often the hub pings; silence for two of them ends the socket.
    pub heartbeat: Duration,
    /// How long a socket may stay without a valid token.
    pub auth_timeout: Duration,
}

/// What every socket of a worker shares.
#[derive(Clone)]
pub struct SocketWorld {
    pub pool: Pool,
    pub presence: PresenceBook,
    pub board: SharedBoard,
    pub ops: Rc<dyn SocketOps>,
    pub rules: SocketRules,
}

static NEXT_SOCKET: AtomicU64 = AtomicU64::new(1);

/// Answers the upgrade of the connection that `tap` writes to. `identity` is known when the client sent a bearer token.
pub fn upgrade(
    world: SocketWorld,
    tap: Rc<Tap>,
    identity: Option<Identity>,
    req: &HttpRequest,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, actix_web::Error> {
    let mut response = ws::handshake_with_protocols(req, &["klearkarma.v1"])?;
    tap.share();
    let outlet = world.board.borrow().outlet().clone();
    let line = Line::new(outlet, Some(tap));
    let verdict = Verdict::default();
    let guarded = FrameGuard::new(payload, protocol::MAX_FRAME, verdict.clone());
    let session = Session {
        id: NEXT_SOCKET.fetch_add(1, Ordering::Relaxed),
        world,
        line: line.clone(),
        verdict,
        identity: None,
        preset: identity,
        channels: HashSet::new(),
        queue: VecDeque::new(),
        busy: false,
        op: String::new(),
        heard_at: Instant::now(),
        expiry: None,
        bucket: TokenBucket::full(protocol::COMMANDS_PER_SECOND, protocol::COMMAND_BURST),
        started_at: Instant::now(),
        fragments: BytesMut::new(),
    };
    let codec = Codec::new().max_size(protocol::MAX_FRAME);
    let incoming = WebsocketContext::with_codec(session, guarded, codec);
    Ok(response.streaming(Response::new(incoming, line)))
}

/// One socket.
pub struct Session {
    pub(super) id: u64,
    pub(super) world: SocketWorld,
    pub(super) line: Rc<Line>,
    pub(super) verdict: Verdict,
    pub(super) identity: Option<Identity>,
    /// From the upgrade's bearer token; taken over when the actor starts.
    pub(super) preset: Option<Identity>,
    pub(super) channels: HashSet<Channel>,
    pub(super) queue: VecDeque<Command>,
    pub(super) busy: bool,
    /// What is being carried out, for the log.
    pub(super) op: String,
    pub(super) heard_at: Instant,
    pub(super) expiry: Option<SpawnHandle>,
    pub(super) bucket: TokenBucket,
    pub(super) started_at: Instant,
    pub(super) fragments: BytesMut,
}

/// The context of a socket's actor.
pub(super) type Ctx = WebsocketContext<Session>;

impl Actor for Session {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        match self.preset.take() {
            Some(identity) => self.become_known(identity, ctx),
            None => {
                self.world.board.borrow_mut().admit(self.id, &self.line);
                ctx.run_later(self.world.rules.auth_timeout, |session, _| {
                    if session.identity.is_none() {
                        session.line.close(Close::Unauthenticated);
                    }
                });
            }
        }
        self.beat(ctx);
    }

    fn stopping(&mut self, _: &mut Ctx) -> Running {
        // A socket that is closed for another reason ends its connection too.
        self.line.close(Close::Normal);
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Ctx) {
        let mut board = self.world.board.borrow_mut();
        board.no_stranger(self.id);
        for channel in self.channels.drain() {
            board.unsubscribe(channel, &self.line);
        }
        drop(board);
        if let Some(who) = &self.identity {
            self.world.presence.disconnected(who.user_id, self.id);
        }
    }
}

impl Session {
    /// Pings with up to a tenth of jitter, so that sockets that opened together do not beat
    /// together, and ends the socket after two silent beats.
    fn beat(&self, ctx: &mut Ctx) {
        let every = self.world.rules.heartbeat;
        let tenth = u64::try_from(every.as_millis() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.id.wrapping_mul(2_654_435_761) % tenth.max(1));
        ctx.run_later(every - jitter, move |session, ctx| {
            if session.line.is_closing() {
                ctx.stop();
            } else if session.heard_at.elapsed() >= every * 2 {
                session.line.close(Close::HeartbeatMissed);
                ctx.stop();
            } else {
                ctx.ping(b"");
                session.beat(ctx);
            }
        });
    }

    /// The socket belongs to somebody from now on: their own channel opens.
    pub(super) fn become_known(&mut self, identity: Identity, ctx: &mut Ctx) {
        let user_id = identity.user_id;
        self.line.set_session(identity.session_id);
        if let Some(timer) = self.expiry.take() {
            ctx.cancel_future(timer);
        }
        let left = identity.expires_at.duration_since(super::now());
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        self.expiry = Some(ctx.run_later(left, |session, _| {
            session.line.close(Close::TokenExpired);
        }));
        let first = self.identity.replace(identity).is_none();
        if first {
            let (presence, id) = (self.world.presence.clone(), self.id);
            ctx.spawn(async move { presence.connected(user_id, id).await }.into_actor(self).map(
                |told, _, _| {
                    if let Err(e) = told {
                        tracing::warn!("presence was not told of a socket: {e:?}");
                    }
                },
            ));
            self.open_own(user_id, ctx);
            self.world.board.borrow_mut().no_stranger(self.id);
        }
    }

    fn on_text(&mut self, text: &str, ctx: &mut Ctx) {
        let Some(command) = protocol::parse(text) else {
            self.line.close(Close::ProtocolError);
            return;
        };
        let at = self.started_at.elapsed();
        if let Err(wait) = self.bucket.take(at) {
            return self.refuse(&command.id, &Refusal::RateLimited(wait).into());
        }
        if self.queue.len() >= protocol::MAX_QUEUED {
            return self.refuse(&command.id, &Error::overloaded());
        }
        self.queue.push_back(command);
        self.next(ctx);
    }

    /// Puts fragments together (RFC 6455 section 5.4), counted against the limit of one frame.
    fn on_fragment(&mut self, item: Item, ctx: &mut Ctx) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.fragments.clear();
                (bytes, false)
            }
            Item::FirstBinary(_) => return self.line.close(Close::ProtocolError),
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if self.fragments.len() + bytes.len() > protocol::MAX_FRAME {
            return self.line.close(Close::TooBig);
        }
        self.fragments.extend_from_slice(&bytes);
        if last {
            let message = std::mem::take(&mut self.fragments);
            match std::str::from_utf8(&message) {
                Ok(text) => self.on_text(text, ctx),
                Err(_) => self.line.close(Close::NotUtf8),
            }
        }
    }
}

impl StreamHandler<std::result::Result<Frame, ProtocolError>> for Session {
    fn handle(&mut self, frame: std::result::Result<Frame, ProtocolError>, ctx: &mut Ctx) {
        self.heard_at = Instant::now();
        match frame {
            Ok(Frame::Text(text)) => self.on_text(&text, ctx),
            Ok(Frame::Continuation(item)) => self.on_fragment(item, ctx),
            Ok(Frame::Ping(payload)) => ctx.pong(&payload),
            Ok(Frame::Pong(_) | Frame::Nop) => {}
            Ok(Frame::Binary(_)) => self.line.close(Close::ProtocolError),
            Ok(Frame::Close(_)) => {
                self.line.close(Close::Normal);
                ctx.stop();
            }
            Err(error) => {
                let why = self.verdict.get().unwrap_or(match error {
                    ProtocolError::Overflow => Close::TooBig,
                    // The guard has ruled out that the peer is gone, so this is bad UTF-8.
                    ProtocolError::Io(e) if e.kind() == std::io::ErrorKind::Other => Close::NotUtf8,
                    _ => Close::Malformed,
                });
                self.line.close(why);
                // The codec gives the same error for ever: an actor that does not stop spins.
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Ctx) {
        ctx.stop();
    }
}
