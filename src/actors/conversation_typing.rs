//! Who is typing in a conversation, told in moderation.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::conversation::ConversationActor;
use crate::domain::channel::Channel;
use crate::error::Result;

/// Somebody who typed and said nothing more is taken to have stopped.
const TYPING_EXPIRES: Duration = Duration::from_secs(6);
/// At most one typing event of a user reaches others in this time.
const TYPING_PAUSE: Duration = Duration::from_secs(3);

/// A member who types, or stopped so short a time ago that they must not be told of anew.
pub(super) struct Typing {
    told_at: Timestamp,
    /// Whether the others believe that they type.
    shown: bool,
    /// Tells what could not be told yet, ends the typing, or forgets about it.
    timer: SpawnHandle,
}

impl ConversationActor {
    fn tell_typing(&self, user_id: Uuid, event: &str) {
        let data = json!({ "conversationId": self.id, "userId": user_id });
        self.fanout.publish_ephemeral(Channel::Conversation(self.id), event, &data);
    }

    /// A member types: others are told, or will be when they may be.
    pub(super) fn start_typing(&mut self, user_id: Uuid, ctx: &mut Context<Self>) {
        let now = crate::clock::now();
        let before = self.typing.remove(&user_id).map(|typing| {
            ctx.cancel_future(typing.timer);
            (typing.told_at, typing.shown)
        });
        let told = |at| now.duration_since(at).unsigned_abs();
        let (told_at, shown) = match before {
            Some((at, shown)) if told(at) < TYPING_PAUSE => (at, shown),
            _ => {
                self.tell_typing(user_id, "typing:start");
                (now, true)
            }
        };
        let timer = if shown {
            ctx.run_later(TYPING_EXPIRES, move |actor, ctx| actor.stop_typing(user_id, ctx))
        } else {
            // Others have just heard that they stopped; if they still type then, it is told.
            let left = TYPING_PAUSE.saturating_sub(told(told_at));
            ctx.run_later(left, move |actor, ctx| actor.start_typing(user_id, ctx))
        };
        self.typing.insert(user_id, Typing { told_at, shown, timer });
    }

    /// A member types no more.
    pub(super) fn stop_typing(&mut self, user_id: Uuid, ctx: &mut Context<Self>) {
        let Some(typing) = self.typing.get_mut(&user_id) else { return };
        ctx.cancel_future(typing.timer);
        let now = crate::clock::now();
        let told = now.duration_since(typing.told_at).unsigned_abs();
        if typing.shown && told < TYPING_PAUSE {
            let left = TYPING_PAUSE.saturating_sub(told);
            typing.timer = ctx.run_later(left, move |actor, ctx| actor.stop_typing(user_id, ctx));
            return;
        }
        typing.timer = ctx.run_later(TYPING_PAUSE, move |actor, _| {
            actor.typing.remove(&user_id);
        });
        if std::mem::take(&mut typing.shown) {
            typing.told_at = now;
            self.tell_typing(user_id, "typing:stop");
        }
    }
}

/// A member starts or stops typing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<()>")]
pub struct TypingChanged {
    pub user_id: Uuid,
    pub typing: bool,
}

impl Handler<TypingChanged> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, change: TypingChanged, _: &mut Context<Self>) -> Self::Result {
        let admitted = self.as_member(change.user_id);
        Box::pin(admitted.into_actor(self).map(move |known, actor, ctx| {
            actor.know(known?);
            if change.typing {
                actor.start_typing(change.user_id, ctx);
            } else {
                actor.stop_typing(change.user_id, ctx);
            }
            Ok(())
        }))
    }
}
