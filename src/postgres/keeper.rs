//! Starts the server again when it has ended by itself: killed for memory, crashed, killed by hand.
//!
//! The hub's locks are kept all the while, so it is the same start as the first one; the hub
//! answers `unavailable` meanwhile. A server that keeps ending is given up.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::PrivatePostgres;
use super::error::StartError;

/// How often the server may end within [`WITHIN`] and is started again.
const RESTARTS: usize = 3;
const WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(250);

impl PrivatePostgres {
    /// Watches the server for as long as this is polled, and starts it again when it has ended.
    /// Returns when that fails, or when it has ended for the fourth time within ten minutes.
    pub async fn keep(&self) -> StartError {
        let mut ends: VecDeque<Instant> = VecDeque::new();
        loop {
            sleep(LOOK).await;
            let Some(how) = self.server.lock().await.fate() else { continue };
            ends.retain(|at| at.elapsed() < WITHIN);
            ends.push_back(Instant::now());
            if ends.len() > RESTARTS {
                let log = self.launch.log().to_owned();
                return StartError::KeepsEnding { times: ends.len(), within: WITHIN, log };
            }
            tracing::error!(
                pid = self.pid(),
                "the private PostgreSQL ended ({how}); restarting it"
            );
            match self.restart().await {
                Ok(()) => tracing::info!(pid = self.pid(), "the private PostgreSQL is ready again"),
                Err(error) => return error,
            }
        }
    }

    /// Goes on to its end even if nobody waits for it any more: a server that is half up would be
    /// nobody's to stop. [`stop`](Self::stop) waits for it.
    async fn restart(&self) -> Result<(), StartError> {
        let mut server = self.server.clone().lock_owned().await;
        let launch = self.launch.clone();
        let up = tokio::spawn(async move {
            *server = launch.bring_up().await?;
            Ok(server.pid())
        });
        let pid = up.await.unwrap_or(Err(StartError::Interrupted))?;
        self.pid.store(pid, Ordering::Release);
        Ok(())
    }
}
