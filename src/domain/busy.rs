//! Time that is taken: bookings, holds, blocked time, events of other calendars.
//!
//! What an item keeps from others is its *occupied* time, its own time with its own buffers, the
//! same range that `bookings.occupied` holds. A new booking conflicts when its occupied time
//! overlaps that, so buffers of neighbours add up (cal.com; LibreBooking takes the longer one).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::group::Seats;
use super::intervals;
use super::time::{Interval, minutes, shifted};

/// Minutes kept free before and after an appointment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buffers {
    pub before_min: u16,
    pub after_min: u16,
}

impl Buffers {
    /// The time that an appointment occupies with its buffers.
    pub fn around(self, time: Interval) -> Interval {
        time.padded(minutes(self.before_min), minutes(self.after_min))
    }

    fn before(self) -> SignedDuration {
        minutes(self.before_min)
    }

    fn after(self) -> SignedDuration {
        minutes(self.after_min)
    }
}

/// Why time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyKind {
    /// A booking in a status that blocks.
    Booking,
    /// Blocks everyone but `owner`, and only while `expires_at` is after now.
    Hold { owner: u128, expires_at: Timestamp },
    /// Time that the practitioner blocked.
    Blocked,
    /// An event of a calendar elsewhere; it has no buffers of its own.
    External,
    /// Blocks nobody and still counts towards limits: a session that took place.
    Counted,
}

impl BusyKind {
    /// What it is, in words that give nothing away about whose it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Booking => "a booking",
            Self::Hold { .. } => "a hold",
            Self::Blocked => "blocked time",
            Self::External => "an event of another calendar",
            Self::Counted => "a session that took place",
        }
    }
}

/// One item of taken time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    key: u128,
    time: Interval,
    occupied: Interval,
    kind: BusyKind,
    seats: Option<Seats>,
    service: Option<u128>,
}

impl Busy {
    /// `key` is the caller's own name for the item, such as the booking's UUID, and must be unique
    /// in a [`BusySet`]. The buffers are the item's own; those of an external event, and of a
    /// session that took place, are ignored.
    pub fn new(key: u128, time: Interval, buffers: Buffers, kind: BusyKind) -> Self {
        let occupied = match kind {
            BusyKind::External | BusyKind::Counted => time,
            BusyKind::Booking | BusyKind::Hold { .. } | BusyKind::Blocked => buffers.around(time),
        };
        Self { key, time, occupied, kind, seats: None, service: None }
    }

    /// The same item as seats of a session that others may join.
    #[must_use]
    pub fn with_seats(self, seats: Seats) -> Self {
        Self { seats: Some(seats), ..self }
    }

    /// The same item as a session of `service`, which is what limits count.
    #[must_use]
    pub fn of_service(self, service: u128) -> Self {
        Self { service: Some(service), ..self }
    }

    pub fn key(&self) -> u128 {
        self.key
    }

    /// The item's own time, without buffers.
    pub fn time(&self) -> Interval {
        self.time
    }

    /// The item's time with its own buffers.
    pub fn occupied(&self) -> Interval {
        self.occupied
    }

    pub fn kind(&self) -> BusyKind {
        self.kind
    }

    /// The seats that it takes, if it is part of a session that others may join.
    pub fn seats(&self) -> Option<Seats> {
        self.seats
    }

    /// The service that it is a session of; `None` when it is no session.
    pub fn service(&self) -> Option<u128> {
        self.service
    }
}

/// Through whose eyes taken time is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewpoint {
    /// Holds that expired by now do not block, swept or not.
    pub now: Timestamp,
    /// Whose own holds do not block.
    pub asker: Option<u128>,
    /// The booking that is being moved; it does not block its own new time.
    pub moving: Option<u128>,
    /// How many want to come, where several may.
    pub seats: u32,
}

impl Viewpoint {
    /// Nobody in particular, at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { now, asker: None, moving: None, seats: 1 }
    }

    pub(super) fn is_blocked_by(&self, item: &Busy) -> bool {
        if item.occupied.is_empty() || self.moving == Some(item.key) {
            return false;
        }
        match item.kind {
            BusyKind::Booking | BusyKind::Blocked | BusyKind::External => true,
            BusyKind::Hold { owner, expires_at } => {
                expires_at > self.now && self.asker != Some(owner)
            }
            BusyKind::Counted => false,
        }
    }

    /// Whether limits count the item: every session that stands or took place, but not the asker's
    /// own holds, which give way to what they want instead.
    pub(super) fn counts(&self, item: &Busy) -> bool {
        let took_place = item.kind == BusyKind::Counted && self.moving != Some(item.key);
        item.service.is_some() && (took_place || self.is_blocked_by(item))
    }
}

