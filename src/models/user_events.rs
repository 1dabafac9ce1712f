//! The durable part of each user's own channel.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Json as SqlJson, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::fixed::Fixed;
use super::json::Json;
use super::schema::user_events;

/// An event for one user, before it has a seq.
#[derive(Debug, Clone)]
pub struct NewUserEvent {
    pub user_id: Uuid,
    /// Name of the event, `booking:created` and so on.
    pub event: &'static str,
    pub data: Json,
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

/// The seqs of appended events, in their order, and when they happened by the database's clock.
pub struct Appended {
    /// One of each event.
    pub seqs: Vec<i64>,
    /// The same for all of them.
    pub at: Timestamp,
}

/// Appends `events`; `NotFound` when one is for somebody who is gone.
///
/// Locks the heads of all users concerned in the order of their ids; a transaction must call this
/// once, last, so that two transactions never wait for each other.
pub async fn append(conn: &mut Conn, events: &[NewUserEvent]) -> QueryResult<Option<Appended>> {
    struct Append;
    if events.is_empty() {
        return Ok(None);
    }
    // Of each event the place among those of its user.
    let mut counts: HashMap<Uuid, i64> = HashMap::with_capacity(events.len());
    let count = |e: &NewUserEvent| {
        let n = counts.entry(e.user_id).or_default();
        *n += 1;
        *n
    };
    let places: Vec<i64> = events.iter().map(count).collect();
    let users: Vec<Uuid> = events.iter().map(|e| e.user_id).collect();
    let names: Vec<&str> = events.iter().map(|e| e.event).collect();
    let data: Vec<&Json> = events.iter().map(|e| &e.data).collect();
    let binds = (
        users.into_sql::<Array<SqlUuid>>(),
        places.clone().into_sql::<Array<BigInt>>(),
        names.into_sql::<Array<Text>>(),
        data.into_sql::<Array<SqlJson>>(),
    );
    let rows: Vec<(Uuid, i64, jiff_diesel::Timestamp)> =
        Fixed::<_, _, (SqlUuid, BigInt, Timestamptz)>::new(
            Append,
            "WITH new AS (SELECT * FROM unnest(",
            binds,
            ") AS t (user_id, place, event, data)),
         more AS (SELECT user_id, max(place) AS n FROM new GROUP BY user_id),
         locked AS (SELECT user_id FROM user_channels
                     WHERE user_id IN (SELECT user_id FROM more) ORDER BY user_id FOR UPDATE),
         heads AS (
            UPDATE user_channels c SET last_seq = c.last_seq + more.n
              FROM more JOIN locked USING (user_id) WHERE c.user_id = more.user_id
            RETURNING c.user_id, c.last_seq - more.n AS before),
         stored AS (
            INSERT INTO user_events (user_id, seq, event, data, created_at)
            SELECT user_id, before + place, event, data, statement_timestamp()
              FROM new JOIN heads USING (user_id))
         SELECT user_id, before, statement_timestamp() FROM heads",
        )
        .load(conn)
        .await?;
    let [(_, _, at), ..] = rows.as_slice() else { return Err(diesel::result::Error::NotFound) };
    let at = at.to_jiff();
    let before: HashMap<Uuid, i64> = rows.into_iter().map(|(user, seq, _)| (user, seq)).collect();
    let seqs = events.iter().zip(places).map(|(e, place)| Some(before.get(&e.user_id)? + place));
    let seqs = seqs.collect::<Option<_>>().ok_or(diesel::result::Error::NotFound)?;
    Ok(Some(Appended { seqs, at }))
}
