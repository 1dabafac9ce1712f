//! One transaction for the changes that several conversations want at once: messages that are
//! edited, taken away or reacted to, members who come and go.
//!
//! Rows of conversations are locked in the order of their ids, as `message_commit` does, so that
//! the two never wait for each other in a circle; each change is decided under that lock and takes
//! the next seq of its conversation. A change that is there already takes none and tells nobody.

mod members;
mod texts;

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::calendar_commit::StoredEvent;
use super::conversation_events;
use super::json::Json;
use super::messages::Told;
use super::schema::{conversation_events as events_table, conversation_members};
use crate::domain::channel::Channel;
use crate::domain::chat::MemberRole;
use crate::domain::refusal::Refusal;

/// A change that somebody wants.
#[derive(Debug, Clone)]
pub struct Job {
    pub conversation_id: Uuid,
    pub actor_id: Uuid,
    pub change: Change,
}

/// What is to change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Other words in a message.
    Edit { message_id: Uuid, content: String },
    /// A message is taken away.
    Delete { message_id: Uuid },
    /// A reaction is given, or taken back.
    React { message_id: Uuid, emoji: String, give: bool },
    /// A group has another title.
    Retitle { title: String },
    /// Users come into a group.
    Add { users: Vec<Uuid> },
    /// A member leaves, or is taken out by another.
    Remove { user_id: Uuid },
    /// A member has another role.
    SetRole { user_id: Uuid, role: MemberRole },
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is so now.
    Done(Box<Done>),
    /// It is not allowed, or not possible; nothing changed.
    Refused(Refusal),
}

/// A change that is made.
#[derive(Debug, Clone)]
pub struct Done {
    /// The message as it now is, if the change was of one.
    pub message: Option<Told>,
    /// Whether this made it so; otherwise it was so already.
    pub fresh: bool,
    /// Who is no member any more.
    pub expelled: Option<Uuid>,
    /// Whether members or their roles changed.
    pub members_changed: bool,
}

impl Done {
    fn so_already(message: Option<Told>) -> Self {
        Self { message, fresh: false, expelled: None, members_changed: false }
    }
}

/// A locked conversation.
#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    title: Option<String>,
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
    #[diesel(sql_type = BigInt)]
    members_seq: i64,
    /// Whether one of its two blocks the other.
    #[diesel(sql_type = Bool)]
    blocked: bool,
}

/// A conversation in the hands of one who may change it.
struct Place<'a> {
    head: &'a mut Head,
    actor: Uuid,
    role: MemberRole,
    now: Timestamp,
    events: &'a mut Vec<StoredEvent>,
}

/// A change that is refused, or could not be made.
enum Failure {
    Refused(Refusal),
    Fault(diesel::result::Error),
}

impl From<diesel::result::Error> for Failure {
    fn from(e: diesel::result::Error) -> Self {
        Self::Fault(e)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

type Made = Result<Done, Failure>;

/// Makes the changes; an outcome for each in order, and what was stored to be told.
pub async fn commit(
    conn: &mut Conn,
    jobs: &[Job],
) -> QueryResult<(Vec<Outcome>, Vec<StoredEvent>)> {
    conn.transaction(async |conn| {
        let mut heads = lock(conn, jobs).await?;
        let now: jiff_diesel::Timestamp =
            diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()"))
                .get_result(conn)
                .await?;
        let (mut outcomes, mut events) = (Vec::with_capacity(jobs.len()), Vec::new());
        for job in jobs {
            let made = match heads.get_mut(&job.conversation_id) {
                Some(head) => make(conn, head, job, now.to_jiff(), &mut events).await,
                None => Err(Refusal::NotFound("conversation").into()),
            };
            outcomes.push(match made {
                Ok(done) => Outcome::Done(Box::new(done)),
                Err(Failure::Refused(refusal)) => Outcome::Refused(refusal),
                Err(Failure::Fault(e)) => return Err(e),
            });
        }
        store(conn, heads.values()).await?;
        Ok((outcomes, events))
    })
    .await
}

async fn lock(conn: &mut Conn, jobs: &[Job]) -> QueryResult<BTreeMap<Uuid, Head>> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.conversation_id).collect();
    let heads: Vec<Head> = diesel::sql_query(
        "SELECT id, kind, title, last_seq, members_seq, blocked FROM conversations WHERE id = ANY ($1)
          ORDER BY id FOR UPDATE",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(conn)
    .await?;
    Ok(heads.into_iter().map(|h| (h.id, h)).collect())
}

async fn store(conn: &mut Conn, heads: impl Iterator<Item = &Head>) -> QueryResult<()> {
    for head in heads {
        diesel::sql_query(
            "UPDATE conversations SET last_seq = $2, members_seq = $3, title = $4, updated_at = now()
              WHERE id = $1 AND last_seq < $2",
        )
        .bind::<SqlUuid, _>(head.id)
        .bind::<BigInt, _>(head.last_seq)
        .bind::<BigInt, _>(head.members_seq)
        .bind::<Nullable<Text>, _>(&head.title)
        .execute(conn)
        .await?;
    }
    Ok(())
}

async fn make(
    conn: &mut Conn,
    head: &mut Head,
    job: &Job,
    now: Timestamp,
    events: &mut Vec<StoredEvent>,
) -> Made {
    let role = role_of(conn, head.id, job.actor_id).await?;
    let role = role.ok_or(Refusal::NotFound("conversation"))?;
    // What was said can be taken back all the same.
    if head.blocked && matches!(job.change, Change::Edit { .. } | Change::React { .. }) {
        return Err(Refusal::Blocked.into());
    }
    let mut place = Place { head, actor: job.actor_id, role, now, events };
    match &job.change {
        Change::Edit { message_id, content } => place.edit(conn, *message_id, content).await,
        Change::Delete { message_id } => place.delete(conn, *message_id).await,
        Change::React { message_id, emoji, give } => {
            place.react(conn, *message_id, emoji, *give).await
        }
        Change::Retitle { title } => place.retitle(conn, title).await,
        Change::Add { users } => place.add(conn, users).await,
        Change::Remove { user_id } => place.remove(conn, *user_id).await,
        Change::SetRole { user_id, role } => place.set_role(conn, *user_id, *role).await,
    }
}

async fn role_of(conn: &mut Conn, id: Uuid, user_id: Uuid) -> QueryResult<Option<MemberRole>> {
    let role: Option<String> = conversation_members::table
        .find((id, user_id))
        .select(conversation_members::role)
        .first(conn)
        .await
        .optional()?;
    Ok(role.and_then(|word| MemberRole::parse(&word)))
}

impl Place<'_> {
    /// Stores the next event of the conversation, and notes that it is to be told.
    async fn note(
        &mut self,
        conn: &mut Conn,
        event: &'static str,
        message: Option<&Told>,
        data: Value,
    ) -> QueryResult<()> {
        self.head.last_seq += 1;
        use events_table as e;
        diesel::insert_into(e::table)
            .values((
                e::conversation_id.eq(self.head.id),
                e::seq.eq(self.head.last_seq),
                e::event.eq(event),
                e::message_id.eq(message.map(|m| m.message.id)),
                e::actor_id.eq(self.actor),
                e::data.eq(&data),
                e::created_at.eq(self.now.to_diesel()),
            ))
            .execute(conn)
            .await?;
        self.events.push(StoredEvent {
            channel: Channel::Conversation(self.head.id),
            seq: self.head.last_seq,
            event,
            at: self.now,
            data: match message {
                Some(message) => Json::of(&conversation_events::about(message, data)),
                None => Json::of(&data),
            },
        });
        Ok(())
    }
}
