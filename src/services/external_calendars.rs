//! Calendars elsewhere whose busy times keep a practitioner's calendar busy: read from an address
//! by `jobs::import`, or uploaded as a file.

use std::time::Duration;

use diesel_async::AsyncConnection;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::auth::Caller;
use super::practice_for;
use crate::actors::calendar::{Calendars, Change};
use crate::clock::now;
use crate::domain::access::Action;
use crate::domain::ics::read::{self, BusyTimes};
use crate::domain::refusal::{Problems, Refusal};
use crate::domain::time::{Interval, parse_zone};
use crate::error::Result;
use crate::models::calendar_commit::{Command, Replacement};
use crate::models::external_calendars::{self as rows, External, NewExternal, Reading};
use crate::models::pool::Pool;
use crate::outbound::{EndpointPolicy, FeedUrl};

/// Between two readings of one address that somebody asked for.
const PAUSE: Duration = Duration::from_secs(5);

/// Calendars elsewhere.
pub struct ExternalCalendars {
    pool: Pool,
    calendars: Calendars,
    sources: EndpointPolicy,
}

impl ExternalCalendars {
    /// External calendars in the database of `pool`, for the practices of `calendars`; addresses
    /// may lie where `sources` says.
    pub fn new(pool: Pool, calendars: Calendars, sources: EndpointPolicy) -> Self {
        Self { pool, calendars, sources }
    }

    /// The external calendars of a practice.
    pub async fn list(&self, caller: &Caller, practice: Uuid) -> Result<Vec<External>> {
        practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        let mut conn = self.pool.get().await?;
        Ok(rows::list(&mut conn, practice).await?)
    }

    /// Adds the calendar at `url`; it is read as soon as a worker is free.
    pub async fn add_address(
        &self,
        caller: &Caller,
        practice: Uuid,
        name: &str,
        url: &str,
    ) -> Result<External> {
        practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        let mut problems = check_name(name);
        let url = FeedUrl::parse(url, self.sources).map_err(|problem| {
            problems.require(false, "url", problem);
        });
        problems.into_result()?;
        let Ok(url) = url else { return Err(Refusal::field("url", "must be a URL").into()) };
        let id = Uuid::now_v7();
        let source = Some((url.as_str(), url.host()));
        let new = NewExternal { id, practitioner_id: practice, name, source };
        let mut conn = self.pool.get().await?;
        if conn.transaction(async |conn| rows::insert(conn, &new).await).await? {
            drop(conn);
            self.find(practice, id).await
        } else {
            Err(rows::too_many().into())
        }
    }

    /// Adds the calendar that `text` is. It stays as it is until it is put anew.
    pub async fn add_file(
        &self,
        caller: &Caller,
        practice: Uuid,
        name: &str,
        text: String,
    ) -> Result<External> {
        check_name(name).into_result()?;
        self.put(caller, practice, Uuid::now_v7(), Some(name.to_owned()), text).await
    }

    /// Puts `text` in the place of an uploaded calendar.
    pub async fn replace_file(
        &self,
        caller: &Caller,
        practice: Uuid,
        id: Uuid,
        text: String,
    ) -> Result<External> {
        practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        if self.find(practice, id).await?.host.is_some() {
            let problem = "is read from its address; there is nothing to put";
            return Err(Refusal::field("calendarId", problem).into());
        }
        self.put(caller, practice, id, None, text).await
    }

    async fn put(
        &self,
        caller: &Caller,
        practice: Uuid,
        id: Uuid,
        create_as: Option<String>,
        text: String,
    ) -> Result<External> {
        let found = practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        let zone = found.availability.get("timeZone").and_then(|z| z.as_str());
        let understood = understand(text, zone.map(ToOwned::to_owned))
            .await
            .map_err(|problem| Refusal::field("body", problem))?;
        let wanted = Replacement { create_as, ..understood.replacement(id) };
        let change =
            Change { actor: Some(caller.user_id), command: Command::ReplaceExternal(wanted) };
        self.calendars.ask(practice, change).await?;
        self.find(practice, id).await
    }

    /// Forgets a calendar and frees its times.
    pub async fn remove(&self, caller: &Caller, practice: Uuid, id: Uuid) -> Result<()> {
        practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        let change = Change { actor: Some(caller.user_id), command: Command::RemoveExternal(id) };
        self.calendars.ask(practice, change).await.map(|_| ())
    }

    /// Has a calendar read again soon.
    pub async fn refresh(&self, caller: &Caller, practice: Uuid, id: Uuid) -> Result<External> {
        practice_for(&self.pool, caller, practice, Action::AvailabilityUpdate).await?;
        let found = self.find(practice, id).await?;
        let mut conn = self.pool.get().await?;
        if rows::make_due(&mut conn, id, PAUSE).await? {
            Ok(found)
        } else {
            let problem = "is an uploaded file; put it anew instead";
            Err(Refusal::field("calendarId", problem).into())
        }
    }

    async fn find(&self, practice: Uuid, id: Uuid) -> Result<External> {
        let mut conn = self.pool.get().await?;
        let found = rows::find(&mut conn, practice, id).await?;
        Ok(found.ok_or(Refusal::NotFound("external calendar"))?)
    }
}

fn check_name(name: &str) -> Problems {
    let mut problems = Problems::default();
    problems.length("name", name, 1, 100);
    problems
}

/// A calendar that was read.
#[derive(Debug)]
pub struct Understood {
    busy: BusyTimes,
    zone: String,
    told_from: jiff::Timestamp,
}

/// Reads a calendar for a practice in `zone`. The words of an error are for its owner.
pub async fn understand(
    text: String,
    zone: Option<String>,
) -> std::result::Result<Understood, String> {
    let zone = zone.unwrap_or_else(|| "UTC".to_owned());
    let parsed = parse_zone(&zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let window = read::window(now());
    // It may take a second, and somebody else's code reads what somebody else wrote: a panic there
    // must not end the job.
    let read = tokio::task::spawn_blocking(move || read::busy_times(&text, &parsed, window)).await;
    match read {
        Ok(Ok(busy)) => Ok(Understood { busy, zone, told_from: window.start() }),
        Ok(Err(problem)) => Err(problem.to_string()),
        Err(e) => {
            tracing::error!("a calendar could not be read: {e}");
            Err("it can not be read".to_owned())
        }
    }
}

impl Understood {
    /// SHA-256 of the busy times.
    pub fn hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for time in &self.busy.intervals {
            hash.update(time.start().as_microsecond().to_be_bytes());
            hash.update(time.end().as_microsecond().to_be_bytes());
        }
        hash.finalize().to_vec()
    }

    /// The change that puts it in the place of what is stored of the calendar `calendar_id`, as an
    /// upload.
    pub fn replacement(self, calendar_id: Uuid) -> Replacement {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let reading = Reading {
            attempt: None,
            etag: None,
            last_modified: None,
            hash: self.hash(),
            zone: self.zone,
            events: count(self.busy.occurrences),
            unreadable: count(self.busy.unreadable),
            every: None,
        };
        let intervals: Vec<Interval> = self.busy.intervals;
        let told_from = self.told_from;
        Replacement { calendar_id, create_as: None, intervals, told_from, reading }
    }
}
