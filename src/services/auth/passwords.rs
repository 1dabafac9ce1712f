//! bcrypt, off the async threads and bounded.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// How long a request waits for its turn before the hub says that it is overloaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hashes and checks passwords.
#[derive(Clone)]
pub struct Passwords {
    cost: u32,
    turns: Arc<Semaphore>,
    /// A hash that no password has, checked when there is no account so that it takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// bcrypt with `cost` (12 as section 6.2 says; each step doubles the time), at most
    /// `at_once` at a time, which should be the number of cores.
    pub fn new(cost: u32, at_once: usize) -> Result<Self> {
        let nobody = bcrypt::hash(uuid::Uuid::new_v4().to_string(), cost)
            .map_err(|e| Error::Fault(format!("bcrypt: {e}")))?;
        Ok(Self { cost, turns: Arc::new(Semaphore::new(at_once.max(1))), nobody: nobody.into() })
    }

    /// The bcrypt hash of `password`.
    pub async fn hash(&self, password: &SecretString) -> Result<String> {
        let (password, cost) = (password.clone(), self.cost);
        self.in_turn(move || bcrypt::hash(password.expose_secret(), cost)).await
    }

    /// Whether `password` belongs to `hash`. Without a hash it is wrong, after the same work.
    pub async fn verify(&self, password: &SecretString, hash: Option<String>) -> Result<bool> {
        let password = password.clone();
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let matches = self.in_turn(move || bcrypt::verify(password.expose_secret(), &hash)).await?;
        Ok(matches && exists)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> bcrypt::BcryptResult<T> + Send + 'static,
    ) -> Result<T> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(Error::overloaded()) };
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
        .map_err(|e| Error::Fault(format!("bcrypt: {e}")))?
        .map_err(|e| Error::Fault(format!("bcrypt: {e}")))
    }
}
