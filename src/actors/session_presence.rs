//! The op by which a device says that nobody looks at it, or that somebody does again.

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Error;
use super::session::{Ctx, Identity, Session};
use crate::domain::input;
use crate::domain::presence::State;
use crate::domain::refusal::Refusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresenceData {
    state: String,
}

fn read(data: Value) -> Result<bool, Refusal> {
    let data: PresenceData = input::parse_value(data)?;
    match State::parse(&data.state) {
        Some(State::Away) => Ok(true),
        Some(State::Online) => Ok(false),
        // Who is offline can not say so: that is what closing the socket means.
        Some(State::Offline) | None => Err(Refusal::field("state", "must be away or online")),
    }
}

impl Session {
    /// Carries out `presence:set`, which is about this socket alone.
    pub(super) fn set_presence(&mut self, id: Value, who: &Identity, data: Value, ctx: &mut Ctx) {
        let away = match read(data) {
            Ok(away) => away,
            Err(refusal) => return self.refuse(&id, &refusal.into()),
        };
        self.busy = true;
        let (presence, user_id, socket) = (self.world.presence.clone(), who.user_id, self.id);
        let said = async move { presence.says(user_id, socket, away).await };
        ctx.spawn(said.into_actor(self).map(move |said, session, ctx| {
            match said {
                Ok(true) => session.reply(&id, &Ok(json!({}))),
                Ok(false) => session.refuse(&id, &Error::overloaded()),
                Err(e) => session.refuse(&id, &e),
            }
            session.free(ctx);
        }));
    }
}
