//! The recurrence of a blocked time as it is sent, and the times that it comes to.

use std::num::NonZeroU16;

use jiff::civil::{Date, DateTime, Weekday};
use serde::Deserialize;

use super::availability::Hours;
use super::recurrence::{Every, Recurrence};
use super::refusal::FieldProblem;
use super::schedule::parse_date;
use super::time::{Interval, date_after, local_to_instant};

/// The most times of one series: every day of a year.
pub const MAX_TIMES: usize = 366;
/// Blocked times ahead that one practice may have, those of series counted one by one.
pub const MAX_BLOCKS_AHEAD: usize = 1_000;
/// The longest step, in days, weeks or months.
const MAX_INTERVAL: u16 = 366;

/// How a blocked time repeats. The clock times stay when clocks change and where the practitioner
/// travels; the real times are fixed when the series is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repeat {
    pub every: Unit,
    /// Every how many days, weeks or months; 1 unless given.
    pub interval: Option<i64>,
    /// ISO weekdays, 1 (Monday) to 7. With weeks: on which (that of the start unless given). With
    /// months: the one that `nth` counts, if it is given at all.
    pub weekdays: Option<Vec<i64>>,
    /// With months: which such weekday, 1 to 4, or -1 for the last; as the start is unless given.
    pub nth: Option<i64>,
    /// `YYYY-MM-DD`, the last date on which a time may start.
    pub until: String,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    Day,
    Week,
    Month,
}

impl Repeat {
    /// All times of the series that begins with `first`, in order. A time of which a clock gap
    /// leaves nothing is left out. Refuses, by the fields of a request with `recurrence` and
    /// `startsAt`, a rule without meaning, a start that is not its first time, and a series of
    /// more than [`MAX_TIMES`].
    pub fn times(
        &self,
        first: Interval,
        hours: &Hours,
    ) -> Result<Vec<Interval>, Vec<FieldProblem>> {
        let zones = hours.zones();
        let zone = zones.of(hours.date_of(first.start()));
        let (start, end) = (zone.to_datetime(first.start()), zone.to_datetime(first.end()));
        let every = self.every(start.date());
        let until = self.until(start.date());
        let (every, until) = match (every, until) {
            (Ok(every), Ok(until)) => (every, until),
            (every, until) => return Err(every.err().into_iter().chain(until.err()).collect()),
        };
        let dates = Recurrence { first: start, every, until }.dates();
        if dates.first() != Some(&start.date()) {
            let problem = "must be the first time of the recurrence, and is on no date of it";
            return Err(vec![FieldProblem::new("startsAt", problem)]);
        }
        if dates.len() > MAX_TIMES {
            let problem = format!("a series has at most {MAX_TIMES} times; end it earlier");
            return Err(vec![FieldProblem::new("recurrence.until", problem)]);
        }
        let days = (end.date() - start.date()).get_days();
        let later = dates.into_iter().skip(1).filter_map(|date| {
            let zone = zones.of(date);
            let instant = |date: Date, clock: DateTime| {
                local_to_instant(date.to_datetime(clock.time()), zone)
            };
            let time = Interval::new(instant(date, start), instant(date_after(date, days), end));
            time.ok().filter(|time| !time.is_empty())
        });
        Ok([first].into_iter().chain(later).collect())
    }

