//! The events of a calendar, with their repetitions and the exceptions from them.

use std::collections::{BTreeMap, BTreeSet};

use calcard::common::PartialDateTime;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarDuration,
    ICalendarParameterName, ICalendarProperty, ICalendarRecurrenceRule, ICalendarStatus,
    ICalendarTransparency, ICalendarValue,
};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::invite;
use super::read::{self, Found, Length, Moment, Problem};
use super::rule::{self, Work};
use super::zones::Zones;
use crate::domain::time::{local_to_instant, shifted};

/// An event without its words.
struct Event<'c> {
    start: Moment,
    length: Length,
    rules: Vec<&'c ICalendarRecurrenceRule>,
    /// Further occurrences; a period brings its own length.
    more: Vec<(Moment, Option<Length>)>,
    /// Occurrences that do not take place.
    except: Vec<Moment>,
    /// Whether it keeps anybody busy.
    blocks: bool,
}

/// An event that stands in for an occurrence of another one.
struct Replacement<'c> {
    /// When that occurrence would be.
    of: Moment,
    /// Whether it stands in for all later ones as well (`RANGE=THISANDFUTURE`).
    onward: bool,
    sequence: i64,
    event: Event<'c>,
}

/// The events with one UID.
#[derive(Default)]
struct Group<'c> {
    masters: Vec<Event<'c>>,
    replacements: BTreeMap<Timestamp, Replacement<'c>>,
}

/// Adds the times of all events in `calendar` that keep busy to `found`.
pub(super) fn collect(
    calendar: &ICalendar,
    zones: &Zones<'_>,
    work: &mut Work,
    found: &mut Found,
) -> Result<(), Problem> {
    for group in groups(calendar, zones, found) {
        for replacement in group.replacements.values().filter(|r| r.event.blocks) {
            found.busy(replacement.event.length.from(&replacement.event.start))?;
        }
        let replaced = Replaced::of(&group);
        for master in &group.masters {
            expand(master, &replaced, work, found)?;
        }
    }
    Ok(())
}

fn groups<'c>(calendar: &'c ICalendar, zones: &Zones<'_>, found: &mut Found) -> Vec<Group<'c>> {
    let mut known: BTreeMap<&str, Group<'c>> = BTreeMap::new();
    let mut nameless = Vec::new();
    let components = calendar.components.iter();
    for component in components.filter(|c| c.component_type == ICalendarComponentType::VEvent) {
        let uid = component.uid();
        if uid.is_some_and(invite::is_ours) {
            continue;
        }
        let (Some(event), Ok(replaces)) =
            (event(component, zones, found), replaces(component, zones))
        else {
            found.unreadable += 1;
            continue;
        };
        let mut new = Group::default();
        let group = match uid {
            Some(uid) => known.entry(uid).or_default(),
            None => &mut new,
        };
        match replaces {
            Some((of, onward)) => {
                group.replace(Replacement { of, onward, sequence: sequence(component), event });
            }
            None => group.masters.push(event),
        }
        if uid.is_none() {
            nameless.push(new);
        }
    }
    known.into_values().chain(nameless).collect()
}

impl<'c> Group<'c> {
    /// Of two for one occurrence the later revision counts, or the later one in the file.
    fn replace(&mut self, new: Replacement<'c>) {
        let at = new.of.instant();
        if self.replacements.get(&at).is_none_or(|old| old.sequence <= new.sequence) {
            self.replacements.insert(at, new);
        }
    }
}

fn sequence(component: &ICalendarComponent) -> i64 {
    let value = component.property(&ICalendarProperty::Sequence).and_then(|e| e.values.first());
    value.and_then(ICalendarValue::as_integer).unwrap_or(0)
}

/// Which occurrence the component stands in for, if for any; an error when it can not be said.
fn replaces(
    component: &ICalendarComponent,
    zones: &Zones<'_>,
) -> Result<Option<(Moment, bool)>, ()> {
    let Some(entry) = component.property(&ICalendarProperty::RecurrenceId) else { return Ok(None) };
    let of = read::moment_of(entry, None, zones).ok_or(())?;
    Ok(Some((of, entry.has_parameter(&ICalendarParameterName::Range))))
}

