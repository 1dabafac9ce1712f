//! Conversations, as their members use them.

use diesel_async::AsyncConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::actors::conversation::{Conversations, Send};
use crate::actors::conversation_changes::{Alter, message_of};
use crate::actors::conversation_receipts::{Acknowledge, Receipt};
use crate::actors::conversation_typing::TypingChanged;
use crate::actors::fanout::Fanout;
use crate::domain::access::{Role, may_write_to};
use crate::domain::attachment;
use crate::domain::channel::Channel;
use crate::domain::chat::{MessageType, check_emoji, parse_sendable};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::conversation_changes::{Change, Done};
use crate::models::conversations::{self, Advanced, Loaded, Summary};
use crate::models::messages::{self, Quote, Range, Told};
use crate::models::pool::Pool;
use crate::models::{attachments, bookings, groups, user_blocks};

/// A message that a member wants to send.
#[derive(Debug)]
pub struct Draft {
    /// The sender's own id for it.
    pub client_id: Uuid,
    /// `text`, `image`, `file` or `booking`.
    pub kind: String,
    pub content: String,
    /// Files that were uploaded to the conversation.
    pub attachments: Vec<Uuid>,
    pub reply_to: Option<Uuid>,
    /// Of a card.
    pub booking_id: Option<Uuid>,
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
    pub(super) pool: Pool,
    pub(super) conversations: Conversations,
    fanout: Fanout,
}

impl Chat {
    /// Chat in the database of `pool`.
    pub fn new(pool: Pool, conversations: Conversations, fanout: Fanout) -> Self {
        Self { pool, conversations, fanout }
    }

    /// Opens the 1:1 conversation with `other`, or finds it. Who may open one with whom is in
    /// `domain::access::may_write_to`; one that is there is found by both.
    pub async fn open(&self, caller: &Caller, other: Uuid) -> Result<Opened> {
        if other == caller.user_id {
            return Err(Refusal::field("userId", "must be somebody else").into());
        }
        let mut conn = self.pool.get().await?;
        let found = groups::acquaintances(&mut conn, caller.user_id, &[other]).await?.pop();
        let found = found.ok_or_else(|| Refusal::field("userId", "there is no such user"))?;
        let me = caller.user_id;
        let may_write = Role::parse(&found.user_type)
            .is_some_and(|theirs| may_write_to(caller.role, theirs, found.acquainted));
        if !may_write && conversations::find_direct(&mut conn, me, other).await?.is_none() {
            return Err(Refusal::Forbidden.into());
        }
        let (id, is_new) = conn
            .transaction::<_, Error, _>(async |conn| {
                user_blocks::lock_pair(conn, me, other).await?;
                let opened = conversations::open_direct(conn, Uuid::now_v7(), me, other).await?;
                if opened.1 && user_blocks::between(conn, me, other).await? {
                    return Err(Refusal::Blocked.into());
                }
                Ok(opened)
            })
            .await?;
        let loaded =
            conversations::load(&mut conn, id).await?.ok_or(Refusal::NotFound("conversation"))?;
        if is_new {
            self.tell_opened(id, &loaded);
        }
        Ok(Opened { id, loaded, is_new })
    }

    /// Tells all inboxes of a conversation that is new.
    pub(super) fn tell_opened(&self, id: Uuid, loaded: &Loaded) {
        let data = json!({
            "conversationId": id, "lastSeq": loaded.head, "readSeq": 0, "unread": 0,
            "preview": null,
        });
        for member in &loaded.members {
            let inbox = Channel::User(member.user_id);
            self.fanout.publish_ephemeral(inbox, "conversation:updated", &data);
        }
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
        let has_booking = draft.booking_id.is_some();
        let files = draft.attachments.len();
        let kind = match attachment::parse_message(&draft.kind, &draft.content, files)? {
            Some(_) if has_booking => {
                return Err(Refusal::field("bookingId", "goes with the type booking only").into());
            }
            Some(kind) => kind,
            None => parse_sendable(&draft.kind, &draft.content, has_booking)?,
        };
        if draft.reply_to.is_some() || has_booking {
            self.check_links(caller, id, &draft).await?;
        }
        let (files, attachments) = self.files_of(caller, id, kind, &draft).await?;
        let send = Send {
            sender_id: Some(caller.user_id),
            client_id: draft.client_id,
            kind,
            content: draft.content,
            attachments,
            files,
            reply_to: draft.reply_to,
            booking_id: draft.booking_id,
            system_event: None,
        };
        self.conversations.ask(id, send).await
    }