    fn every(&self, start: Date) -> Result<Every, FieldProblem> {
        let problem = |name: &str, what: &str| {
            Err(FieldProblem::new(format!("recurrence.{name}"), what.to_owned()))
        };
        let step = self.interval.unwrap_or(1);
        let step = u16::try_from(step).ok().filter(|step| *step <= MAX_INTERVAL);
        let Some(step) = step.and_then(NonZeroU16::new) else {
            return problem("interval", &format!("must be 1 to {MAX_INTERVAL}"));
        };
        if self.nth.is_some() && self.every != Unit::Month {
            return problem("nth", "only with every month");
        }
        let weekday = |iso: &i64| {
            i8::try_from(*iso).ok().and_then(|iso| Weekday::from_monday_one_offset(iso).ok())
        };
        let listed = self.weekdays.as_ref().map(|list| list.iter().map(weekday).collect());
        let listed: Option<Vec<Weekday>> = match listed {
            None => None,
            Some(Some(list)) => Some(list),
            Some(None) => return problem("weekdays", "must be 1 (Monday) to 7 (Sunday)"),
        };
        match (self.every, listed) {
            (Unit::Day, None) => Ok(Every::Days(step)),
            (Unit::Day, Some(_)) => problem("weekdays", "only with every week or month"),
            (Unit::Week, None) => Ok(Every::Weeks { step, on: vec![start.weekday()] }),
            (Unit::Week, Some(on)) if (1..=7).contains(&on.len()) => Ok(Every::Weeks { step, on }),
            (Unit::Week, Some(_)) => problem("weekdays", "must have 1 to 7 entries"),
            (Unit::Month, listed) => {
                let nth = i8::try_from(self.nth.unwrap_or(nth_of(start))).ok();
                let Some(nth) = nth.filter(|nth| matches!(nth, -1 | 1..=4)) else {
                    return problem("nth", "must be 1 to 4, or -1 for the last");
                };
                match listed.as_deref() {
                    None => Ok(Every::Months { step, nth, weekday: start.weekday() }),
                    Some([weekday]) => Ok(Every::Months { step, nth, weekday: *weekday }),
                    Some(_) => problem("weekdays", "must have one entry with every month"),
                }
            }
        }
    }

    fn until(&self, start: Date) -> Result<Date, FieldProblem> {
        let problem = |what| FieldProblem::new("recurrence.until", what);
        let until = parse_date(&self.until).ok_or_else(|| problem("must be a date YYYY-MM-DD"))?;
        if until < start { Err(problem("must not be before the start")) } else { Ok(until) }
    }
}

