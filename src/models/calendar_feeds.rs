//! The secret addresses of calendars: whose they are, by the hash of their token.

use diesel::prelude::*;
use diesel::sql_types::{Bytea, Nullable, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Conn;
use super::schema::{calendar_feeds, practitioners, users};

/// Whose bookings a feed shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A practice, by its id.
    Practice(Uuid),
    /// A seeker, by their user id.
    Seeker(Uuid),
}

impl Owner {
    fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Practice(id) => (Some(id), None),
            Self::Seeker(id) => (None, Some(id)),
        }
    }
}

/// Makes the feed of `owner`, or gives it another token: the old one ends.
pub async fn put(conn: &mut Conn, owner: Owner, token_hash: &[u8]) -> QueryResult<()> {
    let (practitioner_id, user_id) = owner.ids();
    let constraint = match owner {
        Owner::Practice(_) => "calendar_feeds_practitioner_id_key",
        Owner::Seeker(_) => "calendar_feeds_user_id_key",
    };
    diesel::sql_query(format!(
        "INSERT INTO calendar_feeds (id, practitioner_id, user_id, token_hash)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT ON CONSTRAINT {constraint}
         DO UPDATE SET token_hash = excluded.token_hash, created_at = now()"
    ))
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<Nullable<SqlUuid>, _>(practitioner_id)
    .bind::<Nullable<SqlUuid>, _>(user_id)
    .bind::<Bytea, _>(token_hash)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the feed of `owner`; false when there is none.
pub async fn remove(conn: &mut Conn, owner: Owner) -> QueryResult<bool> {
    let gone = match owner {
        Owner::Practice(id) => {
            let of = calendar_feeds::table.filter(calendar_feeds::practitioner_id.eq(id));
            diesel::delete(of).execute(conn).await?
        }
        Owner::Seeker(id) => {
            let of = calendar_feeds::table.filter(calendar_feeds::user_id.eq(id));
            diesel::delete(of).execute(conn).await?
        }
    };
    Ok(gone == 1)
}

/// The practice whose feed has the token with this hash, if its account is active.
pub async fn practice_of(conn: &mut Conn, token_hash: &[u8]) -> QueryResult<Option<Uuid>> {
    calendar_feeds::table
        .inner_join(practitioners::table.inner_join(users::table))
        .filter(calendar_feeds::token_hash.eq(token_hash))
        .filter(users::status.eq("active"))
        .select(practitioners::id)
        .first(conn)
        .await
        .optional()
}

/// The seeker whose feed has the token with this hash, if their account is active.
pub async fn seeker_of(conn: &mut Conn, token_hash: &[u8]) -> QueryResult<Option<Uuid>> {
    calendar_feeds::table
        .inner_join(users::table)
        .filter(calendar_feeds::token_hash.eq(token_hash))
        .filter(users::status.eq("active"))
        .select(users::id)
        .first(conn)
        .await
        .optional()
}
