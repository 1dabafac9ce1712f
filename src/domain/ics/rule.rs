//! The occurrences of a recurrence rule (RFC 5545 §3.3.10), by the wall clock.
//!
//! `calcard` knows the rules; it is given one event without a zone at a time, so that what it
//! returns are clock readings. It begins at the first occurrence and takes as long as that takes,
//! so old rules are moved forward first, and the work of all rules of a calendar has a limit.

use calcard::common::PartialDateTime;
use calcard::common::timezone::Tz;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarEntry, ICalendarFrequency,
    ICalendarProperty, ICalendarRecurrenceRule, ICalendarValue,
};
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, tz};

use super::read::Problem;

/// Clock readings that the rules of one calendar may be looked at for: daily events of 760 days
/// take 760, a rule for every second of them 66 million.
const MAX_STEPS: i64 = 3_000_000;
/// What a rule without any occurrence costs: it is looked for until the calendar ends.
const FRUITLESS: i64 = 300_000;
/// Occurrences that one rule may have before and in the time that is asked for.
const MAX_STARTS: usize = 100_000;

/// The work that may still be done for a calendar.
#[derive(Debug)]
pub(super) struct Work(i64);

impl Default for Work {
    fn default() -> Self {
        Self(MAX_STEPS)
    }
}

impl Work {
    fn spend(&mut self, steps: i64) -> Result<(), Problem> {
        self.0 = self.0.saturating_sub(steps.max(1));
        if self.0 < 0 { Err(Problem::TooMuchWork) } else { Ok(()) }
    }
}

/// The clock readings at which `rule`, counted from `first`, has occurrences, from `from` to
/// `until` at least; those outside are the caller's to drop, and the rule's own end (`UNTIL`) is the
/// caller's to look at. `None` when the rule makes no sense.
pub(super) fn starts(
    rule: &ICalendarRecurrenceRule,
    first: DateTime,
    (from, until): (DateTime, DateTime),
    work: &mut Work,
) -> Result<Option<Vec<DateTime>>, Problem> {
    let step = i64::from(rule.interval.unwrap_or(1));
    if step == 0 {
        return Ok(None);
    }
    // Rules that count their occurrences, or take the weekday from the first one, must not be moved.
    let first = if rule.count.is_none() && rule.byweekno.is_empty() {
        moved_forward(rule.freq, step, first, from)
    } else {
        first
    };
    if first > until {
        return Ok(Some(Vec::new()));
    }
    work.spend(steps(rule, step, first, until))?;
    let mut rule = rule.clone();
    rule.until = Some(partial(until));
    let event = ICalendarComponent {
        component_type: ICalendarComponentType::VEvent,
        entries: vec![
            ICalendarEntry::new(ICalendarProperty::Dtstart)
                .with_value(ICalendarValue::PartialDateTime(Box::new(partial(first)))),
            ICalendarEntry::new(ICalendarProperty::Rrule)
                .with_value(ICalendarValue::RecurrenceRule(Box::new(rule))),
        ],
        component_ids: Vec::new(),
    };
    let alone = ICalendar { components: vec![event] };
    let expanded = alone.expand_dates(Tz::Floating, MAX_STARTS);
    if !expanded.errors.is_empty() {
        return Ok(None);
    }
    if expanded.events.len() >= MAX_STARTS {
        return Err(Problem::TooMuchWork);
    }
    if expanded.events.is_empty() {
        work.spend(FRUITLESS)?;
    }
    // A reading without a zone is counted as if it were UTC.
    let reading = |seconds| Timestamp::from_second(seconds).map(|t| tz::Offset::UTC.to_datetime(t));
    Ok(expanded.events.iter().map(|e| reading(e.start.timestamp())).collect::<Result<_, _>>().ok())
}

/// A later occurrence to count from, at a whole number of steps from the first: the rule gives the
/// same from there on.
fn moved_forward(freq: ICalendarFrequency, step: i64, first: DateTime, from: DateTime) -> DateTime {
    let seconds = match freq {
        ICalendarFrequency::Yearly => return moved_by_years(step, first, from),
        // Quick enough, and months have no fixed length.
        ICalendarFrequency::Monthly => return first,
        ICalendarFrequency::Weekly => 7 * 86_400,
        ICalendarFrequency::Daily => 86_400,
        ICalendarFrequency::Hourly => 3_600,
        ICalendarFrequency::Minutely => 60,
        ICalendarFrequency::Secondly => 1,
    };
    let whole_step = step * seconds;
    // One step less, so that the period in which `from` lies is seen from its beginning.
    let steps = first.duration_until(from).as_secs() / whole_step - 1;
    if steps <= 0 {
        return first;
    }
    first.checked_add(SignedDuration::from_secs(steps * whole_step)).unwrap_or(first)
}

fn moved_by_years(step: i64, first: DateTime, from: DateTime) -> DateTime {
    let steps = (i64::from(from.year()) - i64::from(first.year())) / step - 1;
    let year = i64::from(first.year()) + steps * step;
    let moved = || {
        let date = Date::new(i16::try_from(year).ok()?, first.month(), first.day()).ok()?;
        Some(date.to_datetime(first.time()))
    };
    // A day that some years lack must stay where it is.
    if steps <= 0 || first.day() > 28 { first } else { moved().unwrap_or(first) }
}

/// About how many clock readings are looked at from `first` to `until`.
fn steps(rule: &ICalendarRecurrenceRule, step: i64, first: DateTime, until: DateTime) -> i64 {
    let seconds = first.duration_until(until).as_secs().max(0);
    let times = |list: &[u8]| i64::try_from(list.len().max(1)).unwrap_or(i64::MAX);
    let (hours, minutes, second) =
        (times(&rule.byhour), times(&rule.byminute), times(&rule.bysecond));
    let (period, each) = match rule.freq {
        ICalendarFrequency::Yearly
        | ICalendarFrequency::Monthly
        | ICalendarFrequency::Weekly
        | ICalendarFrequency::Daily => (86_400, hours * minutes * second),
        ICalendarFrequency::Hourly => (3_600, minutes * second),
        ICalendarFrequency::Minutely => (60, second),
        ICalendarFrequency::Secondly => (1, 1),
    };
    (seconds / period / step + 1).saturating_mul(each)
}

/// A clock reading as `calcard` has it.
fn partial(local: DateTime) -> PartialDateTime {
    let small = |n: i8| u8::try_from(n).ok();
    PartialDateTime {
        year: u16::try_from(local.year()).ok(),
        month: small(local.month()),
        day: small(local.day()),
        hour: small(local.hour()),
        minute: small(local.minute()),
        second: small(local.second()),
        ..PartialDateTime::default()
    }
}
