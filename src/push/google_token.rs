//! The OAuth 2 access token for FCM: a service account's signed assertion (RFC 7523) exchanged at
//! the account's `token_uri`, kept until 20 s before it expires.
//!
//! `gcp_auth` signs and exchanges. It has no way to drop a token that was refused and no timeout,
//! so the cache is ours and each exchange uses a fresh account object. Between its own attempts it
//! logs (target `gcp_auth`, WARN) the body of a refused exchange: Google's error, no secret.

use std::sync::Arc;
use std::time::Duration;

use gcp_auth::{CustomServiceAccount, Token, TokenProvider};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::SetupError;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// After a failed exchange everybody who asks within this time shares the failure instead of
/// waiting for one of their own.
const FAILURE_HOLDS: Duration = Duration::from_millis(500);

/// No token was to be had: token service down, slow, or not accepting the account.
#[derive(Debug)]
pub(super) struct NoToken;

#[derive(Debug)]
enum Cached {
    Nothing,
    Token(Arc<Token>),
    Failed(Instant),
}

#[derive(Debug)]
pub(super) struct AccessTokens {
    account_json: SecretString,
    timeout: Duration,
    /// Held during an exchange, so that there is one at a time.
    cached: Mutex<Cached>,
}

impl AccessTokens {
    /// Takes a service account's JSON key file; also returns the project named in it. Nothing is
    /// exchanged yet.
    pub(super) fn new(
        account_json: SecretString,
        timeout: Duration,
    ) -> Result<(Self, Option<String>), SetupError> {
        let project = account(&account_json)
            .map_err(|error| SetupError::ServiceAccount(what_failed(&error)))?
            .project_id()
            .map(ToOwned::to_owned);
        Ok((Self { account_json, timeout, cached: Mutex::new(Cached::Nothing) }, project))
    }

    /// A token with at least 20 s to live.
    pub(super) async fn get(&self) -> Result<Arc<Token>, NoToken> {
        let mut cached = self.cached.lock().await;
        match &*cached {
            Cached::Token(token) if !token.has_expired() => return Ok(token.clone()),
            Cached::Failed(at) if at.elapsed() < FAILURE_HOLDS => return Err(NoToken),
            Cached::Token(_) | Cached::Failed(_) | Cached::Nothing => {}
        }
        let exchanged = tokio::time::timeout(self.timeout, self.exchange()).await;
        if let Ok(Some(token)) = exchanged {
            *cached = Cached::Token(token.clone());
            Ok(token)
        } else {
            *cached = Cached::Failed(Instant::now());
            Err(NoToken)
        }
    }

    /// Drops `refused`, unless somebody else has already replaced it.
    pub(super) async fn forget(&self, refused: &Arc<Token>) {
        let mut cached = self.cached.lock().await;
        if matches!(&*cached, Cached::Token(token) if Arc::ptr_eq(token, refused)) {
            *cached = Cached::Nothing;
        }
    }

    async fn exchange(&self) -> Option<Arc<Token>> {
        account(&self.account_json).ok()?.token(&[SCOPE]).await.ok()
    }
}

fn account(json: &SecretString) -> Result<CustomServiceAccount, gcp_auth::Error> {
    CustomServiceAccount::from_json(json.expose_secret())
}

/// The part of the error that quotes nothing of the file.
fn what_failed(error: &gcp_auth::Error) -> &'static str {
    match error {
        gcp_auth::Error::Http(what, _)
        | gcp_auth::Error::Io(what, _)
        | gcp_auth::Error::Json(what, _)
        | gcp_auth::Error::Other(what, _)
        | gcp_auth::Error::Str(what) => what,
        gcp_auth::Error::NoAuthMethod(..) => "no account",
    }
}
