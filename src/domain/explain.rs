//! One written-down case, answered: the computation behind `hub slots explain FILE`.
//!
//! The form is that of `tests/data/slot-cases.json`: a schedule, rules, what is taken, a range and
//! optionally `now`. Beyond those cases it takes `travel` (`[{from, to, timezone}]`), `holidays`
//! (`{country, region, except}`) and `limits`, with bookings that are `completed` or `no_show` and name
//! another `service`. Fields that only document a case (`id`, `source`, `note`, `expected_…` and any
//! other unknown one) are ignored. Pure: reading the file and printing are the binary's.

mod busy;
mod hours;
mod limits;
mod list;

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use self::busy::{CaseBusy, REQUESTER};
use self::hours::{CaseOverride, CaseStay, CaseWeekly, name_in_case};
use self::limits::CaseLimits;
use super::availability::Hours;
use super::busy::{Busy, BusySet, Viewpoint};
use super::holidays::HolidayChoice;
use super::limits::ScheduleLimits;
use super::rules::{CountedDays, Grid, Horizon, SlotRules};
use super::schedule::{ProblemKind, Schedule};
use super::slots::{Rejection, SlotQuery};
use super::time::Interval;

/// The longest range that is answered; a longer one is more likely a slip of the pen.
const MAX_RANGE_DAYS: i64 = 732;

/// A case as written. All times of day and dates are in `timezone`, or on dates of `travel` there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Case {
    timezone: String,
    #[serde(default)]
    weekly_hours: Vec<CaseWeekly>,
    #[serde(default)]
    overrides: Vec<CaseOverride>,
    #[serde(default)]
    travel: Vec<CaseStay>,
    /// `{country, region, except}` as `PUT …/availability` takes it.
    holidays: Option<HolidayChoice>,
    /// Without it nothing is past, and holds never expire.
    now: Option<Timestamp>,
    range_start: Timestamp,
    range_end: Timestamp,
    duration_min: i64,
    increment_min: i64,
    #[serde(default)]
    buffer_before_min: i64,
    #[serde(default)]
    buffer_after_min: i64,
    #[serde(default)]
    min_notice_min: i64,
    booking_horizon: Option<CaseHorizon>,
    #[serde(default)]
    limits: CaseLimits,
    slot_grid: Option<CaseGrid>,
    #[serde(default)]
    existing_bookings: Vec<CaseBusy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct CaseHorizon {
    r#type: HorizonType,
    days: Option<u16>,
    #[serde(default)]
    count: CaseCount,
    from: Option<Date>,
    to: Option<Date>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HorizonType {
    Rolling,
    RollingWindow,
    Range,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CaseCount {
    #[default]
    Calendar,
    Business,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct CaseGrid {
    mode: GridMode,
    align_min: Option<std::num::NonZeroU16>,
    #[serde(default)]
    offset_min: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GridMode {
    RestartCeilLocalClock,
    FixedFromWorkWindowStart,
}

/// The answer, in the form that is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// In order, as RFC 3339 in UTC.
    pub slots: Vec<Timestamp>,
    /// Only when reasons were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Vec<RejectedStart>>,
}

/// A start of the grid that is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedStart {
    pub start: Timestamp,
    /// A name from [`super::slots::SlotRefusal::rule`], or `range`.
    pub rule: &'static str,
    /// A line for people.
    pub detail: String,
}

/// Why a case cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseError {
    /// Path of the field, such as `existing_bookings[2].end`; empty if the text is not JSON.
    pub field: String,
    pub problem: String,
}

impl CaseError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.problem),
            field => write!(f, "{field}: {}", self.problem),
        }
    }
}

impl std::error::Error for CaseError {}

impl From<serde_path_to_error::Error<serde_json::Error>> for CaseError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        // The root is ".", a text that breaks off "?".
        let mut field = error.path().to_string().trim_matches(['.', '?']).to_owned();
        let problem = error.into_inner().to_string();
        // serde gives the path of the object in which a field is missing.
        if let Some((name, _)) =
            problem.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'))
        {
            let dot = if field.is_empty() { "" } else { "." };
            field = format!("{field}{dot}{name}");
        }
        Self { field, problem }
    }
}

