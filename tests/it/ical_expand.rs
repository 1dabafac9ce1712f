//! Random calendars, expanded twice: by the domain and by other people's code
//! (`tests/oracle/ical_oracle.py`), which shares nothing with it. `ICAL_CASES` (300) sets how many,
//! `ICAL_SEED` (1) which ones.

use std::env;
use std::fmt::Write;

use hub::domain::ics::read::{MAX_OCCURRENCES, Problem, busy_times, window};
use hub::domain::intervals::union;
use hub::domain::time::{Interval, minutes, parse_zone};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::python::IcalOracle;

/// Zones whose clocks change at different times and by different amounts.
const ZONES: [&str; 12] = [
    "Ours/Berlin",
    "W. Europe Standard Time",
    "Asia/Kolkata",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Africa/Cairo",
    "Atlantic/Azores",
];

/// Two zones of the list that no zone data know: what the file says of them counts. The second is
/// as Outlook writes it.
const VTIMEZONES: &str = "BEGIN:VTIMEZONE\r\nTZID:Ours/Berlin\r\n\
    BEGIN:DAYLIGHT\r\nDTSTART:20200329T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\n\
    RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r\nEND:DAYLIGHT\r\n\
    BEGIN:STANDARD\r\nDTSTART:20201025T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\n\
    RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n\
    BEGIN:VTIMEZONE\r\nTZID:W. Europe Standard Time\r\n\
    BEGIN:STANDARD\r\nDTSTART:16010101T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10\r\nEND:STANDARD\r\n\
    BEGIN:DAYLIGHT\r\nDTSTART:16010101T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3\r\nEND:DAYLIGHT\r\nEND:VTIMEZONE\r\n";

/// splitmix64 (public domain, Vigna 2015): the same cases for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `sides` - 1.
    fn roll(&mut self, sides: i64) -> i64 {
        i64::try_from(self.next() >> 1).unwrap() % sides
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[usize::try_from(self.roll(i64::try_from(of.len()).unwrap())).unwrap()]
    }

    fn happens(&mut self, in_hundred: i64) -> bool {
        self.roll(100) < in_hundred
    }
}

/// How the times of an event are written.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    Utc,
    Floating,
    In(&'static str),
    Days,
}

impl Clock {
    fn stamp(self, name: &str, local: DateTime) -> String {
        let time = local.strftime("%Y%m%dT%H%M%S");
        match self {
            Self::Utc => format!("{name}:{time}Z"),
            Self::Floating => format!("{name}:{time}"),
            Self::In(zone) => format!("{name};TZID={zone}:{time}"),
            Self::Days => format!("{name};VALUE=DATE:{}", local.strftime("%Y%m%d")),
        }
    }
}

/// A rule that `first` is an occurrence of: what becomes of one that is not, nobody has laid down.
fn rule(dice: &mut Dice, first: DateTime) -> String {
    let (date, weekday) = (first.date(), weekday(first.date()));
    let interval = 1 + dice.roll(3);
    let nth = (date.day() - 1) / 7 + 1;
    let last = date.day() > date.days_in_month() - 7;
    let mut rule = match dice.roll(11) {
        0 => format!("FREQ=DAILY;INTERVAL={interval}"),
        1 => format!("FREQ=DAILY;BYMONTH={},{}", date.month(), 1 + dice.roll(12)),
        2 => format!("FREQ=WEEKLY;INTERVAL={interval}"),
        3 => {
            let (other, start) = (dice.one(&["MO", "WE", "SA", "SU"]), dice.one(&["MO", "SU"]));
            format!("FREQ=WEEKLY;INTERVAL={interval};BYDAY={weekday},{other};WKST={start}")
        }
        4 => format!("FREQ=MONTHLY;INTERVAL={interval}"),
        5 => format!("FREQ=MONTHLY;BYMONTHDAY={},-1", date.day()),
        6 if last => format!("FREQ=MONTHLY;BYDAY=-1{weekday}"),
        6 => format!("FREQ=MONTHLY;INTERVAL={interval};BYDAY={nth}{weekday}"),
        7 if last => format!("FREQ=MONTHLY;BYDAY={weekday};BYSETPOS=-1"),
        7 => format!("FREQ=MONTHLY;BYDAY={weekday};BYSETPOS={nth}"),
        8 => "FREQ=YEARLY".to_owned(),
        9 => format!("FREQ=YEARLY;BYMONTH={};BYMONTHDAY={}", date.month(), date.day()),
        _ => format!("FREQ=YEARLY;BYDAY={weekday};BYMONTH={}", date.month()),
    };
    if dice.happens(30) {
        write!(rule, ";COUNT={}", 1 + dice.roll(60)).unwrap();
    }
    rule
}

