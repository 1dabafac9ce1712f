//! The grid, the refusals and the laws that hold for every schedule.

mod days;

use crate::domain::busy::{Buffers, Busy, BusyKind};
use crate::domain::limits::{Limit, Limits, limits_at};
use crate::domain::schedule::Schedule;
use crate::domain::slots::*;
use jiff::civil;
use proptest::prelude::*;
use std::num::NonZeroU16;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> Interval {
    Interval::new(at(from), at(to)).unwrap()
}

fn hours(zone: &str, weekly: &[(i64, &str, &str)]) -> Hours {
    let weekly: Vec<_> = weekly
        .iter()
        .map(|(day, start, end)| serde_json::json!({"weekday": day, "start": start, "end": end}))
        .collect();
    let schedule = serde_json::json!({"timeZone": zone, "weekly": weekly});
    Hours::new(&serde_json::from_value::<Schedule>(schedule).unwrap()).unwrap()
}

fn always(zone: &str) -> Hours {
    hours(zone, &[1, 2, 3, 4, 5, 6, 7].map(|day| (day, "00:00", "24:00")))
}

fn booking(key: u128, start: &str, length: i64) -> Busy {
    let time = Interval::lasting(at(start), minutes(length));
    Busy::new(key, time, Buffers::default(), BusyKind::Booking)
}

/// A calendar to ask; each test changes what it is about.
#[derive(Debug)]
struct Calendar {
    hours: Hours,
    rules: SlotRules,
    busy: BusySet,
    view: Viewpoint,
}

impl Calendar {
    fn new(hours: Hours, duration: i64, increment: i64) -> Self {
        let rules = SlotRules::new(duration, increment).unwrap();
        let view = Viewpoint::at(at("2000-01-01T00:00:00Z"));
        Self { hours, rules, busy: BusySet::default(), view }
    }

