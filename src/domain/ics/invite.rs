//! Bookings as iCalendar objects: an invite or its cancellation (RFC 5546 §3.2.2, §3.2.5), and a
//! calendar that others subscribe to (§3.2.1).
//!
//! Whom an object names: both sides by their names, as they see each other in the hub, and by an
//! address that is made of the user's id and leads nowhere (RFC 6761 §6.4). A real one would hand
//! each side the other's, and sooner or later to whoever reads the calendar. What a session is
//! about (notes of either side, reasons) is left out: calendars are synchronised to third parties.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::text::{Lines, quoted};
use super::vtimezone;
use crate::domain::booking::Status;
use crate::domain::time::Interval;

/// The part of a UID that says whose it is.
const UID_DOMAIN: &str = "bookings.klearkarma.com";
/// Addresses in it are nobody's.
const NO_REPLY: &str = "no-reply.invalid";
/// How often a subscriber should come again.
const REFRESH: &str = "PT15M";

/// The UID of a booking that was first made as `booking_id`; it keeps it when it is moved.
pub fn uid(booking_id: Uuid) -> String {
    format!("{booking_id}@{UID_DOMAIN}")
}

/// Whether `uid` is one of ours: a booking that comes back out of somebody's calendar.
pub fn is_ours(uid: &str) -> bool {
    let id = uid.strip_suffix(UID_DOMAIN).and_then(|rest| rest.strip_suffix('@'));
    id.is_some_and(|id| Uuid::parse_str(id).is_ok())
}

/// How a booking stands, as calendars know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Waits for the practitioner.
    Asked,
    /// Agreed, whatever came of the session.
    Agreed,
    /// It does not take place.
    Off,
}

impl Standing {
    /// How a booking in `status` stands; `None` for a hold, which is no booking.
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Held | Status::Released | Status::Lapsed => None,
            Status::Pending => Some(Self::Asked),
            Status::Confirmed | Status::InSession | Status::Completed | Status::NoShow => {
                Some(Self::Agreed)
            }
            Status::Declined | Status::Expired | Status::Cancelled | Status::Rescheduled => {
                Some(Self::Off)
            }
        }
    }
}

/// Somebody whom an object names.
#[derive(Debug, Clone)]
pub struct Person {
    pub user_id: Uuid,
    pub name: String,
}

impl Person {
    /// Their name as a parameter, and an address that is theirs alone and nobody's.
    fn address(&self) -> String {
        format!(";CN={}:mailto:{}@{NO_REPLY}", quoted(&self.name), self.user_id)
    }
}

/// A booking as calendars know it.
#[derive(Debug, Clone)]
pub struct Appointment {
    /// See [`uid`].
    pub uid: String,
    /// Grows with every change that calendars must take over.
    pub sequence: i64,
    /// When it last changed. Also `DTSTAMP`, so that the same booking is the same text.
    pub changed_at: Timestamp,
    pub time: Interval,
    /// The practitioner's.
    pub zone: TimeZone,
    pub standing: Standing,
    pub service: String,
    pub practitioner: Person,
    pub seeker: Person,
}

/// An object to be sent, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// `REQUEST` or `CANCEL`.
    pub method: &'static str,
    pub text: String,
}

/// The invite to an appointment, or its cancellation.
pub fn invite(appointment: &Appointment) -> Invite {
    let method = match appointment.standing {
        Standing::Asked | Standing::Agreed => "REQUEST",
        Standing::Off => "CANCEL",
    };
    let mut lines = begin(method);
    add_zones([appointment], &mut lines);
    let title = format!(
        "{} ({}, {})",
        appointment.service, appointment.practitioner.name, appointment.seeker.name
    );
    add_event(appointment, &title, true, &mut lines);
    lines.add("END:VCALENDAR");
    Invite { method, text: lines.into_text() }
}

/// Whose calendar is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Practitioner,
    Seeker,
}

