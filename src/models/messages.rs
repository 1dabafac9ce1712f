//! Messages: reading them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Conn;
use super::schema::messages;

/// A message, as stored and as told.
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
    /// `text`, `image`, `file` or `system`.
    #[diesel(column_name = message_type)]
    #[serde(rename = "type")]
    pub kind: String,
    pub content: String,
    pub attachments: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Uuid>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
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
