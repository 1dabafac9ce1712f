//! Side effects decided in a transaction and carried out after it.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;

/// A push to one user that waits for its window to pass.
#[derive(Debug, Clone)]
pub struct NewPush {
    pub id: Uuid,
    pub user_id: Uuid,
    /// What an acknowledgement names: `conversation:<id>` or `notifications`.
    pub topic: String,
    /// The message's seq in its conversation.
    pub topic_seq: Option<i64>,
    /// Stable id of the push: a device shows it once.
    pub dedupe_key: String,
    pub payload: Value,
}

/// Stores pushes that go out after `window` unless acknowledged first.
pub async fn insert(conn: &mut Conn, pushes: &[NewPush], window: Duration) -> QueryResult<()> {
    if pushes.is_empty() {
        return Ok(());
    }
    let column = |f: fn(&NewPush) -> &str| pushes.iter().map(f).collect::<Vec<&str>>();
    diesel::sql_query(
        "INSERT INTO outbox (id, user_id, topic, topic_seq, dedupe_key, payload, not_before)
         SELECT id, user_id, topic, topic_seq, dedupe_key, payload, now() + make_interval(secs => $7)
           FROM unnest($1, $2, $3, $4, $5, $6) AS t (id, user_id, topic, topic_seq, dedupe_key, payload)
         ON CONFLICT ON CONSTRAINT outbox_dedupe_key DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(pushes.iter().map(|p| p.id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(pushes.iter().map(|p| p.user_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column(|p| &p.topic))
    .bind::<Array<Nullable<BigInt>>, _>(pushes.iter().map(|p| p.topic_seq).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column(|p| &p.dedupe_key))
    .bind::<Array<Jsonb>, _>(pushes.iter().map(|p| p.payload.clone()).collect::<Vec<_>>())
    .bind::<Double, _>(window.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// Cancels what waits for `user_id` under `topic` up to `seq`; returns how many rows.
pub async fn cancel_up_to(
    conn: &mut Conn,
    user_id: Uuid,
    topic: &str,
    seq: i64,
) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH gone AS (
            UPDATE outbox SET state = 'cancelled'
             WHERE user_id = $1 AND topic = $2 AND topic_seq <= $3 AND state = 'waiting')
         UPDATE push_deliveries d SET state = 'cancelled' FROM outbox o
          WHERE o.id = d.outbox_id AND o.user_id = $1 AND o.topic = $2 AND o.topic_seq <= $3
            AND d.state = 'waiting'",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Text, _>(topic)
    .bind::<BigInt, _>(seq)
    .execute(conn)
    .await
}

/// Cancels what waits for `user_id` under the dedupe keys `keys`.
pub async fn cancel_keys(conn: &mut Conn, user_id: Uuid, keys: &[String]) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH gone AS (
            UPDATE outbox SET state = 'cancelled'
             WHERE user_id = $1 AND dedupe_key = ANY ($2) AND state = 'waiting')
         UPDATE push_deliveries d SET state = 'cancelled' FROM outbox o
          WHERE o.id = d.outbox_id AND o.user_id = $1 AND o.dedupe_key = ANY ($2)
            AND d.state = 'waiting'",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Array<Text>, _>(keys)
    .execute(conn)
    .await
}

/// Turns at most `limit` due rows into one delivery per device of their user; returns how many
/// rows were due. A user without devices has nothing delivered.
pub async fn expand_due(conn: &mut Conn, limit: i64) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let count: Count = diesel::sql_query(
        "WITH due AS (
            SELECT id, user_id, dedupe_key FROM outbox
             WHERE state = 'waiting' AND not_before <= now()
             ORDER BY not_before LIMIT $1 FOR UPDATE SKIP LOCKED),
         sent AS (UPDATE outbox o SET state = 'sent' FROM due WHERE o.id = due.id),
         spread AS (
            INSERT INTO push_deliveries (id, outbox_id, device_id, dedupe_key, next_attempt_at)
            SELECT gen_random_uuid(), due.id, devices.id, due.dedupe_key, now()
              FROM due JOIN devices USING (user_id)
            ON CONFLICT ON CONSTRAINT push_deliveries_dedupe_key DO NOTHING)
         SELECT count(*) AS n FROM due",
    )
    .bind::<BigInt, _>(limit)
    .get_result(conn)
    .await?;
    Ok(count.n)
}

/// A delivery that a worker took.
#[derive(Clone, QueryableByName)]
pub struct Taken {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub device_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = Text)]
    pub dedupe_key: String,
    #[diesel(sql_type = Jsonb)]
    pub payload: Value,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub address: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub p256dh: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub auth: Option<String>,
}

/// Takes at most `limit` due deliveries for `lease`: if the worker dies, they come due again.
pub async fn take(conn: &mut Conn, limit: i64, lease: Duration) -> QueryResult<Vec<Taken>> {
    diesel::sql_query(
        "WITH due AS (
            SELECT id FROM push_deliveries
             WHERE state = 'waiting' AND next_attempt_at <= now()
             ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         UPDATE push_deliveries d
            SET attempts = d.attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
           FROM due, outbox o, devices v
          WHERE d.id = due.id AND o.id = d.outbox_id AND v.id = d.device_id
         RETURNING d.id, d.device_id, d.attempts, d.dedupe_key, o.payload, v.kind, v.address,
                   v.p256dh, v.auth",
    )
    .bind::<BigInt, _>(limit)
    .bind::<Double, _>(lease.as_secs_f64())
    .load(conn)
    .await
}

/// How a delivery ended, or when to try again.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The push service took it.
    Delivered,
    /// It will never be delivered; the reason holds no personal data.
    Failed(String),
    /// Try again after the time.
    Again(Duration, String),
}

/// Records the verdict on a delivery that was taken.
pub async fn settle(conn: &mut Conn, id: Uuid, verdict: &Verdict) -> QueryResult<()> {
    let (state, wait, error) = match verdict {
        Verdict::Delivered => ("delivered", 0.0, None),
        Verdict::Failed(reason) => ("failed", 0.0, Some(reason)),
        Verdict::Again(wait, reason) => ("waiting", wait.as_secs_f64(), Some(reason)),
    };
    // A delivery cancelled meanwhile stays cancelled, unless it did go out.
    diesel::sql_query(
        "UPDATE push_deliveries
            SET state = $2, next_attempt_at = now() + make_interval(secs => $3),
                last_error = left($4, 200)
          WHERE id = $1 AND (state = 'waiting' OR $2 = 'delivered')",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(state)
    .bind::<Double, _>(wait)
    .bind::<Nullable<Text>, _>(error)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets rows that were settled and are older than `days`; returns how many.
pub async fn forget_old(conn: &mut Conn, days: i32) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM outbox o WHERE created_at < now() - make_interval(days => $1)
            AND state <> 'waiting'
            AND NOT EXISTS (SELECT 1 FROM push_deliveries d WHERE d.outbox_id = o.id AND d.state = 'waiting')",
    )
    .bind::<Integer, _>(days)
    .execute(conn)
    .await
}
