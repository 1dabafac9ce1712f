//! A practitioner's schedule as it is stored and sent: the JSON of `practitioners.availability`
//! and of `PUT …/availability`. Texts stay texts here so that [`Schedule::validate`] can name
//! every wrong field at once; computing with a schedule is `availability`'s.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::holidays::{self, HolidayChoice};
use super::limits::{self, MAX_LIMIT, ScheduleLimits};
use super::time::{ClockError, ClockTime, date_after, parse_zone, read_zone, start_of_date};
use super::travel::{self, Stay, Zones};

/// The most weekly ranges, over all weekdays, that a schedule may have.
pub const MAX_WEEKLY: usize = 64;
/// The most dates with hours of their own that a schedule may have.
pub const MAX_OVERRIDES: usize = 400;
/// The most windows on one such date.
pub const MAX_WINDOWS: usize = 24;

/// Weekly hours and the dates that differ from them, in the practitioner's zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// IANA name; all clock times and dates below are in it, except on dates of `travel`.
    #[serde(deserialize_with = "read_zone")]
    pub time_zone: String,
    #[serde(default)]
    pub weekly: Vec<WeeklyRange>,
    #[serde(default)]
    pub overrides: Vec<DateOverride>,
    /// Dates on which the practitioner is in another zone; see `travel` for what that means. Not
    /// written when there are none, so that a node of an older version can read the schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub travel: Vec<Stay>,
    /// Closed on public holidays, unless the date has an override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holidays: Option<HolidayChoice>,
    /// How many sessions of all services together may begin in a day or a week.
    #[serde(
        default,
        deserialize_with = "limits::or_none",
        skip_serializing_if = "ScheduleLimits::is_empty"
    )]
    pub limits: ScheduleLimits,
}

/// Open every week on one weekday. Hours past midnight are two ranges, one that ends at `24:00`
/// and one of the next weekday that starts at `00:00`; they are open without a break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeeklyRange {
    /// ISO weekday, Monday 1 to Sunday 7.
    pub weekday: i64,
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`, or `24:00` for the end of the day.
    pub end: String,
}

/// The hours of one date, instead of all weekly hours of that date. No windows means closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DateOverride {
    /// `YYYY-MM-DD` where the practitioner is on that date.
    pub date: String,
    pub windows: Vec<ClockRange>,
}

/// Part of one local day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClockRange {
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`, or `24:00` for the end of the day.
    pub end: String,
}

/// One thing wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleProblem {
    /// Path in the JSON, such as `weekly[3].end`.
    pub field: String,
    pub kind: ProblemKind,
}

impl ScheduleProblem {
    pub(super) fn new(field: impl Into<String>, kind: ProblemKind) -> Self {
        Self { field: field.into(), kind }
    }
}

impl fmt::Display for ScheduleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.kind)
    }
}

impl std::error::Error for ScheduleProblem {}

/// What is wrong; its `Display` is a line for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    UnknownZone,
    NotAWeekday,
    NotAClock,
    NotWholeMinutes,
    NotADate,
    EndNotAfterStart,
    /// Shares time with an earlier range of the same day.
    Overlap,
    DuplicateDate,
    TooMany {
        limit: usize,
    },
    /// The zone went from the day before to the day after (Pacific/Apia had no 2011-12-30).
    DateSkipped,
    /// Clocks jump over its start on that date, and what is left of the window is nothing.
    EmptiedByGap,
    /// A stay that ends before it begins.
    EndBeforeFrom,
    /// A stay of too many dates.
    TooLong {
        days: i32,
    },
    /// A stay on dates of an earlier one.
    SharedDate,
    UnknownCountry,
    UnknownRegion {
        country: &'static str,
    },
    /// The opt-out of a holiday is on a date that is none.
    NotAHoliday,
    NotALimit,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownZone => f.write_str("must be an IANA time zone such as Asia/Kolkata"),
            Self::NotAWeekday => f.write_str("must be 1 (Monday) to 7 (Sunday)"),
            Self::NotAClock => f.write_str("must be a time HH:MM from 00:00 to 24:00"),
            Self::NotWholeMinutes => f.write_str("must be in whole minutes, without seconds"),
            Self::NotADate => f.write_str("must be a date YYYY-MM-DD"),
            Self::EndNotAfterStart => f.write_str(
                "must be after the start; hours past midnight are two ranges, to 24:00 and from 00:00 of the next day",
            ),
            Self::Overlap => f.write_str("overlaps another range of the same day"),
            Self::DuplicateDate => f.write_str("this date is already listed"),
            Self::TooMany { limit } => write!(f, "at most {limit} entries"),
            Self::DateSkipped => f.write_str("this date does not exist in the time zone"),
            Self::EmptiedByGap => {
                f.write_str("clocks jump over this time on that date and nothing of the window is left")
            }
            Self::EndBeforeFrom => f.write_str("must not be before from"),
            Self::TooLong { days } => write!(f, "must be less than {days} days after from"),
            Self::SharedDate => f.write_str("has a date in common with an earlier stay"),
            Self::UnknownCountry => {
                let codes: Vec<_> = holidays::countries().collect();
                write!(f, "must be one of {}", codes.join(", "))
            }
            Self::UnknownRegion { country } => {
                match holidays::country(country).map(holidays::Country::regions) {
                    None | Some([]) => f.write_str("this country has no regions here"),
                    Some(regions) => write!(f, "must be one of {}", regions.join(", ")),
                }
            }
            Self::NotAHoliday => {
                f.write_str("is no public holiday there; GET /v1/holidays lists them")
            }
            Self::NotALimit => write!(f, "must be 1 to {MAX_LIMIT}"),
        }
    }
}

