use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::invite;
use super::read::{BusyTimes, Problem, busy_times, window};
use crate::domain::time::{Interval, minutes, parse_zone};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// 2027-03-01 to 2027-06-01.
fn spring() -> Interval {
    Interval::new(at("2027-03-01T00:00:00Z"), at("2027-06-01T00:00:00Z")).unwrap()
}

fn calendar(components: &str) -> String {
    let lines: Vec<&str> = components.split_whitespace().collect();
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}\r\nEND:VCALENDAR\r\n", lines.join("\r\n"))
}

fn read_in(zone: &str, components: &str) -> BusyTimes {
    busy_times(&calendar(components), &parse_zone(zone).unwrap(), spring()).unwrap()
}

/// The busy times of events, each of these with a UID and an end of its own, in Asia/Kolkata.
fn busy(components: &str) -> Vec<String> {
    let read = read_in("Asia/Kolkata", components);
    assert_eq!(read.unreadable, 0, "{components}");
    read.intervals.iter().map(ToString::to_string).collect()
}

#[test]
fn an_event_is_busy_from_its_start_to_its_end() {
    let cases = [
        (
            "DTSTART:20270310T100000Z DTEND:20270310T110000Z",
            "2027-03-10T10:00:00Z/2027-03-10T11:00:00Z",
        ),
        ("DTSTART:20270310T100000Z DURATION:PT90M", "2027-03-10T10:00:00Z/2027-03-10T11:30:00Z"),
        // Without a zone: on the practitioner's clock.
        (
            "DTSTART:20270310T100000 DTEND:20270310T110000",
            "2027-03-10T04:30:00Z/2027-03-10T05:30:00Z",
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20270310T100000 DTEND;TZID=America/New_York:20270310T100000",
            "2027-03-10T09:00:00Z/2027-03-10T15:00:00Z",
        ),
        (
            "DTSTART;TZID=India^Standard^Time:20270310T100000 DURATION:PT1H",
            "2027-03-10T04:30:00Z/2027-03-10T05:30:00Z",
        ),
        (
            "DTSTART;TZID=Atlantis/Capital:20270310T100000 DURATION:PT1H",
            "2027-03-10T04:30:00Z/2027-03-10T05:30:00Z",
        ),
        // Whole days are the practitioner's.
        (
            "DTSTART;VALUE=DATE:20270310 DTEND;VALUE=DATE:20270312",
            "2027-03-09T18:30:00Z/2027-03-11T18:30:00Z",
        ),
        ("DTSTART;VALUE=DATE:20270310", "2027-03-09T18:30:00Z/2027-03-10T18:30:00Z"),
        (
            "DTSTART;VALUE=DATE:20270310 DTEND;VALUE=DATE:20270310",
            "2027-03-09T18:30:00Z/2027-03-10T18:30:00Z",
        ),
        ("DTSTART;VALUE=DATE:20270310 DURATION:P2D", "2027-03-09T18:30:00Z/2027-03-11T18:30:00Z"),
        (
            "DTSTART:20270310T100000Z DTEND:20270310T110000Z STATUS:TENTATIVE TRANSP:OPAQUE",
            "2027-03-10T10:00:00Z/2027-03-10T11:00:00Z",
        ),
    ];
    for (event, expected) in cases {
        let event = format!("BEGIN:VEVENT UID:1 {event} END:VEVENT");
        let read = calendar(&event).replace('^', " ");
        let read = busy_times(&read, &parse_zone("Asia/Kolkata").unwrap(), spring()).unwrap();
        let found: Vec<String> = read.intervals.iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected], "{event}");
    }
}

#[test]
fn what_does_not_keep_busy_does_not_block() {
    let ours = invite::uid(uuid::Uuid::from_u128(5));
    for event in [
        "UID:1 DTSTART:20270310T100000Z DTEND:20270310T110000Z TRANSP:TRANSPARENT",
        "UID:1 DTSTART:20270310T100000Z DTEND:20270310T110000Z STATUS:CANCELLED",
        // No time at all (RFC 5545 §3.6.1).
        "UID:1 DTSTART:20270310T100000Z",
        "UID:1 DTSTART:20270310T100000Z DTEND:20270310T100000Z",
        // Outside of the window.
        "UID:1 DTSTART:20260310T100000Z DTEND:20260310T110000Z",
        "UID:1 DTSTART:20280310T100000Z DTEND:20280310T110000Z",
        &format!("UID:{ours} DTSTART:20270310T100000Z DTEND:20270310T110000Z"),
    ] {
        assert_eq!(busy(&format!("BEGIN:VEVENT {event} END:VEVENT")), [""; 0], "{event}");
    }
    let todo = "BEGIN:VTODO UID:1 DTSTART:20270310T100000Z DUE:20270310T110000Z END:VTODO";
    assert_eq!(busy(todo), [""; 0]);
    // The same components without these marks do.
    let opaque = "BEGIN:VEVENT UID:1 DTSTART:20270310T100000Z DTEND:20270310T110000Z END:VEVENT";
    assert_eq!(busy(opaque).len(), 1);
}

