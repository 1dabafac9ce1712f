//! Which starts can be booked: open hours minus taken time, on a grid, within notice and horizon.
//!
//! The same grid answers both questions, "which starts are there" and "may this one be booked", so
//! a start is refused exactly when it is not listed. Neither the asked range nor `now` moves the
//! grid: what is asked only filters.
//!
//! A grid begins where its working window (or, on the restarting grid, its free interval) begins.
//! A window open without a break from before the Monday of the previous local week begins anew at
//! each local Monday 00:00, since hours around the clock have no first start to count from.

mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::availability::Hours;
use super::busy::{BusySet, Viewpoint};
use super::group::Group;
use super::intervals;
use super::limits::Room;
use super::rules::{CountedDays, Grid, Horizon, MAX_DAYS_SEARCHED, SlotRules};
use super::time::{Interval, date_after, local_date, minutes, shifted};

pub use self::refusal::SlotRefusal;

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One practitioner's calendar looked at for one service.
#[derive(Debug, Clone, Copy)]
pub struct SlotQuery<'a> {
    pub hours: &'a Hours,
    pub rules: &'a SlotRules,
    /// Must hold what occupies time from [`super::availability::LOOK_BACK`] before the earliest
    /// start asked about, past or not: the restarting grid counts from the end of taken time.
    pub busy: &'a BusySet,
    pub view: Viewpoint,
}

/// What [`SlotQuery::explain`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    pub slots: Vec<Timestamp>,
    /// In order; disjoint from `slots`.
    pub rejected: Vec<(Timestamp, Rejection)>,
}

/// Why a start of the grid is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    Refused(SlotRefusal),
    /// It could be booked, but ends after the range that was asked about.
    EndsAfterRange,
}

/// Instants between which starts are acceptable by notice and horizon.
struct StartBounds {
    earliest: Timestamp,
    from: Timestamp,
    until: Timestamp,
}

impl StartBounds {
    fn check(&self, start: Timestamp, now: Timestamp) -> Result<(), SlotRefusal> {
        if start <= now {
            return Err(SlotRefusal::InPast);
        }
        if start < self.earliest {
            return Err(SlotRefusal::TooSoon { earliest: self.earliest });
        }
        if start < self.from || start >= self.until {
            return Err(SlotRefusal::OutsideHorizon { from: self.from, until: self.until });
        }
        Ok(())
    }
}

/// One merged working window, and where its grid begins anew.
struct Stretch {
    window: Interval,
    restarts: Vec<Timestamp>,
}

/// Starts at `first` and every increment after it, before `until`.
struct GridRun {
    first: Timestamp,
    until: Timestamp,
}

