//! Money as an integer of minor units plus an ISO 4217 currency.

/// The largest amount that is taken, in minor units: what every JSON reader keeps exact (RFC 8259
/// section 6).
pub const MAX_AMOUNT: i64 = (1 << 53) - 1;

/// What an amount must be.
pub const AMOUNT_RULE: &str = "must be 0 to 9007199254740991";

/// Whether an amount can be a price.
pub fn is_amount(amount: i64) -> bool {
    (0..=MAX_AMOUNT).contains(&amount)
}

/// The platform's share of `amount` minor units at `basis_points` (1 % = 100), rounded half up.
///
/// The result is never larger than `amount` when `basis_points` is at most 10,000.
pub fn commission(amount: i64, basis_points: u16) -> i64 {
    let exact = i128::from(amount) * i128::from(basis_points);
    i64::try_from((exact + 5_000).div_euclid(10_000)).unwrap_or(i64::MAX)
}

/// Whether `code` has the form of an ISO 4217 code.
pub fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commission_rounds_half_up() {
        assert_eq!(commission(150_000, 1_500), 22_500);
        assert_eq!(commission(1, 4_999), 0);
        assert_eq!(commission(1, 5_000), 1);
        assert_eq!(commission(i64::MAX, 10_000), i64::MAX);
    }

    proptest! {
        #[test]
        fn commission_stays_within_the_amount(amount in 0..=i64::MAX, bps in 0u16..=10_000) {
            let share = commission(amount, bps);
            prop_assert!((0..=amount).contains(&share));
            // Off by at most half a minor unit from the exact share.
            let exact = i128::from(amount) * i128::from(bps);
            prop_assert!((i128::from(share) * 10_000 - exact).abs() <= 5_000);
        }
    }
}
