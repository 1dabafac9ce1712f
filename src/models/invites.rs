//! Bookings with all that an invite says of them.

use diesel::QueryResult;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;

/// A booking, the names of both sides, and the practice's zone.
#[derive(Debug, Clone, QueryableByName)]
pub struct InviteRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub status: String,
    /// The first booking of the chain of reschedules; `None` for that one itself.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub chain_id: Option<Uuid>,
    #[diesel(sql_type = Integer)]
    pub ical_sequence: i32,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub scheduled_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub ends_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub updated_at: Timestamp,
    #[diesel(sql_type = Text)]
    pub service_name: String,
    /// IANA name, as the schedule has it.
    #[diesel(sql_type = Nullable<Text>)]
    pub zone: Option<String>,
    #[diesel(sql_type = SqlUuid)]
    pub seeker_id: Uuid,
    #[diesel(sql_type = Text)]
    pub seeker_name: String,
    #[diesel(sql_type = SqlUuid)]
    pub practitioner_user_id: Uuid,
    #[diesel(sql_type = Text)]
    pub practitioner_name: String,
}

/// Everything but which bookings.
const SELECT: &str = "
SELECT b.id, b.status, b.chain_id, b.ical_sequence, b.scheduled_at, b.ends_at, b.updated_at, s.name AS service_name,
       p.availability ->> 'timeZone' AS zone, b.seeker_id,
       k.first_name || ' ' || k.last_name AS seeker_name, p.user_id AS practitioner_user_id,
       u.first_name || ' ' || u.last_name AS practitioner_name
  FROM bookings b
  JOIN services s ON s.id = b.service_id
  JOIN practitioners p ON p.id = b.practitioner_id
  JOIN users u ON u.id = p.user_id
  JOIN users k ON k.id = b.seeker_id";

/// The booking (or hold) `id`.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<InviteRow>> {
    diesel::sql_query(format!("{SELECT} WHERE b.id = $1"))
        .bind::<SqlUuid, _>(id)
        .get_result(conn)
        .await
        .optional()
}

/// Whose bookings to list.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    Practice(Uuid),
    Seeker(Uuid),
}

/// The bookings of one side that stand or took place, from `days` ago on, by start. At most
/// `limit`: those that are farthest from now are left out.
pub async fn list(
    conn: &mut Conn,
    whose: Whose,
    days: i32,
    limit: i64,
) -> QueryResult<Vec<InviteRow>> {
    let (column, id) = match whose {
        Whose::Practice(id) => ("b.practitioner_id", id),
        Whose::Seeker(id) => ("b.seeker_id", id),
    };
    let mut rows: Vec<InviteRow> = diesel::sql_query(format!(
        "{SELECT} WHERE {column} = $1 AND b.ends_at > now() - make_interval(days => $2)
            AND b.status IN ('pending', 'confirmed', 'in_session', 'completed', 'no_show')
          ORDER BY abs(extract(epoch FROM b.scheduled_at - now())) LIMIT $3"
    ))
    .bind::<SqlUuid, _>(id)
    .bind::<Integer, _>(days)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    rows.sort_by_key(|row| (row.scheduled_at, row.id));
    Ok(rows)
}
