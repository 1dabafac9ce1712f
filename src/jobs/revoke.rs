//! Closes the sockets of sessions that were revoked anywhere, by asking the database.
//!
//! A logout reaches this node's sockets at once and those of other nodes over the bus. This is for
//! what neither tells of: a bus that is down, an account that was suspended, rows changed by hand.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use crate::actors::error::Result;
use crate::actors::fanout::Fanout;
use crate::actors::now;
use crate::domain::time::shifted;
use crate::models::pool::Pool;
use crate::models::sessions;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How far each look reaches back beyond the one before: transactions commit later than their rows
/// say (at most the 15 s that a statement may take), and clocks of machines differ.
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// Sessions read at once; a look reads as many pages as there are.
const PAGE: i64 = 5_000;

/// Looks until told to stop.
pub async fn run(pool: Pool, fanout: Fanout, mut stop: watch::Receiver<bool>) {
    let mut since = now();
    while super::pause(&mut stop, EVERY).await {
        let asked_at = now();
        // Sockets look at their session when they open: without one there is nothing to miss.
        if fanout.rosters().live() == 0 {
            since = asked_at;
            continue;
        }
        match look(&pool, &fanout, shifted(since, -OVERLAP)).await {
            Ok(()) => since = asked_at,
            Err(e) => tracing::warn!("revoked sessions could not be read, trying again: {e:?}"),
        }
    }
}

async fn look(pool: &Pool, fanout: &Fanout, since: Timestamp) -> Result<()> {
    let mut after = (since, Uuid::nil());
    loop {
        let mut conn = pool.get().await?;
        let page = sessions::revoked_after(&mut conn, after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.1, last.0);
        let full = page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        fanout.rosters().revoke(page.into_iter().map(|(id, _)| id).collect());
        if !full {
            return Ok(());
        }
    }
}
