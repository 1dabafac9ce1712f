//! Dates that are not like the others: travel and public holidays.

use crate::domain::holidays::HolidayChoice;
use crate::domain::slots::tests::*;
use crate::domain::travel::Stay;

/// From `offset` days after `date`, for `days` more.
pub(super) fn stay(date: &str, offset: i32, days: i32, zone: &str) -> Stay {
    let from = date_after(date.parse().unwrap(), offset);
    let to = date_after(from, days);
    Stay { from: from.to_string(), to: to.to_string(), time_zone: zone.to_owned() }
}

fn schedule(zone: &str, weekly: &[(i64, &str, &str)]) -> Schedule {
    let weekly: Vec<_> = weekly
        .iter()
        .map(|(day, start, end)| serde_json::json!({"weekday": day, "start": start, "end": end}))
        .collect();
    serde_json::from_value(serde_json::json!({"timeZone": zone, "weekly": weekly})).unwrap()
}

/// The hours of one who is away once.
pub(super) fn away(zone: &str, weekly: &[(i64, &str, &str)], stay: Stay) -> Hours {
    Hours::new(&Schedule { travel: vec![stay], ..schedule(zone, weekly) }).unwrap()
}

fn every_day(start: &'static str, end: &'static str) -> Vec<(i64, &'static str, &'static str)> {
    (1..=7).map(|day| (day, start, end)).collect()
}

/// At home in Kolkata; in London from Tuesday 2026-06-16 to Wednesday the 17th.
fn to_london(start: &'static str, end: &'static str) -> Hours {
    away("Asia/Kolkata", &every_day(start, end), stay("2026-06-16", 0, 1, "Europe/London"))
}

#[test]
fn hours_are_read_where_the_practitioner_is() {
    let calendar = Calendar::new(to_london("09:00", "11:00"), 60, 60);
    assert_eq!(
        calendar.texts("2026-06-15T00:00:00Z", "2026-06-19T00:00:00Z"),
        [
            "2026-06-15T03:30:00Z",
            "2026-06-15T04:30:00Z",
            "2026-06-16T08:00:00Z",
            "2026-06-16T09:00:00Z",
            "2026-06-17T08:00:00Z",
            "2026-06-17T09:00:00Z",
            "2026-06-18T03:30:00Z",
            "2026-06-18T04:30:00Z",
        ]
    );
}

#[test]
fn neighbouring_dates_leave_a_gap_going_west_and_overlap_going_east() {
    let hours = to_london("00:00", "24:00");
    let week = range("2026-06-15T00:00:00Z", "2026-06-19T00:00:00Z");
    let windows: Vec<String> = hours.open_windows(week).iter().map(ToString::to_string).collect();
    assert_eq!(
        windows,
        [
            // Until midnight in Kolkata; the 16th begins at midnight in London.
            "2026-06-15T00:00:00Z/2026-06-15T18:30:00Z",
            // The 18th in Kolkata begins while it is the 17th in London: open once, without a break.
            "2026-06-15T23:00:00Z/2026-06-19T00:00:00Z",
        ]
    );
}

#[test]
fn overrides_and_weekdays_are_those_of_the_date() {
    let mut closed = schedule("Asia/Kolkata", &[(2, "09:00", "10:00"), (3, "09:00", "10:00")]);
    closed.travel = vec![stay("2026-06-16", 0, 1, "America/New_York")];
    let window =
        serde_json::json!({"date": "2026-06-17", "windows": [{"start": "22:00", "end": "24:00"}]});
    closed.overrides = vec![serde_json::from_value(window).unwrap()];
    let calendar = Calendar::new(Hours::new(&closed).unwrap(), 60, 60);
    assert_eq!(
        calendar.texts("2026-06-15T00:00:00Z", "2026-06-19T00:00:00Z"),
        // Tuesday 09:00 in New York, and Wednesday 22:00 there, which is Thursday in UTC.
        ["2026-06-16T13:00:00Z", "2026-06-18T02:00:00Z", "2026-06-18T03:00:00Z"]
    );
}