#[test]
fn a_repeated_event_has_its_exceptions() {
    let found = busy(
        "BEGIN:VEVENT UID:1 SEQUENCE:1 DTSTART;TZID=Europe/Berlin:20270322T090000
           DTEND;TZID=Europe/Berlin:20270322T100000 RRULE:FREQ=DAILY;COUNT=9
           EXDATE;TZID=Europe/Berlin:20270323T090000 EXDATE:20270324T080000Z
           EXDATE;VALUE=DATE:20270325 RDATE:20270401T120000Z END:VEVENT
         BEGIN:VEVENT UID:1 SEQUENCE:7 RECURRENCE-ID;TZID=Europe/Berlin:20270326T090000
           DTSTART:20270326T150000Z DTEND:20270326T151500Z END:VEVENT
         BEGIN:VEVENT UID:1 RECURRENCE-ID:20270327T080000Z STATUS:CANCELLED
           DTSTART:20270327T080000Z DTEND:20270327T090000Z END:VEVENT
         BEGIN:VEVENT UID:2 RECURRENCE-ID:20270329T070000Z
           DTSTART:20270329T120000Z DTEND:20270329T130000Z END:VEVENT",
    );
    let expected = [
        "2027-03-22T08:00:00Z/2027-03-22T09:00:00Z",
        "2027-03-26T15:00:00Z/2027-03-26T15:15:00Z",
        // Clocks in Berlin moved on the 28th.
        "2027-03-28T07:00:00Z/2027-03-28T08:00:00Z",
        "2027-03-29T07:00:00Z/2027-03-29T08:00:00Z",
        // Of another event, whose occurrence is not in the file.
        "2027-03-29T12:00:00Z/2027-03-29T13:00:00Z",
        "2027-03-30T07:00:00Z/2027-03-30T08:00:00Z",
        "2027-04-01T12:00:00Z/2027-04-01T13:00:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_replacement_may_stand_for_all_later_ones() {
    let found = busy(
        "BEGIN:VEVENT UID:1 DTSTART:20270310T100000Z DTEND:20270310T110000Z
           RRULE:FREQ=DAILY;COUNT=4 END:VEVENT
         BEGIN:VEVENT UID:1 RECURRENCE-ID;RANGE=THISANDFUTURE:20270312T100000Z
           DTSTART:20270312T120000Z DTEND:20270312T123000Z END:VEVENT",
    );
    let expected = [
        "2027-03-10T10:00:00Z/2027-03-10T11:00:00Z",
        "2027-03-11T10:00:00Z/2027-03-11T11:00:00Z",
        "2027-03-12T12:00:00Z/2027-03-12T12:30:00Z",
        "2027-03-13T12:00:00Z/2027-03-13T12:30:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_zone_that_nobody_knows_is_what_the_file_says() {
    let event = "BEGIN:VEVENT UID:1 DTSTART;TZID=Ours:20270327T100000
        DTEND;TZID=Ours:20270327T110000 RRULE:FREQ=DAILY;COUNT=2 END:VEVENT";
    let zone = "BEGIN:VTIMEZONE TZID:Ours
        BEGIN:STANDARD DTSTART:16010101T030000 TZOFFSETFROM:+0200 TZOFFSETTO:+0100
          RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU END:STANDARD
        BEGIN:DAYLIGHT DTSTART:16010101T020000 TZOFFSETFROM:+0100 TZOFFSETTO:+0200
          RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU END:DAYLIGHT END:VTIMEZONE";
    let expected =
        ["2027-03-27T09:00:00Z/2027-03-27T10:00:00Z", "2027-03-28T08:00:00Z/2027-03-28T09:00:00Z"];
    assert_eq!(busy(&format!("{zone} {event}")), expected);
    // The order in the file does not matter.
    assert_eq!(busy(&format!("{event} {zone}")), expected);
    let fixed = "BEGIN:VTIMEZONE TZID:Ours BEGIN:STANDARD DTSTART:19700101T000000
        TZOFFSETFROM:+005328 TZOFFSETTO:-0330 END:STANDARD END:VTIMEZONE";
    assert_eq!(busy(&format!("{fixed} {event}"))[0], "2027-03-27T13:30:00Z/2027-03-27T14:30:00Z");
    // An IANA name means that zone, whatever the file says.
    let lie = fixed.replace("TZID:Ours", "TZID:Asia/Tokyo");
    let tokyo = event.replace("=Ours", "=Asia/Tokyo");
    assert_eq!(busy(&format!("{lie} {tokyo}"))[0], "2027-03-27T01:00:00Z/2027-03-27T02:00:00Z");
}

#[test]
fn free_and_busy_times_of_servers_without_events() {
    let found = busy(
        "BEGIN:VFREEBUSY UID:1 FREEBUSY:20270310T100000Z/20270310T110000Z,20270311T100000Z/PT30M
         FREEBUSY;FBTYPE=FREE:20270312T100000Z/PT30M
         FREEBUSY;FBTYPE=BUSY-TENTATIVE:20270313T100000Z/PT30M END:VFREEBUSY",
    );
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn old_rules_without_end_cost_little() {
    for (rule, expected) in [
        ("FREQ=DAILY", 92),
        ("FREQ=DAILY;INTERVAL=3", 30),
        ("FREQ=WEEKLY;BYDAY=MO,WE;INTERVAL=2;WKST=SU", 13),
        ("FREQ=MONTHLY;BYDAY=-1FR", 3),
        ("FREQ=MONTHLY;BYMONTHDAY=31", 2),
        ("FREQ=YEARLY;BYMONTH=4;BYMONTHDAY=5", 1),
        ("FREQ=HOURLY;BYHOUR=9,10;INTERVAL=1", 184),
        ("FREQ=MINUTELY;INTERVAL=30;BYHOUR=9", 184),
    ] {
        let event = format!(
            "BEGIN:VEVENT UID:1 DTSTART:20000103T090000Z DURATION:PT10M RRULE:{rule} END:VEVENT"
        );
        assert_eq!(busy(&event).len(), expected, "{rule}");
    }
}

#[test]
fn what_is_no_whole_calendar_gives_nothing() {
    let zone = TimeZone::UTC;
    let whole = calendar("BEGIN:VEVENT UID:1 DTSTART:20270310T100000Z DURATION:PT1H END:VEVENT");
    let read = |text: &str| busy_times(text, &zone, spring()).map(|read| read.intervals.len());
    assert_eq!(read(&whole), Ok(1));
    assert_eq!(
        read(&format!(
            "\u{feff}\r\n{}\r\n\r\n",
            whole.to_lowercase().replace("t100000z", "T100000Z")
        )),
        Ok(1)
    );
    assert_eq!(read(&whole.replace("\r\n", "\n")), Ok(1));
    assert_eq!(read(&calendar("")), Ok(0));
    for text in ["", "<html>BEGIN:VCALENDAR</html>", "{}", "BEGIN:VCARD\r\nEND:VCARD\r\n"] {
        assert_eq!(read(text), Err(Problem::NotACalendar), "{text}");
    }
    for cut in (17..whole.len() - 3).step_by(7) {
        assert_eq!(read(&whole[..cut]), Err(Problem::CutOff), "{}", &whole[..cut]);
    }
}

#[test]
fn an_event_that_makes_no_sense_is_counted_and_left_out() {
    let good = "BEGIN:VEVENT UID:9 DTSTART:20270310T100000Z DURATION:PT1H END:VEVENT";
    for (event, unreadable, busy) in [
        ("BEGIN:VEVENT UID:1 DTEND:20270310T100000Z END:VEVENT", 1, 1),
        ("BEGIN:VEVENT UID:1 DTSTART:20271310T100000Z DURATION:PT1H END:VEVENT", 1, 1),
        ("BEGIN:VEVENT UID:1 DTSTART:nonsense DURATION:PT1H END:VEVENT", 1, 1),
        ("BEGIN:VEVENT UID:1 DTSTART:20270311T100000Z DTEND:20270311T090000Z END:VEVENT", 1, 1),
        ("BEGIN:VEVENT UID:1 DTSTART:20270311T100000Z DURATION:-PT1H END:VEVENT", 1, 1),
        // The first occurrence of a rule that makes no sense is kept.
        (
            "BEGIN:VEVENT UID:1 DTSTART:20270311T100000Z DURATION:PT1H RRULE:FREQ=NEVER END:VEVENT",
            1,
            2,
        ),
    ] {
        let read = read_in("UTC", &format!("{event} {good}"));
        assert_eq!((read.unreadable, read.intervals.len()), (unreadable, busy), "{event}");
    }
}

#[test]
fn the_window_is_of_whole_days() {
    let day = window(at("2027-03-01T00:00:00Z"));
    assert_eq!(day, window(at("2027-03-01T23:59:59.9Z")));
    assert_eq!(day.to_string(), "2027-01-29T00:00:00Z/2029-03-31T00:00:00Z");
}

/// Lines that mean something, and their parts, to be put together at random.
const PIECES: &[&str] = &[
    "BEGIN:VEVENT",
    "END:VEVENT",
    "BEGIN:VTIMEZONE",
    "END:VTIMEZONE",
    "BEGIN:STANDARD",
    "END:STANDARD",
    "BEGIN:VCALENDAR",
    "END:VCALENDAR",
    "UID:1",
    "TZID:Ours",
    "TZOFFSETFROM:+9999",
    "TZOFFSETTO:-9959",
    "DTSTART;TZID=Ours:20270310T100000",
    "DTSTART;VALUE=DATE:00010101",
    "DTSTART:99991231T235960Z",
    "DTEND:00000101T000000Z",
    "DTEND;VALUE=DATE:99991231",
    "DURATION:P4294967295W",
    "DURATION:-P4294967295DT4294967295H",
    "RRULE:FREQ=YEARLY;BYWEEKNO=53;BYDAY=-1MO,53SU",
    "RRULE:FREQ=DAILY;INTERVAL=65535;UNTIL=99991231T235959Z",
    "RRULE:FREQ=MONTHLY;BYSETPOS=-366;BYDAY=1MO;COUNT=0",
    "RRULE:FREQ=WEEKLY;BYMONTH=13;BYHOUR=24;BYMINUTE=60",
    "RRULE:FREQ=HOURLY;UNTIL=0001",
    "RRULE:",
    "RDATE;VALUE=PERIOD:20270310T100000Z/PT1H,20270310T100000Z/00000101T000000Z",
    "EXDATE;VALUE=DATE:20270310,x",
    "RECURRENCE-ID;RANGE=THISANDFUTURE:20270310T100000Z",
    "RECURRENCE-ID:x",
    "STATUS:CANCELLED",
    "FREEBUSY:20270310T100000Z/20270309T100000Z",
    " folded",
    "SEQUENCE:99999999999999999999",
    "X-\u{202e}नमस्ते:\\n;,\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever it is, it is read or refused, in order and within bounds.
    #[test]
    fn anything_is_read_or_refused(
        pieces in prop::collection::vec((prop::sample::select(PIECES), any::<bool>(), "[ -~]{0,12}"), 0..40),
    ) {
        let lines: Vec<String> = pieces
            .into_iter()
            .map(|(piece, whole, noise)| if whole { piece.to_owned() } else { format!("{piece}{noise}") })
            .collect();
        let text = format!("BEGIN:VCALENDAR\r\n{}\r\nEND:VCALENDAR", lines.join("\r\n"));
        if let Ok(read) = busy_times(&text, &parse_zone("Africa/Casablanca").unwrap(), spring()) {
            prop_assert!(read.intervals.windows(2).all(|w| w[0].end() < w[1].start()));
            prop_assert!(read.intervals.iter().all(|i| i.overlaps(&spring())));
            prop_assert!(read.intervals.len() <= read.occurrences);
        }
    }

    /// An event on any clock is where that clock says.
    #[test]
    fn a_local_event_is_on_its_own_clock(minute in 0i64..90 * 24 * 60, length in 1i64..600) {
        for name in ["Europe/Lisbon", "America/St_Johns", "Pacific/Apia"] {
            let zone = parse_zone(name).unwrap();
            let start = spring().start() + SignedDuration::from_mins(minute);
            let local = |instant: Timestamp| zone.to_datetime(instant).strftime("%Y%m%dT%H%M%S").to_string();
            let end = start + minutes(length);
            let event = format!(
                "BEGIN:VEVENT UID:1 DTSTART;TZID={name}:{} DTEND:{} END:VEVENT",
                local(start), end.strftime("%Y%m%dT%H%M%SZ")
            );
            let found = read_in("UTC", &event).intervals;
            // A reading that comes twice is the first.
            let first = crate::domain::time::local_to_instant(zone.to_datetime(start), &zone);
            prop_assert_eq!(found, [Interval::new(first, end).unwrap()]);
        }
    }
}