impl Case {
    /// Takes one case as JSON text. Refuses what has not the form of a case, naming the field.
    pub fn from_json(text: &str) -> Result<Self, CaseError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let case = serde_path_to_error::deserialize(&mut reader)?;
        reader.end().map_err(|error| CaseError::new("", error.to_string()))?;
        Ok(case)
    }

    /// Takes one case as a JSON value; refuses the same.
    pub fn from_value(value: serde_json::Value) -> Result<Self, CaseError> {
        Ok(serde_path_to_error::deserialize(value)?)
    }

    /// The starts that can be booked in the case's range and, with `why`, the rule that keeps each
    /// other start of the grid out. Refuses values without meaning, naming the field.
    pub fn answer(&self, why: bool) -> Result<Answer, CaseError> {
        let hours = self.hours()?;
        let rules = self.rules()?;
        let range = self.range()?;
        let busy = self.busy()?;
        let view = Viewpoint { asker: Some(REQUESTER), ..Viewpoint::at(self.now()) };
        let query = SlotQuery { hours: &hours, rules: &rules, busy: &busy, view };
        if !why {
            return Ok(Answer { slots: query.slots(range), rejected: None });
        }
        let explanation = query.explain(range);
        let rejected = explanation.rejected.into_iter().map(|(start, why)| match why {
            Rejection::Refused(refusal) => {
                RejectedStart { start, rule: refusal.rule(), detail: refusal.to_string() }
            }
            Rejection::EndsAfterRange => RejectedStart {
                start,
                rule: "range",
                detail: format!("ends after the range asked about, {}", range.end()),
            },
        });
        Ok(Answer { slots: explanation.slots, rejected: Some(rejected.collect()) })
    }

    /// The working hours of the case. Ranges of one day may overlap here; they merge.
    pub fn hours(&self) -> Result<Hours, CaseError> {
        let schedule = self.schedule();
        let problem = schedule.validate().into_iter().find(|p| p.kind != ProblemKind::Overlap);
        if let Some(problem) = problem {
            return Err(CaseError::new(name_in_case(&problem.field), problem.kind.to_string()));
        }
        let mut hours =
            Hours::new(&schedule).map_err(|p| CaseError::new(p.field, p.kind.to_string()))?;
        hours.limits = self.limits.of_practitioner()?;
        Ok(hours)
    }

    /// The range asked about. Refuses one that is backwards or longer than two years.
    pub fn range(&self) -> Result<Interval, CaseError> {
        let range = Interval::new(self.range_start, self.range_end)
            .map_err(|error| CaseError::new("range_end", error.to_string()))?;
        if self.range_end.duration_since(self.range_start).as_hours() > MAX_RANGE_DAYS * 24 {
            let problem = format!("more than {MAX_RANGE_DAYS} days after range_start");
            return Err(CaseError::new("range_end", problem));
        }
        Ok(range)
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or(Timestamp::MIN)
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            time_zone: self.timezone.clone(),
            weekly: self.weekly_hours.iter().map(Into::into).collect(),
            overrides: self.overrides.iter().map(Into::into).collect(),
            travel: self.travel.iter().map(Into::into).collect(),
            holidays: self.holidays.clone(),
            limits: ScheduleLimits::default(),
        }
    }

    fn rules(&self) -> Result<SlotRules, CaseError> {
        let rules = SlotRules::new(self.duration_min, self.increment_min)
            .and_then(|r| r.with_buffers(self.buffer_before_min, self.buffer_after_min))
            .and_then(|r| r.with_notice(self.min_notice_min));
        let mut rules = rules.map_err(|p| {
            CaseError::new(p.field, format!("must be {} to {} minutes", p.min, p.max))
        })?;
        if let Some(grid) = &self.slot_grid {
            rules.grid = grid.grid(rules.grid);
        }
        if let Some(horizon) = &self.booking_horizon {
            rules.horizon = horizon.horizon(self.now)?;
        }
        rules.limits = self.limits.of_service()?;
        Ok(rules)
    }

    fn busy(&self) -> Result<BusySet, CaseError> {
        let items = self.existing_bookings.iter().enumerate();
        let items: Result<Vec<Option<Busy>>, CaseError> =
            items.map(|(index, item)| item.busy(index)).collect();
        Ok(items?.into_iter().flatten().collect())
    }
}

impl CaseGrid {
    /// The grid as written; what a restarting grid leaves out is `derived` from the increment.
    fn grid(&self, derived: Grid) -> Grid {
        match (self.mode, derived) {
            (GridMode::FixedFromWorkWindowStart, _) | (_, Grid::Window) => Grid::Window,
            (GridMode::RestartCeilLocalClock, Grid::Restart { align_min, .. }) => Grid::Restart {
                align_min: self.align_min.unwrap_or(align_min),
                offset_min: self.offset_min,
            },
        }
    }
}

