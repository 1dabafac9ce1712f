//! Security events (section 6.3): who logged in, from where, what was refused.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::schema::audit_log;

/// One event.
#[derive(Insertable)]
#[diesel(table_name = audit_log)]
pub struct NewEntry<'a> {
    pub id: Uuid,
    /// `login`, `logout`, `failed_login`, `token_reuse`.
    pub event_type: &'a str,
    pub user_id: Option<Uuid>,
    pub ip_address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub metadata: Value,
}

/// Appends `entry`.
pub async fn append(conn: &mut Conn, entry: &NewEntry<'_>) -> QueryResult<()> {
    diesel::insert_into(audit_log::table).values(entry).execute(conn).await?;
    Ok(())
}
