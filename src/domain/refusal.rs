//! Why a request is refused: every reason that is the caller's to know, as data.
//!
//! Faults (a lost database, a bug) are not refusals; they are `actors::error::Error::Fault` and
//! never tell the caller their cause. How a refusal looks on the wire is `http/error.rs`.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field as the client wrote it, such as `weekly[3].end`.
    pub field: String,
    /// What is wrong and what is allowed, for people.
    pub problem: String,
}

impl FieldProblem {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A start of a series that can not be booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub starts_at: Timestamp,
    /// `slot_taken` or `slot_unavailable`.
    pub code: &'static str,
    /// For `slot_unavailable`: the rule.
    pub rule: Option<Cow<'static, str>>,
}

/// A refused request. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The body, query or path does not fit; each field is named.
    Validation(Vec<FieldProblem>),
    /// No valid credentials came with the request.
    Unauthenticated,
    /// The access token was valid once; refresh it.
    TokenExpired,
    /// E-mail and password do not belong together (also when there is no such account).
    InvalidCredentials,
    /// The refresh token is unknown, used, expired or revoked.
    InvalidRefreshToken,
    /// The caller is known and may not do this.
    Forbidden,
    /// One of the two blocks the other; which of them is not told.
    Blocked,
    /// There is no such thing, or none that the caller may know of.
    NotFound(&'static str),
    /// No route has this path.
    NoSuchRoute,
    /// The path exists, not with this method.
    MethodNotAllowed,
    /// The body is of a type that the path does not take.
    UnsupportedMediaType {
        /// The media types that it takes.
        allowed: Vec<&'static str>,
    },
    /// An API version that the hub does not speak.
    UnsupportedVersion,
    /// The account already exists.
    EmailTaken,
    /// A thing that may exist once exists already.
    AlreadyExists(&'static str),
    /// Somebody holds or booked an overlapping time.
    SlotTaken,
    /// The time can not be booked whoever asks; the rule says why.
    SlotUnavailable(Cow<'static, str>),
    /// Some starts of a series can not be booked, and so none of them is.
    SeriesClash(Vec<Clash>),
    /// The hold is over; hold the slot again.
    HoldExpired,
    /// A hold is extended once.
    HoldExtended,
    /// More holds than one seeker may have at a time.
    TooManyHolds {
        /// How many they may have.
        limit: u16,
    },
    /// The booking's state does not allow the step.
    InvalidTransition {
        /// The state that the booking is in.
        state: &'static str,
        /// Its version, for a client that wants to look again.
        version: i64,
    },
    /// The booking's state allows the step, its time does not. The same code as
    /// `InvalidTransition`.
    Untimely {
        /// The state that the booking is in.
        state: &'static str,
        /// Its version, for a client that wants to look again.
        version: i64,
        /// Whether the step may be taken from `at` on (true), or could be until `at`.
        early: bool,
        at: Timestamp,
    },
    /// `If-Match` or `version` named an older state.
    VersionConflict {
        /// The version that is current.
        current: i64,
    },
    /// What can be changed for some days only has been there for longer.
    EditClosed {
        /// How many days.
        days: i64,
    },
    /// What can be changed so often was.
    EditedOften {
        /// How often.
        edits: i32,
    },
    /// The same `Idempotency-Key` came with another request.
    IdempotencyConflict,
    /// The first request with this `Idempotency-Key` is still running.
    IdempotencyInFlight,
    /// Too many requests; try again after the given time.
    RateLimited(Duration),
    /// The body is larger than the route allows.
    PayloadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The hub can not take more work now; try again after the given time.
    Overloaded(Duration),
    /// The hub can not serve now; what of it is missing, in words of `/readyz`.
    Unavailable {
        /// Such as `database`.
        not_ready: Vec<&'static str>,
    },
    /// An operation that the socket does not know.
    UnknownOp,
    /// More channels than one socket may follow.
    TooManySubscriptions {
        /// How many it may follow.
        limit: usize,
    },
}

impl Refusal {
    /// A validation refusal about one field.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Validation(vec![FieldProblem::new(field, problem)])
    }
}

/// Collects what is wrong with a request, so that the caller hears of every field at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<FieldProblem>);

impl Problems {
    /// Notes `problem` with `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: &str, problem: &str) {
        if !holds {
            self.0.push(FieldProblem::new(field, problem));
        }
    }

    /// Notes a text of fewer than `min` characters, white space around it not counted, or of more
    /// than `max`, all of it counted: that is what is stored.
    pub fn length(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let enough = text.trim().chars().count() >= min;
        let problem = format!("must have {min} to {max} characters");
        let fits = enough && text.chars().count() <= max;
        self.require(fits && !text.contains('\0'), field, &problem);
    }

    /// Adds what another check found.
    pub fn extend(&mut self, more: impl IntoIterator<Item = FieldProblem>) {
        self.0.extend(more);
    }

    /// Ok when nothing was noted, otherwise the validation refusal.
    pub fn into_result(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Validation(self.0)) }
    }
}
