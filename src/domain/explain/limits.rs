//! What a case has in `limits`.

use serde::Deserialize;

use super::CaseError;
use crate::domain::limits::{Limits, MAX_LIMIT};

/// At most so many sessions a day and a week (from Monday) by the dates of the case's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CaseLimits {
    service_per_day: Option<i64>,
    service_per_week: Option<i64>,
    practitioner_per_day: Option<i64>,
    practitioner_per_week: Option<i64>,
}

impl CaseLimits {
    /// The limits of the service asked about.
    pub(super) fn of_service(&self) -> Result<Limits, CaseError> {
        read("service", self.service_per_day, self.service_per_week)
    }

    /// The limits over all services.
    pub(super) fn of_practitioner(&self) -> Result<Limits, CaseError> {
        read("practitioner", self.practitioner_per_day, self.practitioner_per_week)
    }
}

fn read(whose: &str, per_day: Option<i64>, per_week: Option<i64>) -> Result<Limits, CaseError> {
    Limits::new(per_day, per_week).map_err(|field| {
        CaseError::new(format!("limits.{whose}_{field}"), format!("must be 1 to {MAX_LIMIT}"))
    })
}
