//! A practitioner who is in another zone for some dates: which zone a date has, and which date an
//! instant.
//!
//! The rule: a date is a day of the practice, and its clock times are read in the zone where the
//! practitioner is on that date. Where two dates meet, a journey west leaves real time between
//! them, and a journey east makes them overlap: what the hours of both hold is open once.
//!
//! What follows for everything that counts in days, or looks at a clock:
//! - a date begins and ends at midnight in its own zone; *today* is the latest date that has begun;
//! - a start belongs to the date in whose hours it lies (of two, the later), see
//!   [`super::availability::Hours::date_of`]: that date is counted, its clock aligns the grid;
//! - a horizon ends with its last date, and what a later date has by then is within it;
//! - a week begins with its Monday.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::schedule::{ProblemKind, ScheduleProblem, parse_date};
use super::time::{date_after, local_date, parse_zone, read_zone, start_of_date};

/// The most stays that a schedule may have.
pub const MAX_STAYS: usize = 100;
/// The most dates of one stay: who is away for longer lives there, and changes the schedule's zone.
pub const MAX_STAY_DAYS: i32 = 366;

/// Dates on which the practitioner is in another zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stay {
    /// `YYYY-MM-DD`, the first date there.
    pub from: String,
    /// `YYYY-MM-DD`, the last date there. Stays have no date in common.
    pub to: String,
    /// IANA name of the zone there.
    #[serde(deserialize_with = "read_zone")]
    pub time_zone: String,
}

type ReadStay = (Date, Date, TimeZone);

impl Stay {
    /// The stay under its path in the schedule, or everything wrong with it.
    fn read(&self, path: &str) -> Result<ReadStay, Vec<ScheduleProblem>> {
        let problem = |name: &str, kind| ScheduleProblem::new(format!("{path}.{name}"), kind);
        let zone = parse_zone(&self.time_zone).ok();
        match (parse_date(&self.from), parse_date(&self.to), zone) {
            (Some(from), Some(to), _) if to < from => {
                Err(vec![problem("to", ProblemKind::EndBeforeFrom)])
            }
            (Some(from), Some(to), _) if (to - from).get_days() >= MAX_STAY_DAYS => {
                Err(vec![problem("to", ProblemKind::TooLong { days: MAX_STAY_DAYS })])
            }
            (Some(from), Some(to), Some(zone)) => Ok((from, to, zone)),
            (from, to, zone) => {
                let dates = [("from", from.is_none()), ("to", to.is_none())].into_iter();
                let wrong = dates.filter(|(_, wrong)| *wrong);
                let mut found: Vec<_> =
                    wrong.map(|(name, _)| problem(name, ProblemKind::NotADate)).collect();
                let unknown = zone.is_none().then_some(ProblemKind::UnknownZone);
                found.extend(unknown.map(|kind| problem("timeZone", kind)));
                Err(found)
            }
        }
    }
}

/// Notes everything wrong with the stays and returns those that are right.
pub(super) fn validate(stays: &[Stay], problems: &mut Vec<ScheduleProblem>) -> Vec<ReadStay> {
    if stays.len() > MAX_STAYS {
        problems.push(ScheduleProblem::new("travel", ProblemKind::TooMany { limit: MAX_STAYS }));
    }
    let mut good: Vec<ReadStay> = Vec::new();
    for (index, stay) in stays.iter().take(MAX_STAYS).enumerate() {
        let path = format!("travel[{index}]");
        match stay.read(&path) {
            Ok((from, to, _)) if good.iter().any(|(f, t, _)| *f <= to && from <= *t) => {
                problems.push(ScheduleProblem::new(path, ProblemKind::SharedDate));
            }
            Ok(stay) => good.push(stay),
            Err(mut found) => problems.append(&mut found),
        }
    }
    good
}

/// The zones of all dates.
#[derive(Debug, Clone)]
pub struct Zones {
    home: TimeZone,
    /// Sorted by their dates, of which no two have one in common.
    stays: Vec<ReadStay>,
}

impl Zones {
    /// Home and the stays, which must have no date in common.
    pub(super) fn new(home: TimeZone, mut stays: Vec<ReadStay>) -> Self {
        stays.sort_by_key(|(from, ..)| *from);
        Self { home, stays }
    }

    /// Takes what is stored. Refuses the first stay that cannot be read, or shares a date.
    pub(super) fn read(home: TimeZone, stays: &[Stay]) -> Result<Self, ScheduleProblem> {
        let mut problems = Vec::new();
        let stays = validate(stays, &mut problems);
        match problems.into_iter().find(|p| !matches!(p.kind, ProblemKind::TooMany { .. })) {
            Some(problem) => Err(problem),
            None => Ok(Self::new(home, stays)),
        }
    }

