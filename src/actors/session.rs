//! One WebSocket's transport. The only file that knows actix-web-actors, so that replacing it is
//! one file's work. What a socket does is decided by its [`Machine`]; here frames go in and what is
//! decided is done.
//!
//! What goes out does not pass through the actor: answers and events are pushed to the socket's
//! [`Line`], which is written straight into the connection. So a peer that does not read costs at
//! most the line's capacity, events need no message per socket, and the actor runs on whatever its
//! peer does.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, ActorContext, Running, StreamHandler};
use actix_http::ws::{Codec, Item};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, Message as Frame, ProtocolError, WebsocketContext};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::connections::{Connections, Seat};
use super::frame_guard::{FrameGuard, Verdict};
use super::goodbye::Goodbye;
use super::line::Line;
use super::openings::Openings;
use super::presence::PresenceBook;
use super::protocol::{Close, MAX_SUBSCRIPTIONS, WireError};
use super::response::Response;
use super::roster::{SharedRoster, Socket};
use super::socket_machine::{Effect, Identity, Input, Machine, Piece, SocketRules};
use super::switchboard::SharedBoard;
use super::wire::Tap;
use crate::clock::uptime;
use crate::counters;
use crate::error::{Error, Result};
use crate::models::pool::Pool;

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

/// What every socket of a worker shares.
#[derive(Clone)]
pub struct SocketWorld {
    pub pool: Pool,
    pub presence: PresenceBook,
    pub board: SharedBoard,
    pub roster: SharedRoster,
    pub connections: Connections,
    pub openings: Openings,
    pub ops: Rc<dyn SocketOps>,
    pub rules: SocketRules,
}

/// Messages that may wait for a socket's actor: all its channels may have to catch up at once.
const MAILBOX: usize = 2 * MAX_SUBSCRIPTIONS;

static NEXT_SOCKET: AtomicU64 = AtomicU64::new(1);

/// Answers the upgrade of the connection that `tap` writes to. `identity` is known when the client
/// sent a bearer token.
pub fn upgrade(
    world: SocketWorld,
    tap: Rc<Tap>,
    identity: Option<Identity>,
    req: &HttpRequest,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, actix_web::Error> {
    let mut response = ws::handshake_with_protocols(req, &["klearkarma.v1"])?;
    tap.bound_kernel();
    let outlet = world.board.borrow().outlet().clone();
    let id = NEXT_SOCKET.fetch_add(1, Ordering::Relaxed);
    let (rules, max) = (world.rules, world.rules.max_message);
    let socket = Rc::new(Socket {
        id,
        line: Line::new(outlet, Some(tap.clone())),
        machine: RefCell::new(Machine::new(id, uptime(), rules, identity.is_some())),
        channels: RefCell::new(HashSet::new()),
    });
    let verdict = Verdict::default();
    let guard = FrameGuard::new(payload, max, verdict.clone());
    let session = Session {
        world,
        socket: socket.clone(),
        verdict: verdict.clone(),
        preset: identity,
        seat: None,
    };
    let incoming = WebsocketContext::with_codec(session, guard, Codec::new().max_size(max));
    let goodbye = Goodbye::new(tap, verdict);
    Ok(response.streaming(Response::new(incoming, socket.line.clone(), goodbye)))
}

/// One socket's actor.
pub struct Session {
    pub(super) world: SocketWorld,
    pub(super) socket: Rc<Socket>,
    verdict: Verdict,
    /// From the upgrade's bearer token; taken over when the actor starts.
    preset: Option<Identity>,
    /// The socket's place among its user's.
    pub(super) seat: Option<Seat>,
}

/// The context of a socket's actor.
pub(super) type Ctx = WebsocketContext<Session>;

impl Actor for Session {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        counters::socket_opened();
        self.world.roster.borrow_mut().enter(&self.socket);
        if let Some(identity) = self.preset.take() {
            self.take_seat(identity, ctx);
        }
    }

    fn stopping(&mut self, _: &mut Ctx) -> Running {
        // A socket that is closed for another reason ends its connection too.
        self.socket.line.close(Close::Normal);
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Ctx) {
        self.world.roster.borrow_mut().leave(self.socket.id);
        counters::socket_closed();
        let mut board = self.world.board.borrow_mut();
        for channel in self.socket.channels.borrow_mut().drain() {
            board.unsubscribe(channel, &self.socket.line);
        }
        drop(board);
        let machine = self.socket.machine.borrow();
        if let Some(who) = machine.identity() {
            self.world.presence.disconnected(who.user_id, self.socket.id);
        }
    }
}

impl Session {
    /// Tells the machine what happened, and does what it decides.
    pub(super) fn feed(&mut self, input: Input, ctx: &mut Ctx) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.socket.on(input) {
                inputs.extend(self.perform(effect, ctx));
            }
        }
    }

    /// Does `effect`; what comes of it at once is returned.
    fn perform(&mut self, effect: Effect, ctx: &mut Ctx) -> Option<Input> {
        match effect {
            Effect::Verify(token) => self.verify(token, ctx),
            Effect::Adopt(who) => self.adopt(who.user_id, ctx),
            Effect::Start(op) => return self.start(op, ctx).map(Input::Finished),
            Effect::Answer { id, op, result } => self.answer(&id, &op, result),
            Effect::Close(why) => self.socket.line.close(why),
            // The line has done those.
            Effect::Ping | Effect::Pong(_) => {}
            #[cfg(feature = "autobahn")]
            Effect::Send(_) => {}
        }
        None
    }
}

impl StreamHandler<std::result::Result<Frame, ProtocolError>> for Session {
    fn handle(&mut self, frame: std::result::Result<Frame, ProtocolError>, ctx: &mut Ctx) {
        let input = match frame {
            Ok(Frame::Text(text)) => Input::Text(text),
            Ok(Frame::Binary(bytes)) => Input::Binary(bytes),
            Ok(Frame::Continuation(item)) => Input::Fragment(match item {
                Item::FirstText(bytes) => Piece::FirstText(bytes),
                Item::FirstBinary(bytes) => Piece::FirstBinary(bytes),
                Item::Continue(bytes) => Piece::More(bytes),
                Item::Last(bytes) => Piece::Last(bytes),
            }),
            Ok(Frame::Ping(payload)) => Input::Ping(payload),
            Ok(Frame::Pong(_)) => Input::Pong,
            Ok(Frame::Nop) => return,
            Ok(Frame::Close(_)) => {
                self.feed(Input::Goodbye, ctx);
                return ctx.stop();
            }
            Err(error) => {
                let why = self.verdict.get().unwrap_or(match error {
                    ProtocolError::Overflow => Close::TooBig,
                    // The guard has ruled out that the peer is gone, so this is bad UTF-8.
                    ProtocolError::Io(e) if e.kind() == std::io::ErrorKind::Other => Close::NotUtf8,
                    _ => Close::Malformed,
                });
                self.verdict.set(Some(why));
                self.feed(Input::Broken(why), ctx);
                // The codec gives the same error for ever: an actor that does not stop spins.
                return ctx.stop();
            }
        };
        self.feed(input, ctx);
    }

    fn finished(&mut self, ctx: &mut Ctx) {
        ctx.stop();
    }
}
