//! Starts, takes over and stops the server process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::error::{StartError, StopError, io_error};
use super::layout::Layout;
use super::postmaster::{self, Found};
use super::programs::Programs;
use super::session::{Answer, probe};
use super::{Options, PORT, blocking, identity, log};

/// How long a server found running may be silent before it counts as hung.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// For the children of a server that was killed to notice and end.
const RETRY: Duration = Duration::from_millis(300);
const RETRIES: u32 = 30;
const HARD_STOP: Duration = Duration::from_secs(5);
const HUNG_STOP: Duration = Duration::from_secs(1);

/// A server process: our child, or one that an earlier hub started.
#[derive(Debug)]
pub(super) struct Server {
    pid: u32,
    cluster: PathBuf,
    child: Option<Child>,
}

/// Everything a start needs.
#[derive(Debug)]
pub(super) struct Launch {
    layout: Layout,
    program: PathBuf,
    arguments: Vec<String>,
    start_timeout: Duration,
    stop_timeout: Duration,
}

impl Launch {
    /// Where the server's log is.
    pub(super) fn log(&self) -> &Path {
        &self.layout.log
    }

    pub(super) fn new(layout: &Layout, programs: &Programs, options: &Options) -> Self {
        let mut arguments = vec!["-D".to_owned(), layout.cluster.display().to_string()];
        for (name, value) in settings(&layout.sockets, options) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        Self {
            layout: layout.clone(),
            program: programs.postgres(),
            arguments,
            start_timeout: options.start_timeout,
            stop_timeout: options.stop_timeout,
        }
    }

