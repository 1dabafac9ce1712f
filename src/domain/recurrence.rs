//! Times that repeat by the wall clock: every n days, on weekdays every n weeks, on the nth
//! weekday of every n months. For blocked time and packages of appointments that recur.

use std::num::NonZeroU16;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

use super::time::{date_after, local_to_instant};

/// The most occurrences that one rule gives, whatever its end.
pub const MAX_OCCURRENCES: usize = 1000;

/// A repeating wall clock time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// The date on which counting begins, and the clock time of every occurrence.
    pub first: DateTime,
    pub every: Every,
    /// The last date that an occurrence may have.
    pub until: Date,
}

/// The step from one occurrence to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Every {
    Days(NonZeroU16),
    /// On these weekdays of every nth week, counted from the week (Monday first) of the first date.
    Weeks {
        step: NonZeroU16,
        on: Vec<Weekday>,
    },
    /// On the nth (1 to 4, or -1 for the last) such weekday of every so many months. Refused values
    /// of `nth` give no occurrence.
    Months {
        step: NonZeroU16,
        nth: i8,
        weekday: Weekday,
    },
}

impl Recurrence {
    /// The instants of all occurrences in a zone, in order. The first date is one only if it fits
    /// the rule. Clock times in a gap or a fold follow [`local_to_instant`], so the clock time stays
    /// and the UTC time moves. At most [`MAX_OCCURRENCES`].
    pub fn occurrences(&self, zone: &TimeZone) -> Vec<Timestamp> {
        let clock = self.first.time();
        let instant = |date: Date| local_to_instant(date.to_datetime(clock), zone);
        self.dates().into_iter().map(instant).collect()
    }

    /// The dates of all occurrences, in order; the same bound.
    pub fn dates(&self) -> Vec<Date> {
        match &self.every {
            Every::Days(step) => self.stepped(i32::from(step.get()), |_| true),
            Every::Weeks { step, on } => {
                let first_week = self.first.date().weekday().to_monday_zero_offset();
                let monday = date_after(self.first.date(), -i32::from(first_week));
                let is_due = |date: Date| {
                    let days = (date - monday).get_days();
                    on.contains(&date.weekday()) && (days / 7) % i32::from(step.get()) == 0
                };
                self.stepped(1, is_due)
            }
            Every::Months { step, nth, weekday } => {
                let first = months(self.first.date());
                let is_due = |date: Date| {
                    (months(date) - first) % i32::from(step.get()) == 0
                        && date.nth_weekday_of_month(*nth, *weekday).is_ok_and(|due| due == date)
                };
                self.stepped(1, is_due)
            }
        }
    }

    fn stepped(&self, step: i32, is_due: impl Fn(Date) -> bool) -> Vec<Date> {
        const DAYS_LOOKED_AT: usize = 100 * 366;
        let next = |date: &Date| Some(date_after(*date, step)).filter(|next| next > date);
        std::iter::successors(Some(self.first.date()), next)
            .take(DAYS_LOOKED_AT)
            .take_while(|date| *date <= self.until)
            .filter(|date| is_due(*date))
            .take(MAX_OCCURRENCES)
            .collect()
    }
}

/// Months since year 0, so that differences are whole months.
fn months(date: Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{local_date, parse_zone};
    use jiff::civil;

    fn step(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).unwrap()
    }

    #[test]
    fn the_clock_time_stays_when_clocks_move() {
        let zone = parse_zone("Europe/London").unwrap();
        let every = Every::Weeks { step: step(1), on: vec![Weekday::Sunday] };
        let first = civil::datetime(2026, 3, 22, 9, 0, 0, 0);
        let weekly = Recurrence { first, every, until: civil::date(2026, 3, 29) };
        let found: Vec<String> =
            weekly.occurrences(&zone).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["2026-03-22T09:00:00Z", "2026-03-29T08:00:00Z"]);
    }

    #[test]
    fn the_last_friday_of_every_other_month() {
        let zone = parse_zone("Asia/Kolkata").unwrap();
        let every = Every::Months { step: step(2), nth: -1, weekday: Weekday::Friday };
        let first = civil::datetime(2026, 1, 1, 18, 0, 0, 0);
        let rule = Recurrence { first, every, until: civil::date(2026, 6, 30) };
        let dates: Vec<String> =
            rule.occurrences(&zone).iter().map(|o| local_date(*o, &zone).to_string()).collect();
        assert_eq!(dates, ["2026-01-30", "2026-03-27", "2026-05-29"]);
    }

    #[test]
    fn a_rule_without_end_or_sense_ends_anyway() {
        let zone = parse_zone("UTC").unwrap();
        let first = civil::datetime(2026, 1, 1, 0, 0, 0, 0);
        let daily = Recurrence { first, every: Every::Days(step(1)), until: Date::MAX };
        assert_eq!(daily.occurrences(&zone).len(), MAX_OCCURRENCES);
        let every = Every::Months { step: step(1), nth: 0, weekday: Weekday::Friday };
        assert_eq!(Recurrence { first, every, until: Date::MAX }.occurrences(&zone), []);
    }
}
