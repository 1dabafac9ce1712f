//! The push port: one message to one device, through Web Push or Firebase Cloud Messaging.
//!
//! [`Push::send`] makes a single attempt and says in [`Outcome`] what the caller does next; when
//! to send, to whom, and how often to try again is the outbox's business, not this module's. It
//! stores nothing and logs nothing: endpoints, registration tokens, keys and message texts never
//! leave it except towards the push service, and every `reason` is free of them. The module uses
//! nothing of the crate but the port `outbound`. There is no fake beside the real senders: tests, tour and demo run a push
//! service of their own on loopback (`tests/it/support/push_receiver.rs`).
//!
//! Two HTTP clients with different trust: the Web Push one goes where users point it and therefore
//! only to public addresses ([`EndpointPolicy`]); the FCM one goes where the operator points it.

mod fcm;
mod fcm_answer;
mod google_token;
mod http;
mod message;
mod subscription;
mod vapid;
mod web_push;

use std::time::Duration;

pub use self::fcm::{Fcm, FcmConfig};
pub use self::message::{MAX_PAYLOAD_BYTES, MAX_TTL_SECONDS, PushMessage, Urgency};
pub use self::subscription::{FcmToken, FieldProblem, Subscription};

pub use self::vapid::{VapidKeys, VapidPair};
pub use self::web_push::{WebPush, WebPushConfig};
pub use crate::outbound::EndpointPolicy;

/// Where a message goes: one device. Both kinds hide their secrets in `Debug`.
#[derive(Debug, Clone)]
pub enum Target {
    /// A browser's `PushSubscription` (W3C Push API).
    WebPush(Subscription),
    /// An app installation registered with Firebase Cloud Messaging.
    Fcm(FcmToken),
}

/// What became of one attempt, and so what the caller does with the device and the message.
///
/// Web Push (RFC 8030, 8291, 8292), by the push service's status:
///
/// | answer | outcome |
/// |---|---|
/// | 2xx (201 by the RFC; 200, 202, 204 in the field) | `Delivered` |
/// | 404, 410 | `Gone` |
/// | 413 | `TooLarge` |
/// | 408, 425, 429, 5xx; 406 (Windows' throttling) | `Retry`, after `Retry-After` if it was given |
/// | timeout, no connection, TLS failure, name not found | `Retry` |
/// | 400, 401, 403 (VAPID or header misconfiguration), any other 3xx or 4xx | `Rejected` |
/// | a name that resolves to no public address, see [`EndpointPolicy`] | `Rejected`, nothing sent |
///
/// FCM HTTP v1, by status and `errorCode` of the `FcmError` detail:
///
/// | answer | outcome |
/// |---|---|
/// | 200 | `Delivered` |
/// | 404 `UNREGISTERED` | `Gone` |
/// | 404 without it (wrong project or base URL) | `Rejected`: every device would be forgotten |
/// | 400 `INVALID_ARGUMENT` whose field is `message.token` | `Gone` |
/// | 400 `INVALID_ARGUMENT` about anything else | `Rejected` |
/// | 401 `THIRD_PARTY_AUTH_ERROR` (APNs or Web Push key missing at Firebase) | `Rejected` |
/// | 401 otherwise | the access token is dropped, one more try; then `Rejected` |
/// | 403 (`SENDER_ID_MISMATCH`, permission) | `Rejected`: as likely our wrong project as a stale token |
/// | 413 | `TooLarge` |
/// | 429 `QUOTA_EXCEEDED` | `Retry`, after `Retry-After` or else the 60 s Google asks for |
/// | 500 `INTERNAL`, 503 `UNAVAILABLE`, other 5xx, timeouts, no connection, no access token | `Retry` |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The push service took responsibility for the message. It may still expire undelivered.
    Delivered,
    /// The device will never be reachable under this address again: forget it.
    Gone,
    /// Try again later; keep message and device.
    Retry {
        /// The wait the service asked for (`Retry-After`, at most 24 h). `None`: the caller's own
        /// backoff.
        after: Option<Duration>,
        /// For the log: free of addresses, tokens and content.
        reason: String,
    },
    /// This message will not be accepted however often it is sent; the device may be fine.
    Rejected {
        /// For the log and the operator: free of addresses, tokens and content.
        reason: String,
    },
    /// Even without its body the message exceeds [`MAX_PAYLOAD_BYTES`], or the service said so.
    TooLarge,
}

impl Outcome {
    fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into() }
    }

    fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }
}

/// Why a sender could not be set up. Each names the setting; none prints its value.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "the VAPID private key is neither 32 bytes of base64url in the range of P-256 nor a P-256 PEM (PKCS#8 or SEC1)"
    )]
    VapidKey,
    #[error("the VAPID subject must be a `mailto:` or `https:` address (RFC 8292 §2.1)")]
    VapidSubject,
    #[error(
        "the FCM service account is not usable: a JSON key file with client_email, token_uri and an RSA private_key of at least 2048 bits is needed, and system root certificates: {0}"
    )]
    ServiceAccount(&'static str),
    #[error("the FCM project is missing, or has other characters than a-z, 0-9, `-`, `.` and `:`")]
    FcmProject,
    #[error("the FCM base URL is not an http(s) URL")]
    FcmBaseUrl,
    #[error("the HTTP client could not be built (are system root certificates installed?)")]
    HttpClient,
}

/// The port: routes a message to the sender its target needs. Cheap to share behind an `Arc`.
#[derive(Debug, Default)]
pub struct Push {
    web_push: Option<WebPush>,
    fcm: Option<Fcm>,
}

impl Push {
    /// A port with the given senders. A target whose sender is `None` is answered `Rejected`.
    pub fn new(web_push: Option<WebPush>, fcm: Option<Fcm>) -> Self {
        Self { web_push, fcm }
    }

    /// What browsers need as `applicationServerKey`: base64url of the uncompressed P-256 point.
    /// `None` when Web Push is not configured.
    pub fn vapid_public_key(&self) -> Option<&str> {
        self.web_push.as_ref().map(WebPush::public_key)
    }

    /// Sends `message` to `target`, once (see [`Outcome`] for the one exception). Takes no longer
    /// than the sender's timeout, plus the fetching of an access token for FCM.
    pub async fn send(&self, target: &Target, message: &PushMessage) -> Outcome {
        match target {
            Target::WebPush(subscription) => match &self.web_push {
                Some(web_push) => web_push.send(subscription, message).await,
                None => Outcome::rejected("Web Push is not configured"),
            },
            Target::Fcm(token) => match &self.fcm {
                Some(fcm) => fcm.send(token, message).await,
                None => Outcome::rejected("FCM is not configured"),
            },
        }
    }
}
