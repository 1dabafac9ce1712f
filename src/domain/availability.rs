//! When a practitioner works: weekly hours, date overrides and holidays in the zone of each date,
//! turned into instants.
//!
//! [`Hours`] is a [`Schedule`] parsed once, valid ever after. A window start or end that falls in
//! a clock gap moves forward by the gap; a weekly range of which nothing is left by that, and all
//! hours of a date that the zone skipped, are simply not there that day. Which zone a date has and
//! which date an instant is [`super::travel`]'s rule.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::holidays::{ClosedDays, HolidayChoice};
use super::intervals;
use super::limits::Limits;
use super::schedule::{
    ProblemKind, Schedule, ScheduleProblem, in_order, is_skipped, parse_clock, parse_date,
};
use super::time::{ClockTime, Interval, date_after, local_date, local_to_instant, parse_zone};
use super::travel::Zones;

/// How far before a slot its grid can begin: within the slot's own week and the week before it,
/// and two days for clocks that moved and a journey around the world. A caller that drops past
/// busy time must keep this much (and the longest buffers) before the first instant it asks about.
pub const LOOK_BACK: SignedDuration = SignedDuration::from_hours(16 * 24);

type DayRange = (ClockTime, ClockTime);

/// The working hours of one practitioner, ready to compute with.
#[derive(Debug, Clone)]
pub struct Hours {
    zones: Zones,
    /// Index 0 is Monday.
    weekly: [Vec<DayRange>; 7],
    overrides: BTreeMap<Date, Vec<DayRange>>,
    holidays: Option<ClosedDays>,
    /// How many sessions of all services together may begin in a day or a week.
    pub limits: Limits,
}

impl Hours {
    /// Takes a stored schedule. Refuses the first field that cannot be read (unknown zone, not a
    /// clock time, end not after start, unknown weekday, not a date, unknown country); overlapping
    /// ranges, repeated dates and sizes are [`Schedule::validate`]'s concern: here they merge. Only
    /// stays must not share a date.
    pub fn new(schedule: &Schedule) -> Result<Self, ScheduleProblem> {
        let zone = parse_zone(&schedule.time_zone)
            .map_err(|_| ScheduleProblem::new("timeZone", ProblemKind::UnknownZone))?;
        let zones = Zones::read(zone, &schedule.travel)?;
        let holidays = schedule.holidays.as_ref().map(HolidayChoice::closed_days).transpose()?;
        let limits = schedule.limits.read("limits")?;
        let (weekly, overrides) = (Default::default(), BTreeMap::new());
        let mut hours = Self { zones, weekly, overrides, holidays, limits };
        for (index, range) in schedule.weekly.iter().enumerate() {
            let path = format!("weekly[{index}]");
            let day = usize::try_from(range.weekday.saturating_sub(1))
                .ok()
                .and_then(|day| hours.weekly.get_mut(day))
                .ok_or_else(|| {
                    ScheduleProblem::new(format!("{path}.weekday"), ProblemKind::NotAWeekday)
                })?;
            day.push(readable(&path, &range.start, &range.end)?);
        }
        for (index, day) in schedule.overrides.iter().enumerate() {
            let path = format!("overrides[{index}]");
            let date = parse_date(&day.date).ok_or_else(|| {
                ScheduleProblem::new(format!("{path}.date"), ProblemKind::NotADate)
            })?;
            let windows = hours.overrides.entry(date).or_default();
            for (index, window) in day.windows.iter().enumerate() {
                let path = format!("{path}.windows[{index}]");
                windows.push(readable(&path, &window.start, &window.end)?);
            }
        }
        Ok(hours)
    }

    /// Which zone each date has: dates and clock times of the rules are meant by it.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// The date that an instant belongs to: the latest in whose hours it lies, or outside of all
    /// hours, today's.
    pub fn date_of(&self, instant: Timestamp) -> Date {
        let today = self.zones.date_at(instant);
        if !self.zones.is_arrival(today) {
            return today;
        }
        let dates = (0..=2).map(|days| date_after(today, -days));
        let holds = |date: &Date| {
            let mut windows = Vec::new();
            self.windows_of(*date, &mut windows);
            windows.iter().any(|window| window.contains(instant))
        };
        dates.into_iter().find(holds).unwrap_or(today)
    }

