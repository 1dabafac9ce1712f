//! What users want to hear and when, as one JSON document per user; no row means the defaults.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use super::schema::notification_preferences as table;
use super::{Conn, outbox};
use crate::domain::notify::Preferences;

/// Reads a stored document. One that can not be read counts as none: a push too many is better
/// than an outbox that stands still.
pub fn read(stored: Option<Value>) -> Preferences {
    stored.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default()
}

/// The preferences of a user.
pub async fn of(conn: &mut Conn, user_id: Uuid) -> QueryResult<Preferences> {
    let stored = table::table.find(user_id).select(table::preferences).first(conn).await;
    Ok(read(stored.optional()?))
}

/// Changes the preferences of a user by `change`, and lets the outbox decide anew on what quiet
/// hours kept back; returns them as they now are.
pub async fn update(
    conn: &mut Conn,
    user_id: Uuid,
    change: impl FnOnce(&mut Preferences) + Send,
) -> QueryResult<Preferences> {
    conn.transaction(async |conn| {
        // So that there is a row to lock: two changes at once both count.
        diesel::insert_into(table::table)
            .values((table::user_id.eq(user_id), table::preferences.eq(serde_json::json!({}))))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        let row = table::table.find(user_id);
        let stored: Value = row.select(table::preferences).for_update().first(conn).await?;
        let mut preferences = read(Some(stored));
        change(&mut preferences);
        let json = serde_json::to_value(&preferences)
            .map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
        diesel::update(row).set(table::preferences.eq(json)).execute(conn).await?;
        outbox::ask_again(conn, user_id).await?;
        Ok(preferences)
    })
    .await
}
