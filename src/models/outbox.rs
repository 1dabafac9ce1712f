//! Side effects decided in a transaction and carried out after it.
//!
//! A push is written for who has a device when it is written. Whoever registers their first one
//! later finds what there was in their inbox and conversations; a registration and a push that are
//! under way at once may come in either order.
//!
//! Who waits for rows of several pushes locks them in the order of their ids, or skips what is
//! locked, so that nobody waits in a circle.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use serde_json::Value;
use uuid::Uuid;

use super::fixed::Fixed;
use super::{Conn, preferences};
use crate::domain::notify::{self, Category, Push};

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

/// Stores pushes that go out after `window` unless acknowledged first, to those who have a device.
pub async fn insert(conn: &mut Conn, pushes: &[NewPush], window: Duration) -> QueryResult<()> {
    struct Insert;
    if pushes.is_empty() {
        return Ok(());
    }
    let texts = |field: fn(&NewPush) -> &str| {
        pushes.iter().map(field).collect::<Vec<_>>().into_sql::<Array<Text>>()
    };
    let ids: Vec<Uuid> = pushes.iter().map(|p| p.id).collect();
    let users: Vec<Uuid> = pushes.iter().map(|p| p.user_id).collect();
    let seqs: Vec<Option<i64>> = pushes.iter().map(|p| p.topic_seq).collect();
    let payloads: Vec<&Value> = pushes.iter().map(|p| &p.payload).collect();
    let binds = (
        ids.into_sql::<Array<SqlUuid>>(),
        users.into_sql::<Array<SqlUuid>>(),
        texts(|p| &p.topic),
        seqs.into_sql::<Array<Nullable<BigInt>>>(),
        texts(|p| &p.dedupe_key),
        payloads.into_sql::<Array<Jsonb>>(),
        vec![window.as_secs_f64(); pushes.len()].into_sql::<Array<Double>>(),
    );
    let insert =
        "INSERT INTO outbox (id, user_id, topic, topic_seq, dedupe_key, payload, not_before)
         SELECT id, user_id, topic, topic_seq, dedupe_key, payload, now() + make_interval(secs => wait)
           FROM unnest(";
    let end = ") AS t (id, user_id, topic, topic_seq, dedupe_key, payload, wait)
          WHERE EXISTS (SELECT 1 FROM devices d WHERE d.user_id = t.user_id)
         ON CONFLICT ON CONSTRAINT outbox_dedupe_key DO NOTHING";
    Fixed::<_, _, ()>::new(Insert, insert, binds, end).execute(conn).await?;
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
        "WITH waiting AS (
            SELECT id FROM outbox
             WHERE user_id = $1 AND topic = $2 AND topic_seq <= $3 AND state = 'waiting'
             ORDER BY id FOR UPDATE),
         gone AS (UPDATE outbox SET state = 'cancelled' WHERE id IN (SELECT id FROM waiting))
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
        "WITH waiting AS (
            SELECT id FROM outbox
             WHERE user_id = $1 AND dedupe_key = ANY ($2) AND state = 'waiting'
             ORDER BY id FOR UPDATE),
         gone AS (UPDATE outbox SET state = 'cancelled' WHERE id IN (SELECT id FROM waiting))
         UPDATE push_deliveries d SET state = 'cancelled' FROM outbox o
          WHERE o.id = d.outbox_id AND o.user_id = $1 AND o.dedupe_key = ANY ($2)
            AND d.state = 'waiting'",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Array<Text>, _>(keys)
    .execute(conn)
    .await
}

/// Lets the pushes of `user_id` that quiet hours keep back come due, so that the preferences of now
/// decide on them. Also waits for those that are being decided on.
pub async fn ask_again(conn: &mut Conn, user_id: Uuid) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH waiting AS (
            SELECT id FROM outbox
             WHERE user_id = $1 AND state = 'waiting' AND (held OR not_before <= now())
             ORDER BY id FOR UPDATE)
         UPDATE outbox SET not_before = least(not_before, now())
          WHERE id IN (SELECT id FROM waiting)",
    )
    .bind::<SqlUuid, _>(user_id)
    .execute(conn)
    .await
}

