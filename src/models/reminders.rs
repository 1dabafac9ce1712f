//! Reminders of agreed sessions, to both sides: written with the agreement, called off with it, and
//! sent when they are due.
//!
//! A row says only that somebody is to be reminded; whether they want it is asked when it is due.
//! Whoever moves a booking in place calls [`cancel`] and then [`schedule`].

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use jiff::tz::TimeZone;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::calendar_commit::StoredEvent;
use super::fixed::Fixed;
use super::notices::{self, Addressed};
use super::{Conn, outbox, preferences};
use crate::domain::availability::Hours;
use crate::domain::booking::Status;
use crate::domain::notify::{self, Lead};
use crate::domain::schedule::Schedule;

/// Writes the reminders of those of `bookings` that are confirmed, and moves those whose time has
/// changed. One whose time is past already is not written.
pub async fn schedule(conn: &mut Conn, bookings: &[Uuid]) -> QueryResult<()> {
    struct Schedule;
    if bookings.is_empty() {
        return Ok(());
    }
    let leads = Lead::ALL.map(Lead::minutes).to_vec();
    let binds =
        (bookings.to_vec().into_sql::<Array<SqlUuid>>(), leads.into_sql::<Array<Integer>>());
    let insert = "WITH given (bookings, leads) AS (SELECT ";
    let end = ")
         INSERT INTO reminders AS r (booking_id, user_id, lead_minutes, due_at)
         SELECT b.id, side.user_id, lead.minutes, b.scheduled_at - make_interval(mins => lead.minutes)
           FROM given JOIN bookings b ON b.id = ANY (given.bookings)
                JOIN practitioners p ON p.id = b.practitioner_id
                CROSS JOIN LATERAL (VALUES (b.seeker_id), (p.user_id)) AS side (user_id)
                CROSS JOIN unnest(given.leads) AS lead (minutes)
          WHERE b.status = 'confirmed'
            AND b.scheduled_at - make_interval(mins => lead.minutes) > statement_timestamp()
         ON CONFLICT (booking_id, user_id, lead_minutes) DO UPDATE
            SET due_at = EXCLUDED.due_at, state = 'waiting', notification_id = NULL
          WHERE r.due_at <> EXCLUDED.due_at OR r.state = 'cancelled'";
    Fixed::<_, _, ()>::new(Schedule, insert, binds, end).execute(conn).await?;
    Ok(())
}

/// Calls off the reminders of `bookings`: those to come, and the pushes of those that were sent.
pub async fn cancel(conn: &mut Conn, bookings: &[Uuid]) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Sent {
        #[diesel(sql_type = SqlUuid)]
        user_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        notification_id: Uuid,
    }
    if bookings.is_empty() {
        return Ok(());
    }
    // What a practitioner was told of a group stands as long as somebody else comes.
    let sent: Vec<Sent> = diesel::sql_query(
        "WITH off AS (
            UPDATE reminders SET state = 'cancelled'
             WHERE booking_id = ANY ($1) AND state IN ('waiting', 'sent')
            RETURNING user_id, notification_id)
         SELECT DISTINCT user_id, notification_id FROM off
          WHERE notification_id IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM reminders o WHERE o.notification_id = off.notification_id
                   AND o.state = 'sent' AND o.booking_id <> ALL ($1))
          ORDER BY user_id, notification_id",
    )
    .bind::<Array<SqlUuid>, _>(bookings)
    .load(conn)
    .await?;
    for Sent { user_id, notification_id } in sent {
        outbox::cancel_keys(conn, user_id, &[notification_id.to_string()]).await?;
    }
    Ok(())
}

/// A reminder whose time has come, with what decides on it.
#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = SqlUuid)]
    booking_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Integer)]
    lead_minutes: i32,
    #[diesel(sql_type = Timestamptz)]
    due_at: jiff_diesel::Timestamp,
    #[diesel(sql_type = SqlUuid)]
    practitioner_id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Timestamptz)]
    scheduled_at: jiff_diesel::Timestamp,
    #[diesel(sql_type = Text)]
    service_name: String,
    #[diesel(sql_type = Jsonb)]
    schedule: Value,
    #[diesel(sql_type = Nullable<Jsonb>)]
    preferences: Option<Value>,
    #[diesel(sql_type = Timestamptz)]
    now: jiff_diesel::Timestamp,
}

/// The bookings are not locked: who changes one waits for its reminders instead, so that a
/// reminder goes out before the change or not at all.
const TAKE: &str = "
SELECT r.booking_id, r.user_id, r.lead_minutes, r.due_at, b.practitioner_id, b.status,
       b.scheduled_at, s.name AS service_name, p.availability AS schedule, n.preferences,
       statement_timestamp() AS now
  FROM reminders r JOIN bookings b ON b.id = r.booking_id
       JOIN practitioners p ON p.id = b.practitioner_id JOIN services s ON s.id = b.service_id
       LEFT JOIN notification_preferences n ON n.user_id = r.user_id
 WHERE r.state = 'waiting' AND r.due_at <= statement_timestamp()
 ORDER BY r.due_at LIMIT $1 FOR UPDATE OF r SKIP LOCKED";