    fn query(&self) -> SlotQuery<'_> {
        SlotQuery { hours: &self.hours, rules: &self.rules, busy: &self.busy, view: self.view }
    }

    fn texts(&self, from: &str, to: &str) -> Vec<String> {
        self.query().slots(range(from, to)).iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_25_hour_day_has_25_hourly_slots_and_a_23_hour_day_23() {
    let mut calendar = Calendar::new(always("America/New_York"), 60, 60);
    let fall = ("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
    let spring = ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z");
    for grid in [calendar.rules.grid, Grid::Window] {
        calendar.rules.grid = grid;
        assert_eq!(calendar.texts(fall.0, fall.1).len(), 25);
        assert_eq!(calendar.texts(spring.0, spring.1).len(), 23);
    }
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    // 2026-10-04 02:00 becomes 02:30: from 01:00 (+10:30) to 05:00 (+11) are 3.5 hours.
    let mut calendar =
        Calendar::new(hours("Australia/Lord_Howe", &[(7, "01:00", "05:00")]), 30, 60);
    let day = ("2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z");
    // The restarting grid is aligned once, at its start; its steps are real hours.
    let hourly = [
        "2026-10-03T14:30:00Z",
        "2026-10-03T15:30:00Z",
        "2026-10-03T16:30:00Z",
        "2026-10-03T17:30:00Z",
    ];
    assert_eq!(calendar.texts(day.0, day.1), hourly);
    calendar.rules.grid = Grid::Window;
    assert_eq!(calendar.texts(day.0, day.1), hourly);
    // After a booking that ends at 02:40 local (15:40Z) the next full hour is 03:00 local.
    calendar.rules.grid = Grid::restart(NonZeroU16::new(60).unwrap());
    calendar.busy.insert(booking(1, "2026-10-03T14:30:00Z", 70));
    assert_eq!(calendar.texts(day.0, day.1), ["2026-10-03T16:00:00Z", "2026-10-03T17:00:00Z"]);
}

#[test]
fn rounding_up_looks_again_after_the_clock_moved() {
    // 01:40 rounds to 02:00, which is 02:30 that night; the next full hour is 03:00.
    let zone = crate::domain::time::parse_zone("Australia/Lord_Howe").unwrap();
    let rounded = round_up_to_clock(at("2026-10-03T15:10:00Z"), 60, &zone);
    assert_eq!(zone.to_datetime(rounded), civil::datetime(2026, 10, 4, 3, 0, 0, 0));
    let exact = at("2026-10-03T14:30:00Z");
    assert_eq!(round_up_to_clock(exact, 60, &zone), exact);
    let second_after = round_up_to_clock(at("2026-10-03T14:30:01Z"), 15, &zone);
    assert_eq!(second_after, at("2026-10-03T14:45:00Z"));
    // Multiples are of the hour: with 25 minutes they are :00, :25 and :50.
    let late = round_up_to_clock(at("2026-10-03T14:21:00Z"), 25, &zone); // 00:51
    assert_eq!(late, at("2026-10-03T14:30:00Z"));
}

#[test]
fn a_half_hour_zone_is_aligned_to_its_own_clock() {
    let calendar = Calendar::new(hours("Asia/Kolkata", &[(3, "09:10", "12:00")]), 60, 60);
    assert_eq!(
        calendar.texts("2026-06-17T00:00:00Z", "2026-06-18T00:00:00Z"),
        ["2026-06-17T04:30:00Z", "2026-06-17T05:30:00Z"]
    );
}

#[test]
fn a_skipped_day_has_no_slots_and_takes_none_from_its_neighbours() {
    let week = [1, 2, 3, 4, 5, 6, 7].map(|day| (day, "09:00", "12:00"));
    let mut calendar = Calendar::new(hours("Pacific/Apia", &week), 60, 60);
    calendar.view.now = at("2011-12-29T00:00:00Z"); // the 28th in Apia
    let span = ("2011-12-29T12:00:00Z", "2012-01-01T12:00:00Z");
    let slots = calendar.texts(span.0, span.1);
    // Thursday the 29th (-10), Saturday the 31st and Sunday (+14).
    let days = ["2011-12-29T19:00:00Z", "2011-12-30T19:00:00Z", "2011-12-31T19:00:00Z"];
    assert_eq!(slots.len(), 9);
    assert_eq!([&slots[0], &slots[3], &slots[6]], days);
    // Two days ahead of the 28th is the 30th, which nobody saw: the 29th is the last.
    calendar.rules.horizon = Horizon::Rolling { days: 2, count: CountedDays::Calendar };
    assert_eq!(calendar.texts(span.0, span.1).len(), 3);
}

#[test]
fn around_the_clock_the_grid_begins_anew_each_week() {
    // 50 minutes do not divide a week, so the last start of a week is a short step from Monday.
    let mut calendar = Calendar::new(always("Asia/Kolkata"), 50, 50);
    for grid in [Grid::Window, calendar.rules.grid] {
        calendar.rules.grid = grid;
        // Monday 2026-06-15 00:00 in India.
        let slots = calendar.texts("2026-06-14T17:00:00Z", "2026-06-14T20:15:00Z");
        assert_eq!(
            slots,
            [
                "2026-06-14T17:10:00Z",
                "2026-06-14T18:00:00Z",
                "2026-06-14T18:30:00Z",
                "2026-06-14T19:20:00Z"
            ]
        );
    }
}

#[test]
fn a_window_that_began_last_monday_keeps_its_grid_this_week() {
    // Around the clock, but closed on Sunday 2026-06-07: open since Monday the 8th, 00:00.
    let weekly: Vec<_> = (1..=7)
        .map(|day| serde_json::json!({"weekday": day, "start": "00:00", "end": "24:00"}))
        .collect();
    let closed = serde_json::json!([{"date": "2026-06-07", "windows": []}]);
    let schedule = serde_json::json!({"timeZone": "UTC", "weekly": weekly, "overrides": closed});
    let hours = Hours::new(&serde_json::from_value::<Schedule>(schedule).unwrap()).unwrap();
    let mut calendar = Calendar::new(hours, 50, 50);
    calendar.rules.grid = Grid::Window;
    // A week is 201 steps of 50 minutes and 30 minutes more.
    assert_eq!(
        calendar.texts("2026-06-14T23:00:00Z", "2026-06-15T01:30:00Z"),
        ["2026-06-14T23:30:00Z", "2026-06-15T00:20:00Z"]
    );
    assert_eq!(
        calendar.texts("2026-06-22T00:00:00Z", "2026-06-22T01:40:00Z"),
        ["2026-06-22T00:00:00Z", "2026-06-22T00:50:00Z"]
    );
}

#[test]
fn the_asked_range_does_not_move_the_grid() {
    let calendar = Calendar::new(hours("UTC", &[(1, "09:00", "17:00")]), 45, 45);
    let day = calendar.texts("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z");
    let rest = calendar.texts("2026-06-15T10:10:00Z", "2026-06-16T00:00:00Z");
    assert_eq!(day[2..], rest);
}

#[test]
fn nor_does_now() {
    let mut calendar = Calendar::new(hours("UTC", &[(1, "09:00", "17:00")]), 45, 45);
    calendar.view.now = at("2026-06-15T10:30:00Z");
    let slots = calendar.texts("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z");
    assert_eq!(slots[0], "2026-06-15T11:15:00Z"); // 10:30 has begun
    calendar.rules = calendar.rules.with_notice(45).unwrap();
    assert_eq!(calendar.texts("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z"), slots);
}

#[test]
fn each_refusal_names_its_rule() {
    let mut calendar = Calendar::new(hours("UTC", &[(1, "09:00", "17:00")]), 60, 30);
    calendar.view.now = at("2026-06-15T08:00:00Z");
    calendar.rules = calendar.rules.with_notice(90).unwrap();
    calendar.rules.horizon = Horizon::Rolling { days: 3, count: CountedDays::Calendar };
    calendar.busy.insert(booking(7, "2026-06-15T12:00:00Z", 60));
    let cases = [
        ("2026-06-15T08:00:00Z", Some("in_past")),
        ("2026-06-15T09:00:00Z", Some("notice")),
        ("2026-06-22T09:00:00Z", Some("horizon")),
        ("2026-06-15T16:30:00Z", Some("hours")),
        ("2026-06-16T10:00:00Z", Some("hours")),
        ("2026-06-15T11:30:00Z", Some("taken")),
        ("2026-06-15T10:10:00Z", Some("grid")),
        ("2026-06-15T09:30:00Z", None),
        ("2026-06-15T11:00:00Z", None),
        ("2026-06-15T16:00:00Z", None),
    ];
    for (start, rule) in cases {
        let refusal = calendar.query().check_start(at(start)).err();
        assert_eq!(refusal.map(|r| r.rule()), rule, "{start}");
    }
    let refusal = calendar.query().check_start(at("2026-06-15T12:30:00Z")).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::Taken { key: 7, .. }));
    assert_eq!(
        refusal.to_string(),
        "with its buffers it meets a booking that occupies 2026-06-15T12:00:00Z/2026-06-15T13:00:00Z"
    );
}

