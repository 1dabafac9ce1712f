//! Accounts.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::Conn;
use super::schema::users;

/// An account without its password.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub phone: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::NullableDate)]
    pub date_of_birth: Option<Date>,
    pub gender: Option<String>,
    pub user_type: String,
    pub status: String,
    pub email_verified: bool,
    pub phone_verified: bool,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// What a new account consists of.
#[derive(Insertable)]
#[diesel(table_name = users)]
pub struct NewUser<'a> {
    pub id: Uuid,
    /// Lower case.
    pub email: &'a str,
    /// bcrypt.
    pub password_hash: &'a str,
    pub first_name: &'a str,
    pub last_name: &'a str,
    pub phone: Option<&'a str>,
    pub user_type: &'a str,
}

/// Changes to an account; `None` leaves a field as it is, `Some(None)` empties it.
#[derive(AsChangeset, Default)]
#[diesel(table_name = users)]
pub struct ProfileChange<'a> {
    pub first_name: Option<&'a str>,
    pub last_name: Option<&'a str>,
    pub phone: Option<Option<&'a str>>,
    pub gender: Option<Option<&'a str>>,
    pub date_of_birth: Option<Option<jiff_diesel::Date>>,
}

impl ProfileChange<'_> {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.first_name.is_none()
            && self.last_name.is_none()
            && self.phone.is_none()
            && self.gender.is_none()
            && self.date_of_birth.is_none()
    }
}

/// Inserts an account and the head of its channel. A taken e-mail is `Violation::UserEmail`.
pub async fn insert(conn: &mut Conn, new: &NewUser<'_>) -> QueryResult<User> {
    use super::schema::user_channels;
    let user = diesel::insert_into(users::table)
        .values(new)
        .returning(User::as_returning())
        .get_result(conn)
        .await?;
    diesel::insert_into(user_channels::table)
        .values(user_channels::user_id.eq(user.id))
        .execute(conn)
        .await?;
    Ok(user)
}

/// The account with `id`.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<User>> {
    users::table.find(id).select(User::as_select()).first(conn).await.optional()
}

/// The account with the lower-case `email` and its password hash, if it has one.
pub async fn find_with_password(
    conn: &mut Conn,
    email: &str,
) -> QueryResult<Option<(User, Option<String>)>> {
    users::table
        .filter(users::email.eq(email))
        .select((User::as_select(), users::password_hash))
        .first(conn)
        .await
        .optional()
}

/// Changes an account and returns it.
pub async fn update(conn: &mut Conn, id: Uuid, change: &ProfileChange<'_>) -> QueryResult<User> {
    diesel::update(users::table.find(id))
        .set(change)
        .returning(User::as_returning())
        .get_result(conn)
        .await
}
