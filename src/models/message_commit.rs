//! One transaction for the messages that several conversations want stored at once.
//!
//! `seq` is given out under the row lock of the conversation, so that it is dense whatever the
//! number of nodes; a conversation actor gives the order within its node. Row locks are taken in
//! the order of the conversations' ids.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Conn;
use super::attachments;
use super::fixed::Fixed;
use super::messages::{self, Message, Told};
use super::outbox::{self, NewPush};
use super::schema::messages as messages_table;
use crate::domain::attachment;
use crate::domain::notify;
use crate::domain::refusal::Refusal;

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
    /// The files in `attachments`: each is sent once.
    pub files: Vec<Uuid>,
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
    Stored(Box<Stored>),
    /// Members came or went since the writer looked: nothing was stored, look again.
    Stale,
    /// There is no such conversation any more.
    Gone,
    /// Nothing was stored, and that is the sender's to know.
    Refused(Refusal),
}

#[derive(Queryable)]
struct Head {
    id: Uuid,
    last_seq: i64,
    members_seq: i64,
    blocked: bool,
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
        let fresh = first_of_each(&wanted, &known);
        let (fresh, refused) = admit(conn, fresh, &heads).await?;
        let mut rows = Vec::with_capacity(fresh.len());
        for m in fresh {
            let head = heads.get_mut(&m.conversation_id).ok_or(diesel::result::Error::NotFound)?;
            head.last_seq += 1;
            rows.push((m, head.last_seq));
        }
        let rows = insert(conn, &rows).await?;
        bind_files(conn, &rows).await?;
        outbox::insert(conn, &pushes(&rows), push_window).await?;
        known.extend(stored(conn, rows).await?);
        Ok(new.iter().map(|m| outcome(m, &heads, &refused, &mut known)).collect())
    })
    .await
}

async fn lock_heads(conn: &mut Conn, new: &[NewMessage]) -> QueryResult<BTreeMap<Uuid, Head>> {
    struct Lock;
    let mut ids: Vec<Uuid> = new.iter().map(|m| m.conversation_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let heads: Vec<Head> = Fixed::<_, _, (SqlUuid, BigInt, BigInt, Bool)>::new(
        Lock,
        "SELECT id, last_seq, members_seq, blocked FROM conversations WHERE id = ANY (",
        ids.into_sql::<Array<SqlUuid>>(),
        ") ORDER BY id FOR UPDATE",
    )
    .load(conn)
    .await?;
    Ok(heads.into_iter().map(|h| (h.id, h)).collect())
}

/// Which of `fresh` can be stored, and why the others can not: nobody writes to who does not want to
/// hear of them, and a file is sent once.
async fn admit<'a>(
    conn: &mut Conn,
    fresh: Vec<&'a NewMessage>,
    heads: &BTreeMap<Uuid, Head>,
) -> QueryResult<(Vec<&'a NewMessage>, HashMap<Key, Refusal>)> {
    let wanted: Vec<Uuid> = fresh.iter().flat_map(|m| m.files.iter().copied()).collect();
    let mut free: HashSet<Uuid> = match wanted.as_slice() {
        [] => HashSet::new(),
        wanted => attachments::lock_free(conn, wanted).await?.into_iter().collect(),
    };
    let (mut admitted, mut refused) = (Vec::with_capacity(fresh.len()), HashMap::new());
    for m in fresh {
        let blocked = heads.get(&m.conversation_id).is_some_and(|h| h.blocked);
        if blocked && m.sender_id.is_some() {
            refused.insert(key_of(m), Refusal::Blocked);
        } else if !m.files.iter().all(|file| free.contains(file)) {
            refused.insert(key_of(m), attachment::not_to_be_sent());
        } else {
            m.files.iter().for_each(|file| {
                free.remove(file);
            });
            admitted.push(m);
        }
    }
    Ok((admitted, refused))
}