impl Schedule {
    /// Everything wrong with the schedule, in the order of its fields; empty when it may be stored.
    ///
    /// A start or end in a clock gap is allowed and moves forward by the gap. What remains refused
    /// is a date window of which nothing is left by that (02:30 to 03:00 on a day that has no
    /// 02:30: the start becomes 03:30), and a date that the zone skipped, since the practitioner
    /// would wait in vain. A weekly range has merely no hours on such a day.
    pub fn validate(&self) -> Vec<ScheduleProblem> {
        let mut problems = Vec::new();
        let zone = parse_zone(&self.time_zone).ok();
        if zone.is_none() {
            problems.push(ScheduleProblem::new("timeZone", ProblemKind::UnknownZone));
        }
        self.validate_weekly(&mut problems);
        // The zone of each override's date, so the stays are read first and told of after it.
        let mut of_travel = Vec::new();
        let stays = travel::validate(&self.travel, &mut of_travel);
        let zones = zone.map(|home| Zones::new(home, stays));
        self.validate_overrides(zones.as_ref(), &mut problems);
        problems.append(&mut of_travel);
        if let Some(choice) = &self.holidays {
            choice.validate(&mut problems);
        }
        self.limits.validate("limits", &mut problems);
        problems
    }

    fn validate_weekly(&self, problems: &mut Vec<ScheduleProblem>) {
        if self.weekly.len() > MAX_WEEKLY {
            let kind = ProblemKind::TooMany { limit: MAX_WEEKLY };
            problems.push(ScheduleProblem::new("weekly", kind));
        }
        let mut seen = Vec::new();
        for (index, range) in self.weekly.iter().take(MAX_WEEKLY).enumerate() {
            let path = format!("weekly[{index}]");
            if !(1..=7).contains(&range.weekday) {
                let field = format!("{path}.weekday");
                problems.push(ScheduleProblem::new(field, ProblemKind::NotAWeekday));
            }
            match parse_range(&path, &range.start, &range.end) {
                Ok(hours) => note_overlap(path, range.weekday, hours, &mut seen, problems),
                Err(mut found) => problems.append(&mut found),
            }
        }
    }

    fn validate_overrides(&self, zones: Option<&Zones>, problems: &mut Vec<ScheduleProblem>) {
        if self.overrides.len() > MAX_OVERRIDES {
            let kind = ProblemKind::TooMany { limit: MAX_OVERRIDES };
            problems.push(ScheduleProblem::new("overrides", kind));
        }
        let mut dates = BTreeSet::new();
        for (index, day) in self.overrides.iter().take(MAX_OVERRIDES).enumerate() {
            let field = format!("overrides[{index}].date");
            let date = parse_date(&day.date);
            let zone = date.zip(zones).map(|(date, zones)| zones.of(date));
            let kind = match (date, zone) {
                (None, _) => Some(ProblemKind::NotADate),
                (Some(date), _) if !dates.insert(date) => Some(ProblemKind::DuplicateDate),
                (Some(date), Some(zone)) if is_skipped(date, zone) => {
                    Some(ProblemKind::DateSkipped)
                }
                _ => None,
            };
            problems.extend(kind.map(|kind| ScheduleProblem::new(field, kind)));
            let usable = if kind.is_none() { date.zip(zone) } else { None };
            day.validate_windows(&format!("overrides[{index}].windows"), usable, problems);
        }
    }
}

