//! Web Push: RFC 8030 (the request), 8291 (encryption), 8292 (VAPID).
//!
//! The `web-push` crate encrypts and signs; request, answers and limits are ours. Its defaults are
//! not relied on: `aud` would lack the port, `sub` would be an example address.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use web_push::{
    ContentEncoding, SubscriptionInfo, VapidSignature, WebPushError, WebPushMessageBuilder,
    WebPushPayload,
};

use super::message::PushMessage;
use super::subscription::Subscription;
use super::vapid::VapidKeys;
use super::{Outcome, SetupError, http};
use crate::outbound::{self, EndpointPolicy};

/// How long a VAPID token is valid: half of the 24 h RFC 8292 §2 allows, so that clocks may differ.
const VAPID_VALIDITY: Duration = Duration::from_secs(12 * 3600);

/// What the Web Push sender needs.
#[derive(Debug, Clone)]
pub struct WebPushConfig {
    pub vapid: VapidKeys,
    /// Whom a push service writes to when something is wrong: a `mailto:` or `https:` address
    /// (RFC 8292 §2.1). Apple refuses messages without a real one.
    pub subject: String,
    pub endpoints: EndpointPolicy,
    /// For one whole request. Too short and slow services get messages twice (the device shows
    /// them once); too long and a stalled one keeps its worker. 10 s is a good start.
    pub timeout: Duration,
}

/// Sends to browsers. One per process: it keeps the connections.
#[derive(Debug)]
pub struct WebPush {
    client: reqwest::Client,
    vapid: VapidKeys,
    subject: String,
    endpoints: EndpointPolicy,
}

impl WebPush {
    /// # Errors
    /// A subject that is neither `mailto:` nor `https:`; no system root certificates.
    pub fn new(config: WebPushConfig) -> Result<Self, SetupError> {
        let WebPushConfig { vapid, subject, endpoints, timeout } = config;
        let named = |scheme| subject.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
        if !named("mailto:") && !named("https://") {
            return Err(SetupError::VapidSubject);
        }
        let client = outbound::client(timeout, endpoints).map_err(|_| SetupError::HttpClient)?;
        Ok(Self { client, vapid, subject, endpoints })
    }

    /// What browsers need as `applicationServerKey`: base64url of the uncompressed P-256 point.
    pub fn public_key(&self) -> &str {
        self.vapid.public_key()
    }

    /// One attempt; see [`Outcome`].
    pub async fn send(&self, subscription: &Subscription, message: &PushMessage) -> Outcome {
        if let Some(problem) = self.endpoints.problem(subscription.url()) {
            return Outcome::rejected(format!("the endpoint {problem}"));
        }
        let Ok(payload) = message.payload() else { return Outcome::TooLarge };
        let Some((headers, body)) = self.seal(subscription, message, &payload) else {
            return Outcome::rejected("the message could not be encrypted or signed");
        };
        let url = subscription.url().clone();
        match self.client.post(url).headers(headers).body(body).send().await {
            Ok(response) => read_answer(response).await,
            Err(error) => http::no_answer(&error),
        }
    }

    fn seal(
        &self,
        subscription: &Subscription,
        message: &PushMessage,
        payload: &[u8],
    ) -> Option<(HeaderMap, Vec<u8>)> {
        let signature = self.sign(subscription, Timestamp::now()).ok()?;
        let sealed = encrypt(subscription, payload, Some(signature)).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &sealed.crypto_headers {
            if name.eq_ignore_ascii_case(AUTHORIZATION.as_str()) {
                let mut value = HeaderValue::from_str(value).ok()?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
        headers.insert("ttl", HeaderValue::from(message.ttl()));
        headers.insert("urgency", HeaderValue::from_static(message.urgency.as_str()));
        headers.insert("topic", HeaderValue::from_str(&message.topic()).ok()?);
        Some((headers, sealed.content))
    }

    fn sign(&self, to: &Subscription, now: Timestamp) -> Result<VapidSignature, WebPushError> {
        let info = subscription_info(to);
        let mut token = self.vapid.signer().add_sub_info(&info);
        token.add_claim("aud", audience(to.url()));
        token.add_claim("sub", self.subject.as_str());
        token.add_claim("exp", now.as_second().saturating_add_unsigned(VAPID_VALIDITY.as_secs()));
        token.build()
    }
}

/// The push resource's origin (RFC 8292 §2), with its port unless that is the scheme's own
/// (RFC 6454 §6.2).
fn audience(endpoint: &Url) -> String {
    endpoint.origin().ascii_serialization()
}

fn subscription_info(subscription: &Subscription) -> SubscriptionInfo {
    SubscriptionInfo::new(subscription.endpoint(), subscription.p256dh(), subscription.auth())
}

/// Encrypts for the subscription's owner with a fresh key and salt (RFC 8291); fails on a
/// `p256dh` that is not on the curve, an empty or an oversized payload.
pub(super) fn encrypt(
    subscription: &Subscription,
    payload: &[u8],
    signature: Option<VapidSignature>,
) -> Result<WebPushPayload, WebPushError> {
    let info = subscription_info(subscription);
    let mut builder = WebPushMessageBuilder::new(&info);
    builder.set_payload(ContentEncoding::Aes128Gcm, payload);
    if let Some(signature) = signature {
        builder.set_vapid_signature(signature);
    }
    builder.build()?.payload.ok_or(WebPushError::InvalidCryptoKeys)
}

async fn read_answer(response: reqwest::Response) -> Outcome {
    let status = response.status();
    if status.is_success() {
        return Outcome::Delivered;
    }
    let after = http::retry_after(response.headers(), Timestamp::now());
    let mut reason = format!("the push service answered {}", status.as_u16());
    if let Some(code) = error_code(&http::bounded_body(response).await) {
        reason = format!("{reason} ({code})");
    }
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Gone,
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge,
        StatusCode::NOT_ACCEPTABLE
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Outcome::Retry { after, reason },
        status if status.is_server_error() => Outcome::Retry { after, reason },
        _ => Outcome::rejected(reason),
    }
}

/// The machine-readable word some services explain a refusal with: Apple's `reason`, Mozilla's
/// `errno`. Only a short word or number passes, so that nothing echoed by a service is logged.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Explanation {
        reason: Option<String>,
        errno: Option<u16>,
    }
    let explanation: Explanation = serde_json::from_slice(body).ok()?;
    let is_word = |word: &String| word.len() <= 40 && word.bytes().all(|b| b.is_ascii_alphabetic());
    explanation
        .reason
        .filter(is_word)
        .or_else(|| explanation.errno.map(|errno| format!("errno {errno}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audience_keeps_a_port_that_is_not_the_default() {
        for (endpoint, expected) in [
            ("https://push.example:8443/wpush/v2/abc?x=1", "https://push.example:8443"),
            ("https://push.example:443/a", "https://push.example"),
            ("http://[::1]:9000/a", "http://[::1]:9000"),
        ] {
            assert_eq!(audience(&endpoint.parse().unwrap()), expected);
        }
    }

    #[test]
    fn only_words_and_numbers_of_an_answer_are_repeated() {
        let code = |body: &str| error_code(body.as_bytes());
        assert_eq!(code(r#"{"reason":"BadJwtToken"}"#).as_deref(), Some("BadJwtToken"));
        assert_eq!(code(r#"{"code":401,"errno":109}"#).as_deref(), Some("errno 109"));
        assert_eq!(code(r#"{"reason":"https://push.example/secret"}"#), None);
        assert_eq!(code("<html>"), None);
    }
}
