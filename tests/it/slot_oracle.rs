//! Random schedules, answered twice: by the domain and by `tests/oracle/slots_oracle.py`, which
//! shares neither code nor time zone data with it. `SLOT_ORACLE_CASES` (500) sets how many,
//! `SLOT_ORACLE_SEED` (1) which ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Lines, Write};
use std::num::NonZeroU16;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hub::domain::availability::Hours;
use hub::domain::busy::{Buffers, Busy, BusyKind, BusySet, Viewpoint};
use hub::domain::rules::{CountedDays, Grid, Horizon, SlotRules};
use hub::domain::slots::SlotQuery;
use hub::domain::time::{Interval, date_after, local_date, minutes, parse_zone};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

const DAY: i64 = 24 * 60;
// As in the oracle: what of the zone is compared before the slots are.
const WEEKS_BACK: i64 = 3;
const DAYS_AHEAD: i64 = 2;

/// Zones whose clocks do something worth testing, asked as often as all others together.
const TELLING_ZONES: [&str; 16] = [
    "Africa/Cairo",
    "America/Santiago",
    "America/Havana", // falls back at 01:00 to midnight
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo", // skipped midnight until 2018
    "America/St_Johns",  // at 00:01 until 2011
    "Asia/Beirut",
    "Atlantic/Azores",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe", // half an hour
    "Europe/London",
    "Pacific/Apia", // skipped 2011-12-30
    "Pacific/Chatham",
    "Antarctica/Troll", // two hours
];

