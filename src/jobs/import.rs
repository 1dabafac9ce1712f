//! Reads calendars elsewhere that are due. Any number of nodes may run this: rows are taken with
//! `SKIP LOCKED`, for a lease that outlives a reading. What cannot be read keeps its old busy times
//! and is marked stale; only a calendar that was read whole changes them.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::actors::calendar::{Calendars, Change};
use crate::clock::now;
use crate::error::{Error, Result};
use crate::models::calendar_commit::{Command, Replacement};
use crate::models::external_calendars::{self as rows, Reading, Taken};
use crate::models::pool::Pool;
use crate::outbound::{Conditions, EndpointPolicy, FeedReader, FeedUrl, Read};
use crate::services::external_calendars::understand;

/// Readings under way at once. Each takes at most 30 s and the memory of its feed.
const UNDER_WAY: usize = 4;
/// A worker that does not settle a reading within this has died.
const LEASE: Duration = Duration::from_secs(120);
/// Pause when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// After this a feed is read whole even if it did not change: the time that is looked at moves on.
const FULL_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// What the worker needs.
#[derive(Clone)]
pub struct Importer {
    pub pool: Pool,
    pub calendars: Calendars,
    pub reader: Arc<FeedReader>,
    /// Where feeds may lie.
    pub sources: EndpointPolicy,
    /// Between two readings of one feed.
    pub every: Duration,
}

/// Works until told to stop; what is under way is given up, and comes due again elsewhere.
pub async fn run(worker: Importer, mut stop: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    loop {
        while let Some(done) = under_way.try_join_next() {
            check(done);
        }
        let wait = match worker.round(&mut under_way).await {
            Ok(0) => IDLE,
            Ok(_) => Duration::ZERO,
            Err(e) => {
                tracing::error!("external calendars are not read: {e:?}");
                IDLE * 4
            }
        };
        if !super::pause(&mut stop, wait).await {
            break;
        }
    }
}

fn check(done: std::result::Result<Result<()>, JoinError>) {
    if let Err(e) = done.map_err(|e| Error::Fault(e.to_string())).and_then(|r| r) {
        tracing::error!("an external calendar was not settled: {e:?}");
    }
}

impl Importer {
    /// Starts what is due, as far as there is room; returns how much that was.
    async fn round(&self, under_way: &mut JoinSet<Result<()>>) -> Result<usize> {
        let room = i64::try_from(UNDER_WAY.saturating_sub(under_way.len())).unwrap_or(0);
        if room == 0 {
            return Ok(0);
        }
        let mut conn = self.pool.get().await?;
        let taken = rows::take(&mut conn, room, LEASE).await?;
        drop(conn);
        let count = taken.len();
        for calendar in taken {
            let worker = self.clone();
            under_way.spawn(async move { worker.import(calendar).await });
        }
        Ok(count)
    }

    async fn import(&self, taken: Taken) -> Result<()> {
        let Ok(url) = FeedUrl::parse(&taken.url, self.sources) else {
            return self.failed(&taken, "the address is not allowed").await;
        };
        match self.reader.read(&url, &conditions(&taken)).await {
            Read::Unchanged => self.unchanged(&taken).await,
            Read::Failed(reason) => self.failed(&taken, &reason).await,
            Read::Fresh { text, conditions } => match understand(text, taken.zone.clone()).await {
                Ok(understood) => {
                    let plain = understood.replacement(taken.id);
                    let reading = Reading {
                        attempt: Some(taken.attempt),
                        etag: conditions.etag,
                        last_modified: conditions.last_modified,
                        every: Some(self.every),
                        ..plain.reading
                    };
                    self.settle(&taken, Replacement { reading, ..plain }).await
                }
                Err(reason) => self.failed(&taken, &reason).await,
            },
        }
    }

    /// Only what brings news goes through the calendar.
    async fn settle(&self, taken: &Taken, wanted: Replacement) -> Result<()> {
        if taken.busy_hash.as_ref() == Some(&wanted.reading.hash) {
            let mut conn = self.pool.get().await?;
            return Ok(rows::record(&mut conn, taken.id, &wanted.reading).await?);
        }
        let change = Change { actor: None, command: Command::ReplaceExternal(wanted) };
        match self.calendars.ask(taken.practitioner_id, change).await {
            // Forgotten meanwhile, or the hub is busy: then the lease runs out and it comes again.
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn unchanged(&self, taken: &Taken) -> Result<()> {
        let mut conn = self.pool.get().await?;
        Ok(rows::unchanged(&mut conn, taken.id, taken.attempt, self.every).await?)
    }

    async fn failed(&self, taken: &Taken, reason: &str) -> Result<()> {
        tracing::debug!(calendar = %taken.id, reason, "an external calendar could not be read");
        let mut conn = self.pool.get().await?;
        let pauses = (self.every, LONGEST_PAUSE);
        Ok(rows::failed(&mut conn, taken.id, taken.attempt, pauses, reason).await?)
    }
}

/// What makes the reading conditional: nothing when the last whole one is too old, or was for
/// another zone.
fn conditions(taken: &Taken) -> Conditions {
    let recent = taken.full_read_at.is_some_and(|at| now().duration_since(at) < FULL_EVERY);
    if recent && taken.read_zone == taken.zone {
        Conditions { etag: taken.etag.clone(), last_modified: taken.last_modified.clone() }
    } else {
        Conditions::default()
    }
}
