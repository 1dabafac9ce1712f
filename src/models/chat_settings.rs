//! What a user lets others know in conversations.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::Conn;
use super::schema::{conversation_members as m, users};

/// Whether others learn how far `user_id` has read.
pub async fn read_receipts(conn: &mut Conn, user_id: Uuid) -> QueryResult<bool> {
    users::table.find(user_id).select(users::read_receipts).first(conn).await
}

/// Changes it. Who starts to read in private shows what others have seen already, and from then on
/// deliveries only.
pub async fn set_read_receipts(conn: &mut Conn, user_id: Uuid, shown: bool) -> QueryResult<()> {
    conn.transaction(async |conn| {
        let was = users::table
            .find(user_id)
            .select(users::read_receipts)
            .for_no_key_update()
            .first::<bool>(conn)
            .await?;
        if was == shown {
            return Ok(());
        }
        diesel::update(users::table.find(user_id))
            .set(users::read_receipts.eq(shown))
            .execute(conn)
            .await?;
        if was {
            diesel::update(m::table.filter(m::user_id.eq(user_id)))
                .set(m::received_seq.eq(m::delivered_seq))
                .execute(conn)
                .await?;
        }
        Ok(())
    })
    .await
}
