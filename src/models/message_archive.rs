//! Messages in bulk: searching one's own, and emptying old ones.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::schema::conversation_members;

/// Conversations that a search looks into: those joined last.
const SEARCHED: i64 = 2_000;

/// Where the words of `$3` are said in the conversations `$1`, by messages before `$2`, newest
/// first. Hits are marked by characters of private use, which are taken out of the text before.
pub const SEARCH: &str =
    "SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.message_type, m.created_at,
            ts_headline('simple', translate(m.content, U&'\\E000\\E001', ''), q.words,
                U&'StartSel=\\E000, StopSel=\\E001, MaxWords=24, MinWords=8') AS headline
       FROM websearch_to_tsquery('simple', $3) AS q (words), messages m
      WHERE m.conversation_id = ANY ($1) AND to_tsvector('simple', m.content) @@ q.words
        AND m.deleted_at IS NULL AND m.id < $2
      ORDER BY m.id DESC LIMIT $4";

/// A message that was found.
#[derive(Debug, QueryableByName)]
pub struct Hit {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub conversation_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    #[diesel(sql_type = diesel::sql_types::Nullable<SqlUuid>)]
    pub sender_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub message_type: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
    /// Some of the text; what was looked for stands between U+E000 and U+E001.
    #[diesel(sql_type = Text)]
    pub headline: String,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

/// Whether `words` has a word to look for, and not only such that must not be there.
pub async fn can_be_searched(conn: &mut Conn, words: &str) -> QueryResult<bool> {
    let found: Found = diesel::sql_query(
        "SELECT querytree(websearch_to_tsquery('simple', $1)) NOT IN ('', 'T') AS found",
    )
    .bind::<Text, _>(words)
    .get_result(conn)
    .await?;
    Ok(found.found)
}

/// Messages with `words` in conversations that `user_id` is in now, the newest first.
pub async fn search(
    conn: &mut Conn,
    user_id: Uuid,
    words: &str,
    before: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Hit>> {
    let mine: Vec<Uuid> = conversation_members::table
        .filter(conversation_members::user_id.eq(user_id))
        .order(conversation_members::joined_at.desc())
        .limit(SEARCHED)
        .select(conversation_members::conversation_id)
        .load(conn)
        .await?;
    diesel::sql_query(SEARCH)
        .bind::<Array<SqlUuid>, _>(mine)
        .bind::<SqlUuid, _>(before.unwrap_or(Uuid::max()))
        .bind::<Text, _>(words)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await
}

#[derive(QueryableByName)]
struct Old {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Empties at most `limit` messages that come after `after` and are older than `seconds`, those of
/// the platform's own lines aside; returns where it came to, `None` when there were no more. They
/// become what is left of a message that was taken away: rows without words, under their seq. What
/// they said before, and what others said to them, goes too. Their age is that of their ids
/// (UUIDv7, RFC 9562), so that the index of ids finds them.
pub async fn empty_old(
    conn: &mut Conn,
    seconds: f64,
    after: Uuid,
    limit: i64,
) -> QueryResult<Option<Uuid>> {
    conn.transaction(async |conn| {
        let old: Vec<Old> = diesel::sql_query(
            "SELECT id FROM messages
              WHERE id > $1 AND id < (lpad(to_hex((extract(epoch FROM
                        statement_timestamp() - make_interval(secs => $2)) * 1000)::bigint), 12, '0')
                    || repeat('0', 20))::uuid
              ORDER BY id LIMIT $3 FOR UPDATE",
        )
        .bind::<SqlUuid, _>(after)
        .bind::<Double, _>(seconds)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?;
        let ids: Vec<Uuid> = old.into_iter().map(|row| row.id).collect();
        for statement in [
            "UPDATE messages SET content = '', attachments = '[]', deleted_at = statement_timestamp()
              WHERE id = ANY ($1) AND deleted_at IS NULL AND message_type <> 'system'",
            "DELETE FROM message_versions WHERE message_id = ANY ($1)",
            "DELETE FROM message_reactions WHERE message_id = ANY ($1)",
        ] {
            diesel::sql_query(statement).bind::<Array<SqlUuid>, _>(&ids).execute(conn).await?;
        }
        Ok(ids.last().copied())
    })
    .await
}