/// A calendar of appointments, titled with the other side's name. What does not take place is left
/// out by the caller.
pub fn calendar(reader: Reader, appointments: &[Appointment]) -> String {
    let mut lines = begin("PUBLISH");
    lines.text("NAME", "Klear Karma");
    lines.text("X-WR-CALNAME", "Klear Karma");
    lines.add(&format!("REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}"));
    lines.add(&format!("X-PUBLISHED-TTL:{REFRESH}"));
    add_zones(appointments, &mut lines);
    for appointment in appointments {
        let other = match reader {
            Reader::Practitioner => &appointment.seeker,
            Reader::Seeker => &appointment.practitioner,
        };
        let title = format!("{} ({})", appointment.service, other.name);
        add_event(appointment, &title, false, &mut lines);
    }
    lines.add("END:VCALENDAR");
    lines.into_text()
}

fn begin(method: &str) -> Lines {
    let mut lines = Lines::default();
    lines.add("BEGIN:VCALENDAR");
    lines.add("VERSION:2.0");
    lines.add("PRODID:-//Klear Karma//Hub//EN");
    lines.add("CALSCALE:GREGORIAN");
    lines.add(&format!("METHOD:{method}"));
    lines
}

/// The zones of all appointments, each for the time that it is needed for.
fn add_zones<'a>(appointments: impl IntoIterator<Item = &'a Appointment>, lines: &mut Lines) {
    let mut needed: BTreeMap<&str, (&TimeZone, Interval)> = BTreeMap::new();
    for appointment in appointments {
        if let Some(name) = zone_name(&appointment.zone) {
            let (_, span) = needed.entry(name).or_insert((&appointment.zone, appointment.time));
            *span = span.hull(&appointment.time);
        }
    }
    for (name, (zone, span)) in needed {
        vtimezone::add(name, zone, span, lines);
    }
}

/// What times are marked with; `None` when they are written as UTC.
fn zone_name(zone: &TimeZone) -> Option<&str> {
    zone.iana_name().filter(|_| !vtimezone::is_utc(zone))
}

fn add_event(appointment: &Appointment, title: &str, to_sides: bool, lines: &mut Lines) {
    let (time, zone) = (appointment.time, &appointment.zone);
    lines.add("BEGIN:VEVENT");
    lines.add(&format!("UID:{}", appointment.uid));
    lines.add(&format!("SEQUENCE:{}", appointment.sequence));
    lines.add(&format!("DTSTAMP:{}", utc(appointment.changed_at)));
    lines.add(&format!("LAST-MODIFIED:{}", utc(appointment.changed_at)));
    for (name, instant) in [("DTSTART", time.start()), ("DTEND", time.end())] {
        lines.add(&match zone_name(zone) {
            Some(tzid) => {
                let local = zone.to_datetime(instant).strftime("%Y%m%dT%H%M%S");
                format!("{name};TZID={tzid}:{local}")
            }
            None => format!("{name}:{}", utc(instant)),
        });
    }
    lines.text("SUMMARY", title);
    let (status, practitioner, seeker) = match appointment.standing {
        Standing::Asked => ("TENTATIVE", ";PARTSTAT=NEEDS-ACTION", ";PARTSTAT=TENTATIVE"),
        Standing::Agreed => ("CONFIRMED", ";PARTSTAT=ACCEPTED", ";PARTSTAT=ACCEPTED"),
        Standing::Off => ("CANCELLED", "", ""),
    };
    lines.add(&format!("STATUS:{status}"));
    lines.add("TRANSP:OPAQUE");
    lines.add("CLASS:PRIVATE");
    lines.add(&format!("ORGANIZER{}", appointment.practitioner.address()));
    // A published calendar names no attendees (RFC 5546 §3.2.1).
    if to_sides {
        let sides = [
            ("CHAIR", practitioner, &appointment.practitioner),
            ("REQ-PARTICIPANT", seeker, &appointment.seeker),
        ];
        for (role, standing, person) in sides {
            let address = person.address();
            lines.add(&format!("ATTENDEE;ROLE={role}{standing};RSVP=FALSE{address}"));
        }
    }
    lines.add("END:VEVENT");
}

