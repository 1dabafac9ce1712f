//! Where channels begin for those who may follow them, for many sockets at once.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Conn;
use crate::domain::channel::Channel;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    head: Option<i64>,
}

/// The seq of the newest event of each channel, for the user beside it, in the order asked; none
/// where there is no such channel or it is not theirs to follow. One query for all of them.
/// `presence:` channels have no seq and are none here.
pub async fn heads(conn: &mut Conn, asked: &[(Uuid, Channel)]) -> QueryResult<Vec<Option<i64>>> {
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
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT a.place, CASE a.kind
                WHEN 0 THEN (SELECT u.last_seq FROM user_channels u
                              WHERE u.user_id = a.id AND a.id = a.user_id)
                WHEN 1 THEN (SELECT c.last_seq FROM conversations c
                               JOIN conversation_members m ON m.conversation_id = c.id
                              WHERE c.id = a.id AND m.user_id = a.user_id)
                WHEN 2 THEN (SELECT k.version FROM calendars k WHERE k.practitioner_id = a.id)
                END AS head
           FROM unnest($1, $2, $3) WITH ORDINALITY AS a (kind, id, user_id, place)",
    )
    .bind::<Array<SmallInt>, _>(kinds)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<SqlUuid>, _>(users)
    .load(conn)
    .await?;
    let mut heads = vec![None; asked.len()];
    for row in rows {
        let place = usize::try_from(row.place - 1).ok();
        if let Some(head) = place.and_then(|place| heads.get_mut(place)) {
            *head = row.head;
        }
    }
    Ok(heads)
}