fn weekday(date: Date) -> &'static str {
    ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
        [usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()]
}

/// What makes an event count or not.
const MARKS: [&str; 4] =
    ["TRANSP:TRANSPARENT", "STATUS:CANCELLED", "STATUS:TENTATIVE", "TRANSP:OPAQUE"];

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

/// One UID: an event, its exceptions, and events that stand in for some of its occurrences.
struct Series {
    uid: i64,
    clock: Clock,
    first: DateTime,
}

impl Series {
    fn draw(dice: &mut Dice, uid: i64, around: Timestamp) -> Self {
        let clock = match dice.roll(10) {
            0 => Clock::Utc,
            1 => Clock::Floating,
            2 | 3 => Clock::Days,
            _ => Clock::In(dice.one(&ZONES)),
        };
        // Most events begin near the time that is asked for, some long before.
        let back = if dice.happens(25) { dice.roll(365 * 12) } else { dice.roll(150) - 60 };
        let day = jiff::tz::Offset::UTC.to_datetime(around).date();
        let midnight = day.checked_sub(back.days()).unwrap().at(0, 0, 0, 0);
        let first = match clock {
            Clock::Days => midnight,
            // Nights as well: clocks change there.
            _ => midnight + minutes(15 * dice.roll(96)),
        };
        Self { uid, clock, first }
    }

    fn write(&self, lines: &[String], text: &mut String) {
        write!(text, "BEGIN:VEVENT\r\nUID:{}@test\r\nDTSTAMP:20270101T000000Z\r\n", self.uid)
            .unwrap();
        lines.iter().for_each(|line| write!(text, "{line}\r\n").unwrap());
        text.push_str("END:VEVENT\r\n");
    }

    fn length(&self, dice: &mut Dice, lines: &mut Vec<String>) {
        let whole_days = self.clock == Clock::Days;
        let length = match whole_days {
            true => days(1 + dice.roll(4)),
            false => minutes(15 * (1 + dice.roll(40))),
        };
        match dice.roll(3) {
            0 if whole_days => lines.push(format!("DURATION:P{}D", length.as_hours() / 24)),
            // Where clocks change, real minutes and those on the clock differ.
            0 if self.clock == Clock::Utc => {
                lines.push(format!("DURATION:PT{}M", length.as_mins()));
            }
            1 if whole_days && length == days(1) => {}
            _ => lines.push(self.clock.stamp("DTEND", self.first + length)),
        }
    }

    /// A rule, and some occurrences that it surely has: an exception elsewhere excepts nothing.
    fn repetition(&self, dice: &mut Dice, lines: &mut Vec<String>) -> Vec<DateTime> {
        let rule = rule(dice, self.first);
        let until = self.first + days(30 + dice.roll(400));
        let end = match (rule.contains("COUNT") || dice.happens(50), self.clock) {
            (true, _) => String::new(),
            (_, Clock::Days) => format!(";UNTIL={}", until.strftime("%Y%m%d")),
            (_, Clock::Floating) => format!(";UNTIL={}", until.strftime("%Y%m%dT%H%M%S")),
            _ => format!(";UNTIL={}Z", until.strftime("%Y%m%dT%H%M%S")),
        };
        lines.push(format!("RRULE:{rule}{end}"));
        let step = match rule {
            _ if rule.starts_with("FREQ=DAILY;INTERVAL=1") => 1,
            _ if rule.starts_with("FREQ=WEEKLY;INTERVAL=1") => 7,
            _ => return Vec::new(),
        };
        (1..6).map(|n| self.first + days(step * n)).collect()
    }

    /// An event that stands in for the occurrence `at`, somewhere near it.
    fn replacement(&self, dice: &mut Dice, at: DateTime, text: &mut String) {
        let start = match self.clock {
            Clock::Days => at + days(dice.roll(3)),
            _ => at + minutes(15 * (dice.roll(400) - 200)),
        };
        let mut lines = vec![
            self.clock.stamp("RECURRENCE-ID", at),
            self.clock.stamp("DTSTART", start),
            self.clock.stamp("DTEND", start + days(1 + dice.roll(2))),
            format!("SEQUENCE:{}", dice.roll(4)),
        ];
        if dice.happens(30) {
            lines.push(dice.one(&MARKS).to_owned());
        }
        self.write(&lines, text);
    }

