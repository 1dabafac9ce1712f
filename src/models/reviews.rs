//! Reviews of sessions. The database counts them into their practice (trigger `reviews_counted`).

use diesel::dsl::{now, sql};
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::schema::{bookings, reviews, users};
use super::{Conn, Part};

/// A review with the first name of who wrote it and the practice that it is of.
#[derive(Debug, Clone, Queryable)]
pub struct Review {
    pub id: Uuid,
    pub booking_id: Uuid,
    pub reviewer_id: Uuid,
    pub rating: i32,
    pub comment: Option<String>,
    pub is_anonymous: bool,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub updated_at: Timestamp,
    pub reviewer_first_name: String,
    pub practitioner_id: Uuid,
}

/// A review that is to be stored.
#[derive(Debug, Insertable)]
#[diesel(table_name = reviews)]
pub struct NewReview<'a> {
    pub id: Uuid,
    pub booking_id: Uuid,
    pub reviewer_id: Uuid,
    /// The user of the practice.
    pub reviewee_id: Uuid,
    pub rating: i32,
    pub comment: Option<&'a str>,
    pub is_anonymous: bool,
}

/// Changes to a review; `None` leaves a field as it is.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = reviews)]
pub struct ReviewChange<'a> {
    pub rating: Option<i32>,
    /// `Some(None)` takes the comment away.
    pub comment: Option<Option<&'a str>>,
}

#[diesel::dsl::auto_type(no_type_alias)]
fn columns() -> _ {
    (
        reviews::id,
        reviews::booking_id,
        reviews::reviewer_id,
        reviews::rating,
        reviews::comment,
        reviews::is_anonymous,
        reviews::created_at,
        reviews::updated_at,
        users::first_name,
        bookings::practitioner_id,
    )
}

#[diesel::dsl::auto_type(no_type_alias)]
fn with_names() -> _ {
    reviews::table
        .inner_join(users::table.on(users::id.eq(reviews::reviewer_id)))
        .inner_join(bookings::table)
        .filter(reviews::removed_at.is_null())
}

/// Stores a review. A second one of a booking is `Violation::ReviewOfBooking`, also after the
/// first was removed.
pub async fn insert(conn: &mut Conn, new: &NewReview<'_>) -> QueryResult<()> {
    diesel::insert_into(reviews::table).values(new).execute(conn).await?;
    Ok(())
}

/// The review with `id`, unless it was removed.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Review>> {
    with_names().filter(reviews::id.eq(id)).select(columns()).first(conn).await.optional()
}

/// The review with `id`, locked until the transaction ends, and the database's time.
pub async fn lock(conn: &mut Conn, id: Uuid) -> QueryResult<Option<(Review, Timestamp)>> {
    let locked: Option<jiff_diesel::Timestamp> = reviews::table
        .find(id)
        .select(sql::<Timestamptz>("statement_timestamp()"))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let Some(at) = locked else { return Ok(None) };
    Ok(find(conn, id).await?.map(|review| (review, at.to_jiff())))
}

/// Changes a review that is locked.
pub async fn update(conn: &mut Conn, id: Uuid, change: &ReviewChange<'_>) -> QueryResult<()> {
    if change.rating.is_some() || change.comment.is_some() {
        diesel::update(reviews::table.find(id)).set(change).execute(conn).await?;
    }
    Ok(())
}

/// Takes a review away, and its words with it.
pub async fn remove(conn: &mut Conn, id: Uuid) -> QueryResult<()> {
    diesel::update(reviews::table.find(id))
        .set((reviews::removed_at.eq(now), reviews::comment.eq(None::<String>)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Whose reviews to list.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// Those of the practice of this user.
    About(Uuid),
    /// Those that this user wrote.
    By(Uuid),
}

/// At most `limit` reviews, newest first.
pub async fn list(
    conn: &mut Conn,
    whose: Whose,
    part: Part,
    limit: i64,
) -> QueryResult<Vec<Review>> {
    let mut query = with_names()
        .select(columns())
        .order((reviews::created_at.desc(), reviews::id.desc()))
        .limit(limit)
        .into_boxed();
    query = match whose {
        Whose::About(user) => query.filter(reviews::reviewee_id.eq(user)),
        Whose::By(user) => query.filter(reviews::reviewer_id.eq(user)),
    };
    query = match part {
        Part::Offset(n) => query.offset(n),
        Part::After(at, id) => query.filter(
            reviews::created_at
                .lt(at.to_diesel())
                .or(reviews::created_at.eq(at.to_diesel()).and(reviews::id.lt(id))),
        ),
    };
    query.load(conn).await
}

/// How many reviews there are.
pub async fn count(conn: &mut Conn, whose: Whose) -> QueryResult<i64> {
    let query = reviews::table.filter(reviews::removed_at.is_null());
    match whose {
        Whose::About(user) => {
            query.filter(reviews::reviewee_id.eq(user)).count().get_result(conn).await
        }
        Whose::By(user) => {
            query.filter(reviews::reviewer_id.eq(user)).count().get_result(conn).await
        }
    }
}

/// How many reviews the practice of the user `reviewee_id` has of each number of stars that it has
/// any of.
pub async fn stars(conn: &mut Conn, reviewee_id: Uuid) -> QueryResult<Vec<(i32, i64)>> {
    reviews::table
        .filter(reviews::reviewee_id.eq(reviewee_id))
        .filter(reviews::removed_at.is_null())
        .group_by(reviews::rating)
        .select((reviews::rating, diesel::dsl::count_star()))
        .load(conn)
        .await
}
