//! Sessions (families of refresh tokens) and the tokens themselves.

use diesel::dsl::now;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::schema::{refresh_tokens, sessions, users};
use crate::domain::tokens::StoredToken;

/// A login that is not revoked.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = sessions, check_for_backend(diesel::pg::Pg))]
pub struct Session {
    pub id: Uuid,
    pub user_agent: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub last_used_at: Timestamp,
}

/// A refresh token that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewToken<'a> {
    /// Also the `jti` of the access token issued with it.
    pub id: Uuid,
    /// SHA-256 of the token.
    pub hash: &'a [u8],
    pub expires_at: Timestamp,
}

/// Opens a session for `user_id` with its first token.
pub async fn open(
    conn: &mut Conn,
    session_id: Uuid,
    user_id: Uuid,
    user_agent: Option<&str>,
    token: NewToken<'_>,
) -> QueryResult<()> {
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(session_id),
            sessions::user_id.eq(user_id),
            sessions::user_agent.eq(user_agent),
        ))
        .execute(conn)
        .await?;
    add_token(conn, session_id, token).await
}

/// Stores the next token of a session.
pub async fn add_token(conn: &mut Conn, session_id: Uuid, token: NewToken<'_>) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::id.eq(token.id),
            refresh_tokens::session_id.eq(session_id),
            refresh_tokens::token_hash.eq(token.hash),
            refresh_tokens::expires_at.eq(token.expires_at.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// A token as `lock_token` found it.
#[derive(Debug, Clone, Copy)]
pub struct LockedToken {
    pub id: Uuid,
    pub session_id: Uuid,
    pub user_id: Uuid,
    pub stored: StoredToken,
}

/// Finds a token by its hash and locks it, so that of two refreshes with it one comes second.
pub async fn lock_token(conn: &mut Conn, hash: &[u8]) -> QueryResult<Option<LockedToken>> {
    let row: Option<(
        Uuid,
        Uuid,
        Uuid,
        jiff_diesel::NullableTimestamp,
        jiff_diesel::Timestamp,
        jiff_diesel::NullableTimestamp,
    )> = refresh_tokens::table
        .inner_join(sessions::table)
        .filter(refresh_tokens::token_hash.eq(hash))
        .select((
            refresh_tokens::id,
            sessions::id,
            sessions::user_id,
            refresh_tokens::used_at,
            refresh_tokens::expires_at,
            sessions::revoked_at,
        ))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(|(id, session_id, user_id, used, expires, revoked)| LockedToken {
        id,
        session_id,
        user_id,
        stored: StoredToken {
            used_at: used.into(),
            expires_at: expires.to_jiff(),
            session_revoked: Option::<Timestamp>::from(revoked).is_some(),
        },
    }))
}

/// Marks a token as exchanged and its session as alive.
pub async fn mark_used(conn: &mut Conn, token: &LockedToken) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.find(token.id))
        .set(refresh_tokens::used_at.eq(now))
        .execute(conn)
        .await?;
    diesel::update(sessions::table.find(token.session_id))
        .set(sessions::last_used_at.eq(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Revokes sessions of `user_id`: one, or all when `session_id` is `None`. Returns their ids.
pub async fn revoke(
    conn: &mut Conn,
    user_id: Uuid,
    session_id: Option<Uuid>,
    reason: &str,
) -> QueryResult<Vec<Uuid>> {
    let open = sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::revoked_at.is_null());
    let change = (sessions::revoked_at.eq(now), sessions::revoked_reason.eq(reason));
    match session_id {
        Some(id) => {
            diesel::update(open.filter(sessions::id.eq(id)))
                .set(change)
                .returning(sessions::id)
                .get_results(conn)
                .await
        }
        None => diesel::update(open).set(change).returning(sessions::id).get_results(conn).await,
    }
}

/// Sessions that were revoked after `after` (a time, and the id of the last one read of that time),
/// oldest first, at most `limit`.
pub async fn revoked_after(
    conn: &mut Conn,
    after: (Timestamp, Uuid),
    limit: i64,
) -> QueryResult<Vec<(Uuid, Timestamp)>> {
    use diesel::sql_types::{BigInt, Timestamptz, Uuid as Id};

    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Id)]
        id: Uuid,
        #[diesel(sql_type = Timestamptz)]
        revoked_at: jiff_diesel::Timestamp,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT id, revoked_at FROM sessions WHERE (revoked_at, id) > ($1, $2)
          ORDER BY revoked_at, id LIMIT $3",
    )
    .bind::<Timestamptz, _>(after.0.to_diesel())
    .bind::<Id, _>(after.1)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.revoked_at.to_jiff())).collect())
}

/// The open sessions of `user_id`, newest first, at most `limit`.
pub async fn list(conn: &mut Conn, user_id: Uuid, limit: i64) -> QueryResult<Vec<Session>> {
    sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::revoked_at.is_null())
        .order(sessions::last_used_at.desc())
        .limit(limit)
        .select(Session::as_select())
        .load(conn)
        .await
}

/// The session of the access token `jti`, if neither it nor its account was revoked.
pub async fn of_access_token(conn: &mut Conn, jti: Uuid) -> QueryResult<Option<Uuid>> {
    refresh_tokens::table
        .inner_join(sessions::table.inner_join(users::table))
        .filter(refresh_tokens::id.eq(jti))
        .filter(sessions::revoked_at.is_null())
        .filter(users::status.eq("active"))
        .select(sessions::id)
        .first(conn)
        .await
        .optional()
}

/// Forgets tokens that ran out more than a day ago; returns how many.
pub async fn forget_expired(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("DELETE FROM refresh_tokens WHERE expires_at < now() - interval '1 day'")
        .execute(conn)
        .await
}
