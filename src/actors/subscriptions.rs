//! What those who begin to follow a channel get to begin with.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::presence::PresenceBook;
use super::presence_news;
use crate::domain::intervals;
use crate::domain::presence::{State, View};
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::error::Result;
use crate::models::pool::Pool;
use crate::models::{Conn, calendars};

/// How far ahead a calendar's snapshot reaches: as far as can be booked (730 days, and some for the
/// session itself and for days that pass).
const SNAPSHOT_DAYS: i64 = 760;

/// Where a subscription begins.
pub(super) struct Opening {
    /// The seq of the newest event.
    pub head: i64,
    /// The state at that seq, for channels that have one.
    pub snapshot: Option<Value>,
}

/// Where the calendar of `practitioner_id` begins for who does not know it yet.
pub(super) async fn open_calendar(pool: &Pool, practitioner_id: Uuid) -> Result<Opening> {
    let mut conn = pool.get().await?;
    let (head, snapshot) = calendar_snapshot(&mut conn, practitioner_id).await?;
    Ok(Opening { head, snapshot })
}

/// How `user_id` is seen, whose session was `last_used` then: what memory does not know is that
/// they came at all.
pub(super) async fn open_presence(
    presence: &PresenceBook,
    user_id: Uuid,
    last_used: Option<Timestamp>,
) -> Result<Opening> {
    let seen = presence.look(user_id).await?;
    let known = View { state: State::Offline, last_seen: last_used };
    let view = if seen.last_seen.is_some() { seen } else { seen.and(known) };
    Ok(Opening { head: 0, snapshot: Some(presence_news::shown(user_id, view)) })
}

/// What is busy from now on, as of a version. Both are read in one snapshot of the database.
async fn calendar_snapshot(conn: &mut Conn, id: Uuid) -> Result<(i64, Option<Value>)> {
    let now = crate::clock::now();
    let until =
        crate::domain::time::shifted(now, jiff::SignedDuration::from_hours(24 * SNAPSHOT_DAYS));
    let read = conn
        .build_transaction()
        .repeatable_read()
        .read_only()
        .run::<_, diesel::result::Error, _>(async |conn| {
            let Some(version) = calendars::version(conn, id).await? else { return Ok(None) };
            Ok(Some((version, calendars::busy_spans(conn, id, now, until).await?)))
        })
        .await?;
    let (version, spans) = read.ok_or(Refusal::NotFound("channel"))?;
    let spans = spans.into_iter().filter_map(|(start, end)| Interval::new(start, end).ok());
    let busy: Vec<Value> = intervals::union(spans.collect())
        .into_iter()
        .map(|i| json!({ "start": i.start(), "end": i.end() }))
        .collect();
    Ok((version, Some(json!({ "version": version, "from": now, "until": until, "busy": busy }))))
}
