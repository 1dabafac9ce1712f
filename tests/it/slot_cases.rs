//! Facts about slots that other booking systems assert or got wrong, collected with their sources
//! in `tests/data/slot-cases.json`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use hub::domain::availability::Hours;
use hub::domain::busy::{Buffers, Busy, BusyKind, BusySet, Viewpoint};
use hub::domain::explain::Case;
use hub::domain::recurrence::{Every, Recurrence};
use hub::domain::slots::{SlotQuery, by_viewer_date};
use hub::domain::time::{Interval, local_date, minutes, parse_zone, shifted};
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

fn file() -> Value {
    serde_json::from_str(include_str!("../data/slot-cases.json")).unwrap()
}

fn instants(list: &Value) -> Vec<Timestamp> {
    let list = list.as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap().parse().unwrap()).collect()
}

/// What differs from the expectations of one case.
fn differences(case: &Value) -> Vec<String> {
    let parsed = Case::from_value(case.clone()).unwrap();
    let answer = parsed.answer(true).unwrap();
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: String, found: String| {
        if expected != found {
            wrong.push(format!("{what}\n  expected {expected}\n  found    {found}"));
        }
    };
    let slots = answer.slots;
    compare("slots", format!("{:?}", instants(&case["expected_slots_utc"])), format!("{slots:?}"));
    compare(
        "without why",
        format!("{slots:?}"),
        format!("{:?}", parsed.answer(false).unwrap().slots),
    );
    if let Some(count) = case["expected_count"].as_u64() {
        compare("count", count.to_string(), slots.len().to_string());
    }
    if let Some(windows) = case["expected_windows_utc"].as_array() {
        let expected: Vec<String> = windows
            .iter()
            .map(|w| format!("{}/{}", w["start"].as_str().unwrap(), w["end"].as_str().unwrap()))
            .collect();
        let found = parsed.hours().unwrap().open_windows(parsed.range().unwrap());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        compare("windows", format!("{expected:?}"), format!("{found:?}"));
    }
    if let Some(dates) = case["expected_by_viewer_date"].as_object() {
        let zone = parse_zone(case["viewer_timezone"].as_str().unwrap()).unwrap();
        let expected: BTreeMap<String, Vec<Timestamp>> =
            dates.iter().map(|(date, list)| (date.clone(), instants(list))).collect();
        let found: BTreeMap<String, Vec<Timestamp>> = by_viewer_date(&slots, &zone)
            .into_iter()
            .map(|(date, list)| (date.to_string(), list))
            .collect();
        compare("viewer dates", format!("{expected:?}"), format!("{found:?}"));
    }
    wrong
}

#[test]
fn every_case_gives_exactly_the_expected_slots() {
    let file = file();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 60);
    let failed: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            let id = case["id"].as_str().unwrap();
            differences(case).into_iter().map(move |difference| format!("{id}: {difference}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} differences\n{}", failed.len(), failed.join("\n"));
}

/// An `expected_…` field that nothing reads would be a fact that nothing checks.
#[test]
fn every_expectation_in_the_file_is_checked() {
    const CHECKED: [&str; 4] =
        ["expected_slots_utc", "expected_count", "expected_windows_utc", "expected_by_viewer_date"];
    for case in file()["cases"].as_array().unwrap() {
        for field in case.as_object().unwrap().keys().filter(|f| f.starts_with("expected")) {
            assert!(CHECKED.contains(&field.as_str()), "{}: {field}", case["id"]);
        }
    }
}

fn conflict_case(id: &str) -> Value {
    let file = file();
    let cases = file["conflict_cases"].as_array().unwrap();
    cases.iter().find(|case| case["id"] == id).unwrap().clone()
}

fn interval(ends: &Value) -> Interval {
    let ends = instants(ends);
    Interval::new(ends[0], ends[1]).unwrap()
}

