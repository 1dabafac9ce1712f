//! What a socket's machine asks for: looking at tokens, taking a seat, carrying out commands, and
//! saying what came of them.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use serde_json::{Value, json};

use super::outbox::Kind;
use super::protocol::{self, WireError};
use super::session::{Ctx, Session};
use super::socket_machine::{Identity, Input, Known, Op};
use crate::error::{Error, Result};

impl Session {
    /// Who the socket belongs to, once that is known.
    pub(super) fn user_id(&self) -> Option<uuid::Uuid> {
        self.socket.machine.borrow().identity().map(|who| who.user_id)
    }

    /// Finds out who a token belongs to, and whether there is a seat for the socket.
    pub(super) fn verify(&mut self, token: String, ctx: &mut Ctx) {
        let check = self.world.ops.authenticate(token);
        ctx.spawn(check.into_actor(self).map(|checked, session, ctx| match checked {
            Ok(identity) if session.seat.is_none() => session.take_seat(identity, ctx),
            Ok(identity) => {
                let known = Known { left: left(&identity), identity, allowance: None };
                session.feed(Input::Verified(Ok(known)), ctx);
            }
            Err(e) => session.feed(Input::Verified(Err(e)), ctx),
        }));
    }

    /// The socket is `identity`'s, if they have not as many as one may have.
    pub(super) fn take_seat(&mut self, identity: Identity, ctx: &mut Ctx) {
        let connections = self.world.connections.clone();
        let enter = async move { (connections.enter(identity.user_id).await, identity) };
        ctx.spawn(enter.into_actor(self).map(|(seat, identity), session, ctx| {
            let Some(seat) = seat else { return session.feed(Input::Crowded, ctx) };
            let allowance = Some(seat.allowance());
            session.seat = Some(seat);
            let known = Known { left: left(&identity), identity, allowance };
            session.feed(Input::Verified(Ok(known)), ctx);
        }));
    }

    /// The socket has an owner from now on: their own channel opens.
    pub(super) fn adopt(&mut self, user_id: uuid::Uuid, ctx: &mut Ctx) {
        let (presence, id) = (self.world.presence.clone(), self.socket.id);
        ctx.spawn(async move { presence.connected(user_id, id).await }.into_actor(self).map(
            |told, _, _| {
                if let Err(e) = told {
                    tracing::warn!("presence was not told of a socket: {e:?}");
                }
            },
        ));
        self.open_own(user_id, ctx);
    }

    /// Begins to carry out `op`; what needs no waiting is returned.
    pub(super) fn start(&mut self, op: Op, ctx: &mut Ctx) -> Option<Result<Value>> {
        match op {
            Op::Ping => Some(Ok(self.pong())),
            Op::Subscribe(data) => self.subscribe(data, ctx),
            Op::Resume(data) => self.resume(data, ctx),
            Op::Unsubscribe(data) => Some(self.unsubscribe(data)),
            Op::SetPresence(data) => self.set_presence(data, ctx),
            Op::Call(who, op, data) => {
                let call = self.world.ops.call(who, op, data);
                ctx.spawn(call.into_actor(self).map(|result, session, ctx| {
                    session.feed(Input::Finished(result), ctx);
                }));
                None
            }
        }
    }

    pub(super) fn answer(&self, id: &Value, op: &str, result: Result<Value>) {
        let result = result.map_err(|e| self.explain(id, op, &e));
        let text = protocol::answer(id, &result);
        self.socket.line.push(protocol::text_frame(&text), Kind::Kept);
    }

    /// How an error reads on the wire. The cause of a fault goes to the log and nowhere else.
    pub(super) fn explain(&self, id: &Value, op: &str, error: &Error) -> WireError {
        if let Some(cause) = error.cause() {
            let user = self.user_id().map(|user| user.to_string());
            let user = user.as_deref().unwrap_or("-");
            tracing::error!(user, op, id = %id, cause, "fault of a socket's command");
        }
        self.world.ops.explain(error)
    }

    fn pong(&self) -> Value {
        let mut board = self.world.board.borrow_mut();
        let channels = self.socket.channels.borrow();
        let heads: serde_json::Map<String, Value> = channels
            .iter()
            .filter(|c| c.is_durable())
            .filter_map(|c| Some((c.to_string(), board.head(*c, &self.socket.line)?.into())))
            .collect();
        json!({ "now": crate::clock::now(), "heads": heads })
    }
}

/// How long the token is good from now on.
fn left(identity: &Identity) -> Duration {
    let left = identity.expires_at.duration_since(crate::clock::now());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}
