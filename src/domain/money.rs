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

/// What a currency must be.
pub const CURRENCY_RULE: &str = "must be the ISO 4217 code of a currency, such as INR";

/// The currencies that people pay with (ISO 4217 list one of 2026-01-01): no metals, funds, units of
/// account or codes for tests.
const CURRENCIES: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD \
    CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS \
    GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW \
    KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR \
    MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR \
    SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX \
    USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// Whether `code` is the code of a currency.
pub fn is_currency(code: &str) -> bool {
    CURRENCIES.split(' ').any(|known| known == code)
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

    #[test]
    fn currencies_are_those_that_people_pay_with() {
        let all: Vec<&str> = CURRENCIES.split(' ').collect();
        assert_eq!(all.len(), 155);
        assert!(all.iter().all(|code| code.len() == 3 && is_currency(code)));
        assert!(all.is_sorted(), "and each is there once: {all:?}");
        for no in ["", "inr", "IN", "INRR", "ZZZ", "XXX", "XTS", "XAU", "HRK", "INR USD", " "] {
            assert!(!is_currency(no), "{no}");
        }
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
