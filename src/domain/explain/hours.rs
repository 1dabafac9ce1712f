//! The parts of a case that are parts of a schedule, under a case's names.

use serde::Deserialize;

use crate::domain::schedule::{ClockRange, DateOverride, WeeklyRange};
use crate::domain::travel::Stay;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CaseWeekly {
    weekday: i64,
    start: String,
    end: String,
}

impl From<&CaseWeekly> for WeeklyRange {
    fn from(range: &CaseWeekly) -> Self {
        Self { weekday: range.weekday, start: range.start.clone(), end: range.end.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CaseOverride {
    date: String,
    windows: Vec<CaseWindow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct CaseWindow {
    start: String,
    end: String,
}

impl From<&CaseOverride> for DateOverride {
    fn from(day: &CaseOverride) -> Self {
        let window = |w: &CaseWindow| ClockRange { start: w.start.clone(), end: w.end.clone() };
        Self { date: day.date.clone(), windows: day.windows.iter().map(window).collect() }
    }
}

/// From one date to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CaseStay {
    from: String,
    to: String,
    timezone: String,
}

impl From<&CaseStay> for Stay {
    fn from(stay: &CaseStay) -> Self {
        let (from, to) = (stay.from.clone(), stay.to.clone());
        Self { from, to, time_zone: stay.timezone.clone() }
    }
}

/// The case's name for a field of a schedule.
pub(super) fn name_in_case(field: &str) -> String {
    match field.strip_prefix("weekly") {
        Some(rest) => format!("weekly_hours{rest}"),
        None => field.replace("timeZone", "timezone"),
    }
}
