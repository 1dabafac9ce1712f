//! Who waits for a slot. Offering one is part of the transaction that frees it, see
//! `calendar_commit::waiting`.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::Conn;
use super::schema::{waitlist, waitlist_looks};

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

/// Adds `entry`, which waits.
pub async fn insert(conn: &mut Conn, entry: &Entry) -> QueryResult<()> {
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
         ON CONFLICT (practitioner_id) DO UPDATE SET wanted = waitlist_looks.wanted + 1",
    )
    .bind::<SqlUuid, _>(practitioner_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether what opened in the calendar is still to be offered; `looked` takes the answer.
pub async fn look(conn: &mut Conn, practitioner_id: Uuid) -> QueryResult<Option<i64>> {
    let row = waitlist_looks::table.find(practitioner_id);
    row.select(waitlist_looks::wanted).first(conn).await.optional()
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

/// Who wait the longest for a slot of the practice, at most `limit`; without those who it can not be
/// offered to, because their account is closed or one of the two blocks the other.
pub async fn longest_waiting(
    conn: &mut Conn,
    practitioner_id: Uuid,
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
    waitlist::table
        .filter(waitlist::practitioner_id.eq(practitioner_id))
        .filter(waitlist::status.eq("waiting"))
        .filter(waitlist::until_at.gt(diesel::dsl::now))
        .filter(welcome)
        .order((waitlist::created_at, waitlist::id))
        .limit(limit)
        .select(Entry::as_select())
        .load(conn)
        .await
}
