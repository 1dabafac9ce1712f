//! The booking rules of one service of one practitioner: how long, how far apart, how soon, how
//! far ahead. Numbers are whole minutes, within the bounds that the database also checks.

use std::fmt;
use std::num::NonZeroU16;

use jiff::civil::{Date, Weekday};
use jiff::{SignedDuration, Timestamp};

use super::busy::Buffers;
use super::group::Group;
use super::time::{date_after, minutes};

const MINUTES_OF_DAY: i64 = 24 * 60;
const MINUTES_OF_YEAR: i64 = 365 * MINUTES_OF_DAY;

/// The rules by which starts are offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRules {
    duration_min: NonZeroU16,
    increment_min: NonZeroU16,
    min_notice_min: u32,
    pub buffers: Buffers,
    pub horizon: Horizon,
    pub grid: Grid,
    /// For a service whose sessions several may join.
    pub group: Option<Group>,
}

impl SlotRules {
    /// Appointments of `duration` minutes whose starts are `increment` minutes apart, without
    /// buffers, notice or horizon, on the restarting grid. Refuses anything but 1 to 1440 minutes.
    pub fn new(duration_min: i64, increment_min: i64) -> Result<Self, RuleProblem> {
        let length = |field, value| {
            let kept = u16::try_from(in_bounds(field, value, 1, MINUTES_OF_DAY)?).ok();
            kept.and_then(NonZeroU16::new).ok_or(RuleProblem { field, min: 1, max: MINUTES_OF_DAY })
        };
        let increment_min = length("increment_min", increment_min)?;
        Ok(Self {
            duration_min: length("duration_min", duration_min)?,
            increment_min,
            min_notice_min: 0,
            buffers: Buffers::default(),
            horizon: Horizon::Unlimited,
            grid: Grid::restart(increment_min),
            group: None,
        })
    }

    /// The same rules for appointments of `duration` minutes. Refuses anything but 1 to 1440.
    pub fn lasting(mut self, duration: i64) -> Result<Self, RuleProblem> {
        let (field, max) = ("duration_min", MINUTES_OF_DAY);
        let kept = u16::try_from(in_bounds(field, duration, 1, max)?).ok();
        self.duration_min =
            kept.and_then(NonZeroU16::new).ok_or(RuleProblem { field, min: 1, max })?;
        Ok(self)
    }

    /// With this many minutes kept free around each appointment. Refuses anything but 0 to 1440.
    pub fn with_buffers(mut self, before_min: i64, after_min: i64) -> Result<Self, RuleProblem> {
        let length = |field, value| {
            let kept = in_bounds(field, value, 0, MINUTES_OF_DAY)?;
            u16::try_from(kept).map_err(|_| RuleProblem { field, min: 0, max: MINUTES_OF_DAY })
        };
        self.buffers.before_min = length("buffer_before_min", before_min)?;
        self.buffers.after_min = length("buffer_after_min", after_min)?;
        Ok(self)
    }

    /// With at least this many minutes between now and a start; with 0 a start must only be
    /// after now. Refuses anything but 0 to a year.
    pub fn with_notice(mut self, min_notice_min: i64) -> Result<Self, RuleProblem> {
        let field = "min_notice_min";
        let kept = in_bounds(field, min_notice_min, 0, MINUTES_OF_YEAR)?;
        self.min_notice_min =
            u32::try_from(kept).map_err(|_| RuleProblem { field, min: 0, max: MINUTES_OF_YEAR })?;
        Ok(self)
    }

    /// The length of the appointment.
    pub fn duration(&self) -> SignedDuration {
        minutes(self.duration_min.get())
    }

    /// The real time between two starts on the grid.
    pub fn increment(&self) -> SignedDuration {
        minutes(self.increment_min.get())
    }

    /// The increment in minutes.
    pub fn increment_min(&self) -> NonZeroU16 {
        self.increment_min
    }

    /// The first instant that is not too soon at `now`. With no notice that is the first
    /// representable instant after `now`: a start at `now` has begun.
    pub fn earliest(&self, now: Timestamp) -> Timestamp {
        let notice = match self.min_notice_min {
            0 => SignedDuration::from_nanos(1),
            notice => minutes(notice),
        };
        super::time::shifted(now, notice)
    }
}

fn in_bounds(field: &'static str, value: i64, min: i64, max: i64) -> Result<i64, RuleProblem> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(RuleProblem { field, min, max }) }
}

