//! Instants, half-open intervals between them, and the one way from a wall clock to an instant.
//!
//! Rule for callers: arithmetic is done on instants; a wall clock time is turned into an instant
//! by [`local_to_instant`] and nowhere else, so that a time in a gap or a fold has one meaning.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Real time from `start` (included) to `end` (excluded), as `[start, end)`.
///
/// Two intervals that touch do not overlap. The end is never before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    start: Timestamp,
    end: Timestamp,
}

impl Interval {
    /// Takes two instants; an empty interval (`start == end`) is allowed.
    /// Refuses an end before the start.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, EndBeforeStart> {
        if end < start {
            return Err(EndBeforeStart { start, end });
        }
        Ok(Self { start, end })
    }

    /// The interval of `length` real time from `start`; a negative length counts as none.
    pub fn lasting(start: Timestamp, length: SignedDuration) -> Self {
        let end = shifted(start, length).max(start);
        Self { start, end }
    }

    /// The first instant inside.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// Whether it holds no instant at all.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the instant lies inside.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }

    /// Whether every instant of `other` lies inside; an empty `other` must still lie within the ends.
    pub fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether some instant lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The instants in both, or `None` when there are none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }

    /// The shortest interval that covers both, with what lies between them.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The interval made longer by `before` and `after`; negative lengths count as none.
    #[must_use]
    pub fn padded(&self, before: SignedDuration, after: SignedDuration) -> Self {
        let start = shifted(self.start, -before).min(self.start);
        let end = shifted(self.end, after).max(self.end);
        Self { start, end }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.start, self.end)
    }
}

/// The two ends of a would-be interval are in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndBeforeStart {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl fmt::Display for EndBeforeStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the end {} is before the start {}", self.end, self.start)
    }
}

impl std::error::Error for EndBeforeStart {}

/// The instant `length` later (earlier if negative), held at the ends of the supported years.
pub fn shifted(instant: Timestamp, length: SignedDuration) -> Timestamp {
    if length.is_zero() {
        return instant;
    }
    let limit = if length.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    instant.checked_add(length).unwrap_or(limit)
}

/// A whole number of minutes as a length of real time.
pub fn minutes(count: impl Into<i64>) -> SignedDuration {
    SignedDuration::from_secs(count.into().saturating_mul(60))
}

/// The instant at which clocks in `zone` show `local`.
///
/// A time that does not exist (clocks jumped over it) moves forward by the length of the gap:
/// 02:30 in a one-hour gap is 03:30. A time that occurs twice is its first occurrence. This is
/// RFC 5545 section 3.3.5 and jiff's `Compatible`. Outside the years -9999 to 9999 the result is
/// held at the nearest supported instant.
pub fn local_to_instant(local: DateTime, zone: &TimeZone) -> Timestamp {
    let limit = if local.year() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    zone.to_ambiguous_timestamp(local).compatible().unwrap_or(limit)
}

/// The date that calendars in `zone` show at `instant`.
pub fn local_date(instant: Timestamp, zone: &TimeZone) -> Date {
    zone.to_datetime(instant).date()
}

/// The first instant of `date` in `zone`; of a date that the zone skipped, the instant after it.
pub fn start_of_date(date: Date, zone: &TimeZone) -> Timestamp {
    local_to_instant(date.to_datetime(Time::midnight()), zone)
}

/// The date `days` later (earlier if negative), held at the ends of the supported years.
pub fn date_after(date: Date, days: i32) -> Date {
    date.saturating_add(SignedDuration::from_hours(i64::from(days) * 24))
}

/// The zone of an IANA name such as `Asia/Kolkata`, from the time zone data built into the binary.
///
/// Refuses everything else, also `Etc/Unknown`, fixed offsets and POSIX strings.
pub fn parse_zone(name: &str) -> Result<TimeZone, UnknownZone> {
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(UnknownZone { name: name.to_owned() }),
    }
}

/// The name as the IANA database writes it, whatever its case was; one that is unknown stays.
pub fn canonical_zone(name: String) -> String {
    let zone = parse_zone(&name).ok();
    zone.as_ref().and_then(TimeZone::iana_name).map(ToOwned::to_owned).unwrap_or(name)
}

/// The same for `deserialize_with`.
pub fn read_zone<'de, D: serde::Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    serde::Deserialize::deserialize(input).map(canonical_zone)
}

/// The name is not that of an IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownZone {
    pub name: String,
}

impl fmt::Display for UnknownZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an IANA time zone", self.name)
    }
}

impl std::error::Error for UnknownZone {}

/// A wall clock reading in whole minutes after 00:00, from 00:00 to 24:00 (the end of the day).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClockTime(u16);

impl ClockTime {
    /// The end of the local day, which is 00:00 of the next.
    pub const END_OF_DAY: Self = Self(24 * 60);

