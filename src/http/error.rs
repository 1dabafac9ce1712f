//! How errors read to a client: one exhaustive match per question, no wildcard arm.
//!
//! This is the table of error codes; `codes` lists it for the docs.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use crate::actors::protocol::WireError;
use crate::domain::refusal::{Clash, Refusal};
use crate::error::Error;

/// A failed request. `front` turns it into the envelope, since it knows the request's id.
#[derive(Debug)]
pub struct ApiError(pub Error);

/// The result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl<E: Into<Error>> From<E> for ApiError {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(code(&self.0))
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

const UNAVAILABLE: &str = "The hub can not serve now; try again soon.";
/// How long a client should wait before it asks a hub again that can not serve.
const OUTAGE_PAUSE: Duration = Duration::from_secs(2);

/// The HTTP status of an error.
pub fn status(error: &Error) -> StatusCode {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Unavailable(_) => return StatusCode::SERVICE_UNAVAILABLE,
        Error::Fault(_) => return StatusCode::INTERNAL_SERVER_ERROR,
    };
    match refusal {
        Refusal::Validation(_) | Refusal::IdempotencyConflict => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Unauthenticated
        | Refusal::TokenExpired
        | Refusal::InvalidCredentials
        | Refusal::InvalidRefreshToken => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden | Refusal::Blocked => StatusCode::FORBIDDEN,
        Refusal::NotFound(_) | Refusal::NoSuchRoute | Refusal::UnknownOp => StatusCode::NOT_FOUND,
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::UnsupportedVersion => StatusCode::NOT_ACCEPTABLE,
        Refusal::EmailTaken
        | Refusal::AlreadyExists(_)
        | Refusal::SlotTaken
        | Refusal::SlotUnavailable(_)
        | Refusal::SeriesClash(_)
        | Refusal::HoldExpired
        | Refusal::HoldExtended
        | Refusal::TooManyHolds { .. }
        | Refusal::InvalidTransition { .. }
        | Refusal::Untimely { .. }
        | Refusal::VersionConflict { .. }
        | Refusal::EditClosed { .. }
        | Refusal::EditedOften { .. }
        | Refusal::TooManySubscriptions { .. }
        | Refusal::IdempotencyInFlight => StatusCode::CONFLICT,
        Refusal::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Overloaded(_) | Refusal::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The machine-readable code of an error.
pub fn code(error: &Error) -> &'static str {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Unavailable(_) => return "unavailable",
        Error::Fault(_) => return "internal",
    };
    match refusal {
        Refusal::Validation(_) => "validation_failed",
        Refusal::Unauthenticated => "unauthenticated",
        Refusal::TokenExpired => "token_expired",
        Refusal::InvalidCredentials => "invalid_credentials",
        Refusal::InvalidRefreshToken => "invalid_refresh_token",
        Refusal::Forbidden => "forbidden",
        Refusal::Blocked => "blocked",
        Refusal::NotFound(_) => "not_found",
        Refusal::NoSuchRoute => "no_such_route",
        Refusal::MethodNotAllowed => "method_not_allowed",
        Refusal::UnsupportedMediaType { .. } => "unsupported_media_type",
        Refusal::UnsupportedVersion => "unsupported_version",
        Refusal::EmailTaken => "email_taken",
        Refusal::AlreadyExists(_) => "already_exists",
        Refusal::SlotTaken => "slot_taken",
        Refusal::SlotUnavailable(_) => "slot_unavailable",
        Refusal::SeriesClash(_) => "series_clash",
        Refusal::HoldExpired => "hold_expired",
        Refusal::HoldExtended => "hold_extended",
        Refusal::TooManyHolds { .. } => "too_many_holds",
        Refusal::InvalidTransition { .. } | Refusal::Untimely { .. } => "invalid_transition",
        Refusal::VersionConflict { .. } => "version_conflict",
        Refusal::EditClosed { .. } | Refusal::EditedOften { .. } => "edit_closed",
        Refusal::IdempotencyConflict => "idempotency_conflict",
        Refusal::IdempotencyInFlight => "idempotency_in_flight",
        Refusal::RateLimited(_) => "rate_limited",
        Refusal::PayloadTooLarge { .. } => "payload_too_large",
        Refusal::Overloaded(_) => "overloaded",
        Refusal::Unavailable { .. } => "unavailable",
        Refusal::UnknownOp => "unknown_op",
        Refusal::TooManySubscriptions { .. } => "too_many_subscriptions",
    }
}

