//! How many sessions may begin in one day or one week, of one service or of a practitioner.
//!
//! Days and ISO weeks (from Monday) are local dates of the practitioner, and a session belongs to
//! the one in which it begins. Counted are sessions that stand or took place: holds, requests,
//! bookings, running, completed and missed ones. Whoever comes to the same service at the same time
//! shares a session. What was called off, declined, expired or given back does not count.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::availability::Hours;
use super::busy::{BusyKind, BusySet, Viewpoint};
use super::rules::SlotRules;
use super::schedule::{ProblemKind, ScheduleProblem};
use super::time::Interval;

/// The highest limit that can be set; without one there is none.
pub const MAX_LIMIT: i64 = 1_000;

/// At most so many sessions; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    per_day: Option<NonZeroU16>,
    per_week: Option<NonZeroU16>,
}

impl Limits {
    /// Takes 1 to [`MAX_LIMIT`] sessions each. Refuses other numbers by the name of the field,
    /// `per_day` or `per_week`.
    pub fn new(per_day: Option<i64>, per_week: Option<i64>) -> Result<Self, &'static str> {
        let read = |field, value: Option<i64>| match value {
            None => Ok(None),
            Some(value) => {
                let value = u16::try_from(value).ok().filter(|v| i64::from(*v) <= MAX_LIMIT);
                value.and_then(NonZeroU16::new).map(Some).ok_or(field)
            }
        };
        Ok(Self { per_day: read("per_day", per_day)?, per_week: read("per_week", per_week)? })
    }
}

/// [`Limits`] as they stand in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_week: Option<i64>,
}

impl ScheduleLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The limits, or the first field below `path` that is none.
    pub(super) fn read(self, path: &str) -> Result<Limits, ScheduleProblem> {
        Limits::new(self.per_day, self.per_week).map_err(|field| {
            let name = if field == "per_day" { "perDay" } else { "perWeek" };
            ScheduleProblem::new(format!("{path}.{name}"), ProblemKind::NotALimit)
        })
    }

    /// Adds what is wrong with each field.
    pub(super) fn validate(self, path: &str, problems: &mut Vec<ScheduleProblem>) {
        let day = Self { per_week: None, ..self };
        let week = Self { per_day: None, ..self };
        problems.extend([day, week].into_iter().filter_map(|one| one.read(path).err()));
    }
}

/// Reads limits; null is none of them.
pub(super) fn or_none<'de, D: Deserializer<'de>>(input: D) -> Result<ScheduleLimits, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// One limit, as it meets one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Counts only sessions of the service that is asked about.
    pub of_service: bool,
    /// How many sessions may begin in `span`.
    pub at_most: u16,
    /// The local day or week.
    pub span: Interval,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.of_service { "of this service" } else { "of the practitioner" };
        let Self { at_most, span, .. } = self;
        write!(f, "as many sessions {whose} as may begin in {span} are there already: {at_most}")
    }
}

/// The limits that a session beginning at `start` has to fit into.
pub fn limits_at(hours: &Hours, rules: &SlotRules, start: Timestamp) -> Vec<Limit> {
    if [hours.limits, rules.limits] == [Limits::default(); 2] {
        return Vec::new();
    }
    let (date, day) = hours.day_of(start);
    let week = hours.week_of(date);
    let both = [(true, rules.limits), (false, hours.limits)];
    let all = both.into_iter().flat_map(|(of_service, limits)| {
        [(limits.per_day, day), (limits.per_week, week)]
            .map(|(most, span)| most.map(|most| Limit { of_service, at_most: most.get(), span }))
    });
    all.flatten().collect()
}

/// What a session is known by: its service and its start.
type Session = (u128, Timestamp);

/// The sessions that `limit` counts, and whether each still stands.
fn counted(
    busy: &BusySet,
    limit: Limit,
    service: u128,
    view: Viewpoint,
) -> BTreeMap<Session, bool> {
    let mut sessions = BTreeMap::new();
    for item in busy.overlapping(limit.span).filter(|item| view.counts(item)) {
        let (start, Some(of)) = (item.time().start(), item.service()) else { continue };
        if limit.span.contains(start) && (!limit.of_service || of == service) {
            *sessions.entry((of, start)).or_default() |= item.kind() != BusyKind::Counted;
        }
    }
    sessions
}

