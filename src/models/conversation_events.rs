//! The durable part of a conversation's channel: messages and later changes, in one order.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Conn;
use super::messages::{self, Told};

/// An event of a conversation as it is told.
#[derive(Debug)]
pub struct Entry {
    pub seq: i64,
    /// `message:new`, `message:updated` and so on.
    pub event: String,
    pub at: Timestamp,
    pub data: Value,
}

/// A message or a change.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    message_id: Option<Uuid>,
    #[diesel(sql_type = Jsonb)]
    data: Value,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
}

/// What is told of a message: `data` of the change, if it is one, and the message as it is.
pub(super) fn about(message: &Told, data: Value) -> Value {
    let mut data = match data {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    data.insert("message".to_owned(), json!(message));
    Value::Object(data)
}

/// At most `limit` events after `since`, oldest first. Messages are told in their present state,
/// one that was taken away as what is left of it.
///
/// Messages and changes are listed by one statement: between two, one of a seq before those that
/// the second one sees could be stored, and would be left out for ever.
pub async fn after(
    conn: &mut Conn,
    conversation_id: Uuid,
    since: i64,
    limit: i64,
) -> QueryResult<Vec<Entry>> {
    let rows: Vec<Row> = diesel::sql_query(
        "(SELECT seq, 'message:new' AS event, id AS message_id, '{}'::jsonb AS data, created_at
            FROM messages WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)
         UNION ALL
         (SELECT seq, event, message_id, data, created_at
            FROM conversation_events WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3)
         ORDER BY seq LIMIT $3",
    )
    .bind::<SqlUuid, _>(conversation_id)
    .bind::<BigInt, _>(since)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let mut ids: Vec<Uuid> = rows.iter().filter_map(|row| row.message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = if ids.is_empty() { Vec::new() } else { messages::of_ids(conn, &ids).await? };
    let told = messages::tell(conn, found).await?;
    let told: HashMap<Uuid, Told> = told.into_iter().map(|m| (m.message.id, m)).collect();
    let entries = rows.into_iter().filter_map(|row| {
        let data = match row.message_id {
            // One that is not there any more is told by nobody.
            Some(id) => about(told.get(&id)?, row.data),
            None => row.data,
        };
        Some(Entry { seq: row.seq, event: row.event, at: row.created_at, data })
    });
    Ok(entries.collect())
}