    /// Returns a server that takes connections: the one that is running, if it was started with
    /// the same settings and answers, else a new one.
    pub(super) async fn bring_up(&self) -> Result<Server, StartError> {
        let mut retries = 0;
        loop {
            if let Some(server) = self.take_over().await? {
                return Ok(server);
            }
            match self.start_new().await {
                Err(StartError::Ended { tail, .. }) if retries < RETRIES && may_pass(&tail) => {
                    retries += 1;
                    sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The running server, or none once it and what it leaves are out of the way.
    async fn take_over(&self) -> Result<Option<Server>, StartError> {
        while let Found::Server { pid, command } = self.look().await? {
            let mut server = Server { pid, cluster: self.layout.cluster.clone(), child: None };
            if command != self.command_line() {
                tracing::info!(pid, "a server with other settings is running; restarting it");
                server.stop(self.stop_timeout).await?;
                continue;
            }
            match self.listen_to(&mut server).await {
                Answer::Ready => return Ok(Some(server)),
                Answer::Busy | Answer::Leaving => server.stop(self.stop_timeout).await?,
                Answer::Silent => {
                    tracing::warn!(pid, "the server of an earlier hub hangs; replacing it");
                    server.stop(HUNG_STOP).await?;
                }
            }
        }
        Ok(None)
    }

    async fn look(&self) -> Result<Found, StartError> {
        let layout = self.layout.clone();
        blocking(move || {
            let found = postmaster::find(&layout.cluster)?;
            if found == Found::Leftovers {
                postmaster::clear_leftovers(&layout)?;
            }
            Ok(found)
        })
        .await
    }

    /// What a server found running says in the end. One that recovers from a crash is waited for:
    /// stopped, it would have to begin again.
    async fn listen_to(&self, server: &mut Server) -> Answer {
        let mut heard = Instant::now();
        while server.is_alive() {
            match probe(&self.layout.sockets).await {
                Answer::Busy => heard = Instant::now(),
                Answer::Silent if heard.elapsed() < ADOPTION_PATIENCE => {}
                answer => return answer,
            }
            sleep(POLL).await;
        }
        Answer::Leaving
    }

    async fn start_new(&self) -> Result<Server, StartError> {
        let path = self.layout.log.clone();
        let (file, length_before) = blocking(move || {
            log::rotate(&path)?;
            let file = log::open(&path)?;
            let length = file.metadata().map_err(io_error("look at", &path))?.len();
            Ok((file, length))
        })
        .await?;
        let copy = file.try_clone().map_err(io_error("open", &self.layout.log))?;
        let child = identity::command(&self.program, self.layout.account)
            .args(&self.arguments)
            .stdout(copy)
            .stderr(file)
            .spawn()
            .map_err(io_error("run", &self.program))?;
        let pid = child.id().unwrap_or_default();
        let cluster = self.layout.cluster.clone();
        let mut server = Server { pid, cluster, child: Some(child) };
        let mut heard = Instant::now();
        loop {
            match probe(&self.layout.sockets).await {
                Answer::Ready if self.is_served_by(pid).await? => return Ok(server),
                Answer::Busy => heard = Instant::now(),
                Answer::Ready | Answer::Leaving | Answer::Silent => {}
            }
            if let Some(status) = server.ended() {
                let (log, path) = (self.layout.log.clone(), self.layout.log.clone());
                let tail = blocking(move || log::tail(&path, length_before)).await?;
                return Err(StartError::Ended { status, log, tail });
            }
            if heard.elapsed() > self.start_timeout {
                server.stop(HUNG_STOP).await?;
                let (limit, log) = (self.start_timeout, self.layout.log.clone());
                return Err(StartError::NotReady { limit, log });
            }
            sleep(POLL).await;
        }
    }

    /// Who answers on the socket may be another, on whose account ours is about to give up.
    async fn is_served_by(&self, ours: u32) -> Result<bool, StartError> {
        let cluster = self.layout.cluster.clone();
        let found = blocking(move || postmaster::find(&cluster)).await?;
        Ok(matches!(found, Found::Server { pid, .. } if pid == ours))
    }

    /// As [`Found::Server`] shows it.
    fn command_line(&self) -> String {
        format!("{} {}", self.program.display(), self.arguments.join(" "))
    }
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    /// As `pg_ctl stop` does it: SIGINT disconnects the clients and shuts down cleanly, SIGQUIT
    /// leaves the rest to the next start's recovery. Done here because it needs no `pg_ctl`, whose
    /// version may have changed meanwhile, and no switch of user. SIGKILL is for a hung server.
    pub(super) async fn stop(&mut self, clean: Duration) -> Result<(), StopError> {
        let steps =
            [(Signal::SIGINT, clean), (Signal::SIGQUIT, HARD_STOP), (Signal::SIGKILL, HARD_STOP)];
        for (signal, patience) in steps {
            let deadline = Instant::now() + patience;
            if signal != Signal::SIGINT {
                tracing::warn!(pid = self.pid, %signal, "PostgreSQL does not stop; insisting");
            }
            self.signal(signal);
            while self.is_alive() && Instant::now() < deadline {
                sleep(POLL).await;
            }
            if !self.is_alive() {
                return Ok(());
            }
        }
        Err(StopError { pid: self.pid })
    }

    /// Only called when [`Self::is_alive`] may hold: a child's number is not given away before it
    /// is waited for, and another's process was seen to be the server a moment ago.
    fn signal(&mut self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid)
            && self.is_alive()
        {
            // Fails when the process has just ended, which the caller sees next.
            _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn is_alive(&mut self) -> bool {
        match &self.child {
            Some(_) => self.ended().is_none(),
            // Reads procfs, which waits for no disk.
            None => postmaster::serves(self.pid, &self.cluster),
        }
    }

    /// How the server ended, if it has.
    pub(super) fn fate(&mut self) -> Option<String> {
        match &self.child {
            Some(_) => self.ended(),
            None => (!self.is_alive()).then(|| "it is gone".to_owned()),
        }
    }

    /// How our child ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.child.as_mut()?.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Given on the command line rather than written to `postgresql.conf`, so that they are always this
/// version's, and that a running server shows what it was started with.
fn settings(sockets: &Path, options: &Options) -> Vec<(String, String)> {
    let sockets = sockets.display().to_string().replace('"', "\"\"");
    let own = [
        ("listen_addresses", String::new()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", format!("\"{sockets}\"")),
        ("unix_socket_permissions", "0700".to_owned()),
        ("cluster_name", "klear-karma-hub".to_owned()),
        ("max_connections", options.max_connections.to_string()),
        ("shared_buffers", format!("{}MB", options.shared_buffers_mb)),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_line_prefix", "%m [%p] %q%d %a ".to_owned()),
        // Errors, and with them every deadlock; not the routine of checkpoints.
        ("log_min_messages", "warning".to_owned()),
        ("log_checkpoints", "off".to_owned()),
        ("log_lock_waits", "on".to_owned()),
        // Compiling a query takes longer than any query of the hub's.
        ("jit", "off".to_owned()),
    ];
    let risky = ["fsync", "synchronous_commit", "full_page_writes"];
    let risky = risky.into_iter().filter(|_| !options.durable).map(|name| (name, "off".to_owned()));
    own.into_iter()
        .chain(risky)
        .map(|(name, value)| (name.to_owned(), value))
        .chain(options.settings.iter().cloned())
        .collect()
}

/// Whether a start failed by what a dying server still holds.
fn may_pass(log: &str) -> bool {
    log.contains("pre-existing shared memory block") || log.contains("lock file")
}