/// Whether the new interval of a case conflicts when every reservation keeps `buffer_min` after it.
///
/// LibreBooking has one buffer between neighbours where ours add up (as in cal.com), so its rule is
/// written here as a buffer after each reservation and none before.
fn conflicts(case: &Value, buffer_min: u16) -> bool {
    let buffers = Buffers { before_min: 0, after_min: buffer_min };
    let existing = case["existing_same_resource"].as_array().unwrap().iter().zip(1u128..);
    let busy: BusySet = existing
        .map(|(ends, key)| Busy::new(key, interval(ends), buffers, BusyKind::Booking))
        .collect();
    let view = Viewpoint::at(Timestamp::UNIX_EPOCH);
    busy.conflict(interval(&case["new"]), buffers, view).is_some()
}

#[test]
fn librebooking_conflicts() {
    assert_eq!(file()["conflict_cases"].as_array().unwrap().len(), 5);
    for (id, buffer_min, expected) in [
        ("lb-conf-01", 60, true),
        ("lb-conf-02", 60, false),
        ("lb-conf-03", 30, false),
        ("lb-conf-04", 0, false),
    ] {
        let case = conflict_case(id);
        let text = case["expected"].as_str().unwrap();
        assert_eq!(text.starts_with("conflict"), expected, "{id} says {text}");
        assert_eq!(conflicts(&case, buffer_min), expected, "{id}");
        // One minute more of buffer than the gap: the boundary is where the case says it is.
        assert!(conflicts(&case, buffer_min + 1), "{id}, one minute more");
    }
    // The real conflict that the note of the last case names.
    let mut case = conflict_case("lb-conf-04");
    case["existing_same_resource"] =
        serde_json::json!([["2010-04-04T00:00:00Z", "2010-04-08T00:00:00Z"]]);
    assert!(conflicts(&case, 0));
}

#[test]
fn a_hold_conflicts_with_starts_near_it() {
    let case = conflict_case("v2-hold-01");
    assert_eq!(case["expected"], "422 for hold start +15 min, -15 min and +10 min");
    let schedule = serde_json::json!({"timeZone": "UTC", "weekly": [{"weekday": 1, "start": "09:00", "end": "17:00"}]});
    let hours = Hours::new(&serde_json::from_value(schedule).unwrap()).unwrap();
    let rules = hub::domain::rules::SlotRules::new(60, 5).unwrap();
    let start: Timestamp = "2026-06-15T13:00:00Z".parse().unwrap();
    let kind = BusyKind::Hold { owner: 1, expires_at: "2026-06-14T12:05:00Z".parse().unwrap() };
    let hold = Interval::lasting(start, minutes(60));
    let busy = BusySet::from_iter([Busy::new(9, hold, Buffers::default(), kind)]);
    let view = Viewpoint::at("2026-06-14T12:00:00Z".parse().unwrap());
    let query = SlotQuery { hours: &hours, rules: &rules, busy: &busy, view };
    let check = |offset: i64| query.check_start(shifted(start, minutes(offset)));
    for offset in [15, -15, 10, 0] {
        assert_eq!(check(offset).unwrap_err().rule(), "taken", "{offset}");
    }
    for offset in [60, -60] {
        assert_eq!(check(offset), Ok(()), "{offset}");
    }
}

struct Repeats {
    zone: TimeZone,
    starts: Vec<Timestamp>,
}

