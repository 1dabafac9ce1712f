//! The rules of a zone for a stretch of time (RFC 5545 §3.6.5), as single onsets: they say what
//! our own zone data say, and a reader whose data are older still gets the times right.

use jiff::tz::{Dst, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::text::Lines;
use crate::domain::time::{Interval, shifted};

/// The most onsets of one zone: ten years of the zone that changes most often.
const MAX_ONSETS: usize = 40;

/// Whether times in `zone` are written as UTC.
pub(super) fn is_utc(zone: &TimeZone) -> bool {
    let zero = |offset: Offset| offset.is_zero();
    zone.to_fixed_offset().is_ok_and(zero)
        || zero(zone.to_offset(Timestamp::UNIX_EPOCH))
            && zone.preceding(Timestamp::MAX).next().is_none()
}

/// Adds the VTIMEZONE `name` with the onset in force when `span` begins, all within it, and the
/// next one after it.
pub(super) fn add(name: &str, zone: &TimeZone, span: Interval, lines: &mut Lines) {
    lines.add("BEGIN:VTIMEZONE");
    lines.add(&format!("TZID:{name}"));
    let instant = SignedDuration::from_nanos(1);
    let first = zone.preceding(shifted(span.start(), instant)).next();
    match &first {
        Some(onset) => {
            let from = zone.to_offset(shifted(onset.timestamp(), -instant));
            add_onset(
                onset.timestamp(),
                from,
                onset.offset(),
                onset.dst(),
                onset.abbreviation(),
                lines,
            );
        }
        None => {
            let info = zone.to_offset_info(span.start());
            let (offset, name) = (info.offset(), info.abbreviation());
            add_onset(Timestamp::UNIX_EPOCH, offset, offset, info.dst(), name, lines);
        }
    }
    for onset in zone.following(span.start()).take(MAX_ONSETS) {
        let from = zone.to_offset(shifted(onset.timestamp(), -instant));
        add_onset(
            onset.timestamp(),
            from,
            onset.offset(),
            onset.dst(),
            onset.abbreviation(),
            lines,
        );
        if onset.timestamp() >= span.end() {
            break;
        }
    }
    lines.add("END:VTIMEZONE");
}

fn add_onset(at: Timestamp, from: Offset, to: Offset, dst: Dst, name: &str, lines: &mut Lines) {
    let kind = if dst.is_dst() { "DAYLIGHT" } else { "STANDARD" };
    lines.add(&format!("BEGIN:{kind}"));
    // The onset on the clock that it ends.
    lines.add(&format!("DTSTART:{}", from.to_datetime(at).strftime("%Y%m%dT%H%M%S")));
    lines.add(&format!("TZOFFSETFROM:{}", utc_offset(from)));
    lines.add(&format!("TZOFFSETTO:{}", utc_offset(to)));
    lines.text("TZNAME", name);
    lines.add(&format!("END:{kind}"));
}

/// `+HHMM`, with seconds only where there are some (§3.3.14).
fn utc_offset(offset: Offset) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (minutes, rest) = (seconds.abs() / 60, seconds.abs() % 60);
    let mut text = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
    if rest != 0 {
        text.push_str(&format!("{rest:02}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::parse_zone;

    fn rules(zone: &str, from: &str, until: &str) -> Vec<String> {
        let span = Interval::new(from.parse().unwrap(), until.parse().unwrap()).unwrap();
        let mut lines = Lines::default();
        add(zone, &parse_zone(zone).unwrap(), span, &mut lines);
        lines.into_text().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_onsets_around_the_time_are_there() {
        let lines = rules("Europe/London", "2027-06-01T09:00:00Z", "2027-06-01T10:00:00Z");
        let expected = [
            "BEGIN:VTIMEZONE",
            "TZID:Europe/London",
            "BEGIN:DAYLIGHT",
            "DTSTART:20270328T010000",
            "TZOFFSETFROM:+0000",
            "TZOFFSETTO:+0100",
            "TZNAME:BST",
            "END:DAYLIGHT",
            "BEGIN:STANDARD",
            "DTSTART:20271031T020000",
            "TZOFFSETFROM:+0100",
            "TZOFFSETTO:+0000",
            "TZNAME:GMT",
            "END:STANDARD",
            "END:VTIMEZONE",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_zone_that_never_changes_has_one_onset() {
        let lines = rules("Asia/Kolkata", "2027-06-01T09:00:00Z", "2027-06-01T10:00:00Z");
        assert_eq!(lines.iter().filter(|l| l.starts_with("TZOFFSETTO:+0530")).count(), 1);
        assert_eq!(lines.iter().filter(|l| l.starts_with("BEGIN:")).count(), 2, "{lines:?}");
        let lines = rules("Etc/GMT-3", "2027-06-01T09:00:00Z", "2027-06-01T10:00:00Z");
        assert!(lines.contains(&"TZOFFSETFROM:+0300".to_owned()), "{lines:?}");
    }

    #[test]
    fn only_utc_is_utc() {
        for (name, utc) in [
            ("UTC", true),
            ("Etc/UTC", true),
            ("Etc/GMT", true),
            ("Etc/GMT-1", false),
            ("Europe/London", false),
            ("Africa/Abidjan", false),
            ("Asia/Kolkata", false),
        ] {
            assert_eq!(is_utc(&parse_zone(name).unwrap()), utc, "{name}");
        }
    }

    #[test]
    fn offsets_have_seconds_where_need_be() {
        let offset = |seconds| utc_offset(Offset::from_seconds(seconds).unwrap());
        assert_eq!(offset(-12_600), "-0330");
        assert_eq!(offset(0), "+0000");
        assert_eq!(offset(-2_670), "-004430");
    }
}
