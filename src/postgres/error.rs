//! What can go wrong around the private server, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no private server, or none any more. Nothing keeps running after one of these, except a server whose
/// watchdog stops it within seconds.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "PostgreSQL's server programs (`postgres`, `initdb`) were not found on PATH, by pg_config, \
         or in the usual places. Install them (Debian, Ubuntu: apt-get install postgresql; \
         Fedora: dnf install postgresql-server postgresql-contrib; Alpine: apk add postgresql \
         postgresql-contrib; macOS: brew install postgresql), or set HUB_PG_BIN to the directory \
         they are in, or set DATABASE_URL to a PostgreSQL that is already running"
    )]
    NotInstalled,

    #[error(
        "{} does not hold a working PostgreSQL (`postgres` and `initdb`). Correct HUB_PG_BIN, or \
         unset it and the hub looks in the usual places",
        .0.display()
    )]
    BadBinDir(PathBuf),

    #[error(
        "the data in {} were made by PostgreSQL {made_by}, but what is installed is {installed}. \
         Install PostgreSQL {made_by} beside it (Debian: apt-get install postgresql-{made_by}) or \
         point HUB_PG_BIN at it; or move the data over with pg_upgrade",
        cluster.display()
    )]
    IncompatibleVersion { cluster: PathBuf, made_by: u32, installed: String },

    #[error(
        "another hub{} is running on {}. Stop it first, or give this one a data directory of its \
         own",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        data_dir.display()
    )]
    AnotherHub { data_dir: PathBuf, pid: Option<u32> },

    #[error(
        "a watchdog of an earlier hub has been stopping the old server for more than {0:?}. See \
         whether a `postgres` of this data directory hangs, and end it"
    )]
    OldServerStopping(Duration),

    #[error(
        "the hub runs as root, PostgreSQL refuses to, and this machine has neither a user \
         `postgres` nor `nobody` to run it as. Create one: useradd --system postgres"
    )]
    NoServerUser,

    #[error(
        "{} belongs to user id {owner}, the hub runs as user id {hub}. Run the hub as that user \
         (or as root), or hand the directory over: chown -R {hub} <directory>",
        path.display()
    )]
    WrongOwner { path: PathBuf, owner: u32, hub: u32 },

    #[error(
        "user id {uid}, which PostgreSQL has to run as, cannot enter {}. Open the directories \
         above it (chmod o+x), or move the data directory",
        path.display()
    )]
    Unreachable { path: PathBuf, uid: u32 },

    #[error(
        "{} points to {}, which does not exist. Bring that directory back (is a volume missing?), \
         or remove the link to begin with an empty database",
        link.display(), target.display()
    )]
    DanglingLink { link: PathBuf, target: PathBuf },

    #[error("{} should be a directory of the hub's own, but another user made it. Remove it", .0.display())]
    Stranger(PathBuf),

    #[error("initdb could not make the database cluster:\n{output}")]
    Initdb { output: String },

    #[error("PostgreSQL ended while starting ({status}). From {}:\n{tail}", log.display())]
    Ended { status: String, log: PathBuf, tail: String },

    #[error(
        "PostgreSQL did not answer within {limit:?}. {} may say why",
        log.display()
    )]
    NotReady { limit: Duration, log: PathBuf },

    #[error(
        "PostgreSQL has ended {times} times within {within:?} by itself, and is not started again. {} \
         and the system's log (out of memory?) may say why",
        log.display()
    )]
    KeepsEnding { times: usize, within: Duration, log: PathBuf },

    #[error(transparent)]
    OldServerStays(#[from] StopError),

    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },

    #[error("the program is shutting down")]
    Interrupted,
}

/// The server outlived every signal.
#[derive(Debug, thiserror::Error)]
#[error(
    "PostgreSQL (process {pid}) does not end, not even by SIGKILL: it waits for the disk, or \
     belongs to another user. Look at it with `ps -o stat,user,wchan -p {pid}`"
)]
pub struct StopError {
    pub pid: u32,
}

/// A database could not be looked up or created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the database \"{name}\" in the private PostgreSQL: {source}")]
pub struct DatabaseError {
    pub name: String,
    pub source: tokio_postgres::Error,
}

/// For `map_err`: puts what was tried, and on which path, to an I/O error.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Io { doing, path, source }
}
