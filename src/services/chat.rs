//! Conversations, as their members use them.

use diesel_async::AsyncConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::actors::conversation::{Conversations, Send, TypingChanged};
use crate::actors::conversation_receipts::{Acknowledge, Receipt};
use crate::actors::error::Result;
use crate::actors::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::domain::chat::parse_sendable;
use crate::domain::refusal::Refusal;
use crate::models::conversations::{self, Advanced, Loaded, Summary};
use crate::models::messages::{self, Quote, Range, Told};
use crate::models::pool::Pool;
use crate::models::users;

/// A message that a member wants to send.
#[derive(Debug)]
pub struct Draft {
    /// The sender's own id for it.
    pub client_id: Uuid,
    /// `text`.
    pub kind: String,
    pub content: String,
    pub reply_to: Option<Uuid>,
}

/// A conversation with its members.
#[derive(Debug)]
pub struct Opened {
    pub id: Uuid,
    pub loaded: Loaded,
    /// Whether it did not exist before.
    pub is_new: bool,
}

/// A conversation in the list, and its newest message.
pub type Line = (Summary, Option<Quote>);

/// Chat.
pub struct Chat {
    pool: Pool,
    conversations: Conversations,
    fanout: Fanout,
}

impl Chat {
    /// Chat in the database of `pool`.
    pub fn new(pool: Pool, conversations: Conversations, fanout: Fanout) -> Self {
        Self { pool, conversations, fanout }
    }

    /// Opens the 1:1 conversation with `other`, or finds it.
    pub async fn open(&self, caller: &Caller, other: Uuid) -> Result<Opened> {
        if other == caller.user_id {
            return Err(Refusal::field("userId", "must be somebody else").into());
        }
        let mut conn = self.pool.get().await?;
        let active = users::find(&mut conn, other).await?.is_some_and(|u| u.status == "active");
        if !active {
            return Err(Refusal::field("userId", "there is no such user").into());
        }
        let me = caller.user_id;
        let (id, is_new) = conn
            .transaction(async |conn| {
                conversations::open_direct(conn, Uuid::now_v7(), me, other).await
            })
            .await?;
        let loaded =
            conversations::load(&mut conn, id).await?.ok_or(Refusal::NotFound("conversation"))?;
        if is_new {
            let data = json!({
                "conversationId": id, "lastSeq": loaded.head, "readSeq": 0, "unread": 0,
                "preview": null,
            });
            for member in &loaded.members {
                let inbox = Channel::User(member.user_id);
                self.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
            }
        }
        Ok(Opened { id, loaded, is_new })
    }

    /// A conversation of the caller; any other is `NotFound`.
    pub async fn find(&self, caller: &Caller, id: Uuid) -> Result<Loaded> {
        let mut conn = self.pool.get().await?;
        let found = conversations::load(&mut conn, id).await?;
        let found = found.filter(|loaded| loaded.member(caller.user_id).is_some());
        Ok(found.ok_or(Refusal::NotFound("conversation"))?)
    }

    /// A page of the caller's conversations, the one written to last first.
    pub async fn list(&self, caller: &Caller, page: Page) -> Result<(Vec<Line>, i64)> {
        let mut conn = self.pool.get().await?;
        let (rows, total) =
            conversations::list(&mut conn, caller.user_id, page.limit, page.offset()).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut previews = messages::previews(&mut conn, &ids).await?;
        let lines = rows.into_iter().map(|row| {
            let preview = previews.remove(&row.id);
            (row, preview)
        });
        Ok((lines.collect(), total))
    }

    /// Sends a message; the answer comes after the commit, and is the same for ever for the same
    /// client id.
    pub async fn send(&self, caller: &Caller, id: Uuid, draft: Draft) -> Result<Told> {
        let kind = parse_sendable(&draft.kind, &draft.content)?;
        if let Some(reply_to) = draft.reply_to {
            let mut conn = self.pool.get().await?;
            if !conversations::is_member(&mut conn, id, caller.user_id).await? {
                return Err(Refusal::NotFound("conversation").into());
            }
            if !messages::belongs(&mut conn, id, reply_to).await? {
                let problem = "must be a message of this conversation";
                return Err(Refusal::field("replyTo", problem).into());
            }
        }
        let send = Send {
            sender_id: Some(caller.user_id),
            client_id: draft.client_id,
            kind,
            content: draft.content,
            attachments: Value::Array(Vec::new()),
            reply_to: draft.reply_to,
            booking_id: None,
            system_event: None,
        };
        self.conversations.ask(id, send).await
    }

    /// Messages of a conversation of the caller.
    pub async fn history(
        &self,
        caller: &Caller,
        id: Uuid,
        range: Range,
        limit: i64,
    ) -> Result<Vec<Told>> {
        let mut conn = self.pool.get().await?;
        if !conversations::is_member(&mut conn, id, caller.user_id).await? {
            return Err(Refusal::NotFound("conversation").into());
        }
        let rows = messages::page(&mut conn, id, range, limit).await?;
        Ok(messages::tell(&mut conn, rows).await?)
    }

    /// Acknowledges everything up to `seq`; also cancels pushes about it.
    pub async fn acknowledge(
        &self,
        caller: &Caller,
        id: Uuid,
        seq: i64,
        receipt: Receipt,
    ) -> Result<Advanced> {
        if seq < 0 {
            return Err(Refusal::field("seq", "must not be negative").into());
        }
        self.conversations.ask(id, Acknowledge { user_id: caller.user_id, seq, receipt }).await
    }

    /// Tells the others that the caller types, or stopped.
    pub async fn typing(&self, caller: &Caller, id: Uuid, typing: bool) -> Result<()> {
        self.conversations.ask(id, TypingChanged { user_id: caller.user_id, typing }).await
    }
}
