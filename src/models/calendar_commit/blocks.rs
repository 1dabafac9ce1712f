//! Blocked times, one or a series at a time.

use diesel::QueryResult;
use jiff::Timestamp;
use uuid::Uuid;

use super::steps::statement_time;
use super::{Job, Ledger, Outcome};
use crate::domain::intervals;
use crate::domain::refusal::Refusal;
use crate::domain::repeat::MAX_BLOCKS_AHEAD;
use crate::domain::time::Interval;
use crate::models::Conn;
use crate::models::calendars::{self, Block};

/// Closes `times`, all or none: more than the practice may have ahead are refused.
pub(super) async fn block(
    conn: &mut Conn,
    job: &Job,
    times: &[Block],
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let id = job.practitioner_id;
    let now = Timestamp::from(statement_time(conn).await?);
    let ahead = calendars::count_blocks(conn, id, now).await?;
    // Counted under the calendar's lock, so that requests at once do not pass together.
    if usize::try_from(ahead).unwrap_or(usize::MAX).saturating_add(times.len()) > MAX_BLOCKS_AHEAD {
        let problem = format!("a practice has at most {MAX_BLOCKS_AHEAD} blocked times ahead");
        return Ok(Outcome::Refused(Refusal::field("startsAt", problem)));
    }
    calendars::insert_blocks(conn, id, times).await?;
    for time in times {
        ledger.changed(id, time.starts_at, time.ends_at, "busy");
    }
    Ok(Outcome::Blocked(times.to_vec()))
}

/// Opens a blocked time, or its whole series.
pub(super) async fn unblock(
    conn: &mut Conn,
    job: &Job,
    block_id: Uuid,
    whole_series: bool,
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    let id = job.practitioner_id;
    let gone = calendars::remove_blocks(conn, id, block_id, whole_series).await?;
    let spans = gone.iter().filter_map(|b| Interval::new(b.starts_at, b.ends_at).ok());
    let spans = intervals::union(spans.collect());
    let Some(hull) = spans.first().zip(spans.last()).map(|(first, last)| first.hull(last)) else {
        return Ok(Outcome::Refused(Refusal::NotFound("block")));
    };
    // One look for all: what is still busy in between is little beside a query for each.
    let busy = calendars::busy_spans(conn, id, hull.start(), hull.end()).await?;
    let busy = busy.into_iter().filter_map(|(start, end)| Interval::new(start, end).ok());
    let still_busy = intervals::intersect(&spans, &intervals::union(busy.collect()));
    for (spans, state) in [(spans, "free"), (still_busy, "busy")] {
        for span in spans {
            ledger.changed(id, span.start(), span.end(), state);
        }
    }
    Ok(Outcome::Unblocked(gone))
}
