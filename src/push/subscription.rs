//! The two kinds of device address, parsed once at the edge and valid ever after.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::outbound::EndpointPolicy;

/// The longest endpoint taken, in bytes. Those of the great push services have 150 to 600.
const MAX_ENDPOINT_BYTES: usize = 2048;
/// The longest registration token taken, in bytes. Google's have about 160 and promise nothing.
const MAX_FCM_TOKEN_BYTES: usize = 4096;

/// base64url as browsers and libraries write it: with or without padding.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which field of what a client sent is unusable, and why: for the `details` of
/// `validation_failed`. Neither part quotes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldProblem {
    /// `endpoint`, `p256dh`, `auth` or `token`.
    pub field: &'static str,
    pub problem: &'static str,
}

/// A browser's push subscription. The endpoint is a capability (who knows it can send), `auth` a
/// shared secret: `Debug` shows neither, and the accessors are for storage.
#[derive(Clone)]
pub struct Subscription {
    endpoint: Url,
    p256dh: String,
    auth: SecretString,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription(…)")
    }
}

impl Subscription {
    /// Takes what `PushSubscription.toJSON()` gives in the browser.
    ///
    /// Refused: an endpoint over 2,048 bytes, that `policy` refuses, or with a user name or
    /// password in it; a `p256dh` that is not the 65 bytes of an uncompressed point on P-256; an
    /// `auth` that is not 16 bytes (RFC 8291 §2, §3). Both keys are base64url with or without
    /// padding. The check costs a key agreement.
    pub fn parse(
        endpoint: &str,
        p256dh: &str,
        auth: &str,
        policy: EndpointPolicy,
    ) -> Result<Self, FieldProblem> {
        let endpoint = parse_endpoint(endpoint, policy)
            .map_err(|problem| FieldProblem { field: "endpoint", problem })?;
        let wrong = |field, problem| FieldProblem { field, problem };
        let point = BASE64URL.decode(p256dh).map_err(|_| wrong("p256dh", "must be base64url"))?;
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(wrong("p256dh", "must be 65 bytes, an uncompressed P-256 point"));
        }
        let secret = BASE64URL.decode(auth).map_err(|_| wrong("auth", "must be base64url"))?;
        if secret.len() != 16 {
            return Err(wrong("auth", "must be 16 bytes"));
        }
        let encode = |bytes| general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let subscription = Self { endpoint, p256dh: encode(point), auth: encode(secret).into() };
        // The encryption is what knows the curve: it refuses a point that is not on it.
        super::web_push::encrypt(&subscription, b"-", None)
            .map_err(|_| wrong("p256dh", "must be a point on the curve P-256"))?;
        Ok(subscription)
    }

    /// The push resource's URL, normalised (host in lower case, no fragment). Secret.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    /// The browser's public key: base64url without padding of the uncompressed point.
    pub fn p256dh(&self) -> &str {
        &self.p256dh
    }

    /// The authentication secret: base64url without padding of 16 bytes. Secret.
    pub fn auth(&self) -> &str {
        self.auth.expose_secret()
    }

    pub(super) fn url(&self) -> &Url {
        &self.endpoint
    }
}

fn parse_endpoint(endpoint: &str, policy: EndpointPolicy) -> Result<Url, &'static str> {
    if endpoint.len() > MAX_ENDPOINT_BYTES {
        return Err("must have at most 2048 characters");
    }
    let mut url = Url::parse(endpoint).map_err(|_| "must be a URL")?;
    if let Some(problem) = policy.problem(&url) {
        return Err(problem);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password");
    }
    url.set_fragment(None);
    Ok(url)
}

/// An app installation's FCM registration token. Secret: `Debug` hides it.
#[derive(Debug, Clone)]
pub struct FcmToken(SecretString);

impl FcmToken {
    /// Refuses what cannot be one: empty, over 4,096 bytes, or anything but visible ASCII. Only
    /// Google knows the rest.
    pub fn parse(token: &str) -> Result<Self, FieldProblem> {
        let wrong = |problem| FieldProblem { field: "token", problem };
        if token.is_empty() || token.len() > MAX_FCM_TOKEN_BYTES {
            return Err(wrong("must have 1 to 4096 characters"));
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("must be visible ASCII characters"));
        }
        Ok(Self(token.into()))
    }

    /// The token itself, for storage and the request. Secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}
