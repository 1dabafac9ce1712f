//! One conversation: gives its messages their order on this node, knows who is typing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message,
    ResponseActFuture, WrapFuture,
};
use diesel::QueryResult;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::committer::{Batch, Committer};
use super::conversation_changes::{ChangeBatch, Refresh};
use super::conversation_inbox::{Happened, Inboxes, ReadElsewhere};
use super::conversation_receipts::Receipts;
use super::conversation_typing::Typing;
use super::directory::Directory;
use super::fanout::Fanout;
use crate::counters;
use crate::domain::channel::Channel;
use crate::domain::chat::MessageType;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::Conn;
use crate::models::calendar_commit::StoredEvent;
use crate::models::conversations::{self, Loaded};
use crate::models::json::Json;
use crate::models::message_commit::{self, NewMessage, Outcome, Stored};
use crate::models::messages::Told;
use crate::models::pool::Pool;

/// An actor that nobody spoke to for so long stops; the next message starts it again.
const IDLE: Duration = Duration::from_secs(300);
/// How often a message is tried while members come and go.
const ATTEMPTS: usize = 5;

/// How messages are committed.
pub struct MessageBatch {
    /// How long a push waits for an acknowledgement.
    pub push_window: Duration,
}

impl Batch for MessageBatch {
    type Job = NewMessage;
    type Outcome = Outcome;

    fn key(job: &NewMessage) -> Uuid {
        job.conversation_id
    }

    async fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[NewMessage],
    ) -> QueryResult<(Vec<Outcome>, Vec<StoredEvent>)> {
        let outcomes = message_commit::commit(conn, self.push_window, jobs).await?;
        for outcome in &outcomes {
            if let Outcome::Stored(stored) = outcome {
                counters::message_stored(stored.fresh);
            }
        }
        let events = outcomes.iter().filter_map(event_of).collect();
        Ok((outcomes, events))
    }
}

/// The data of `message:new`.
#[derive(Serialize)]
struct MessageNew<'a> {
    message: &'a Told,
}

fn event_of(outcome: &Outcome) -> Option<StoredEvent> {
    let Outcome::Stored(stored) = outcome else { return None };
    let Stored { message: told, fresh: true } = &**stored else { return None };
    Some(StoredEvent {
        channel: Channel::Conversation(told.message.conversation_id),
        seq: told.message.seq,
        event: "message:new",
        at: told.message.created_at,
        data: Json::of(&MessageNew { message: told }),
    })
}

/// One conversation.
pub struct ConversationActor {
    pub(super) id: Uuid,
    pub(super) pool: Pool,
    pub(super) fanout: Fanout,
    committer: Committer<MessageBatch>,
    pub(super) changes: Committer<ChangeBatch>,
    /// `None` until loaded; then why it could not be, or what it is and who is in it.
    loaded: Option<Result<Arc<Loaded>>>,
    pub(super) typing: HashMap<Uuid, Typing>,
    pub(super) receipts: HashMap<Uuid, Receipts>,
    pub(super) inboxes: Inboxes,
    last_used: Timestamp,
}

impl Actor for ConversationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Messages wait until this is done.
        ctx.wait(load(self.pool.clone(), self.id).into_actor(self).map(|loaded, actor, ctx| {
            if loaded.is_err() {
                ctx.run_later(Duration::from_millis(100), |_, ctx| ctx.stop());
            }
            actor.loaded = Some(loaded);
        }));
        ctx.run_interval(IDLE / 2, |actor, ctx| {
            if crate::clock::now().duration_since(actor.last_used).unsigned_abs() > IDLE {
                ctx.stop();
            }
        });
    }
}

pub(super) async fn load(pool: Pool, id: Uuid) -> Result<Arc<Loaded>> {
    let mut conn = pool.get().await?;
    let found = conversations::load(&mut conn, id).await?;
    Ok(Arc::new(found.ok_or(Refusal::NotFound("conversation"))?))
}

impl ConversationActor {
    /// The conversation as this node knows it.
    pub(super) fn known(&mut self) -> Result<Arc<Loaded>> {
        self.last_used = crate::clock::now();
        match &self.loaded {
            Some(loaded) => loaded.clone(),
            None => Err(Error::Fault("conversation not loaded".to_owned())),
        }
    }

    /// Goes by `loaded` from now on, unless something newer is known.
    pub(super) fn know(&mut self, loaded: Arc<Loaded>) {
        if let Some(Ok(known)) = &self.loaded
            && known.members_seq > loaded.members_seq
        {
            return;
        }
        self.loaded = Some(Ok(loaded));
    }

    /// The conversation, if `user_id` is in it. Who is not by what this node knows may have been
    /// taken in elsewhere: it looks again.
    pub(super) fn as_member(
        &mut self,
        user_id: Uuid,
    ) -> impl Future<Output = Result<Arc<Loaded>>> + use<> {
        let (known, pool, id) = (self.known(), self.pool.clone(), self.id);
        async move {
            let known = known?;
            if known.member(user_id).is_some() {
                return Ok(known);
            }
            let found = load(pool, id).await?;
            match found.member(user_id) {
                Some(_) => Ok(found),
                None => Err(Refusal::NotFound("conversation").into()),
            }
        }
    }
}

