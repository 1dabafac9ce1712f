//! Who left a conversation lately. A trigger of `conversation_members` writes the rows.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::acquaintance::share_something;
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

/// Former members who are asked about beside those who are still there.
const FORMER: i64 = 200;

#[derive(QueryableByName)]
struct Pair {
    #[diesel(sql_type = SqlUuid)]
    a: Uuid,
    #[diesel(sql_type = SqlUuid)]
    b: Uuid,
}

/// Pairs of who left and somebody who is or was lately in the same conversation, at least one of them
/// among `watched`, who share neither a conversation nor a booking now.
pub async fn strangers(
    conn: &mut Conn,
    departures: &[Departure],
    watched: &[Uuid],
) -> QueryResult<Vec<(Uuid, Uuid)>> {
    let (conversations, users): (Vec<Uuid>, Vec<Uuid>) =
        departures.iter().map(|d| (d.conversation_id, d.user_id)).unzip();
    let pairs: Vec<Pair> = diesel::sql_query(format!(
        "SELECT d.user_id AS a, o.user_id AS b
           FROM unnest($1, $2) AS d (conversation_id, user_id)
          CROSS JOIN LATERAL (
                (SELECT m.user_id FROM conversation_members m
                  WHERE m.conversation_id = d.conversation_id)
                UNION
                (SELECT f.user_id FROM member_departures f
                  WHERE f.conversation_id = d.conversation_id
                  ORDER BY f.left_at DESC LIMIT $4)) AS o
          WHERE o.user_id <> d.user_id AND (d.user_id = ANY ($3) OR o.user_id = ANY ($3))
            AND NOT {}",
        share_something("d.user_id", "o.user_id")
    ))
    .bind::<Array<SqlUuid>, _>(conversations)
    .bind::<Array<SqlUuid>, _>(users)
    .bind::<Array<SqlUuid>, _>(watched)
    .bind::<BigInt, _>(FORMER)
    .load(conn)
    .await?;
    Ok(pairs.into_iter().map(|Pair { a, b }| (a, b)).collect())
}

/// Forgets those who left more than an hour ago; returns how many. No node looks so far back.
pub async fn forget_old(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("DELETE FROM member_departures WHERE left_at < now() - interval '1 hour'")
        .execute(conn)
        .await
}
