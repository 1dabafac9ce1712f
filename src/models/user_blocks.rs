//! Who wants nothing to do with whom.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::conversations::direct_key;
use super::schema::{conversations, user_blocks, users};

/// Users that one may block.
pub const MAX_BLOCKS: i64 = 1_000;

/// Somebody who is blocked.
#[derive(Debug, Clone, Queryable)]
pub struct Blocked {
    pub user_id: Uuid,
    pub first_name: String,
    pub last_name: String,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// Somebody blocks somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    pub created_at: Timestamp,
    pub blocker_id: Uuid,
    pub blocked_id: Uuid,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

/// Until the end of the transaction, nobody else blocks or opens a conversation between the two.
pub async fn lock_pair(conn: &mut Conn, a: Uuid, b: Uuid) -> QueryResult<()> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('pair:' || $1, 0))")
        .bind::<Text, _>(direct_key(a, b))
        .execute(conn)
        .await?;
    Ok(())
}

/// Blocks `blocked`; false when `blocker` blocks as many as they may. Once this is committed no
/// message is stored in their conversation. What either waits for with the other is given up.
pub async fn block(conn: &mut Conn, blocker: Uuid, blocked: Uuid) -> QueryResult<bool> {
    lock_pair(conn, blocker, blocked).await?;
    let count: i64 = user_blocks::table
        .filter(user_blocks::blocker_id.eq(blocker))
        .count()
        .get_result(conn)
        .await?;
    if count >= MAX_BLOCKS {
        return Ok(false);
    }
    let key = direct_key(blocker, blocked);
    diesel::insert_into(user_blocks::table)
        .values((
            user_blocks::blocker_id.eq(blocker),
            user_blocks::blocked_id.eq(blocked),
            user_blocks::pair_key.eq(&key),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    diesel::update(conversations::table.filter(conversations::direct_key.eq(&key)))
        .set(conversations::blocked.eq(true))
        .execute(conn)
        .await?;
    diesel::sql_query(
        "UPDATE waitlist w SET status = 'left' FROM practitioners p
          WHERE p.id = w.practitioner_id AND w.status = 'waiting'
            AND ((w.seeker_id = $1 AND p.user_id = $2) OR (w.seeker_id = $2 AND p.user_id = $1))",
    )
    .bind::<SqlUuid, _>(blocker)
    .bind::<SqlUuid, _>(blocked)
    .execute(conn)
    .await?;
    Ok(true)
}

/// Ends the block of `blocked` by `blocker`, not that of the other way.
pub async fn unblock(conn: &mut Conn, blocker: Uuid, blocked: Uuid) -> QueryResult<()> {
    lock_pair(conn, blocker, blocked).await?;
    diesel::delete(user_blocks::table.find((blocker, blocked))).execute(conn).await?;
    let key = direct_key(blocker, blocked);
    let still = diesel::dsl::exists(user_blocks::table.filter(user_blocks::pair_key.eq(&key)));
    let still: bool = diesel::select(still).get_result(conn).await?;
    diesel::update(conversations::table.filter(conversations::direct_key.eq(&key)))
        .set(conversations::blocked.eq(still))
        .execute(conn)
        .await?;
    Ok(())
}

/// A page of those whom `blocker` blocks, the newest first, and how many they are.
pub async fn list(
    conn: &mut Conn,
    blocker: Uuid,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Blocked>, i64)> {
    let mine = || user_blocks::table.filter(user_blocks::blocker_id.eq(blocker));
    let total = mine().count().get_result(conn).await?;
    let rows = mine()
        .inner_join(users::table.on(users::id.eq(user_blocks::blocked_id)))
        .order((user_blocks::created_at.desc(), user_blocks::blocked_id))
        .limit(limit)
        .offset(offset)
        .select((users::id, users::first_name, users::last_name, user_blocks::created_at))
        .load(conn)
        .await?;
    Ok((rows, total))
}

/// Blocks that came after `since`, or after `last`, oldest first, at most `limit`.
pub async fn after(
    conn: &mut Conn,
    since: Timestamp,
    last: Option<Block>,
    limit: i64,
) -> QueryResult<Vec<Block>> {
    use user_blocks as b;
    let mut query = b::table
        .filter(b::created_at.ge(since.to_diesel()))
        .order((b::created_at, b::blocker_id, b::blocked_id))
        .select((b::created_at, b::blocker_id, b::blocked_id))
        .limit(limit)
        .into_boxed();
    if let Some(Block { created_at, blocker_id, blocked_id }) = last {
        let at = created_at.to_diesel();
        let later = b::blocker_id
            .gt(blocker_id)
            .or(b::blocker_id.eq(blocker_id).and(b::blocked_id.gt(blocked_id)));
        query = query.filter(b::created_at.gt(at).or(b::created_at.eq(at).and(later)));
    }
    let rows: Vec<(jiff_diesel::Timestamp, Uuid, Uuid)> = query.load(conn).await?;
    let block = |(created_at, blocker_id, blocked_id): (jiff_diesel::Timestamp, _, _)| Block {
        created_at: created_at.to_jiff(),
        blocker_id,
        blocked_id,
    };
    Ok(rows.into_iter().map(block).collect())
}

/// Whether one of the two blocks the other.
pub async fn between(conn: &mut Conn, a: Uuid, b: Uuid) -> QueryResult<bool> {
    let pair = user_blocks::table.filter(user_blocks::pair_key.eq(direct_key(a, b)));
    diesel::select(diesel::dsl::exists(pair)).get_result(conn).await
}

/// Whether the user blocks somebody of the practice, or is blocked there.
pub async fn with_practice(
    conn: &mut Conn,
    user_id: Uuid,
    practitioner_id: Uuid,
) -> QueryResult<bool> {
    let found: Found = diesel::sql_query(
        "SELECT EXISTS (
             SELECT 1 FROM practitioners p JOIN user_blocks b
                 ON (b.blocker_id = $1 AND b.blocked_id = p.user_id)
                 OR (b.blocker_id = p.user_id AND b.blocked_id = $1)
              WHERE p.id = $2) AS found",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<SqlUuid, _>(practitioner_id)
    .get_result(conn)
    .await?;
    Ok(found.found)
}

/// Whether a conversation is a 1:1 whose two do not want to hear of each other.
pub async fn in_conversation(conn: &mut Conn, id: Uuid) -> QueryResult<bool> {
    let blocked = conversations::table.find(id).select(conversations::blocked);
    Ok(blocked.first(conn).await.optional()?.unwrap_or(false))
}