#[test]
fn a_restarting_grid_is_aligned_to_the_clock_there() {
    let mut calendar = Calendar::new(to_london("09:00", "12:00"), 60, 60);
    // Ends at ten past nine at home, and there.
    calendar.busy.insert(booking(1, "2026-06-15T03:30:00Z", 10));
    calendar.busy.insert(booking(2, "2026-06-16T08:00:00Z", 10));
    assert_eq!(
        calendar.texts("2026-06-15T00:00:00Z", "2026-06-17T00:00:00Z"),
        [
            "2026-06-15T04:30:00Z",
            "2026-06-15T05:30:00Z",
            "2026-06-16T09:00:00Z",
            "2026-06-16T10:00:00Z"
        ]
    );
}

#[test]
fn horizons_count_the_dates_of_the_practice() {
    let mut calendar = Calendar::new(to_london("00:00", "24:00"), 60, 60);
    calendar.rules.horizon = Horizon::Rolling { days: 0, count: CountedDays::Calendar };
    let last = |calendar: &Calendar| {
        let slots = calendar.query().slots(range("2026-06-14T00:00:00Z", "2026-06-20T00:00:00Z"));
        slots.last().map(ToString::to_string)
    };
    // Monday the 15th is today until midnight in London; its hours end at midnight in Kolkata.
    calendar.view.now = at("2026-06-15T12:00:00Z");
    assert_eq!(last(&calendar).as_deref(), Some("2026-06-15T17:30:00Z"));
    calendar.view.now = at("2026-06-15T22:59:00Z");
    assert_eq!(last(&calendar), None);
    // Tuesday the 16th is a day in London.
    calendar.view.now = at("2026-06-15T23:00:00Z");
    assert_eq!(last(&calendar).as_deref(), Some("2026-06-16T22:00:00Z"));
    // Wednesday the 17th has all its hours, while Thursday in Kolkata has begun.
    calendar.view.now = at("2026-06-17T12:00:00Z");
    assert_eq!(last(&calendar).as_deref(), Some("2026-06-17T22:00:00Z"));
    let (from, to) = (civil::date(2026, 6, 16), civil::date(2026, 6, 17));
    calendar.view.now = at("2026-06-14T00:00:00Z");
    calendar.rules.horizon = Horizon::Range { from, to };
    let slots = calendar.texts("2026-06-14T00:00:00Z", "2026-06-20T00:00:00Z");
    assert_eq!(slots.first().map(String::as_str), Some("2026-06-15T23:00:00Z"));
    assert_eq!(slots.last().map(String::as_str), Some("2026-06-17T22:00:00Z"));
    // Two days with slots from Wednesday morning on, and not a third for its evening.
    calendar.view.now = at("2026-06-17T05:00:00Z");
    calendar.rules.horizon = Horizon::RollingWindow { days: 2, count: CountedDays::Calendar };
    assert_eq!(last(&calendar).as_deref(), Some("2026-06-18T18:00:00Z"));
}

#[test]
fn weeks_begin_on_the_monday_of_the_practice() {
    // Around the clock at home in Kolkata, from Wednesday 2026-06-10 to the 20th in Tokyo.
    let stay = stay("2026-06-10", 0, 10, "Asia/Tokyo");
    let always = every_day("00:00", "24:00");
    let mut calendar = Calendar::new(away("Asia/Kolkata", &always, stay), 50, 50);
    calendar.rules.grid = Grid::Window;
    for (monday, from, to) in [
        ("2026-06-07T18:30:00Z", "2026-06-07T18:10:00Z", "2026-06-07T20:10:00Z"),
        ("2026-06-14T15:00:00Z", "2026-06-14T14:50:00Z", "2026-06-14T16:40:00Z"),
        // Westward, home again on Sunday: a new window.
        ("2026-06-20T18:30:00Z", "2026-06-20T15:10:00Z", "2026-06-20T20:10:00Z"),
    ] {
        let second = shifted(at(monday), minutes(50)).to_string();
        assert_eq!(calendar.texts(from, to), [monday, &second]);
    }
}

