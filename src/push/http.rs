//! What both senders need of HTTP: how to read an answer, or that there is none.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::Outcome;
use crate::outbound::NoAnswer;

/// The most of an answer that is read. Services answer with nothing or some hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// No service's `Retry-After` may hold a message longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What no answer at all means. The error's own text is not used: it contains the URL.
pub(super) fn no_answer(error: &reqwest::Error) -> Outcome {
    match NoAnswer::of(error) {
        NoAnswer::NotPublic => {
            Outcome::rejected("the endpoint's name resolves to no public address")
        }
        NoAnswer::NotBuilt => Outcome::rejected("the request could not be built"),
        why @ (NoAnswer::Timeout | NoAnswer::NoConnection | NoAnswer::Broken) => {
            Outcome::retry(why.words())
        }
    }
}

/// The wait an answer asks for, in seconds or as a date (RFC 9110 §10.2.3); a date in the past is
/// no wait, an unreadable value none at all.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        value.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        let wait: SignedDuration = at.duration_since(now);
        Duration::try_from(wait).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The answer's body, or its first 16 KiB. What cannot be read is left out: the status has
/// already decided.
pub(super) async fn bounded_body(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend(chunk.iter().take(room));
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(value: &str) -> Option<u64> {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("0"), Some(0));
        assert_eq!(wait("Sun, 01 Mar 2026 12:02:00 GMT"), Some(120));
        assert_eq!(wait("Sun, 01 Mar 2026 11:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999999999999999"), Some(86_400));
        assert_eq!(wait("Mon, 01 Mar 2027 12:00:00 GMT"), Some(86_400));
        assert_eq!(wait("-5"), None);
        assert_eq!(wait("soon"), None);
        assert_eq!(wait(""), None);
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
