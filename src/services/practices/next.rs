//! The next free slot, of one practice or of several.

use futures_util::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use super::Practices;
use crate::actors::calendar_next::{GetNext, Next};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};

/// Practices that one request may ask about.
pub const MAX_PRACTICES: usize = 50;

impl Practices {
    /// The first slot of a service that can be booked.
    pub async fn next_slot(&self, id: Uuid, ask: GetNext) -> Result<Next> {
        self.calendars.ask(id, ask).await
    }

    /// The first slot of a service with each of these practices, the earliest first; those in which
    /// nothing is free come last, and those that do not offer it are left out. Refuses no ids,
    /// more than [`MAX_PRACTICES`], and one that is named twice.
    pub async fn next_slots(&self, ids: &[Uuid], ask: &GetNext) -> Result<Vec<(Uuid, Next)>> {
        let refuse = |problem: String| Err(Refusal::field("practitionerIds", problem).into());
        if ids.is_empty() || ids.len() > MAX_PRACTICES {
            return refuse(format!("must be 1 to {MAX_PRACTICES} ids"));
        }
        if ids.iter().enumerate().any(|(i, id)| ids.iter().skip(i + 1).any(|other| other == id)) {
            return refuse("names one twice".to_owned());
        }
        let asked = ids.iter().map(|id| self.calendars.ask(*id, ask.clone()));
        let mut found = Vec::new();
        for (id, answer) in ids.iter().zip(join_all(asked).await) {
            match answer {
                Ok(next) => found.push((*id, next)),
                // No such practice, service or length.
                Err(Error::Refused(Refusal::NotFound(_) | Refusal::Validation(_))) => {}
                Err(e) => return Err(e),
            }
        }
        let start = |next: &Next| next.start.unwrap_or(Timestamp::MAX);
        found.sort_by_key(|(id, next)| (start(next), *id));
        Ok(found)
    }
}