/// One line for people.
pub fn message(error: &Error) -> String {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Unavailable(_) => return UNAVAILABLE.to_owned(),
        Error::Fault(_) => {
            return "Something went wrong on our side; the request id helps us find it.".to_owned();
        }
    };
    match refusal {
        Refusal::Validation(_) => "Some fields are not valid.".to_owned(),
        Refusal::Unauthenticated => "A valid access token is needed.".to_owned(),
        Refusal::TokenExpired => "The access token has expired; refresh it.".to_owned(),
        Refusal::InvalidCredentials => "E-mail and password do not match.".to_owned(),
        Refusal::InvalidRefreshToken => "The refresh token is not valid; log in again.".to_owned(),
        Refusal::Forbidden => "You may not do this.".to_owned(),
        Refusal::Blocked => "You can not reach this person.".to_owned(),
        Refusal::NotFound(what) => format!("There is no such {what}."),
        Refusal::NoSuchRoute => "There is nothing at this path.".to_owned(),
        Refusal::MethodNotAllowed => "This path does not take this method.".to_owned(),
        Refusal::UnsupportedMediaType { .. } => {
            "This path does not take a body of this type.".to_owned()
        }
        Refusal::UnsupportedVersion => "The hub speaks version 1 of its API.".to_owned(),
        Refusal::EmailTaken => "This e-mail address has an account.".to_owned(),
        Refusal::AlreadyExists(what) => format!("There is such a {what} already."),
        Refusal::SlotTaken => "This time is taken.".to_owned(),
        Refusal::SlotUnavailable(_) => "This time can not be booked.".to_owned(),
        Refusal::SeriesClash(_) => "Some of these times can not be booked.".to_owned(),
        Refusal::HoldExpired => "The hold is over; hold the slot again.".to_owned(),
        Refusal::HoldExtended => "A hold can be extended once.".to_owned(),
        Refusal::TooManyHolds { limit } => {
            format!("One seeker may have {limit} holds at a time; book one or give one back.")
        }
        Refusal::InvalidTransition { state, .. } => {
            format!("A booking that is {state} can not take this step.")
        }
        Refusal::Untimely { early: true, at, .. } => format!("It is too early: from {at} on."),
        Refusal::Untimely { at, .. } => format!("It is too late: this could be done until {at}."),
        Refusal::VersionConflict { .. } => "It was changed meanwhile; read it again.".to_owned(),
        Refusal::EditClosed { days: 1 } => "It could be changed for a day.".to_owned(),
        Refusal::EditClosed { days } => format!("It could be changed for {days} days."),
        Refusal::EditedOften { edits } => format!("It could be changed {edits} times."),
        Refusal::IdempotencyConflict => {
            "This Idempotency-Key was used with another request.".to_owned()
        }
        Refusal::IdempotencyInFlight => "The first request with this key is running.".to_owned(),
        Refusal::RateLimited(_) => "Too many requests.".to_owned(),
        Refusal::PayloadTooLarge { limit } => format!("The body may have {limit} bytes."),
        Refusal::Overloaded(_) => "The hub has too much to do; try again soon.".to_owned(),
        Refusal::Unavailable { .. } => UNAVAILABLE.to_owned(),
        Refusal::UnknownOp => "There is no such operation.".to_owned(),
        Refusal::TooManySubscriptions { limit } => {
            format!("One socket may follow {limit} channels.")
        }
    }
}

/// What a program can use to find out more.
pub fn details(error: &Error) -> Option<Value> {
    let Error::Refused(refusal) = error else { return None };
    match refusal {
        Refusal::Validation(fields) => {
            Some(fields.iter().map(|p| json!({ "field": p.field, "problem": p.problem })).collect())
        }
        Refusal::SlotUnavailable(rule) => Some(json!({ "rule": rule })),
        Refusal::SeriesClash(clashes) => {
            let clash = |c: &Clash| match &c.rule {
                Some(rule) => json!({ "startsAt": c.starts_at, "code": c.code, "rule": rule }),
                None => json!({ "startsAt": c.starts_at, "code": c.code }),
            };
            Some(clashes.iter().map(clash).collect())
        }
        Refusal::InvalidTransition { state, version } => {
            Some(json!({ "state": state, "version": version }))
        }
        Refusal::Untimely { state, version, early, at } => {
            let rule = if *early { "too_early" } else { "too_late" };
            Some(json!({ "state": state, "version": version, "rule": rule, "at": at }))
        }
        Refusal::UnsupportedMediaType { allowed } => Some(json!({ "allowed": allowed })),
        Refusal::TooManyHolds { limit } => Some(json!({ "limit": limit })),
        Refusal::VersionConflict { current } => Some(json!({ "version": current })),
        Refusal::EditClosed { days } => Some(json!({ "days": days })),
        Refusal::EditedOften { edits } => Some(json!({ "edits": edits })),
        Refusal::Unavailable { not_ready } => Some(json!({ "notReady": not_ready })),
        Refusal::PayloadTooLarge { limit } | Refusal::TooManySubscriptions { limit } => {
            Some(json!({ "limit": limit }))
        }
        Refusal::Unauthenticated
        | Refusal::TokenExpired
        | Refusal::InvalidCredentials
        | Refusal::InvalidRefreshToken
        | Refusal::Forbidden
        | Refusal::Blocked
        | Refusal::NotFound(_)
        | Refusal::NoSuchRoute
        | Refusal::MethodNotAllowed
        | Refusal::UnsupportedVersion
        | Refusal::EmailTaken
        | Refusal::AlreadyExists(_)
        | Refusal::SlotTaken
        | Refusal::HoldExpired
        | Refusal::HoldExtended
        | Refusal::IdempotencyConflict
        | Refusal::IdempotencyInFlight
        | Refusal::RateLimited(_)
        | Refusal::Overloaded(_)
        | Refusal::UnknownOp => None,
    }
}

