//! A hub in a process of its own over a database of the tests, used like one in the test's process.

use std::ops::Deref;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::TestHub;
use super::process::Process;

/// What all nodes share, so that each takes the others' tokens.
pub const SECRET: &str = "a secret of the tests, of more than 32 bytes";

/// A running hub process. It is used like a [`TestHub`], and ends when dropped.
pub struct Node {
    hub: TestHub,
    process: Process,
    /// Its generated keys.
    _dir: tempfile::TempDir,
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
        Self::try_start(database_url, variables).await.unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same; what it said when it did not come up.
    pub async fn try_start(database_url: &str, variables: &[(&str, &str)]) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("hub-node-").tempdir().unwrap();
        let own = [
            ("DATABASE_URL", database_url),
            ("JWT_SECRET", SECRET),
            ("DATABASE_POOL_SIZE", "8"),
            // Many rounds on a slow machine take longer than a token lasts otherwise.
            ("ACCESS_TOKEN_TTL_SECONDS", "86400"),
            ("PUSH_WINDOW_SECONDS", "300"),
            ("LOG_FORMAT", "json"),
            ("LOG_LEVEL", "warn,hub=info,hub::http=warn"),
        ];
        let env = [&own, variables].concat();
        let mut process = Process::start(dir.path(), &["serve"], &env);
        let Some(line) = process.says_or_ends("\"address\":\"").await else {
            return Err(process.said());
        };
        let address = line.split('"').next().unwrap().parse().unwrap();
        let hub = TestHub::at(address, database_url.to_owned());
        Ok(Self { hub, process, _dir: dir })
    }

    /// Two hubs over one database that know of each other only by it.
    pub async fn two(database_url: &str) -> [Self; 2] {
        let (one, two) = tokio::join!(Self::start(database_url), Self::start(database_url));
        [one, two]
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it serves `/metrics`, if it was told to.
    pub fn metrics(&self) -> String {
        let said = self.process.said();
        let (_, rest) = said.split_once("\"metrics\":\"").expect("METRICS_ADDR was set");
        rest.split('"').next().unwrap().to_owned()
    }

    /// What the hub logged as a warning or worse.
    pub fn complaints(&self) -> Vec<Value> {
        let level = |line: &Value| line["level"] == "WARN" || line["level"] == "ERROR";
        let said = self.process.said();
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        said.lines().map(read).filter(level).collect()
    }

    /// Ends the hub at once, as a crash would.
    pub async fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.ends().await;
    }

    /// Stops the hub as an operator would, and waits until it has; it must end well.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
