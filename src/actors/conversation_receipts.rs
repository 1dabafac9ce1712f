//! Receipts: how far the members of a conversation have come, and who hears of it when.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use diesel_async::AsyncConnection;
use serde_json::json;
use uuid::Uuid;

use super::conversation::ConversationActor;
use super::conversation_inbox::Happened;
use crate::bus::Envelope;
use crate::domain::channel::Channel;
use crate::domain::chat::{Shown, Watermarks};
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::models::conversations::{self, Advanced};
use crate::models::outbox;
use crate::models::pool::Pool;

/// At most one receipt of a member reaches others in this time.
const PAUSE: Duration = Duration::from_millis(250);

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The messages reached a device.
    Received,
    /// The messages were read.
    Read,
}

/// A member acknowledges everything up to `seq`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Advanced>")]
pub struct Acknowledge {
    pub user_id: Uuid,
    pub seq: i64,
    pub receipt: Receipt,
}

/// What others are still to hear of a member to whose last receipt they were told a moment ago.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    delivered: Option<i64>,
    read: Option<i64>,
}

impl Receipts {
    /// Notes what others see `now` and did not see `before`.
    fn note(&mut self, before: Shown, now: Shown) {
        if now.delivered > before.delivered {
            self.delivered = self.delivered.max(Some(now.delivered));
        }
        if now.read > before.read {
            self.read = self.read.max(now.read);
        }
    }

    /// The next event to tell. What was read was delivered.
    fn next(&mut self) -> Option<(&'static str, i64)> {
        if let Some(read) = self.read.take() {
            self.delivered = self.delivered.filter(|seq| *seq > read);
            return Some(("message:read", read));
        }
        self.delivered.take().map(|seq| ("message:delivered", seq))
    }
}

impl Handler<Acknowledge> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<Advanced>>;

    fn handle(&mut self, ack: Acknowledge, _: &mut Context<Self>) -> Self::Result {
        let (known, pool, id) = (self.known(), self.pool.clone(), self.id);
        let store = async move {
            known?;
            store_receipt(&pool, id, ack).await
        };
        Box::pin(store.into_actor(self).map(move |marked, actor, ctx| {
            let marked = marked?;
            // A repeated receipt tells nobody anything.
            if marked.moved {
                let (before, now) = marked.shown;
                actor.tell_receipt(ack.user_id, before, now, ctx);
            }
            if marked.moved && ack.receipt == Receipt::Read {
                actor.note(Happened::Read(ack.user_id, marked.marks.read));
                actor.fanout.bus().publish(&Envelope::Read {
                    conversation_id: actor.id,
                    user_id: ack.user_id,
                    seq: marked.marks.read,
                });
                let data = json!({
                    "conversationId": actor.id,
                    "readSeq": marked.marks.read,
                    "unread": marked.unread,
                });
                let inbox = Channel::User(ack.user_id);
                actor.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
            }
            Ok(marked)
        }))
    }
}

impl ConversationActor {
    fn tell_receipt(&mut self, user_id: Uuid, before: Shown, now: Shown, ctx: &mut Context<Self>) {
        if before == now {
            return;
        }
        let is_quiet = !self.receipts.contains_key(&user_id);
        self.receipts.entry(user_id).or_default().note(before, now);
        if is_quiet {
            self.tell_next_receipt(user_id, ctx);
        }
    }

    /// Tells what there is to tell of `user_id`, and looks again after the pause.
    fn tell_next_receipt(&mut self, user_id: Uuid, ctx: &mut Context<Self>) {
        let Some((event, seq)) = self.receipts.get_mut(&user_id).and_then(Receipts::next) else {
            self.receipts.remove(&user_id);
            return;
        };
        let data = json!({ "conversationId": self.id, "userId": user_id, "upTo": seq });
        self.fanout.publish_ephemeral(Channel::Conversation(self.id), event, &data);
        ctx.run_later(PAUSE, move |actor, ctx| actor.tell_next_receipt(user_id, ctx));
    }
}

/// Moves the watermark and cancels the pushes that it makes needless, in one transaction.
async fn store_receipt(pool: &Pool, id: Uuid, ack: Acknowledge) -> Result<Advanced> {
    let mut conn = pool.get().await?;
    let moved = conn
        .transaction::<_, diesel::result::Error, _>(async |conn| {
            let step = |marks: Watermarks, head, private| match ack.receipt {
                Receipt::Received => marks.delivered_to(ack.seq, head),
                Receipt::Read => marks.read_to(ack.seq, head, private),
            };
            let moved = conversations::advance(conn, id, ack.user_id, step).await?;
            if let Some(Advanced { marks, .. }) = moved {
                let topic = format!("conversation:{id}");
                outbox::cancel_up_to(conn, ack.user_id, &topic, marks.delivered).await?;
            }
            Ok(moved)
        })
        .await?;
    Ok(moved.ok_or(Refusal::NotFound("conversation"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_is_told_and_reading_tells_delivery() {
        let shown = |delivered, read| Shown { delivered, read };
        let mut receipts = Receipts::default();
        receipts.note(shown(0, Some(0)), shown(3, Some(0)));
        receipts.note(shown(3, Some(0)), shown(3, Some(2)));
        receipts.note(shown(3, Some(2)), shown(5, Some(4)));
        assert_eq!(receipts.next(), Some(("message:read", 4)));
        assert_eq!(receipts.next(), Some(("message:delivered", 5)));
        assert_eq!(receipts.next(), None);
        // Reading up to what was delivered tells both at once.
        receipts.note(shown(5, Some(4)), shown(6, Some(6)));
        assert_eq!((receipts.next(), receipts.next()), (Some(("message:read", 6)), None));
        // Of a private reader nothing but deliveries is told.
        receipts.note(shown(6, None), shown(7, None));
        assert_eq!((receipts.next(), receipts.next()), (Some(("message:delivered", 7)), None));
    }
}
