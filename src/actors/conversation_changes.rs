//! What changes a conversation beside new messages: edits, reactions, members.

use actix::{ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use diesel::QueryResult;
use serde_json::json;
use uuid::Uuid;

use super::committer::Batch;
use super::conversation::{self, ConversationActor};
use super::conversation_inbox::Happened;
use super::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::Conn;
use crate::models::calendar_commit::StoredEvent;
use crate::models::conversation_changes::{self, Change, Done, Job, Outcome};

/// How changes are committed.
pub struct ChangeBatch;

impl Batch for ChangeBatch {
    type Job = Job;
    type Outcome = Outcome;

    fn key(job: &Job) -> Uuid {
        job.conversation_id
    }

    async fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[Job],
    ) -> QueryResult<(Vec<Outcome>, Vec<StoredEvent>)> {
        conversation_changes::commit(conn, jobs).await
    }
}

/// A member changes something. Who may do what is decided in the transaction.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Box<Done>>")]
pub struct Alter {
    pub actor_id: Uuid,
    pub change: Change,
}

impl Handler<Alter> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<Box<Done>>>;

    fn handle(&mut self, alter: Alter, _: &mut Context<Self>) -> Self::Result {
        let (known, changes, pool, id) =
            (self.known(), self.changes.clone(), self.pool.clone(), self.id);
        let fanout = self.fanout.clone();
        let commit = async move {
            known?;
            let Alter { actor_id, change } = alter;
            match changes.submit(Job { conversation_id: id, actor_id, change }).await? {
                Outcome::Refused(refusal) => Err(Error::from(refusal)),
                Outcome::Done(done) if done.members_changed => {
                    // First of all: reading who is left may take its time.
                    if let Some(user_id) = done.expelled {
                        expel(&fanout, id, user_id);
                    }
                    // What can not be read now is noticed by the next message.
                    let now = conversation::load(pool, id).await.ok();
                    Ok((done, now))
                }
                Outcome::Done(done) => Ok((done, None)),
            }
        };
        Box::pin(commit.into_actor(self).map(|made, actor, ctx| {
            let (done, known) = made?;
            if let Some(known) = known {
                actor.know(known);
            }
            if done.fresh {
                actor.note(Happened::Other);
                actor.tell_inboxes(ctx);
            }
            Ok(done)
        }))
    }
}

/// Members came or went on another node: look again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<()>")]
pub struct Refresh;

impl Handler<Refresh> for ConversationActor {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, _: Refresh, _: &mut Context<Self>) -> Self::Result {
        let load = conversation::load(self.pool.clone(), self.id);
        Box::pin(load.into_actor(self).map(|loaded, actor, _| {
            actor.know(loaded?);
            actor.note(Happened::Other);
            Ok(())
        }))
    }
}

/// Ends the subscriptions of who is no member of `conversation` any more, everywhere, and tells
/// their inbox.
fn expel(fanout: &Fanout, conversation: Uuid, user_id: Uuid) {
    fanout.expel(Channel::Conversation(conversation), user_id);
    let data = json!({ "conversationId": conversation, "left": true });
    fanout.publish_ephemeral(Channel::User(user_id), "conversation:updated", &data);
}

/// The message of a change of one.
pub fn message_of(done: Done) -> Result<crate::models::messages::Told> {
    Ok(done.message.ok_or(Refusal::NotFound("message"))?)
}
