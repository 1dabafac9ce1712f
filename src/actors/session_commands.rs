//! The commands of a socket: their queue, authentication, and handing the rest to the floors above.

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Error;
use super::line::Kind;
use super::protocol::{self, Close, Command, WireError};
use super::session::{Ctx, Identity, Session};
use crate::domain::input;
use crate::domain::refusal::Refusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {}

impl Session {
    pub(super) fn reply(&self, id: &Value, result: &Result<Value, WireError>) {
        self.line.push(protocol::text_frame(&protocol::answer(id, result)), Kind::Kept);
    }

    pub(super) fn refuse(&self, id: &Value, error: &Error) {
        self.reply(id, &Err(self.explain(id, error)));
    }

    /// How an error reads on the wire. The cause of a fault goes to the log and nowhere else.
    pub(super) fn explain(&self, id: &Value, error: &Error) -> WireError {
        if let Some(cause) = error.cause() {
            let user = self.identity.as_ref().map(|who| who.user_id.to_string());
            let user = user.as_deref().unwrap_or("-");
            tracing::error!(user, op = self.op, id = %id, cause, "fault of a socket's command");
        }
        self.world.ops.explain(error)
    }

    /// Takes the next command if none is being carried out.
    pub(super) fn next(&mut self, ctx: &mut Ctx) {
        while !self.busy && !self.line.is_closing() {
            let Some(command) = self.queue.pop_front() else { return };
            self.carry_out(command, ctx);
        }
    }

    fn carry_out(&mut self, command: Command, ctx: &mut Ctx) {
        let Command { id, op, data } = command;
        self.op.clone_from(&op);
        if op == "auth" {
            return self.authenticate(id, data, ctx);
        }
        let Some(who) = self.identity.clone() else {
            self.refuse(&id, &Refusal::Unauthenticated.into());
            self.line.close(Close::Unauthenticated);
            return;
        };
        match op.as_str() {
            "ping" => match input::parse_value::<Ping>(data) {
                Ok(Ping {}) => self.reply(&id, &Ok(self.pong())),
                Err(refusal) => self.refuse(&id, &refusal.into()),
            },
            "subscribe" => self.subscribe(id, data, ctx),
            "resume" => self.resume(id, data, ctx),
            "unsubscribe" => self.unsubscribe(&id, data),
            "presence:set" => self.set_presence(id, &who, data, ctx),
            _ => {
                self.busy = true;
                let call = self.world.ops.call(who, op, data);
                ctx.spawn(call.into_actor(self).map(move |result, session, ctx| {
                    let result = result.map_err(|e| session.explain(&id, &e));
                    session.reply(&id, &result);
                    session.free(ctx);
                }));
            }
        }
    }

    /// A command is done.
    pub(super) fn free(&mut self, ctx: &mut Ctx) {
        self.busy = false;
        self.next(ctx);
    }

    fn authenticate(&mut self, id: Value, data: Value, ctx: &mut Ctx) {
        let token = match input::parse_value::<Auth>(data) {
            Ok(auth) => auth.token,
            Err(refusal) => return self.refuse(&id, &refusal.into()),
        };
        self.busy = true;
        let check = self.world.ops.authenticate(token);
        ctx.spawn(check.into_actor(self).map(move |checked, session, ctx| {
            match checked {
                Ok(who) if session.identity.as_ref().is_some_and(|i| i.user_id != who.user_id) => {
                    session.refuse(&id, &Refusal::Forbidden.into());
                }
                Ok(who) => {
                    session.reply(&id, &Ok(session.welcome(&who)));
                    session.become_known(who, ctx);
                }
                Err(e) => {
                    session.refuse(&id, &e);
                    if session.identity.is_none() {
                        session.line.close(Close::Unauthenticated);
                    }
                }
            }
            session.free(ctx);
        }));
    }

    fn welcome(&self, who: &Identity) -> Value {
        json!({
            "userId": who.user_id,
            "sessionId": who.session_id,
            "expiresAt": who.expires_at,
            "heartbeatMs": u64::try_from(self.world.rules.heartbeat.as_millis()).unwrap_or(u64::MAX),
            "limits": {
                "frameBytes": protocol::MAX_FRAME,
                "subscriptions": protocol::MAX_SUBSCRIPTIONS,
                "commandsPerSecond": protocol::COMMANDS_PER_SECOND,
                "queuedCommands": protocol::MAX_QUEUED,
            },
        })
    }

    fn pong(&self) -> Value {
        let mut board = self.world.board.borrow_mut();
        let heads: serde_json::Map<String, Value> = self
            .channels
            .iter()
            .filter(|c| c.is_durable())
            .filter_map(|c| Some((c.to_string(), board.head(*c, &self.line)?.into())))
            .collect();
        json!({ "now": super::now(), "heads": heads })
    }
}
