//! The hub's own program, run as people run it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A running `hub`. Threads read what it prints all the time: a full pipe would stop it.
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `hub` with these arguments over a private PostgreSQL in `data_dir`, on a free port.
    pub fn start(data_dir: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hub"))
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("DATA_DIR", data_dir)
            .env("HUB_LISTEN", "127.0.0.1:0")
            .env("BCRYPT_COST", "10")
            .env("SHUTDOWN_SECONDS", "2")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let into = said.clone();
        std::thread::spawn(move || copy(out, &into));
        let into = said.clone();
        std::thread::spawn(move || copy(err, &into));
        Self { child, said }
    }

    /// All that it has printed.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said `words`; returns the rest of the line after them.
    pub async fn says(&self, words: &str) -> String {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.said();
            if let Some((_, rest)) = said.split_once(words)
                && let Some((line, _)) = rest.split_once('\n')
            {
                return line.trim().to_owned();
            }
            assert!(Instant::now() < until, "it does not say {words:?}: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it serves, once it does.
    pub async fn address(&self) -> String {
        let line = self.says("serving address=").await;
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for its end; returns how it ended and all that it printed.
    pub async fn ends(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The readers see the end of the pipes right after.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return (status, self.said());
            }
            assert!(Instant::now() < until, "it does not end: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
