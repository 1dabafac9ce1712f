//! Keys that nobody configured: made once, kept in the data directory, readable by the hub alone.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use secrecy::{ExposeSecret, SecretString};

use super::StartError;
use crate::config::{Config, ConfigError};
use crate::push::VapidKeys;

/// Refuses to make up a secret that signs access tokens for a database that the operator has
/// chosen: they have several nodes in mind, which must share it.
pub(super) fn check(config: &Config) -> Result<(), StartError> {
    if config.database.url.is_some() && config.auth.jwt_secret.is_none() {
        let allowed = "set together with DATABASE_URL, to at least 32 bytes that all nodes share";
        return Err(ConfigError::new("JWT_SECRET", allowed).into());
    }
    Ok(())
}

/// The secret that signs access tokens.
pub(super) fn jwt_secret(config: &Config) -> Result<SecretString, StartError> {
    check(config)?;
    if let Some(secret) = &config.auth.jwt_secret {
        return Ok(secret.clone());
    }
    kept(config, "jwt.secret", || {
        let mut bytes = [0u8; 48];
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|e| io("no randomness", std::io::Error::other(e)))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes).into())
    })
}

/// The private key that signs Web Pushes. Browsers' subscriptions are bound to it.
pub(super) fn vapid_private_key(config: &Config) -> Result<SecretString, StartError> {
    if let Some(key) = &config.push.vapid_private_key {
        return Ok(key.clone());
    }
    kept(config, "vapid.key", || {
        Ok(VapidKeys::generate().map_err(|e| io("no VAPID key", e))?.private_key)
    })
}

pub(super) fn io(what: &str, cause: std::io::Error) -> StartError {
    StartError::Io { what: what.to_owned(), cause }
}

/// The key in the file `name`, made now if it is not there.
fn kept(
    config: &Config,
    name: &str,
    make: impl FnOnce() -> Result<SecretString, StartError>,
) -> Result<SecretString, StartError> {
    let dir = config.database.data_dir.join("keys");
    let path = dir.join(name);
    let failed = |cause| io(&path.display().to_string(), cause);
    match fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned().into()),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let key = make()?;
    fs::create_dir_all(&dir).map_err(failed)?;
    // Written whole or not at all: a hub killed in between leaves no half key.
    let draft = dir.join(format!("{name}.draft"));
    write_private(&draft, key.expose_secret()).map_err(failed)?;
    fs::rename(&draft, &path).map_err(failed)?;
    Ok(key)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}
