//! The op by which a device says that nobody looks at it, or that somebody does again.

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::session::{Ctx, Session};
use super::socket_machine::Input;
use crate::domain::input;
use crate::domain::presence::State;
use crate::domain::refusal::Refusal;

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
}
