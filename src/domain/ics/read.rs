//! The busy times of somebody's calendar: text in, intervals out.
//!
//! Nothing but times is looked at. Events that are cancelled or transparent do not keep anybody
//! busy, and neither do our own bookings that come back out of another calendar: the hub knows
//! better how they stand. An event that makes no sense is counted and left out; a file that is no
//! calendar, or not a whole one, gives nothing at all, so that it never looks like a free month.

use std::fmt;

use calcard::common::PartialDateTime;
use calcard::icalendar::{
    ICalendar, ICalendarComponentType, ICalendarEntry, ICalendarFreeBusyType,
    ICalendarParameterName, ICalendarParameterValue, ICalendarPeriod, ICalendarProperty,
    ICalendarValue,
};
use calcard::{Entry, Parser};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::events;
use super::rule::Work;
use super::zones::Zones;
use crate::domain::intervals;
use crate::domain::time::{Interval, local_to_instant, shifted};

/// The most occurrences that a calendar may have in the time that is looked at: twelve events that
/// repeat daily.
pub const MAX_OCCURRENCES: usize = 10_000;
/// How far back events are looked at.
const DAYS_BACK: i64 = 31;
/// How far ahead: beyond the longest rolling horizon, 730 days, as the snapshot of a calendar.
const DAYS_AHEAD: i64 = 760;

/// The time whose events are looked at, as of `now`: whole days of UTC, so that two readings of one
/// day give the same.
pub fn window(now: Timestamp) -> Interval {
    let days = |n: i64| SignedDuration::from_hours(24 * n);
    let today = Timestamp::from_second(now.as_second().div_euclid(86_400) * 86_400);
    let today = today.unwrap_or(now);
    Interval::lasting(shifted(today, -days(DAYS_BACK)), days(DAYS_BACK + DAYS_AHEAD + 1))
}

/// What a calendar says about when its owner is busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyTimes {
    /// Sorted, disjoint; each as long as it is, also where it reaches out of the window.
    pub intervals: Vec<Interval>,
    /// Occurrences that they are made of.
    pub occurrences: usize,
    /// Events that make no sense; nothing is busy because of them.
    pub unreadable: usize,
}

/// Why a calendar gives nothing at all. The words are for the practitioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Not an iCalendar file, a login page for instance.
    NotACalendar,
    /// The end is missing.
    CutOff,
    /// More than [`MAX_OCCURRENCES`].
    TooManyEvents,
    /// Its repeating events take more work than any honest calendar's.
    TooMuchWork,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotACalendar => "it is not an iCalendar file",
            Self::CutOff => "the file ends in the middle of the calendar",
            Self::TooManyEvents => "it has more than 10000 events in the time that is looked at",
            Self::TooMuchWork => "its repeating events repeat too often to be worked out",
        })
    }
}

impl std::error::Error for Problem {}

/// The busy times of the calendar `text` that touch `window`. All-day events and times without a
/// zone are the practitioner's own days and clock, in `zone`.
pub fn busy_times(text: &str, zone: &TimeZone, window: Interval) -> Result<BusyTimes, Problem> {
    let calendars = parse(text)?;
    let mut work = Work::default();
    let mut found = Found { window, busy: Vec::new(), unreadable: 0 };
    for calendar in &calendars {
        let year = SignedDuration::from_hours(24 * 400);
        let utc = |instant| Offset::UTC.to_datetime(instant);
        let range = (utc(shifted(window.start(), -year)), utc(shifted(window.end(), year)));
        let zones = Zones::of(calendar, zone, range, &mut work)?;
        events::collect(calendar, &zones, &mut work, &mut found)?;
        collect_freebusy(calendar, &zones, &mut found)?;
    }
    let Found { busy, unreadable, .. } = found;
    let occurrences = busy.len();
    Ok(BusyTimes { intervals: intervals::union(busy), occurrences, unreadable })
}

/// What was found so far.
pub(super) struct Found {
    pub(super) window: Interval,
    busy: Vec<Interval>,
    pub(super) unreadable: usize,
}

impl Found {
    /// Notes that `time` is busy, if it is any time at all.
    pub(super) fn busy(&mut self, time: Interval) -> Result<(), Problem> {
        if time.overlaps(&self.window) {
            if self.busy.len() >= MAX_OCCURRENCES {
                return Err(Problem::TooManyEvents);
            }
            self.busy.push(time);
        }
        Ok(())
    }
}

/// All calendars of the file. `calcard` makes something of anything, so that both ends are checked
/// here.
fn parse(text: &str) -> Result<Vec<ICalendar>, Problem> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let is =
        |line: Option<&str>, word: &str| line.is_some_and(|l| l.trim().eq_ignore_ascii_case(word));
    // Old files end their lines with CR alone.
    if !is(text.split(['\r', '\n']).next(), "BEGIN:VCALENDAR") {
        return Err(Problem::NotACalendar);
    }
    if !is(text.rsplit(['\r', '\n']).next(), "END:VCALENDAR") {
        return Err(Problem::CutOff);
    }
    let mut parser = Parser::new(text);
    let mut calendars = Vec::new();
    loop {
        match parser.entry() {
            Entry::ICalendar(calendar) => calendars.push(calendar),
            Entry::Eof => return Ok(calendars),
            _ => {}
        }
    }
}

