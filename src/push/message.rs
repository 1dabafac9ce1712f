//! What is sent, cut to the size every push service takes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The most a message may weigh as JSON, before encryption, in bytes.
///
/// RFC 8291 §4 lets 3,993 bytes through a push service's guaranteed 4,096; the `web-push` crate
/// refuses more than 3,052, and that smaller figure is used for FCM (4,096) too, so that a message
/// reads the same on every device.
pub const MAX_PAYLOAD_BYTES: usize = 3052;

/// The longest time to live both kinds of service take, in seconds: 28 days.
pub const MAX_TTL_SECONDS: u32 = 2_419_200;

/// What ends a shortened body.
const ELLIPSIS: &str = "…";

/// How soon a sleeping device should be woken for a message (RFC 8030 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// On power and Wi-Fi: advertisements.
    VeryLow,
    /// On power or Wi-Fi: topic updates.
    Low,
    /// On neither: chat messages, calendar changes.
    Normal,
    /// Low battery: calls, time-sensitive alerts.
    High,
}

impl Urgency {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// One notification for one person. `Debug` shows neither title, body nor data.
///
/// Web Push delivers it to the service worker as the JSON object
/// `{"id", "title", "body", "data": {…}}`; FCM as `notification` with `data` plus `"id"`.
#[derive(Clone, PartialEq, Eq)]
pub struct PushMessage {
    /// Stable over every attempt and device, so that a device shows the message once: a service
    /// worker uses it as the notification's `tag`, Android as `tag`, iOS as `apns-collapse-id`;
    /// as `Topic` it replaces an earlier attempt still waiting at the push service.
    pub id: String,
    pub title: String,
    /// Shortened with "…" where the whole exceeds [`MAX_PAYLOAD_BYTES`]; nothing else is.
    pub body: String,
    /// For the app, e.g. what to open. FCM refuses the keys `from`, `message_type` and those
    /// starting with `google` or `gcm`; `id` is overwritten by ours there.
    pub data: BTreeMap<String, String>,
    /// Seconds a push service may keep the message for a device that is offline; 0: deliver now
    /// or never. More than [`MAX_TTL_SECONDS`] counts as that.
    pub ttl_seconds: u32,
    pub urgency: Urgency,
}

impl fmt::Debug for PushMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushMessage")
            .field("id", &self.id)
            .field("ttl_seconds", &self.ttl_seconds)
            .field("urgency", &self.urgency)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    id: &'a str,
    title: &'a str,
    body: &'a str,
    data: &'a BTreeMap<String, String>,
}

/// The message does not fit even with an empty body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoesNotFit;

impl PushMessage {
    pub(super) fn ttl(&self) -> u32 {
        self.ttl_seconds.min(MAX_TTL_SECONDS)
    }

    /// The id as a Web Push `Topic` (RFC 8030 §5.4: at most 32 characters of the base64url
    /// alphabet): itself where it qualifies, else 192 bits of its SHA-256.
    pub(super) fn topic(&self) -> Cow<'_, str> {
        let qualifies = (1..=32).contains(&self.id.len())
            && self.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if qualifies {
            return Cow::Borrowed(&self.id);
        }
        let digest = Sha256::digest(self.id.as_bytes());
        let mut topic = URL_SAFE_NO_PAD.encode(digest);
        topic.truncate(32);
        Cow::Owned(topic)
    }

    /// The JSON a service worker receives, never empty and never above [`MAX_PAYLOAD_BYTES`].
    pub(super) fn payload(&self) -> Result<Vec<u8>, DoesNotFit> {
        let body = self.fitted_body()?;
        self.json(&body)
    }

    /// The body, shortened at a character boundary until the whole message fits.
    pub(super) fn fitted_body(&self) -> Result<Cow<'_, str>, DoesNotFit> {
        let budget = MAX_PAYLOAD_BYTES.checked_sub(self.json("")?.len()).ok_or(DoesNotFit)?;
        if self.body.chars().map(json_len).sum::<usize>() <= budget {
            return Ok(Cow::Borrowed(&self.body));
        }
        let Some(mut left) = budget.checked_sub(ELLIPSIS.len()) else {
            return Ok(Cow::Borrowed(""));
        };
        let mut short: String = self
            .body
            .chars()
            .take_while(|&c| match left.checked_sub(json_len(c)) {
                Some(rest) => {
                    left = rest;
                    true
                }
                None => false,
            })
            .collect();
        short.push_str(ELLIPSIS);
        Ok(Cow::Owned(short))
    }

    fn json(&self, body: &str) -> Result<Vec<u8>, DoesNotFit> {
        // Strings and a map of strings always serialise; the error has no other meaning here.
        serde_json::to_vec(&Payload { id: &self.id, title: &self.title, body, data: &self.data })
            .map_err(|_| DoesNotFit)
    }
}

/// Bytes `c` takes inside a JSON string as serde_json writes it.
fn json_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: &str, body: &str) -> PushMessage {
        PushMessage {
            id: id.into(),
            title: "Booking confirmed".into(),
            body: body.into(),
            data: BTreeMap::from([("open".into(), "/bookings/1".into())]),
            ttl_seconds: u32::MAX,
            urgency: Urgency::Normal,
        }
    }

    #[test]
    fn topic_is_short_and_stable() {
        assert_eq!(message("reminder-24h_1", "").topic(), "reminder-24h_1");
        for id in ["", "0190c9c2-7a5e-7e39-9f54-3c1f2b0a9d11", "a b", "ä"] {
            let topic = message(id, "x").topic().into_owned();
            assert_eq!(topic.len(), 32);
            assert_eq!(topic, message(id, "y").topic());
            assert!(topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        }
    }

    #[test]
    fn a_title_that_leaves_no_room_does_not_fit() {
        let mut m = message("1", "hello");
        m.title = "x".repeat(MAX_PAYLOAD_BYTES);
        assert_eq!(m.payload(), Err(DoesNotFit));
    }

    #[test]
    fn debug_and_ttl() {
        let m = message("n1", "secret words");
        assert!(!format!("{m:?}").contains("secret"));
        assert_eq!(m.ttl(), MAX_TTL_SECONDS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever the body: the payload fits, is the body or a prefix with "…", and no
        /// character more would have fitted.
        #[test]
        fn body_is_cut_as_late_as_possible(
            body in proptest::collection::vec(
                prop_oneof![any::<char>(), Just('"'), Just('\u{1}'), Just('é'), Just('😀')],
                0..3500,
            )
        ) {
            let body: String = body.into_iter().collect();
            let m = message("1", &body);
            let payload = m.payload().unwrap();
            prop_assert!(payload.len() <= MAX_PAYLOAD_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let sent = json["body"].as_str().unwrap();
            if sent != body {
                let kept = sent.strip_suffix(ELLIPSIS).unwrap();
                prop_assert!(body.starts_with(kept));
                let next = body[kept.len()..].chars().next().unwrap();
                prop_assert!(payload.len() + json_len(next) > MAX_PAYLOAD_BYTES);
            }
        }
    }
}