impl Repeats {
    /// The occurrences of a recurrence case. `EST` and `CST` stand for the cities that keep them.
    fn of(id: &str, every: Every) -> Self {
        let file = file();
        let cases = file["recurrence_cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["id"] == id).unwrap();
        let zone = match case["timezone"].as_str().unwrap() {
            "EST (as written there)" => "America/New_York",
            "CST (as written there)" => "America/Chicago",
            name => name,
        };
        let zone = parse_zone(zone).unwrap();
        let first: DateTime =
            case["first"].as_str().unwrap().trim_end_matches(" local").parse().unwrap();
        let until = case["until"].as_str().unwrap().parse().unwrap();
        let starts = Recurrence { first, every, until }.occurrences(&zone);
        Self { zone, starts }
    }

    fn local(&self) -> Vec<String> {
        self.starts.iter().map(|start| self.zone.to_datetime(*start).to_string()).collect()
    }
}

fn every(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

#[test]
fn first_wednesdays_keep_their_clock_time_across_clock_changes() {
    for (id, clock, count) in [("lb-rec-01", "T09:00:00", 8), ("lb-rec-02", "T13:00:00", 10)] {
        let rule = Every::Months { step: every(1), nth: 1, weekday: Weekday::Wednesday };
        let repeats = Repeats::of(id, rule);
        assert_eq!(repeats.starts.len(), count, "{id}: {:?}", repeats.local());
        for (start, local) in repeats.starts.iter().zip(repeats.local()) {
            let date = local_date(*start, &repeats.zone);
            assert!(date.weekday() == Weekday::Wednesday && date.day() <= 7, "{local}");
            assert!(local.ends_with(clock), "{local}");
        }
        let utc_hours: std::collections::BTreeSet<i64> = repeats
            .starts
            .iter()
            .map(|start| start.as_second().rem_euclid(24 * 60 * 60) / (60 * 60))
            .collect();
        assert_eq!(utc_hours.len(), 2, "{id} is meant to cross a clock change");
    }
}

#[test]
fn every_second_day() {
    let repeats = Repeats::of("lb-rec-03", Every::Days(every(2)));
    let local = repeats.local();
    assert_eq!(local.len() - 1, 24); // the case counts the repeats after the first
    assert_eq!(local[1], "2010-02-14T08:30:00");
    assert_eq!(local[24], "2010-04-01T08:30:00");
}

#[test]
fn every_second_week_on_three_weekdays() {
    let on = vec![Weekday::Monday, Weekday::Wednesday, Weekday::Friday];
    let repeats = Repeats::of("lb-rec-04", Every::Weeks { step: every(2), on });
    let local = repeats.local();
    assert_eq!(local.len(), 10);
    let first_four = ["2010-02-12", "2010-02-22", "2010-02-24", "2010-02-26"];
    assert_eq!(local[..4], first_four.map(|date| format!("{date}T08:30:00")));
    assert_eq!(local[9], "2010-03-26T08:30:00");
}

/// A practitioner with 10,000 bookings ahead: asking about a month must not read them all. The
/// bound is a hundred times what a release build takes here, so that only a change of order fails.
#[test]
fn a_month_out_of_ten_thousand_bookings_is_quick() {
    let schedule: Vec<Value> = (1..=7)
        .map(|day| serde_json::json!({"weekday": day, "start": "06:00", "end": "22:00"}))
        .collect();
    let schedule = serde_json::json!({"timeZone": "America/New_York", "weekly": schedule});
    let hours = Hours::new(&serde_json::from_value(schedule).unwrap()).unwrap();
    let rules = hub::domain::rules::SlotRules::new(30, 15).unwrap().with_buffers(5, 5).unwrap();
    let first: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
    let busy: BusySet = (0..10_000i64)
        .zip(1u128..)
        .map(|(n, key)| {
            let time = Interval::lasting(shifted(first, minutes(n * 95)), minutes(30));
            Busy::new(key, time, Buffers { before_min: 5, after_min: 5 }, BusyKind::Booking)
        })
        .collect();
    let query = SlotQuery { hours: &hours, rules: &rules, busy: &busy, view: Viewpoint::at(first) };
    let month = Interval::lasting(
        "2026-10-15T00:00:00Z".parse().unwrap(),
        SignedDuration::from_hours(31 * 24),
    );
    let times: Vec<_> = (0..20)
        .map(|_| {
            let began = std::time::Instant::now();
            assert!(query.slots(month).len() > 100);
            began.elapsed()
        })
        .collect();
    let best = times.iter().min().unwrap();
    println!("31 days among 10,000 bookings: {best:?}");
    assert!(best.as_millis() < 50, "{best:?}");
}
