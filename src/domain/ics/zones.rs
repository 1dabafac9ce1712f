//! The time zones of a calendar: which one a TZID means.
//!
//! In this order: the IANA zone of that name, since our zone data are newer than most files; what
//! the file itself defines as that zone; a name that is known for one of the IANA zones, as Windows
//! has them; the practitioner's own zone.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use calcard::common::PartialDateTime;
use calcard::common::timezone::Tz;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarProperty, ICalendarValue,
};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::read::{self, Problem};
use super::rule::{self, Work};
use crate::domain::time::parse_zone;

/// The zones of one calendar.
pub(super) struct Zones<'c> {
    own: TimeZone,
    defined: BTreeMap<&'c str, TimeZone>,
}

/// A change of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Onset {
    at: Timestamp,
    from: Offset,
    to: Offset,
    dst: bool,
}

impl<'c> Zones<'c> {
    /// The zones that `calendar` defines, for clock readings in `range`; `own` is the
    /// practitioner's.
    pub(super) fn of(
        calendar: &'c ICalendar,
        own: &TimeZone,
        range: (DateTime, DateTime),
        work: &mut Work,
    ) -> Result<Self, Problem> {
        let mut defined = BTreeMap::new();
        for component in calendar.timezones() {
            let text = component.property(&ICalendarProperty::Tzid).and_then(|e| e.values.first());
            let Some(ICalendarValue::Text(tzid)) = text else { continue };
            if parse_zone(tzid).is_err()
                && let Some(zone) = define(calendar, component, range, work)?
            {
                defined.insert(tzid.as_str(), zone);
            }
        }
        Ok(Self { own: own.clone(), defined })
    }

    /// What `tzid` means.
    pub(super) fn named(&self, tzid: &str) -> TimeZone {
        let alias = || parse_zone(&Tz::from_str(tzid).ok()?.name()?).ok();
        parse_zone(tzid)
            .ok()
            .or_else(|| self.defined.get(tzid).cloned())
            .or_else(alias)
            .unwrap_or_else(|| self.own.clone())
    }

    /// The practitioner's own.
    pub(super) fn own(&self) -> &TimeZone {
        &self.own
    }
}

/// The zone that a VTIMEZONE describes, as far as `range` needs it; `None` when it makes no sense.
fn define(
    calendar: &ICalendar,
    component: &ICalendarComponent,
    range: (DateTime, DateTime),
    work: &mut Work,
) -> Result<Option<TimeZone>, Problem> {
    let mut onsets = BTreeSet::new();
    for id in &component.component_ids {
        let Some(observance) = calendar.component_by_id(*id) else { continue };
        let dst = match observance.component_type {
            ICalendarComponentType::Daylight => true,
            ICalendarComponentType::Standard => false,
            _ => continue,
        };
        onsets.extend(onsets_of(observance, dst, range, work)?);
    }
    Ok(compiled(&onsets))
}

fn onsets_of(
    observance: &ICalendarComponent,
    dst: bool,
    range: (DateTime, DateTime),
    work: &mut Work,
) -> Result<Vec<Onset>, Problem> {
    let value = |name: &ICalendarProperty| match observance.property(name)?.values.first()? {
        ICalendarValue::PartialDateTime(value) => Some(&**value),
        _ => None,
    };
    let to = value(&ICalendarProperty::Tzoffsetto).and_then(offset);
    let first = value(&ICalendarProperty::Dtstart).and_then(read::reading);
    let (Some(to), Some(first)) = (to, first) else { return Ok(Vec::new()) };
    // The local mean times of long ago have seconds, which calcard does not read.
    let from = value(&ICalendarProperty::Tzoffsetfrom).and_then(offset).unwrap_or(to);
    let mut locals = vec![first];
    for entry in observance.properties(&ICalendarProperty::Rdate) {
        locals.extend(entry.values.iter().filter_map(|value| match value {
            ICalendarValue::PartialDateTime(at) => read::reading(at),
            _ => None,
        }));
    }
    for entry in observance.properties(&ICalendarProperty::Rrule) {
        let Some(ICalendarValue::RecurrenceRule(rule)) = entry.values.first() else { continue };
        // Its end is UTC (§3.6.5).
        let end = rule.until.as_ref().and_then(read::reading);
        let end = end.map_or(range.1, |end| end.saturating_add(seconds(from)));
        let until = end.min(range.1);
        let found = rule::starts(rule, first, (range.0, until), work)?;
        locals.extend(found.unwrap_or_default().into_iter().filter(|local| *local <= until));
    }
    let onset = |local| Some(Onset { at: from.to_timestamp(local).ok()?, from, to, dst });
    Ok(locals.into_iter().filter_map(onset).collect())
}

