//! How a practice offers a service, beyond one price and one length: horizon and other lengths.

use jiff::civil::{Date, date};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::catalogue::Price;
use crate::domain::refusal::{Problems, Refusal};
use crate::domain::rules::{CountedDays, Horizon, MAX_DAYS_SEARCHED};
use crate::models::offer_rules::{OtherDuration, OtherDurations};

/// Days ahead that can be booked unless the offer says otherwise.
const DEFAULT_DAYS: u16 = 90;
/// The most days of a rolling horizon.
const MAX_ROLLING_DAYS: u16 = 730;
/// The dates of a range lie between these.
const DATES: (Date, Date) = (date(2000, 1, 1), date(2999, 12, 31));

/// Another length of the service, at its own price.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DurationForm {
    /// 1 to 1440.
    duration_minutes: i32,
    /// In the currency of the offer.
    price: Price,
}

/// The kinds of horizons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum HorizonKind {
    /// Today and the next `days` days.
    Rolling,
    /// From today the first `days` days on which something is free.
    RollingWindow,
    /// The dates `from` to `to`.
    Range,
    /// No end.
    Unlimited,
}

/// How far ahead can be booked. Days and dates are the practitioner's.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HorizonForm {
    kind: HorizonKind,
    /// Of `rolling`, 1 to 730, and `rollingWindow`, 1 to 366.
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    /// Whether `days` counts Monday to Friday only. False unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    business_days: Option<bool>,
    /// The first date of a `range`.
    #[schema(format = Date)]
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The last date of a `range`.
    #[schema(format = Date)]
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl From<Horizon> for HorizonForm {
    fn from(horizon: Horizon) -> Self {
        let rolling = |kind, days: u16, count| Self {
            kind,
            days: Some(days.into()),
            business_days: Some(count == CountedDays::Business),
            from: None,
            to: None,
        };
        let dates = |kind, from, to| Self { kind, days: None, business_days: None, from, to };
        match horizon {
            Horizon::Rolling { days, count } => rolling(HorizonKind::Rolling, days, count),
            Horizon::RollingWindow { days, count } => {
                rolling(HorizonKind::RollingWindow, days, count)
            }
            Horizon::Range { from, to } => {
                dates(HorizonKind::Range, Some(from.to_string()), Some(to.to_string()))
            }
            Horizon::Unlimited => dates(HorizonKind::Unlimited, None, None),
        }
    }
}

impl HorizonForm {
    fn read(&self) -> Result<Horizon, Refusal> {
        let is_rolling = matches!(self.kind, HorizonKind::Rolling | HorizonKind::RollingWindow);
        let is_range = self.kind == HorizonKind::Range;
        let mut problems = Problems::default();
        for (field, is_given, belongs) in [
            ("horizon.days", self.days.is_some(), is_rolling),
            ("horizon.businessDays", self.business_days.is_some(), is_rolling),
            ("horizon.from", self.from.is_some(), is_range),
            ("horizon.to", self.to.is_some(), is_range),
        ] {
            problems.require(belongs || !is_given, field, "does not belong to this kind");
        }
        problems.into_result()?;
        let count = match self.business_days {
            Some(true) => CountedDays::Business,
            Some(false) | None => CountedDays::Calendar,
        };
        Ok(match self.kind {
            HorizonKind::Rolling => {
                Horizon::Rolling { days: days("horizon.days", self.days, MAX_ROLLING_DAYS)?, count }
            }
            HorizonKind::RollingWindow => {
                let days = days("horizon.days", self.days, MAX_DAYS_SEARCHED)?;
                Horizon::RollingWindow { days, count }
            }
            HorizonKind::Range => {
                let from = day("horizon.from", self.from.as_deref())?;
                let to = day("horizon.to", self.to.as_deref())?;
                if to < from {
                    return Err(Refusal::field("horizon.to", "must not be before from"));
                }
                Horizon::Range { from, to }
            }
            HorizonKind::Unlimited => Horizon::Unlimited,
        })
    }
}

fn days(field: &str, value: Option<i32>, max: u16) -> Result<u16, Refusal> {
    let days = value.and_then(|days| u16::try_from(days).ok());
    let days = days.filter(|days| (1..=max).contains(days));
    days.ok_or_else(|| Refusal::field(field, format!("must be 1 to {max}")))
}

fn day(field: &str, text: Option<&str>) -> Result<Date, Refusal> {
    let (first, last) = DATES;
    let date = text.and_then(|text| text.parse().ok().filter(|d: &Date| d.to_string() == text));
    let date = date.filter(|date| (first..=last).contains(date));
    let problem = || format!("must be a date YYYY-MM-DD from {first} to {last}");
    date.ok_or_else(|| Refusal::field(field, problem()))
}

/// The horizon of an offer, from its long form or from `horizonDays`; 90 days when it has neither.
pub(super) fn horizon(form: Option<&HorizonForm>, short: Option<i32>) -> Result<Horizon, Refusal> {
    match (form, short) {
        (Some(form), None) => form.read(),
        (Some(_), Some(_)) => Err(Refusal::field("horizonDays", "says the same as horizon")),
        (None, short) => {
            let short = short.unwrap_or(DEFAULT_DAYS.into());
            let days = days("horizonDays", Some(short), MAX_ROLLING_DAYS)?;
            Ok(Horizon::Rolling { days, count: CountedDays::Calendar })
        }
    }
}

/// What `horizonDays` says of a horizon.
pub(super) fn short_form(horizon: Horizon) -> Option<u16> {
    match horizon {
        Horizon::Rolling { days, count: CountedDays::Calendar } => Some(days),
        Horizon::Rolling { .. }
        | Horizon::RollingWindow { .. }
        | Horizon::Range { .. }
        | Horizon::Unlimited => None,
    }
}

/// The other lengths of an offer in `currency`. Refuses a price in another one.
pub(super) fn durations(
    forms: Vec<DurationForm>,
    currency: &str,
) -> Result<OtherDurations, Refusal> {
    let mut problems = Problems::default();
    let durations = forms.into_iter().enumerate().map(|(i, form)| {
        let field = format!("otherDurations[{i}].price.currency");
        problems.require(form.price.currency == currency, &field, "must be that of the price");
        OtherDuration { duration_minutes: form.duration_minutes, price: form.price.amount }
    });
    let durations = durations.collect();
    problems.into_result()?;
    Ok(OtherDurations(durations))
}

/// The other lengths as they are shown.
pub(super) fn duration_forms(durations: OtherDurations, currency: &str) -> Vec<DurationForm> {
    let form = |other: OtherDuration| DurationForm {
        duration_minutes: other.duration_minutes,
        price: Price { amount: other.price, currency: currency.to_owned() },
    };
    durations.0.into_iter().map(form).collect()
}
