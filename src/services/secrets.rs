//! Secrets that are handed out once and stored as hashes: a stolen database opens nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// 256 random bits as base64url, from the operating system.
pub(super) fn random_token() -> Result<SecretString> {
    let mut bytes = [0u8; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| Error::Fault(format!("no randomness: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// What is stored of a secret. It has 256 random bits, so that no slower hash is needed, and whoever
/// looks it up by this learns nothing from how long that takes.
pub(super) fn hash_of(secret: &SecretString) -> Vec<u8> {
    Sha256::digest(secret.expose_secret().as_bytes()).to_vec()
}
