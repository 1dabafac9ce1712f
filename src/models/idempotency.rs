//! The first answers to POSTs with an `Idempotency-Key`.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Bytea, Double, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::schema::idempotency_keys;

/// What `claim` found.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The key is ours: do the work, then `complete` or `release`.
    Won,
    /// The work was done; this was the answer.
    Done {
        /// HTTP status.
        status: u16,
        /// The answer's body.
        body: Value,
    },
    /// The first request is still running.
    InFlight,
    /// The key belongs to another request.
    Conflict,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Bool)]
    won: bool,
    #[diesel(sql_type = Bytea)]
    request_hash: Vec<u8>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    status: Option<i16>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    body: Option<Value>,
}

/// Claims `key` of `user_id` for a request whose hash is `hash`, for `lock_seconds`.
///
/// A key whose claim ran out without an answer (the node died) may be claimed again by the same
/// request. Keys older than a day are forgotten by the sweeper.
pub async fn claim(
    conn: &mut Conn,
    user_id: Uuid,
    key: &str,
    hash: &[u8],
    lock_seconds: f64,
) -> QueryResult<Claim> {
    // `won` tells an inserted or re-claimed row (its lock is the one just set) from an old one.
    let row: Row = diesel::sql_query(
        "WITH claimed AS (
            INSERT INTO idempotency_keys AS k (user_id, key, request_hash, locked_until)
            VALUES ($1, $2, $3, now() + make_interval(secs => $4))
            ON CONFLICT (user_id, key) DO UPDATE SET locked_until = excluded.locked_until
              WHERE k.status IS NULL AND k.locked_until < now() AND k.request_hash = $3
            RETURNING true AS won, request_hash, status, body)
         SELECT * FROM claimed
         UNION ALL
         SELECT false, request_hash, status, body FROM idempotency_keys
          WHERE user_id = $1 AND key = $2 AND NOT EXISTS (SELECT 1 FROM claimed)",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Text, _>(key)
    .bind::<Bytea, _>(hash)
    .bind::<Double, _>(lock_seconds)
    .get_result(conn)
    .await
    .optional()?
    // The other request's row was not visible to this statement's snapshot: it is running now.
    .unwrap_or(Row { won: false, request_hash: hash.to_vec(), status: None, body: None });
    Ok(if row.won {
        Claim::Won
    } else if row.request_hash != hash {
        Claim::Conflict
    } else if let (Some(status), Some(body)) = (row.status, row.body) {
        Claim::Done { status: u16::try_from(status).unwrap_or(500), body }
    } else {
        Claim::InFlight
    })
}

/// Keeps the answer to a claimed key.
pub async fn complete(
    conn: &mut Conn,
    user_id: Uuid,
    key: &str,
    status: u16,
    body: &Value,
) -> QueryResult<()> {
    diesel::update(idempotency_keys::table.find((user_id, key)))
        .set((
            idempotency_keys::status.eq(i16::try_from(status).unwrap_or(500)),
            idempotency_keys::body.eq(body),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives a claimed key back, because the work failed and may be tried again.
pub async fn release(conn: &mut Conn, user_id: Uuid, key: &str) -> QueryResult<()> {
    diesel::delete(
        idempotency_keys::table.find((user_id, key)).filter(idempotency_keys::status.is_null()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets keys older than a day; returns how many.
pub async fn forget_old(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'")
        .execute(conn)
        .await
}