/// A number of minutes outside its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleProblem {
    pub field: &'static str,
    pub min: i64,
    pub max: i64,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: must be {} to {} minutes", self.field, self.min, self.max)
    }
}

impl std::error::Error for RuleProblem {}

/// Where the starts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Each free interval begins its grid anew, at its start rounded up to a multiple of
    /// `align_min` minutes of the local clock hour, plus `offset_min` (cal.com's grid).
    Restart { align_min: NonZeroU16, offset_min: u16 },
    /// One grid from the start of each merged working window; starts that conflict are left out
    /// and the others stay where they are.
    Window,
}

impl Grid {
    /// The restarting grid with the alignment that follows from the increment: the largest of 60,
    /// 30, 20, 15, 10 and 5 minutes that divides it, else 1.
    pub fn restart(increment_min: NonZeroU16) -> Self {
        let divides = |align: &u16| increment_min.get().is_multiple_of(*align);
        let align = [60, 30, 20, 15, 10, 5].into_iter().find(divides).unwrap_or(1);
        let align_min = NonZeroU16::new(align).unwrap_or(NonZeroU16::MIN);
        Self::Restart { align_min, offset_min: 0 }
    }
}

/// How far ahead a start may lie. Days are dates of the practitioner, as `travel` defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    Unlimited,
    /// Today and the next `days` counted days, with whatever lies between them.
    Rolling {
        days: u16,
        count: CountedDays,
    },
    /// The first `days` counted days from today on which at least one start is free, with whatever
    /// lies between them. At most [`MAX_DAYS_SEARCHED`] days are looked at.
    RollingWindow {
        days: u16,
        count: CountedDays,
    },
    /// From one date to another, both included.
    Range {
        from: Date,
        to: Date,
    },
}

/// The days ahead that a [`Horizon::RollingWindow`] is searched in.
pub const MAX_DAYS_SEARCHED: u16 = 366;

/// Which days a rolling horizon counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedDays {
    Calendar,
    /// Monday to Friday.
    Business,
}

impl CountedDays {
    /// Whether this date is one of the days that count.
    pub fn counts(self, date: Date) -> bool {
        match self {
            Self::Calendar => true,
            Self::Business => !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday),
        }
    }

    /// The `days`th counted date after `today`, or `today` itself for 0.
    pub fn after(self, today: Date, days: u16) -> Date {
        let (mut date, mut found) = (today, 0);
        while found < days {
            let next = date_after(date, 1);
            if next == date {
                break; // The last date that the calendar has.
            }
            date = next;
            found += u16::from(self.counts(date));
        }
        date
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_outside_their_bounds_are_refused_by_name() {
        let field = |result: Result<SlotRules, RuleProblem>| result.unwrap_err().field;
        assert_eq!(field(SlotRules::new(0, 15)), "duration_min");
        assert_eq!(field(SlotRules::new(15, 1441)), "increment_min");
        let rules = SlotRules::new(1440, 1).unwrap();
        assert_eq!(field(rules.clone().with_buffers(-1, 0)), "buffer_before_min");
        assert_eq!(field(rules.clone().with_buffers(0, 9999)), "buffer_after_min");
        assert_eq!(field(rules.clone().with_notice(-1)), "min_notice_min");
        assert!(rules.with_buffers(1440, 0).unwrap().with_notice(525_600).is_ok());
    }

    #[test]
    fn the_alignment_follows_from_the_increment() {
        let cases =
            [(60, 60), (120, 60), (90, 30), (45, 15), (40, 20), (50, 10), (25, 5), (7, 1), (1, 1)];
        for (increment, align) in cases {
            let Grid::Restart { align_min, offset_min: 0 } =
                Grid::restart(NonZeroU16::new(increment).unwrap())
            else {
                panic!("not a restarting grid");
            };
            assert_eq!(align_min.get(), align, "increment {increment}");
        }
    }

    #[test]
    fn without_notice_a_start_must_be_after_now() {
        let now: Timestamp = "2026-06-15T09:00:00Z".parse().unwrap();
        let rules = SlotRules::new(60, 60).unwrap();
        assert!(rules.earliest(now) > now);
        assert_eq!(
            rules.with_notice(30).unwrap().earliest(now).to_string(),
            "2026-06-15T09:30:00Z"
        );
    }
}
