//! Who left a conversation lately. A trigger of `conversation_members` writes the rows.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::schema::{conversation_members, member_departures as table};

/// Somebody who is in a conversation no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Departure {
    pub left_at: Timestamp,
    pub conversation_id: Uuid,
    pub user_id: Uuid,
}

/// Those who left after `since`, or after `last`, oldest first, at most `limit`. Who came back is
/// left out.
pub async fn after(
    conn: &mut Conn,
    since: Timestamp,
    last: Option<Departure>,
    limit: i64,
) -> QueryResult<Vec<Departure>> {
    let back = conversation_members::table
        .filter(conversation_members::conversation_id.eq(table::conversation_id))
        .filter(conversation_members::user_id.eq(table::user_id));
    let mut query = table::table
        .filter(table::left_at.ge(since.to_diesel()))
        .filter(not(exists(back)))
        .order((table::left_at, table::conversation_id, table::user_id))
        .select((table::left_at, table::conversation_id, table::user_id))
        .limit(limit)
        .into_boxed();
    if let Some(Departure { left_at, conversation_id, user_id }) = last {
        let at = left_at.to_diesel();
        let (conversation, user) = (table::conversation_id, table::user_id);
        let same = table::left_at.eq(at).and(
            conversation
                .gt(conversation_id)
                .or(conversation.eq(conversation_id).and(user.gt(user_id))),
        );
        query = query.filter(table::left_at.gt(at).or(same));
    }
    let rows: Vec<(jiff_diesel::Timestamp, Uuid, Uuid)> = query.load(conn).await?;
    let departure = |(left_at, conversation_id, user_id): (jiff_diesel::Timestamp, _, _)| {
        Departure { left_at: left_at.to_jiff(), conversation_id, user_id }
    };
    Ok(rows.into_iter().map(departure).collect())
}

/// Forgets those who left more than an hour ago; returns how many. No node looks so far back.
pub async fn forget_old(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("DELETE FROM member_departures WHERE left_at < now() - interval '1 hour'")
        .execute(conn)
        .await
}
