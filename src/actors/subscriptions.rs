//! Who may follow a channel, and what they get to begin with.

use serde_json::{Value, json};
use uuid::Uuid;

use super::error::Result;
use super::presence::PresenceBook;
use super::{presence_news, replay};
use crate::domain::channel::Channel;
use crate::domain::intervals;
use crate::domain::presence::{State, View};
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::models::pool::Pool;
use crate::models::{Conn, calendars, conversations, sessions};

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

/// Whether `user_id` may follow `channel`. One that is not theirs is `NotFound`, as if it were
/// not there.
pub(super) async fn admit(pool: &Pool, user_id: Uuid, channel: Channel) -> Result<()> {
    let mut conn = pool.get().await?;
    match may_follow(&mut conn, user_id, channel).await? {
        true => Ok(()),
        false => Err(Refusal::NotFound("channel").into()),
    }
}

/// Where `channel` begins for one who may follow it.
pub(super) async fn open(
    pool: &Pool,
    presence: &PresenceBook,
    channel: Channel,
) -> Result<Opening> {
    let mut conn = pool.get().await?;
    let (head, snapshot) = match channel {
        Channel::Calendar(id) => calendar_snapshot(&mut conn, id).await?,
        Channel::Presence(id) => {
            // What memory does not know is that they came at all: the time of the last login or
            // refresh, then.
            let used = sessions::last_used(&mut conn, id).await?;
            drop(conn);
            let known = View { state: State::Offline, last_seen: used };
            let seen = presence.look(id).await?;
            let view = if seen.last_seen.is_some() { seen } else { seen.and(known) };
            (0, Some(presence_news::shown(id, view)))
        }
        Channel::User(_) | Channel::Conversation(_) => {
            let head = replay::head(&mut conn, channel).await?;
            (head.ok_or(Refusal::NotFound("channel"))?, None)
        }
    };
    Ok(Opening { head, snapshot })
}

async fn may_follow(conn: &mut Conn, user_id: Uuid, channel: Channel) -> Result<bool> {
    Ok(match channel {
        Channel::User(id) => id == user_id,
        Channel::Conversation(id) => conversations::is_member(conn, id, user_id).await?,
        Channel::Calendar(_) => true,
        Channel::Presence(id) => {
            id == user_id || conversations::are_acquainted(conn, user_id, id).await?
        }
    })
}

/// What is busy from now on, as of a version. Both are read in one snapshot of the database.
async fn calendar_snapshot(conn: &mut Conn, id: Uuid) -> Result<(i64, Option<Value>)> {
    let now = super::now();
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