#[test]
fn explain_gives_a_reason_for_every_start_that_is_missing() {
    let mut calendar = Calendar::new(hours("UTC", &[(1, "09:00", "12:30")]), 60, 60);
    calendar.view.now = at("2026-06-15T09:00:00Z");
    calendar.busy.insert(booking(7, "2026-06-15T10:00:00Z", 30));
    let found = calendar.query().explain(range("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z"));
    assert_eq!(found.slots, [at("2026-06-15T11:00:00Z")]);
    let rules: Vec<_> = found
        .rejected
        .iter()
        .map(|(start, why)| match why {
            Rejection::Refused(refusal) => (start.to_string(), refusal.rule()),
            Rejection::EndsAfterRange => (start.to_string(), "range"),
        })
        .collect();
    let expected = [("09", "in_past"), ("10", "taken"), ("12", "hours")];
    let expected = expected.map(|(h, rule)| (format!("2026-06-15T{h}:00:00Z"), rule));
    assert_eq!(rules, expected);
    let short = calendar.query().explain(range("2026-06-15T11:00:00Z", "2026-06-15T11:59:00Z"));
    assert_eq!(short.rejected, [(at("2026-06-15T11:00:00Z"), Rejection::EndsAfterRange)]);
}

#[test]
fn own_holds_and_the_booking_being_moved_do_not_block() {
    let mut calendar = Calendar::new(hours("UTC", &[(1, "09:00", "11:00")]), 60, 60);
    let time = Interval::lasting(at("2026-06-15T09:00:00Z"), minutes(60));
    let hold = BusyKind::Hold { owner: 5, expires_at: at("2026-06-15T08:05:00Z") };
    calendar.busy.insert(Busy::new(1, time, Buffers::default(), hold));
    calendar.busy.insert(booking(2, "2026-06-15T10:00:00Z", 60));
    calendar.view.now = at("2026-06-15T08:00:00Z");
    let day = ("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z");
    let nothing: [&str; 0] = [];
    assert_eq!(calendar.texts(day.0, day.1), nothing);
    calendar.view.asker = Some(5);
    assert_eq!(calendar.texts(day.0, day.1), ["2026-06-15T09:00:00Z"]);
    calendar.view = Viewpoint { moving: Some(2), asker: None, ..calendar.view };
    assert_eq!(calendar.texts(day.0, day.1), ["2026-06-15T10:00:00Z"]);
    calendar.view = Viewpoint::at(at("2026-06-15T08:05:00Z"));
    assert_eq!(calendar.texts(day.0, day.1), ["2026-06-15T09:00:00Z"]);
}

