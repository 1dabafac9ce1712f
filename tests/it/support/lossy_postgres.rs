//! A way to PostgreSQL on which the answer to a COMMIT can be lost after it was carried out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Another socket of the server that a URL of the tests leads to; gone when dropped.
pub struct LossyPostgres {
    /// The same database by this way.
    pub url: String,
    faults: Arc<Faults>,
    accepting: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Faults {
    /// A connection ends when its COMMIT was carried out, instead of telling so.
    loses_commits: AtomicBool,
    /// The same for a transaction that was sent this text; then the server can not be reached.
    last_heard_of: Mutex<Option<String>>,
    down: AtomicBool,
}

impl LossyPostgres {
    /// A way that loses nothing yet.
    pub fn open(url: &str) -> Self {
        let (start, rest) = url.split_once('@').unwrap();
        let (host, rest) = rest.split_once(':').unwrap();
        let (port, _) = rest.split_once('/').unwrap();
        let name = format!(".s.PGSQL.{port}");
        let server = Path::new(&host.replace("%2F", "/")).join(&name);
        let dir = tempfile::Builder::new().prefix("hub-lossy-").tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(&name)).unwrap();
        let host = dir.path().to_str().unwrap().replace('/', "%2F");
        let faults = Arc::new(Faults::default());
        let accepting = tokio::spawn(accept(listener, server, faults.clone()));
        Self { url: format!("{start}@{host}:{rest}"), faults, accepting, _dir: dir }
    }

    /// From now on nobody hears that what they did is committed.
    pub fn lose_commits(&self) {
        self.faults.loses_commits.store(true, Ordering::SeqCst);
    }

    /// The first transaction that stores `text` is committed, and nobody hears of it or of anything
    /// that follows.
    pub fn is_gone_after(&self, text: &str) {
        *self.faults.last_heard_of.lock().unwrap() = Some(text.to_owned());
    }

    /// Everything is as it should be again.
    pub fn mend(&self) {
        self.faults.loses_commits.store(false, Ordering::SeqCst);
        self.faults.last_heard_of.lock().unwrap().take();
        self.faults.down.store(false, Ordering::SeqCst);
    }
}

impl Drop for LossyPostgres {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, server: PathBuf, faults: Arc<Faults>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, faults) = (server.clone(), faults.clone());
        tokio::spawn(async move {
            if faults.down.load(Ordering::SeqCst) {
                return;
            }
            let Ok(server) = UnixStream::connect(server).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let last = Last::default();
            tokio::select! {
                () = ask(from_client, to_server, &faults, &last) => {}
                () = answer(from_server, to_client, &faults, &last) => {}
            }
        });
    }
}

/// What was asked last on a connection.
#[derive(Default)]
struct Last {
    /// To commit, of which nobody will hear.
    commit: AtomicBool,
    /// That is the last that anybody hears of the server.
    of_all: AtomicBool,
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|part| part == text)
}

async fn ask(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, faults: &Faults, last: &Last) {
    let mut buffer = vec![0; 64 * 1024];
    let mut stores_the_text = false;
    while let Ok(read) = client.read(&mut buffer).await {
        let bytes = &buffer[..read];
        if read == 0 || faults.down.load(Ordering::SeqCst) {
            return;
        }
        let text = faults.last_heard_of.lock().unwrap().clone();
        stores_the_text |= text.is_some_and(|text| has(bytes, text.as_bytes()));
        if has(bytes, b"COMMIT\0") {
            last.of_all.store(stores_the_text, Ordering::SeqCst);
            let lost = stores_the_text || faults.loses_commits.load(Ordering::SeqCst);
            last.commit.store(lost, Ordering::SeqCst);
        }
        if server.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn answer(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    faults: &Faults,
    last: &Last,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = server.read(&mut buffer).await {
        if last.of_all.load(Ordering::SeqCst) {
            faults.down.store(true, Ordering::SeqCst);
        }
        let silent = last.commit.load(Ordering::SeqCst) || faults.down.load(Ordering::SeqCst);
        if read == 0 || silent || client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
