//! What both senders need of HTTP: a client with bounds, and how to read an answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;

use super::address::{NotPublic, PublicResolver};
use super::{Outcome, SetupError};

/// The most of an answer that is read. Services answer with nothing or some hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// No service's `Retry-After` may hold a message longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that follows no redirects and uses no proxy of the environment (through one, the
/// addresses would be chosen out of our sight). `timeout` bounds one request from name
/// resolution to the end of the answer. With `public_only` it speaks https to public addresses
/// and nothing else, except that a literal address in the URL is the caller's to check.
pub(super) fn client(timeout: Duration, public_only: bool) -> Result<reqwest::Client, SetupError> {
    // reqwest takes the process's provider and panics without one; installed already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent("klear-karma-hub")
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(8);
    if public_only {
        builder = builder.https_only(true).dns_resolver(Arc::new(PublicResolver));
    }
    builder.build().map_err(|_| SetupError::HttpClient)
}

/// What no answer at all means. The error's own text is not used: it contains the URL.
pub(super) fn no_answer(error: &reqwest::Error) -> Outcome {
    if has_cause::<NotPublic>(error) {
        Outcome::rejected("the endpoint's name resolves to no public address")
    } else if error.is_builder() {
        Outcome::rejected("the request could not be built")
    } else if error.is_timeout() {
        Outcome::retry("timeout")
    } else if error.is_connect() {
        Outcome::retry("no connection")
    } else {
        Outcome::retry("the connection ended before the answer")
    }
}

fn has_cause<E: Error + 'static>(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
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