    /// The instant at which the practitioner's clock shows, `days` dates after that of `start`, what
    /// it shows at `start`. Like all clock times it is read in the zone of its own date.
    pub fn days_later(&self, start: Timestamp, days: i32) -> Timestamp {
        let date = self.date_of(start);
        let clock = self.zones.of(date).to_datetime(start);
        let local = date_after(clock.date(), days).to_datetime(clock.time());
        local_to_instant(local, self.zones.of(date_after(date, days)))
    }

    /// The real time inside `range` that is open, sorted and merged where windows touch.
    pub fn open_windows(&self, range: Interval) -> Vec<Interval> {
        let whole = self.whole_windows(range.start(), range.end());
        intervals::intersect(&whole, &[range])
    }

    /// Every open window that meets `[from, until)`, not clipped to it. One that began before the
    /// day before `from` may come without its beginning.
    pub(super) fn whole_windows(&self, from: Timestamp, until: Timestamp) -> Vec<Interval> {
        // Zones are less than a day from Greenwich, and a gap can push a window into the next date.
        let mut date = date_after(local_date(from, &TimeZone::UTC), -2);
        let last = date_after(local_date(until, &TimeZone::UTC), 1);
        let mut windows = Vec::new();
        while date <= last {
            self.windows_of(date, &mut windows);
            let next = date_after(date, 1);
            if next == date {
                break; // The last date that the calendar has.
            }
            date = next;
        }
        intervals::union(windows)
    }

    fn windows_of(&self, date: Date, windows: &mut Vec<Interval>) {
        let Some(ranges) = self.ranges_of(date).filter(|ranges| !ranges.is_empty()) else { return };
        let zone = self.zones.of(date);
        if is_skipped(date, zone) {
            return;
        }
        for (start, end) in ranges {
            windows.extend(Interval::new(start.instant_on(date, zone), end.instant_on(date, zone)));
        }
    }

    fn ranges_of(&self, date: Date) -> Option<&Vec<DayRange>> {
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        let own = self.overrides.get(&date);
        own.or_else(|| self.weekly.get(weekday).filter(|_| !self.is_closed_by_holiday(date)))
    }

    fn is_closed_by_holiday(&self, date: Date) -> bool {
        let holiday = self.holidays.as_ref().is_some_and(|closed| closed.contains(date));
        holiday && !self.overrides.contains_key(&date)
    }

    /// The same hours as if no holiday were kept; `None` when none are.
    pub(super) fn without_holidays(&self) -> Option<Self> {
        self.holidays.as_ref()?;
        Some(Self { holidays: None, ..self.clone() })
    }

    /// The holiday without which all of `wanted` would be in one open window: its date and name.
    pub(super) fn holiday_in_the_way(&self, wanted: Interval) -> Option<(Date, &'static str)> {
        let closed = self.holidays.as_ref()?;
        let open = self.without_holidays()?;
        let windows = open.whole_windows(wanted.start(), wanted.end());
        if !windows.iter().any(|window| window.covers(&wanted)) {
            return None;
        }
        let around = date_after(self.zones.date_at(wanted.start()), -2);
        (0..6).map(|days| date_after(around, days)).find_map(|date| {
            let mut of_date = Vec::new();
            open.windows_of(date, &mut of_date);
            let meets = of_date.iter().any(|window| window.overlaps(&wanted));
            let name = closed.name(date).filter(|_| self.is_closed_by_holiday(date) && meets);
            name.map(|name| (date, name))
        })
    }

    /// The date that `instant` belongs to for limits, the latest that has begun, and its time until
    /// the next one begins, so that dates follow one another whatever clocks and journeys do.
    pub(super) fn day_of(&self, instant: Timestamp) -> (Date, Interval) {
        let mut date = self.zones.date_at(instant);
        // The repeated minutes before a midnight that clocks fall back over are the new date's.
        for _ in 0..2 {
            if self.zones.start_of(date_after(date, 1)) <= instant {
                date = date_after(date, 1);
            }
        }
        (date, self.dates(date, 1))
    }

