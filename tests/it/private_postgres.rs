//! The private PostgreSQL, run for real: each test has a data directory and a server of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hub::postgres::{self, Options, PrivatePostgres, StartError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

const HELPER_DIR: &str = "HUB_TEST_PG_HELPER_DIR";
const HELPER_GRACE: &str = "HUB_TEST_PG_HELPER_GRACE";

/// A data directory that the server's user can enter, and that takes everything with it.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("hub-pg-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn cluster(&self) -> PathBuf {
        fs::canonicalize(self.path().join("postgres")).unwrap()
    }

    pub fn options(&self) -> Options {
        options(self.path(), Duration::from_secs(1))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Only a failed test leaves a server here.
        for pid in self
            .path()
            .join("postgres")
            .exists()
            .then(|| processes_of(&self.cluster()))
            .iter()
            .flatten()
        {
            _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if let Ok(outside) = fs::read_link(self.path().join("postgres")) {
            _ = fs::remove_dir_all(outside.parent().unwrap());
        }
    }
}

fn options(dir: &Path, orphan_grace: Duration) -> Options {
    Options {
        durable: false,
        max_connections: 10,
        shared_buffers_mb: 16,
        orphan_grace,
        ..Options::new(dir)
    }
}

/// What `make clean-data` does.
async fn clean(data_dir: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clean-data");
    // A server that just stopped may have its lock a moment longer, which the script says.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let done = Command::new("sh").arg(&script).arg(data_dir).output().unwrap();
        let busy = String::from_utf8_lossy(&done.stderr).contains("just being stopped");
        if !busy || std::time::Instant::now() > until {
            break assert!(done.status.success(), "{done:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The server and watchdog of a cluster: processes with its path as an argument.
pub fn processes_of(cluster: &Path) -> Vec<i32> {
    let wanted = cluster.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
        })
        .collect()
}

fn children_of(parent: u32) -> Vec<String> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    fs::read_to_string(path).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

pub async fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holds()
}

pub async fn ask(server: &PrivatePostgres, database: &str, query: &str) -> String {
    let (client, connection) =
        tokio_postgres::connect(&server.url(database), tokio_postgres::NoTls).await.unwrap();
    let task = tokio::spawn(connection);
    let rows = client.simple_query(query).await.unwrap();
    drop(client);
    task.await.unwrap().unwrap();
    rows.iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default()
}

/// A hub in a process of its own: this test binary, asked to run the helper below.
struct OtherHub(Child);