async fn bind_files(conn: &mut Conn, rows: &[(&NewMessage, Message)]) -> QueryResult<()> {
    let files = |(m, row): &(&NewMessage, Message)| {
        let message = row.id;
        m.files.iter().map(move |file| (*file, message)).collect::<Vec<_>>()
    };
    let pairs: Vec<(Uuid, Uuid)> = rows.iter().flat_map(files).collect();
    if pairs.is_empty() { Ok(()) } else { attachments::bind(conn, &pairs).await }
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
    struct Known;
    let conversations: Vec<Uuid> = new.iter().map(|m| m.conversation_id).collect();
    let senders: Vec<Option<Uuid>> = new.iter().map(|m| m.sender_id).collect();
    let client_ids: Vec<Uuid> = new.iter().map(|m| m.client_id).collect();
    let binds = (
        conversations.into_sql::<Array<SqlUuid>>(),
        senders.into_sql::<Array<Nullable<SqlUuid>>>(),
        client_ids.into_sql::<Array<SqlUuid>>(),
    );
    // One look at an index for each: of what a conversation holds, most is not asked for.
    let ids: Vec<Uuid> = Fixed::<_, _, SqlUuid>::new(
        Known,
        "WITH new AS (SELECT * FROM unnest(",
        binds,
        ") AS t (conversation_id, sender_id, client_id))
         SELECT m.id FROM new JOIN messages m USING (conversation_id, sender_id, client_id)
         UNION ALL
         SELECT m.id FROM new JOIN messages m USING (conversation_id, client_id)
          WHERE new.sender_id IS NULL AND m.sender_id IS NULL",
    )
    .load(conn)
    .await?;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<Message> = messages_table::table
        .filter(messages_table::id.eq_any(ids))
        .select(Message::as_select())
        .load(conn)
        .await?;
    let told = messages::tell(conn, found).await?.into_iter().map(|message| {
        let m = &message.message;
        let key = (m.conversation_id, m.sender_id, m.client_id);
        (key, Stored { message, fresh: false })
    });
    Ok(told.collect())
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

/// Stores messages, each with its seq, moves the heads of their conversations, and what their senders
/// have read; returns the rows.
async fn insert<'a>(
    conn: &mut Conn,
    rows: &[(&'a NewMessage, i64)],
) -> QueryResult<Vec<(&'a NewMessage, Message)>> {
    struct Insert;
    fn column<T>(rows: &[(&NewMessage, i64)], value: impl Fn(&NewMessage) -> T) -> Vec<T> {
        rows.iter().map(|(m, _)| value(m)).collect()
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = rows.iter().map(|(m, _)| m.content.as_str()).collect();
    let attachments: Vec<&Value> = rows.iter().map(|(m, _)| &m.attachments).collect();
    let seqs: Vec<i64> = rows.iter().map(|(_, seq)| *seq).collect();
    let binds = (
        column(rows, |m| m.id).into_sql::<Array<SqlUuid>>(),
        column(rows, |m| m.conversation_id).into_sql::<Array<SqlUuid>>(),
        seqs.into_sql::<Array<BigInt>>(),
        column(rows, |m| m.sender_id).into_sql::<Array<Nullable<SqlUuid>>>(),
        column(rows, |m| m.client_id).into_sql::<Array<SqlUuid>>(),
        column(rows, |m| m.kind).into_sql::<Array<Text>>(),
        texts.into_sql::<Array<Text>>(),
        attachments.into_sql::<Array<Jsonb>>(),
        column(rows, |m| m.reply_to).into_sql::<Array<Nullable<SqlUuid>>>(),
        column(rows, |m| m.booking_id).into_sql::<Array<Nullable<SqlUuid>>>(),
        column(rows, |m| m.system_event).into_sql::<Array<Nullable<Text>>>(),
        read_up_to(rows).into_sql::<Array<Nullable<BigInt>>>(),
    );
    let at: jiff_diesel::Timestamp =
        Fixed::<_, _, Timestamptz>::new(Insert, INSERT, binds, INSERT_END).get_result(conn).await?;
    let at = at.to_jiff();
    Ok(rows.iter().map(|(m, seq)| (*m, row(m, *seq, at))).collect())
}

const INSERT: &str = "WITH new AS (SELECT * FROM unnest(";
const INSERT_END: &str =
    ") AS t (id, conversation_id, seq, sender_id, client_id, message_type, content,
            attachments, reply_to, booking_id, system_event, read_up_to)),
     stored AS (
        INSERT INTO messages (id, conversation_id, seq, sender_id, client_id, message_type, content,
                              attachments, reply_to, booking_id, system_event, created_at)
        SELECT id, conversation_id, seq, sender_id, client_id, message_type, content, attachments,
               reply_to, booking_id, system_event, statement_timestamp() FROM new),
     heads AS (
        UPDATE conversations c SET last_seq = head.seq, updated_at = now()
          FROM (SELECT conversation_id, max(seq) AS seq FROM new GROUP BY conversation_id) head
         WHERE c.id = head.conversation_id),
     read AS (
        UPDATE conversation_members m SET read_seq = read_up_to, delivered_seq = read_up_to
          FROM new
         WHERE m.conversation_id = new.conversation_id AND m.user_id = new.sender_id
           AND m.read_seq = new.seq - 1 AND read_up_to IS NOT NULL)
SELECT statement_timestamp()";

/// Who writes has seen what they wrote, but not what came before it: the watermark moves only where
/// everything before was read. For the first message of each sender in a conversation, the seq up to
/// which they wrote without a word in between.
fn read_up_to(rows: &[(&NewMessage, i64)]) -> Vec<Option<i64>> {
    // Of each sender the place of the first message, and how far it goes.
    let mut runs: HashMap<(Uuid, Uuid), (usize, i64)> = HashMap::new();
    for (place, (m, seq)) in rows.iter().enumerate() {
        let Some(sender) = m.sender_id else { continue };
        let (_, end) = runs.entry((m.conversation_id, sender)).or_insert((place, *seq));
        if *seq == *end + 1 {
            *end = *seq;
        }
    }
    let ends: HashMap<usize, i64> = runs.into_values().collect();
    (0..rows.len()).map(|place| ends.get(&place).copied()).collect()
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
    refused: &HashMap<Key, Refusal>,
    known: &mut HashMap<Key, Stored>,
) -> Outcome {
    if let Some(refusal) = refused.get(&key_of(m)) {
        return Outcome::Refused(refusal.clone());
    }
    match (heads.get(&m.conversation_id), known.get_mut(&key_of(m))) {
        (None, _) => Outcome::Gone,
        (Some(head), Some(stored)) if head.members_seq == m.members_seq => {
            let answer = stored.clone();
            // A duplicate within the batch gets the same answer and causes no second event.
            stored.fresh = false;
            Outcome::Stored(Box::new(answer))
        }
        (Some(_), _) => Outcome::Stale,
    }
}
