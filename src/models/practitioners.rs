//! Practices: the public face of a practitioner, and the schedule.

use diesel::prelude::*;
use diesel::sql_types::Double;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::schema::{practitioner_services, practitioners, users};

/// A practice as everybody sees it, with the name of its user.
#[derive(Debug, Clone, Queryable)]
pub struct Practice {
    pub id: Uuid,
    pub user_id: Uuid,
    pub first_name: String,
    pub last_name: String,
    pub bio: Option<String>,
    pub experience_years: Option<i32>,
    /// Minor units of `currency`.
    pub hourly_rate: Option<i64>,
    pub currency: String,
    pub languages: Vec<String>,
    pub specializations: Vec<String>,
    pub certifications: Value,
    pub verification_status: String,
    /// Mean of the reviews to two places, 0 when there are none.
    pub rating: f64,
    pub review_count: i32,
    pub total_sessions: i32,
    /// The schedule, see `domain::availability`.
    pub availability: Value,
    pub schedule_version: i64,
    pub version: i64,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// What a new practice consists of.
#[derive(Insertable)]
#[diesel(table_name = practitioners)]
pub struct NewPractice<'a> {
    pub id: Uuid,
    pub user_id: Uuid,
    pub bio: Option<&'a str>,
    pub experience_years: Option<i32>,
    pub hourly_rate: Option<i64>,
    pub currency: &'a str,
    pub languages: &'a [String],
    pub specializations: &'a [String],
    pub certifications: Value,
    pub availability: Value,
}

/// Changes to a practice; `None` leaves a field as it is.
#[derive(AsChangeset, Default)]
#[diesel(table_name = practitioners)]
pub struct PracticeChange<'a> {
    pub bio: Option<&'a str>,
    pub experience_years: Option<i32>,
    pub hourly_rate: Option<i64>,
    pub currency: Option<&'a str>,
    pub languages: Option<&'a [String]>,
    pub specializations: Option<&'a [String]>,
    pub certifications: Option<Value>,
}

/// Which practices to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One of the practice's specializations.
    pub specialization: Option<String>,
    /// One of the practice's languages.
    pub language: Option<String>,
    /// Offers this service.
    pub service_id: Option<Uuid>,
}

#[diesel::dsl::auto_type(no_type_alias)]
fn columns() -> _ {
    let rating: diesel::expression::SqlLiteral<Double> =
        diesel::dsl::sql::<Double>("practitioners.rating::float8");
    (
        practitioners::id,
        practitioners::user_id,
        users::first_name,
        users::last_name,
        practitioners::bio,
        practitioners::experience_years,
        practitioners::hourly_rate,
        practitioners::currency,
        practitioners::languages,
        practitioners::specializations,
        practitioners::certifications,
        practitioners::verification_status,
        rating,
        practitioners::review_count,
        practitioners::total_sessions,
        practitioners::availability,
        practitioners::schedule_version,
        practitioners::version,
        practitioners::created_at,
    )
}

/// Inserts a practice and its calendar. A second one of a user is `Violation::PracticeOfUser`.
pub async fn insert(conn: &mut Conn, new: &NewPractice<'_>) -> QueryResult<()> {
    use super::schema::calendars;
    diesel::insert_into(practitioners::table).values(new).execute(conn).await?;
    diesel::insert_into(calendars::table)
        .values(calendars::practitioner_id.eq(new.id))
        .execute(conn)
        .await?;
    Ok(())
}

/// The practice with `id`, if its account is active.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Practice>> {
    practitioners::table
        .inner_join(users::table)
        .filter(practitioners::id.eq(id))
        .filter(users::status.eq("active"))
        .select(columns())
        .first(conn)
        .await
        .optional()
}

/// The user and the schedule of the practice `id`, and the state of its account: who has a booking
/// with a suspended practitioner must be able to cancel.
pub async fn for_calendar(conn: &mut Conn, id: Uuid) -> QueryResult<Option<(Uuid, Value, String)>> {
    practitioners::table
        .inner_join(users::table)
        .filter(practitioners::id.eq(id))
        .select((practitioners::user_id, practitioners::availability, users::status))
        .first(conn)
        .await
        .optional()
}

/// A page of practices of active accounts that are not rejected, best rated first, and how many
/// there are in all.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Practice>, i64)> {
    let query = || {
        let mut query = practitioners::table
            .inner_join(users::table)
            .filter(users::status.eq("active"))
            .filter(practitioners::verification_status.ne("rejected"))
            .into_boxed();
        if let Some(word) = &filter.specialization {
            query = query.filter(practitioners::specializations.contains(vec![word.clone()]));
        }
        if let Some(word) = &filter.language {
            query = query.filter(practitioners::languages.contains(vec![word.clone()]));
        }
        if let Some(service) = filter.service_id {
            query = query.filter(
                practitioners::id.eq_any(
                    practitioner_services::table
                        .filter(practitioner_services::service_id.eq(service))
                        .filter(practitioner_services::status.eq("active"))
                        .select(practitioner_services::practitioner_id),
                ),
            );
        }
        query
    };
    let total = query().count().get_result(conn).await?;
    let rows = query()
        .select(columns())
        .order((
            practitioners::rating.desc(),
            practitioners::total_sessions.desc(),
            practitioners::id,
        ))
        .limit(limit)
        .offset(offset)
        .load(conn)
        .await?;
    Ok((rows, total))
}

/// Changes a practice if its version is still `expected` (any when `None`); false if it is not.
pub async fn update(
    conn: &mut Conn,
    id: Uuid,
    expected: Option<i64>,
    change: &PracticeChange<'_>,
) -> QueryResult<bool> {
    let current: Option<i64> = practitioners::table
        .find(id)
        .select(practitioners::version)
        .for_update()
        .first(conn)
        .await
        .optional()?;
    if current.is_none_or(|version| expected.is_some_and(|wanted| wanted != version)) {
        return Ok(false);
    }
    diesel::update(practitioners::table.find(id))
        .set((change, practitioners::version.eq(practitioners::version + 1)))
        .execute(conn)
        .await?;
    Ok(true)
}

/// Counts a session that took place.
pub async fn count_session(conn: &mut Conn, id: Uuid) -> QueryResult<()> {
    diesel::update(practitioners::table.find(id))
        .set(practitioners::total_sessions.eq(practitioners::total_sessions + 1))
        .execute(conn)
        .await?;
    Ok(())
}