/// A message is written.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Told>")]
pub struct Send {
    /// A member; nobody for a line of the platform.
    pub sender_id: Option<Uuid>,
    /// The sender's own id: sent again, it gives the same answer for ever.
    pub client_id: Uuid,
    pub kind: MessageType,
    pub content: String,
    pub attachments: Value,
    /// The files in `attachments`.
    pub files: Vec<Uuid>,
    pub reply_to: Option<Uuid>,
    pub booking_id: Option<Uuid>,
    /// Of a line of the platform: what happened.
    pub system_event: Option<&'static str>,
}

impl Handler<Send> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<Told>>;

    fn handle(&mut self, send: Send, ctx: &mut Context<Self>) -> Self::Result {
        counters::message_accepted();
        if let Some(sender) = send.sender_id {
            self.stop_typing(sender, ctx);
        }
        let (known, committer) = (self.known(), self.committer.clone());
        let commit = write(committer, self.pool.clone(), self.id, known, send);
        Box::pin(commit.into_actor(self).map(|stored, actor, ctx| {
            let (stored, known) = stored.inspect_err(|_| counters::message_refused())?;
            actor.know(known);
            if stored.fresh {
                actor.note(Happened::stored(&stored.message));
                actor.tell_inboxes_along(ctx);
            }
            Ok(stored.message)
        }))
    }
}

/// Commits a message for the members whom this node knows of, or those whom it finds when it was
/// wrong about them.
async fn write(
    committer: Committer<MessageBatch>,
    pool: Pool,
    id: Uuid,
    known: Result<Arc<Loaded>>,
    send: Send,
) -> Result<(Box<Stored>, Arc<Loaded>)> {
    let mut known = known?;
    let mut looked = false;
    for _ in 0..ATTEMPTS {
        match prepare(id, &known, &send) {
            Some(new) => match committer.submit(new).await? {
                Outcome::Stored(stored) => return Ok((stored, known)),
                Outcome::Gone => return Err(Refusal::NotFound("conversation").into()),
                Outcome::Refused(refusal) => return Err(refusal.into()),
                Outcome::Stale => {}
            },
            None if looked => return Err(Refusal::NotFound("conversation").into()),
            None => {}
        }
        known = load(pool.clone(), id).await?;
        looked = true;
    }
    Err(Error::overloaded())
}

/// The message as it is to be stored; `None` when its sender is no member.
fn prepare(id: Uuid, known: &Loaded, send: &Send) -> Option<NewMessage> {
    let sender_first_name = match send.sender_id {
        Some(sender) => known.member(sender)?.first_name.clone(),
        None => String::new(),
    };
    let others = known.members.iter().map(|m| m.user_id).filter(|m| Some(*m) != send.sender_id);
    Some(NewMessage {
        id: Uuid::now_v7(),
        conversation_id: id,
        sender_id: send.sender_id,
        sender_first_name,
        client_id: send.client_id,
        kind: send.kind.as_str(),
        content: send.content.clone(),
        attachments: send.attachments.clone(),
        files: send.files.clone(),
        reply_to: send.reply_to,
        booking_id: send.booking_id,
        system_event: send.system_event,
        members_seq: known.members_seq,
        // What the platform says was notified already.
        recipients: if send.sender_id.is_some() { others.collect() } else { Vec::new() },
    })
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
        changes: Committer<ChangeBatch>,
    ) -> Self {
        Self(Directory::new(threads, move |id, _| ConversationActor {
            id,
            pool: pool.clone(),
            fanout: fanout.clone(),
            committer: committer.clone(),
            changes: changes.clone(),
            loaded: None,
            typing: HashMap::new(),
            receipts: HashMap::new(),
            inboxes: Inboxes::default(),
            last_used: crate::clock::now(),
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

    /// Members of conversation `id` came or went on another node. An actor that is alive looks
    /// again; one that can not be told now finds out when somebody writes.
    pub fn refresh_soon(&self, id: Uuid) {
        self.tell_soon(id, Refresh);
    }

    /// A member of conversation `id` has read up to `seq`, at another node.
    pub fn read_elsewhere(&self, id: Uuid, user_id: Uuid, seq: i64) {
        self.tell_soon(id, ReadElsewhere { user_id, seq });
    }

    fn tell_soon<M>(&self, id: Uuid, message: M)
    where
        M: Message + std::marker::Send + 'static,
        M::Result: std::marker::Send,
        ConversationActor: Handler<M>,
    {
        if let (Some(actor), Ok(permit)) = (self.0.find(id), self.0.permit()) {
            tokio::spawn(async move {
                let _ = actor.send(message).await;
                drop(permit);
            });
        }
    }
}