impl SlotQuery<'_> {
    /// The starts that can be booked at `view.now` and whose appointments lie in `range`, in order.
    pub fn slots(&self, range: Interval) -> Vec<Timestamp> {
        let bounds = self.bounds();
        let from = range.start().max(bounds.earliest).max(bounds.from);
        let until = range.end().min(bounds.until);
        let mut starts = self.starts(from, until);
        starts.retain(|start| shifted(*start, self.rules.duration()) <= range.end());
        starts
    }

    /// The first start in `range` that can be booked at `view.now`. Looks at a week at a time, so
    /// that a far end of the range costs nothing when something is free before.
    pub fn first_start(&self, range: Interval) -> Option<Timestamp> {
        let bounds = self.bounds();
        let until = range.end().min(bounds.until);
        let mut from = range.start().max(bounds.earliest).max(bounds.from);
        while from < until {
            let next = shifted(from, WEEK).min(until);
            if let Some(first) = self.starts(from, next).first() {
                return Some(*first);
            }
            from = next;
        }
        None
    }

    /// Whether this start can be booked at `view.now`; refuses exactly what [`Self::slots`] leaves
    /// out of a range that covers the appointment.
    pub fn check_start(&self, start: Timestamp) -> Result<(), SlotRefusal> {
        self.check(start, &self.bounds())
    }

    /// [`Self::slots`] and, for each start of the grid in `range` that is not among them, why.
    /// The grid here is the one that would be offered if nothing were taken, the same without
    /// holidays, and the actual one.
    pub fn explain(&self, range: Interval) -> Explanation {
        let bounds = self.bounds();
        let mut found = Explanation { slots: self.slots(range), rejected: Vec::new() };
        let mut candidates = self.free_starts(range.start(), range.end());
        let always = self.hours.without_holidays();
        for hours in [self.hours].into_iter().chain(&always) {
            let query = SlotQuery { hours, ..*self };
            for stretch in query.stretches(range.start(), range.end()) {
                for run in query.runs(&stretch, &[stretch.window]) {
                    candidates.extend(query.steps(&run, range.start(), range.end()));
                }
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        for start in candidates {
            if found.slots.binary_search(&start).is_ok() {
                continue;
            }
            let why = match self.check(start, &bounds) {
                Err(refusal) => Rejection::Refused(refusal),
                Ok(()) => Rejection::EndsAfterRange,
            };
            found.rejected.push((start, why));
        }
        found
    }

    fn check(&self, start: Timestamp, bounds: &StartBounds) -> Result<(), SlotRefusal> {
        bounds.check(start, self.view.now)?;
        let wanted = Interval::lasting(start, self.rules.duration());
        let stretches = self.stretches(start, wanted.end());
        let stretch =
            stretches.iter().find(|stretch| stretch.window.covers(&wanted)).ok_or_else(|| {
                match self.hours.holiday_in_the_way(wanted) {
                    Some((date, name)) => SlotRefusal::Holiday { date, name },
                    None => SlotRefusal::OutsideHours,
                }
            })?;
        let joins = |g: Group| g.can_join(self.busy, wanted, self.rules.buffers, self.view);
        if !self.rules.group.is_some_and(joins) {
            self.check_free(wanted, stretch)?;
        }
        self.room().missing_at(start).map_or(Ok(()), |limit| Err(SlotRefusal::Limit(limit)))
    }

    /// Whether nothing is in the way of the appointment and a grid has its start.
    fn check_free(&self, wanted: Interval, stretch: &Stretch) -> Result<(), SlotRefusal> {
        if let Some(by) = self.busy.conflict(wanted, self.rules.buffers, self.view) {
            let (key, what, occupied) = (by.key(), by.kind().name(), by.occupied());
            return Err(SlotRefusal::Taken { key, what, occupied });
        }
        let start = wanted.start();
        let (opens, rules) = (stretch.window.start(), self.rules);
        let since = self.busy.free_since(start, opens, rules.buffers, self.view);
        let free = Interval::new(since, stretch.window.end()).ok();
        let on_grid = self.runs(stretch, free.as_slice()).any(|run| {
            run.first <= start
                && start < run.until
                && remainder(start.duration_since(run.first), self.rules.increment()).is_zero()
        });
        if on_grid { Ok(()) } else { Err(SlotRefusal::OffGrid) }
    }

    fn room(&self) -> Room<'_> {
        Room::new(self.hours, self.rules, self.busy, self.view)
    }

    /// The starts in `[from, until)` that are open, free, on the grid and within the limits.
    fn starts(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut starts = self.free_starts(from, until);
        let mut room = self.room();
        if !room.is_unlimited() {
            starts.retain(|start| room.missing_at(*start).is_none());
        }
        starts
    }

    /// All starts in `[from, until)` that are open, free and on the grid.
    fn free_starts(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut starts = Vec::new();
        if from >= until {
            return starts;
        }
        for stretch in self.stretches(from, until) {
            let all_free = self.free(&stretch, from);
            let mut free = all_free.iter().peekable();
            for run in self.runs(&stretch, &all_free) {
                starts.extend(self.steps(&run, from, until).filter(|start| {
                    let end = shifted(*start, self.rules.duration());
                    while free.next_if(|interval| interval.end() < end).is_some() {}
                    free.peek().is_some_and(|interval| interval.start() <= *start)
                }));
            }
            starts.extend(self.joinable(stretch.window, from, until));
        }
        starts.sort_unstable();
        starts
    }

    /// The starts in `[from, until)` of sessions inside `window` that have seats left.
    fn joinable(&self, window: Interval, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let (length, buffers) = (self.rules.duration(), self.rules.buffers);
        let latest = until.min(shifted(window.end(), SignedDuration::from_nanos(1) - length));
        let range = Interval::new(from.max(window.start()), latest).ok();
        let (Some(group), Some(range)) = (self.rules.group, range) else { return Vec::new() };
        group.joinable(self.busy, range, length, buffers, self.view)
    }

    /// The working windows that can hold starts in `[from, until)`.
    fn stretches(&self, from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        let end = shifted(until, self.rules.duration());
        let weeks = self.hours.week_starts(from, end);
        let back = weeks.first().copied().unwrap_or(from);
        let windows = self.hours.whole_windows(back, end);
        let near = windows.into_iter().filter(|w| w.end() > from && w.start() < until);
        near.map(|window| {
            let pairs = weeks.iter().zip(weeks.iter().skip(1));
            let restarts: Vec<Timestamp> = pairs
                .filter(|(before, monday)| window.start() < **before && **monday < window.end())
                .map(|(_, monday)| *monday)
                .collect();
            Stretch { window, restarts }
        })
        .collect()
    }

    /// What of a window is free. Taken time is read only from where the grid at `from` begins.
    fn free(&self, stretch: &Stretch, from: Timestamp) -> Vec<Interval> {
        let window = stretch.window;
        let since = stretch.restarts.iter().rfind(|restart| **restart <= from);
        let begins = since.copied().unwrap_or(window.start());
        let read = Interval::lasting(begins, window.end().duration_since(begins));
        let blocked = self.busy.blocked(read, self.rules.buffers, self.view);
        intervals::subtract(&[window], &blocked)
    }

    /// The grids of one window of which so much is free, in order.
    fn runs(&self, stretch: &Stretch, free: &[Interval]) -> impl Iterator<Item = GridRun> {
        let (whole, free) = match self.rules.grid {
            Grid::Window => (Some(stretch.window), None),
            Grid::Restart { .. } => (None, Some(free)),
        };
        let origins = whole.into_iter().chain(free.into_iter().flatten().copied());
        let pieces = origins.flat_map(|origin| split(origin, &stretch.restarts));
        pieces.map(|piece| match self.rules.grid {
            Grid::Window => GridRun { first: piece.start(), until: piece.end() },
            Grid::Restart { align_min, offset_min } => {
                let zone = self.hours.zones().of(self.hours.date_of(piece.start()));
                let aligned = round_up_to_clock(piece.start(), align_min.get().into(), zone);
                GridRun { first: shifted(aligned, minutes(offset_min)), until: piece.end() }
            }
        })
    }

    /// The starts of a grid that lie in `[from, until)`.
    fn steps(
        &self,
        run: &GridRun,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + use<> {
        let step = self.rules.increment();
        let behind = from.duration_since(run.first).max(SignedDuration::ZERO);
        let over = remainder(behind, step);
        let missing = if over.is_zero() { over } else { step - over };
        let first = shifted(run.first.max(from), missing);
        let until = run.until.min(until);
        // A step that does not advance is the end of time.
        let next = move |start: &Timestamp| Some(shifted(*start, step)).filter(|n| n > start);
        std::iter::successors(Some(first), next).take_while(move |start| *start < until)
    }

    fn bounds(&self) -> StartBounds {
        let zones = self.hours.zones();
        let earliest = self.rules.earliest(self.view.now);
        let (from, until) = match self.rules.horizon {
            Horizon::Unlimited => (Timestamp::MIN, Timestamp::MAX),
            Horizon::Rolling { days, count } => {
                let last = count.after(zones.date_at(self.view.now), days);
                (Timestamp::MIN, zones.end_of(last))
            }
            Horizon::RollingWindow { days, count } => {
                (Timestamp::MIN, self.rolling_window_end(days, count, earliest))
            }
            Horizon::Range { from, to } => (zones.start_of(from), zones.end_of(to)),
        };
        StartBounds { earliest, from, until }
    }

    /// The instant after the last of the first `days` counted dates that have a start.
    fn rolling_window_end(&self, days: u16, count: CountedDays, earliest: Timestamp) -> Timestamp {
        const DATES_AT_ONCE: i32 = 28;
        let zones = self.hours.zones();
        let today = zones.date_at(self.view.now);
        let limit = date_after(today, MAX_DAYS_SEARCHED.into());
        let (mut found, mut date) = (0, today);
        while found < days && date < limit {
            let next = date_after(date, DATES_AT_ONCE).min(limit);
            let from = zones.start_of(date).max(earliest);
            let starts = self.starts(from, zones.end_of(date_after(next, -1)));
            let dates: BTreeSet<Date> = starts.iter().map(|s| self.hours.date_of(*s)).collect();
            for available in dates.range(date..next).filter(|date| count.counts(**date)) {
                found += 1;
                if found == days {
                    return zones.end_of(*available);
                }
            }
            date = next;
        }
        zones.start_of(date)
    }
}

/// The starts by the date that a viewer in `zone` sees; the instants stay the same.
pub fn by_viewer_date(slots: &[Timestamp], zone: &TimeZone) -> BTreeMap<Date, Vec<Timestamp>> {
    let mut dates: BTreeMap<Date, Vec<Timestamp>> = BTreeMap::new();
    for slot in slots {
        dates.entry(local_date(*slot, zone)).or_default().push(*slot);
    }
    dates
}

/// The interval in pieces that begin anew at each of the sorted instants inside it.
fn split(interval: Interval, at: &[Timestamp]) -> Vec<Interval> {
    let inside = at.iter().filter(|cut| interval.start() < **cut && **cut < interval.end());
    let mut pieces = Vec::with_capacity(1);
    let mut start = interval.start();
    for cut in inside.chain([&interval.end()]) {
        pieces.extend(Interval::new(start, *cut));
        start = *cut;
    }
    pieces
}

/// The first instant from `start` on at which clocks in `zone` show a multiple of `align_min`
/// minutes after a full hour.
fn round_up_to_clock(start: Timestamp, align_min: i64, zone: &TimeZone) -> Timestamp {
    let (hour, step) = (minutes(60), minutes(align_min));
    let mut at = start;
    // Clocks that move by less than an hour on the way can make a second look necessary.
    for _ in 0..3 {
        let clock = zone.to_datetime(at).time();
        let seconds = i64::from(clock.minute()) * 60 + i64::from(clock.second());
        let past_hour = SignedDuration::new(seconds, clock.subsec_nanosecond());
        let over = remainder(past_hour, step);
        if over.is_zero() {
            break;
        }
        at = shifted(at, (step - over).min(hour - past_hour));
    }
    at
}

/// What is left of a length after whole steps; the step must not be zero.
fn remainder(length: SignedDuration, step: SignedDuration) -> SignedDuration {
    let nanos = length.as_nanos().checked_rem(step.as_nanos()).unwrap_or(0);
    // Less than a step, and steps are at most a day.
    i64::try_from(nanos).map_or(SignedDuration::ZERO, SignedDuration::from_nanos)
}

#[cfg(test)]
mod tests;
