//! The busy times of calendars elsewhere: only what differs is written and told.

use std::collections::BTreeSet;

use diesel::QueryResult;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Job, Ledger, Outcome};
use crate::domain::intervals::{subtract, union};
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::models::external_calendars::{self as rows, NewExternal, Reading};
use crate::models::{Conn, calendars};

/// The most changes that are told one by one, some 50 KB: a socket may have 256 KiB waiting, and a
/// calendar elsewhere thousands of events.
const TOLD: usize = 500;

/// What was read, and of which calendar.
#[derive(Debug, Clone)]
pub struct Replacement {
    pub calendar_id: Uuid,
    /// The name of a calendar that is not there yet: an uploaded file.
    pub create_as: Option<String>,
    /// Sorted and disjoint.
    pub intervals: Vec<Interval>,
    /// Busy times that ended before are dropped without a word: they are no news to anybody.
    pub told_from: Timestamp,
    pub reading: Reading,
}

/// Puts the new busy times in the place of the old ones, unless a later reading has begun.
pub(super) async fn replace(
    conn: &mut Conn,
    job: &Job,
    wanted: &Replacement,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let (practitioner_id, id) = (job.practitioner_id, wanted.calendar_id);
    if let Some(name) = &wanted.create_as {
        let new = NewExternal { id, practitioner_id, name, source: None };
        if !rows::insert(conn, &new).await? {
            return Ok(Outcome::Refused(rows::too_many()));
        }
    } else {
        match rows::lock(conn, practitioner_id, id).await? {
            None => return Ok(Outcome::Refused(Refusal::NotFound("external calendar"))),
            Some(current) if wanted.reading.attempt.is_some_and(|own| own != current) => {
                return Ok(Outcome::External { changed: false });
            }
            Some(_) => {}
        }
    }
    let stored = rows::busy_of(conn, id).await?;
    let (old, new): (BTreeSet<Interval>, BTreeSet<Interval>) = (
        stored.iter().map(|(_, time)| *time).collect(),
        wanted.intervals.iter().copied().collect(),
    );
    let gone: Vec<Uuid> =
        stored.iter().filter(|(_, time)| !new.contains(time)).map(|(id, _)| *id).collect();
    let added: Vec<Interval> = new.difference(&old).copied().collect();
    rows::remove_busy(conn, &gone).await?;
    rows::insert_busy(conn, practitioner_id, id, &added).await?;
    rows::record(conn, id, &wanted.reading).await?;
    let old: Vec<Interval> = old.into_iter().collect();
    let mut freed = subtract(&old, &wanted.intervals);
    freed.retain(|time| time.end() > wanted.told_from);
    let changed = !freed.is_empty() || !added.is_empty();
    if changed {
        let busy = subtract(&wanted.intervals, &old);
        tell(conn, practitioner_id, &busy, &freed, ledger).await?;
    }
    Ok(Outcome::External { changed })
}

/// Forgets a calendar and frees its times.
pub(super) async fn remove(
    conn: &mut Conn,
    job: &Job,
    id: Uuid,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    if rows::lock(conn, job.practitioner_id, id).await?.is_none() {
        return Ok(Outcome::Refused(Refusal::NotFound("external calendar")));
    }
    let freed: Vec<Interval> =
        rows::busy_of(conn, id).await?.into_iter().map(|(_, time)| time).collect();
    rows::remove(conn, id).await?;
    let changed = !freed.is_empty();
    if changed {
        tell(conn, job.practitioner_id, &[], &freed, ledger).await?;
    }
    Ok(Outcome::External { changed })
}

/// Notes what became busy, and what became free and is not kept busy by something else; or, when that
/// is too much for one event, that slots are to be asked for again.
async fn tell(
    conn: &mut Conn,
    practitioner_id: Uuid,
    busy: &[Interval],
    freed: &[Interval],
    ledger: &mut Ledger,
) -> QueryResult<()> {
    if busy.len() + freed.len() > TOLD {
        ledger.hours_changed.push(practitioner_id);
        return Ok(());
    }
    for time in busy {
        ledger.changed(practitioner_id, time.start(), time.end(), "busy");
    }
    if let (Some(first), Some(last)) = (freed.first(), freed.last()) {
        let spans = calendars::busy_spans(conn, practitioner_id, first.start(), last.end()).await?;
        let others = spans.into_iter().filter_map(|(start, end)| Interval::new(start, end).ok());
        for time in subtract(freed, &union(others.collect())) {
            ledger.changed(practitioner_id, time.start(), time.end(), "free");
        }
    }
    // Even when nothing looks different: other nodes must know what keeps the time busy.
    ledger.changes.entry(practitioner_id).or_default();
    Ok(())
}
