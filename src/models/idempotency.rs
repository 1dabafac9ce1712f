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
    Won {
        /// The key's own id, the same for as long as the key is kept.
        id: Uuid,
        /// Whether somebody had it before and left no answer. The work may have been done.
        anew: bool,
    },
    /// The work was done; this was the answer.
    Done {
        /// HTTP status.
        status: u16,
        /// The answer's body.
        body: Value,
    },
    /// The first request is still running, or its node died.
    InFlight {
        /// The key's own id, once it can be seen.
        id: Option<Uuid>,
    },
    /// The key belongs to another request.
    Conflict,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Bool)]
    won: bool,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
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
    let new_id = Uuid::now_v7();
    let row: Option<Row> = diesel::sql_query(
        "WITH claimed AS (
            INSERT INTO idempotency_keys AS k (user_id, key, request_hash, locked_until, id)
            VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5)
            ON CONFLICT (user_id, key) DO UPDATE SET locked_until = excluded.locked_until
              WHERE k.status IS NULL AND k.locked_until <= now() AND k.request_hash = $3
            RETURNING true AS won, id, request_hash, status, body)
         SELECT * FROM claimed
         UNION ALL
         SELECT false, id, request_hash, status, body FROM idempotency_keys
          WHERE user_id = $1 AND key = $2 AND NOT EXISTS (SELECT 1 FROM claimed)",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Text, _>(key)
    .bind::<Bytea, _>(hash)
    .bind::<Double, _>(lock_seconds)
    .bind::<SqlUuid, _>(new_id)
    .get_result(conn)
    .await
    .optional()?;
    // The other request's row was not visible to this statement's snapshot: it is running now.
    let Some(row) = row else { return Ok(Claim::InFlight { id: None }) };
    Ok(if row.won {
        Claim::Won { id: row.id, anew: row.id != new_id }
    } else if row.request_hash != hash {
        Claim::Conflict
    } else if let (Some(status), Some(body)) = (row.status, row.body) {
        Claim::Done { status: u16::try_from(status).unwrap_or(500), body }
    } else {
        Claim::InFlight { id: Some(row.id) }
    })
}

/// Keeps the answer to a claimed key, unless it has one, and returns the one that it has: of two
/// who believed the key to be theirs, the first to answer is right. `None` when the key is gone.
pub async fn complete(
    conn: &mut Conn,
    user_id: Uuid,
    key: &str,
    status: u16,
    body: &Value,
) -> QueryResult<Option<(u16, Value)>> {
    let row = idempotency_keys::table.find((user_id, key));
    let kept = diesel::update(row.filter(idempotency_keys::status.is_null()))
        .set((
            idempotency_keys::status.eq(i16::try_from(status).unwrap_or(500)),
            idempotency_keys::body.eq(body),
        ))
        .execute(conn)
        .await?;
    if kept > 0 {
        return Ok(Some((status, body.clone())));
    }
    let columns = (idempotency_keys::status, idempotency_keys::body);
    let other: Option<(Option<i16>, Option<Value>)> =
        row.select(columns).first(conn).await.optional()?;
    Ok(other.and_then(|(status, body)| Some((u16::try_from(status?).ok()?, body?))))
}

/// Lets a claimed key be claimed again at once by the same request, because the work failed. It keeps
/// its id: the failure may have been that of a connection that was lost after the commit.
pub async fn release(conn: &mut Conn, user_id: Uuid, key: &str) -> QueryResult<()> {
    let row = idempotency_keys::table.find((user_id, key));
    diesel::update(row.filter(idempotency_keys::status.is_null()))
        .set(idempotency_keys::locked_until.eq(diesel::dsl::now))
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