    /// What a message points at must be of this conversation.
    async fn check_links(&self, caller: &Caller, id: Uuid, draft: &Draft) -> Result<()> {
        let mut conn = self.pool.get().await?;
        let found = conversations::load(&mut conn, id).await?;
        let found = found.filter(|loaded| loaded.member(caller.user_id).is_some());
        let found = found.ok_or(Refusal::NotFound("conversation"))?;
        if let Some(reply_to) = draft.reply_to
            && !messages::belongs(&mut conn, id, reply_to).await?
        {
            let problem = "must be a message of this conversation";
            return Err(Refusal::field("replyTo", problem).into());
        }
        if let Some(booking_id) = draft.booking_id {
            let booking = bookings::find(&mut conn, booking_id).await?;
            let is_of_all = booking.is_some_and(|b| {
                let sides = [b.seeker_id, b.practitioner_user_id];
                b.is_told() && found.members.iter().all(|m| sides.contains(&m.user_id))
            });
            if !is_of_all {
                let problem = "must be a booking of everybody in this conversation";
                return Err(Refusal::field("bookingId", problem).into());
            }
        }
        Ok(())
    }

    /// Other words in the caller's own message, for a day after it was written.
    pub async fn edit(
        &self,
        caller: &Caller,
        id: Uuid,
        message_id: Uuid,
        content: String,
    ) -> Result<Told> {
        let done = self.alter(caller, id, Change::Edit { message_id, content }).await?;
        message_of(done)
    }

    /// Takes a message away: the caller's own, or anybody's in a group of which they are admin.
    pub async fn delete(&self, caller: &Caller, id: Uuid, message_id: Uuid) -> Result<Told> {
        message_of(self.alter(caller, id, Change::Delete { message_id }).await?)
    }

    /// Gives a reaction to a message, or takes it back.
    pub async fn react(
        &self,
        caller: &Caller,
        id: Uuid,
        message_id: Uuid,
        emoji: String,
        give: bool,
    ) -> Result<Told> {
        check_emoji(&emoji)?;
        message_of(self.alter(caller, id, Change::React { message_id, emoji, give }).await?)
    }

    pub(super) async fn alter(&self, caller: &Caller, id: Uuid, change: Change) -> Result<Done> {
        let alter = Alter { actor_id: caller.user_id, change };
        Ok(*self.conversations.ask(id, alter).await?)
    }

    /// The files of a message, and what is told of them, in the order that the sender chose. A
    /// message that is known has its files already.
    async fn files_of(
        &self,
        caller: &Caller,
        id: Uuid,
        kind: MessageType,
        draft: &Draft,
    ) -> Result<(Vec<Uuid>, Value)> {
        if draft.attachments.is_empty() {
            return Ok((Vec::new(), json!([])));
        }
        let mut conn = self.pool.get().await?;
        if messages::is_known(&mut conn, id, caller.user_id, draft.client_id).await? {
            return Ok((Vec::new(), json!([])));
        }
        let wanted = &draft.attachments;
        let found = attachments::unsent(&mut conn, id, caller.user_id, wanted).await?;
        let mut told = Vec::with_capacity(wanted.len());
        for (i, file) in wanted.iter().enumerate() {
            let row = found.iter().find(|row| row.id == *file);
            let again = wanted.iter().take(i).any(|earlier| earlier == file);
            let row = row.filter(|_| !again).ok_or_else(attachment::not_to_be_sent)?;
            if kind == MessageType::Image && row.width.is_none() {
                let problem = "of an image must be pictures; send others as file";
                return Err(Refusal::field("attachments", problem).into());
            }
            told.push(row.told());
        }
        Ok((wanted.clone(), Value::Array(told)))
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
        let mut conn = self.pool.get().await?;
        if user_blocks::in_conversation(&mut conn, id).await?
            && conversations::is_member(&mut conn, id, caller.user_id).await?
        {
            return Err(Refusal::Blocked.into());
        }
        drop(conn);
        self.conversations.ask(id, TypingChanged { user_id: caller.user_id, typing }).await
    }
}
