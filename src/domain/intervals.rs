//! Sets of instants as sorted, disjoint intervals that do not touch. Every operation is linear
//! in the lengths of its inputs, once those are sorted.

use super::time::Interval;

/// The set of instants in any of the given intervals, which may come in any order and overlap.
///
/// Returns them sorted, disjoint, merged where they overlap or touch, without empty ones.
pub fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    // A stable sort is linear on input that is already in order, the usual case.
    intervals.sort_by_key(Interval::start);
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for next in intervals.into_iter().filter(|i| !i.is_empty()) {
        match merged.last_mut() {
            Some(last) if next.start() <= last.end() => *last = last.hull(&next),
            _ => merged.push(next),
        }
    }
    merged
}

/// The instants in both sets. Takes and returns what [`union`] returns.
pub fn intersect(left: &[Interval], right: &[Interval]) -> Vec<Interval> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut common = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        common.extend(a.intersection(b));
        if a.end() <= b.end() {
            left.next();
        } else {
            right.next();
        }
    }
    common
}

/// The instants of `from` that are not in `taken`. Takes and returns what [`union`] returns.
pub fn subtract(from: &[Interval], taken: &[Interval]) -> Vec<Interval> {
    let mut rest = Vec::with_capacity(from.len());
    let mut taken = taken.iter().peekable();
    for interval in from {
        let mut start = interval.start();
        while let Some(hole) = taken.peek() {
            if hole.start() >= interval.end() {
                break;
            }
            if start < hole.start() {
                rest.extend(Interval::new(start, hole.start()));
            }
            start = start.max(hole.end());
            if hole.end() > interval.end() {
                break; // The same hole may reach into the next interval.
            }
            taken.next();
        }
        if start < interval.end() {
            rest.extend(Interval::new(start, interval.end()));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::minutes;
    use jiff::Timestamp;
    use proptest::prelude::*;

    const MINUTES: u8 = 120;

    fn interval(start: u8, length: u8) -> Interval {
        let start = Timestamp::from_second(i64::from(start) * 60).unwrap();
        Interval::lasting(start, minutes(length))
    }

    /// The oracle: every minute by itself.
    fn holds(set: &[Interval], minute: u8) -> bool {
        set.iter().any(|i| i.contains(interval(minute, 1).start()))
    }

    fn is_normal(set: &[Interval]) -> bool {
        set.iter().all(|i| !i.is_empty()) && set.windows(2).all(|w| w[0].end() < w[1].start())
    }

    prop_compose! {
        fn intervals()(raw in prop::collection::vec((0..MINUTES, 0u8..30), 0..12)) -> Vec<Interval> {
            raw.into_iter().map(|(start, length)| interval(start, length)).collect()
        }
    }

    proptest! {
        #[test]
        fn union_holds_what_any_holds(raw in intervals()) {
            let set = union(raw.clone());
            prop_assert!(is_normal(&set));
            for minute in 0..=MINUTES + 30 {
                prop_assert_eq!(holds(&set, minute), holds(&raw, minute));
            }
        }

        #[test]
        fn intersect_holds_what_both_hold(a in intervals(), b in intervals()) {
            let (a, b) = (union(a), union(b));
            let both = intersect(&a, &b);
            prop_assert!(is_normal(&both));
            for minute in 0..=MINUTES + 30 {
                prop_assert_eq!(holds(&both, minute), holds(&a, minute) && holds(&b, minute));
            }
        }

        #[test]
        fn subtract_holds_what_only_the_first_holds(a in intervals(), b in intervals()) {
            let (a, b) = (union(a), union(b));
            let rest = subtract(&a, &b);
            prop_assert!(is_normal(&rest));
            for minute in 0..=MINUTES + 30 {
                prop_assert_eq!(holds(&rest, minute), holds(&a, minute) && !holds(&b, minute));
            }
        }
    }

    #[test]
    fn one_hole_can_bite_several_intervals() {
        let open = [interval(0, 10), interval(20, 10), interval(40, 10)];
        let rest = subtract(&open, &[interval(5, 40)]);
        assert_eq!(rest, [interval(0, 5), interval(45, 5)]);
    }

    #[test]
    fn touching_intervals_become_one() {
        assert_eq!(union(vec![interval(10, 5), interval(0, 10)]), [interval(0, 15)]);
    }
}