/// Looks for room at one start after another, counting each day once.
pub(super) struct Room<'a> {
    hours: &'a Hours,
    rules: &'a SlotRules,
    busy: &'a BusySet,
    view: Viewpoint,
    /// The day of the last start, and what its limits count.
    day: Option<Interval>,
    filled: Vec<(Limit, BTreeMap<Session, bool>)>,
}

impl<'a> Room<'a> {
    pub(super) fn new(
        hours: &'a Hours,
        rules: &'a SlotRules,
        busy: &'a BusySet,
        view: Viewpoint,
    ) -> Self {
        Self { hours, rules, busy, view, day: None, filled: Vec::new() }
    }

    /// The limit that has no room for a session at `start`, if there is one.
    pub(super) fn missing_at(&mut self, start: Timestamp) -> Option<Limit> {
        if !self.day.is_some_and(|day| day.contains(start)) {
            let limits = limits_at(self.hours, self.rules, start);
            self.day = Some(self.hours.day_of(start).1);
            let of = |limit| counted(self.busy, limit, self.rules.service, self.view);
            self.filled = limits.into_iter().map(|limit| (limit, of(limit))).collect();
        }
        let session = (self.rules.service, start);
        let full = self.filled.iter().find(|(limit, sessions)| {
            // Who joins a session that stands needs no place for another one.
            let joins = sessions.get(&session).is_some_and(|stands| *stands);
            sessions.len() - usize::from(joins) >= usize::from(limit.at_most)
        });
        full.map(|(limit, _)| *limit)
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_unlimited(&self) -> bool {
        [self.hours.limits, self.rules.limits] == [Limits::default(); 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(json: &str) -> Result<Hours, ScheduleProblem> {
        Hours::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn limits_are_one_to_a_thousand() {
        assert!(Limits::new(Some(1), Some(MAX_LIMIT)).is_ok());
        for bad in [0, -1, MAX_LIMIT + 1, i64::MAX] {
            assert_eq!(Limits::new(Some(bad), None), Err("per_day"));
            assert_eq!(Limits::new(Some(1), Some(bad)), Err("per_week"));
        }
        let bad = r#"{"timeZone":"UTC","limits":{"perDay":0,"perWeek":1001}}"#;
        let schedule: crate::domain::schedule::Schedule = serde_json::from_str(bad).unwrap();
        let fields: Vec<_> = schedule.validate().into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["limits.perDay", "limits.perWeek"]);
        assert_eq!(hours(bad).unwrap_err().field, "limits.perDay");
    }

    /// Each instant belongs to one day, and days follow one another, also where clocks fall back
    /// over midnight (St. John's until 2011, Havana), jump over it, or skip a date.
    #[test]
    fn days_and_weeks_cover_time_without_a_gap() {
        for (zone, from) in [
            ("America/St_Johns", "2010-11-05T00:00:00Z"),
            ("America/Havana", "2026-10-30T00:00:00Z"),
            ("America/Sao_Paulo", "2018-11-02T00:00:00Z"),
            ("Pacific/Apia", "2011-12-28T00:00:00Z"),
            ("Asia/Kolkata", "2026-06-13T00:00:00Z"),
        ] {
            let hours = hours(&format!(r#"{{"timeZone":"{zone}"}}"#)).unwrap();
            let from: Timestamp = from.parse().unwrap();
            let mut last: Option<Interval> = None;
            for minute in 0..5 * 24 * 60 {
                let at = crate::domain::time::shifted(from, crate::domain::time::minutes(minute));
                let (date, day) = hours.day_of(at);
                assert!(day.contains(at), "{zone} {at}: {date} is {day}");
                assert_eq!(day.start(), hours.zones().start_of(date));
                let week = hours.week_of(date);
                assert!(week.covers(&day), "{zone} {at}");
                assert_eq!(hours.day_of(week.start()).0.weekday(), jiff::civil::Weekday::Monday);
                if let Some(last) = last.filter(|last| *last != day) {
                    assert_eq!(last.end(), day.start(), "{zone} {at}");
                }
                last = Some(day);
            }
        }
    }
}
