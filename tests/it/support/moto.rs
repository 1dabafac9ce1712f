//! Somebody else's S3: the server of moto, from PyPI, on loopback.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::python;

const PACKAGES: &[&str] = &["moto[server]==5.2.5"];
/// The server's first start on a busy machine takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Made once, however many tests want it.
static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();

/// A running server with one bucket; stops when dropped.
pub struct Moto {
    process: Child,
    pub endpoint: String,
}

/// The bucket that there is.
pub const BUCKET: &str = "hub-files";

impl Moto {
    /// Starts it; `None`, and a loud word, where it can not be had.
    pub async fn start() -> Option<Self> {
        let made = || python::with("moto-python", PACKAGES, "import moto.server", "an S3 server");
        let python = PYTHON.get_or_init(made).as_ref()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, endpoint: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + PATIENCE;
        let client = reqwest::Client::new();
        let bucket = format!("{}/{BUCKET}", moto.endpoint);
        loop {
            match client.put(&bucket).send().await {
                Ok(answer) if answer.status().is_success() => return Some(moto),
                answer => assert!(Instant::now() < until, "{answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