/// The event that a component is; `None` when it has no start, or an end that makes no sense.
fn event<'c>(
    component: &'c ICalendarComponent,
    zones: &Zones<'_>,
    found: &mut Found,
) -> Option<Event<'c>> {
    let start = component.property(&ICalendarProperty::Dtstart)?;
    let start = read::moment_of(start, None, zones)?;
    let own = (!start.is_date).then_some(&start.zone);
    let mut rules = Vec::new();
    for entry in component.properties(&ICalendarProperty::Rrule) {
        match entry.values.first() {
            Some(ICalendarValue::RecurrenceRule(rule)) => rules.push(&**rule),
            // The first occurrence is better than none.
            _ => found.unreadable += 1,
        }
    }
    let mut more = Vec::new();
    for entry in component.properties(&ICalendarProperty::Rdate) {
        for value in &entry.values {
            more.extend(match value {
                ICalendarValue::PartialDateTime(at) => {
                    read::moment(at, entry.tz_id(), own, zones).map(|at| (at, None))
                }
                ICalendarValue::Period(period) => read::period(period, entry.tz_id(), zones)
                    .map(|(at, length)| (at, Some(length))),
                _ => None,
            });
        }
    }
    let mut except = Vec::new();
    for entry in component.properties(&ICalendarProperty::Exdate) {
        except.extend(entry.values.iter().filter_map(|value| match value {
            ICalendarValue::PartialDateTime(at) => read::moment(at, entry.tz_id(), own, zones),
            _ => None,
        }));
    }
    Some(Event {
        length: length(component, &start, zones)?,
        blocks: component.status() != Some(&ICalendarStatus::Cancelled)
            && component.transparency() != Some(&ICalendarTransparency::Transparent),
        start,
        rules,
        more,
        except,
    })
}

/// How long an event lasts (RFC 5545 §3.6.1): to its end; or as long as it says; or a day, if it
/// begins on one; or no time.
fn length(component: &ICalendarComponent, start: &Moment, zones: &Zones<'_>) -> Option<Length> {
    let none = SignedDuration::ZERO;
    let day = Length { clock: SignedDuration::from_hours(24), real: none };
    let length = if let Some(entry) = component.property(&ICalendarProperty::Dtend) {
        let end = read::moment_of(entry, Some(&start.zone), zones)?;
        if end.is_date == start.is_date && end.zone == start.zone || end.is_date {
            Length { clock: start.local.duration_until(end.local), real: none }
        } else {
            Length { clock: none, real: end.instant().duration_since(start.instant()) }
        }
    } else if let Some(entry) = component.property(&ICalendarProperty::Duration) {
        match entry.values.first()? {
            ICalendarValue::Duration(duration) => length_of(duration),
            _ => return None,
        }
    } else if start.is_date {
        day
    } else {
        Length { clock: none, real: none }
    };
    if length.clock.is_negative() || length.real.is_negative() {
        return None;
    }
    // Some programs end an event of one day on that day.
    let no_time = start.is_date && length.clock.is_zero() && length.real.is_zero();
    Some(if no_time { day } else { length })
}

/// Weeks and days are counted by the calendar, the rest by the clock's ticking (§3.3.6).
pub(super) fn length_of(duration: &ICalendarDuration) -> Length {
    let sign = if duration.neg { -1 } else { 1 };
    let days = i64::from(duration.weeks) * 7 + i64::from(duration.days);
    let rest = i64::from(duration.hours) * 3_600
        + i64::from(duration.minutes) * 60
        + i64::from(duration.seconds);
    Length {
        clock: SignedDuration::from_hours(24 * days * sign),
        real: SignedDuration::from_secs(rest * sign),
    }
}

/// The occurrences of one UID that others stand in for.
struct Replaced<'g, 'c> {
    by: &'g BTreeMap<Timestamp, Replacement<'c>>,
    /// Those that stand in for all later ones too, in order.
    onward: Vec<&'g Replacement<'c>>,
    /// How far an occurrence may come to lie, and reach, from where its rule has it.
    farthest: SignedDuration,
}

