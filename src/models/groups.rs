//! Groups, and who may be brought together.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Conn;
use super::acquaintance::acquainted;
use super::schema::{conversation_members, conversations};
use crate::domain::chat::MemberRole;

/// Somebody with whom another wants to talk.
#[derive(Debug, QueryableByName)]
pub struct Acquaintance {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub user_type: String,
    /// Whether the two share a conversation or a booking, and neither blocks the other.
    #[diesel(sql_type = Bool)]
    pub acquainted: bool,
}

/// The active ones of `users`, and how they stand to `me`.
pub async fn acquaintances(
    conn: &mut Conn,
    me: Uuid,
    users: &[Uuid],
) -> QueryResult<Vec<Acquaintance>> {
    diesel::sql_query(format!(
        "SELECT u.id, u.user_type, {} AS acquainted
           FROM users u WHERE u.id = ANY ($2) AND u.status = 'active'",
        acquainted("$1", "u.id")
    ))
    .bind::<SqlUuid, _>(me)
    .bind::<Array<SqlUuid>, _>(users)
    .load(conn)
    .await
}

/// Makes a group of `owner` and `others`. The caller runs it in a transaction.
pub async fn create(
    conn: &mut Conn,
    id: Uuid,
    owner: Uuid,
    title: &str,
    others: &[Uuid],
) -> QueryResult<()> {
    diesel::insert_into(conversations::table)
        .values((
            conversations::id.eq(id),
            conversations::kind.eq("group"),
            conversations::title.eq(title),
            conversations::created_by.eq(owner),
        ))
        .execute(conn)
        .await?;
    use conversation_members as m;
    let row = |user: Uuid, role: MemberRole| {
        (m::conversation_id.eq(id), m::user_id.eq(user), m::role.eq(role.as_str()))
    };
    let rows: Vec<_> = std::iter::once(row(owner, MemberRole::Owner))
        .chain(others.iter().map(|user| row(*user, MemberRole::Member)))
        .collect();
    diesel::insert_into(m::table).values(rows).execute(conn).await?;
    Ok(())
}