#[test]
fn a_rolling_window_without_free_days_ends_where_the_search_does() {
    let mut calendar = Calendar::new(hours("UTC", &[]), 60, 60);
    calendar.view.now = at("2026-06-15T08:00:00Z");
    calendar.rules.horizon = Horizon::RollingWindow { days: 3, count: CountedDays::Business };
    assert_eq!(
        calendar.query().check_start(at("2026-06-16T09:00:00Z")),
        Err(SlotRefusal::OutsideHours)
    );
    assert!(matches!(
        calendar.query().check_start(at("2027-06-16T09:00:00Z")),
        Err(SlotRefusal::OutsideHorizon { .. })
    ));
}

#[test]
fn the_ends_of_time_do_not_hang() {
    let mut calendar = Calendar::new(always("Asia/Kolkata"), 60, 60);
    calendar.view.now = Timestamp::MIN;
    let end = Interval::new(at("9999-12-30T00:00:00Z"), Timestamp::MAX).unwrap();
    assert!(!calendar.query().slots(end).is_empty());
    assert!(calendar.query().check_start(Timestamp::MAX).is_err());
    calendar.rules.horizon = Horizon::RollingWindow { days: 3, count: CountedDays::Calendar };
    calendar.view.now = Timestamp::MAX;
    assert!(calendar.query().check_start(Timestamp::MAX).is_err());
}

#[test]
fn slots_by_date_are_the_same_instants() {
    let calendar = Calendar::new(always("Asia/Kolkata"), 60, 60);
    let slots = calendar.query().slots(range("2026-06-14T00:00:00Z", "2026-06-17T00:00:00Z"));
    for zone in ["Pacific/Pago_Pago", "Asia/Kolkata", "Pacific/Kiritimati"] {
        let zone = crate::domain::time::parse_zone(zone).unwrap();
        let dates = by_viewer_date(&slots, &zone);
        assert_eq!(dates.into_values().flatten().collect::<Vec<_>>(), slots);
    }
}

/// A session of the service `service`, held or booked.
fn session(key: u128, start: &str, service: u128, kind: BusyKind) -> Busy {
    let time = Interval::lasting(at(start), minutes(60));
    Busy::new(key, time, Buffers::default(), kind).of_service(service)
}

/// The rule that refuses each start, or `ok`.
fn rules_at(calendar: &Calendar, starts: &[&str]) -> Vec<&'static str> {
    let check = |start: &&str| calendar.query().check_start(at(start));
    starts.iter().map(|start| check(start).err().map_or("ok", |why| why.rule())).collect()
}

#[test]
fn a_full_day_and_a_full_week_are_those_of_the_practitioner() {
    // Kolkata's Monday the 15th is from 18:30Z on Sunday the 14th.
    let mut calendar = Calendar::new(always("Asia/Kolkata"), 60, 60);
    calendar.rules.limits = Limits::new(Some(2), None).unwrap();
    calendar.busy.insert(session(1, "2026-06-14T18:30:00Z", 0, BusyKind::Booking));
    calendar.busy.insert(session(2, "2026-06-15T17:30:00Z", 0, BusyKind::Counted));
    let starts = ["2026-06-14T17:30:00Z", "2026-06-15T08:30:00Z", "2026-06-15T18:30:00Z"];
    assert_eq!(rules_at(&calendar, &starts), ["ok", "limit", "ok"]);
    // One who is not of the service counts for the practitioner only.
    calendar.busy.insert(session(3, "2026-06-15T20:30:00Z", 1, BusyKind::Booking));
    assert_eq!(rules_at(&calendar, &starts), ["ok", "limit", "ok"]);
    calendar.hours.limits = Limits::new(None, Some(3)).unwrap();
    assert_eq!(rules_at(&calendar, &starts), ["ok", "limit", "limit"]);
    let next_week = ["2026-06-21T17:30:00Z", "2026-06-21T18:30:00Z"];
    assert_eq!(rules_at(&calendar, &next_week), ["limit", "ok"]);
    let refusal = calendar.query().check_start(at(next_week[0])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "as many sessions of the practitioner as may begin in \
         2026-06-14T18:30:00Z/2026-06-21T18:30:00Z are there already: 3"
    );
}

