//! The parts of an offer that are more than one column: its lengths and its horizon.

use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use jiff::civil::Date;
use jiff_diesel::ToDiesel;
use serde::{Deserialize, Serialize};

use super::schema::practitioner_services;
use crate::domain::rules::{CountedDays, Horizon};

/// Another length that a service is offered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherDuration {
    pub duration_minutes: i32,
    /// Minor units of the offer's currency.
    pub price: i64,
}

/// The lengths of an offer beside its own.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = Jsonb)]
#[serde(transparent)]
pub struct OtherDurations(pub Vec<OtherDuration>);

impl FromSql<Jsonb, Pg> for OtherDurations {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let value = <serde_json::Value as FromSql<Jsonb, Pg>>::from_sql(bytes)?;
        Ok(serde_json::from_value(value)?)
    }
}

impl ToSql<Jsonb, Pg> for OtherDurations {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // The binary form of jsonb is its version and the text.
        out.write_all(&[1])?;
        serde_json::to_writer(out, self)?;
        Ok(IsNull::No)
    }
}

/// The columns of a horizon; the database checks that they belong together.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(
    table_name = practitioner_services,
    check_for_backend(diesel::pg::Pg),
    treat_none_as_null = true
)]
pub struct OfferHorizon {
    horizon_kind: String,
    horizon_days: Option<i32>,
    horizon_business_days: bool,
    horizon_from: Option<jiff_diesel::Date>,
    horizon_to: Option<jiff_diesel::Date>,
}

impl OfferHorizon {
    /// The horizon as the domain knows it, or `None` for columns that mean nothing.
    pub fn read(&self) -> Option<Horizon> {
        let days = self.horizon_days.and_then(|days| u16::try_from(days).ok());
        let count = match self.horizon_business_days {
            true => CountedDays::Business,
            false => CountedDays::Calendar,
        };
        let date = |column: Option<jiff_diesel::Date>| column.map(jiff_diesel::Date::to_jiff);
        Some(match self.horizon_kind.as_str() {
            "rolling" => Horizon::Rolling { days: days?, count },
            "rolling_window" => Horizon::RollingWindow { days: days?, count },
            "range" => {
                Horizon::Range { from: date(self.horizon_from)?, to: date(self.horizon_to)? }
            }
            "unlimited" => Horizon::Unlimited,
            _ => return None,
        })
    }
}

impl From<Horizon> for OfferHorizon {
    fn from(horizon: Horizon) -> Self {
        let columns =
            |kind: &str, days: Option<(u16, CountedDays)>, dates: Option<(Date, Date)>| Self {
                horizon_kind: kind.to_owned(),
                horizon_days: days.map(|(days, _)| days.into()),
                horizon_business_days: days.is_some_and(|(_, c)| c == CountedDays::Business),
                horizon_from: dates.map(|(from, _)| from.to_diesel()),
                horizon_to: dates.map(|(_, to)| to.to_diesel()),
            };
        match horizon {
            Horizon::Rolling { days, count } => columns("rolling", Some((days, count)), None),
            Horizon::RollingWindow { days, count } => {
                columns("rolling_window", Some((days, count)), None)
            }
            Horizon::Range { from, to } => columns("range", None, Some((from, to))),
            Horizon::Unlimited => columns("unlimited", None, None),
        }
    }
}