impl DateOverride {
    /// `usable` is the date with its zone when both are known to be good.
    fn validate_windows(
        &self,
        path: &str,
        usable: Option<(Date, &TimeZone)>,
        problems: &mut Vec<ScheduleProblem>,
    ) {
        if self.windows.len() > MAX_WINDOWS {
            let kind = ProblemKind::TooMany { limit: MAX_WINDOWS };
            problems.push(ScheduleProblem::new(path, kind));
        }
        let mut seen = Vec::new();
        for (index, window) in self.windows.iter().take(MAX_WINDOWS).enumerate() {
            let path = format!("{path}[{index}]");
            let (start, end) = match parse_range(&path, &window.start, &window.end) {
                Ok(hours) => hours,
                Err(mut found) => {
                    problems.append(&mut found);
                    continue;
                }
            };
            if let Some((date, zone)) = usable
                && end.instant_on(date, zone) <= start.instant_on(date, zone)
            {
                let field = format!("{path}.start");
                problems.push(ScheduleProblem::new(field, ProblemKind::EmptiedByGap));
            }
            note_overlap(path, 0, (start, end), &mut seen, problems);
        }
    }
}

/// Whether calendars in the zone never showed this date.
pub(super) fn is_skipped(date: Date, zone: &TimeZone) -> bool {
    start_of_date(date, zone) >= start_of_date(date_after(date, 1), zone)
}

/// Takes exactly `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    (date.to_string() == text).then_some(date)
}

/// The two clock times, or all that is wrong with them under the given path.
fn parse_range(
    path: &str,
    start: &str,
    end: &str,
) -> Result<(ClockTime, ClockTime), Vec<ScheduleProblem>> {
    match (parse_clock(path, "start", start), parse_clock(path, "end", end)) {
        (Ok(start), Ok(end)) => in_order(path, start, end).map_err(|problem| vec![problem]),
        (start, end) => Err(start.err().into_iter().chain(end.err()).collect()),
    }
}

/// A clock time, or what is wrong with it as field `name` under `path`.
pub(super) fn parse_clock(
    path: &str,
    name: &str,
    text: &str,
) -> Result<ClockTime, ScheduleProblem> {
    ClockTime::parse(text).map_err(|error| {
        let kind = match error {
            ClockError::NotAClock => ProblemKind::NotAClock,
            ClockError::NotWholeMinutes => ProblemKind::NotWholeMinutes,
        };
        ScheduleProblem::new(format!("{path}.{name}"), kind)
    })
}

/// Refuses a range that is empty or backwards.
pub(super) fn in_order(
    path: &str,
    start: ClockTime,
    end: ClockTime,
) -> Result<(ClockTime, ClockTime), ScheduleProblem> {
    if start < end {
        return Ok((start, end));
    }
    Err(ScheduleProblem::new(format!("{path}.end"), ProblemKind::EndNotAfterStart))
}

type DayHours = (i64, ClockTime, ClockTime);