/// What became of due reminders.
#[derive(Debug, Default)]
pub struct Reminded {
    /// How many were due and are settled now.
    pub settled: usize,
    /// What the sockets are to hear.
    pub events: Vec<StoredEvent>,
}

/// Settles at most `limit` due reminders in one transaction: of sessions that are still agreed for
/// their time and have not begun, those who want it are told; their pushes wait for `window`.
pub async fn send_due(conn: &mut Conn, limit: i64, window: Duration) -> QueryResult<Reminded> {
    conn.transaction(async |conn| {
        let due: Vec<Due> = diesel::sql_query(TAKE).bind::<BigInt, _>(limit).load(conn).await?;
        if due.is_empty() {
            return Ok(Reminded::default());
        }
        let mut notices: Vec<Addressed> = due.iter().filter_map(Due::notice).collect();
        // In one order everywhere: two nodes never wait for each other's inserts.
        notices.sort_unstable_by_key(|notice| notice.id);
        notices.dedup_by_key(|notice| notice.id);
        settle(conn, &due, &notices).await?;
        let events = notices::tell(conn, window, Vec::new(), notices).await?;
        Ok(Reminded { settled: due.len(), events })
    })
    .await
}

async fn settle(conn: &mut Conn, due: &[Due], notices: &[Addressed]) -> QueryResult<()> {
    let told = |d: &Due| {
        let id = d.notification_id();
        notices.iter().any(|n| n.id == id).then_some(id)
    };
    diesel::sql_query(
        "UPDATE reminders r SET notification_id = t.notification_id,
                state = CASE WHEN t.notification_id IS NULL THEN 'dropped' ELSE 'sent' END
           FROM unnest($1, $2, $3, $4) AS t (booking_id, user_id, lead_minutes, notification_id)
          WHERE r.booking_id = t.booking_id AND r.user_id = t.user_id
            AND r.lead_minutes = t.lead_minutes",
    )
    .bind::<Array<SqlUuid>, _>(due.iter().map(|d| d.booking_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(due.iter().map(|d| d.user_id).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(due.iter().map(|d| d.lead_minutes).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(due.iter().map(told).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

impl Due {
    /// What its user is told; nothing when the session is off or was moved, or they do not want it.
    fn notice(&self) -> Option<Addressed> {
        let lead = Lead::of(self.lead_minutes)?;
        let (starts_at, now) = (self.scheduled_at.to_jiff(), self.now.to_jiff());
        let agreed = self.status == Status::Confirmed.as_str()
            && lead.before(starts_at) == self.due_at.to_jiff();
        let preferences = preferences::read(self.preferences.clone());
        if !agreed || !preferences.reminders.remind(lead, starts_at, now) {
            return None;
        }
        let own = preferences.quiet_hours.map(|quiet| quiet.zone().clone());
        let zone = own.or_else(|| self.zone_of_practice()).unwrap_or(TimeZone::UTC);
        let notice = notify::reminder(lead, self.booking_id, &self.service_name, starts_at, &zone);
        Some(Addressed { id: self.notification_id(), user_id: self.user_id, notice })
    }

    /// Where the practitioner is on the day of the session.
    fn zone_of_practice(&self) -> Option<TimeZone> {
        let schedule: Schedule = serde_json::from_value(self.schedule.clone()).ok()?;
        let hours = Hours::new(&schedule).ok()?;
        Some(hours.zones().of(hours.date_of(self.scheduled_at.to_jiff())).clone())
    }

    /// The same for every reminder of one user of one session, whichever node makes it and through
    /// however many bookings: a group is one session to its practitioner. A UUIDv7 (RFC 9562,
    /// section 5.7) of the time it was due, so that the inbox is in order.
    fn notification_id(&self) -> Uuid {
        let (due_at, starts_at) = (self.due_at.to_jiff(), self.scheduled_at.to_jiff());
        let mut hash = Sha256::new();
        hash.update(b"reminder");
        hash.update(self.user_id);
        hash.update(self.practitioner_id);
        hash.update(starts_at.as_microsecond().to_be_bytes());
        hash.update(self.lead_minutes.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let millis = u64::try_from(due_at.as_millisecond()).unwrap_or(0);
        let (bits, _) = hash.split_first_chunk().unwrap_or((&[0; 10], &[]));
        uuid::Builder::from_unix_timestamp_millis(millis, bits).into_uuid()
    }
}

/// Forgets reminders that are settled and were due more than `days` ago; returns how many.
pub async fn forget_old(conn: &mut Conn, days: i32) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM reminders
          WHERE state <> 'waiting' AND due_at < now() - make_interval(days => $1)",
    )
    .bind::<Integer, _>(days)
    .execute(conn)
    .await
}
