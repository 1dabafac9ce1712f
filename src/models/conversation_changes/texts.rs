//! Messages that are edited, taken away, reacted to.

use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff_diesel::ToDiesel;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Done, Failure, Made, Place};
use crate::domain::chat::{self, MemberRole};
use crate::domain::refusal::Refusal;
use crate::models::messages::{self, Message, Told};
use crate::models::schema::{conversation_members, message_reactions, messages as table};
use crate::models::{Conn, outbox};

impl Place<'_> {
    /// Other words in one's own message. The same words again change nothing, however late.
    pub(super) async fn edit(&mut self, conn: &mut Conn, id: Uuid, content: &str) -> Made {
        let row = self.living(conn, id).await?;
        if row.sender_id != Some(self.actor) {
            return Err(Refusal::Forbidden.into());
        }
        chat::check_edit(&row.kind, content)?;
        if row.content == content {
            return Ok(Done::so_already(Some(told(conn, row).await?)));
        }
        chat::check_still_editable(row.created_at, self.now)?;
        if !self.keep_version(conn, id, chat::MAX_EDITS).await? {
            return Err(Refusal::EditedOften { edits: chat::MAX_EDITS }.into());
        }
        let row: Message = diesel::update(table::table.find(id))
            .set((table::content.eq(content), table::edited_at.eq(self.now.to_diesel())))
            .returning(Message::as_returning())
            .get_result(conn)
            .await?;
        self.updated(conn, row, "edit").await
    }

    /// Takes a message away: one's own, or in a group anybody's by its admins.
    pub(super) async fn delete(&mut self, conn: &mut Conn, id: Uuid) -> Made {
        let row = self.find(conn, id).await?;
        let by_admin = self.head.kind == "group" && self.role >= MemberRole::Admin;
        if row.sender_id != Some(self.actor) && !by_admin {
            return Err(Refusal::Forbidden.into());
        }
        if row.deleted_at.is_some() {
            return Ok(Done::so_already(Some(Told::bare(row))));
        }
        self.keep_version(conn, id, i32::MAX).await?;
        let row: Message = diesel::update(table::table.find(id))
            .set((
                table::content.eq(""),
                table::attachments.eq(json!([])),
                table::deleted_at.eq(self.now.to_diesel()),
            ))
            .returning(Message::as_returning())
            .get_result(conn)
            .await?;
        let given = message_reactions::table.filter(message_reactions::message_id.eq(id));
        diesel::delete(given).execute(conn).await?;
        let members: Vec<Uuid> = conversation_members::table
            .filter(conversation_members::conversation_id.eq(self.head.id))
            .select(conversation_members::user_id)
            .load(conn)
            .await?;
        for member in members {
            outbox::cancel_keys(conn, member, &[id.to_string()]).await?;
        }
        let told = told(conn, row).await?;
        let data = json!({ "actorId": self.actor });
        self.note(conn, "message:deleted", Some(&told), data).await?;
        Ok(made(told))
    }

    /// Gives a reaction, or takes it back.
    pub(super) async fn react(
        &mut self,
        conn: &mut Conn,
        id: Uuid,
        emoji: &str,
        give: bool,
    ) -> Made {
        let row = self.living(conn, id).await?;
        let before = told(conn, row).await?;
        let mine = |r: &&messages::Reaction| r.user_ids.contains(&self.actor);
        let has = before.reactions.iter().filter(mine).any(|r| r.emoji == emoji);
        if has == give {
            return Ok(Done::so_already(Some(before)));
        }
        use message_reactions as r;
        if give {
            let of_mine = before.reactions.iter().filter(mine).count();
            let is_new = before.reactions.iter().all(|r| r.emoji != emoji);
            chat::check_reactions(of_mine, before.reactions.len(), is_new)?;
            diesel::insert_into(r::table)
                .values((
                    r::message_id.eq(id),
                    r::user_id.eq(self.actor),
                    r::emoji.eq(emoji),
                    r::created_at.eq(self.now.to_diesel()),
                ))
                .execute(conn)
                .await?;
        } else {
            diesel::delete(r::table.find((id, self.actor, emoji))).execute(conn).await?;
        }
        self.updated(conn, before.message, "reaction").await
    }

    async fn updated(&mut self, conn: &mut Conn, row: Message, change: &str) -> Made {
        let told = told(conn, row).await?;
        let data: Value = json!({ "change": change, "actorId": self.actor });
        self.note(conn, "message:updated", Some(&told), data).await?;
        Ok(made(told))
    }

    async fn find(&self, conn: &mut Conn, id: Uuid) -> Result<Message, Failure> {
        let found = table::table
            .find(id)
            .filter(table::conversation_id.eq(self.head.id))
            .select(Message::as_select())
            .first(conn)
            .await
            .optional()?;
        Ok(found.ok_or(Refusal::NotFound("message"))?)
    }

    /// A message that was not taken away.
    async fn living(&self, conn: &mut Conn, id: Uuid) -> Result<Message, Failure> {
        let row = self.find(conn, id).await?;
        if row.deleted_at.is_some() {
            return Err(Refusal::NotFound("message").into());
        }
        Ok(row)
    }

    /// Keeps what the message says, as evidence; false, and nothing is kept, when `most` versions of
    /// it are.
    async fn keep_version(&self, conn: &mut Conn, id: Uuid, most: i32) -> QueryResult<bool> {
        let kept = diesel::sql_query(
            "INSERT INTO message_versions (message_id, version, content, attachments, actor_id, replaced_at)
             SELECT m.id, 1 + n.last, m.content, m.attachments, $2, $3
               FROM messages m, (SELECT COALESCE(max(version), 0) AS last
                                   FROM message_versions WHERE message_id = $1) n
              WHERE m.id = $1 AND n.last < $4",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<SqlUuid>, _>(Some(self.actor))
        .bind::<Timestamptz, _>(self.now.to_diesel())
        .bind::<Integer, _>(most)
        .execute(conn)
        .await?;
        Ok(kept > 0)
    }
}

fn made(message: Told) -> Done {
    Done { message: Some(message), fresh: true, expelled: None, members_changed: false }
}

/// The message with what belongs to it.
async fn told(conn: &mut Conn, row: Message) -> QueryResult<Told> {
    let bare = row.clone();
    let told = messages::tell(conn, vec![row]).await?.pop();
    Ok(told.unwrap_or_else(|| Told::bare(bare)))
}