fn seconds(offset: Offset) -> SignedDuration {
    SignedDuration::from_secs(offset.seconds().into())
}

fn offset(value: &PartialDateTime) -> Option<Offset> {
    let seconds =
        i32::from(value.tz_hour?) * 3_600 + i32::from(value.tz_minute.unwrap_or_default()) * 60;
    Offset::from_seconds(if value.tz_minus { -seconds } else { seconds }).ok()
}

/// The zone with these onsets, by way of the form that zone data have (TZif, RFC 9636): then it is a
/// zone like all others, with the same rule for times in a gap or a fold.
fn compiled(onsets: &BTreeSet<Onset>) -> Option<TimeZone> {
    let first = onsets.first()?;
    let mut kinds = vec![(first.from, false)];
    let mut times = Vec::new();
    let mut indices = Vec::new();
    for onset in onsets {
        let kind = (onset.to, onset.dst);
        let index = kinds.iter().position(|k| *k == kind).unwrap_or(kinds.len());
        if index == kinds.len() {
            kinds.push(kind);
        }
        let at = onset.at.as_second();
        // One instant, one onset: the later entry of a file that contradicts itself counts.
        if times.last() == Some(&at) {
            times.pop();
            indices.pop();
        }
        times.push(at);
        indices.push(u8::try_from(index).ok()?);
    }
    let mut data = header(0, 1);
    // The old block is for readers that know 32 bits; it must have one kind of time.
    data.extend([0, 0, 0, 0, 0, 0, 0]);
    data.extend(header(u32::try_from(times.len()).ok()?, u32::try_from(kinds.len()).ok()?));
    data.extend(times.iter().flat_map(|at| at.to_be_bytes()));
    data.extend(indices);
    for (offset, dst) in kinds {
        data.extend(offset.seconds().to_be_bytes());
        data.extend([u8::from(dst), 0]);
    }
    data.push(0);
    // No rule for what comes after the last onset: its time goes on.
    data.extend(b"\n\n");
    TimeZone::tzif("", &data).ok()
}

/// The header of a TZif block with so many onsets and kinds of time, and one empty abbreviation.
fn header(onsets: u32, kinds: u32) -> Vec<u8> {
    let mut header = b"TZif2".to_vec();
    header.extend([0; 15]);
    for count in [0, 0, 0, onsets, kinds, 1] {
        header.extend(count.to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onset(at: &str, from: i8, to: i8) -> Onset {
        let hours = |n: i8| Offset::from_hours(n).unwrap();
        Onset { at: at.parse().unwrap(), from: hours(from), to: hours(to), dst: to > from }
    }

    #[test]
    fn a_compiled_zone_keeps_its_onsets() {
        let onsets: BTreeSet<Onset> =
            [onset("2027-03-28T01:00:00Z", 1, 2), onset("2027-10-31T01:00:00Z", 2, 1)].into();
        let zone = compiled(&onsets).unwrap();
        let offset = |at: &str| zone.to_offset(at.parse().unwrap()).seconds() / 3_600;
        assert_eq!(offset("2020-01-01T00:00:00Z"), 1);
        assert_eq!(offset("2027-03-28T00:59:59Z"), 1);
        assert_eq!(offset("2027-03-28T01:00:00Z"), 2);
        assert_eq!(offset("2027-10-31T01:00:00Z"), 1);
        assert_eq!(offset("2040-07-01T00:00:00Z"), 1);
        assert!(compiled(&BTreeSet::new()).is_none());
    }
}