fn utc(instant: Timestamp) -> String {
    instant.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{minutes, parse_zone};

    fn person(n: u128, name: &str) -> Person {
        Person { user_id: Uuid::from_u128(n), name: name.to_owned() }
    }

    fn appointment(zone: &str, standing: Standing) -> Appointment {
        let start: Timestamp = "2027-03-01T09:30:00Z".parse().unwrap();
        Appointment {
            uid: uid(Uuid::from_u128(1)),
            sequence: 2,
            changed_at: "2027-02-01T00:00:00.9Z".parse().unwrap(),
            time: Interval::lasting(start, minutes(60)),
            zone: parse_zone(zone).unwrap(),
            standing,
            service: "Reiki; long".to_owned(),
            practitioner: person(2, "Meera Nair"),
            seeker: person(3, "Asha \"A\" Rao"),
        }
    }

    #[test]
    fn an_invite_says_what_is_asked_for() {
        let Invite { method, text } = invite(&appointment("Asia/Kolkata", Standing::Asked));
        assert_eq!(method, "REQUEST");
        let text = text.replace("\r\n ", "");
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        for expected in [
            "METHOD:REQUEST",
            "TZID:Asia/Kolkata",
            "UID:00000000-0000-0000-0000-000000000001@bookings.klearkarma.com",
            "SEQUENCE:2",
            "DTSTAMP:20270201T000000Z",
            "DTSTART;TZID=Asia/Kolkata:20270301T150000",
            "DTEND;TZID=Asia/Kolkata:20270301T160000",
            "SUMMARY:Reiki\\; long (Meera Nair\\, Asha \"A\" Rao)",
            "STATUS:TENTATIVE",
            "ORGANIZER;CN=\"Meera Nair\":mailto:00000000-0000-0000-0000-000000000002@no-reply.invalid",
            "ATTENDEE;ROLE=CHAIR;PARTSTAT=NEEDS-ACTION;RSVP=FALSE;CN=\"Meera Nair\":mailto:00000000-0000-0000-0000-000000000002@no-reply.invalid",
            "ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=TENTATIVE;RSVP=FALSE;CN=\"Asha 'A' Rao\":mailto:00000000-0000-0000-0000-000000000003@no-reply.invalid",
        ] {
            assert!(lines.contains(&expected), "{expected} is not in {lines:#?}");
        }
    }

    #[test]
    fn what_is_off_is_cancelled_and_utc_needs_no_zone() {
        let Invite { method, text } = invite(&appointment("UTC", Standing::Off));
        assert_eq!(method, "CANCEL");
        for expected in
            ["METHOD:CANCEL\r\n", "STATUS:CANCELLED\r\n", "DTSTART:20270301T093000Z\r\n"]
        {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("VTIMEZONE") && !text.contains("PARTSTAT"));
    }

    #[test]
    fn a_calendar_names_the_other_side_and_no_attendees() {
        let asked = [appointment("Asia/Kolkata", Standing::Asked)];
        let mine = calendar(Reader::Practitioner, &asked);
        assert!(mine.contains("SUMMARY:Reiki\\; long (Asha \"A\" Rao)\r\n"), "{mine}");
        let theirs = calendar(Reader::Seeker, &asked);
        assert!(theirs.contains("SUMMARY:Reiki\\; long (Meera Nair)\r\n"), "{theirs}");
        assert!(!mine.contains("ATTENDEE") && mine.contains("METHOD:PUBLISH\r\n"));
        assert!(calendar(Reader::Seeker, &[]).ends_with("END:VCALENDAR\r\n"));
    }

    #[test]
    fn only_our_own_uids_are_ours() {
        assert!(is_ours(&uid(Uuid::from_u128(7))));
        for other in ["", "x@bookings.klearkarma.com", "7@google.com", "bookings.klearkarma.com"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn every_state_but_a_hold_has_a_standing() {
        let off: Vec<Status> = Status::ALL
            .into_iter()
            .filter(|status| Standing::of(*status) == Some(Standing::Off))
            .collect();
        let expected = [Status::Declined, Status::Expired, Status::Cancelled, Status::Rescheduled];
        assert_eq!(off, expected);
        assert_eq!(Standing::of(Status::Held), None);
    }
}
