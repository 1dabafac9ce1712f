//! Sessions that several seekers share: who joins one takes seats of it, not its time.
//!
//! The bookings of one session have the same service and the same time. To everybody else, other
//! services of the practitioner included, they are taken time like any other.

use jiff::{SignedDuration, Timestamp};

use super::busy::{Buffers, BusySet, Viewpoint};
use super::time::Interval;

/// Seats that a booking takes in the session of its service and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    pub service: u128,
    pub count: u32,
}

/// A service whose sessions have seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub service: u128,
    /// Seats of one session.
    pub capacity: u32,
}

impl Group {
    /// The seats that are left in the session at `time`: all of them when there is none yet.
    /// `None` when something else is in its way.
    pub fn seats_left(
        &self,
        busy: &BusySet,
        time: Interval,
        buffers: Buffers,
        view: Viewpoint,
    ) -> Option<u32> {
        let mut left = self.capacity;
        for item in busy.overlapping(buffers.around(time)).filter(|i| view.is_blocked_by(i)) {
            match item.seats().filter(|s| s.service == self.service && item.time() == time) {
                Some(seats) => left = left.saturating_sub(seats.count),
                None => return None,
            }
        }
        Some(left)
    }

    /// Whether `view.seats` more can join a session that there is at `time`.
    pub fn can_join(
        &self,
        busy: &BusySet,
        time: Interval,
        buffers: Buffers,
        view: Viewpoint,
    ) -> bool {
        let left = self.seats_left(busy, time, buffers, view);
        left.is_some_and(|left| left < self.capacity && view.seats <= left)
    }

    /// The starts, in order, of the sessions of `length` that begin in `range` and can be joined.
    pub fn joinable(
        &self,
        busy: &BusySet,
        range: Interval,
        length: SignedDuration,
        buffers: Buffers,
        view: Viewpoint,
    ) -> Vec<Timestamp> {
        let sessions = busy.overlapping(range).filter(|item| {
            item.seats().is_some_and(|s| s.service == self.service)
                && range.contains(item.time().start())
                && item.time() == Interval::lasting(item.time().start(), length)
        });
        let mut starts: Vec<Timestamp> = sessions.map(|item| item.time().start()).collect();
        starts.sort_unstable();
        starts.dedup();
        starts
            .retain(|start| self.can_join(busy, Interval::lasting(*start, length), buffers, view));
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::availability::Hours;
    use crate::domain::busy::{Busy, BusyKind};
    use crate::domain::rules::SlotRules;
    use crate::domain::slots::SlotQuery;
    use crate::domain::time::minutes;

    const YOGA: Group = Group { service: 7, capacity: 3 };

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap()
    }

    fn seat(key: u128, hour: i64, service: u128, count: u32, kind: BusyKind) -> Busy {
        let time = Interval::lasting(at(hour), minutes(60));
        Busy::new(key, time, Buffers::default(), kind).with_seats(Seats { service, count })
    }

    fn booked(key: u128, hour: i64, service: u128, count: u32) -> Busy {
        seat(key, hour, service, count, BusyKind::Booking)
    }

    fn slots(busy: &BusySet, group: Option<Group>, view: Viewpoint) -> Vec<i64> {
        let day = serde_json::json!({"timeZone": "UTC", "weekly": [{"weekday": 4, "start": "08:00", "end": "12:00"}]});
        let hours = Hours::new(&serde_json::from_value(day).unwrap()).unwrap();
        let mut rules = SlotRules::new(60, 60).unwrap();
        rules.group = group;
        let query = SlotQuery { hours: &hours, rules: &rules, busy, view };
        let day = Interval::new(at(0), at(24)).unwrap();
        let listed = query.slots(day);
        // One rule for both questions.
        for hour in 0..24 {
            let bookable = query.check_start(at(hour)).is_ok();
            assert_eq!(bookable, listed.contains(&at(hour)), "{hour}");
        }
        listed.iter().map(|start| start.as_second() / 3_600).collect()
    }

    #[test]
    fn a_session_is_offered_while_seats_are_left() {
        let view = Viewpoint::at(Timestamp::UNIX_EPOCH);
        let two: BusySet = [booked(1, 9, 7, 1), booked(2, 9, 7, 1)].into_iter().collect();
        assert_eq!(slots(&two, Some(YOGA), view), [8, 9, 10, 11]);
        // Two more do not fit, nor does anybody who wants another service at that time.
        assert_eq!(slots(&two, Some(YOGA), Viewpoint { seats: 2, ..view }), [8, 10, 11]);
        assert_eq!(slots(&two, Some(Group { service: 8, ..YOGA }), view), [8, 10, 11]);
        assert_eq!(slots(&two, None, view), [8, 10, 11]);
        let full: BusySet = [booked(1, 9, 7, 2), booked(2, 9, 7, 1)].into_iter().collect();
        assert_eq!(slots(&full, Some(YOGA), view), [8, 10, 11]);
    }

    #[test]
    fn holds_take_seats_until_they_expire_but_not_from_their_owner() {
        let hold = BusyKind::Hold { owner: 5, expires_at: at(1) };
        let set: BusySet = [booked(1, 9, 7, 2), seat(2, 9, 7, 1, hold)].into_iter().collect();
        let view = Viewpoint::at(Timestamp::UNIX_EPOCH);
        assert_eq!(slots(&set, Some(YOGA), view), [8, 10, 11]);
        assert_eq!(slots(&set, Some(YOGA), Viewpoint { asker: Some(5), ..view }), [8, 9, 10, 11]);
        assert_eq!(slots(&set, Some(YOGA), Viewpoint { now: at(1), ..view }), [8, 9, 10, 11]);
    }

    #[test]
    fn what_overlaps_a_session_keeps_it_from_being_joined() {
        let block = Busy::new(
            3,
            Interval::lasting(at(9), minutes(30)),
            Buffers::default(),
            BusyKind::Blocked,
        );
        let set: BusySet = [booked(1, 9, 7, 1), block].into_iter().collect();
        assert_eq!(slots(&set, Some(YOGA), Viewpoint::at(Timestamp::UNIX_EPOCH)), [8, 10, 11]);
    }
}
