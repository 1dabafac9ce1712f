//! How the jobs of all calendars are committed together.

use std::collections::HashMap;
use std::time::Duration;

use diesel::QueryResult;
use uuid::Uuid;

use super::committer::Batch;
use crate::domain::channel::Channel;
use crate::models::Conn;
use crate::models::bookings::Booking;
use crate::models::calendar_commit::{self, CommitRules, Job, Outcome, StoredEvent};

/// Rules of booking that come from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct BookingRules {
    /// How long a hold keeps its slot.
    pub hold_ttl: Duration,
    /// The platform's share, in basis points of the price.
    pub commission_bps: u16,
}

/// How calendar jobs are committed.
pub struct CalendarBatch(pub CommitRules);

/// A job's outcome, and the calendar's version if the batch moved it.
#[derive(Debug, Clone)]
pub struct Settled {
    pub(super) outcome: Outcome,
    pub(super) version: Option<i64>,
    /// Rows of the calendar that changed besides, for the first job of each calendar.
    pub(super) others: Vec<Booking>,
}

impl Batch for CalendarBatch {
    type Job = Job;
    type Outcome = Settled;

    fn key(job: &Job) -> Uuid {
        job.practitioner_id
    }

    async fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[Job],
    ) -> QueryResult<(Vec<Settled>, Vec<StoredEvent>)> {
        let done = calendar_commit::commit(conn, self.0, jobs).await?;
        let versions: HashMap<Uuid, i64> = done.events.iter().filter_map(version).collect();
        let mut others: HashMap<Uuid, Vec<Booking>> = HashMap::new();
        for row in done.others {
            others.entry(row.practitioner_id).or_default().push(row);
        }
        let settled = done.outcomes.into_iter().zip(jobs).map(|(outcome, job)| Settled {
            outcome,
            version: versions.get(&job.practitioner_id).copied(),
            others: others.remove(&job.practitioner_id).unwrap_or_default(),
        });
        let settled = settled.collect();
        Ok((settled, done.events))
    }
}

/// The calendar whose version `event` tells.
fn version(event: &StoredEvent) -> Option<(Uuid, i64)> {
    match event.channel {
        Channel::Calendar(id) => Some((id, event.seq)),
        Channel::User(_) | Channel::Conversation(_) | Channel::Presence(_) => None,
    }
}
