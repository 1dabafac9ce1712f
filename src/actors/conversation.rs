//! One conversation: gives its messages their order on this node, knows who is typing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message,
    ResponseActFuture, SpawnHandle, WrapFuture,
};
use diesel::QueryResult;
use diesel_async::AsyncConnection;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::committer::{Batch, Committer};
use super::directory::Directory;
use super::error::{Error, Result};
use super::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::domain::chat::{MessageType, Watermarks};
use crate::domain::refusal::Refusal;
use crate::models::calendar_commit::StoredEvent;
use crate::models::conversations::{self, Advanced, Member};
use crate::models::message_commit::{self, NewMessage, Stored};
use crate::models::messages::Message as Row;
use crate::models::pool::Pool;
use crate::models::{Conn, outbox};

/// An actor that nobody spoke to for so long stops; the next message starts it again.
const IDLE: Duration = Duration::from_secs(300);
/// Somebody who typed and said nothing more is taken to have stopped.
const TYPING_EXPIRES: Duration = Duration::from_secs(6);
/// At most one typing event of a user reaches others in this time.
const TYPING_PAUSE: Duration = Duration::from_secs(3);

/// How messages are committed.
pub struct MessageBatch {
    /// How long a push waits for an acknowledgement.
    pub push_window: Duration,
}

impl Batch for MessageBatch {
    type Job = NewMessage;
    type Outcome = Stored;

    async fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[NewMessage],
    ) -> QueryResult<(Vec<Stored>, Vec<StoredEvent>)> {
        let stored = message_commit::commit(conn, self.push_window, jobs).await?;
        let events = stored
            .iter()
            .filter(|s| s.fresh)
            .map(|Stored { message, .. }| StoredEvent {
                channel: Channel::Conversation(message.conversation_id),
                seq: message.seq,
                event: "message:new",
                at: message.created_at,
                data: json!({ "message": message }),
            })
            .collect();
        Ok((stored, events))
    }
}

/// One conversation.
pub struct ConversationActor {
    id: Uuid,
    pool: Pool,
    fanout: Fanout,
    committer: Committer<MessageBatch>,
    /// `None` until loaded; then why it could not be, or who is in it.
    members: Option<Result<Vec<Member>>>,
    typing: HashMap<Uuid, Typing>,
    last_used: Timestamp,
}

/// A member who types, or stopped so short a time ago that they must not be told of anew.
struct Typing {
    told_at: Timestamp,
    /// Whether the others believe that they type.
    shown: bool,
    /// Ends the typing, or forgets about it.
    timer: SpawnHandle,
}

impl Actor for ConversationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (pool, id) = (self.pool.clone(), self.id);
        let load = async move {
            let mut conn = pool.get().await?;
            let found = conversations::load(&mut conn, id).await?;
            found.map(|(_, members)| members).ok_or(Refusal::NotFound("conversation").into())
        };
        // Messages wait until this is done.
        ctx.wait(load.into_actor(self).map(|loaded, actor, ctx| {
            if loaded.is_err() {
                ctx.run_later(Duration::from_millis(100), |_, ctx| ctx.stop());
            }
            actor.members = Some(loaded);
        }));
        ctx.run_interval(IDLE / 2, |actor, ctx| {
            if super::now().duration_since(actor.last_used).unsigned_abs() > IDLE {
                ctx.stop();
            }
        });
    }
}

impl ConversationActor {
    /// The members, if `user_id` is one of them.
    fn members_for(&mut self, user_id: Uuid) -> Result<&[Member]> {
        self.last_used = super::now();
        let members = match &self.members {
            Some(Ok(members)) => members,
            Some(Err(e)) => return Err(e.clone()),
            None => return Err(Error::Fault("conversation not loaded".to_owned())),
        };
        if members.iter().any(|m| m.user_id == user_id) {
            Ok(members)
        } else {
            Err(Refusal::NotFound("conversation").into())
        }
    }

    fn tell_typing(&self, user_id: Uuid, event: &str) {
        let data = json!({ "conversationId": self.id, "userId": user_id });
        self.fanout.publish_ephemeral(Channel::Conversation(self.id), event, &data);
    }

    fn stop_typing(&mut self, user_id: Uuid, ctx: &mut Context<Self>) {
        let Some(typing) = self.typing.get_mut(&user_id) else { return };
        ctx.cancel_future(typing.timer);
        typing.timer = ctx.run_later(TYPING_PAUSE, move |actor, _| {
            actor.typing.remove(&user_id);
        });
        if std::mem::take(&mut typing.shown) {
            self.tell_typing(user_id, "typing:stop");
        }
    }
}

/// A member sends a message.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Row>")]
pub struct Send {
    pub sender_id: Uuid,
    /// The sender's own id: sent again, it gives the same answer for ever.
    pub client_id: Uuid,
    pub kind: MessageType,
    pub content: String,
    pub attachments: Value,
    pub reply_to: Option<Uuid>,
}

