//! The hub's private PostgreSQL: what runs when no `DATABASE_URL` is given.
//!
//! [`start`] finds the distribution's server programs, makes a cluster below the data directory
//! once, and answers when the server takes connections on a unix socket that only the hub's and
//! the server's user can reach. There is no TCP port and no password. [`PrivatePostgres::stop`]
//! ends the server; a hub that dies instead leaves that to its [`watchdog`], unless a new hub
//! comes first and goes on using the running server.
//!
//! Two locks keep the hubs of one data directory apart. `hub.lock` is held for as long as a hub
//! lives, so the second one is refused. `server.lock` belongs to whoever may start or stop the
//! server: a living hub, or a dead hub's watchdog while it stops the server. Nobody looks at the
//! running server before holding it.

mod cluster;
mod error;
mod identity;
mod keeper;
mod layout;
mod lock;
mod log;
mod postmaster;
mod programs;
mod server;
mod session;
mod watchdog;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

pub use self::error::{DatabaseError, StartError, StopError};

/// The database role the hub connects as. It owns the cluster.
const ROLE: &str = "hub";
/// The port names the socket file (`.s.PGSQL.5432`); nothing listens on TCP.
const PORT: u16 = 5432;

/// What a private server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the cluster (`postgres/`), the socket (`run/`), the locks and `postgres.log`.
    /// Created when missing. One hub at a time.
    pub data_dir: PathBuf,
    /// Where `postgres` and `initdb` are; `None` looks in the usual places.
    pub bin_dir: Option<PathBuf>,
    /// `false` switches off every wait for the disk. A crash of the machine may then destroy the
    /// cluster: for tests only.
    pub durable: bool,
    /// Too low and a pool fails to connect; each connection in use costs the server some 5–10 MB.
    pub max_connections: u16,
    /// The server's page cache. Taken from memory as it fills, not at the start.
    pub shared_buffers_mb: u32,
    /// How long the server may take to answer. While it says that it is recovering from a crash, it
    /// is waited for however long that takes.
    pub start_timeout: Duration,
    /// How long [`PrivatePostgres::stop`] waits for a clean end (which writes a checkpoint) before
    /// it stops the server the hard way.
    pub stop_timeout: Duration,
    /// How long a server outlives a killed hub. Long enough for a restart to find it still up.
    pub orphan_grace: Duration,
    /// Further `postgresql.conf` settings; these win over the hub's own.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A durable server for `data_dir` with the defaults.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            durable: true,
            max_connections: 100,
            shared_buffers_mb: 128,
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(20),
            orphan_grace: Duration::from_secs(5),
            settings: Vec::new(),
        }
    }
}

/// A running server that this hub has to stop.
///
/// Dropped without [`stop`](Self::stop), it leaves the server to the watchdog, which stops it after
/// [`Options::orphan_grace`].
#[derive(Debug)]
pub struct PrivatePostgres {
    /// Held for as long as it is being stopped or started again.
    server: Arc<Mutex<server::Server>>,
    launch: Arc<server::Launch>,
    pid: AtomicU32,
    is_adopted: bool,
    watchdog: watchdog::Watchdog,
    sockets: PathBuf,
    stop_timeout: Duration,
    // The locks go last: fields drop in this order, and a new hub may only begin once we let go.
    _server_lock: lock::Lock,
    _hub_lock: lock::Lock,
}

/// Starts the private server of `options.data_dir`, or takes over the one a killed hub left there,
/// and returns when it takes connections.
///
/// Refuses when another hub has the data directory, when the server programs are missing or of
/// another major version than the data, and when the server does not come up; every message says
/// what to do.
pub async fn start(options: Options) -> Result<PrivatePostgres, StartError> {
    let began = Instant::now();
    let data_dir = options.data_dir.clone();
    let (data_dir, hub_lock) = blocking(move || {
        let data_dir = layout::open_data_dir(&data_dir)?;
        let hub_lock = lock::claim_for_hub(&data_dir)?;
        Ok((data_dir, hub_lock))
    })
    .await?;
    let lock_file = data_dir.join(lock::SERVER_LOCK);
    let server_lock = lock::wait_for_server(&lock_file, watchdog::LONGEST_STOP).await?;

    let layout = blocking(move || layout::resolve(&data_dir)).await?;
    let programs = cluster::prepare(&layout, options.bin_dir.clone(), options.durable).await?;
    let launch = server::Launch::new(&layout, &programs, &options);
    // Before the server, so that no moment is left in which a killed hub leaves it alone.
    let watchdog = watchdog::Watchdog::spawn(&layout, &lock_file, options.orphan_grace)?;
    let server = launch.bring_up().await?;
    tracing::info!(
        version = programs.version,
        cluster = %layout.cluster.display(),
        sockets = %layout.sockets.display(),
        pid = server.pid(),
        adopted = server.is_adopted(),
        milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the private PostgreSQL is ready"
    );
    Ok(PrivatePostgres {
        pid: AtomicU32::new(server.pid()),
        is_adopted: server.is_adopted(),
        server: Arc::new(Mutex::new(server)),
        launch: Arc::new(launch),
        watchdog,
        sockets: layout.sockets,
        stop_timeout: options.stop_timeout,
        _server_lock: server_lock,
        _hub_lock: hub_lock,
    })
}

impl PrivatePostgres {
    /// The connection URL of `database`, for tokio-postgres, diesel-async and psql alike: a unix
    /// socket's directory stands percent-encoded in the host's place (RFC 3986 section 2.1).
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(self.sockets.as_os_str().as_bytes());
        format!("postgresql://{ROLE}@{host}:{PORT}/{}", percent_encode(database.as_bytes()))
    }

    /// The directory of the socket, which psql takes as `-h`.
    pub fn socket_dir(&self) -> &Path {
        &self.sockets
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Acquire)
    }

    /// Whether the server was already running: left by a hub that was killed.
    pub fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// Creates the database `name`, owned by the hub's role. Returns whether it was missing; one
    /// that somebody else creates at the same moment counts as there.
    pub async fn create_database_if_missing(&self, name: &str) -> Result<bool, DatabaseError> {
        session::create_database(&self.sockets, name)
            .await
            .map_err(|source| DatabaseError { name: name.to_owned(), source })
    }

    /// Stops the server cleanly, or within seconds of `stop_timeout` the hard way, and ends the
    /// watchdog. Open connections are cut. The data directory is then free for another hub.
    pub async fn stop(mut self) -> Result<(), StopError> {
        let stopped = self.server.lock().await.stop(self.stop_timeout).await;
        // A server that would not stop stays the watchdog's: it tries again once we are gone.
        if stopped.is_ok() {
            self.watchdog.dismiss().await;
        }
        stopped
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StartError::Interrupted))
}

fn percent_encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encode;

    #[test]
    fn a_socket_directory_becomes_a_host() {
        assert_eq!(percent_encode("/tmp/a b:ü".as_bytes()), "%2Ftmp%2Fa%20b%3A%C3%BC");
    }
}