impl<'g, 'c> Replaced<'g, 'c> {
    fn of(group: &'g Group<'c>) -> Self {
        let by = &group.replacements;
        let onward: Vec<_> = by.values().filter(|r| r.onward).collect();
        let moved = onward.iter().map(|r| {
            let shift = r.of.instant().duration_until(r.event.start.instant()).abs();
            shift.saturating_add(reach(r.event.length))
        });
        let farthest = moved.max().unwrap_or(SignedDuration::ZERO);
        Self { by, onward, farthest }
    }

    /// The one that an occurrence at `at` is after.
    fn onward_at(&self, at: Timestamp) -> Option<&Replacement<'c>> {
        let before = self.onward.partition_point(|r| r.of.instant() <= at);
        self.onward.get(before.checked_sub(1)?).copied()
    }
}

/// Adds the occurrences of an event that nothing stands in for.
fn expand(
    event: &Event<'_>,
    replaced: &Replaced<'_, '_>,
    work: &mut Work,
    found: &mut Found,
) -> Result<(), Problem> {
    if !event.blocks && replaced.onward.is_empty() {
        return Ok(());
    }
    let out: BTreeSet<Timestamp> = event.except.iter().map(Moment::instant).collect();
    // Some programs except the day of an occurrence that has a time.
    let out_days: BTreeSet<Date> =
        event.except.iter().filter(|out| out.is_date).map(|out| out.local.date()).collect();
    let mut starts = rule_starts(event, replaced, work, found)?;
    starts.push(event.start.local);
    let mut occurrences: BTreeMap<Timestamp, (Moment, Length)> = BTreeMap::new();
    for (at, length) in &event.more {
        occurrences.insert(at.instant(), (at.clone(), length.unwrap_or(event.length)));
    }
    for local in starts {
        let at = event.start.at(local);
        occurrences.insert(at.instant(), (at, event.length));
    }
    for (instant, (at, length)) in occurrences {
        if replaced.by.contains_key(&instant)
            || out.contains(&instant)
            || out_days.contains(&at.local.date())
        {
            continue;
        }
        match replaced.onward_at(instant) {
            Some(Replacement { of, event: new, .. }) if new.blocks => {
                let moved = at.local.saturating_add(of.local.duration_until(new.start.local));
                found.busy(new.length.from(&new.start.at(moved)))?;
            }
            None if event.blocks => found.busy(length.from(&at))?,
            _ => {}
        }
    }
    Ok(())
}

/// The clock readings of an event's rules that can touch the window.
fn rule_starts(
    event: &Event<'_>,
    replaced: &Replaced<'_, '_>,
    work: &mut Work,
    found: &mut Found,
) -> Result<Vec<DateTime>, Problem> {
    let zone = &event.start.zone;
    // Longer than whatever clocks do.
    let slack = SignedDuration::from_hours(48);
    let farthest = reach(event.length).max(replaced.farthest);
    let from = zone.to_datetime(shifted(found.window.start(), -farthest)).saturating_sub(slack);
    let until = zone.to_datetime(shifted(found.window.end(), farthest)).saturating_add(slack);
    let mut starts = Vec::new();
    for rule in &event.rules {
        let end = rule.until.as_ref().map(|end| last_instant(event, end));
        let last = end.map_or(until, |end| zone.to_datetime(end).saturating_add(slack).min(until));
        if last < from {
            continue;
        }
        let Some(some) = rule::starts(rule, event.start.local, (from, last), work)? else {
            found.unreadable += 1;
            continue;
        };
        let in_time = |local: &DateTime| {
            *local >= from && end.is_none_or(|end| event.start.at(*local).instant() <= end)
        };
        starts.extend(some.into_iter().filter(in_time));
    }
    Ok(starts)
}

fn reach(length: Length) -> SignedDuration {
    length.clock.saturating_add(length.real)
}

/// The last instant at which a rule may have an occurrence. A date includes that day, whatever the
/// occurrence is; a clock reading is on the event's own clock.
fn last_instant(event: &Event<'_>, until: &PartialDateTime) -> Timestamp {
    let Some(local) = read::reading(until) else { return Timestamp::MAX };
    if !until.has_time() {
        return event.start.at(local.saturating_add(SignedDuration::from_secs(86_399))).instant();
    }
    match until.tz_hour {
        Some(_) => local_to_instant(local, &TimeZone::UTC),
        None => event.start.at(local).instant(),
    }
}