impl OtherHub {
    fn spawn(dir: &Path, grace: Duration) -> Self {
        let (_, module) = module_path!().split_once("::").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg(format!("{module}::helper_hub"))
            .env(HELPER_DIR, dir)
            .env(HELPER_GRACE, grace.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// A hub whose server is up with the database `kept`; returns the server's process id too.
    fn ready(dir: &Path, grace: Duration) -> (Self, u32) {
        let mut hub = Self::spawn(dir, grace);
        let output = BufReader::new(hub.0.stdout.take().unwrap());
        let pid = output
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("server ")?.parse().ok())
            .expect("the helper ended early");
        (hub, pid)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "started by other tests as a process to kill"]
async fn helper_hub() {
    let Some(dir) = std::env::var_os(HELPER_DIR) else { return };
    let grace = std::env::var(HELPER_GRACE).unwrap().parse().unwrap();
    let server =
        postgres::start(options(Path::new(&dir), Duration::from_millis(grace))).await.unwrap();
    server.create_database_if_missing("kept").await.unwrap();
    // A line of its own, after the harness's "test … ".
    println!("\nserver {}", server.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn data_are_there_after_a_restart_and_nothing_runs_in_between() {
    let dir = DataDir::new();
    let began = Instant::now();
    let server = postgres::start(dir.options()).await.unwrap();
    println!("first start: {:?}", began.elapsed());
    assert!(server.create_database_if_missing("hub \"1\"").await.unwrap());
    assert!(!server.create_database_if_missing("hub \"1\"").await.unwrap());
    ask(&server, "hub \"1\"", "CREATE TABLE notes AS SELECT 'remember' AS text").await;
    for (setting, value) in [
        ("listen_addresses", ""),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_ctype", "C.UTF-8"),
        ("timezone", "UTC"),
        ("fsync", "off"),
        ("max_connections", "10"),
    ] {
        assert_eq!(ask(&server, "postgres", &format!("SHOW {setting}")).await, value, "{setting}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(server.socket_dir()), 0o700);
    assert_eq!(mode(&dir.path().join("postgres.log")), 0o600);

    let pid = server.pid();
    let children = children_of(pid);
    assert!(!children.is_empty());
    let began = Instant::now();
    server.stop().await.unwrap();
    println!("stop: {:?}", began.elapsed());
    assert!(processes_of(&dir.cluster()).is_empty());
    assert!(children.iter().all(|pid| !is_alive(pid.parse().unwrap())));
    assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0);

    let began = Instant::now();
    let server = postgres::start(dir.options()).await.unwrap();
    println!("second start: {:?}", began.elapsed());
    assert!(!server.is_adopted());
    assert_eq!(ask(&server, "hub \"1\"", "SELECT text FROM notes").await, "remember");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_durable_server_waits_for_the_disk() {
    let dir = DataDir::new();
    let began = Instant::now();
    let server = postgres::start(Options::new(dir.path())).await.unwrap();
    println!("first durable start: {:?}", began.elapsed());
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(ask(&server, "postgres", &format!("SHOW {setting}")).await, "on");
    }
    server.stop().await.unwrap();
    let began = Instant::now();
    let server = postgres::start(Options::new(dir.path())).await.unwrap();
    println!("second durable start: {:?}", began.elapsed());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_hubs_server_is_taken_over_and_its_watchdog_lets_it_be() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_secs(1));
    hub.kill();
    let began = Instant::now();
    let server = postgres::start(dir.options()).await.unwrap();
    println!("takeover: {:?}", began.elapsed());
    assert!(server.is_adopted());
    assert_eq!(server.pid(), pid);
    // Past the old watchdog's grace: it has looked, and gone.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(processes_of(&dir.cluster()).len(), 2, "the server and our watchdog");
    assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
    server.stop().await.unwrap();
    assert!(processes_of(&dir.cluster()).is_empty());
}

#[tokio::test]
async fn a_killed_hubs_server_is_stopped_when_no_hub_comes() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_millis(300));
    hub.kill();
    assert!(is_alive(pid));
    let cluster = dir.cluster();
    assert!(until(Duration::from_secs(15), || processes_of(&cluster).is_empty()).await);
    assert!(!cluster.join("postmaster.pid").exists(), "a clean shutdown");
    let log = fs::read_to_string(dir.path().join("postgres.log")).unwrap();
    assert!(log.contains("watchdog: the hub is gone"), "{log}");
}

/// The new hub comes while the watchdog wakes, holds the lock, or has just stopped the server.
#[tokio::test]
async fn a_hub_that_comes_while_the_watchdog_acts_has_a_server_that_stays() {
    let dir = DataDir::new();
    let mut adopted = 0;
    let grace = Duration::from_millis(15);
    for delay in [0, 3, 6, 9, 12, 15, 18, 21, 25, 30, 50] {
        let (hub, _) = OtherHub::ready(dir.path(), grace);
        hub.kill();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let server = postgres::start(options(dir.path(), grace)).await.unwrap();
        adopted += u32::from(server.is_adopted());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
        server.stop().await.unwrap();
        let cluster = dir.cluster();
        assert!(until(Duration::from_secs(2), || processes_of(&cluster).is_empty()).await);
    }
    println!("adopted {adopted} of 11");
}

#[tokio::test]
async fn a_server_with_other_settings_is_restarted() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_secs(5));
    hub.kill();
    let server = postgres::start(Options { max_connections: 11, ..dir.options() }).await.unwrap();
    assert!(!server.is_adopted() && !is_alive(pid));
    assert_eq!(ask(&server, "kept", "SHOW max_connections").await, "11");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_hung_server_is_replaced() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_secs(2));
    hub.kill();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGSTOP).unwrap();
    let server = postgres::start(dir.options()).await.unwrap();
    assert!(!server.is_adopted() && !is_alive(pid));
    assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
    server.stop().await.unwrap();
}

