//! The durable part of a conversation's channel: messages and later changes, in one order.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Conn;
use super::messages::{self, Range, Told};
use super::schema::conversation_events as table;

/// An event of a conversation as it is told.
#[derive(Debug)]
pub struct Entry {
    pub seq: i64,
    /// `message:new`, `message:updated` and so on.
    pub event: String,
    pub at: Timestamp,
    pub data: Value,
}

/// A change, as stored.
#[derive(Queryable)]
struct Row {
    seq: i64,
    event: String,
    message_id: Option<Uuid>,
    data: Value,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
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
pub async fn after(
    conn: &mut Conn,
    conversation_id: Uuid,
    since: i64,
    limit: i64,
) -> QueryResult<Vec<Entry>> {
    let new = messages::page(conn, conversation_id, Range::After(since), limit).await?;
    let changes: Vec<Row> = table::table
        .filter(table::conversation_id.eq(conversation_id))
        .filter(table::seq.gt(since))
        .order(table::seq)
        .limit(limit)
        .select((table::seq, table::event, table::message_id, table::data, table::created_at))
        .load(conn)
        .await?;
    let changed: Vec<Uuid> = changes.iter().filter_map(|c| c.message_id).collect();
    let changed = if changed.is_empty() {
        Vec::new()
    } else {
        let rows = messages::of_ids(conn, &changed).await?;
        messages::tell(conn, rows).await?
    };
    let changed: HashMap<Uuid, Told> = changed.into_iter().map(|m| (m.message.id, m)).collect();
    let mut entries: Vec<Entry> =
        messages::tell(conn, new).await?.into_iter().map(new_entry).collect();
    entries.extend(changes.into_iter().map(|row| {
        let about_it = row.message_id.and_then(|id| changed.get(&id));
        let data = match about_it {
            Some(message) => about(message, row.data),
            None => row.data,
        };
        Entry { seq: row.seq, event: row.event, at: row.created_at, data }
    }));
    entries.sort_by_key(|e| e.seq);
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(entries)
}

fn new_entry(message: Told) -> Entry {
    Entry {
        seq: message.message.seq,
        event: "message:new".to_owned(),
        at: message.message.created_at,
        data: json!({ "message": message }),
    }
}