    /// The zone in which the clock times of a date are read.
    pub fn of(&self, date: Date) -> &TimeZone {
        let begun = self.stays.partition_point(|(from, ..)| *from <= date);
        let last = begun.checked_sub(1).and_then(|last| self.stays.get(last));
        last.filter(|(_, to, _)| date <= *to).map_or(&self.home, |(.., zone)| zone)
    }

    /// Today, at an instant: the latest date that clocks in its own zone have reached.
    pub fn date_at(&self, instant: Timestamp) -> Date {
        if self.stays.is_empty() {
            return local_date(instant, &self.home);
        }
        // No zone is a whole day from Greenwich.
        let there = local_date(instant, &TimeZone::UTC);
        let reached = |date: &Date| local_date(instant, self.of(*date)) >= *date;
        let candidates = [date_after(there, 1), there];
        candidates.into_iter().find(reached).unwrap_or(date_after(there, -1))
    }

    /// The first instant at which a date, or a later one, has begun.
    pub fn start_of(&self, date: Date) -> Timestamp {
        let start = start_of_date(date, self.of(date));
        if self.stays.is_empty() {
            return start;
        }
        // Between the ends of the world the next date can begin first.
        let next = date_after(date, 1);
        start.min(start_of_date(next, self.of(next)))
    }

    /// The first instant at which a date, and all before it, are over.
    pub fn end_of(&self, date: Date) -> Timestamp {
        let end = start_of_date(date_after(date, 1), self.of(date));
        if self.stays.is_empty() {
            return end;
        }
        end.max(start_of_date(date, self.of(date_after(date, -1))))
    }

