//! Notifications: what the inbox of an app shows.

use diesel::dsl::now;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::schema::notifications;

/// A stored notification.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = notifications, check_for_backend(diesel::pg::Pg))]
pub struct Notification {
    pub id: Uuid,
    pub kind: String,
    pub title: String,
    pub body: String,
    pub data: Value,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub read_at: Option<Timestamp>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// A page, newest first, of those older than the one with id `before` (ids are UUIDv7).
pub async fn list(
    conn: &mut Conn,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Notification>> {
    let mut query = notifications::table
        .filter(notifications::user_id.eq(user_id))
        .order(notifications::id.desc())
        .limit(limit)
        .select(Notification::as_select())
        .into_boxed();
    if let Some(id) = before {
        query = query.filter(notifications::id.lt(id));
    }
    query.load(conn).await
}

/// Which notifications an acknowledgement means.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// This one.
    One(Uuid),
    /// This one and every older one.
    UpTo(Uuid),
}

/// Marks notifications as read and returns the ids of those that were not.
pub async fn mark_read(conn: &mut Conn, user_id: Uuid, which: Which) -> QueryResult<Vec<Uuid>> {
    let unread = notifications::table
        .filter(notifications::user_id.eq(user_id))
        .filter(notifications::read_at.is_null());
    let read = notifications::read_at.eq(now);
    match which {
        Which::One(id) => {
            diesel::update(unread.filter(notifications::id.eq(id)))
                .set(read)
                .returning(notifications::id)
                .get_results(conn)
                .await
        }
        Which::UpTo(id) => {
            diesel::update(unread.filter(notifications::id.le(id)))
                .set(read)
                .returning(notifications::id)
                .get_results(conn)
                .await
        }
    }
}

/// Of the ids that `which` names, those that belong to `user_id`, at most `limit`, newest first.
pub async fn named_by(
    conn: &mut Conn,
    user_id: Uuid,
    which: Which,
    limit: i64,
) -> QueryResult<Vec<Uuid>> {
    let mut query = notifications::table
        .filter(notifications::user_id.eq(user_id))
        .order(notifications::id.desc())
        .limit(limit)
        .select(notifications::id)
        .into_boxed();
    query = match which {
        Which::One(id) => query.filter(notifications::id.eq(id)),
        Which::UpTo(id) => query.filter(notifications::id.le(id)),
    };
    query.load(conn).await
}

/// How many notifications of `user_id` are unread.
pub async fn count_unread(conn: &mut Conn, user_id: Uuid) -> QueryResult<i64> {
    notifications::table
        .filter(notifications::user_id.eq(user_id))
        .filter(notifications::read_at.is_null())
        .count()
        .get_result(conn)
        .await
}
