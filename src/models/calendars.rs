//! What a calendar is made of: its version, its changes, blocked times, busy times.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Conn;
use super::fixed::Fixed;
use super::json::Json;
use super::schema::{blocked_times, bookings, calendar_changes, calendars, practitioners};
use crate::domain::booking::Status;

/// An interval that became busy or free, as `availability:changed` carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub start: Timestamp,
    pub end: Timestamp,
    /// `busy` or `free`.
    pub state: String,
}

/// A row that keeps a calendar busy or counts towards its limits.
#[derive(Debug, Clone, Queryable)]
pub struct BusyRow {
    pub id: Uuid,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub starts_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub ends_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub occupied_from: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub occupied_until: Timestamp,
    pub status: String,
    pub seeker_id: Uuid,
    pub service_id: Uuid,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub hold_expires_at: Option<Timestamp>,
    pub seats: i32,
    /// The session that others may join, if it is one.
    pub group_session_id: Option<Uuid>,
    /// Whether it keeps others out; it may only count.
    pub blocks: bool,
}

/// A time that the practitioner closed. Rows that come from a calendar elsewhere are none.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = blocked_times, check_for_backend(diesel::pg::Pg))]
pub struct Block {
    pub id: Uuid,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub starts_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub ends_at: Timestamp,
    pub reason: Option<String>,
    /// Shared by the times of one recurrence.
    pub series_id: Option<Uuid>,
}

/// The version of a calendar; `None` when there is no such practitioner.
pub async fn version(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<Option<i64>> {
    calendars::table.find(practitioner_id).select(calendars::version).first(conn).await.optional()
}

/// The changes after `since`, oldest first, at most `limit`.
pub async fn changes_after(
    conn: &mut Conn,
    practitioner_id: Uuid,
    since: i64,
    limit: i64,
) -> QueryResult<Vec<(i64, serde_json::Value, jiff_diesel::Timestamp)>> {
    calendar_changes::table
        .filter(calendar_changes::practitioner_id.eq(practitioner_id))
        .filter(calendar_changes::version.gt(since))
        .order(calendar_changes::version)
        .limit(limit)
        .select((
            calendar_changes::version,
            calendar_changes::changes,
            calendar_changes::created_at,
        ))
        .load(conn)
        .await
}

/// Every session that stands or took place and ends after `from`, by start. Holds are included
/// whether or not they have run out: who reads decides with their own `now`.
pub async fn busy_after(
    conn: &mut Conn,
    practitioner_id: Uuid,
    from: Timestamp,
) -> QueryResult<Vec<BusyRow>> {
    let counted = Status::ALL.into_iter().filter(|status| status.counts()).map(Status::as_str);
    bookings::table
        .filter(bookings::practitioner_id.eq(practitioner_id))
        .filter(bookings::status.eq_any(counted.collect::<Vec<_>>()))
        .filter(bookings::occupied_until.gt(from.to_diesel()))
        .order(bookings::scheduled_at)
        .select((
            bookings::id,
            bookings::scheduled_at,
            bookings::ends_at,
            bookings::occupied_from,
            bookings::occupied_until,
            bookings::status,
            bookings::seeker_id,
            bookings::service_id,
            bookings::hold_expires_at,
            bookings::seats,
            bookings::group_session_id,
            bookings::blocks,
        ))
        .load(conn)
        .await
}

/// The blocked times that end after `from`, by start.
pub async fn blocks_after(
    conn: &mut Conn,
    practitioner_id: Uuid,
    from: Timestamp,
) -> QueryResult<Vec<Block>> {
    blocked_times::table
        .filter(blocked_times::practitioner_id.eq(practitioner_id))
        .filter(blocked_times::external_calendar_id.is_null())
        .filter(blocked_times::ends_at.gt(from.to_diesel()))
        .order(blocked_times::starts_at)
        .select(Block::as_select())
        .load(conn)
        .await
}

/// How many blocked times of a practitioner end after `from`.
pub async fn count_blocks(
    conn: &mut Conn,
    practitioner_id: Uuid,
    from: Timestamp,
) -> QueryResult<i64> {
    blocked_times::table
        .filter(blocked_times::practitioner_id.eq(practitioner_id))
        .filter(blocked_times::external_calendar_id.is_null())
        .filter(blocked_times::ends_at.gt(from.to_diesel()))
        .count()
        .get_result(conn)
        .await
}

/// Stores blocked times.
pub async fn insert_blocks(
    conn: &mut Conn,
    practitioner_id: Uuid,
    blocks: &[Block],
) -> QueryResult<()> {
    let row = |block: &Block| {
        (
            blocked_times::id.eq(block.id),
            blocked_times::practitioner_id.eq(practitioner_id),
            blocked_times::starts_at.eq(block.starts_at.to_diesel()),
            blocked_times::ends_at.eq(block.ends_at.to_diesel()),
            blocked_times::reason.eq(block.reason.clone()),
            blocked_times::series_id.eq(block.series_id),
        )
    };
    let rows: Vec<_> = blocks.iter().map(row).collect();
    diesel::insert_into(blocked_times::table).values(rows).execute(conn).await?;
    Ok(())
}

/// Removes a blocked time, or all of its series, and returns what is gone with the named one first;
/// nothing if the practitioner does not have it. The caller holds the calendar's advisory lock.
pub async fn remove_blocks(
    conn: &mut Conn,
    practitioner_id: Uuid,
    block_id: Uuid,
    whole_series: bool,
) -> QueryResult<Vec<Block>> {
    let own = blocked_times::table
        .filter(blocked_times::practitioner_id.eq(practitioner_id))
        .filter(blocked_times::external_calendar_id.is_null());
    let found: Option<Option<Uuid>> = own
        .filter(blocked_times::id.eq(block_id))
        .select(blocked_times::series_id)
        .first(conn)
        .await
        .optional()?;
    let mut gone: Vec<Block> = match found.map(|series| series.filter(|_| whole_series)) {
        None => return Ok(Vec::new()),
        Some(Some(series_id)) => {
            diesel::delete(own.filter(blocked_times::series_id.eq(series_id)))
                .returning(Block::as_returning())
                .get_results(conn)
                .await?
        }
        Some(None) => {
            diesel::delete(own.filter(blocked_times::id.eq(block_id)))
                .returning(Block::as_returning())
                .get_results(conn)
                .await?
        }
    };
    gone.sort_by_key(|block| (block.id != block_id, block.starts_at));
    Ok(gone)
}

/// Replaces the schedule if its version is still `expected` (any when `None`). Returns the new
/// version, or `None` if another was first.
pub async fn put_schedule(
    conn: &mut Conn,
    practitioner_id: Uuid,
    expected: Option<i64>,
    schedule: &serde_json::Value,
) -> QueryResult<Option<i64>> {
    let current: i64 = practitioners::table
        .find(practitioner_id)
        .select(practitioners::schedule_version)
        .for_update()
        .first(conn)
        .await?;
    if expected.is_some_and(|version| version != current) {
        return Ok(None);
    }
    diesel::update(practitioners::table.find(practitioner_id))
        .set((
            practitioners::availability.eq(schedule),
            practitioners::schedule_version.eq(current + 1),
        ))
        .returning(practitioners::schedule_version)
        .get_result(conn)
        .await
        .map(Some)
}

#[derive(QueryableByName)]
struct SpanRow {
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    starts: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    ends: Timestamp,
}

/// What keeps the calendar busy between `from` and `until`, by bookings, holds and blocked times
/// together; spans may overlap.
pub async fn busy_spans(
    conn: &mut Conn,
    practitioner_id: Uuid,
    from: Timestamp,
    until: Timestamp,
) -> QueryResult<Vec<(Timestamp, Timestamp)>> {
    let rows: Vec<SpanRow> = diesel::sql_query(
        "SELECT occupied_from AS starts, occupied_until AS ends FROM bookings
          WHERE practitioner_id = $1 AND blocks
            AND occupied && tstzrange($2, $3)
         UNION ALL
         SELECT starts_at, ends_at FROM blocked_times
          WHERE practitioner_id = $1 AND starts_at < $3 AND ends_at > $2
         ORDER BY 1",
    )
    .bind::<SqlUuid, _>(practitioner_id)
    .bind::<Timestamptz, _>(from.to_diesel())
    .bind::<Timestamptz, _>(until.to_diesel())
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|r| (r.starts, r.ends)).collect())
}

