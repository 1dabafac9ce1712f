//! The application server's key pair (VAPID, RFC 8292): P-256, made once per deployment.
//! Changing it orphans every subscription made with the old one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::TryRngCore;
use secrecy::{ExposeSecret, SecretString};
use web_push::{PartialVapidSignatureBuilder, VapidSignatureBuilder};

use super::SetupError;
use super::subscription::BASE64URL;

const SEC1_BEGIN: &str = "-----BEGIN EC PRIVATE KEY-----";
const SEC1_END: &str = "-----END EC PRIVATE KEY-----";
/// prime256v1 (1.2.840.10045.3.1.7) as DER.
const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A fresh key pair as `hub vapid` prints it.
#[derive(Debug, Clone)]
pub struct VapidPair {
    /// base64url without padding of the 65-byte uncompressed point: `applicationServerKey`.
    pub public_key: String,
    /// base64url without padding of the 32-byte scalar, the form of most Web Push libraries.
    pub private_key: SecretString,
}

/// A loaded key pair, ready to sign. `Debug` shows the public half.
#[derive(Clone)]
pub struct VapidKeys {
    signer: PartialVapidSignatureBuilder,
    public_key: String,
}

impl fmt::Debug for VapidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VapidKeys").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl VapidKeys {
    /// Makes a pair from 32 bytes of the operating system's randomness (drawn again in the 2^-32
    /// case that they are no scalar of P-256).
    ///
    /// # Errors
    /// Only if the operating system has no randomness to give.
    pub fn generate() -> Result<VapidPair, std::io::Error> {
        loop {
            let mut scalar = [0_u8; 32];
            rand::rngs::OsRng.try_fill_bytes(&mut scalar).map_err(std::io::Error::other)?;
            let private_key = SecretString::from(URL_SAFE_NO_PAD.encode(scalar));
            if let Ok(keys) = Self::load(&private_key) {
                return Ok(VapidPair { public_key: keys.public_key, private_key });
            }
        }
    }

    /// Loads a private key: base64url (32 bytes, padded or not), or PEM (`PRIVATE KEY`, or the
    /// `EC PRIVATE KEY` that `openssl ecparam -genkey` writes).
    ///
    /// # Errors
    /// [`SetupError::VapidKey`] for anything else, other curves included.
    pub fn load(private_key: &SecretString) -> Result<Self, SetupError> {
        let text = private_key.expose_secret().trim();
        let signer = if text.contains(SEC1_BEGIN) {
            from_scalar(&sec1_scalar(text).ok_or(SetupError::VapidKey)?)
        } else if text.starts_with("-----BEGIN") {
            VapidSignatureBuilder::from_pem_no_sub(text.as_bytes())
                .map_err(|_| SetupError::VapidKey)
        } else {
            from_scalar(&BASE64URL.decode(text).map_err(|_| SetupError::VapidKey)?)
        }?;
        let public_key = URL_SAFE_NO_PAD.encode(signer.get_public_key());
        Ok(Self { signer, public_key })
    }

    /// base64url without padding of the 65-byte uncompressed point, for browsers.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    pub(super) fn signer(&self) -> PartialVapidSignatureBuilder {
        self.signer.clone()
    }
}

/// The crate below panics on another length, so that is settled here.
fn from_scalar(scalar: &[u8]) -> Result<PartialVapidSignatureBuilder, SetupError> {
    if scalar.len() != 32 {
        return Err(SetupError::VapidKey);
    }
    VapidSignatureBuilder::from_base64_no_sub(&URL_SAFE_NO_PAD.encode(scalar))
        .map_err(|_| SetupError::VapidKey)
}

/// The scalar of an ECPrivateKey (RFC 5915 §3): SEQUENCE, version 1, OCTET STRING of 32 bytes;
/// the curve must be named. The crate's own reader takes any curve and panics on some.
fn sec1_scalar(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(SEC1_BEGIN)?;
    let (body, _) = rest.split_once(SEC1_END)?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    let fields = der.strip_prefix(&[0x30])?.get(1..)?;
    let (scalar, rest) =
        fields.strip_prefix(&[0x02, 0x01, 0x01, 0x04, 0x20])?.split_at_checked(32)?;
    rest.windows(P256_OID.len()).any(|window| window == P256_OID).then(|| scalar.to_vec())
}
