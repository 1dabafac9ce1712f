//! The durable part of each user's own channel.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::fixed::Fixed;
use super::schema::{user_channels, user_events};

/// An event for one user, before it has a seq.
#[derive(Debug, Clone)]
pub struct NewUserEvent {
    pub user_id: Uuid,
    /// Name of the event, `booking:created` and so on.
    pub event: &'static str,
    pub data: Value,
}

/// The seq of the newest event of a user.
pub async fn head(conn: &mut Conn, user_id: Uuid) -> QueryResult<i64> {
    Ok(user_channels::table
        .find(user_id)
        .select(user_channels::last_seq)
        .first(conn)
        .await
        .optional()?
        .unwrap_or(0))
}

/// The events after `since`, oldest first, at most `limit`.
pub async fn after(
    conn: &mut Conn,
    user_id: Uuid,
    since: i64,
    limit: i64,
) -> QueryResult<Vec<(i64, String, Value, jiff_diesel::Timestamp)>> {
    user_events::table
        .filter(user_events::user_id.eq(user_id))
        .filter(user_events::seq.gt(since))
        .order(user_events::seq)
        .limit(limit)
        .select((user_events::seq, user_events::event, user_events::data, user_events::created_at))
        .load(conn)
        .await
}

/// Appends `events`, which happened at `at`, and returns their seqs in the same order.
///
/// Locks the heads of all users concerned in the order of their ids; a transaction must call this
/// once, last, so that two transactions never wait for each other.
pub async fn append(
    conn: &mut Conn,
    events: &[NewUserEvent],
    at: Timestamp,
) -> QueryResult<Vec<i64>> {
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for event in events {
        *counts.entry(event.user_id).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let (users, additions): (Vec<Uuid>, Vec<i64>) = counts.iter().map(|(u, n)| (*u, *n)).unzip();
    let heads: Vec<(Uuid, i64)> = Fixed::<_, _, (SqlUuid, BigInt)>::new(
        Heads,
        "WITH more AS (SELECT * FROM unnest(",
        (users.into_sql::<Array<SqlUuid>>(), additions.into_sql::<Array<BigInt>>()),
        ") AS t (user_id, n)),
              locked AS (SELECT user_id FROM user_channels
                          WHERE user_id IN (SELECT user_id FROM more) ORDER BY user_id FOR UPDATE)
         UPDATE user_channels c SET last_seq = c.last_seq + more.n
           FROM more JOIN locked USING (user_id) WHERE c.user_id = more.user_id
         RETURNING c.user_id, c.last_seq",
    )
    .load(conn)
    .await?;
    let mut next: BTreeMap<Uuid, i64> = heads
        .iter()
        .map(|(user, last)| (*user, last - counts.get(user).copied().unwrap_or(0)))
        .collect();
    let seqs: Vec<i64> = events
        .iter()
        .map(|e| {
            let seq = next.entry(e.user_id).or_default();
            *seq += 1;
            *seq
        })
        .collect();
    insert(conn, events, &seqs, at).await?;
    Ok(seqs)
}

async fn insert(
    conn: &mut Conn,
    events: &[NewUserEvent],
    seqs: &[i64],
    at: Timestamp,
) -> QueryResult<()> {
    let users: Vec<Uuid> = events.iter().map(|e| e.user_id).collect();
    let names: Vec<&str> = events.iter().map(|e| e.event).collect();
    let data: Vec<&Value> = events.iter().map(|e| &e.data).collect();
    let times = vec![at.to_diesel(); events.len()];
    let binds = (
        users.into_sql::<Array<SqlUuid>>(),
        seqs.to_vec().into_sql::<Array<BigInt>>(),
        names.into_sql::<Array<Text>>(),
        data.into_sql::<Array<Jsonb>>(),
        times.into_sql::<Array<Timestamptz>>(),
    );
    let insert = "INSERT INTO user_events (user_id, seq, event, data, created_at)
        SELECT * FROM unnest(";
    Fixed::<_, _, ()>::new(Insert, insert, binds, ")").execute(conn).await?;
    Ok(())
}

/// Names the text that takes new seqs.
struct Heads;
/// Names the text that stores events.
struct Insert;
