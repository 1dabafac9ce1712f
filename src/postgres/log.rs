//! The server's log, `postgres.log` in the data directory.
//!
//! The hub opens it and the server inherits it, so the server's user needs no right to it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::error::{StartError, io_error};

/// At a start beyond this, the log becomes `postgres.log.1` and begins anew.
const MAX: u64 = 8 << 20;
const TAIL: u64 = 4 << 10;

pub(super) fn open(path: &Path) -> Result<File, StartError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(io_error("open", path))
}

pub(super) fn rotate(path: &Path) -> Result<(), StartError> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.len() > MAX) {
        fs::rename(path, path.with_extension("log.1")).map_err(io_error("rotate", path))?;
    }
    Ok(())
}

/// The end of what was logged since the file had `from` bytes.
pub(super) fn tail(path: &Path, from: u64) -> Result<String, StartError> {
    let mut log = File::open(path).map_err(io_error("open", path))?;
    let length = log.metadata().map_err(io_error("look at", path))?.len();
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))
        .and_then(|_| log.read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
