//! One transaction for the messages that several conversations want stored at once.
//!
//! `seq` is given out under the row lock of the conversation, so that it is dense whatever the
//! number of nodes; a conversation actor gives the order within its node. Row locks are taken in
//! the order of the conversations' ids.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Conn;
use super::messages::Message;
use super::outbox::{self, NewPush};
use super::schema::{conversation_members, messages};
use crate::domain::notify;

/// A message that is to be stored.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: Uuid,
    pub conversation_id: Uuid,
    pub sender_id: Uuid,
    /// For the push.
    pub sender_first_name: String,
    pub client_id: Uuid,
    pub kind: &'static str,
    pub content: String,
    pub attachments: Value,
    pub reply_to: Option<Uuid>,
    /// Everybody else in the conversation: who gets a push unless a device acknowledges.
    pub recipients: Vec<Uuid>,
}

/// A stored message, and whether this transaction stored it or an earlier one did.
#[derive(Debug, Clone)]
pub struct Stored {
    pub message: Message,
    pub fresh: bool,
}

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
}

type Key = (Uuid, Uuid, Uuid);

fn key_of(m: &NewMessage) -> Key {
    (m.conversation_id, m.sender_id, m.client_id)
}

/// Stores `new` and returns one answer each, in order. A message whose client id is known gets
/// the answer of the first; `NotFound` when a conversation is gone.
pub async fn commit(
    conn: &mut Conn,
    push_window: Duration,
    new: &[NewMessage],
) -> QueryResult<Vec<Stored>> {
    conn.transaction(async |conn| {
        let mut heads = lock_heads(conn, new).await?;
        let mut known = find_known(conn, new).await?;
        let (now, fresh) = (now(conn).await?, first_of_each(new, &known));
        let mut rows = Vec::with_capacity(fresh.len());
        for m in fresh {
            let head = heads.get_mut(&m.conversation_id).ok_or(diesel::result::Error::NotFound)?;
            *head += 1;
            rows.push((m, row(m, *head, now)));
        }
        insert(conn, &rows).await?;
        store_heads(conn, &heads).await?;
        mark_own_as_read(conn, &rows).await?;
        outbox::insert(conn, &pushes(&rows), push_window).await?;
        known.extend(
            rows.into_iter().map(|(m, message)| (key_of(m), Stored { message, fresh: true })),
        );
        Ok(answers(new, &mut known))
    })
    .await
}

async fn lock_heads(conn: &mut Conn, new: &[NewMessage]) -> QueryResult<BTreeMap<Uuid, i64>> {
    let mut ids: Vec<Uuid> = new.iter().map(|m| m.conversation_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let heads: Vec<Head> = diesel::sql_query(
        "SELECT id, last_seq FROM conversations WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(conn)
    .await?;
    Ok(heads.into_iter().map(|h| (h.id, h.last_seq)).collect())
}

async fn find_known(conn: &mut Conn, new: &[NewMessage]) -> QueryResult<HashMap<Key, Stored>> {
    let found: Vec<Message> = messages::table
        .filter(messages::conversation_id.eq_any(new.iter().map(|m| m.conversation_id)))
        .filter(messages::client_id.eq_any(new.iter().map(|m| m.client_id)))
        .select(Message::as_select())
        .load(conn)
        .await?;
    Ok(found
        .into_iter()
        .filter_map(|m| {
            let key = (m.conversation_id, m.sender_id?, m.client_id);
            Some((key, Stored { message: m, fresh: false }))
        })
        .collect())
}

async fn now(conn: &mut Conn) -> QueryResult<Timestamp> {
    let now: jiff_diesel::Timestamp =
        diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()"))
            .get_result(conn)
            .await?;
    Ok(now.to_jiff())
}

/// The messages to insert: not known, and of duplicates within the batch the first.
fn first_of_each<'a>(new: &'a [NewMessage], known: &HashMap<Key, Stored>) -> Vec<&'a NewMessage> {
    let mut seen = std::collections::HashSet::new();
    new.iter().filter(|m| !known.contains_key(&key_of(m)) && seen.insert(key_of(m))).collect()
}

