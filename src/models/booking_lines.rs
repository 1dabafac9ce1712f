//! Changes of bookings that conversations are still to be told. A trigger of `booking_events` writes
//! them.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::schema::booking_lines as table;

/// A change that is to be told.
#[derive(Debug, QueryableByName)]
pub struct BookingLine {
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    /// The booking's version that the change made.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    #[diesel(sql_type = SqlUuid)]
    pub conversation_id: Uuid,
    /// Of the audit trail: `book`, `confirm` and so on.
    #[diesel(sql_type = Text)]
    pub action: String,
    #[diesel(sql_type = Text)]
    pub to_status: String,
    #[diesel(sql_type = Text)]
    pub service_name: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub scheduled_at: Timestamp,
}

/// At most `limit` of them, oldest first, none of the conversations `without`.
pub async fn due(conn: &mut Conn, without: &[Uuid], limit: i64) -> QueryResult<Vec<BookingLine>> {
    diesel::sql_query(
        "SELECT l.booking_id, l.version, l.conversation_id, l.action, e.to_status,
                s.name AS service_name, b.scheduled_at
           FROM booking_lines l
           JOIN booking_events e ON e.booking_id = l.booking_id AND e.version = l.version
           JOIN bookings b ON b.id = l.booking_id JOIN services s ON s.id = b.service_id
          WHERE l.conversation_id <> ALL ($2)
          ORDER BY l.created_at, l.booking_id, l.version LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .bind::<Array<SqlUuid>, _>(without)
    .load(conn)
    .await
}

/// One of them was told.
pub async fn settle(conn: &mut Conn, booking_id: Uuid, version: i64) -> QueryResult<()> {
    diesel::delete(table::table.find((booking_id, version))).execute(conn).await?;
    Ok(())
}
