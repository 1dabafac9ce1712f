//! Why a use case did not happen: a refusal that is the caller's to know, or a fault that is not.

use std::time::Duration;

use actix::MailboxError;

use crate::domain::refusal::Refusal;
use crate::models::pool::PoolFault;

/// A failed use case; nothing was changed.
#[derive(Debug, Clone)]
pub enum Error {
    /// The caller is told why.
    Refused(Refusal),
    /// The caller is told that it is our fault; the cause goes to the log, with no row values.
    Fault(String),
}

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// How long a client should wait when the hub has more work than it takes.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

impl Error {
    /// More work than the hub takes now.
    pub fn overloaded() -> Self {
        Self::Refused(Refusal::Overloaded(OVERLOAD_PAUSE))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<diesel::result::Error> for Error {
    fn from(e: diesel::result::Error) -> Self {
        // The message names constraint and table; `details()` would hold row values.
        Self::Fault(format!("database: {e}"))
    }
}

impl From<PoolFault> for Error {
    fn from(fault: PoolFault) -> Self {
        match fault {
            PoolFault::Exhausted => Self::overloaded(),
            PoolFault::Unreachable(cause) => Self::Fault(format!("pool: {cause}")),
        }
    }
}

impl From<MailboxError> for Error {
    fn from(e: MailboxError) -> Self {
        Self::Fault(format!("actor: {e}"))
    }
}
