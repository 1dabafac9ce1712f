//! `/v1/holidays`: the public holidays that a schedule can be closed on.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::Query;
use crate::domain::holidays::{self, Country};
use crate::domain::refusal::{Problems, Refusal};
use crate::domain::schedule::ProblemKind;

/// Which holidays.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HolidaysQuery {
    /// ISO 3166-1, such as `IN`.
    country: String,
    /// The second part of ISO 3166-2, such as `TN`. Without it: what the whole country has.
    region: Option<String>,
    /// Such as `2026`.
    year: String,
}

/// The holidays of one year.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HolidaysView {
    country: &'static str,
    region: Option<String>,
    year: i16,
    holidays: Vec<HolidayView>,
    /// The regions of the country that can be asked for.
    regions: &'static [&'static str],
    /// The first and the last year that are known.
    first_year: i16,
    last_year: i16,
}

/// A day that is off.
#[derive(Serialize, ToSchema)]
pub struct HolidayView {
    /// `YYYY-MM-DD`.
    date: String,
    /// In English; two that fall on one day are joined by `; `. `(estimated)`: the moon decides,
    /// and no government has yet.
    name: String,
}

impl HolidaysQuery {
    /// The country and the year, or everything that is wrong.
    fn check(&self) -> Result<(&'static Country, i16), Refusal> {
        let (first, last) = holidays::years();
        let country = holidays::country(&self.country);
        let year = self.year.parse().ok().filter(|year| (first..=last).contains(year));
        let unknown = ProblemKind::UnknownCountry.to_string();
        let mut problems = Problems::default();
        problems.require(country.is_some(), "country", &unknown);
        problems.require(year.is_some(), "year", &format!("must be {first} to {last}"));
        if let (Some(country), Some(region)) = (country, self.region.as_deref()) {
            let unknown = ProblemKind::UnknownRegion { country: country.code() };
            let known = country.regions().contains(&region);
            problems.require(known, "region", &unknown.to_string());
        }
        problems.into_result()?;
        country.zip(year).ok_or_else(|| Refusal::field("country", unknown))
    }
}

/// Public holidays of a country in a year.
#[utoipa::path(get, path = "/v1/holidays", tag = "calendar", params(HolidaysQuery),
    responses((status = 200, body = Envelope<HolidaysView>)))]
pub async fn list(Query(query): Query<HolidaysQuery>) -> ApiResult<Reply> {
    let (country, year) = query.check()?;
    let days = country.days(query.region.as_deref()).into_iter();
    let view = |(date, names): (Date, Vec<&str>)| HolidayView {
        date: date.to_string(),
        name: names.join("; "),
    };
    let holidays = days.filter(|(date, _)| date.year() == year).map(view).collect();
    let (first_year, last_year) = holidays::years();
    Reply::ok(HolidaysView {
        country: country.code(),
        region: query.region,
        year,
        holidays,
        regions: country.regions(),
        first_year,
        last_year,
    })
}