#[test]
fn own_holds_what_is_moved_and_who_shares_a_session_need_no_room() {
    let mut calendar = Calendar::new(always("UTC"), 60, 60);
    calendar.rules.limits = Limits::new(Some(1), None).unwrap();
    let hold = BusyKind::Hold { owner: 5, expires_at: at("2026-06-14T12:05:00Z") };
    calendar.view.now = at("2026-06-14T12:00:00Z");
    calendar.busy.insert(session(1, "2026-06-15T09:00:00Z", 0, hold));
    let noon = "2026-06-15T12:00:00Z";
    assert_eq!(rules_at(&calendar, &[noon]), ["limit"]);
    calendar.view.asker = Some(5);
    assert_eq!(rules_at(&calendar, &[noon]), ["ok"]);
    calendar.view = Viewpoint::at(at("2026-06-14T12:05:00Z"));
    assert_eq!(rules_at(&calendar, &[noon]), ["ok"]);
    calendar.busy.insert(session(2, "2026-06-15T15:00:00Z", 0, BusyKind::Booking));
    assert_eq!(rules_at(&calendar, &[noon]), ["limit"]);
    calendar.view.moving = Some(2);
    assert_eq!(rules_at(&calendar, &[noon]), ["ok"]);
    // Two seats of one session are one session.
    calendar.view.moving = None;
    calendar.busy.insert(session(3, "2026-06-15T15:00:00Z", 0, BusyKind::Booking));
    calendar.rules.limits = Limits::new(Some(2), None).unwrap();
    assert_eq!(rules_at(&calendar, &[noon]), ["ok"]);
}

#[test]
fn a_full_day_is_no_available_day_and_explain_says_why() {
    let mut calendar = Calendar::new(always("UTC"), 60, 60);
    calendar.view.now = at("2026-06-14T23:30:00Z");
    calendar.rules.limits = Limits::new(Some(1), None).unwrap();
    calendar.rules.horizon = Horizon::RollingWindow { days: 2, count: CountedDays::Calendar };
    calendar.busy.insert(session(1, "2026-06-15T09:00:00Z", 0, BusyKind::Booking));
    // The first two days with room are the 16th and the 17th.
    let starts = ["2026-06-15T12:00:00Z", "2026-06-17T23:00:00Z", "2026-06-18T00:00:00Z"];
    assert_eq!(rules_at(&calendar, &starts), ["limit", "ok", "horizon"]);
    let found = calendar.query().explain(range("2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z"));
    assert_eq!(found.slots, []);
    let limited = found
        .rejected
        .iter()
        .filter(|(_, why)| matches!(why, Rejection::Refused(refusal) if refusal.rule() == "limit"));
    assert_eq!((found.rejected.len(), limited.count()), (24, 23));
}

// The laws. Days around clock changes are as likely as all others together.

