//! The two lock files of a data directory; the module above says who holds which.
//!
//! `flock` locks die with their holder, so nothing is ever stale. Rust opens files close-on-exec:
//! no child of the hub carries a lock on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tokio::time::Instant;

use super::blocking;
use super::error::{StartError, io_error};

const HUB_LOCK: &str = "hub.lock";
pub(super) const SERVER_LOCK: &str = "server.lock";
const RETRY: Duration = Duration::from_millis(50);

/// Held until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// Takes the data directory for this process, and leaves the process id in the file for the next
/// hub's refusal to name.
pub(super) fn claim_for_hub(data_dir: &Path) -> Result<Lock, StartError> {
    let path = data_dir.join(HUB_LOCK);
    match try_lock(&path)? {
        Ok(mut held) => {
            held.set_len(0)
                .and_then(|()| held.rewind())
                .and_then(|()| writeln!(held, "{}", std::process::id()))
                .map_err(io_error("write", &path))?;
            Ok(Lock(held))
        }
        Err(mut file) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(StartError::AnotherHub { data_dir: data_dir.to_owned(), pid })
        }
    }
}

/// Waits for the right to start and stop the server. With `hub.lock` in hand the only other holder
/// can be a dead hub's watchdog, which is done with the server when it lets go.
pub(super) async fn wait_for_server(path: &Path, limit: Duration) -> Result<Lock, StartError> {
    let deadline = Instant::now() + limit;
    let mut told = false;
    loop {
        let owned = path.to_owned();
        if let Ok(held) = blocking(move || try_lock(&owned)).await? {
            return Ok(Lock(held));
        }
        if Instant::now() >= deadline {
            return Err(StartError::OldServerStopping(limit));
        }
        if !told {
            tracing::info!("waiting: an earlier hub's PostgreSQL is being stopped");
            told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The lock, or the open file when somebody else holds it.
fn try_lock(path: &Path) -> Result<Result<Flock<File>, File>, StartError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Root must not follow a link that the data directory's owner put here.
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(io_error("open", path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Ok(held)),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, errno)) => Err(io_error("lock", path)(errno.into())),
    }
}