fn row(m: &NewMessage, seq: i64, created_at: Timestamp) -> Message {
    Message {
        id: m.id,
        conversation_id: m.conversation_id,
        seq,
        sender_id: Some(m.sender_id),
        client_id: m.client_id,
        kind: m.kind.to_owned(),
        content: m.content.clone(),
        attachments: m.attachments.clone(),
        reply_to: m.reply_to,
        created_at,
    }
}

async fn insert(conn: &mut Conn, rows: &[(&NewMessage, Message)]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    fn column<T>(rows: &[(&NewMessage, Message)], value: impl Fn(&Message) -> T) -> Vec<T> {
        rows.iter().map(|(_, m)| value(m)).collect()
    }
    use jiff_diesel::ToDiesel;
    diesel::sql_query(
        "INSERT INTO messages (id, conversation_id, seq, sender_id, client_id, message_type,
                               content, attachments, reply_to, created_at)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind::<Array<SqlUuid>, _>(column(rows, |m| m.id))
    .bind::<Array<SqlUuid>, _>(column(rows, |m| m.conversation_id))
    .bind::<Array<BigInt>, _>(column(rows, |m| m.seq))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(rows, |m| m.sender_id))
    .bind::<Array<SqlUuid>, _>(column(rows, |m| m.client_id))
    .bind::<Array<Text>, _>(column(rows, |m| m.kind.clone()))
    .bind::<Array<Text>, _>(column(rows, |m| m.content.clone()))
    .bind::<Array<Jsonb>, _>(column(rows, |m| m.attachments.clone()))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(rows, |m| m.reply_to))
    .bind::<Array<Timestamptz>, _>(column(rows, |m| m.created_at.to_diesel()))
    .execute(conn)
    .await?;
    Ok(())
}

async fn store_heads(conn: &mut Conn, heads: &BTreeMap<Uuid, i64>) -> QueryResult<()> {
    let (ids, seqs): (Vec<Uuid>, Vec<i64>) = heads.iter().map(|(id, seq)| (*id, *seq)).unzip();
    diesel::sql_query(
        "UPDATE conversations c SET last_seq = t.seq, updated_at = now()
           FROM unnest($1, $2) AS t (id, seq) WHERE c.id = t.id AND c.last_seq < t.seq",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<BigInt>, _>(seqs)
    .execute(conn)
    .await?;
    Ok(())
}

/// Who writes has seen what they wrote, but not what came before it: the watermark moves only
/// where everything before was read.
async fn mark_own_as_read(conn: &mut Conn, rows: &[(&NewMessage, Message)]) -> QueryResult<()> {
    for (m, row) in rows {
        diesel::update(conversation_members::table.find((m.conversation_id, m.sender_id)))
            .filter(conversation_members::read_seq.eq(row.seq - 1))
            .set((
                conversation_members::read_seq.eq(row.seq),
                conversation_members::delivered_seq.eq(row.seq),
            ))
            .execute(conn)
            .await?;
    }
    Ok(())
}

fn pushes(rows: &[(&NewMessage, Message)]) -> Vec<NewPush> {
    rows.iter()
        .flat_map(|(m, row)| {
            let notice = notify::message(&m.sender_first_name, m.conversation_id, row.seq);
            m.recipients.iter().map(move |user_id| NewPush {
                id: Uuid::now_v7(),
                user_id: *user_id,
                topic: format!("conversation:{}", m.conversation_id),
                topic_seq: Some(row.seq),
                dedupe_key: row.id.to_string(),
                payload: json!({
                    "kind": notice.kind, "title": notice.title, "body": notice.body,
                    "data": notice.data,
                }),
            })
        })
        .collect()
}

fn answers(new: &[NewMessage], known: &mut HashMap<Key, Stored>) -> Vec<Stored> {
    new.iter()
        .filter_map(|m| {
            let stored = known.get_mut(&key_of(m))?;
            let answer = stored.clone();
            // A duplicate within the batch gets the same answer and causes no second event.
            stored.fresh = false;
            Some(answer)
        })
        .collect()
}
