//! What a socket says and asks of presence: that nobody looks at its device, or somebody does again;
//! and how those are seen whom it begins to follow.

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::session::{Ctx, Session};
use super::session_channels::Asked;
use super::socket_machine::Input;
use super::subscriptions;
use super::switchboard::Ticket;
use crate::domain::channel::Channel;
use crate::domain::input;
use crate::domain::presence::State;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};

/// Users of one socket whose presence is asked about at once.
const LOOKS: usize = 32;
/// How often those are looked at again of whom something was told meanwhile; after that the client has
/// to ask again.
const ROUNDS: usize = 5;

/// A user whose presence is asked about, for one who may know it.
#[derive(Clone, Copy)]
pub(super) struct Watching {
    pub user_id: Uuid,
    pub ticket: Ticket,
    /// When a session of theirs was last used.
    pub last_used: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresenceData {
    state: String,
}

fn read(data: Value) -> std::result::Result<bool, Refusal> {
    let data: PresenceData = input::parse_value(data)?;
    match State::parse(&data.state) {
        Some(State::Away) => Ok(true),
        Some(State::Online) => Ok(false),
        // Who is offline can not say so: that is what closing the socket means.
        Some(State::Offline) | None => Err(Refusal::field("state", "must be away or online")),
    }
}

impl Session {
    /// Carries out `presence:set`, which is about this socket alone; an answer that needs no
    /// waiting is returned.
    pub(super) fn set_presence(&mut self, data: Value, ctx: &mut Ctx) -> Option<Result<Value>> {
        let away = match read(data) {
            Ok(away) => away,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        let user_id = self.user_id()?;
        let (presence, socket) = (self.world.presence.clone(), self.socket.id);
        let said = async move { presence.says(user_id, socket, away).await };
        ctx.spawn(said.into_actor(self).map(|said, session, ctx| {
            let said = said.and_then(|heard| match heard {
                true => Ok(json!({})),
                false => Err(Error::overloaded()),
            });
            session.feed(Input::Finished(said), ctx);
        }));
        None
    }

    /// Finds out how users are seen, and then answers. What is told of them must come after an answer
    /// that knows it: until then nothing is handed over, and who changed meanwhile is looked at again.
    pub(super) fn look(&mut self, watching: Vec<Watching>, asked: Asked, ctx: &mut Ctx) {
        self.look_on(watching, ROUNDS, asked, ctx);
    }

    fn look_on(&mut self, watching: Vec<Watching>, rounds: usize, asked: Asked, ctx: &mut Ctx) {
        if watching.is_empty() {
            return self.answer_resume(asked, ctx);
        }
        let presence = self.world.presence.clone();
        let looks = stream::iter(watching.clone()).map(move |one| {
            let presence = presence.clone();
            async move { subscriptions::open_presence(&presence, one.user_id, one.last_used).await }
        });
        let looks = looks.buffered(LOOKS).collect::<Vec<_>>();
        ctx.spawn(looks.into_actor(self).map(move |seen, session, ctx| {
            let stirred = session.stirred(&watching);
            if rounds > 1 && stirred.contains(&true) {
                return session.look_on(watching, rounds - 1, asked, ctx);
            }
            let mut asked = asked;
            for ((one, seen), stirred) in watching.into_iter().zip(seen).zip(stirred) {
                let Watching { user_id, ticket, .. } = one;
                let channel = Channel::Presence(user_id);
                let seen = if stirred { Err(Error::overloaded()) } else { seen };
                if seen.is_ok() {
                    session.world.board.borrow_mut().admit(channel, &session.socket.line, ticket);
                }
                match session.opened(channel, None, seen, ticket, asked, ctx) {
                    Some(more) => asked = more,
                    None => return,
                }
            }
            session.answer_resume(asked, ctx);
        }));
    }

    /// Of whom something was told since they were looked at.
    fn stirred(&self, watching: &[Watching]) -> Vec<bool> {
        let mut board = self.world.board.borrow_mut();
        let line = &self.socket.line;
        let heard = watching
            .iter()
            .map(|one| board.was_stirred(Channel::Presence(one.user_id), line, one.ticket));
        heard.collect()
    }
}
