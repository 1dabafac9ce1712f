//! What a case has in `existing_bookings`.

use jiff::Timestamp;
use serde::Deserialize;

use super::CaseError;
use crate::domain::busy::{Buffers, Busy, BusyKind};
use crate::domain::time::Interval;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CaseBusy {
    start: Timestamp,
    end: Timestamp,
    status: CaseStatus,
    #[serde(default)]
    buffer_before_min: i64,
    #[serde(default)]
    buffer_after_min: i64,
    /// The service that it is a session of: the one asked about, called `this`, unless given.
    service: Option<String>,
    owner: Option<String>,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CaseStatus {
    Confirmed,
    ExternalBusy,
    Blocked,
    Hold,
    PendingBlocking,
    Completed,
    NoShow,
    Rejected,
    Cancelled,
    PendingNonblocking,
}

pub(super) const REQUESTER: u128 = 1;
const SOMEONE_ELSE: u128 = 2;
/// The service asked about is 0, as in `SlotRules::new`.
const ANOTHER_SERVICE: u128 = 1;

impl CaseBusy {
    /// The item, or `None` for a status that neither blocks nor counts.
    pub(super) fn busy(&self, index: usize) -> Result<Option<Busy>, CaseError> {
        let field = |name: &str| format!("existing_bookings[{index}].{name}");
        let time = Interval::new(self.start, self.end).ok().filter(|time| !time.is_empty());
        let time = time.ok_or_else(|| CaseError::new(field("end"), "must be after the start"))?;
        let length = |name, value: i64| {
            let bounded = u16::try_from(value).ok().filter(|minutes| *minutes <= 24 * 60);
            bounded.ok_or_else(|| CaseError::new(field(name), "must be 0 to 1440 minutes"))
        };
        let buffers = Buffers {
            before_min: length("buffer_before_min", self.buffer_before_min)?,
            after_min: length("buffer_after_min", self.buffer_after_min)?,
        };
        let kind = match self.status {
            CaseStatus::Confirmed | CaseStatus::PendingBlocking => BusyKind::Booking,
            CaseStatus::ExternalBusy => BusyKind::External,
            CaseStatus::Blocked => BusyKind::Blocked,
            CaseStatus::Hold => BusyKind::Hold {
                owner: match self.owner.as_deref() {
                    Some("requester") => REQUESTER,
                    _ => SOMEONE_ELSE,
                },
                expires_at: self
                    .expires_at
                    .ok_or_else(|| CaseError::new(field("expires_at"), "needed for a hold"))?,
            },
            CaseStatus::Completed | CaseStatus::NoShow => BusyKind::Counted,
            CaseStatus::Rejected | CaseStatus::Cancelled | CaseStatus::PendingNonblocking => {
                return Ok(None);
            }
        };
        let item = Busy::new(index as u128, time, buffers, kind);
        let service = match self.service.as_deref() {
            None | Some("this") => 0,
            Some(_) => ANOTHER_SERVICE,
        };
        let is_session = !matches!(kind, BusyKind::External | BusyKind::Blocked);
        Ok(Some(if is_session { item.of_service(service) } else { item }))
    }
}
