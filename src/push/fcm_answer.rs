//! FCM's answers, read by status and error code.
//! <https://firebase.google.com/docs/cloud-messaging/error-codes>

use std::time::Duration;

use serde::Deserialize;

use super::Outcome;

/// Google asks senders that went over a quota for at least a minute.
const QUOTA_WAIT: Duration = Duration::from_secs(60);
/// What Google says about a malformed token in answers without field violations.
const MALFORMED_TOKEN: &str = "The registration token is not a valid FCM registration token";

/// What an answer means, or that the access token is at fault and a new one may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Final(Outcome),
    AccessTokenRefused,
}

impl Answer {
    /// For the last attempt, after which a refused access token is a refusal.
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Final(outcome) => outcome,
            Self::AccessTokenRefused => Outcome::rejected("FCM refused a fresh access token (401)"),
        }
    }
}

/// `FcmError.errorCode`, as far as it decides anything beyond the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Code {
    Unregistered,
    InvalidArgument,
    SenderIdMismatch,
    QuotaExceeded,
    Unavailable,
    Internal,
    ThirdPartyAuthError,
    #[serde(other)]
    Other,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    error: Error,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
    details: Vec<Detail>,
}

/// One of `google.firebase.fcm.v1.FcmError`, `google.rpc.BadRequest` and others.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: Option<Code>,
    field_violations: Vec<Violation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Violation {
    field: String,
}

impl Error {
    fn code(&self) -> Option<Code> {
        self.details.iter().find_map(|detail| detail.error_code)
    }

    fn is_about_the_token(&self) -> bool {
        let mut violations = self.details.iter().flat_map(|detail| &detail.field_violations);
        violations.any(|violation| violation.field == "message.token")
            || self.message.starts_with(MALFORMED_TOKEN)
    }
}

/// Reads an answer; the table is at [`Outcome`]. An unreadable body leaves the status to decide.
pub(super) fn read(status: u16, after: Option<Duration>, body: &[u8]) -> Answer {
    let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
    let code = error.code();
    let reason = match code {
        Some(code) => format!("FCM answered {status} ({code:?})"),
        None => format!("FCM answered {status}"),
    };
    Answer::Final(match (status, code) {
        (200..=299, _) => Outcome::Delivered,
        (404, Some(Code::Unregistered)) => Outcome::Gone,
        (400, _) if error.is_about_the_token() => Outcome::Gone,
        (401, code) if code != Some(Code::ThirdPartyAuthError) => {
            return Answer::AccessTokenRefused;
        }
        (413, _) => Outcome::TooLarge,
        (429, _) => Outcome::Retry { after: after.or(Some(QUOTA_WAIT)), reason },
        (408 | 500..=599, _) => Outcome::Retry { after, reason },
        _ => Outcome::Rejected { reason },
    })
}
