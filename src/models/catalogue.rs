//! The platform's services and what each practice offers of them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Conn;
use super::schema::{practitioner_services, service_categories, services};

/// A service of the catalogue.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = services, check_for_backend(diesel::pg::Pg))]
pub struct Service {
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub category_id: Option<Uuid>,
    pub duration_minutes: i32,
    /// Minor units of `currency`.
    pub base_price: Option<i64>,
    pub currency: String,
}

/// A service as one practice offers it: price and booking rules.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = practitioner_services, check_for_backend(diesel::pg::Pg))]
pub struct Offer {
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    /// Minor units of `currency`.
    pub price: i64,
    pub currency: String,
    pub duration_minutes: i32,
    pub buffer_before_minutes: i32,
    pub buffer_after_minutes: i32,
    pub increment_minutes: i32,
    pub min_notice_minutes: i32,
    pub horizon_days: i32,
    /// `restart` or `window`.
    pub slot_grid: String,
    pub instant_confirm: bool,
    /// `active` or `inactive`.
    pub status: String,
    /// Seats of one session; 1 for a session of its own.
    pub capacity: i32,
    /// Whether a request keeps its time from others until it is answered.
    pub pending_blocks: bool,
    /// See `domain::cancellation`.
    pub cancellation_policy: serde_json::Value,
}

/// Inserts a category and returns its id; an existing slug gives the existing id.
pub async fn ensure_category(
    conn: &mut Conn,
    id: Uuid,
    name: &str,
    slug: &str,
) -> QueryResult<Uuid> {
    diesel::insert_into(service_categories::table)
        .values((
            service_categories::id.eq(id),
            service_categories::name.eq(name),
            service_categories::slug.eq(slug),
        ))
        .on_conflict(service_categories::slug)
        .do_update()
        .set(service_categories::name.eq(name))
        .returning(service_categories::id)
        .get_result(conn)
        .await
}

/// Inserts a service of the catalogue.
pub async fn insert_service(conn: &mut Conn, service: &Service) -> QueryResult<()> {
    diesel::insert_into(services::table).values(service).execute(conn).await?;
    Ok(())
}

/// Whether there is such a service; services are never deleted.
pub async fn has_service(conn: &mut Conn, id: Uuid) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(services::table.find(id))).get_result(conn).await
}

/// A page of the active services by name, and how many there are.
pub async fn list_services(
    conn: &mut Conn,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Service>, i64)> {
    let active = || services::table.filter(services::status.eq("active"));
    let total = active().count().get_result(conn).await?;
    let rows = active()
        .order((services::name, services::id))
        .limit(limit)
        .offset(offset)
        .select(Service::as_select())
        .load(conn)
        .await?;
    Ok((rows, total))
}

/// Adds an offer or replaces the one there is.
pub async fn put_offer(conn: &mut Conn, offer: &Offer) -> QueryResult<()> {
    diesel::insert_into(practitioner_services::table)
        .values(offer)
        .on_conflict((practitioner_services::practitioner_id, practitioner_services::service_id))
        .do_update()
        .set(offer)
        .execute(conn)
        .await?;
    Ok(())
}

/// The offers of a practice with the names of their services, active ones only when asked.
pub async fn offers_of(
    conn: &mut Conn,
    practitioner_id: Uuid,
    active_only: bool,
) -> QueryResult<Vec<(Offer, String)>> {
    let mut query = practitioner_services::table
        .inner_join(services::table)
        .filter(practitioner_services::practitioner_id.eq(practitioner_id))
        .select((Offer::as_select(), services::name))
        .order(services::name)
        .into_boxed();
    if active_only {
        query = query
            .filter(practitioner_services::status.eq("active"))
            .filter(services::status.eq("active"));
    }
    query.load(conn).await
}
