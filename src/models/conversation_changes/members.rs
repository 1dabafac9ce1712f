//! Members of a group who come and go, their roles, its title.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::{Done, Failure, Made, Place, role_of};
use crate::domain::chat::{MAX_MEMBERS, MemberRole};
use crate::domain::refusal::Refusal;
use crate::models::schema::conversation_members as table;
use crate::models::{Conn, outbox};

/// Of a conversation's channel and of inboxes.
const EVENT: &str = "conversation:updated";

impl Place<'_> {
    /// Only groups change, and only by those with at least `role`.
    fn need(&self, role: MemberRole) -> Result<(), Failure> {
        if self.head.kind == "group" && self.role >= role {
            Ok(())
        } else {
            Err(Refusal::Forbidden.into())
        }
    }

    pub(super) async fn retitle(&mut self, conn: &mut Conn, title: &str) -> Made {
        self.need(MemberRole::Admin)?;
        if self.head.title.as_deref() == Some(title) {
            return Ok(Done::so_already(None));
        }
        self.head.title = Some(title.to_owned());
        let data = json!({
            "conversationId": self.head.id, "change": "title", "title": title,
            "actorId": self.actor,
        });
        self.note(conn, EVENT, None, data).await?;
        Ok(Done { message: None, fresh: true, expelled: None, members_changed: false })
    }

    /// Takes users in. They see what was said before, and none of it is unread to them.
    pub(super) async fn add(&mut self, conn: &mut Conn, users: &[Uuid]) -> Made {
        self.need(MemberRole::Admin)?;
        let members: Vec<Uuid> = self.members(conn).await?.into_iter().map(|(id, _)| id).collect();
        let mut new: Vec<Uuid> =
            users.iter().copied().filter(|user| !members.contains(user)).collect();
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            return Ok(Done::so_already(None));
        }
        if members.len() + new.len() > MAX_MEMBERS {
            let problem = format!("a group has at most {MAX_MEMBERS} members");
            return Err(Refusal::field("userIds", problem).into());
        }
        self.changed_members(conn, "joined", &new).await?;
        let seq = self.head.last_seq;
        let rows: Vec<_> = new
            .iter()
            .map(|user| {
                (
                    table::conversation_id.eq(self.head.id),
                    table::user_id.eq(*user),
                    table::delivered_seq.eq(seq),
                    table::received_seq.eq(seq),
                    table::read_seq.eq(seq),
                )
            })
            .collect();
        diesel::insert_into(table::table).values(rows).execute(conn).await?;
        Ok(made(None))
    }

    /// Takes a member out, or lets the actor go. The last owner who goes is followed by whoever
    /// has the highest role, of these by who came first.
    pub(super) async fn remove(&mut self, conn: &mut Conn, user_id: Uuid) -> Made {
        let leaves = user_id == self.actor;
        self.need(if leaves { MemberRole::Member } else { MemberRole::Admin })?;
        let Some(theirs) = role_of(conn, self.head.id, user_id).await? else {
            return Ok(Done::so_already(None));
        };
        if !leaves && theirs >= self.role {
            return Err(Refusal::Forbidden.into());
        }
        diesel::delete(table::table.find((self.head.id, user_id))).execute(conn).await?;
        let topic = format!("conversation:{}", self.head.id);
        outbox::cancel_up_to(conn, user_id, &topic, self.head.last_seq).await?;
        self.changed_members(conn, if leaves { "left" } else { "removed" }, &[user_id]).await?;
        let members = self.members(conn).await?;
        if theirs == MemberRole::Owner
            && let Some((heir, _)) = members.iter().max_by_key(|(_, role)| *role)
        {
            self.store_role(conn, *heir, MemberRole::Owner).await?;
        }
        Ok(made(Some(user_id)))
    }

    /// Gives a member another role. A group has one owner: who makes another the owner becomes
    /// admin.
    pub(super) async fn set_role(
        &mut self,
        conn: &mut Conn,
        user_id: Uuid,
        role: MemberRole,
    ) -> Made {
        self.need(MemberRole::Owner)?;
        let theirs = role_of(conn, self.head.id, user_id).await?;
        let theirs = theirs.ok_or(Refusal::NotFound("member"))?;
        if theirs == role {
            return Ok(Done::so_already(None));
        }
        if user_id == self.actor {
            let problem = "make somebody else the owner first";
            return Err(Refusal::field("role", problem).into());
        }
        if role == MemberRole::Owner {
            self.store_role(conn, self.actor, MemberRole::Admin).await?;
        }
        self.store_role(conn, user_id, role).await?;
        Ok(made(None))
    }

    /// The members with their roles, who came last first.
    async fn members(&self, conn: &mut Conn) -> QueryResult<Vec<(Uuid, MemberRole)>> {
        let rows: Vec<(Uuid, String)> = table::table
            .filter(table::conversation_id.eq(self.head.id))
            .order((table::joined_at.desc(), table::user_id.desc()))
            .select((table::user_id, table::role))
            .load(conn)
            .await?;
        let role = |word: &str| MemberRole::parse(word).unwrap_or(MemberRole::Member);
        Ok(rows.into_iter().map(|(id, word)| (id, role(&word))).collect())
    }

    async fn changed_members(
        &mut self,
        conn: &mut Conn,
        change: &str,
        users: &[Uuid],
    ) -> QueryResult<()> {
        let data = json!({
            "conversationId": self.head.id, "change": change, "userIds": users,
            "actorId": self.actor,
        });
        self.note(conn, EVENT, None, data).await?;
        self.head.members_seq = self.head.last_seq;
        Ok(())
    }

    async fn store_role(
        &mut self,
        conn: &mut Conn,
        user_id: Uuid,
        role: MemberRole,
    ) -> QueryResult<()> {
        diesel::update(table::table.find((self.head.id, user_id)))
            .set(table::role.eq(role.as_str()))
            .execute(conn)
            .await?;
        let data = json!({
            "conversationId": self.head.id, "change": "role", "userId": user_id,
            "role": role.as_str(), "actorId": self.actor,
        });
        self.note(conn, EVENT, None, data).await?;
        self.head.members_seq = self.head.last_seq;
        Ok(())
    }
}

fn made(expelled: Option<Uuid>) -> Done {
    Done { message: None, fresh: true, expelled, members_changed: true }
}
