//! Stops the server of a hub that was killed.
//!
//! A shell holds the read end of a pipe whose write end only the hub has. When the hub is gone,
//! however it went, the shell reads the end of the file, waits for the grace period, and stops the
//! server if it gets `server.lock`. A new hub takes that lock before it looks for a server and
//! keeps it, so either the watchdog finds it taken and goes, or the hub waits until the server is
//! down and starts its own. A server in use is never stopped. (Where flock(1) is missing, as on macOS,
//! the script asks for the new hub's process instead, and a hub that starts in the same
//! millisecond may lose its server.)

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Child;

use super::error::{StartError, io_error};
use super::layout::Layout;
use super::{identity, log};

const SCRIPT: &str = include_str!("watchdog.sh");
/// Somewhat more than what the script allows a server to take: 30 s clean, 10 s hard.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(45);

/// Lives as long as the hub; the pipe closes with it.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Runs as the hub's user, who may signal the server and read the lock.
    pub(super) fn spawn(
        layout: &Layout,
        lock_file: &Path,
        grace: Duration,
    ) -> Result<Self, StartError> {
        let shell = Path::new("/bin/sh");
        identity::command(shell, None)
            // By the environment, so that `ps` shows one short line.
            .env("WATCHDOG", SCRIPT)
            .args(["-c", r#"eval "$WATCHDOG""#, "klear-karma-watchdog"])
            .arg(&layout.cluster)
            .arg(lock_file)
            .arg(grace.as_secs_f32().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log::open(&layout.log)?)
            .spawn()
            .map(Self)
            .map_err(io_error("run", shell))
    }

    /// Ends the watchdog; the server is down.
    pub(super) async fn dismiss(&mut self) {
        // Fails only when it has ended already.
        _ = self.0.kill().await;
    }
}