const ZONES: [(&str, &str); 6] = [
    ("Asia/Kolkata", "2026-06-17"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Pacific/Apia", "2011-12-30"),
];

fn a_clock_range() -> impl Strategy<Value = (i64, String, String)> {
    let text = |m: i64| format!("{:02}:{:02}", m / 60, m % 60);
    let ends = prop_oneof![
        Just((0, 1440)),
        (0i64..1380, 10i64..600).prop_map(|(start, length)| (start, (start + length).min(1440))),
    ];
    (1i64..=7, ends).prop_map(move |(day, (start, end))| (day, text(start), text(end)))
}

fn a_horizon() -> impl Strategy<Value = Horizon> {
    let count = || prop_oneof![Just(CountedDays::Calendar), Just(CountedDays::Business)];
    prop_oneof![
        Just(Horizon::Unlimited),
        (0u16..5, count()).prop_map(|(days, count)| Horizon::Rolling { days, count }),
        (0u16..5, count()).prop_map(|(days, count)| Horizon::RollingWindow { days, count }),
    ]
}

/// Of the service (whose name is 0) and of the practitioner; mostly none.
fn some_limits() -> impl Strategy<Value = (Limits, Limits)> {
    let one = || prop_oneof![3 => Just(None), 1 => (1i64..4).prop_map(Some)];
    let two = move || (one(), one()).prop_map(|(day, week)| Limits::new(day, week).unwrap());
    (two(), two())
}

prop_compose! {
    /// A calendar and a range of up to three days near the day that its zone is listed with.
    fn a_calendar()(
        zone in 0..ZONES.len(),
        weekly in prop::collection::vec(a_clock_range(), 0..12),
        around_the_clock in prop::bool::weighted(0.1),
        (duration, increment) in (5i64..180, 5i64..180),
        (before, after, notice) in (0i64..60, 0i64..60, 0i64..240),
        horizon in a_horizon(),
        (window_grid, align, offset) in (any::<bool>(), 1u16..=60, prop_oneof![Just(0u16), 0u16..40]),
        travel in prop::option::weighted(0.3, (-2i32..2, 0i32..3, 0..ZONES.len())),
        busy in prop::collection::vec((-3000i64..5000, 1i64..600, 0u16..60, 0u16..60, 0u8..5), 0..12),
        (from, length, now) in (-1500i64..1500, 0i64..4500, -4000i64..1500),
        limits in some_limits(),
    ) -> (Calendar, Interval) {
        let (zone, date) = ZONES[zone];
        let ranges: Vec<_> =
            weekly.iter().map(|(day, start, end)| (*day, start.as_str(), end.as_str())).collect();
        let stay = travel.map(|(from, days, to)| days::stay(date, from, days, ZONES[to].0));
        let hours = match (stay, around_the_clock) {
            (None, true) => always(zone),
            (None, false) => hours(zone, &ranges),
            (Some(stay), _) => days::away(zone, &ranges, stay),
        };
        let noon = at(&format!("{date}T12:00:00Z"));
        let mut calendar = Calendar::new(hours, duration, increment);
        calendar.rules =
            calendar.rules.with_buffers(before, after).unwrap().with_notice(notice).unwrap();
        calendar.rules.horizon = horizon;
        calendar.rules.grid = match window_grid {
            true => Grid::Window,
            false => Grid::Restart { align_min: NonZeroU16::new(align).unwrap(), offset_min: offset },
        };
        calendar.view = Viewpoint::at(shifted(noon, minutes(now)));
        let expires_at = noon;
        let items = busy.into_iter().zip(1u128..).map(|((start, length, before, after, kind), key)| {
            let time = Interval::lasting(shifted(noon, minutes(start)), minutes(length));
            let kind = [BusyKind::Booking, BusyKind::External, BusyKind::Blocked, BusyKind::Counted,
                        BusyKind::Hold { owner: 1, expires_at }][usize::from(kind)];
            let item = Busy::new(key, time, Buffers { before_min: before, after_min: after }, kind);
            let is_session = !matches!(kind, BusyKind::External | BusyKind::Blocked);
            if is_session { item.of_service(key % 2) } else { item }
        });
        calendar.busy = items.collect();
        (calendar.rules.limits, calendar.hours.limits) = limits;
        (calendar, Interval::lasting(shifted(noon, minutes(from)), minutes(length)))
    }
}

/// The sessions in the span of a limit, by looking at every item.
fn naive_count(calendar: &Calendar, limit: Limit) -> usize {
    let mut sessions = std::collections::BTreeSet::new();
    for item in calendar.busy.items() {
        let stands = match item.kind() {
            BusyKind::Booking | BusyKind::Counted => true,
            BusyKind::Hold { expires_at, .. } => expires_at > calendar.view.now,
            BusyKind::Blocked | BusyKind::External => false,
        };
        let start = item.time().start();
        let of = item.service().filter(|service| !limit.of_service || *service == 0);
        if let (true, true, Some(service)) = (stands, limit.span.contains(start), of) {
            sessions.insert((service, start));
        }
    }
    sessions.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_start_is_listed_exactly_when_it_can_be_booked((calendar, range) in a_calendar(), part in 0i64..4500) {
        let query = calendar.query();
        let slots = query.slots(range);
        prop_assert!(slots.is_sorted());
        let look = |start: Timestamp| {
            if shifted(start, calendar.rules.duration()) <= range.end() {
                let (check, listed) = (query.check_start(start), slots.binary_search(&start));
                prop_assert_eq!(check.is_ok(), listed.is_ok(), "{}: {:?}", start, check);
            }
            Ok(())
        };
        // Every slot and its neighbours, and every minute of a few hours.
        for slot in &slots {
            for near in [-1, 0, 1] {
                look(shifted(*slot, minutes(near)).max(range.start()))?;
            }
        }
        for minute in 0..300 {
            look(shifted(range.start(), minutes(part + minute)))?;
        }
    }

    #[test]
    fn slots_keep_every_promise((calendar, range) in a_calendar()) {
        let windows = calendar.hours.open_windows(range.padded(minutes(3000), minutes(3000)));
        let (now, rules) = (calendar.view.now, &calendar.rules);
        for start in calendar.query().slots(range) {
            let wanted = Interval::lasting(start, rules.duration());
            prop_assert!(range.covers(&wanted));
            prop_assert!(windows.iter().any(|window| window.covers(&wanted)));
            prop_assert!(start > now && start >= rules.earliest(now));
            for limit in limits_at(&calendar.hours, rules, start) {
                prop_assert!(naive_count(&calendar, limit) < usize::from(limit.at_most), "{limit}");
            }
            for item in calendar.busy.items() {
                if item.kind() == BusyKind::Counted {
                    continue;
                }
                let expired = matches!(item.kind(), BusyKind::Hold { expires_at, .. } if expires_at <= now);
                prop_assert!(expired || !rules.buffers.around(wanted).overlaps(&item.occupied()));
            }
        }
    }

    #[test]
    fn the_first_start_is_the_first_of_all((calendar, range) in a_calendar(), weeks in 0i64..4) {
        let query = calendar.query();
        let range = range.padded(minutes(0), minutes(weeks * 7 * 24 * 60));
        let longer = range.padded(minutes(0), calendar.rules.duration());
        let first = query.slots(longer).first().copied().filter(|start| *start < range.end());
        prop_assert_eq!(query.first_start(range), first);
    }

    #[test]
    fn a_range_in_two_parts_gives_what_the_whole_gives((calendar, range) in a_calendar(), cut in 0i64..4500) {
        let query = calendar.query();
        let cut = shifted(range.start(), minutes(cut)).min(range.end());
        let whole = query.slots(range);
        let later = query.slots(Interval::new(cut, range.end()).unwrap());
        let expected: Vec<_> = whole.iter().copied().filter(|start| *start >= cut).collect();
        prop_assert_eq!(later, expected);
        let early = query.slots(Interval::new(range.start(), cut).unwrap());
        let fits = |start: &Timestamp| shifted(*start, calendar.rules.duration()) <= cut;
        prop_assert_eq!(early, whole.into_iter().filter(fits).collect::<Vec<_>>());
    }

    #[test]
    fn explain_lists_the_same_slots_and_rejects_only_others((calendar, range) in a_calendar()) {
        let found = calendar.query().explain(range);
        prop_assert_eq!(&found.slots, &calendar.query().slots(range));
        for (start, why) in found.rejected {
            prop_assert!(found.slots.binary_search(&start).is_err());
            if let Rejection::Refused(refusal) = why {
                prop_assert_eq!(calendar.query().check_start(start), Err(refusal));
            } else {
                prop_assert!(shifted(start, calendar.rules.duration()) > range.end());
            }
        }
    }

    #[test]
    fn busy_time_before_the_look_back_changes_nothing((mut calendar, range) in a_calendar()) {
        calendar.rules.horizon = Horizon::Unlimited;
        let slots = calendar.query().slots(range);
        let kept = shifted(range.start(), -crate::domain::availability::LOOK_BACK);
        let long_ago = Interval::lasting(shifted(kept, minutes(-9000)), minutes(8940));
        calendar.busy.insert(Busy::new(0, long_ago, Buffers::default(), BusyKind::Booking));
        prop_assert_eq!(calendar.query().slots(range), slots);
    }
}