    fn all(&self, dice: &mut Dice, text: &mut String) {
        let mut lines = vec![self.clock.stamp("DTSTART", self.first)];
        self.length(dice, &mut lines);
        if dice.happens(20) {
            lines.push(dice.one(&MARKS).to_owned());
        }
        let mut occurrences = match dice.happens(70) {
            true => self.repetition(dice, &mut lines),
            false => Vec::new(),
        };
        // Either excepted or replaced: both at once is read in two ways.
        occurrences.retain(|at| {
            let out = dice.happens(25);
            if out {
                lines.push(self.clock.stamp("EXDATE", *at));
            }
            !out
        });
        if dice.happens(15) {
            lines.push(self.clock.stamp("RDATE", self.first + days(3 + 7 * dice.roll(9))));
        }
        self.write(&lines, text);
        for at in occurrences.into_iter().filter(|_| self.clock != Clock::Floating) {
            if dice.happens(25) {
                self.replacement(dice, at, text);
            }
        }
    }
}

fn case(dice: &mut Dice) -> (String, &'static str, Interval) {
    // From 2024 to 2030, so that transitions of every kind are met.
    let from = Timestamp::from_second(1_704_067_200 + 86_400 * dice.roll(365 * 6)).unwrap();
    let window = Interval::lasting(from, SignedDuration::from_hours(24 * 120));
    let mut text = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\n".to_owned();
    text.push_str(VTIMEZONES);
    for uid in 0..1 + dice.roll(4) {
        Series::draw(dice, uid, window.start() + days(60)).all(dice, &mut text);
    }
    text.push_str("END:VCALENDAR\r\n");
    (text, dice.one(&ZONES[2..]), window)
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn theirs(answer: &Value, window: Interval) -> Vec<Interval> {
    let instant = |v: &Value| Timestamp::from_second(v.as_i64().unwrap()).unwrap();
    let all = answer.as_array().unwrap().iter();
    let all = all.filter_map(|pair| Interval::new(instant(&pair[0]), instant(&pair[1])).ok());
    union(all.filter(|interval| interval.overlaps(&window)).collect())
}

fn compare(oracle: &mut IcalOracle, text: &str, zone: &str, window: Interval) -> usize {
    let ours = busy_times(text, &parse_zone(zone).unwrap(), window).unwrap();
    assert_eq!(ours.unreadable, 0, "{text}");
    let (from, until) = (window.start().as_second(), window.end().as_second());
    let asked = json!({ "op": "expand", "text": text, "zone": zone, "from": from, "until": until });
    let theirs = theirs(&oracle.ask(&asked), window);
    let show = |set: &[Interval]| set.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(show(&ours.intervals), show(&theirs), "{zone}, {window}:\n{text}");
    ours.intervals.len()
}

#[test]
fn random_calendars_are_expanded_as_others_do() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let (cases, seed) = (number("ICAL_CASES", 300), number("ICAL_SEED", 1));
    let (mut busy, mut repeated) = (0, 0);
    for n in 0..cases {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(n));
        let (text, zone, window) = case(&mut dice);
        busy += compare(&mut oracle, &text, zone, window);
        repeated += text.matches("RRULE").count();
    }
    let cases = usize::try_from(cases).unwrap();
    assert!(busy > cases * 5 && repeated > cases, "too tame: {busy} busy, {repeated} rules");
}

/// The examples of RFC 5545 §3.8.5.3, all of which begin at nine on 2 September 1997 unless they
/// say otherwise.
const EXAMPLES: &[&str] = &[
    "FREQ=DAILY;COUNT=10",
    "FREQ=DAILY;UNTIL=19971224T000000Z",
    "FREQ=DAILY;INTERVAL=2",
    "FREQ=DAILY;INTERVAL=10;COUNT=5",
    "19980101 FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
    "19980101 FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
    "FREQ=WEEKLY;COUNT=10",
    "FREQ=WEEKLY;UNTIL=19971224T000000Z",
    "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
    "FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
    "FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH",
    "19970901 FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
    "19970905 FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
    "19970905 FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR",
    "19970907 FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
    "19970922 FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
    "19970928 FREQ=MONTHLY;BYMONTHDAY=-3",
    "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
    "19970930 FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
    "19970910 FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
    "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
    "19970610 FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
    "19970310 FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
    "19970101 FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
    "19970519 FREQ=YEARLY;BYDAY=20MO",
    "19970512 FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
    "19970313 FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
    "19970605 FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
    "19980213 FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
    "19970913 FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
    "19961105 FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
    "19970904 FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
    "19970929 FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
    "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z",
    "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
    "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
    "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40;COUNT=500",
    "19970805 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
    "19970805 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
    "20070115 FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
];

