//! The hub as a process of its own, for what only shows in its log.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// The hub's own binary over a database, its log in full. A thread reads the log all the time: a
/// full pipe would stop the hub.
pub struct Logged {
    child: Child,
    /// Where it listens.
    pub address: String,
    log: Option<JoinHandle<String>>,
}

impl Logged {
    /// Starts it with this environment and no other.
    pub async fn start(url: &str, env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hub"))
            .arg("serve")
            .env_clear()
            .envs(env.iter().copied())
            .env("DATABASE_URL", url)
            .env("HUB_LISTEN", "127.0.0.1:0")
            .env("BCRYPT_COST", "10")
            .env("NO_COLOR", "1")
            .env("LOG_LEVEL", "debug,hub=trace")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, address) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("serving address=")
                    && let Some(tell) = tell.take()
                {
                    tell.send(address.trim().to_owned()).unwrap();
                }
                text.push_str(&line);
                text.push('\n');
            }
            text
        });
        let address = tokio::time::timeout(Duration::from_secs(30), address).await;
        Self { child, address: address.unwrap().unwrap(), log: Some(log) }
    }

    /// Asks the process to stop and returns all that it logged.
    pub fn stop(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
