//! Messages: reading them.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Conn;
use super::schema::{message_reactions, messages};
use crate::domain::chat::QUOTED;

/// A message, as stored.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = messages, check_for_backend(diesel::pg::Pg))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub id: Uuid,
    pub conversation_id: Uuid,
    /// Place in the conversation: 1, 2, 3, … without gaps.
    pub seq: i64,
    pub sender_id: Option<Uuid>,
    /// The sender's own id for it, by which a repeated send is known.
    pub client_id: Uuid,
    /// `text`, `image`, `file`, `booking` (a card) or `system`.
    #[diesel(column_name = message_type)]
    #[serde(rename = "type")]
    pub kind: String,
    pub content: String,
    pub attachments: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Uuid>,
    /// The booking of a card, or that a line of the platform is about. What it is now is asked for
    /// as ever: who may not see it learns nothing but its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booking_id: Option<Uuid>,
    /// Of a line of the platform: what happened, such as `booking:confirmed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_event: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
    /// When its text was last changed.
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// When it was taken away: then it is empty.
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A message as told: in its present state, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    #[serde(flatten)]
    pub message: Message,
    /// In the order in which each was first given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// What it replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
}

impl Told {
    /// A message that nothing belongs to yet.
    pub fn bare(message: Message) -> Self {
        Self { message, reactions: Vec::new(), quote: None }
    }
}

/// Who reacted with the same emoji.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    pub emoji: String,
    pub user_ids: Vec<Uuid>,
}

/// The beginning of a message, as it is now: what another replies to, or the newest of a conversation.
#[derive(Debug, Clone, PartialEq, Queryable, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    pub message_id: Uuid,
    pub seq: i64,
    pub sender_id: Option<Uuid>,
    #[serde(rename = "type")]
    pub kind: String,
    /// At most 140 characters.
    pub content: String,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

impl Quote {
    /// The beginning of `message`.
    pub fn of(message: &Message) -> Self {
        let quoted = usize::try_from(QUOTED).unwrap_or(usize::MAX);
        Self {
            message_id: message.id,
            seq: message.seq,
            sender_id: message.sender_id,
            kind: message.kind.clone(),
            content: message.content.chars().take(quoted).collect(),
            deleted_at: message.deleted_at,
        }
    }
}

/// Adds to each of `rows` what belongs to it.
pub async fn tell(conn: &mut Conn, rows: Vec<Message>) -> QueryResult<Vec<Told>> {
    let ids: Vec<Uuid> = rows.iter().map(|m| m.id).collect();
    let mut reactions = reactions_of(conn, &ids).await?;
    let quotes = quotes_of(conn, rows.iter().filter_map(|m| m.reply_to).collect()).await?;
    let told = rows.into_iter().map(|message| Told {
        reactions: reactions.remove(&message.id).unwrap_or_default(),
        quote: message.reply_to.and_then(|id| quotes.get(&id).cloned()),
        message,
    });
    Ok(told.collect())
}

async fn reactions_of(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Vec<Reaction>>> {
    let mut all: HashMap<Uuid, Vec<Reaction>> = HashMap::new();
    if ids.is_empty() {
        return Ok(all);
    }
    use message_reactions as r;
    let rows: Vec<(Uuid, String, Uuid)> = r::table
        .filter(r::message_id.eq_any(ids))
        .order((r::created_at, r::user_id, r::emoji))
        .select((r::message_id, r::emoji, r::user_id))
        .load(conn)
        .await?;
    for (message, emoji, user) in rows {
        let list = all.entry(message).or_default();
        match list.iter_mut().find(|r| r.emoji == emoji) {
            Some(reaction) => reaction.user_ids.push(user),
            None => list.push(Reaction { emoji, user_ids: vec![user] }),
        }
    }
    Ok(all)
}

/// The quotes of these messages, by their ids.
pub(super) async fn quotes_of(
    conn: &mut Conn,
    ids: Vec<Uuid>,
) -> QueryResult<HashMap<Uuid, Quote>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let start = diesel::dsl::sql::<diesel::sql_types::Text>("left(content, ")
        .bind::<diesel::sql_types::Integer, _>(QUOTED)
        .sql(")");
    let quotes: Vec<Quote> = messages::table
        .filter(messages::id.eq_any(ids))
        .select((
            messages::id,
            messages::seq,
            messages::sender_id,
            messages::message_type,
            start,
            messages::deleted_at,
        ))
        .load(conn)
        .await?;
    Ok(quotes.into_iter().map(|q| (q.message_id, q)).collect())
}