/// When trying again can help without changing the request, and after how long at the earliest.
pub fn retry_after(error: &Error) -> Option<Duration> {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Unavailable(_) => return Some(OUTAGE_PAUSE),
        Error::Fault(_) => return None,
    };
    match refusal {
        Refusal::RateLimited(wait) | Refusal::Overloaded(wait) => Some(*wait),
        Refusal::Unavailable { .. } => Some(OUTAGE_PAUSE),
        Refusal::IdempotencyInFlight => Some(Duration::from_secs(1)),
        Refusal::Validation(_)
        | Refusal::Unauthenticated
        | Refusal::TokenExpired
        | Refusal::InvalidCredentials
        | Refusal::InvalidRefreshToken
        | Refusal::Forbidden
        | Refusal::Blocked
        | Refusal::NotFound(_)
        | Refusal::NoSuchRoute
        | Refusal::MethodNotAllowed
        | Refusal::UnsupportedMediaType { .. }
        | Refusal::UnsupportedVersion
        | Refusal::EmailTaken
        | Refusal::AlreadyExists(_)
        | Refusal::SlotTaken
        | Refusal::SlotUnavailable(_)
        | Refusal::SeriesClash(_)
        | Refusal::HoldExpired
        | Refusal::HoldExtended
        | Refusal::TooManyHolds { .. }
        | Refusal::InvalidTransition { .. }
        | Refusal::Untimely { .. }
        | Refusal::VersionConflict { .. }
        | Refusal::EditClosed { .. }
        | Refusal::EditedOften { .. }
        | Refusal::IdempotencyConflict
        | Refusal::PayloadTooLarge { .. }
        | Refusal::UnknownOp
        | Refusal::TooManySubscriptions { .. } => None,
    }
}

/// The error as sockets tell it. The cause of a fault is not told.
pub fn on_the_wire(error: &Error) -> WireError {
    WireError {
        code: code(error),
        message: message(error),
        details: details(error),
        retry_after: retry_after(error),
    }
}

/// The `error` of an envelope.
pub fn body(error: &Error) -> Value {
    match details(error) {
        Some(details) => {
            json!({ "code": code(error), "message": message(error), "details": details })
        }
        None => json!({ "code": code(error), "message": message(error) }),
    }
}

/// Every code once, for the printed table of codes (`hub openapi` and docs/errors.md).
pub fn codes() -> Vec<Error> {
    let wait = Duration::from_secs(1);
    [
        Refusal::Validation(Vec::new()),
        Refusal::Unauthenticated,
        Refusal::TokenExpired,
        Refusal::InvalidCredentials,
        Refusal::InvalidRefreshToken,
        Refusal::Forbidden,
        Refusal::Blocked,
        Refusal::NotFound("thing"),
        Refusal::NoSuchRoute,
        Refusal::MethodNotAllowed,
        Refusal::UnsupportedMediaType { allowed: vec![super::body::JSON] },
        Refusal::UnsupportedVersion,
        Refusal::EmailTaken,
        Refusal::AlreadyExists("thing"),
        Refusal::SlotTaken,
        Refusal::SlotUnavailable("hours".into()),
        Refusal::SeriesClash(Vec::new()),
        Refusal::HoldExpired,
        Refusal::HoldExtended,
        Refusal::TooManyHolds { limit: crate::models::calendar_commit::MAX_HOLDS },
        Refusal::InvalidTransition { state: "cancelled", version: 1 },
        Refusal::VersionConflict { current: 1 },
        Refusal::EditClosed { days: crate::domain::review::EDIT_DAYS },
        Refusal::IdempotencyConflict,
        Refusal::IdempotencyInFlight,
        Refusal::RateLimited(wait),
        Refusal::PayloadTooLarge { limit: super::body::LIMIT },
        Refusal::Overloaded(wait),
        Refusal::Unavailable { not_ready: Vec::new() },
        Refusal::UnknownOp,
        Refusal::TooManySubscriptions { limit: crate::actors::protocol::MAX_SUBSCRIPTIONS },
    ]
    .into_iter()
    .map(Error::Refused)
    .chain([Error::Fault(String::new())])
    .collect()
}
