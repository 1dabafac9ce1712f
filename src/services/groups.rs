//! Groups: who is in them, what they are called.

use diesel_async::AsyncConnection;
use uuid::Uuid;

use super::auth::Caller;
use super::chat::{Chat, Opened};
use crate::domain::access::Role;
use crate::domain::chat::{MAX_MEMBERS, MemberRole, check_title};
use crate::domain::refusal::{FieldProblem, Refusal};
use crate::error::Result;
use crate::models::conversation_changes::Change;
use crate::models::conversations::{self, Loaded};
use crate::models::{Conn, chat_settings, groups};

impl Chat {
    /// Makes a group of the caller, who owns it, and others with whom they share a booking or a
    /// conversation. An administrator may bring anybody together.
    pub async fn create_group(
        &self,
        caller: &Caller,
        title: &str,
        others: &[Uuid],
    ) -> Result<Opened> {
        check_title(title)?;
        let mut others: Vec<Uuid> =
            others.iter().copied().filter(|user| *user != caller.user_id).collect();
        others.sort_unstable();
        others.dedup();
        if others.is_empty() || others.len() >= MAX_MEMBERS {
            let problem = format!("must name 1 to {} others", MAX_MEMBERS - 1);
            return Err(Refusal::field("memberIds", problem).into());
        }
        let mut conn = self.pool.get().await?;
        check_reach(&mut conn, caller, "memberIds", &others).await?;
        let (id, owner) = (Uuid::now_v7(), caller.user_id);
        conn.transaction(async |conn| groups::create(conn, id, owner, title, &others).await)
            .await?;
        let loaded =
            conversations::load(&mut conn, id).await?.ok_or(Refusal::NotFound("conversation"))?;
        self.tell_opened(id, &loaded);
        Ok(Opened { id, loaded, is_new: true })
    }

    /// Another title for a group.
    pub async fn retitle(&self, caller: &Caller, id: Uuid, title: String) -> Result<Loaded> {
        check_title(&title)?;
        self.alter(caller, id, Change::Retitle { title }).await?;
        self.find(caller, id).await
    }

    /// Takes users into a group; those who are in it stay as they are.
    pub async fn add_members(&self, caller: &Caller, id: Uuid, users: Vec<Uuid>) -> Result<Loaded> {
        if users.is_empty() || users.len() > MAX_MEMBERS {
            let problem = format!("must name 1 to {MAX_MEMBERS} users");
            return Err(Refusal::field("userIds", problem).into());
        }
        let there = self.find(caller, id).await?;
        let new: Vec<Uuid> =
            users.iter().copied().filter(|user| there.member(*user).is_none()).collect();
        let mut conn = self.pool.get().await?;
        check_reach(&mut conn, caller, "userIds", &new).await?;
        drop(conn);
        self.alter(caller, id, Change::Add { users }).await?;
        self.find(caller, id).await
    }

    /// Takes a member out of a group, or lets the caller leave it. Their access ends at once, on
    /// all nodes; what they wrote stays.
    pub async fn remove_member(&self, caller: &Caller, id: Uuid, user_id: Uuid) -> Result<()> {
        self.alter(caller, id, Change::Remove { user_id }).await.map(|_| ())
    }

    /// Gives a member another role.
    pub async fn set_role(
        &self,
        caller: &Caller,
        id: Uuid,
        user_id: Uuid,
        role: &str,
    ) -> Result<Loaded> {
        let role = MemberRole::parse(role);
        let role = role.ok_or_else(|| Refusal::field("role", "must be owner, admin or member"))?;
        self.alter(caller, id, Change::SetRole { user_id, role }).await?;
        self.find(caller, id).await
    }

    /// Whether others learn how far the caller has read.
    pub async fn read_receipts(&self, caller: &Caller) -> Result<bool> {
        let mut conn = self.pool.get().await?;
        Ok(chat_settings::read_receipts(&mut conn, caller.user_id).await?)
    }

    /// Changes it, for all conversations.
    pub async fn set_read_receipts(&self, caller: &Caller, shown: bool) -> Result<()> {
        let mut conn = self.pool.get().await?;
        Ok(chat_settings::set_read_receipts(&mut conn, caller.user_id, shown).await?)
    }
}

/// Refuses when one of `users` is none, or not acquainted with the caller.
async fn check_reach(conn: &mut Conn, caller: &Caller, field: &str, users: &[Uuid]) -> Result<()> {
    let found = groups::acquaintances(conn, caller.user_id, users).await?;
    let problems: Vec<FieldProblem> = users
        .iter()
        .enumerate()
        .filter_map(|(i, user)| {
            let problem = match found.iter().find(|a| a.id == *user) {
                None => "there is no such user",
                Some(a) if a.acquainted || caller.role == Role::Admin => return None,
                Some(_) => "you share no booking and no conversation",
            };
            Some(FieldProblem::new(format!("{field}[{i}]"), problem))
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Refusal::Validation(problems).into()) }
}