    /// Whether some of the two dates before this one are elsewhere, so that their hours can reach
    /// into it.
    pub(super) fn is_arrival(&self, date: Date) -> bool {
        let stay = |date: Date| self.stays.iter().position(|(f, t, _)| *f <= date && date <= *t);
        !self.stays.is_empty() && (1..=2).any(|days| stay(date_after(date, -days)) != stay(date))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schedule::Schedule;
    use crate::domain::time::{minutes, shifted};
    use jiff::civil::date;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn zones(home: &str, stays: &[(&str, &str, &str)]) -> Zones {
        let stay = |(from, to, zone): &(&str, &str, &str)| Stay {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            time_zone: (*zone).to_owned(),
        };
        let stays: Vec<Stay> = stays.iter().map(stay).collect();
        Zones::read(parse_zone(home).unwrap(), &stays).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn without_travel_a_date_is_what_calendars_at_home_show() {
        let zones = zones("Asia/Kolkata", &[]);
        assert_eq!(zones.date_at(at("2026-06-15T18:29:59Z")), date(2026, 6, 15));
        assert_eq!(zones.date_at(at("2026-06-15T18:30:00Z")), date(2026, 6, 16));
        assert_eq!(zones.start_of(date(2026, 6, 16)), at("2026-06-15T18:30:00Z"));
    }

    #[test]
    fn a_journey_west_makes_the_day_before_it_longer() {
        let zones = zones("Asia/Kolkata", &[("2026-06-16", "2026-06-17", "America/New_York")]);
        assert_eq!(zones.start_of(date(2026, 6, 16)), at("2026-06-16T04:00:00Z"));
        // Midnight in Kolkata has passed, but the 16th is a day in New York.
        assert_eq!(zones.date_at(at("2026-06-16T03:59:00Z")), date(2026, 6, 15));
        assert_eq!(zones.date_at(at("2026-06-16T04:00:00Z")), date(2026, 6, 16));
        // Back home the 18th begins while it is the afternoon of the 17th in New York.
        assert_eq!(zones.start_of(date(2026, 6, 18)), at("2026-06-17T18:30:00Z"));
        assert_eq!(zones.date_at(at("2026-06-17T18:30:00Z")), date(2026, 6, 18));
        // The 17th ends there nevertheless, and the 15th ended at home.
        assert_eq!(zones.end_of(date(2026, 6, 17)), at("2026-06-18T04:00:00Z"));
        assert_eq!(zones.end_of(date(2026, 6, 15)), at("2026-06-15T18:30:00Z"));
    }

    #[test]
    fn stays_follow_each_other_in_any_order() {
        let stays = [
            ("2026-06-18", "2026-06-18", "Asia/Tokyo"),
            ("2026-06-16", "2026-06-17", "America/New_York"),
        ];
        let zones = zones("Europe/London", &stays);
        let names: Vec<_> = (15..=19).map(|day| zones.of(date(2026, 6, day)).iana_name()).collect();
        let expected = [
            "Europe/London",
            "America/New_York",
            "America/New_York",
            "Asia/Tokyo",
            "Europe/London",
        ];
        assert_eq!(names, expected.map(Some));
    }

    #[test]
    fn between_the_ends_of_the_world_a_date_can_be_left_out() {
        // Midnight of the 16th in Pago Pago is 25 hours after that in Kiritimati: the 17th there
        // has begun before.
        let zones =
            zones("Pacific/Kiritimati", &[("2026-06-16", "2026-06-16", "Pacific/Pago_Pago")]);
        let seventeenth = at("2026-06-16T10:00:00Z");
        assert_eq!(zones.start_of(date(2026, 6, 16)), seventeenth);
        assert_eq!(zones.start_of(date(2026, 6, 17)), seventeenth);
        assert_eq!(zones.date_at(shifted(seventeenth, minutes(-1))), date(2026, 6, 15));
        assert_eq!(zones.date_at(seventeenth), date(2026, 6, 17));
        // The 16th ends in Pago Pago, an hour after the 17th in Kiritimati.
        assert_eq!(zones.end_of(date(2026, 6, 17)), at("2026-06-17T11:00:00Z"));
    }

    fn problems(travel: &Value) -> Vec<String> {
        let schedule = json!({"timeZone": "UTC", "travel": travel});
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        schedule.validate().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_stays_are_refused_by_field() {
        let stay = |from: &str, to: &str| json!({"from": from, "to": to, "timeZone": "Asia/Tokyo"});
        let found = problems(&json!([
            {"from": "soon", "to": "2026-02-30", "timeZone": "Mars/Olympus"},
            stay("2026-06-17", "2026-06-16"),
            stay("2026-01-01", "2027-01-02"),
            stay("2028-01-01", "2028-12-31"),
            stay("2026-06-16", "2026-06-18"),
            stay("2026-06-18", "2026-06-20"),
            stay("2026-06-19", "2026-06-19"),
        ]));
        assert_eq!(
            found,
            [
                "travel[0].from: must be a date YYYY-MM-DD",
                "travel[0].to: must be a date YYYY-MM-DD",
                "travel[0].timeZone: must be an IANA time zone such as Asia/Kolkata",
                "travel[1].to: must not be before from",
                "travel[2].to: must be less than 366 days after from",
                "travel[5]: has a date in common with an earlier stay",
            ]
        );
        let day = date(2026, 1, 1);
        let many: Vec<_> = (0..=100)
            .map(|n| date_after(day, n).to_string())
            .map(|date| stay(&date, &date))
            .collect();
        assert_eq!(problems(&json!(many)), ["travel: at most 100 entries"]);
    }

    /// An override's date and windows are checked in the zone of that date.
    #[test]
    fn overrides_are_checked_where_the_practitioner_is() {
        let schedule = |zone: &str| {
            json!({"timeZone": "Asia/Kolkata",
                "travel": [{"from": "2026-03-08", "to": "2026-03-08", "timeZone": zone}],
                "overrides": [{"date": "2026-03-08", "windows": [{"start": "02:30", "end": "03:00"}]}]})
        };
        for (zone, count) in [("America/New_York", 1), ("Europe/London", 0)] {
            let schedule: Schedule = serde_json::from_value(schedule(zone)).unwrap();
            assert_eq!(schedule.validate().len(), count, "{zone}");
        }
    }

    const PLACES: [&str; 6] = [
        "Asia/Kolkata",
        "America/New_York",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        "Europe/London",
        "Pacific/Apia",
    ];

    prop_compose! {
        fn journeys()(
            home in 0..PLACES.len(),
            legs in prop::collection::vec((0i32..4, 0i32..5, 0..PLACES.len()), 0..5),
        ) -> Zones {
            let mut day = date(2026, 3, 1);
            let mut stays = Vec::new();
            for (gap, length, place) in legs {
                let (from, to) = (date_after(day, gap), date_after(day, gap + length));
                stays.push((from, to, parse_zone(PLACES[place]).unwrap()));
                day = date_after(to, 1);
            }
            Zones::new(parse_zone(PLACES[home]).unwrap(), stays)
        }
    }

    proptest! {
        /// Dates are consecutive pieces of time: the first instant of each is where it begins.
        #[test]
        fn dates_part_the_time(zones in journeys(), minute in 0i64..60 * 1440) {
            let instant = shifted(at("2026-02-20T00:00:00Z"), minutes(minute));
            let date = zones.date_at(instant);
            prop_assert!(zones.start_of(date) <= instant);
            prop_assert!(instant < zones.start_of(date_after(date, 1)));
            prop_assert!(zones.date_at(shifted(instant, minutes(1))) >= date);
            prop_assert!(zones.end_of(date_after(date, -1)) <= zones.end_of(date));
            if !zones.is_arrival(date) {
                prop_assert!(zones.end_of(date_after(date, -1)) <= instant);
            }
        }
    }
}