    /// The time of the ISO week (from Monday) of a date.
    pub(super) fn week_of(&self, date: Date) -> Interval {
        let since_monday = i32::from(date.weekday().since(Weekday::Monday));
        self.dates(date_after(date, -since_monday), 7)
    }

    /// The time from the start of one date to that of the date so many later.
    fn dates(&self, first: Date, count: i32) -> Interval {
        let start = self.zones.start_of(first);
        let end = self.zones.start_of(date_after(first, count));
        Interval::lasting(start, end.duration_since(start))
    }

    /// The starts of local weeks (Monday 00:00) from two weeks before `from` to `until`, so that
    /// the first two are at or before `from`'s own Monday.
    pub(super) fn week_starts(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let date = self.zones.date_at(from);
        let since_monday = i32::from(date.weekday().since(Weekday::Monday));
        let mut monday = date_after(date, -since_monday - 7);
        let mut starts = Vec::new();
        while starts.len() < 2 || starts.last().is_some_and(|start| *start < until) {
            starts.push(self.zones.start_of(monday));
            let next = date_after(monday, 7);
            if next == monday {
                break; // The last date that the calendar has.
            }
            monday = next;
        }
        starts
    }
}

fn readable(path: &str, start: &str, end: &str) -> Result<DayRange, ScheduleProblem> {
    in_order(path, parse_clock(path, "start", start)?, parse_clock(path, "end", end)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::minutes;

    /// Hours from lines such as `7 02:30-09:30` (weekly) and `2026-06-17 14:00-18:00` (a date).
    fn hours(zone: &str, lines: &[&str]) -> Hours {
        let (mut weekly, mut overrides) = (Vec::new(), Vec::new());
        for line in lines {
            let (day, range) = line.split_once(' ').unwrap();
            let window = range
                .split_once('-')
                .map(|(start, end)| serde_json::json!({"start": start, "end": end}));
            match day.parse::<u8>() {
                Ok(weekday) => {
                    let mut window = window.unwrap();
                    window["weekday"] = weekday.into();
                    weekly.push(window);
                }
                Err(_) => overrides.push(
                    serde_json::json!({"date": day, "windows": window.into_iter().collect::<Vec<_>>()}),
                ),
            }
        }
        let schedule =
            serde_json::json!({"timeZone": zone, "weekly": weekly, "overrides": overrides});
        Hours::new(&serde_json::from_value(schedule).unwrap()).unwrap()
    }

    fn windows(hours: &Hours, from: &str, to: &str) -> Vec<String> {
        let range = Interval::new(from.parse().unwrap(), to.parse().unwrap()).unwrap();
        hours.open_windows(range).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_that_meet_at_midnight_are_one_window() {
        let night = hours("Asia/Kolkata", &["1 20:00-24:00", "2 00:00-02:00"]);
        assert_eq!(
            windows(&night, "2026-06-15T00:00:00Z", "2026-06-17T00:00:00Z"),
            ["2026-06-15T14:30:00Z/2026-06-15T20:30:00Z"]
        );
    }

    #[test]
    fn windows_are_clipped_to_the_range() {
        let day = hours("UTC", &["1 09:00-17:00"]);
        assert_eq!(
            windows(&day, "2026-06-15T10:00:30Z", "2026-06-15T12:00:00Z"),
            ["2026-06-15T10:00:30Z/2026-06-15T12:00:00Z"]
        );
        let nothing: [&str; 0] = [];
        assert_eq!(windows(&day, "2026-06-15T10:00:00Z", "2026-06-15T10:00:00Z"), nothing);
    }

    #[test]
    fn a_date_with_its_own_hours_ignores_the_weekly_ones() {
        let lines = ["3 09:00-12:00", "2026-06-17 14:00-15:00", "2026-06-24 closed"];
        let week = hours("UTC", &lines);
        assert_eq!(
            windows(&week, "2026-06-15T00:00:00Z", "2026-07-02T00:00:00Z"),
            [
                "2026-06-17T14:00:00Z/2026-06-17T15:00:00Z",
                "2026-07-01T09:00:00Z/2026-07-01T12:00:00Z"
            ]
        );
    }

    #[test]
    fn days_of_23_and_25_hours() {
        let day = hours("America/New_York", &["7 00:00-24:00"]);
        let length = |from: &str, to: &str| {
            let range = Interval::new(from.parse().unwrap(), to.parse().unwrap()).unwrap();
            let found = day.open_windows(range);
            assert_eq!(found.len(), 1);
            found[0].end().duration_since(found[0].start())
        };
        assert_eq!(length("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z"), minutes(23 * 60));
        assert_eq!(length("2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"), minutes(25 * 60));
        let half = hours("Australia/Lord_Howe", &["7 00:00-24:00"]);
        assert_eq!(
            windows(&half, "2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z"),
            ["2026-10-03T13:30:00Z/2026-10-04T13:00:00Z"] // 23.5 hours
        );
    }

    #[test]
    fn ends_in_a_gap_move_forward() {
        // 02:00 to 03:00 does not exist on 2026-03-08.
        let cases = [
            ("7 02:30-09:30", vec!["2026-03-08T07:30:00Z/2026-03-08T13:30:00Z"]),
            ("7 01:00-02:30", vec!["2026-03-08T06:00:00Z/2026-03-08T07:30:00Z"]),
            ("7 02:10-02:40", vec!["2026-03-08T07:10:00Z/2026-03-08T07:40:00Z"]),
            ("7 02:30-03:00", vec![]),
        ];
        for (line, expected) in cases {
            let found = windows(
                &hours("America/New_York", &[line]),
                "2026-03-08T00:00:00Z",
                "2026-03-09T00:00:00Z",
            );
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn midnight_itself_can_be_in_a_gap() {
        // Sao Paulo went from 2018-11-03 24:00 straight to 2018-11-04 01:00.
        let night = hours("America/Sao_Paulo", &["6 22:00-24:00", "7 00:00-02:00"]);
        assert_eq!(
            windows(&night, "2018-11-03T00:00:00Z", "2018-11-05T00:00:00Z"),
            ["2018-11-04T01:00:00Z/2018-11-04T04:00:00Z"]
        );
    }

    #[test]
    fn a_skipped_date_has_no_hours() {
        // Samoa went from Thursday 2011-12-29 to Saturday 2011-12-31.
        let week = hours("Pacific/Apia", &["4 09:00-24:00", "5 00:00-17:00", "6 09:00-10:00"]);
        assert_eq!(
            windows(&week, "2011-12-28T00:00:00Z", "2012-01-01T00:00:00Z"),
            [
                "2011-12-29T19:00:00Z/2011-12-30T10:00:00Z",
                "2011-12-30T19:00:00Z/2011-12-30T20:00:00Z"
            ]
        );
    }

    #[test]
    fn hours_refuse_what_they_cannot_read() {
        let schedule = |json: &str| serde_json::from_str::<Schedule>(json).unwrap();
        let cases = [
            (r#"{"timeZone":"nowhere"}"#, "timeZone"),
            (
                r#"{"timeZone":"UTC","weekly":[{"weekday":8,"start":"09:00","end":"10:00"}]}"#,
                "weekly[0].weekday",
            ),
            (
                r#"{"timeZone":"UTC","weekly":[{"weekday":-9,"start":"09:00","end":"10:00"}]}"#,
                "weekly[0].weekday",
            ),
            (
                r#"{"timeZone":"UTC","weekly":[{"weekday":1,"start":"09:00","end":"09:00"}]}"#,
                "weekly[0].end",
            ),
            (
                r#"{"timeZone":"UTC","overrides":[{"date":"2026-02-30","windows":[]}]}"#,
                "overrides[0].date",
            ),
        ];
        for (json, field) in cases {
            assert_eq!(Hours::new(&schedule(json)).unwrap_err().field, field);
        }
    }

    #[test]
    fn the_ends_of_time_do_not_hang() {
        let always = hours("Asia/Kolkata", &["1 00:00-24:00"]);
        let end = Interval::new(Timestamp::MAX, Timestamp::MAX).unwrap();
        assert_eq!(always.open_windows(end), []);
        let start = Interval::new(Timestamp::MIN, Timestamp::MIN).unwrap();
        assert_eq!(always.open_windows(start), []);
        assert!(!always.week_starts(Timestamp::MAX, Timestamp::MAX).is_empty());
    }
}
