//! Calendars elsewhere, and the busy times that come from them.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bytea, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::schema::{blocked_times, external_calendars, practitioners};
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;

/// Calendars elsewhere that one practice may have.
pub const MAX_CALENDARS: i64 = 5;

/// The refusal of one more.
pub fn too_many() -> Refusal {
    let problem = format!("a practice has at most {MAX_CALENDARS} external calendars");
    Refusal::field("body", problem)
}

/// A calendar elsewhere as its owner sees it: not where it is, only at which host.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = external_calendars, check_for_backend(diesel::pg::Pg))]
pub struct External {
    pub id: Uuid,
    pub name: String,
    pub host: Option<String>,
    pub events: i32,
    pub unreadable: i32,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub last_read_at: Option<Timestamp>,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub stale_since: Option<Timestamp>,
    pub last_error: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// A calendar that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewExternal<'a> {
    pub id: Uuid,
    pub practitioner_id: Uuid,
    pub name: &'a str,
    /// Its address and the host of that; `None` for an uploaded file.
    pub source: Option<(&'a str, &'a str)>,
}

/// Stores a calendar, due at once if it has an address; false when the practice has as many as it
/// may have.
pub async fn insert(conn: &mut Conn, new: &NewExternal<'_>) -> QueryResult<bool> {
    // Of two at once the second counts the first.
    practitioners::table
        .find(new.practitioner_id)
        .select(practitioners::id)
        .for_no_key_update()
        .execute(conn)
        .await?;
    let count: i64 = external_calendars::table
        .filter(external_calendars::practitioner_id.eq(new.practitioner_id))
        .count()
        .get_result(conn)
        .await?;
    if count >= MAX_CALENDARS {
        return Ok(false);
    }
    let (url, host) = new.source.unzip();
    diesel::sql_query(
        "INSERT INTO external_calendars (id, practitioner_id, name, url, host, next_read_at)
         VALUES ($1, $2, $3, $4, $5, CASE WHEN $4 IS NULL THEN NULL ELSE statement_timestamp() END)",
    )
    .bind::<SqlUuid, _>(new.id)
    .bind::<SqlUuid, _>(new.practitioner_id)
    .bind::<Text, _>(new.name)
    .bind::<Nullable<Text>, _>(url)
    .bind::<Nullable<Text>, _>(host)
    .execute(conn)
    .await?;
    Ok(true)
}

/// The calendars of a practice, in the order in which they came.
pub async fn list(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<Vec<External>> {
    external_calendars::table
        .filter(external_calendars::practitioner_id.eq(practitioner_id))
        .order((external_calendars::created_at, external_calendars::id))
        .limit(MAX_CALENDARS)
        .select(External::as_select())
        .load(conn)
        .await
}

/// One calendar of a practice.
pub async fn find(
    conn: &mut Conn,
    practitioner_id: Uuid,
    id: Uuid,
) -> QueryResult<Option<External>> {
    external_calendars::table
        .find(id)
        .filter(external_calendars::practitioner_id.eq(practitioner_id))
        .select(External::as_select())
        .first(conn)
        .await
        .optional()
}

/// Makes a calendar due as soon as `pause` has passed since its last reading began; false for one
/// that has no address.
pub async fn make_due(conn: &mut Conn, id: Uuid, pause: Duration) -> QueryResult<bool> {
    let touched = diesel::sql_query(
        "UPDATE external_calendars
            SET next_read_at = greatest(statement_timestamp(), attempted_at + make_interval(secs => $2))
          WHERE id = $1 AND url IS NOT NULL",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Double, _>(pause.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(touched == 1)
}

/// A calendar that a worker took to read it.
#[derive(Clone, QueryableByName)]
pub struct Taken {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub practitioner_id: Uuid,
    #[diesel(sql_type = Text)]
    pub url: String,
    #[diesel(sql_type = BigInt)]
    pub attempt: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub etag: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_modified: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>, deserialize_as = jiff_diesel::NullableTimestamp)]
    pub full_read_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    pub read_zone: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub busy_hash: Option<Vec<u8>>,
    /// The practice's zone now.
    #[diesel(sql_type = Nullable<Text>)]
    pub zone: Option<String>,
}

/// Takes at most `limit` due calendars of active accounts for `lease`: if the worker dies, they
/// come due again.
pub async fn take(conn: &mut Conn, limit: i64, lease: Duration) -> QueryResult<Vec<Taken>> {
    diesel::sql_query(
        "WITH due AS (
            SELECT c.id, p.availability ->> 'timeZone' AS zone
              FROM external_calendars c
              JOIN practitioners p ON p.id = c.practitioner_id
              JOIN users u ON u.id = p.user_id
             WHERE c.next_read_at <= statement_timestamp() AND u.status = 'active'
             ORDER BY c.next_read_at LIMIT $1 FOR UPDATE OF c SKIP LOCKED)
         UPDATE external_calendars c
            SET attempt = c.attempt + 1, attempted_at = statement_timestamp(),
                next_read_at = statement_timestamp() + make_interval(secs => $2)
           FROM due WHERE c.id = due.id
         RETURNING c.id, c.practitioner_id, c.url, c.attempt, c.etag, c.last_modified,
                   c.full_read_at, c.read_zone, c.busy_hash, due.zone",
    )
    .bind::<BigInt, _>(limit)
    .bind::<Double, _>(lease.as_secs_f64())
    .load(conn)
    .await
}

/// What a full reading found, besides the times.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Which reading it was; `None` for an upload, which always counts.
    pub attempt: Option<i64>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// The zone that its days were taken to be in.
    pub zone: String,
    /// SHA-256 of the busy times.
    pub hash: Vec<u8>,
    pub events: i32,
    pub unreadable: i32,
    /// Until it is due again; `None` for an upload.
    pub every: Option<Duration>,
}

