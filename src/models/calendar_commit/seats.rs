//! Sessions with seats. The counting is the database's (trigger `count_seats` and the check on
//! `group_sessions`); what is read here, under the practitioner's lock, only says beforehand what it
//! would refuse.

use diesel::sql_types::{Integer, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::insert::Row;
use crate::models::Conn;

/// A session and its seats.
#[derive(QueryableByName)]
pub(super) struct Session {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Integer)]
    pub capacity: i32,
    #[diesel(sql_type = Integer)]
    pub taken: i32,
}

/// The session that `row` joins, made if there is none. It has the seats of the offer of now, but
/// not fewer than are taken.
pub(super) async fn open(conn: &mut Conn, row: Row<'_>, capacity: i32) -> QueryResult<Session> {
    sql_query(
        "INSERT INTO group_sessions AS g
                (id, practitioner_id, service_id, starts_at, duration_minutes, capacity)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT ON CONSTRAINT group_sessions_time_key
         DO UPDATE SET capacity = greatest(g.taken, excluded.capacity)
         RETURNING id, capacity, taken",
    )
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<SqlUuid, _>(row.practitioner_id)
    .bind::<SqlUuid, _>(row.new.service_id)
    .bind::<Timestamptz, _>(row.new.scheduled_at.to_diesel())
    .bind::<Integer, _>(row.new.duration_minutes)
    .bind::<Integer, _>(capacity)
    .get_result(conn)
    .await
}
