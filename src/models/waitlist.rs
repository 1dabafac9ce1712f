//! Who waits for a slot. Offering one is part of the transaction that frees it, see
//! `calendar_commit::waiting`.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::schema::{waitlist, waitlist_looks};
use super::{Conn, calendar_commit, calendars};

/// An entry of the waiting list.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = waitlist, check_for_backend(diesel::pg::Pg))]
pub struct Entry {
    pub id: Uuid,
    pub seeker_id: Uuid,
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    /// The session has to lie between these.
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub from_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub until_at: Timestamp,
    /// `waiting`, `offered`, `booked`, `missed` or `left`.
    pub status: String,
    /// The hold that was offered.
    pub hold_id: Option<Uuid>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// Adds `entry`, which waits; its seeker saw no slot in the calendar at `version`. Whether the calendar
/// changed since: who opened time did not see the entry then, so that it is noted here.
pub async fn join(conn: &mut Conn, entry: &Entry, version: i64) -> QueryResult<bool> {
    conn.transaction(async |conn| {
        // What changes the calendar is committed before, and seen here, or sees the entry.
        calendar_commit::lock_one(conn, entry.practitioner_id).await?;
        insert(conn, entry).await?;
        let current = calendars::version(conn, entry.practitioner_id).await?;
        let changed = current != Some(version);
        if changed {
            opened(conn, entry.practitioner_id).await?;
        }
        Ok(changed)
    })
    .await
}

async fn insert(conn: &mut Conn, entry: &Entry) -> QueryResult<()> {
    diesel::insert_into(waitlist::table)
        .values((
            waitlist::id.eq(entry.id),
            waitlist::seeker_id.eq(entry.seeker_id),
            waitlist::practitioner_id.eq(entry.practitioner_id),
            waitlist::service_id.eq(entry.service_id),
            waitlist::from_at.eq(entry.from_at.to_diesel()),
            waitlist::until_at.eq(entry.until_at.to_diesel()),
            waitlist::created_at.eq(entry.created_at.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The entries of `seeker_id` whose time is not over, the newest first, at most `limit`.
pub async fn of_seeker(
    conn: &mut Conn,
    seeker_id: Uuid,
    now: Timestamp,
    limit: i64,
) -> QueryResult<Vec<Entry>> {
    waitlist::table
        .filter(waitlist::seeker_id.eq(seeker_id))
        .filter(waitlist::until_at.gt(now.to_diesel()))
        .order((waitlist::created_at.desc(), waitlist::id.desc()))
        .limit(limit)
        .select(Entry::as_select())
        .load(conn)
        .await
}

/// How many entries of `seeker_id` wait for a time that is not over.
pub async fn count_waiting(conn: &mut Conn, seeker_id: Uuid, now: Timestamp) -> QueryResult<i64> {
    waitlist::table
        .filter(waitlist::seeker_id.eq(seeker_id))
        .filter(waitlist::status.eq("waiting"))
        .filter(waitlist::until_at.gt(now.to_diesel()))
        .count()
        .get_result(conn)
        .await
}

/// Takes the seeker off the list; false if there is no such entry of theirs that waits.
pub async fn leave(conn: &mut Conn, id: Uuid, seeker_id: Uuid) -> QueryResult<bool> {
    let entry = waitlist::table
        .find(id)
        .filter(waitlist::seeker_id.eq(seeker_id))
        .filter(waitlist::status.eq("waiting"));
    let left = diesel::update(entry).set(waitlist::status.eq("left")).execute(conn).await?;
    Ok(left > 0)
}

/// Notes that time opened in the calendar, if anybody waits for a slot of it.
pub async fn opened(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO waitlist_looks (practitioner_id)
         SELECT $1 WHERE EXISTS (SELECT 1 FROM waitlist
                                  WHERE practitioner_id = $1 AND status = 'waiting'
                                    AND until_at > statement_timestamp())
         ON CONFLICT (practitioner_id) DO UPDATE SET wanted = EXCLUDED.wanted",
    )
    .bind::<SqlUuid, _>(practitioner_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// What opened in a calendar is still to be offered.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Another number each time that time opens, and never the same again; `looked` takes it.
    pub wanted: i64,
    /// The calendar's version: who knows an older one may not know what opened.
    pub version: i64,
}

/// Whether what opened in the calendar is still to be offered.
pub async fn look(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<Option<Look>> {
    let row = waitlist_looks::table.find(practitioner_id);
    let wanted = row.select(waitlist_looks::wanted).first(conn).await.optional()?;
    // Read second, it is not older than what opened.
    let version = calendars::version(conn, practitioner_id).await?;
    Ok(wanted.zip(version).map(|(wanted, version)| Look { wanted, version }))
}

/// Notes that what opened was offered, unless time opened since `look`.
pub async fn looked(conn: &mut Conn, practitioner_id: Uuid, look: i64) -> QueryResult<()> {
    let row = waitlist_looks::table.find(practitioner_id).filter(waitlist_looks::wanted.eq(look));
    diesel::delete(row).execute(conn).await?;
    Ok(())
}

/// At most `limit` calendars in which something that opened is still to be offered.
pub async fn looks(conn: &mut Conn, limit: i64) -> QueryResult<Vec<(Uuid, i64)>> {
    let columns = (waitlist_looks::practitioner_id, waitlist_looks::wanted);
    waitlist_looks::table.select(columns).limit(limit).load(conn).await
}

/// Who wait for a slot of the practice, at most `limit`, those who wait the longest first, from the
/// one `after` (since when it waits, and its id) on; without those who it can not be offered to, because
/// their account is closed or one of the two blocks the other.
pub async fn waiting(
    conn: &mut Conn,
    practitioner_id: Uuid,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<Entry>> {
    let welcome = diesel::dsl::sql::<Bool>(
        "(EXISTS (SELECT 1 FROM users u
                   WHERE u.id = waitlist.seeker_id AND u.status = 'active')
          AND NOT EXISTS (SELECT 1 FROM practitioners p JOIN user_blocks k
                              ON k.blocker_id = waitlist.seeker_id AND k.blocked_id = p.user_id
                              OR k.blocker_id = p.user_id AND k.blocked_id = waitlist.seeker_id
                           WHERE p.id = waitlist.practitioner_id))",
    );
    let mut query = waitlist::table
        .filter(waitlist::practitioner_id.eq(practitioner_id))
        .filter(waitlist::status.eq("waiting"))
        .filter(waitlist::until_at.gt(diesel::dsl::now))
        .filter(welcome)
        .into_boxed();
    if let Some((at, id)) = after {
        let (at, column) = (at.to_diesel(), waitlist::created_at);
        query = query.filter(column.gt(at).or(column.eq(at).and(waitlist::id.gt(id))));
    }
    query
        .order((waitlist::created_at, waitlist::id))
        .limit(limit)
        .select(Entry::as_select())
        .load(conn)
        .await
}
