//! Use cases: what a request, a socket's command or a job asks for, once its shape is known.
//!
//! Each service holds what it needs and nothing else; none reaches another through a common struct.

pub mod archive;
pub mod attachments;
pub mod auth;
pub mod bookings;
pub mod catalogue;
pub mod chat;
pub mod demo;
pub mod external_calendars;
pub mod groups;
pub mod inbox;
pub mod invites;
pub mod practices;
pub mod preferences;
pub mod reviews;
pub mod safety;
mod secrets;
pub mod users;
pub mod waitlist;

use uuid::Uuid;

use crate::domain::access::{Action, Relation, allows};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::pool::Pool;
use crate::models::practitioners::{self, Practice};
use crate::models::violation::Violation;

/// A page of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// From 1.
    pub number: i64,
    /// Items on a page.
    pub limit: i64,
}

impl Page {
    /// Items before the page.
    pub fn offset(self) -> i64 {
        (self.number - 1).saturating_mul(self.limit)
    }
}

/// The practice `id`, if `caller` may do `action` with it.
async fn practice_for(
    pool: &Pool,
    caller: &auth::Caller,
    id: Uuid,
    action: Action,
) -> Result<Practice> {
    let mut conn = pool.get().await?;
    let practice = practitioners::find(&mut conn, id).await?;
    let practice = practice.ok_or(Refusal::NotFound("practitioner"))?;
    let owner = practice.user_id == caller.user_id;
    if allows(caller.role, action, Relation { owner, practitioner: owner }) {
        Ok(practice)
    } else {
        Err(Refusal::Forbidden.into())
    }
}

/// A violated constraint as the refusal that `name` knows for it, or as the fault that it is.
fn refuse_violation(
    error: diesel::result::Error,
    name: impl FnOnce(Violation) -> Option<Refusal>,
) -> Error {
    match Violation::of(&error).and_then(name) {
        Some(refusal) => refusal.into(),
        None => error.into(),
    }
}
