//! The hub's own program in a process of its own, run as people run it.
//!
//! A shell stands between: it ends the hub when the pipe to the test closes, so that no hub is left
//! behind however the test ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Starts the hub, tells its process id, and ends as it ends. Once the test has let go of the pipe
/// the hub is told to stop. A shell's background jobs do not read its input, so it is given to them
/// as another file.
const GUARD: &str = r#"
exec 3<&0
"$@" >&2 3<&- &
hub=$!
exec 2> /dev/null
echo $hub
{ cat <&3 > /dev/null; kill -TERM $hub; } &
watcher=$!
wait $hub
status=$?
kill $watcher
exit $status
"#;

/// How long a start or a stop may take, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A running `hub`. A thread reads what it prints all the time: a full pipe would stop it.
pub struct Process {
    pid: Pid,
    guard: Child,
    /// Closed, it tells the guard to stop the hub.
    _pipe: Option<ChildStdin>,
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `hub` with these arguments on a free port; over a private PostgreSQL in `data_dir`,
    /// unless `env` names another.
    pub fn start(data_dir: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", env!("CARGO_BIN_EXE_hub")])
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("DATA_DIR", data_dir)
            .env("HUB_LISTEN", "127.0.0.1:0")
            .env("BCRYPT_COST", "10")
            .env("SHUTDOWN_SECONDS", "2")
            .env("DRAIN_WINDOW_SECONDS", "0")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = guard.stdin.take();
        let mut told = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut told).unwrap();
        let pid = Pid::from_raw(told.trim().parse().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let (from, into) = (guard.stderr.take().unwrap(), said.clone());
        std::thread::spawn(move || copy(from, &into));
        Self { pid, guard, _pipe: pipe, said }
    }

    /// All that it has printed.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said `words`; returns the rest of the line after them.
    pub async fn says(&mut self, words: &str) -> String {
        let said = self.says_or_ends(words).await;
        said.unwrap_or_else(|| panic!("it does not say {words:?}: {}", self.said()))
    }

    /// The same; none when it has ended without having said so.
    pub async fn says_or_ends(&mut self, words: &str) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.guard.try_wait().unwrap().is_some();
            if let Some((_, rest)) = self.said.lock().unwrap().split_once(words)
                && let Some((line, _)) = rest.split_once('\n')
            {
                return Some(line.trim().to_owned());
            }
            if ended || Instant::now() > until {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where it serves, once it does.
    pub async fn address(&mut self) -> String {
        let line = self.says("serving address=").await;
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// The hub's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Waits for its end; returns how it ended and all that it printed.
    pub async fn ends(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.guard.try_wait().unwrap() {
                // The reader sees the end of the pipe right after.
                tokio::time::sleep(POLL * 5).await;
                return (status, self.said());
            }
            assert!(Instant::now() < until, "it does not end: {}", self.said());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops it as an operator would; it must end well. Returns all that it printed.
    pub async fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, said) = self.ends().await;
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The number is the hub's for as long as the guard has not seen its end.
        if let Ok(None) = self.guard.try_wait() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.guard.wait();
        }
    }
}

fn copy(from: impl std::io::Read, into: &Mutex<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let mut into = into.lock().unwrap();
        into.push_str(&line);
        into.push('\n');
    }
}

/// GET from a hub at `address`: the status, and the body as JSON. None when nobody answers.
pub async fn get(address: &str, path: &str) -> Option<(u16, Value)> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let answer = client.get(format!("http://{address}{path}")).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.unwrap_or_default()))
}

/// Waits until `/readyz` at `address` has this status; returns its body.
pub async fn readyz_becomes(address: &str, status: u16) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match get(address, "/readyz").await {
            Some((found, body)) if found == status => return body,
            found => assert!(Instant::now() < until, "readyz stays {found:?}, not {status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
