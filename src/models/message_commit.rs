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
use super::messages::{self, Message, Told};
use super::outbox::{self, NewPush};
use super::schema::{conversation_members, messages as messages_table};
use crate::domain::notify;

/// A message that is to be stored.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: Uuid,
    pub conversation_id: Uuid,
    /// Nobody for a line of the platform.
    pub sender_id: Option<Uuid>,
    /// For the push.
    pub sender_first_name: String,
    pub client_id: Uuid,
    pub kind: &'static str,
    pub content: String,
    pub attachments: Value,
    pub reply_to: Option<Uuid>,
    pub booking_id: Option<Uuid>,
    /// Of a line of the platform: what happened.
    pub system_event: Option<&'static str>,
    /// The newest change of members that the writer knows of.
    pub members_seq: i64,
    /// Everybody else in the conversation: who gets a push unless a device acknowledges.
    pub recipients: Vec<Uuid>,
}

/// A stored message, and whether this transaction stored it or an earlier one did.
#[derive(Debug, Clone)]
pub struct Stored {
    pub message: Told,
    pub fresh: bool,
}

/// What became of a message.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is stored.
    Stored(Stored),
    /// Members came or went since the writer looked: nothing was stored, look again.
    Stale,
    /// There is no such conversation any more.
    Gone,
}

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
    #[diesel(sql_type = BigInt)]
    members_seq: i64,
}

type Key = (Uuid, Option<Uuid>, Uuid);

fn key_of(m: &NewMessage) -> Key {
    (m.conversation_id, m.sender_id, m.client_id)
}

/// Stores `new` and returns one outcome each, in order. A message whose client id is known gets
/// the answer of the first, as it is now.
pub async fn commit(
    conn: &mut Conn,
    push_window: Duration,
    new: &[NewMessage],
) -> QueryResult<Vec<Outcome>> {
    conn.transaction(async |conn| {
        let mut heads = lock_heads(conn, new).await?;
        let wanted: Vec<&NewMessage> = new
            .iter()
            .filter(|m| {
                heads.get(&m.conversation_id).is_some_and(|h| h.members_seq == m.members_seq)
            })
            .collect();
        let mut known = find_known(conn, &wanted).await?;
        let (now, fresh) = (now(conn).await?, first_of_each(&wanted, &known));
        let mut rows = Vec::with_capacity(fresh.len());
        for m in fresh {
            let head = heads.get_mut(&m.conversation_id).ok_or(diesel::result::Error::NotFound)?;
            head.last_seq += 1;
            rows.push((m, row(m, head.last_seq, now)));
        }
        insert(conn, &rows).await?;
        store_heads(conn, heads.values()).await?;
        mark_own_as_read(conn, &rows).await?;
        outbox::insert(conn, &pushes(&rows), push_window).await?;
        known.extend(stored(conn, rows).await?);
        Ok(new.iter().map(|m| outcome(m, &heads, &mut known)).collect())
    })
    .await
}

async fn lock_heads(conn: &mut Conn, new: &[NewMessage]) -> QueryResult<BTreeMap<Uuid, Head>> {
    let mut ids: Vec<Uuid> = new.iter().map(|m| m.conversation_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let heads: Vec<Head> = diesel::sql_query(
        "SELECT id, last_seq, members_seq FROM conversations WHERE id = ANY ($1)
          ORDER BY id FOR UPDATE",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(conn)
    .await?;
    Ok(heads.into_iter().map(|h| (h.id, h)).collect())
}

/// The rows as they are told, with the quotes of replies.
async fn stored(
    conn: &mut Conn,
    rows: Vec<(&NewMessage, Message)>,
) -> QueryResult<Vec<(Key, Stored)>> {
    let quoted = rows.iter().filter_map(|(_, m)| m.reply_to).collect();
    let quotes = messages::quotes_of(conn, quoted).await?;
    let told = rows.into_iter().map(|(m, row)| {
        let mut message = Told::bare(row);
        message.quote = m.reply_to.and_then(|id| quotes.get(&id).cloned());
        (key_of(m), Stored { message, fresh: true })
    });
    Ok(told.collect())
}

async fn find_known(conn: &mut Conn, new: &[&NewMessage]) -> QueryResult<HashMap<Key, Stored>> {
    let found: Vec<Message> = messages_table::table
        .filter(messages_table::conversation_id.eq_any(new.iter().map(|m| m.conversation_id)))
        .filter(messages_table::client_id.eq_any(new.iter().map(|m| m.client_id)))
        .select(Message::as_select())
        .load(conn)
        .await?;
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    let told = messages::tell(conn, found).await?.into_iter().map(|message| {
        let m = &message.message;
        let key = (m.conversation_id, m.sender_id, m.client_id);
        (key, Stored { message, fresh: false })
    });
    Ok(told.collect())
}

async fn now(conn: &mut Conn) -> QueryResult<Timestamp> {
    let now: jiff_diesel::Timestamp =
        diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()"))
            .get_result(conn)
            .await?;
    Ok(now.to_jiff())
}

/// The messages to insert: not known, and of duplicates within the batch the first.
fn first_of_each<'a>(new: &[&'a NewMessage], known: &HashMap<Key, Stored>) -> Vec<&'a NewMessage> {
    let mut seen = std::collections::HashSet::new();
    let is_new = |m: &&&NewMessage| !known.contains_key(&key_of(m)) && seen.insert(key_of(m));
    new.iter().filter(is_new).copied().collect()
}

fn row(m: &NewMessage, seq: i64, created_at: Timestamp) -> Message {
    Message {
        id: m.id,
        conversation_id: m.conversation_id,
        seq,
        sender_id: m.sender_id,
        client_id: m.client_id,
        kind: m.kind.to_owned(),
        content: m.content.clone(),
        attachments: m.attachments.clone(),
        reply_to: m.reply_to,
        booking_id: m.booking_id,
        system_event: m.system_event.map(str::to_owned),
        created_at,
        edited_at: None,
        deleted_at: None,
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
                               content, attachments, reply_to, booking_id, system_event, created_at)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
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
    .bind::<Array<Nullable<SqlUuid>>, _>(column(rows, |m| m.booking_id))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |m| m.system_event.clone()))
    .bind::<Array<Timestamptz>, _>(column(rows, |m| m.created_at.to_diesel()))
    .execute(conn)
    .await?;
    Ok(())
}

async fn store_heads(conn: &mut Conn, heads: impl Iterator<Item = &Head>) -> QueryResult<()> {
    let (ids, seqs): (Vec<Uuid>, Vec<i64>) = heads.map(|h| (h.id, h.last_seq)).unzip();
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
        let Some(sender) = m.sender_id else { continue };
        diesel::update(conversation_members::table.find((m.conversation_id, sender)))
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

fn outcome(
    m: &NewMessage,
    heads: &BTreeMap<Uuid, Head>,
    known: &mut HashMap<Key, Stored>,
) -> Outcome {
    match (heads.get(&m.conversation_id), known.get_mut(&key_of(m))) {
        (None, _) => Outcome::Gone,
        (Some(head), Some(stored)) if head.members_seq == m.members_seq => {
            let answer = stored.clone();
            // A duplicate within the batch gets the same answer and causes no second event.
            stored.fresh = false;
            Outcome::Stored(answer)
        }
        (Some(_), _) => Outcome::Stale,
    }
}
