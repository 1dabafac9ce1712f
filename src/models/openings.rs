//! Where channels begin for those who may follow them, for many sockets at once.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::acquaintance::acquainted;
use crate::domain::channel::Channel;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    head: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used: Option<jiff_diesel::Timestamp>,
}

/// Where a channel begins.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// The seq of the newest event; 0 for `presence:`, which has none.
    pub seq: i64,
    /// Of `presence:`: when the user last logged in or renewed a token, if ever.
    pub last_used: Option<Timestamp>,
}

/// Where each channel begins, for the user beside it, in the order asked; none where there is no
/// such channel or it is not theirs to follow. One query for all of them.
pub async fn heads(conn: &mut Conn, asked: &[(Uuid, Channel)]) -> QueryResult<Vec<Option<Head>>> {
    let (mut kinds, mut ids, mut users) = (Vec::new(), Vec::new(), Vec::new());
    for (user, channel) in asked {
        let (kind, id) = match *channel {
            Channel::User(id) => (0i16, id),
            Channel::Conversation(id) => (1, id),
            Channel::Calendar(id) => (2, id),
            Channel::Presence(id) => (3, id),
        };
        kinds.push(kind);
        ids.push(id);
        users.push(*user);
    }
    let known = acquainted("a.user_id", "a.id");
    let rows: Vec<Row> = diesel::sql_query(format!(
        "SELECT a.place, CASE a.kind
                WHEN 0 THEN (SELECT u.last_seq FROM user_channels u
                              WHERE u.user_id = a.id AND a.id = a.user_id)
                WHEN 1 THEN (SELECT c.last_seq FROM conversations c
                               JOIN conversation_members m ON m.conversation_id = c.id
                              WHERE c.id = a.id AND m.user_id = a.user_id)
                WHEN 2 THEN (SELECT k.version FROM calendars k WHERE k.practitioner_id = a.id)
                WHEN 3 THEN (SELECT 0 WHERE a.id = a.user_id OR {known})
                END AS head,
                CASE a.kind WHEN 3 THEN (SELECT max(s.last_used_at) FROM sessions s
                                          WHERE s.user_id = a.id) END AS last_used
           FROM unnest($1, $2, $3) WITH ORDINALITY AS a (kind, id, user_id, place)",
    ))
    .bind::<Array<SmallInt>, _>(kinds)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<SqlUuid>, _>(users)
    .load(conn)
    .await?;
    let mut heads = vec![None; asked.len()];
    for row in rows {
        let place = usize::try_from(row.place - 1).ok();
        if let Some(head) = place.and_then(|place| heads.get_mut(place)) {
            let last_used = row.last_used.map(jiff_diesel::Timestamp::to_jiff);
            *head = row.head.map(|seq| Head { seq, last_used });
        }
    }
    Ok(heads)
}
