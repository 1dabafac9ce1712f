//! The durable part of each user's own channel.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
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

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
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
    let heads: Vec<Head> = diesel::sql_query(
        "WITH more AS (SELECT * FROM unnest($1, $2) AS t (user_id, n)),
              locked AS (SELECT user_id FROM user_channels WHERE user_id = ANY ($1)
                          ORDER BY user_id FOR UPDATE)
         UPDATE user_channels c SET last_seq = c.last_seq + more.n
           FROM more JOIN locked USING (user_id) WHERE c.user_id = more.user_id
         RETURNING c.user_id, c.last_seq",
    )
    .bind::<Array<SqlUuid>, _>(&users)
    .bind::<Array<BigInt>, _>(&additions)
    .load(conn)
    .await?;
    let mut next: BTreeMap<Uuid, i64> = heads
        .iter()
        .map(|h| (h.user_id, h.last_seq - counts.get(&h.user_id).copied().unwrap_or(0)))
        .collect();
    let seqs: Vec<i64> = events
        .iter()
        .map(|e| {
            let seq = next.entry(e.user_id).or_default();
            *seq += 1;
            *seq
        })
        .collect();
    let rows: Vec<_> = events
        .iter()
        .zip(&seqs)
        .map(|(e, seq)| {
            (
                user_events::user_id.eq(e.user_id),
                user_events::seq.eq(*seq),
                user_events::event.eq(e.event),
                user_events::data.eq(&e.data),
                user_events::created_at.eq(at.to_diesel()),
            )
        })
        .collect();
    diesel::insert_into(user_events::table).values(rows).execute(conn).await?;
    Ok(seqs)
}