/// A case in the oracle's form: clock times in minutes of the local day, instants in minutes
/// since 1970 in UTC.
#[derive(Debug, Serialize)]
struct Case {
    zone: String,
    weekly: Vec<(i64, i64, i64)>,
    overrides: BTreeMap<String, Vec<(i64, i64)>>,
    /// The first and the last date of each stay, and its zone.
    travel: Vec<(String, String, String)>,
    busy: Vec<(i64, i64, u16, u16)>,
    from: i64,
    to: i64,
    now: i64,
    duration: i64,
    increment: i64,
    before: i64,
    after: i64,
    notice: i64,
    grid: &'static str,
    align: u16,
    offset: u16,
    horizon: Option<(&'static str, u16, bool)>,
}

impl Case {
    /// Home, and the zone of each stay.
    fn zones(&self) -> impl Iterator<Item = &String> {
        [&self.zone].into_iter().chain(self.travel.iter().map(|(.., zone)| zone))
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Answer {
    slots: Vec<i64>,
    open: Vec<(i64, i64)>,
    offsets: Vec<i64>,
}

#[derive(Deserialize)]
struct Hello {
    zones: BTreeSet<String>,
}

struct Oracle {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Oracle {
    /// The running oracle and the zones it knows, or `None` without Python.
    fn start() -> Option<(Self, BTreeSet<String>)> {
        let script = include_str!("../oracle/slots_oracle.py");
        let mut command = Command::new("python3");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            process => process.unwrap(),
        };
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut oracle = Self { process, input, output };
        let hello: Hello = serde_json::from_str(&oracle.line()).unwrap();
        Some((oracle, hello.zones))
    }

    fn line(&mut self) -> String {
        self.output.next().expect("the oracle ended; its error is above").unwrap()
    }

    fn ask(&mut self, case: &Case) -> Answer {
        writeln!(self.input, "{}", serde_json::to_string(case).unwrap()).unwrap();
        serde_json::from_str(&self.line()).unwrap()
    }

    fn stop(self) {
        let Self { mut process, input, output } = self;
        drop((input, output));
        assert!(process.wait().unwrap().success());
    }
}

/// splitmix64 (public domain, Vigna 2015): the same cases for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[low, high)`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).unwrap();
        low + i64::try_from(self.roll() % width).unwrap()
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.between(0, 100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.between(0, i64::try_from(choices.len()).unwrap());
        choices[usize::try_from(index).unwrap()]
    }

    fn days(&mut self, low: i64, high: i64) -> i32 {
        i32::try_from(self.between(low, high)).unwrap()
    }

    fn small(&mut self, high: i64) -> u16 {
        u16::try_from(self.between(0, high)).unwrap()
    }
}

fn instant(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

fn minute(instant: Timestamp) -> i64 {
    assert_eq!(instant.as_second() % 60, 0, "{instant}");
    instant.as_second() / 60
}

/// A minute from 2011 to 2050, in two of three cases within a day of a change of the zone's clocks.
fn a_moment(dice: &mut Dice, zone: &TimeZone) -> i64 {
    let (first, last) = (21_564_000, 42_076_800); // 2011-01-01, 2050-01-01
    let anywhere = dice.between(first, last);
    if dice.chance(33) {
        return anywhere;
    }
    // Early years have more kinds of changes.
    let after =
        if dice.chance(30) { dice.between(first, first + 10 * 365 * DAY) } else { anywhere };
    let change =
        zone.following(instant(after)).next().map(|change| change.timestamp().as_second() / 60);
    let change = change.filter(|change| *change < last).unwrap_or(anywhere);
    change + dice.between(-DAY, DAY)
}

fn some_hours(dice: &mut Dice) -> (i64, i64) {
    let quarter = dice.of(&[1, 5, 15, 15, 15, 30, 60]);
    let start = dice.between(0, 1440 / quarter) * quarter;
    let length = dice.between(1, 720 / quarter + 1) * quarter;
    // Nights matter most: there the clocks change, and windows meet at midnight.
    match dice.between(0, 5) {
        0 => (0, length),
        1 => (1440 - length, 1440),
        _ => (start, (start + length).min(1440)),
    }
}

fn a_zone(dice: &mut Dice, zones: &[String]) -> String {
    match dice.chance(50) {
        true => (*dice.of(&TELLING_ZONES.each_ref())).to_string(),
        false => dice.of(&zones.iter().collect::<Vec<_>>()).clone(),
    }
}

/// In every other case one to three stays, from some days before the moment on, often one right
/// after the other.
fn some_travel(dice: &mut Dice, zones: &[String], around: Date) -> Vec<(String, String, String)> {
    if dice.chance(50) {
        return Vec::new();
    }
    let mut day = date_after(around, dice.days(-4, 2));
    let stays = dice.between(1, 4);
    (0..stays)
        .map(|_| {
            let from = date_after(day, dice.of(&[0, 0, 1, 2]));
            let to = date_after(from, dice.of(&[0, 0, 1, 2, 9]));
            day = date_after(to, 1);
            (from.to_string(), to.to_string(), a_zone(dice, zones))
        })
        .collect()
}

fn a_case(dice: &mut Dice, zones: &[String]) -> Case {
    let zone = a_zone(dice, zones);
    let tz = parse_zone(&zone).unwrap();
    let moment = a_moment(dice, &tz);
    let weekly = match dice.between(0, 12) {
        0 | 2 => (1..=7).map(|day| (day, 0, 1440)).collect(),
        1 => (dice.between(1, 5)..=7).map(|day| (day, 0, 1440)).collect(),
        _ => (0..dice.between(1, 14))
            .map(|_| {
                let (start, end) = some_hours(dice);
                (dice.between(1, 8), start, end)
            })
            .collect(),
    };
    let overrides = (0..dice.between(0, 4))
        .map(|_| {
            let date = local_date(instant(moment + dice.between(-2 * DAY, 2 * DAY)), &tz);
            let windows = (0..dice.between(0, 3)).map(|_| some_hours(dice)).collect();
            (date.to_string(), windows)
        })
        .collect();
    let travel = some_travel(dice, zones, local_date(instant(moment), &tz));
    let busy = (0..dice.between(0, 10))
        .map(|_| {
            let start = moment + dice.between(-3 * DAY, 2 * DAY);
            (start, start + dice.between(1, 300), dice.small(45), dice.small(45))
        })
        .collect();
    let from = moment - dice.between(0, 2 * DAY);
    let increment = dice.of(&[5, 10, 15, 20, 30, 45, 60, 60, 90, 120, 7, 50]);
    let duration = if dice.chance(50) { increment } else { dice.between(5, 150) };
    Case {
        zone,
        weekly,
        overrides,
        travel,
        busy,
        from,
        to: from + dice.between(0, 4 * DAY),
        now: from + dice.between(-3 * DAY, DAY),
        duration,
        increment,
        before: dice.between(0, 3) * 15,
        after: dice.between(0, 3) * 10,
        notice: dice.of(&[0, 0, 1, 60, 600]),
        grid: dice.of(&["window", "restart"]),
        align: dice.of(&[60, 30, 20, 15, 10, 5, 1]),
        offset: dice.of(&[0, 0, 0, 5, 10]),
        horizon: dice
            .chance(40)
            .then(|| (dice.of(&["rolling", "window"]), dice.small(4), dice.chance(50))),
    }
}

fn schedule_of(case: &Case) -> serde_json::Value {
    let clock = |m: &i64| format!("{:02}:{:02}", m / 60, m % 60);
    let window =
        |start: &i64, end: &i64| serde_json::json!({"start": clock(start), "end": clock(end)});
    let weekly: Vec<_> = case
        .weekly
        .iter()
        .map(|(day, start, end)| {
            let mut window = window(start, end);
            window["weekday"] = (*day).into();
            window
        })
        .collect();
    let overrides: Vec<_> = case
        .overrides
        .iter()
        .map(|(date, windows)| {
            let windows: Vec<_> = windows.iter().map(|(start, end)| window(start, end)).collect();
            serde_json::json!({"date": date, "windows": windows})
        })
        .collect();
    let travel: Vec<_> = case
        .travel
        .iter()
        .map(|(from, to, zone)| serde_json::json!({"from": from, "to": to, "timeZone": zone}))
        .collect();
    serde_json::json!({"timeZone": case.zone, "weekly": weekly, "overrides": overrides, "travel": travel})
}

/// What the domain says.
fn answer(case: &Case) -> Answer {
    let hours = Hours::new(&serde_json::from_value(schedule_of(case)).unwrap()).unwrap();
    let rules = SlotRules::new(case.duration, case.increment).unwrap();
    let rules = rules.with_buffers(case.before, case.after).unwrap();
    let mut rules = rules.with_notice(case.notice).unwrap();
    rules.grid = match case.grid {
        "window" => Grid::Window,
        _ => Grid::Restart {
            align_min: NonZeroU16::new(case.align).unwrap(),
            offset_min: case.offset,
        },
    };
    if let Some((kind, days, business)) = case.horizon {
        let count = if business { CountedDays::Business } else { CountedDays::Calendar };
        rules.horizon = match kind {
            "rolling" => Horizon::Rolling { days, count },
            _ => Horizon::RollingWindow { days, count },
        };
    }
    let items = case.busy.iter().zip(1u128..);
    let busy: BusySet = items
        .map(|((start, end, before, after), key)| {
            let time = Interval::lasting(instant(*start), minutes(end - start));
            let buffers = Buffers { before_min: *before, after_min: *after };
            Busy::new(key, time, buffers, BusyKind::Booking)
        })
        .collect();
    let view = Viewpoint::at(instant(case.now));
    let query = SlotQuery { hours: &hours, rules: &rules, busy: &busy, view };
    let range = Interval::new(instant(case.from), instant(case.to)).unwrap();
    let open = hours.open_windows(range);
    let low = case.from - WEEKS_BACK * 7 * DAY;
    let offsets = case.zones().flat_map(|zone| {
        let zone = parse_zone(zone).unwrap();
        let probes = (low..case.to + DAYS_AHEAD * DAY).step_by(30);
        probes.map(move |m| i64::from(zone.to_offset(instant(m)).seconds()))
    });
    Answer {
        slots: query.slots(range).into_iter().map(minute).collect(),
        open: open.iter().map(|w| (minute(w.start()), minute(w.end()))).collect(),
        offsets: offsets.collect(),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[test]
fn the_domain_agrees_with_the_oracle() {
    let Some((mut oracle, known)) = Oracle::start() else {
        println!("SKIPPED: python3 is not installed, so nothing was compared with the slot oracle");
        eprintln!(
            "SKIPPED: python3 is not installed, so nothing was compared with the slot oracle"
        );
        return;
    };
    let (count, seed) = (setting("SLOT_ORACLE_CASES", 500), setting("SLOT_ORACLE_SEED", 1));
    let zones: Vec<String> = known.into_iter().filter(|zone| parse_zone(zone).is_ok()).collect();
    assert!(zones.len() > 300, "only {} zones in common", zones.len());
    let mut dice = Dice(seed);
    let (mut skipped, mut with_slots, mut with_change, mut slots) = (BTreeMap::new(), 0, 0, 0);
    let mut with_travel = 0;
    for number in 1..=count {
        let case = a_case(&mut dice, &zones);
        let (theirs, ours) = (oracle.ask(&case), answer(&case));
        if theirs.offsets != ours.offsets {
            // Other editions of the time zone database, not another opinion about slots.
            let of_a_zone = ours.offsets.len() / case.zones().count();
            let pairs = theirs.offsets.chunks(of_a_zone).zip(ours.offsets.chunks(of_a_zone));
            let mut others = case.zones().zip(pairs).filter(|(_, (theirs, ours))| theirs != ours);
            let (zone, _) = others.next().unwrap();
            *skipped.entry(zone.clone()).or_insert(0u64) += 1;
            continue;
        }
        with_slots += u64::from(!ours.slots.is_empty());
        let of_a_zone = ours.offsets.len() / case.zones().count();
        let mut by_zone = ours.offsets.chunks(of_a_zone);
        let changes = |zone: &[i64]| zone.windows(2).any(|pair| pair[0] != pair[1]);
        with_change += u64::from(by_zone.any(changes));
        slots += ours.slots.len();
        with_travel += u64::from(!case.travel.is_empty() && !ours.slots.is_empty());
        assert!(
            theirs == ours,
            "case {number} of seed {seed}\n{}\nopen   theirs {:?}\n       ours   {:?}\nslots  theirs {:?}\n       ours   {:?}",
            serde_json::to_string(&case).unwrap(),
            theirs.open,
            ours.open,
            theirs.slots,
            ours.slots
        );
    }
    oracle.stop();
    let missed: u64 = skipped.values().sum();
    println!(
        "{} cases agree: {slots} slots, {with_slots} cases with slots, {with_travel} of them with \
         travel, {with_change} with a clock change; {missed} skipped for other offsets: {skipped:?}",
        count - missed
    );
    assert!(missed * 20 <= count, "{missed} of {count} cases skipped: {skipped:?}");
    // The comparison must not become an agreement about nothing.
    assert!(with_slots * 2 > count - missed && with_change * 3 > count - missed);
    assert!(with_travel * 5 > count - missed);
}