/// A row whose window is over, with what decides on it.
#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    starts_at: Option<String>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    preferences: Option<Value>,
    #[diesel(sql_type = Timestamptz)]
    now: jiff_diesel::Timestamp,
    /// Of a conversation that its user muted, or written by somebody whom they block.
    #[diesel(sql_type = Bool)]
    unwanted: bool,
}

impl Due {
    fn decide(self) -> (Uuid, Push) {
        if self.unwanted {
            return (self.id, Push::Never);
        }
        let category = Category::of(self.kind.as_deref().unwrap_or_default());
        let starts_at = self.starts_at.and_then(|text| text.parse().ok());
        let preferences = preferences::read(self.preferences);
        (self.id, notify::push(category, starts_at, &preferences, self.now.to_jiff()))
    }
}

/// Decides on at most `limit` due rows by the preferences of their users; returns how many there
/// were. A push that goes out becomes one delivery per device of its user; a user without devices
/// has nothing delivered.
pub async fn expand_due(conn: &mut Conn, limit: i64) -> QueryResult<usize> {
    conn.transaction(async |conn| {
        let due: Vec<Due> = diesel::sql_query(
            "SELECT o.id, o.payload ->> 'kind' AS kind, p.preferences,
                    o.payload -> 'data' ->> 'startsAt' AS starts_at, statement_timestamp() AS now,
                    EXISTS (
                        SELECT 1 FROM conversation_members m
                          LEFT JOIN messages x ON x.conversation_id = m.conversation_id
                                              AND x.seq = o.topic_seq
                         WHERE m.conversation_id =
                                   CASE WHEN o.topic_seq IS NOT NULL THEN substr(o.topic, 14)::uuid END
                           AND m.user_id = o.user_id
                           AND (m.muted_until > statement_timestamp() OR EXISTS (
                                SELECT 1 FROM user_blocks b
                                 WHERE b.blocker_id = o.user_id AND b.blocked_id = x.sender_id))
                    ) AS unwanted
               FROM outbox o LEFT JOIN notification_preferences p USING (user_id)
              WHERE o.state = 'waiting' AND o.not_before <= now()
              ORDER BY o.not_before LIMIT $1 FOR UPDATE OF o SKIP LOCKED",
        )
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?;
        let count = due.len();
        let (mut sent, mut dropped, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (id, push) in due.into_iter().map(Due::decide) {
            match push {
                Push::Now => sent.push(id),
                Push::Never => dropped.push(id),
                Push::Waits(until) => held.push((id, until)),
            }
        }
        spread(conn, &sent).await?;
        drop_all(conn, &dropped).await?;
        hold(conn, &held).await?;
        Ok(count)
    })
    .await
}

async fn spread(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "WITH sent AS (
            UPDATE outbox SET state = 'sent' WHERE id = ANY ($1)
            RETURNING id, user_id, dedupe_key)
         INSERT INTO push_deliveries (id, outbox_id, device_id, dedupe_key, next_attempt_at)
         SELECT gen_random_uuid(), sent.id, devices.id, sent.dedupe_key, now()
           FROM sent JOIN devices USING (user_id)
         ON CONFLICT ON CONSTRAINT push_deliveries_dedupe_key DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(conn)
    .await?;
    Ok(())
}

async fn drop_all(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<()> {
    if !ids.is_empty() {
        diesel::sql_query("UPDATE outbox SET state = 'cancelled' WHERE id = ANY ($1)")
            .bind::<Array<SqlUuid>, _>(ids)
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn hold(conn: &mut Conn, held: &[(Uuid, Timestamp)]) -> QueryResult<()> {
    if held.is_empty() {
        return Ok(());
    }
    let (ids, until): (Vec<Uuid>, Vec<_>) = held.iter().map(|(id, t)| (*id, t.to_diesel())).unzip();
    diesel::sql_query(
        "UPDATE outbox o SET held = true, not_before = t.until
           FROM unnest($1, $2) AS t (id, until) WHERE o.id = t.id",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Timestamptz>, _>(until)
    .execute(conn)
    .await?;
    Ok(())
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
