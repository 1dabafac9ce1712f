//! A token bucket: so many per second on average, so many at once after a pause.

use std::time::Duration;

/// A bucket. Time is a duration since any fixed moment that the caller chose.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket that gains `per_second` tokens and holds at most `burst`; both at least 1.
    pub fn full(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, tokens: burst, at: Duration::ZERO }
    }

    /// Takes a token at the moment `at`; refuses with how long to wait for the next one.
    pub fn take(&mut self, at: Duration) -> Result<(), Duration> {
        let gained = at.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = self.at.max(at);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_earns_a_burst() {
        let mut bucket = TokenBucket::full(2, 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(Duration::ZERO), Ok(()));
        }
        assert_eq!(bucket.take(Duration::ZERO), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(Duration::from_millis(500)).is_err());
    }

    proptest! {
        /// Never more than the burst plus what the time earned, however the calls are spread.
        #[test]
        fn the_rate_holds(gaps in proptest::collection::vec(0u64..2_000, 1..200)) {
            let mut bucket = TokenBucket::full(5, 10);
            let (mut now, mut taken) = (Duration::ZERO, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u32::from(bucket.take(now).is_ok());
            }
            prop_assert!(f64::from(taken) <= 10.0 + now.as_secs_f64() * 5.0 + 1e-6);
        }
    }
}
