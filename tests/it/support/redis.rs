//! A real Redis server of the test's own, on loopback, without anything on disk.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running server; killed when dropped.
pub struct Redis {
    port: u16,
    program: PathBuf,
    child: Child,
}

impl Redis {
    /// Starts one on a free port. `None`, loudly, where Redis is not installed.
    pub async fn start() -> Option<Self> {
        let Some(program) = find() else {
            println!("SKIPPED: no redis-server found; apt-get install redis-server");
            eprintln!("SKIPPED: no redis-server found; apt-get install redis-server");
            return None;
        };
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = spawn(&program, port);
        let redis = Self { port, program, child };
        redis.answers().await;
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, self.port);
        self.answers().await;
    }

    /// How many connections follow the hub's topic.
    pub async fn followers(&self) -> u32 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(b"PUBSUB NUMSUB klearkarma:hub\r\n").await.unwrap();
        let mut answer = vec![0; 256];
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        text.rsplit(':').next().unwrap().trim().parse().unwrap()
    }

    /// Waits until so many nodes listen.
    pub async fn is_followed_by(&self, nodes: u32) {
        for _ in 0..400 {
            if self.followers().await == nodes {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{nodes} nodes do not follow the bus");
    }

    async fn answers(&self) {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not answer");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("redis-server"));
    places.find(|program| program.is_file())
}

fn spawn(program: &PathBuf, port: u16) -> Child {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
