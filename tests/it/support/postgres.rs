//! One PostgreSQL for the whole run, and a database per test, cloned from a migrated template.
//!
//! The server is the hub's own private one. It ends with the test process, however that ends: its
//! watchdog sees the pipe close. Its directory goes the same way: a run makes gigabytes of databases,
//! and a static is never dropped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use hub::models::migrations::{self, Direction};
use hub::postgres::{Options, PrivatePostgres, start};
use tokio::runtime::Runtime;

const TEMPLATE: &str = "template_hub";

struct Server {
    postgres: PrivatePostgres,
    log: PathBuf,
    runtime: Runtime,
    /// Holds the pipe whose end tells it to sweep.
    _sweeper: Child,
}

/// Waits for the end of the test process, then for the server's, and removes the directory.
const SWEEP: &str = r#"
cat > /dev/null
tries=0
while [ -e "$1/postgres/postmaster.pid" ] && [ $tries -lt 300 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
rm -rf "$1"
"#;

static SERVER: OnceLock<Server> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(1);

fn server() -> &'static Server {
    // In a thread of its own: the caller's is driving a runtime already.
    SERVER.get_or_init(|| std::thread::spawn(start_server).join().unwrap())
}

fn start_server() -> Server {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::Builder::new().prefix("hub-tests-").tempdir().unwrap().keep();
    let (sweeper, log) = (sweep_after_us(&dir), dir.join("postgres.log"));
    let mut options = Options::new(dir);
    options.durable = false;
    options.max_connections = 400;
    options.orphan_grace = Duration::ZERO;
    let postgres = runtime.block_on(async {
        let server = start(options).await.unwrap();
        server.create_database_if_missing(TEMPLATE).await.unwrap();
        let conn = AsyncPgConnection::establish(&server.url(TEMPLATE)).await.unwrap();
        migrations::run(conn, Direction::Up).await.unwrap();
        server
    });
    Server { postgres, log, runtime, _sweeper: sweeper }
}

/// In a group of its own, so that Ctrl-C does not end it before it has swept; with no output, so
/// that nobody who reads ours waits for it.
fn sweep_after_us(dir: &Path) -> Child {
    Command::new("/bin/sh")
        .args(["-c", SWEEP, "sweep"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Runs `work` on the runtime of the server, from a plain test or from a thread.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let server = server();
    std::thread::scope(|s| s.spawn(|| server.runtime.block_on(work)).join().unwrap())
}

/// The URL of a new database with every migration applied.
pub fn migrated() -> String {
    create(&format!("TEMPLATE {TEMPLATE}"))
}

/// The URL of a new database with nothing in it.
pub fn empty() -> String {
    create("TEMPLATE template0")
}

fn create(options: &str) -> String {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = server().postgres.url(&name);
    block_on(async {
        // One at a time: PostgreSQL refuses to clone a template that is in use, if only by a clone.
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = TURN.lock().await;
        let admin = server().postgres.url("postgres");
        let mut conn = AsyncPgConnection::establish(&admin).await.unwrap();
        let create = format!("CREATE DATABASE {name} {options}");
        diesel::sql_query(create).execute(&mut conn).await.unwrap();
    });
    url
}

/// A connection to a test's database, for looking at what is stored.
pub async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.unwrap()
}

/// What PostgreSQL logged about the database of `url`, line by line: errors, deadlocks, waits for
/// locks of more than a second.
pub fn log_of(url: &str) -> Vec<String> {
    let database = url.rsplit('/').next().unwrap();
    // Each line begins with a time, the process in brackets, and the database.
    let is_of = |line: &&str| {
        let rest = line.split_once("] ").map_or("", |(_, rest)| rest);
        rest.split(' ').next() == Some(database)
    };
    let log = std::fs::read(&server().log).unwrap();
    String::from_utf8_lossy(&log).lines().filter(is_of).map(ToOwned::to_owned).collect()
}
