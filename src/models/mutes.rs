//! Conversations that a member wants no pushes of.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::schema::conversation_members as members;

/// Mutes a conversation for a member until then, or not any more; false when they are no member.
pub async fn set(
    conn: &mut Conn,
    conversation_id: Uuid,
    user_id: Uuid,
    until: Option<Timestamp>,
) -> QueryResult<bool> {
    let changed = diesel::update(members::table.find((conversation_id, user_id)))
        .set(members::muted_until.eq(until.map(ToDiesel::to_diesel)))
        .execute(conn)
        .await?;
    Ok(changed > 0)
}

/// Until when a member mutes a conversation; `None` when they are no member.
pub async fn get(
    conn: &mut Conn,
    conversation_id: Uuid,
    user_id: Uuid,
) -> QueryResult<Option<Option<Timestamp>>> {
    let until: Option<Option<jiff_diesel::Timestamp>> = members::table
        .find((conversation_id, user_id))
        .select(members::muted_until)
        .first(conn)
        .await
        .optional()?;
    Ok(until.map(|until| until.map(jiff_diesel::Timestamp::to_jiff)))
}