/// Taken time, sorted so that what concerns a range is found without reading the rest.
#[derive(Debug, Clone, Default)]
pub struct BusySet {
    /// Sorted by the start of the occupied time.
    items: Vec<Busy>,
    /// For each item the latest end of occupied time up to and including it. Ends are not sorted
    /// (a holiday of weeks spans many bookings), their running maximum is.
    reach: Vec<Timestamp>,
    /// Where to look for an item: the start of its occupied time, by its key.
    starts: HashMap<u128, Timestamp>,
}

impl FromIterator<Busy> for BusySet {
    /// Takes items in any order; they may overlap.
    fn from_iter<I: IntoIterator<Item = Busy>>(items: I) -> Self {
        let mut items: Vec<Busy> = items.into_iter().collect();
        items.sort_by_key(|item| item.occupied.start());
        let starts = items.iter().map(|item| (item.key, item.occupied.start())).collect();
        let mut latest = Timestamp::MIN;
        let reach = items.iter().map(|item| {
            latest = latest.max(item.occupied.end());
            latest
        });
        Self { reach: reach.collect(), items, starts }
    }
}

impl BusySet {
    /// Adds an item, instead of the one with its key if there is one. Moves what comes after it, so it
    /// costs the least at the end.
    pub fn insert(&mut self, item: Busy) {
        self.remove(item.key);
        let start = item.occupied.start();
        self.starts.insert(item.key, start);
        let at = self.items.partition_point(|other| other.occupied.start() <= start);
        self.items.insert(at, item);
        let before = self.reach_before(at);
        self.reach.insert(at, before);
        self.renew_reach(at);
    }

    /// Takes out the item with this key and returns it, or `None` if there is none.
    pub fn remove(&mut self, key: u128) -> Option<Busy> {
        let start = self.starts.remove(&key)?;
        let from = self.items.partition_point(|item| item.occupied.start() < start);
        let at = from + self.items.get(from..)?.iter().position(|item| item.key == key)?;
        let item = self.items.remove(at);
        self.reach.remove(at);
        self.renew_reach(at);
        Some(item)
    }

    /// All items, in the order of the start of their occupied time.
    pub fn items(&self) -> &[Busy] {
        &self.items
    }

    /// The items whose occupied time overlaps `range`, whether or not they block anyone.
    pub fn overlapping(&self, range: Interval) -> impl Iterator<Item = &Busy> {
        let from = self.reach.partition_point(|end| *end <= range.start());
        let until = self.items.partition_point(|item| item.occupied.start() < range.end());
        let near = self.items.get(from..until).unwrap_or_default();
        near.iter().filter(move |item| item.occupied.overlaps(&range))
    }

    /// The first item that an appointment at `time` with these buffers would conflict with.
    pub fn conflict(&self, time: Interval, buffers: Buffers, view: Viewpoint) -> Option<&Busy> {
        self.overlapping(buffers.around(time)).find(|item| view.is_blocked_by(item))
    }

    /// The time that no appointment with these buffers may touch with its own time, where it meets
    /// `range`: each item's occupied time, longer by the new one's after-buffer in front and its
    /// before-buffer behind. Sorted and merged.
    pub fn blocked(&self, range: Interval, new: Buffers, view: Viewpoint) -> Vec<Interval> {
        let near = self.overlapping(new.around(range)).filter(|item| view.is_blocked_by(item));
        intervals::union(near.map(|i| i.occupied.padded(new.after(), new.before())).collect())
    }

    /// From when on nothing keeps an appointment with these buffers out at `start`, which is free
    /// itself: the end of what is [`blocked`](Self::blocked) before it, or `earliest`.
    pub fn free_since(
        &self,
        start: Timestamp,
        earliest: Timestamp,
        new: Buffers,
        view: Viewpoint,
    ) -> Timestamp {
        let until = shifted(start, new.after());
        let behind = self.items.partition_point(|item| item.occupied.start() < until);
        let before = self.items.iter().zip(&self.reach).take(behind).rev();
        let mut since = earliest;
        for (item, reach) in before {
            if shifted(*reach, new.before()) <= since {
                // Neither this one nor any before it ends later.
                break;
            }
            if view.is_blocked_by(item) {
                since = since.max(shifted(item.occupied.end(), new.before()));
            }
        }
        since
    }

    /// The latest end of occupied time before the item at `at`.
    fn reach_before(&self, at: usize) -> Timestamp {
        let before = at.checked_sub(1).and_then(|at| self.reach.get(at));
        before.copied().unwrap_or(Timestamp::MIN)
    }

