//! Quiet hours: the part of each local day in which a user's pushes wait.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::refusal::{Problems, Refusal};
use super::time::{ClockTime, Interval, canonical_zone, date_after, local_date, parse_zone};

/// From one clock time to another, over midnight when the second is not later than the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "QuietText", into = "QuietText")]
pub struct QuietHours {
    from: ClockTime,
    to: ClockTime,
    zone: TimeZone,
    zone_name: String,
}

/// Quiet hours as they are sent and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuietText {
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`, or `24:00` for the end of the day.
    pub to: String,
    /// IANA name.
    pub time_zone: String,
}

/// Where clocks jump, a quiet time can begin before the one of the day before has ended. More than
/// two never follow each other without a break.
const IN_A_ROW: usize = 3;

impl QuietHours {
    /// Reads quiet hours. Refuses, naming `quietHours.from`, `.to` and `.timeZone`, what is no clock
    /// time or zone, and hours that leave nothing of the day.
    pub fn parse(text: &QuietText) -> Result<Self, Refusal> {
        let mut problems = Problems::default();
        let mut clock = |field: &str, text: &str| match ClockTime::parse(text) {
            Ok(time) => Some(time),
            Err(e) => {
                problems.require(false, &format!("quietHours.{field}"), &e.to_string());
                None
            }
        };
        let (from, to) = (clock("from", &text.from), clock("to", &text.to));
        let zone = parse_zone(&text.time_zone).ok();
        let whole_day = match (from, to) {
            (Some(from), Some(to)) => from == to || to.lasts_all_day_from(from),
            _ => false,
        };
        problems.require(!whole_day, "quietHours.to", "must leave some of the day");
        let begins = from != Some(ClockTime::END_OF_DAY);
        problems.require(begins, "quietHours.from", "must be before 24:00");
        let known = zone.is_some();
        problems.require(known, "quietHours.timeZone", "must be an IANA time zone");
        problems.into_result()?;
        let zone_name = canonical_zone(text.time_zone.clone());
        match (from, to, zone) {
            (Some(from), Some(to), Some(zone)) => Ok(Self { from, to, zone, zone_name }),
            _ => Err(Refusal::field("quietHours", "must have from, to and timeZone")),
        }
    }

    /// The zone that the user lives by.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// When the quiet time around `now` ends; `None` when it is not quiet.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let mut end = None;
        for _ in 0..IN_A_ROW {
            let next = self.end_of_one(end.unwrap_or(now));
            if next.is_none() {
                break;
            }
            end = next;
        }
        end
    }

    fn end_of_one(&self, at: Timestamp) -> Option<Timestamp> {
        let today = local_date(at, &self.zone);
        // Two days back, since a zone may skip a date.
        let begun = (-2..=0).filter_map(|days| self.on(date_after(today, days)));
        begun.filter(|quiet| quiet.contains(at)).map(|quiet| quiet.end()).max()
    }

    /// The quiet time that begins on `date`; none where clocks jump over it.
    fn on(&self, date: Date) -> Option<Interval> {
        let last = if self.to <= self.from { date_after(date, 1) } else { date };
        let (start, end) =
            (self.from.instant_on(date, &self.zone), self.to.instant_on(last, &self.zone));
        Interval::new(start, end).ok()
    }
}

impl TryFrom<QuietText> for QuietHours {
    type Error = String;

    fn try_from(text: QuietText) -> Result<Self, String> {
        Self::parse(&text).map_err(|refusal| format!("{refusal:?}"))
    }
}

impl From<QuietHours> for QuietText {
    fn from(hours: QuietHours) -> Self {
        Self { from: hours.from.to_string(), to: hours.to.to_string(), time_zone: hours.zone_name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::minutes;
    use jiff::civil::Time;
    use proptest::prelude::*;

    fn text(from: &str, to: &str, zone: &str) -> QuietText {
        QuietText { from: from.to_owned(), to: to.to_owned(), time_zone: zone.to_owned() }
    }

    fn end(from: &str, to: &str, zone: &str, now: &str) -> Option<String> {
        let hours = QuietHours::parse(&text(from, to, zone)).unwrap();
        hours.end(now.parse().unwrap()).map(|end| end.to_string())
    }

    #[test]
    fn a_night_ends_in_the_morning_of_the_users_zone() {
        let night = |now| end("22:00", "07:00", "Asia/Kolkata", now);
        assert_eq!(night("2027-03-01T16:29:59Z"), None);
        let morning = Some("2027-03-02T01:30:00Z".to_owned());
        assert_eq!(night("2027-03-01T16:30:00Z"), morning);
        assert_eq!(night("2027-03-02T01:29:59Z"), morning);
        assert_eq!(night("2027-03-02T01:30:00Z"), None);
        // Within one day, and up to its end.
        let noon = end("13:00", "14:30", "UTC", "2027-03-01T14:00:00Z");
        assert_eq!(noon, Some("2027-03-01T14:30:00Z".to_owned()));
        let late = end("22:00", "24:00", "UTC", "2027-03-01T23:00:00Z");
        assert_eq!(late, Some("2027-03-02T00:00:00Z".to_owned()));
    }

    #[test]
    fn a_night_is_as_long_as_the_clocks_make_it() {
        // New York jumps from 02:00 to 03:00 on 2027-03-14 and back on 2027-11-07.
        let zone = "America/New_York";
        let spring = end("22:00", "07:00", zone, "2027-03-14T03:00:00Z");
        assert_eq!(spring, Some("2027-03-14T11:00:00Z".to_owned()));
        let autumn = end("22:00", "07:00", zone, "2027-11-07T03:00:00Z");
        assert_eq!(autumn, Some("2027-11-07T12:00:00Z".to_owned()));
        // Samoa skipped 2011-12-30.
        let skipped = end("22:00", "07:00", "Pacific/Apia", "2011-12-30T10:30:00Z");
        assert_eq!(skipped, Some("2011-12-30T17:00:00Z".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fields = |from, to, zone| match QuietHours::parse(&text(from, to, zone)) {
            Err(Refusal::Validation(problems)) => {
                problems.into_iter().map(|p| p.field).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(fields("9:00", "07:00", "UTC"), ["quietHours.from"]);
        assert_eq!(fields("24:00", "07:00", "UTC"), ["quietHours.from"]);
        assert_eq!(fields("09:00", "25:00", "Mars"), ["quietHours.to", "quietHours.timeZone"]);
        for (from, to) in [("09:00", "09:00"), ("00:00", "24:00")] {
            assert_eq!(fields(from, to, "UTC"), ["quietHours.to"], "{from}-{to}");
        }
        assert!(QuietHours::parse(&text("00:01", "24:00", "UTC")).is_ok());
    }

    #[test]
    fn quiet_hours_read_back() {
        let hours = QuietHours::parse(&text("22:00", "24:00", "Asia/Calcutta")).unwrap();
        let stored = serde_json::to_value(&hours).unwrap();
        assert_eq!(stored["timeZone"], "Asia/Calcutta");
        assert_eq!(serde_json::from_value::<QuietHours>(stored).unwrap(), hours);
    }

    fn zones() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "Asia/Kolkata",
            "UTC",
            "America/New_York",
            "Europe/Rome",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Africa/Casablanca",
            "Pacific/Kiritimati",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Held against the clock on the wall, wherever no clock jumps nearby.
        #[test]
        fn it_is_quiet_when_the_clock_says_so(
            zone in zones(), from in 0..1_440_i16, to in 0..1_440_i16, second in 1.2e9..2.5e9_f64,
        ) {
            prop_assume!(from != to);
            let clock = |m: i16| format!("{:02}:{:02}", m / 60, m % 60);
            let hours = QuietHours::parse(&text(&clock(from), &clock(to), zone)).unwrap();
            #[allow(clippy::cast_possible_truncation)]
            let now = Timestamp::from_second(second as i64).unwrap();
            let end = hours.end(now);
            if let Some(end) = end {
                prop_assert!(now < end && hours.end(end).is_none());
            }
            let offset = |days: i64| hours.zone.to_offset(now + minutes(days * 1_440));
            prop_assume!((-2..3).all(|days| offset(days) == offset(0)));
            let wall = hours.zone.to_datetime(now).time().duration_since(Time::midnight());
            let inside = |m: i16| minutes(i64::from(m)) <= wall;
            let quiet = if from < to { inside(from) && !inside(to) } else { inside(from) || !inside(to) };
            prop_assert_eq!(end.is_some(), quiet);
            if let Some(end) = end {
                prop_assert_eq!(hours.zone.to_datetime(end).time(), Time::midnight() + minutes(i64::from(to)));
                prop_assert!(end.duration_since(now) <= minutes(1_440));
            }
        }
    }
}
