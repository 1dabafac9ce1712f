//! What the inboxes of a conversation's members hear of it: its head, what is unread, how it goes on.
//!
//! Inboxes are told at once when it was quiet, and at most once per pause when it is not: the last
//! state is always told. So the cost of a busy conversation does not grow with its messages.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use serde_json::json;

use super::conversation::ConversationActor;
use super::error;
use crate::domain::channel::Channel;
use crate::models::conversations::{self, Heads};

/// Between two times that the inboxes are told.
const PAUSE: Duration = Duration::from_millis(250);

/// Whether the inboxes are being told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum InboxNews {
    /// They know everything.
    #[default]
    Told,
    /// They are being told, or were a moment ago.
    Telling,
    /// The same, and something happened since.
    Stale,
}

impl ConversationActor {
    /// Tells every member's inbox where the conversation is.
    pub(super) fn tell_inboxes(&mut self, ctx: &mut Context<Self>) {
        if self.inbox_news != InboxNews::Told {
            self.inbox_news = InboxNews::Stale;
            return;
        }
        self.inbox_news = InboxNews::Telling;
        let (pool, id) = (self.pool.clone(), self.id);
        let read = async move {
            let mut conn = pool.get().await?;
            error::Result::Ok(conversations::heads(&mut conn, id).await?)
        };
        ctx.spawn(read.into_actor(self).map(|heads, actor, ctx| {
            match heads {
                Ok(heads) => actor.tell_heads(&heads),
                // Not kept: the list of conversations tells the same.
                Err(e) => tracing::debug!("inboxes are not told: {e:?}"),
            }
            ctx.run_later(PAUSE, |actor, ctx| {
                if std::mem::take(&mut actor.inbox_news) == InboxNews::Stale {
                    actor.tell_inboxes(ctx);
                }
            });
        }));
    }

    fn tell_heads(&self, heads: &Heads) {
        for member in &heads.members {
            let data = json!({
                "conversationId": self.id,
                "lastSeq": heads.head,
                "readSeq": member.read,
                "unread": member.unread,
                "preview": heads.preview,
            });
            let inbox = Channel::User(member.user_id);
            self.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
        }
    }
}