impl Handler<Send> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<Row>>;

    fn handle(&mut self, send: Send, ctx: &mut Context<Self>) -> Self::Result {
        let id = self.id;
        let prepared = self.members_for(send.sender_id).map(|members| NewMessage {
            id: Uuid::now_v7(),
            conversation_id: id,
            sender_id: send.sender_id,
            sender_first_name: members
                .iter()
                .find(|m| m.user_id == send.sender_id)
                .map(|m| m.first_name.clone())
                .unwrap_or_default(),
            client_id: send.client_id,
            kind: send.kind.as_str(),
            content: send.content,
            attachments: send.attachments,
            reply_to: send.reply_to,
            recipients: members
                .iter()
                .map(|m| m.user_id)
                .filter(|m| *m != send.sender_id)
                .collect(),
        });
        self.stop_typing(send.sender_id, ctx);
        let committer = self.committer.clone();
        let commit = async move { committer.submit(prepared?).await };
        Box::pin(commit.into_actor(self).map(|stored, actor, _| {
            let stored = stored?;
            if stored.fresh {
                actor.tell_inboxes(stored.message.seq);
            }
            Ok(stored.message)
        }))
    }
}

impl ConversationActor {
    /// Tells every member's inbox that the conversation has a new head.
    fn tell_inboxes(&self, head: i64) {
        let Some(Ok(members)) = &self.members else { return };
        let data = json!({ "conversationId": self.id, "lastSeq": head });
        for member in members {
            let inbox = Channel::User(member.user_id);
            self.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
        }
    }
}

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

impl Handler<Acknowledge> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<Advanced>>;

    fn handle(&mut self, ack: Acknowledge, _: &mut Context<Self>) -> Self::Result {
        let (pool, id) = (self.pool.clone(), self.id);
        let allowed = self.members_for(ack.user_id).map(|_| ());
        let store = async move {
            allowed?;
            store_receipt(&pool, id, ack).await
        };
        Box::pin(store.into_actor(self).map(move |marked, actor, _| {
            let marked = marked?;
            if !marked.moved {
                // A repeated receipt tells nobody anything.
                return Ok(marked);
            }
            let (event, seq) = match ack.receipt {
                Receipt::Received => ("message:delivered", marked.marks.delivered),
                Receipt::Read => ("message:read", marked.marks.read),
            };
            let data = json!({ "conversationId": actor.id, "userId": ack.user_id, "upTo": seq });
            actor.fanout.publish_ephemeral(Channel::Conversation(actor.id), event, &data);
            if ack.receipt == Receipt::Read {
                let data = json!({
                    "conversationId": actor.id, "readSeq": seq, "unread": marked.unread,
                });
                let inbox = Channel::User(ack.user_id);
                actor.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
            }
            Ok(marked)
        }))
    }
}

/// Moves the watermark and cancels the pushes that it makes needless, in one transaction.
async fn store_receipt(pool: &Pool, id: Uuid, ack: Acknowledge) -> Result<Advanced> {
    let mut conn = pool.get().await?;
    let moved = conn
        .transaction::<_, diesel::result::Error, _>(async |conn| {
            let step = |marks: Watermarks, head| match ack.receipt {
                Receipt::Received => marks.delivered_to(ack.seq, head),
                Receipt::Read => marks.read_to(ack.seq, head),
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

/// A member starts or stops typing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<()>")]
pub struct TypingChanged {
    pub user_id: Uuid,
    pub typing: bool,
}

impl Handler<TypingChanged> for ConversationActor {
    type Result = Result<()>;

    fn handle(&mut self, change: TypingChanged, ctx: &mut Context<Self>) -> Result<()> {
        self.members_for(change.user_id)?;
        let user_id = change.user_id;
        if !change.typing {
            self.stop_typing(user_id, ctx);
            return Ok(());
        }
        let now = super::now();
        let before = self.typing.remove(&user_id).map(|typing| {
            ctx.cancel_future(typing.timer);
            (typing.told_at, typing.shown)
        });
        let (told_at, shown) = match before {
            Some((at, shown)) if now.duration_since(at).unsigned_abs() < TYPING_PAUSE => {
                (at, shown)
            }
            _ => {
                self.tell_typing(user_id, "typing:start");
                (now, true)
            }
        };
        let timer =
            ctx.run_later(TYPING_EXPIRES, move |actor, ctx| actor.stop_typing(user_id, ctx));
        self.typing.insert(user_id, Typing { told_at, shown, timer });
        Ok(())
    }
}

/// All conversations.
#[derive(Clone)]
pub struct Conversations(Directory<Uuid, ConversationActor>);

impl Conversations {
    /// Conversations whose actors run on `threads`.
    pub fn new(
        threads: Arc<[ArbiterHandle]>,
        pool: Pool,
        fanout: Fanout,
        committer: Committer<MessageBatch>,
    ) -> Self {
        Self(Directory::new(threads, move |id, _| ConversationActor {
            id,
            pool: pool.clone(),
            fanout: fanout.clone(),
            committer: committer.clone(),
            members: None,
            typing: HashMap::new(),
            last_used: super::now(),
        }))
    }

    /// Sends `message` to the actor of conversation `id` and waits for its answer. An actor that
    /// stopped just then is started again, once.
    pub async fn ask<M, T>(&self, id: Uuid, message: M) -> Result<T>
    where
        M: Message<Result = Result<T>> + Clone + std::marker::Send + 'static,
        T: std::marker::Send + 'static,
        ConversationActor: Handler<M>,
    {
        let _permit = self.0.permit()?;
        match self.0.find_or_start(id)?.send(message.clone()).await {
            Ok(answer) => answer,
            Err(_) => self.0.find_or_start(id)?.send(message).await?,
        }
    }
}
