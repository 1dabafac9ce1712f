//! A hub in a process of its own: the real program, over a database of the tests.
//!
//! A shell stands between: it ends the hub when the pipe to the test closes, so that no hub is left
//! behind however the test ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::Deref;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::TestHub;

/// Starts the hub, tells its process id, and stops it once the test has let go of the pipe.
const GUARD: &str = r#"
"$@" &
hub=$!
exec 2> /dev/null
echo $hub
cat > /dev/null
kill -TERM $hub
wait $hub
"#;

/// How long a start or a stop may take, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running hub process. It is used like a [`TestHub`], and stops when dropped.
pub struct Node {
    hub: TestHub,
    pid: Pid,
    guard: Child,
    /// Closed, it tells the guard to stop the hub.
    pipe: Option<ChildStdin>,
    /// The hub's log, and its generated keys.
    dir: tempfile::TempDir,
}

impl Deref for Node {
    type Target = TestHub;

    fn deref(&self) -> &TestHub {
        &self.hub
    }
}

impl Node {
    /// Starts a hub over `database_url` on a port that the system chooses.
    pub async fn start(database_url: &str) -> Self {
        Self::start_with(database_url, &[]).await
    }

    /// The same with further variables of its environment.
    pub async fn start_with(database_url: &str, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("hub-node-").tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", env!("CARGO_BIN_EXE_hub"), "serve"])
            .env_clear()
            .env("HUB_LISTEN", "127.0.0.1:0")
            .env("DATABASE_URL", database_url)
            .env("DATA_DIR", dir.path())
            .env("JWT_SECRET", "a secret of the tests, of more than 32 bytes")
            .env("DATABASE_POOL_SIZE", "8")
            .env("BCRYPT_COST", "10")
            // Many rounds on a slow machine take longer than a token lasts otherwise.
            .env("ACCESS_TOKEN_TTL_SECONDS", "86400")
            .env("SHUTDOWN_SECONDS", "2")
            .env("PUSH_WINDOW_SECONDS", "300")
            .env("LOG_FORMAT", "json")
            .env("LOG_LEVEL", "warn,hub=info,hub::http=warn")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut told = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut told).unwrap();
        let pid = Pid::from_raw(told.trim().parse().unwrap());
        let pipe = guard.stdin.take();
        // From here on a panic stops the hub, too: the pipe closes.
        let until = Instant::now() + PATIENCE;
        let address = loop {
            let log = lines(&dir);
            if let Some(line) = log.iter().find(|line| line["message"] == "serving") {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
            assert!(kill(pid, None).is_ok() && Instant::now() < until, "{log:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let hub = TestHub::at(address, database_url.to_owned());
        Self { hub, pid, guard, pipe, dir }
    }

    /// Two hubs over one database that know of each other only by it.
    pub async fn two(database_url: &str) -> [Self; 2] {
        let (one, two) = tokio::join!(Self::start(database_url), Self::start(database_url));
        [one, two]
    }

    /// What the hub logged as a warning or worse.
    pub fn complaints(&self) -> Vec<Value> {
        let level = |line: &Value| line["level"] == "WARN" || line["level"] == "ERROR";
        lines(&self.dir).into_iter().filter(level).collect()
    }

    /// Ends the hub at once, as a crash would.
    pub async fn kill(mut self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        self.pipe.take();
        self.ended().await;
    }

    /// Stops the hub as an operator would, and waits until it has; it must end well.
    pub async fn stop(mut self) {
        self.pipe.take();
        let code = self.ended().await;
        assert_eq!(code, Some(0), "{:#?}", lines(&self.dir));
    }

    async fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.guard.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the hub does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The hub's log so far; the last line may be half written.
fn lines(dir: &tempfile::TempDir) -> Vec<Value> {
    let mut text = String::new();
    File::open(dir.path().join("log")).unwrap().read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))
        .collect()
}