/// Records a full reading; what a later one has begun to read is left to that.
pub async fn record(conn: &mut Conn, id: Uuid, reading: &Reading) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE external_calendars
            SET etag = $3, last_modified = $4, read_zone = $5, busy_hash = $6, events = $7,
                unreadable = $8, last_read_at = statement_timestamp(), full_read_at = statement_timestamp(),
                stale_since = NULL, last_error = NULL, failures = 0,
                next_read_at = statement_timestamp() + make_interval(secs => $9)
          WHERE id = $1 AND ($2 IS NULL OR attempt = $2)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Nullable<BigInt>, _>(reading.attempt)
    .bind::<Nullable<Text>, _>(&reading.etag)
    .bind::<Nullable<Text>, _>(&reading.last_modified)
    .bind::<Text, _>(&reading.zone)
    .bind::<Bytea, _>(&reading.hash)
    .bind::<diesel::sql_types::Integer, _>(reading.events)
    .bind::<diesel::sql_types::Integer, _>(reading.unreadable)
    .bind::<Nullable<Double>, _>(reading.every.map(|every| every.as_secs_f64()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that a reading was answered "unchanged".
pub async fn unchanged(
    conn: &mut Conn,
    id: Uuid,
    attempt: i64,
    every: Duration,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE external_calendars
            SET last_read_at = statement_timestamp(), stale_since = NULL, last_error = NULL, failures = 0,
                next_read_at = statement_timestamp() + make_interval(secs => $3)
          WHERE id = $1 AND attempt = $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<BigInt, _>(attempt)
    .bind::<Double, _>(every.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that a reading failed and why. The busy times stay; the pause to the next reading
/// doubles with each failure, up to `longest`.
pub async fn failed(
    conn: &mut Conn,
    id: Uuid,
    attempt: i64,
    (every, longest): (Duration, Duration),
    reason: &str,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE external_calendars
            SET stale_since = coalesce(stale_since, statement_timestamp()), last_error = left($3, 200),
                failures = failures + 1,
                next_read_at = statement_timestamp() + make_interval(
                    secs => greatest($4, least($5, $4 * power(2, least(failures, 20)))))
          WHERE id = $1 AND attempt = $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<BigInt, _>(attempt)
    .bind::<Text, _>(reason)
    .bind::<Double, _>(every.as_secs_f64())
    .bind::<Double, _>(longest.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a calendar of a practice until the transaction ends; returns the attempt that is current.
pub async fn lock(conn: &mut Conn, practitioner_id: Uuid, id: Uuid) -> QueryResult<Option<i64>> {
    external_calendars::table
        .find(id)
        .filter(external_calendars::practitioner_id.eq(practitioner_id))
        .select(external_calendars::attempt)
        .for_update()
        .first(conn)
        .await
        .optional()
}

/// Forgets a calendar, and with it its busy times.
pub async fn remove(conn: &mut Conn, id: Uuid) -> QueryResult<()> {
    diesel::delete(external_calendars::table.find(id)).execute(conn).await?;
    Ok(())
}

#[derive(Queryable)]
struct BusyRow {
    id: Uuid,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    starts_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    ends_at: Timestamp,
}

fn times(rows: Vec<BusyRow>) -> Vec<(Uuid, Interval)> {
    let time = |row: BusyRow| Some((row.id, Interval::new(row.starts_at, row.ends_at).ok()?));
    rows.into_iter().filter_map(time).collect()
}

/// The stored busy times of a calendar, by start.
pub async fn busy_of(conn: &mut Conn, id: Uuid) -> QueryResult<Vec<(Uuid, Interval)>> {
    let rows = blocked_times::table
        .filter(blocked_times::external_calendar_id.eq(id))
        .order(blocked_times::starts_at)
        .select((blocked_times::id, blocked_times::starts_at, blocked_times::ends_at))
        .load(conn)
        .await?;
    Ok(times(rows))
}

/// The busy times of all calendars elsewhere of a practice that end after `from`.
pub async fn busy_after(
    conn: &mut Conn,
    practitioner_id: Uuid,
    from: Timestamp,
) -> QueryResult<Vec<(Uuid, Interval)>> {
    let rows = blocked_times::table
        .filter(blocked_times::practitioner_id.eq(practitioner_id))
        .filter(blocked_times::external_calendar_id.is_not_null())
        .filter(blocked_times::ends_at.gt(from.to_diesel()))
        .order(blocked_times::starts_at)
        .select((blocked_times::id, blocked_times::starts_at, blocked_times::ends_at))
        .load(conn)
        .await?;
    Ok(times(rows))
}

/// Removes stored busy times.
pub async fn remove_busy(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<()> {
    if !ids.is_empty() {
        diesel::sql_query("DELETE FROM blocked_times WHERE id = ANY ($1)")
            .bind::<Array<SqlUuid>, _>(ids)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Stores busy times of a calendar.
pub async fn insert_busy(
    conn: &mut Conn,
    practitioner_id: Uuid,
    calendar_id: Uuid,
    busy: &[Interval],
) -> QueryResult<()> {
    if busy.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "INSERT INTO blocked_times (id, practitioner_id, external_calendar_id, starts_at, ends_at)
         SELECT id, $1, $2, starts_at, ends_at FROM unnest($3, $4, $5) AS t (id, starts_at, ends_at)",
    )
    .bind::<SqlUuid, _>(practitioner_id)
    .bind::<SqlUuid, _>(calendar_id)
    .bind::<Array<SqlUuid>, _>(busy.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(
        busy.iter().map(|time| time.start().to_diesel()).collect::<Vec<_>>(),
    )
    .bind::<Array<Timestamptz>, _>(
        busy.iter().map(|time| time.end().to_diesel()).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