/// The periods of VFREEBUSY components (§3.6.4): what some servers publish instead of events.
fn collect_freebusy(
    calendar: &ICalendar,
    zones: &Zones<'_>,
    found: &mut Found,
) -> Result<(), Problem> {
    let free = ICalendarParameterValue::Fbtype(ICalendarFreeBusyType::Free);
    let components = calendar.components.iter();
    for component in components.filter(|c| c.component_type == ICalendarComponentType::VFreebusy) {
        for entry in component.properties(&ICalendarProperty::Freebusy) {
            if entry.parameter(&ICalendarParameterName::Fbtype) == Some(&free) {
                continue;
            }
            for value in &entry.values {
                let ICalendarValue::Period(period) = value else { continue };
                match self::period(period, None, zones) {
                    Some((start, length)) => found.busy(length.from(&start))?,
                    None => found.unreadable += 1,
                }
            }
        }
    }
    Ok(())
}

/// A moment as a calendar writes it: a clock reading somewhere, or a day.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) local: DateTime,
    pub(super) zone: TimeZone,
    pub(super) is_date: bool,
}

impl Moment {
    pub(super) fn instant(&self) -> Timestamp {
        local_to_instant(self.local, &self.zone)
    }

    /// The same kind of moment at another clock reading.
    pub(super) fn at(&self, local: DateTime) -> Self {
        Self { local, ..self.clone() }
    }
}

/// How long an event lasts from a clock reading on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    /// On the clock: from 22:00 to 06:00 also in the night when clocks change, as calendar apps
    /// show it (RFC 5545 §3.8.5.3 has the real hours of the first occurrence instead).
    pub(super) clock: SignedDuration,
    /// After that, in real time.
    pub(super) real: SignedDuration,
}

impl Length {
    /// The time from `start` on, at least none.
    pub(super) fn from(self, start: &Moment) -> Interval {
        let end = start.at(start.local.saturating_add(self.clock)).instant();
        let end = shifted(end, self.real);
        Interval::new(start.instant(), end).unwrap_or(Interval::lasting(end, SignedDuration::ZERO))
    }
}

/// The clock reading of a value, whatever zone it is in; midnight for a date.
pub(super) fn reading(value: &PartialDateTime) -> Option<DateTime> {
    let small = |n: Option<u8>| i8::try_from(n.unwrap_or_default()).ok();
    let date =
        Date::new(i16::try_from(value.year?).ok()?, small(value.month)?, small(value.day)?).ok()?;
    // A leap second is the last of its minute.
    let second = small(value.second)?.min(59);
    Some(date.to_datetime(Time::new(small(value.hour)?, small(value.minute)?, second, 0).ok()?))
}

/// The moment of a value with this TZID; without one (and not in UTC) it is on the clock of
/// `default`, or of the practitioner.
pub(super) fn moment(
    value: &PartialDateTime,
    tzid: Option<&str>,
    default: Option<&TimeZone>,
    zones: &Zones<'_>,
) -> Option<Moment> {
    let local = reading(value)?;
    if !value.has_time() {
        return Some(Moment { local, zone: zones.own().clone(), is_date: true });
    }
    let (local, zone) = match (value.tz_hour, tzid) {
        (Some(hours), _) => {
            let seconds = i64::from(hours) * 3_600 + i64::from(value.tz_minute.unwrap_or(0)) * 60;
            let ahead = SignedDuration::from_secs(if value.tz_minus { seconds } else { -seconds });
            (local.saturating_add(ahead), TimeZone::UTC)
        }
        (None, Some(tzid)) => (local, zones.named(tzid)),
        (None, None) => (local, default.unwrap_or(zones.own()).clone()),
    };
    Some(Moment { local, zone, is_date: false })
}

/// The moment that an entry's first value is.
pub(super) fn moment_of(
    entry: &ICalendarEntry,
    default: Option<&TimeZone>,
    zones: &Zones<'_>,
) -> Option<Moment> {
    match entry.values.first()? {
        ICalendarValue::PartialDateTime(value) => moment(value, entry.tz_id(), default, zones),
        _ => None,
    }
}

/// The start and length of a period.
pub(super) fn period(
    period: &ICalendarPeriod,
    tzid: Option<&str>,
    zones: &Zones<'_>,
) -> Option<(Moment, Length)> {
    match period {
        ICalendarPeriod::Range { start, end } => {
            let (start, end) = (moment(start, tzid, None, zones)?, moment(end, tzid, None, zones)?);
            let real = end.instant().duration_since(start.instant());
            Some((start, Length { clock: SignedDuration::ZERO, real }))
        }
        ICalendarPeriod::Duration { start, duration } => {
            Some((moment(start, tzid, None, zones)?, events::length_of(duration)))
        }
    }
}
