//! Ends what is not allowed any more, wherever that was decided, by asking the database: the sockets
//! of sessions that were revoked, and what former members still follow of a conversation.
//!
//! A logout and a removal reach this node's sockets at once and those of other nodes over the bus.
//! This is for what neither tells of: a bus that is down, an account that was suspended, rows changed
//! by hand.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use crate::actors::error::Result;
use crate::actors::fanout::Fanout;
use crate::actors::now;
use crate::domain::channel::Channel;
use crate::domain::time::shifted;
use crate::models::departures::{self, Departure};
use crate::models::pool::Pool;
use crate::models::sessions;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How far each look reaches back beyond the one before: transactions commit later than their rows
/// say (at most the 15 s that a statement may take), and clocks of machines differ.
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// Rows read at once; a look reads as many pages as there are.
const PAGE: i64 = 5_000;

/// Looks until told to stop.
pub async fn run(pool: Pool, fanout: Fanout, mut stop: watch::Receiver<bool>) {
    let mut since = now();
    let mut known = HashSet::new();
    while super::pause(&mut stop, EVERY).await {
        let asked_at = now();
        // Sockets look at their session and their channels when they open: without one there is
        // nothing to miss.
        if fanout.rosters().live() == 0 {
            since = asked_at;
            continue;
        }
        let from = shifted(since, -OVERLAP);
        let sessions = end_sessions(&pool, &fanout, from).await;
        let done = match sessions {
            Ok(()) => end_memberships(&pool, &fanout, from, &mut known).await,
            failed => failed,
        };
        match done {
            Ok(()) => since = asked_at,
            Err(e) => tracing::warn!("what was revoked could not be read, trying again: {e:?}"),
        }
    }
}

async fn end_sessions(pool: &Pool, fanout: &Fanout, since: Timestamp) -> Result<()> {
    let mut after = (since, Uuid::nil());
    loop {
        let mut conn = pool.get().await?;
        let page = sessions::revoked_after(&mut conn, after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.1, last.0);
        let full = is_full(page.len());
        fanout.rosters().revoke(page.into_iter().map(|(id, _)| id).collect());
        if !full {
            return Ok(());
        }
    }
}

/// `known` are the departures of the last look, which are not acted on again.
async fn end_memberships(
    pool: &Pool,
    fanout: &Fanout,
    since: Timestamp,
    known: &mut HashSet<Departure>,
) -> Result<()> {
    let (mut seen, mut last) = (HashSet::new(), None);
    loop {
        let mut conn = pool.get().await?;
        let page = departures::after(&mut conn, since, last, PAGE).await?;
        drop(conn);
        last = page.last().copied();
        for departure in page.iter().filter(|departure| !known.contains(departure)) {
            let channel = Channel::Conversation(departure.conversation_id);
            fanout.rosters().expel(departure.user_id, channel);
        }
        let full = is_full(page.len());
        seen.extend(page);
        if !full {
            *known = seen;
            return Ok(());
        }
    }
}

fn is_full(rows: usize) -> bool {
    rows >= usize::try_from(PAGE).unwrap_or(usize::MAX)
}
