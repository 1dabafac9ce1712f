//! Ends what is not allowed any more, wherever that was decided, by asking the database: the sockets
//! of sessions that were revoked, what former members still follow of a conversation, and the presence
//! of those whom nothing connects any more or a block keeps apart.
//!
//! A logout, a removal and a block reach this node's sockets at once and those of other nodes over the
//! bus. This is for what neither tells of: a bus that is down, an account that was suspended, rows
//! changed by hand. Who lost their last thing in common is found out here alone.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use crate::actors::fanout::Fanout;
use crate::clock::now;
use crate::domain::channel::Channel;
use crate::domain::time::shifted;
use crate::error::{Error, Result};
use crate::models::departures::{self, Departure};
use crate::models::pool::Pool;
use crate::models::sessions;
use crate::models::user_blocks::{self, Block};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How far each look reaches back beyond the one before: transactions commit later than their rows
/// say (at most the 15 s that a statement may take), and clocks of machines differ.
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// Rows read at once; a look reads as many pages as there are.
const PAGE: i64 = 5_000;
/// Departures in one query for those who became strangers.
const AT_ONCE: usize = 100;

/// What the last look saw, which is not acted on again.
#[derive(Default)]
struct Known {
    departures: HashSet<Departure>,
    blocks: HashSet<Block>,
}

/// Looks until told to stop.
pub async fn run(pool: Pool, fanout: Fanout, mut stop: watch::Receiver<bool>) {
    let mut since = now();
    let mut known = Known::default();
    while super::pause(&mut stop, EVERY).await {
        let asked_at = now();
        // Sockets look at their session and their channels when they open: without one there is
        // nothing to miss.
        if fanout.rosters().live() == 0 {
            since = asked_at;
            continue;
        }
        let from = shifted(since, -OVERLAP);
        match look(&pool, &fanout, from, &mut known).await {
            Ok(()) => since = asked_at,
            Err(e) => tracing::warn!("what was revoked could not be read, trying again: {e:?}"),
        }
    }
}

async fn look(pool: &Pool, fanout: &Fanout, since: Timestamp, known: &mut Known) -> Result<()> {
    end_sessions(pool, fanout, since).await?;
    end_memberships(pool, fanout, since, &mut known.departures).await?;
    end_presence(pool, fanout, since, &mut known.blocks).await
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
        let new: Vec<Departure> = page.iter().filter(|d| !known.contains(d)).copied().collect();
        if !new.is_empty() {
            let over = |d: &Departure| (d.user_id, Channel::Conversation(d.conversation_id));
            end(fanout, new.iter().map(over).collect())?;
            end_acquaintances(pool, fanout, &new).await?;
        }
        let full = is_full(page.len());
        seen.extend(page);
        if !full {
            *known = seen;
            return Ok(());
        }
    }
}

/// Who left may have shared nothing else with some who are or were there.
async fn end_acquaintances(pool: &Pool, fanout: &Fanout, gone: &[Departure]) -> Result<()> {
    let watched: Vec<Uuid> = fanout.watched().await.into_iter().collect();
    if watched.is_empty() {
        return Ok(());
    }
    for some in gone.chunks(AT_ONCE) {
        let mut conn = pool.get().await?;
        let pairs = departures::strangers(&mut conn, some, &watched).await?;
        drop(conn);
        keep_apart(fanout, pairs.into_iter())?;
    }
    Ok(())
}

async fn end_presence(
    pool: &Pool,
    fanout: &Fanout,
    since: Timestamp,
    known: &mut HashSet<Block>,
) -> Result<()> {
    let (mut seen, mut last) = (HashSet::new(), None);
    loop {
        let mut conn = pool.get().await?;
        let page = user_blocks::after(&mut conn, since, last, PAGE).await?;
        drop(conn);
        last = page.last().copied();
        let new = page.iter().filter(|block| !known.contains(block));
        keep_apart(fanout, new.map(|block| (block.blocker_id, block.blocked_id)))?;
        let full = is_full(page.len());
        seen.extend(page);
        if !full {
            *known = seen;
            return Ok(());
        }
    }
}

/// Neither of a pair follows the other's presence any more.
fn keep_apart(fanout: &Fanout, pairs: impl Iterator<Item = (Uuid, Uuid)>) -> Result<()> {
    let both = |(a, b)| [(a, Channel::Presence(b)), (b, Channel::Presence(a))];
    end(fanout, pairs.flat_map(both).collect())
}

/// Ends subscriptions; fails when some worker has no room for it, so that the next look reads the
/// same again.
fn end(fanout: &Fanout, over: Vec<(Uuid, Channel)>) -> Result<()> {
    if over.is_empty() || fanout.rosters().expel(over) {
        return Ok(());
    }
    Err(Error::overloaded())
}

fn is_full(rows: usize) -> bool {
    rows >= usize::try_from(PAGE).unwrap_or(usize::MAX)
}
