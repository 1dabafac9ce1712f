//! What comes back to the seeker when a booking is called off: a share of its price in percent, by
//! how long before the session that happens.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::time::{minutes, shifted};

/// The most tiers that a policy may have.
pub const MAX_TIERS: usize = 10;
/// A tier begins at most this long before a session: a year.
const MAX_MINUTES: u32 = 525_600;

/// One step of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier {
    /// The tier holds up to and including this many minutes before the session.
    pub minutes_before: u32,
    /// The share of the price that comes back, 0 to 100.
    pub refund_percent: u8,
}

/// The tiers of a service, earliest first. After the last one nothing comes back; a policy without
/// tiers never gives anything back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy(Vec<Tier>);

/// Why tiers are no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The tier that is wrong; `None` when there are too many.
    pub tier: Option<usize>,
    /// What is allowed, for people.
    pub problem: &'static str,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

impl std::error::Error for PolicyProblem {}

impl Policy {
    /// Takes tiers from the earliest to the latest. Refuses more than [`MAX_TIERS`], percents above
    /// 100, times that do not decrease and shares that grow towards the session.
    pub fn new(tiers: Vec<Tier>) -> Result<Self, PolicyProblem> {
        if tiers.len() > MAX_TIERS {
            return Err(PolicyProblem { tier: None, problem: "must have at most 10 tiers" });
        }
        for (index, tier) in tiers.iter().enumerate() {
            let refuse = |problem| Err(PolicyProblem { tier: Some(index), problem });
            if tier.refund_percent > 100 {
                return refuse("refundPercent must be 0 to 100");
            }
            if tier.minutes_before > MAX_MINUTES {
                return refuse("minutesBefore must be 0 to 525600");
            }
            let Some(earlier) = index.checked_sub(1).and_then(|i| tiers.get(i)) else { continue };
            if tier.minutes_before >= earlier.minutes_before {
                return refuse("minutesBefore must be less than that of the tier before");
            }
            if tier.refund_percent > earlier.refund_percent {
                return refuse("refundPercent must not be more than that of the tier before");
            }
        }
        Ok(Self(tiers))
    }

    /// What a service has unless its practitioner says otherwise, as the database's default is: all
    /// of it until a day before, half until four hours before.
    pub fn usual() -> Self {
        let tier = |minutes_before, refund_percent| Tier { minutes_before, refund_percent };
        Self(vec![tier(24 * 60, 100), tier(4 * 60, 50)])
    }

    /// The percent that come back when a session that begins at `starts_at` is called off at `now`.
    /// Exactly at a tier's border the tier still holds.
    pub fn percent_at(&self, starts_at: Timestamp, now: Timestamp) -> u8 {
        let holds = |tier: &&Tier| now <= shifted(starts_at, -minutes(tier.minutes_before));
        self.0.iter().find(holds).map_or(0, |tier| tier.refund_percent)
    }

    /// The same policy with no share above `percent`: who moves a session when little would have
    /// come back does not get more by moving it first.
    #[must_use]
    pub fn capped(&self, percent: u8) -> Self {
        let cap = |t: &Tier| Tier { refund_percent: t.refund_percent.min(percent), ..*t };
        Self(self.0.iter().map(cap).collect())
    }
}

/// The share of `amount` minor units at `percent`, rounded down: never more than was paid.
pub fn share(amount: i64, percent: i16) -> i64 {
    let exact = i128::from(amount) * i128::from(percent) / 100;
    i64::try_from(exact).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tier(minutes_before: u32, refund_percent: u8) -> Tier {
        Tier { minutes_before, refund_percent }
    }

    #[test]
    fn borders_are_exact_to_the_second() {
        let start = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds_before: i64| Timestamp::from_second(1_000_000 - seconds_before).unwrap();
        let percent = |seconds_before| Policy::usual().percent_at(start, at(seconds_before));
        let (day, four) = (24 * 3_600, 4 * 3_600);
        assert_eq!([percent(day + 1), percent(day), percent(day - 1)], [100, 100, 50]);
        assert_eq!([percent(four + 1), percent(four), percent(four - 1)], [50, 50, 0]);
        assert_eq!(percent(0), 0);
        assert_eq!(Policy::default().percent_at(start, at(day)), 0);
    }

    #[test]
    fn what_is_no_policy_is_refused_by_tier() {
        let tier_of = |tiers| Policy::new(tiers).unwrap_err().tier;
        assert_eq!(tier_of(vec![tier(10, 101)]), Some(0));
        assert_eq!(tier_of(vec![tier(10, 50), tier(10, 40)]), Some(1));
        assert_eq!(tier_of(vec![tier(10, 50), tier(5, 60)]), Some(1));
        assert_eq!(tier_of(vec![tier(600_000, 50)]), Some(0));
        assert_eq!(tier_of((0..11).map(|n| tier(100 - n, 1)).collect()), None);
    }

    proptest! {
        /// Waiting never brings more back, a cap holds, and a share is never more than the whole.
        #[test]
        fn later_is_never_more(
            raw in prop::collection::vec((0u32..5_000, 0u8..=100), 0..6),
            now in 0i64..400_000, later in 0i64..100_000, cap in 0u8..=100, amount in 0i64..1_000_000,
        ) {
            let mut tiers: Vec<Tier> = raw.into_iter().map(|(m, p)| tier(m, p)).collect();
            tiers.sort_by_key(|t| std::cmp::Reverse(t.minutes_before));
            tiers.dedup_by_key(|t| t.minutes_before);
            let mut least = 100;
            for t in &mut tiers {
                least = least.min(t.refund_percent);
                t.refund_percent = least;
            }
            let policy = Policy::new(tiers).unwrap();
            let start = Timestamp::from_second(400_000).unwrap();
            let percent = |p: &Policy, at| p.percent_at(start, Timestamp::from_second(at).unwrap());
            let first = percent(&policy, now);
            prop_assert!(percent(&policy, now + later) <= first);
            prop_assert_eq!(percent(&policy.capped(cap), now), first.min(cap));
            prop_assert!((0..=amount).contains(&share(amount, first.into())));
        }
    }
}