fn note_overlap(
    path: String,
    day: i64,
    (start, end): (ClockTime, ClockTime),
    seen: &mut Vec<DayHours>,
    problems: &mut Vec<ScheduleProblem>,
) {
    if seen.iter().any(|(d, s, e)| *d == day && *s < end && start < *e) {
        problems.push(ScheduleProblem::new(path, ProblemKind::Overlap));
    }
    seen.push((day, start, end));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: &str) -> Vec<String> {
        let schedule: Schedule = serde_json::from_str(json).unwrap();
        schedule.validate().iter().map(ToString::to_string).collect()
    }

    fn fields(json: &str) -> Vec<(String, ProblemKind)> {
        let schedule: Schedule = serde_json::from_str(json).unwrap();
        schedule.validate().into_iter().map(|p| (p.field, p.kind)).collect()
    }

    #[test]
    fn a_good_schedule_has_no_problems_and_survives_a_round_trip() {
        let json = r#"{"timeZone":"Asia/Kolkata",
            "weekly":[{"weekday":1,"start":"20:00","end":"24:00"},{"weekday":2,"start":"00:00","end":"02:00"},
                      {"weekday":2,"start":"02:00","end":"03:00"}],
            "overrides":[{"date":"2026-06-17","windows":[]},
                         {"date":"2026-06-18","windows":[{"start":"14:00","end":"18:00"}]}]}"#;
        assert_eq!(problems(json), Vec::<String>::new());
        let schedule: Schedule = serde_json::from_str(json).unwrap();
        let again = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&again).unwrap(), schedule);
        assert!(again.starts_with(r#"{"timeZone":"Asia/Kolkata","weekly":"#), "{again}");
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        for json in [
            r#"{"timeZone":"UTC","hours":[]}"#,
            r#"{"timeZone":"UTC","weekly":[{"weekday":1,"start":"09:00","end":"10:00","hours":1}]}"#,
        ] {
            let error = serde_json::from_str::<Schedule>(json).unwrap_err().to_string();
            assert!(error.contains("`hours`"), "{error}");
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let json = r#"{"timeZone":"Mars/Olympus",
            "weekly":[{"weekday":0,"start":"09:00","end":"10:00"},
                      {"weekday":1,"start":"25:00","end":"9"},
                      {"weekday":1,"start":"09:00","end":"09:00"},
                      {"weekday":1,"start":"22:00","end":"02:00"},
                      {"weekday":2,"start":"09:00:30","end":"12:00"},
                      {"weekday":3,"start":"09:00","end":"12:00"},
                      {"weekday":3,"start":"11:00","end":"13:00"}],
            "overrides":[{"date":"17.6.2026","windows":[]},
                         {"date":"2026-06-17","windows":[]},
                         {"date":"2026-06-17","windows":[{"start":"10:00","end":"08:00"}]}]}"#;
        use ProblemKind::*;
        let expected = [
            ("timeZone", UnknownZone),
            ("weekly[0].weekday", NotAWeekday),
            ("weekly[1].start", NotAClock),
            ("weekly[1].end", NotAClock),
            ("weekly[2].end", EndNotAfterStart),
            ("weekly[3].end", EndNotAfterStart),
            ("weekly[4].start", NotWholeMinutes),
            ("weekly[6]", Overlap),
            ("overrides[0].date", NotADate),
            ("overrides[2].date", DuplicateDate),
            ("overrides[2].windows[0].end", EndNotAfterStart),
        ];
        let expected: Vec<_> = expected.map(|(f, k)| (f.to_owned(), k)).into();
        assert_eq!(fields(json), expected);
    }

    #[test]
    fn a_window_that_a_gap_empties_is_refused() {
        let day = |windows: &str| {
            format!(
                r#"{{"timeZone":"America/New_York","overrides":[{{"date":"2026-03-08","windows":[{windows}]}}]}}"#
            )
        };
        // 02:30 becomes 03:30, so that nothing is left until 03:00 or 03:30.
        for end in ["03:00", "03:30"] {
            let found = fields(&day(&format!(r#"{{"start":"02:30","end":"{end}"}}"#)));
            let expected = ("overrides[0].windows[0].start".to_owned(), ProblemKind::EmptiedByGap);
            assert_eq!(found, [expected]);
        }
        // Both ends in the gap move together: 02:10-02:40 is 03:10-03:40.
        assert_eq!(fields(&day(r#"{"start":"02:10","end":"02:40"}"#)), []);
    }

    #[test]
    fn a_date_that_the_zone_skipped_is_refused() {
        let json = r#"{"timeZone":"Pacific/Apia","overrides":[
            {"date":"2011-12-30","windows":[{"start":"09:00","end":"10:00"}]}]}"#;
        assert_eq!(fields(json), [("overrides[0].date".to_owned(), ProblemKind::DateSkipped)]);
    }

    #[test]
    fn sizes_are_bounded() {
        let mut schedule = Schedule { time_zone: "UTC".to_owned(), ..Schedule::default() };
        let range = WeeklyRange { weekday: 1, start: "09:00".to_owned(), end: "10:00".to_owned() };
        schedule.weekly = (0..=MAX_WEEKLY).map(|_| range.clone()).collect();
        let first = schedule.validate().remove(0);
        assert_eq!(first.to_string(), "weekly: at most 64 entries");
        schedule.weekly.clear();
        let windows =
            (0..=MAX_WINDOWS).map(|_| ClockRange { start: "09:00".into(), end: "10:00".into() });
        schedule.overrides =
            vec![DateOverride { date: "2026-01-01".to_owned(), windows: windows.collect() }];
        assert_eq!(schedule.validate()[0].field, "overrides[0].windows");
        let day = DateOverride { date: "2026-01-01".to_owned(), windows: Vec::new() };
        schedule.overrides = vec![day; MAX_OVERRIDES + 1];
        assert_eq!(schedule.validate()[0].field, "overrides");
    }
}