/// A SIGTERM, as a service manager sends it to all of a dead hub's processes, makes the server wait
/// for its clients to leave: here for ever.
#[tokio::test]
async fn a_server_that_is_leaving_is_helped_out() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_secs(2));
    let mut config = tokio_postgres::Config::new();
    config.host_path(dir.path().join("run")).user("hub").dbname("kept");
    let (_client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    hub.kill();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGTERM).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is_alive(pid));
    let server = postgres::start(dir.options()).await.unwrap();
    assert!(!server.is_adopted() && !is_alive(pid));
    assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_crashed_server_is_recovered_at_once() {
    let dir = DataDir::new();
    let (hub, pid) = OtherHub::ready(dir.path(), Duration::from_secs(5));
    hub.kill();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let server = postgres::start(dir.options()).await.unwrap();
    assert!(!server.is_adopted());
    assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn dropped_without_a_stop_the_server_can_be_taken_over() {
    let dir = DataDir::new();
    let server = postgres::start(dir.options()).await.unwrap();
    let pid = server.pid();
    drop(server);
    let server = postgres::start(dir.options()).await.unwrap();
    assert_eq!((server.is_adopted(), server.pid()), (true, pid));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unfinished_initdb_is_done_again() {
    let dir = DataDir::new();
    for delay in [50, 400, 900] {
        let hub = OtherHub::spawn(dir.path(), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        hub.kill();
    }
    // The killed hubs' initdb may run on during the first of these starts.
    for _ in 0..2 {
        let server = postgres::start(dir.options()).await.unwrap();
        assert_eq!(ask(&server, "postgres", "SELECT 1").await, "1");
        server.stop().await.unwrap();
    }
    assert!(fs::read_dir(dir.path()).unwrap().all(|entry| {
        !entry.unwrap().file_name().to_str().unwrap().starts_with("postgres.initdb")
    }));
}

#[tokio::test]
async fn a_cluster_directory_without_a_cluster_is_moved_aside() {
    let dir = DataDir::new();
    fs::create_dir_all(dir.path().join("postgres/base")).unwrap();
    fs::write(dir.path().join("postgres/PG_VERSION"), "15\n").unwrap();
    let server = postgres::start(dir.options()).await.unwrap();
    assert_eq!(ask(&server, "postgres", "SELECT 1").await, "1");
    server.stop().await.unwrap();
    assert!(fs::read_dir(dir.path()).unwrap().any(|entry| {
        entry.unwrap().file_name().to_str().unwrap().starts_with("postgres.unusable-")
    }));
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_no_obstacle() {
    let dir = DataDir::new();
    let server = postgres::start(dir.options()).await.unwrap();
    server.stop().await.unwrap();
    // Of the server's own user: such a process makes PostgreSQL refuse to start.
    let owner = fs::metadata(dir.cluster()).unwrap().uid();
    let mut stranger = Command::new("sleep").arg("60").uid(owner).spawn().unwrap();
    let text = format!("{}\n{}\n", stranger.id(), dir.cluster().display());
    fs::write(dir.cluster().join("postmaster.pid"), &text).unwrap();
    fs::write(dir.path().join("run/.s.PGSQL.5432.lock"), &text).unwrap();

    let started = postgres::start(dir.options()).await;
    let unharmed = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let server = started.unwrap();
    assert!(unharmed && !server.is_adopted());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_hub_is_refused_and_the_first_unharmed() {
    let dir = DataDir::new();
    let server = postgres::start(dir.options()).await.unwrap();
    let error = postgres::start(dir.options()).await.unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, StartError::AnotherHub { pid: Some(pid), .. } if pid == me), "{error}");
    assert!(error.to_string().contains("another hub"), "{error}");
    assert_eq!(ask(&server, "postgres", "SELECT 1").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_one_under_tmp() {
    let dir = DataDir::new();
    let deep = dir
        .path()
        .join("a very long name of sixty characters, so that it is too long")
        .join("and another one with a % and a \"quote\" in it, for the encoding");
    let server = postgres::start(options(&deep, Duration::from_secs(1))).await.unwrap();
    assert!(server.socket_dir().starts_with("/tmp"), "{}", server.socket_dir().display());
    assert_eq!(ask(&server, "postgres", "SELECT 1").await, "1");
    let sockets = server.socket_dir().to_owned();
    server.stop().await.unwrap();
    assert_eq!(fs::read_link(deep.join("run")).unwrap(), sockets);
    clean(&deep).await;
    assert!(!sockets.exists() && !deep.exists());
}

#[tokio::test]
async fn a_strange_path_is_no_obstacle() {
    let dir = DataDir::new();
    let odd = dir.path().join("two, \"words\" %41 ünïcode");
    for _ in 0..2 {
        let server = postgres::start(options(&odd, Duration::from_secs(1))).await.unwrap();
        assert!(server.socket_dir().starts_with(&odd));
        assert_eq!(ask(&server, "postgres", "SELECT 1").await, "1");
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn data_of_another_major_version_are_refused() {
    let dir = DataDir::new();
    fs::create_dir_all(dir.path().join("postgres/global")).unwrap();
    fs::write(dir.path().join("postgres/PG_VERSION"), "11\n").unwrap();
    fs::write(dir.path().join("postgres/global/pg_control"), "").unwrap();
    let error = postgres::start(dir.options()).await.unwrap_err();
    assert!(matches!(error, StartError::IncompatibleVersion { made_by: 11, .. }), "{error}");
    assert!(error.to_string().contains("/bin"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let dir = DataDir::new();
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = postgres::start(Options { settings, ..dir.options() }).await.unwrap_err();
    assert!(matches!(&error, StartError::Ended { tail, .. } if tail.contains("no_such_setting")));
    let cluster = dir.cluster();
    assert!(until(Duration::from_secs(10), || processes_of(&cluster).is_empty()).await);
}

#[tokio::test]
async fn a_link_to_nowhere_is_not_taken_for_a_new_directory() {
    let dir = DataDir::new();
    std::os::unix::fs::symlink("/nowhere/postgres", dir.path().join("postgres")).unwrap();
    let error = postgres::start(dir.options()).await.unwrap_err();
    assert!(matches!(error, StartError::DanglingLink { .. }), "{error}");
}

#[tokio::test]
async fn below_a_closed_directory_roots_cluster_goes_to_var_lib() {
    if !geteuid().is_root() {
        return;
    }
    let closed = tempfile::Builder::new().prefix("hub-pg-").tempdir_in("/root").unwrap();
    let data = closed.path().join("data");
    for run in 0..2 {
        let server = postgres::start(options(&data, Duration::from_secs(1))).await.unwrap();
        let link = fs::read_link(data.join("postgres")).unwrap();
        assert!(link.starts_with("/var/lib/klear-karma-hub"), "{}", link.display());
        assert!(server.socket_dir().starts_with(link.parent().unwrap()));
        assert_eq!(server.create_database_if_missing("kept").await.unwrap(), run == 0);
        server.stop().await.unwrap();
    }
    let (hub, pid) = OtherHub::ready(&data, Duration::from_millis(100));
    hub.kill();
    assert!(
        until(Duration::from_secs(15), || !is_alive(pid)).await,
        "the watchdog works there too"
    );
    let outside = fs::read_link(data.join("postgres")).unwrap();
    clean(&data).await;
    assert!(!outside.parent().unwrap().exists() && !data.exists());
    // A new beginning, not a cluster that turns up again.
    let server = postgres::start(options(&data, Duration::from_secs(1))).await.unwrap();
    assert!(server.create_database_if_missing("kept").await.unwrap());
    server.stop().await.unwrap();
    let base = outside.parent().unwrap();
    assert!(fs::read_dir(base).unwrap().all(|entry| {
        !entry.unwrap().file_name().to_string_lossy().starts_with("postgres.unusable-")
    }));
    clean(&data).await;
}