/// The next version of a calendar.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion {
    pub practitioner_id: Uuid,
    pub version: i64,
    pub created_at: Timestamp,
}

type NewVersionRow = (SqlUuid, BigInt, Timestamptz);

/// Takes the next version of each of these calendars, whose advisory locks the caller holds, for
/// what changed in it. The practitioners must differ.
pub async fn append_changes(
    conn: &mut Conn,
    changes: &[(Uuid, Json)],
) -> QueryResult<Vec<NewVersion>> {
    struct Heads;
    let (ids, data): (Vec<Uuid>, Vec<&Json>) = changes.iter().map(|(id, data)| (*id, data)).unzip();
    let binds = (ids.into_sql::<Array<SqlUuid>>(), data.into_sql::<Array<Jsonb>>());
    let rows: Vec<(Uuid, i64, jiff_diesel::Timestamp)> = Fixed::<_, _, NewVersionRow>::new(
        Heads,
        "WITH heads AS (
            UPDATE calendars c SET version = c.version + 1
              FROM unnest(",
        binds,
        ") AS t (practitioner_id, changes)
             WHERE c.practitioner_id = t.practitioner_id
            RETURNING c.practitioner_id, c.version, t.changes)
         INSERT INTO calendar_changes (practitioner_id, version, changes)
         SELECT practitioner_id, version, changes FROM heads
         RETURNING practitioner_id, version, created_at",
    )
    .load(conn)
    .await?;
    let new = |(practitioner_id, version, at): (Uuid, i64, jiff_diesel::Timestamp)| NewVersion {
        practitioner_id,
        version,
        created_at: at.into(),
    };
    Ok(rows.into_iter().map(new).collect())
}

/// The practitioners with holds that ran out, or requests that were not answered in time, by the
/// database's clock, at most `limit`.
pub async fn with_lapsed(conn: &mut Conn, limit: i64) -> QueryResult<Vec<Uuid>> {
    let now = || diesel::dsl::now.into_sql::<Timestamptz>();
    bookings::table
        .filter(
            bookings::status
                .eq("held")
                .and(bookings::hold_expires_at.le(now().nullable()))
                .or((bookings::status.eq("pending").and(bookings::scheduled_at.le(now())))
                    .nullable()),
        )
        .select(bookings::practitioner_id)
        .distinct()
        .limit(limit)
        .load(conn)
        .await
}