    /// Takes exactly `HH:MM` from `00:00` to `24:00`. Refuses seconds, other lengths and
    /// readings that no clock shows.
    pub fn parse(text: &str) -> Result<Self, ClockError> {
        let digits = |pair: &str| {
            let plain = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| pair.parse::<u16>().ok()).flatten()
        };
        let mut parts = text.split(':');
        let (hour, minute, second) = (parts.next(), parts.next(), parts.next());
        let (Some(hour), Some(minute)) = (hour.and_then(digits), minute.and_then(digits)) else {
            return Err(ClockError::NotAClock);
        };
        if second.is_some() {
            return Err(ClockError::NotWholeMinutes);
        }
        let time = Self(hour * 60 + minute);
        if minute > 59 || time > Self::END_OF_DAY {
            return Err(ClockError::NotAClock);
        }
        Ok(time)
    }

    /// Whether the time from `start` to this reading is the whole of one day.
    pub fn lasts_all_day_from(self, start: Self) -> bool {
        start == Self(0) && self == Self::END_OF_DAY
    }

    /// The instant of this reading on a date in a zone, by [`local_to_instant`].
    pub fn instant_on(self, date: Date, zone: &TimeZone) -> Timestamp {
        let midnight = date.to_datetime(Time::midnight());
        local_to_instant(midnight.saturating_add(minutes(self.0)), zone)
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Why a text is not a [`ClockTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockError {
    NotAClock,
    NotWholeMinutes,
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAClock => "must be a time HH:MM from 00:00 to 24:00",
            Self::NotWholeMinutes => "must be in whole minutes, as HH:MM without seconds",
        })
    }
}

impl std::error::Error for ClockError {}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn instant(zone: &str, local: &str) -> String {
        let local: DateTime = local.parse().unwrap();
        local_to_instant(local, &parse_zone(zone).unwrap()).to_string()
    }

    #[test]
    fn an_interval_refuses_an_end_before_its_start() {
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
        assert!(Interval::new(late, early).is_err());
        assert!(Interval::new(early, early).unwrap().is_empty());
        let hour = Interval::new(early, late).unwrap();
        assert!(hour.contains(early) && !hour.contains(late));
    }

    #[test]
    fn touching_intervals_do_not_overlap() {
        let (a, b) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
        let first = Interval::new(a, b).unwrap();
        let second = Interval::lasting(b, minutes(60));
        assert!(!first.overlaps(&second));
        assert_eq!(first.intersection(&second), None);
        assert!(first.padded(minutes(0), minutes(1)).overlaps(&second));
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(shifted(Timestamp::MAX, minutes(1)), Timestamp::MAX);
        assert_eq!(shifted(Timestamp::MIN, minutes(-1)), Timestamp::MIN);
        assert_eq!(date_after(Date::MAX, 1), Date::MAX);
        assert_eq!(date_after(civil::date(2026, 3, 1), -1), civil::date(2026, 2, 28));
        let kolkata = parse_zone("Asia/Kolkata").unwrap();
        assert_eq!(local_to_instant(DateTime::MIN, &kolkata), Timestamp::MIN);
    }

    #[test]
    fn a_time_in_a_gap_moves_forward_by_the_gap() {
        assert_eq!(instant("America/New_York", "2026-03-08T02:30"), "2026-03-08T07:30:00Z");
        // Lord Howe moves by 30 minutes: 02:10 does not exist and becomes 02:40 (+11).
        assert_eq!(instant("Australia/Lord_Howe", "2026-10-04T02:10"), "2026-10-03T15:40:00Z");
    }

    #[test]
    fn a_repeated_time_is_its_first_occurrence() {
        assert_eq!(instant("America/New_York", "2025-11-02T01:30"), "2025-11-02T05:30:00Z");
        assert_eq!(instant("Australia/Lord_Howe", "2026-04-05T01:45"), "2026-04-04T14:45:00Z");
    }

    #[test]
    fn a_zone_is_an_iana_name() {
        for name in ["Asia/Kolkata", "UTC", "Australia/Lord_Howe", "Asia/Calcutta"] {
            assert!(parse_zone(name).is_ok(), "{name}");
        }
        for name in ["", "Mars/Olympus", "+05:30", "Etc/Unknown", "EST5EDT,M3.2.0,M11.1.0", "local"]
        {
            let error = parse_zone(name).unwrap_err();
            assert_eq!(error.name, name);
        }
    }

    #[test]
    fn clock_times() {
        for good in ["00:00", "09:30", "23:59", "24:00"] {
            assert_eq!(ClockTime::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "9:30", "24:01", "25:00", "12:60", "+1:30", "12-30", "٠٩:٣٠", " 9:30"] {
            assert_eq!(ClockTime::parse(bad), Err(ClockError::NotAClock), "{bad}");
        }
        assert_eq!(ClockTime::parse("09:30:15"), Err(ClockError::NotWholeMinutes));
    }

    #[test]
    fn the_end_of_a_day_is_the_start_of_the_next() {
        let rome = parse_zone("Europe/Rome").unwrap();
        let date = civil::date(2026, 3, 28);
        assert_eq!(
            ClockTime::END_OF_DAY.instant_on(date, &rome),
            start_of_date(civil::date(2026, 3, 29), &rome)
        );
    }
}