/// Which weekday of its month a date is; a fifth is the last.
fn nth_of(date: Date) -> i64 {
    match (i64::from(date.day()) - 1) / 7 + 1 {
        5 => -1,
        nth => nth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schedule::Schedule;
    use jiff::Timestamp;
    use serde_json::json;

    fn hours(schedule: serde_json::Value) -> Hours {
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        Hours::new(&schedule).unwrap()
    }

    fn time(text: &str) -> Interval {
        let (start, end) = text.split_once('/').unwrap();
        Interval::new(start.parse().unwrap(), end.parse().unwrap()).unwrap()
    }

    fn times(repeat: serde_json::Value, first: &str, hours: &Hours) -> Vec<String> {
        let repeat: Repeat = serde_json::from_value(repeat).unwrap();
        repeat.times(time(first), hours).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lunch_stays_at_one_when_clocks_change() {
        let london = hours(json!({"timeZone": "Europe/London"}));
        let weekly = json!({"every": "week", "weekdays": [5, 1], "until": "2026-03-31"});
        assert_eq!(
            times(weekly, "2026-03-23T13:00:00Z/2026-03-23T14:00:00Z", &london),
            [
                "2026-03-23T13:00:00Z/2026-03-23T14:00:00Z",
                "2026-03-27T13:00:00Z/2026-03-27T14:00:00Z",
                "2026-03-30T12:00:00Z/2026-03-30T13:00:00Z",
            ]
        );
    }

    #[test]
    fn whole_days_stay_whole_and_a_gap_leaves_nothing_of_its_own() {
        let new_york = hours(json!({"timeZone": "America/New_York"}));
        let daily = json!({"every": "day", "until": "2026-03-09"});
        let whole = times(daily.clone(), "2026-03-07T05:00:00Z/2026-03-08T05:00:00Z", &new_york);
        assert_eq!(whole[1], "2026-03-08T05:00:00Z/2026-03-09T04:00:00Z"); // 23 hours
        assert_eq!(whole[2], "2026-03-09T04:00:00Z/2026-03-10T04:00:00Z");
        // 02:30 to 03:00: on the 8th the clock has no such time.
        let night = times(daily, "2026-03-07T07:30:00Z/2026-03-07T08:00:00Z", &new_york);
        assert_eq!(
            night,
            [
                "2026-03-07T07:30:00Z/2026-03-07T08:00:00Z",
                "2026-03-09T06:30:00Z/2026-03-09T07:00:00Z"
            ]
        );
    }

    #[test]
    fn the_clock_time_travels_along() {
        let travel =
            json!([{"from": "2026-06-16", "to": "2026-06-16", "timeZone": "Europe/London"}]);
        let there = hours(json!({"timeZone": "Asia/Kolkata", "travel": travel}));
        let daily = json!({"every": "day", "until": "2026-06-17"});
        assert_eq!(
            times(daily, "2026-06-15T07:30:00Z/2026-06-15T08:30:00Z", &there),
            [
                "2026-06-15T07:30:00Z/2026-06-15T08:30:00Z",
                "2026-06-16T12:00:00Z/2026-06-16T13:00:00Z",
                "2026-06-17T07:30:00Z/2026-06-17T08:30:00Z",
            ]
        );
    }

    #[test]
    fn months_count_weekdays_as_the_start_does() {
        let utc = hours(json!({"timeZone": "UTC"}));
        let starts = |repeat, first| {
            let times = times(repeat, first, &utc);
            times.iter().map(|t| t[..10].to_owned()).collect::<Vec<_>>()
        };
        let monthly = json!({"every": "month", "until": "2026-10-01"});
        let third_monday = "2026-06-15T09:00:00Z/2026-06-15T10:00:00Z";
        assert_eq!(
            starts(monthly.clone(), third_monday),
            ["2026-06-15", "2026-07-20", "2026-08-17", "2026-09-21"]
        );
        let fifth_tuesday = "2026-06-30T09:00:00Z/2026-06-30T10:00:00Z";
        assert_eq!(
            starts(monthly, fifth_tuesday),
            ["2026-06-30", "2026-07-28", "2026-08-25", "2026-09-29"]
        );
        let other = json!({"every": "month", "interval": 2, "nth": -1, "weekdays": [2], "until": "2026-10-31"});
        assert_eq!(starts(other, fifth_tuesday), ["2026-06-30", "2026-08-25", "2026-10-27"]);
    }

    #[test]
    fn rules_without_meaning_are_refused_by_field() {
        let utc = hours(json!({"timeZone": "UTC"}));
        let monday = time("2026-06-15T09:00:00Z/2026-06-15T10:00:00Z");
        for (field, more) in [
            ("interval", json!({"every": "day", "interval": 0})),
            ("interval", json!({"every": "day", "interval": 367})),
            ("weekdays", json!({"every": "day", "weekdays": [1]})),
            ("weekdays", json!({"every": "week", "weekdays": []})),
            ("weekdays", json!({"every": "week", "weekdays": [0]})),
            ("weekdays", json!({"every": "week", "weekdays": [1, 1, 1, 1, 1, 1, 1, 1]})),
            ("weekdays", json!({"every": "month", "weekdays": [1, 2]})),
            ("nth", json!({"every": "week", "nth": 1})),
            ("nth", json!({"every": "month", "nth": 5})),
            ("nth", json!({"every": "month", "nth": i64::MIN})),
            ("until", json!({"every": "day", "until": "soon"})),
            ("until", json!({"every": "day", "until": "2026-06-14"})),
            ("until", json!({"every": "day", "until": "2027-06-16"})),
            ("until", json!({"every": "day", "until": "9999-12-31"})),
        ] {
            let mut rule = more.clone();
            if rule.get("until").is_none() {
                rule["until"] = json!("2026-12-31");
            }
            let repeat: Repeat = serde_json::from_value(rule).unwrap();
            let problems = repeat.times(monday, &utc).unwrap_err();
            assert_eq!(problems.len(), 1, "{more}");
            assert_eq!(problems[0].field, format!("recurrence.{field}"), "{more}");
        }
        let tuesdays = json!({"every": "week", "weekdays": [2], "until": "2026-12-31"});
        let repeat: Repeat = serde_json::from_value(tuesdays).unwrap();
        assert_eq!(repeat.times(monday, &utc).unwrap_err()[0].field, "startsAt");
        let year = json!({"every": "day", "until": "2027-06-15"});
        let repeat: Repeat = serde_json::from_value(year).unwrap();
        assert_eq!(repeat.times(monday, &utc).unwrap().len(), MAX_TIMES);
    }

    #[test]
    fn the_ends_of_time_do_not_hang() {
        let utc = hours(json!({"timeZone": "Pacific/Kiritimati"}));
        let daily = json!({"every": "day", "until": "9999-12-31"});
        let repeat: Repeat = serde_json::from_value(daily).unwrap();
        let last = Interval::new(Timestamp::MAX, Timestamp::MAX).unwrap();
        assert!(repeat.times(last, &utc).is_ok());
    }
}