impl CaseHorizon {
    fn horizon(&self, now: Option<Timestamp>) -> Result<Horizon, CaseError> {
        let needed = |field: &str| CaseError::new(field, "needed for this booking_horizon");
        let days = || {
            now.ok_or_else(|| needed("now"))?;
            self.days.ok_or_else(|| needed("booking_horizon.days"))
        };
        let count = match self.count {
            CaseCount::Calendar => CountedDays::Calendar,
            CaseCount::Business => CountedDays::Business,
        };
        Ok(match self.r#type {
            HorizonType::Rolling => Horizon::Rolling { days: days()?, count },
            HorizonType::RollingWindow => Horizon::RollingWindow { days: days()?, count },
            HorizonType::Range => Horizon::Range {
                from: self.from.ok_or_else(|| needed("booking_horizon.from"))?,
                to: self.to.ok_or_else(|| needed("booking_horizon.to"))?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case() -> serde_json::Value {
        json!({
            "id": "x", "note": "documentation", "expected_count": 3,
            "timezone": "UTC", "weekly_hours": [{"weekday": 1, "start": "09:00", "end": "12:00"}],
            "now": "2026-06-14T00:00:00Z", "range_start": "2026-06-15T00:00:00Z",
            "range_end": "2026-06-16T00:00:00Z", "duration_min": 60, "increment_min": 60,
            "existing_bookings": [
                {"start": "2026-06-15T10:00:00Z", "end": "2026-06-15T10:30:00Z", "status": "confirmed"}
            ]
        })
    }

    /// What is said about the case with one value put in place of another.
    fn error(pointer: &str, value: serde_json::Value) -> String {
        let mut case = case();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        case.pointer_mut(parent).unwrap()[key] = value;
        let case = Case::from_json(&case.to_string());
        case.and_then(|case| case.answer(true)).unwrap_err().to_string()
    }

    #[test]
    fn the_answer_is_slots_and_on_request_reasons() {
        let case = Case::from_value(case()).unwrap();
        let short = serde_json::to_value(case.answer(false).unwrap()).unwrap();
        assert_eq!(short, json!({"slots": ["2026-06-15T09:00:00Z", "2026-06-15T11:00:00Z"]}));
        let long = serde_json::to_value(case.answer(true).unwrap()).unwrap();
        assert_eq!(long["slots"], short["slots"]);
        assert_eq!(
            long["rejected"],
            json!([{
                "start": "2026-06-15T10:00:00Z", "rule": "taken",
                "detail": "with its buffers it meets a booking that occupies \
                           2026-06-15T10:00:00Z/2026-06-15T10:30:00Z"
            }])
        );
    }

    #[test]
    fn a_malformed_case_is_refused_by_field() {
        let cases = [
            ("/timezone", json!("Mars/Olympus"), "timezone: must be an IANA"),
            ("/timezone", json!(5), "timezone: invalid type"),
            (
                "/weekly_hours",
                json!([{"weekday": 9, "start": "09:00", "end": "10:00"}]),
                "weekly_hours[0].weekday: ",
            ),
            (
                "/weekly_hours",
                json!([{"weekday": 1, "start": "09:00"}]),
                "weekly_hours[0].end: missing",
            ),
            ("/overrides", json!([{"date": "today", "windows": []}]), "overrides[0].date: "),
            ("/range_start", json!("yesterday"), "range_start: "),
            ("/range_end", json!("2026-06-14T00:00:00Z"), "range_end: the end"),
            ("/range_end", json!("2030-06-14T00:00:00Z"), "range_end: more than"),
            ("/duration_min", json!(0), "duration_min: must be 1 to 1440"),
            ("/increment_min", json!("60"), "increment_min: invalid type"),
            ("/buffer_after_min", json!(-5), "buffer_after_min: must be"),
            ("/min_notice_min", json!(-5), "min_notice_min: must be"),
            (
                "/booking_horizon",
                json!({"type": "weekly"}),
                "booking_horizon.type: unknown variant",
            ),
            ("/booking_horizon", json!({"type": "rolling"}), "booking_horizon.days: needed"),
            (
                "/booking_horizon",
                json!({"type": "range", "from": "2026-06-15"}),
                "booking_horizon.to: needed",
            ),
            ("/limits", json!({"service_per_day": 0}), "limits.service_per_day: must be 1 to"),
            ("/limits", json!({"practitioner_per_week": -1}), "limits.practitioner_per_week: "),
            ("/limits", json!({"per_day": 1}), "limits.per_day: unknown field"),
            ("/slot_grid", json!({"mode": "hexagonal"}), "slot_grid.mode: unknown variant"),
            (
                "/slot_grid",
                json!({"mode": "restart_ceil_local_clock", "align_min": 0}),
                "slot_grid.align_min: ",
            ),
        ];
        for (pointer, value, expected) in cases {
            let error = error(pointer, value);
            assert!(error.starts_with(expected), "{pointer}: {error}");
        }
        let mut without = case();
        without.as_object_mut().unwrap().remove("range_start");
        assert_eq!(Case::from_value(without).unwrap_err().field, "range_start");
        assert_eq!(Case::from_json("{").unwrap_err().field, "");
        let twice = format!("{0}{0}", case());
        assert!(Case::from_json(&twice).unwrap_err().to_string().starts_with("trailing"));
    }

    #[test]
    fn a_malformed_booking_is_refused_by_field() {
        let cases = [
            ("status", json!("maybe"), "status: unknown variant"),
            ("status", json!("hold"), "expires_at: needed for a hold"),
            ("end", json!("2026-06-15T10:00:00Z"), "end: must be after"),
            ("buffer_before_min", json!(70_000), "buffer_before_min: must be 0 to 1440"),
        ];
        for (field, value, expected) in cases {
            let error = error(&format!("/existing_bookings/0/{field}"), value);
            let expected = format!("existing_bookings[0].{expected}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn travel_and_holidays_are_part_of_a_case() {
        let mut case = case();
        case["range_start"] = json!("2026-08-15T00:00:00Z");
        case["range_end"] = json!("2026-08-17T00:00:00Z");
        case["weekly_hours"] = json!([{"weekday": 6, "start": "09:00", "end": "10:00"},
                                      {"weekday": 7, "start": "09:00", "end": "10:00"}]);
        case["travel"] =
            json!([{"from": "2026-08-16", "to": "2026-08-16", "timezone": "Asia/Kolkata"}]);
        case["holidays"] = json!({"country": "IN"});
        let answer = Case::from_value(case.clone()).unwrap().answer(true).unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let detail = "closed on 2026-08-15, Independence Day";
        assert_eq!(
            answer,
            json!({"slots": ["2026-08-16T03:30:00Z"], "rejected": [
                {"start": "2026-08-15T09:00:00Z", "rule": "holiday", "detail": detail}]})
        );
        case["holidays"]["except"] = json!(["2026-08-15"]);
        let answer = Case::from_value(case.clone()).unwrap().answer(false).unwrap();
        assert_eq!(answer.slots.len(), 2);
        for (pointer, value, field) in [
            ("/travel/0/timezone", json!("Mars/Olympus"), "travel[0].timezone"),
            ("/travel/0/to", json!("2026-08-15"), "travel[0].to"),
            ("/holidays/country", json!("XX"), "holidays.country"),
            ("/holidays/region", json!("XX"), "holidays.region"),
            ("/holidays/colour", json!("blue"), "holidays.colour"),
        ] {
            let mut case = case.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            case.pointer_mut(parent).unwrap()[key] = value;
            let error = Case::from_value(case).and_then(|case| case.answer(false)).unwrap_err();
            assert_eq!(error.field, field);
        }
    }

    #[test]
    fn a_rolling_horizon_needs_now() {
        let mut case = case();
        case["booking_horizon"] = json!({"type": "rolling", "days": 2});
        case.as_object_mut().unwrap().remove("now");
        let error = Case::from_value(case).unwrap().answer(false).unwrap_err();
        assert_eq!(error.field, "now");
    }

    #[test]
    fn limits_count_sessions_of_the_service_and_of_the_practitioner() {
        let rules = |limits: serde_json::Value, bookings: serde_json::Value| {
            let mut case = case();
            (case["limits"], case["existing_bookings"]) = (limits, bookings);
            let answer = Case::from_value(case).unwrap().answer(true).unwrap();
            answer.rejected.unwrap().into_iter().map(|r| r.rule).collect::<Vec<_>>()
        };
        let booking = |service: &str, status: &str| {
            json!({"start": "2026-06-15T10:00:00Z",
            "end": "2026-06-15T11:00:00Z", "status": status, "service": service})
        };
        let (own, all) = (json!({"service_per_day": 1}), json!({"practitioner_per_week": 1}));
        let nothing: [&str; 0] = [];
        for (limits, service, status, expected) in [
            (&own, "this", "confirmed", ["limit", "taken", "limit"].as_slice()),
            (&own, "this", "no_show", &["limit", "limit", "limit"]),
            (&own, "this", "cancelled", &nothing),
            (&own, "other", "completed", &nothing),
            (&all, "other", "completed", &["limit", "limit", "limit"]),
            (&all, "other", "blocked", &["taken"]),
        ] {
            let found = rules(limits.clone(), json!([booking(service, status)]));
            assert_eq!(found, expected, "{limits} {service} {status}");
        }
    }
}