#[test]
fn a_practice_is_closed_on_holidays_but_for_opt_outs_and_overrides() {
    let mut with = schedule("Asia/Kolkata", &every_day("09:00", "10:00"));
    let (country, region) = ("IN".to_owned(), None);
    with.holidays = Some(HolidayChoice { country, region, except: Vec::new() });
    let starts = |schedule: &Schedule, date: &str| {
        let day = at(&format!("{date}T00:00:00Z"));
        let calendar = Calendar::new(Hours::new(schedule).unwrap(), 60, 60);
        let day = Interval::lasting(day, minutes(1440));
        (
            calendar.query().slots(day).len(),
            calendar.query().check_start(shifted(day.start(), minutes(210))),
        )
    };
    let gandhi =
        SlotRefusal::Holiday { date: civil::date(2026, 10, 2), name: "Mahatma Gandhi's Jayanti" };
    assert_eq!(starts(&with, "2026-10-01"), (1, Ok(())));
    assert_eq!(starts(&with, "2026-10-02"), (0, Err(gandhi)));
    assert_eq!(gandhi.rule(), "holiday");
    assert_eq!(gandhi.to_string(), "closed on 2026-10-02, Mahatma Gandhi's Jayanti");
    let mut opted_out = with.clone();
    opted_out.holidays.as_mut().unwrap().except = vec!["2026-10-02".to_owned()];
    assert_eq!(starts(&opted_out, "2026-10-02"), (1, Ok(())));
    let own =
        serde_json::json!({"date": "2026-10-02", "windows": [{"start": "09:00", "end": "10:00"}]});
    with.overrides = vec![serde_json::from_value(own).unwrap()];
    assert_eq!(starts(&with, "2026-10-02"), (1, Ok(())));
    // An override that closes is the practice's own doing, not the holiday's.
    with.overrides[0].windows.clear();
    assert_eq!(starts(&with, "2026-10-02"), (0, Err(SlotRefusal::OutsideHours)));
}

#[test]
fn a_holiday_is_named_only_when_it_is_the_reason() {
    let mut nights = schedule("Asia/Kolkata", &[(4, "20:00", "24:00"), (5, "00:00", "02:00")]);
    let (country, region) = ("IN".to_owned(), None);
    nights.holidays = Some(HolidayChoice { country, region, except: Vec::new() });
    let calendar = Calendar::new(Hours::new(&nights).unwrap(), 60, 30);
    let rule = |start: &str| calendar.query().check_start(at(start)).map_err(|why| why.rule());
    // Friday 2026-10-02 is a holiday: Thursday's night ends at midnight.
    assert_eq!(rule("2026-10-01T17:30:00Z"), Ok(()));
    assert_eq!(rule("2026-10-01T18:00:00Z"), Err("holiday"));
    assert_eq!(rule("2026-10-01T19:30:00Z"), Err("holiday"));
    assert_eq!(rule("2026-10-01T20:00:00Z"), Err("hours"));
    let found = calendar.query().explain(range("2026-10-01T12:00:00Z", "2026-10-02T12:00:00Z"));
    let rejected: Vec<_> = found
        .rejected
        .iter()
        .map(|(start, why)| match why {
            Rejection::Refused(refusal) => format!("{start} {}", refusal.rule()),
            Rejection::EndsAfterRange => format!("{start} range"),
        })
        .collect();
    assert_eq!(
        rejected,
        [
            "2026-10-01T18:00:00Z holiday",
            "2026-10-01T18:30:00Z holiday",
            "2026-10-01T19:00:00Z holiday",
            "2026-10-01T19:30:00Z holiday",
            "2026-10-01T20:00:00Z hours",
        ]
    );
}