#[test]
fn the_examples_of_rfc_5545_are_expanded_as_others_do() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    for example in EXAMPLES {
        let (date, rule) = example.split_once(' ').unwrap_or(("19970902", example));
        let year: i16 = date[..4].parse().unwrap();
        let text = format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\n\
             DTSTAMP:19970101T000000Z\r\nDTSTART;TZID=America/New_York:{date}T090000\r\n\
             DTEND;TZID=America/New_York:{date}T091500\r\nRRULE:{rule}\r\n\
             END:VEVENT\r\nEND:VCALENDAR\r\n"
        );
        // From its beginning, and long after it, where old rules are moved forward.
        for (from, days, begins) in [(year, 1_000, true), (year + 24, 900, false)] {
            let from = Date::new(from, 1, 1).unwrap().in_tz("UTC").unwrap().timestamp();
            let window = Interval::lasting(from, SignedDuration::from_hours(24 * days));
            let busy = compare(&mut oracle, &text, "UTC", window);
            assert!(busy > 0 || !begins, "{example}");
        }
    }
}

/// Somebody with many daily habits, none of which ends, is no bomb.
#[test]
fn eight_daily_events_without_an_end_are_read_whole() {
    let event = |n: usize| {
        format!(
            "BEGIN:VEVENT\r\nUID:{n}\r\nDTSTART:20250101T{:02}0000Z\r\nDURATION:PT30M\r\n\
             RRULE:FREQ=DAILY\r\nEND:VEVENT\r\n",
            8 + n
        )
    };
    let events: String = (0..8).map(event).collect();
    let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}END:VCALENDAR\r\n");
    let window = window("2027-03-01T12:00:00Z".parse().unwrap());
    let busy = busy_times(&text, &TimeZone::UTC, window).unwrap();
    assert_eq!((busy.occurrences, busy.intervals.len()), (8 * 792, 8 * 792));
}

/// Calendars that are made to keep the hub busy end, and soon.
#[test]
fn bombs_are_refused_in_time() {
    let one = |rule: &str| {
        format!("BEGIN:VEVENT UID:1 DTSTART:20000101T000000Z DURATION:PT1S RRULE:{rule} END:VEVENT")
    };
    let refused = |components: &str| {
        let started = std::time::Instant::now();
        let zone = TimeZone::UTC;
        let text =
            format!("BEGIN:VCALENDAR\r\n{}\r\nEND:VCALENDAR", components.replace(' ', "\r\n"));
        let result = busy_times(&text, &zone, window("2027-03-01T00:00:00Z".parse().unwrap()));
        // Generous: debug builds on busy machines.
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
        result.err()
    };
    assert_eq!(refused(&one("FREQ=SECONDLY")), Some(Problem::TooMuchWork));
    assert_eq!(refused(&one("FREQ=SECONDLY;COUNT=4000000000")), Some(Problem::TooMuchWork));
    assert_eq!(refused(&one("FREQ=MINUTELY")), Some(Problem::TooMuchWork));
    assert_eq!(refused(&one("FREQ=HOURLY")), Some(Problem::TooManyEvents));
    let all = |n: i32| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let every = format!("FREQ=DAILY;BYHOUR={};BYMINUTE={};BYSECOND={}", all(24), all(60), all(60));
    assert_eq!(refused(&one(&every)), Some(Problem::TooMuchWork));
    // Rules that never come true are looked for until time ends.
    let never = one("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30");
    assert_eq!(refused(&never), None);
    assert_eq!(refused(&format!("{never} ").repeat(10_000)), Some(Problem::TooMuchWork));
    let many: String = (0..=MAX_OCCURRENCES)
        .map(|n| format!("BEGIN:VEVENT UID:{n} DTSTART:20270310T100000Z DURATION:PT1H END:VEVENT "))
        .collect();
    assert_eq!(refused(&many), Some(Problem::TooManyEvents));
    // Lists as long as the file must not be compared with each other one by one.
    let dates = |name: &str, minute: usize| {
        let one = |n: usize| {
            format!(
                "{name}:2027{:02}{:02}T{:02}{minute:02}00Z",
                n / 672 % 12 + 1,
                n / 24 % 28 + 1,
                n % 24
            )
        };
        (0..8_000).map(one).collect::<Vec<_>>().join(" ")
    };
    let (more, out) = (dates("RDATE", 0), dates("EXDATE", 0));
    let event = format!(
        "BEGIN:VEVENT UID:1 DTSTART:20270310T101500Z DURATION:PT1M {more} {out} END:VEVENT"
    );
    assert_eq!(refused(&event), None);
}