    /// Sets right what follows from a change of the item at `from`, as far as it goes.
    fn renew_reach(&mut self, from: usize) {
        let mut latest = self.reach_before(from);
        for (item, reach) in self.items.iter().zip(&mut self.reach).skip(from) {
            latest = latest.max(item.occupied.end());
            if *reach == latest {
                break;
            }
            *reach = latest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(start_min: i64, length: i64) -> Interval {
        Interval::lasting(Timestamp::from_second(start_min * 60).unwrap(), minutes(length))
    }

    fn buffers(before_min: u16, after_min: u16) -> Buffers {
        Buffers { before_min, after_min }
    }

    fn now() -> Viewpoint {
        Viewpoint::at(Timestamp::UNIX_EPOCH)
    }

    fn keys<'a>(items: impl Iterator<Item = &'a Busy>) -> Vec<u128> {
        let mut keys: Vec<_> = items.map(Busy::key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn touching_is_not_a_conflict_and_buffers_add_up() {
        let own = buffers(10, 20);
        let set: BusySet =
            [Busy::new(1, time(100, 60), own, BusyKind::Booking)].into_iter().collect();
        let none = Buffers::default();
        assert!(set.conflict(time(60, 30), none, now()).is_none()); // ends as the buffer begins
        assert!(set.conflict(time(60, 31), none, now()).is_some());
        assert!(set.conflict(time(180, 30), none, now()).is_none());
        assert!(set.conflict(time(194, 30), buffers(15, 0), now()).is_some()); // 160 + 20 + 15
        assert!(set.conflict(time(195, 30), buffers(15, 0), now()).is_none());
    }

    #[test]
    fn an_external_event_has_no_buffers_of_its_own() {
        let event = Busy::new(1, time(100, 60), buffers(30, 30), BusyKind::External);
        assert_eq!(event.occupied(), time(100, 60));
    }

    #[test]
    fn a_hold_blocks_others_until_it_expires() {
        let expires_at = Timestamp::from_second(600).unwrap();
        let hold = BusyKind::Hold { owner: 7, expires_at };
        let set: BusySet = [Busy::new(1, time(100, 60), buffers(0, 0), hold)].into_iter().collect();
        let taken = |view| set.conflict(time(100, 60), Buffers::default(), view).is_some();
        assert!(taken(now()));
        assert!(taken(Viewpoint { asker: Some(8), ..now() }));
        assert!(!taken(Viewpoint { asker: Some(7), ..now() }));
        assert!(!taken(Viewpoint { moving: Some(1), ..now() }));
        assert!(taken(Viewpoint::at(Timestamp::from_second(599).unwrap())));
        assert!(!taken(Viewpoint::at(expires_at)));
    }

    #[test]
    fn an_item_without_length_blocks_nothing() {
        let set: BusySet =
            [Busy::new(1, time(100, 0), buffers(0, 0), BusyKind::Blocked)].into_iter().collect();
        assert_eq!(set.blocked(time(0, 500), buffers(30, 30), now()), []);
        assert!(set.conflict(time(90, 30), buffers(30, 30), now()).is_none());
    }

    prop_compose! {
        fn items()(raw in prop::collection::vec((0i64..3000, 1i64..400, 0u16..60, 0u16..60), 0..40)) -> Vec<Busy> {
            raw.into_iter().zip(1u128..).map(|((start, length, before, after), key)| {
                Busy::new(key, time(start, length), buffers(before, after), BusyKind::Booking)
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn overlapping_finds_what_a_full_scan_finds(
            items in items(), removed in 0usize..40, start in 0i64..3500, length in 0i64..300,
        ) {
            let range = time(start, length);
            // Built at once, and built one by one with a removal, are the same.
            let mut grown = BusySet::default();
            for item in &items {
                grown.insert(*item);
            }
            let removed = items.get(removed).map(Busy::key);
            prop_assert_eq!(removed.and_then(|key| grown.remove(key)).map(|i| i.key()), removed);
            let left: Vec<Busy> = items.into_iter().filter(|i| Some(i.key()) != removed).collect();
            let built: BusySet = left.iter().copied().collect();
            let naive = keys(left.iter().filter(|i| i.occupied().overlaps(&range)));
            prop_assert_eq!(keys(built.overlapping(range)), naive.clone());
            prop_assert_eq!(keys(grown.overlapping(range)), naive);
        }

        #[test]
        fn blocked_and_conflict_agree(
            items in items(), before in 0u16..60, after in 0u16..60, start in 0i64..3500, length in 1i64..200,
        ) {
            let set: BusySet = items.into_iter().collect();
            let (wanted, new) = (time(start, length), buffers(before, after));
            let blocked = set.blocked(wanted, new, now());
            prop_assert_eq!(
                blocked.iter().any(|b| b.overlaps(&wanted)),
                set.conflict(wanted, new, now()).is_some()
            );
            if !blocked.iter().any(|b| b.overlaps(&wanted)) {
                let earliest = time(start.min(500), 0).start();
                let all = set.blocked(time(-500, 4_000 + start), new, now());
                let since = all.iter().map(Interval::end).filter(|end| *end <= wanted.start()).max();
                prop_assert_eq!(
                    set.free_since(wanted.start(), earliest, new, now()),
                    since.unwrap_or(earliest).max(earliest)
                );
            }
        }
    }
}