/// How far back a preview is looked for: retention and deletion can leave any number of empty rows
/// behind, and an index of those that are not would cost every message that is sent.
const PREVIEW_REACH: i32 = 100;

/// The newest message of each conversation that is still there, if it is one of the newest hundred.
pub async fn previews(
    conn: &mut Conn,
    conversations: &[Uuid],
) -> QueryResult<HashMap<Uuid, Quote>> {
    let newest: Vec<Preview> = diesel::sql_query(
        "SELECT c.id AS conversation_id, n.* FROM unnest($1) AS c (id) CROSS JOIN LATERAL (
             SELECT m.id, m.seq, m.sender_id, m.message_type, left(m.content, $2) AS content
               FROM (SELECT * FROM messages x WHERE x.conversation_id = c.id
                      ORDER BY x.seq DESC LIMIT $3) m
              WHERE m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT 1) n",
    )
    .bind::<diesel::sql_types::Array<diesel::sql_types::Uuid>, _>(conversations)
    .bind::<diesel::sql_types::Integer, _>(QUOTED)
    .bind::<diesel::sql_types::Integer, _>(PREVIEW_REACH)
    .load(conn)
    .await?;
    let quote = |p: Preview| Quote {
        message_id: p.id,
        seq: p.seq,
        sender_id: p.sender_id,
        kind: p.message_type,
        content: p.content,
        deleted_at: None,
    };
    Ok(newest.into_iter().map(|p| (p.conversation_id, quote(p))).collect())
}

#[derive(QueryableByName)]
struct Preview {
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    conversation_id: Uuid,
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    id: Uuid,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    seq: i64,
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Uuid>)]
    sender_id: Option<Uuid>,
    #[diesel(sql_type = diesel::sql_types::Text)]
    message_type: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    content: String,
}

/// These messages, in any order.
pub async fn of_ids(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<Vec<Message>> {
    messages::table.filter(messages::id.eq_any(ids)).select(Message::as_select()).load(conn).await
}

/// Which part of a conversation to read.
#[derive(Debug, Clone, Copy)]
pub enum Range {
    /// The newest messages with a smaller seq, newest first.
    Before(i64),
    /// The oldest messages with a larger seq, oldest first.
    After(i64),
}

/// At most `limit` messages of a conversation.
pub async fn page(
    conn: &mut Conn,
    conversation_id: Uuid,
    range: Range,
    limit: i64,
) -> QueryResult<Vec<Message>> {
    let query = messages::table
        .filter(messages::conversation_id.eq(conversation_id))
        .select(Message::as_select())
        .limit(limit)
        .into_boxed();
    match range {
        Range::Before(seq) => query.filter(messages::seq.lt(seq)).order(messages::seq.desc()),
        Range::After(seq) => query.filter(messages::seq.gt(seq)).order(messages::seq.asc()),
    }
    .load(conn)
    .await
}

/// Whether the sender sent a message with this id of theirs before.
pub async fn is_known(
    conn: &mut Conn,
    conversation_id: Uuid,
    sender_id: Uuid,
    client_id: Uuid,
) -> QueryResult<bool> {
    let known = messages::table
        .filter(messages::conversation_id.eq(conversation_id))
        .filter(messages::sender_id.eq(sender_id))
        .filter(messages::client_id.eq(client_id));
    diesel::select(diesel::dsl::exists(known)).get_result(conn).await
}

/// Whether `message_id` is a message of the conversation.
pub async fn belongs(
    conn: &mut Conn,
    conversation_id: Uuid,
    message_id: Uuid,
) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(
        messages::table.find(message_id).filter(messages::conversation_id.eq(conversation_id)),
    ))
    .get_result(conn)
    .await
}
