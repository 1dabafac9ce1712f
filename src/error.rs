//! Why a use case did not happen: a refusal that is the caller's to know, or a fault that is not,
//! ours or the database's.

use std::time::Duration;

use actix::MailboxError;

use crate::domain::refusal::Refusal;
use crate::models::pool::{self, PoolFault};

/// A failed use case.
#[derive(Debug, Clone)]
pub enum Error {
    /// The caller is told why; nothing was changed.
    Refused(Refusal),
    /// The database is not there, or was lost on the way; the caller may come again, the cause goes
    /// to the log. What was under way may have been committed.
    Unavailable(String),
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

    /// Whether the same may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                matches!(refusal, Refusal::Overloaded(_) | Refusal::RateLimited(_))
            }
            Self::Unavailable(_) | Self::Fault(_) => true,
        }
    }

    /// What goes to the log and to nobody else.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Refused(_) => None,
            Self::Unavailable(cause) | Self::Fault(cause) => Some(cause),
        }
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
        let cause = format!("database: {e}");
        if pool::is_lost(&e) { Self::Unavailable(cause) } else { Self::Fault(cause) }
    }
}

impl From<PoolFault> for Error {
    fn from(fault: PoolFault) -> Self {
        match fault {
            PoolFault::Exhausted => Self::overloaded(),
            PoolFault::Unreachable(cause) => Self::Unavailable(format!("pool: {cause}")),
        }
    }
}

impl From<MailboxError> for Error {
    fn from(e: MailboxError) -> Self {
        Self::Fault(format!("actor: {e}"))
    }
}
