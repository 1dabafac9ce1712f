//! Real Redis servers of the test's own, on loopback, without anything on disk.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running server; killed when dropped.
pub struct Redis {
    port: u16,
    program: PathBuf,
    arguments: Vec<String>,
    child: Child,
}

impl Redis {
    /// Starts one on a free port. `None`, loudly, where Redis is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Option<Self> {
        let program = find()?;
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Some(Self::start_at(program, free_port(), arguments).await)
    }

    async fn start_at(program: PathBuf, port: u16, arguments: Vec<String>) -> Self {
        let child = spawn(&program, port, &arguments);
        let redis = Self { port, program, arguments, child };
        redis.answers().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it stand still, with its connections open: nobody is told anything, or that it is gone.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Starts it again, on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, self.port, &self.arguments);
        self.answers().await;
    }

    /// The answer to `command`, as it comes over the wire; a short one.
    pub async fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let read = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    /// How many connections follow the hub's first topic.
    pub async fn followers(&self) -> u32 {
        let text = self.ask("PUBSUB SHARDNUMSUB klearkarma:0").await;
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
        for _ in 0..400 {
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

/// A cluster of three masters without replicas.
pub struct RedisCluster {
    masters: Vec<Redis>,
    /// What they remember of each other.
    _dir: tempfile::TempDir,
}

impl RedisCluster {
    /// Starts it and waits until it serves all slots.
    pub async fn start() -> Option<Self> {
        let program = find()?;
        let dir = tempfile::Builder::new().prefix("hub-redis-").tempdir().unwrap();
        let mut masters = Vec::new();
        let mut buses = Vec::new();
        for n in 0..3 {
            let bus = free_port();
            let file = dir.path().join(format!("nodes-{n}.conf"));
            let arguments = ["--cluster-enabled", "yes", "--cluster-config-file"]
                .into_iter()
                .chain([file.to_str().unwrap(), "--cluster-port", &bus.to_string()])
                .map(str::to_owned)
                .collect();
            masters.push(Redis::start_at(program.clone(), free_port(), arguments).await);
            buses.push(bus);
        }
        for (n, slots) in ["0 5460", "5461 10922", "10923 16383"].into_iter().enumerate() {
            let master = &masters[n];
            is_ok(&master.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await);
            is_ok(&master.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")).await);
            let (port, bus) = (masters[0].port, buses[0]);
            if n > 0 {
                is_ok(&master.ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await);
            }
        }
        let cluster = Self { masters, _dir: dir };
        cluster.serves().await;
        Some(cluster)
    }

    /// All of its nodes, as `REDIS_URL` takes them.
    pub fn urls(&self) -> String {
        self.masters.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// How many masters carry topics of the hub.
    pub async fn masters_with_topics(&self) -> usize {
        let mut used = 0;
        for master in &self.masters {
            let topics = master.ask("PUBSUB SHARDCHANNELS klearkarma:*").await;
            used += usize::from(topics.contains("klearkarma:"));
        }
        used
    }

    async fn serves(&self) {
        for _ in 0..400 {
            let mut ready = 0;
            for master in &self.masters {
                let info = master.ask("CLUSTER INFO").await;
                let is_whole = info.contains("cluster_known_nodes:3");
                ready += usize::from(info.contains("cluster_state:ok") && is_whole);
            }
            if ready == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the cluster does not come up");
    }
}

fn is_ok(answer: &str) {
    assert!(answer.starts_with("+OK"), "{answer}");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("redis-server"));
    let found = places.find(|program| program.is_file());
    if found.is_none() {
        println!("SKIPPED: no redis-server found; apt-get install redis-server");
        eprintln!("SKIPPED: no redis-server found; apt-get install redis-server");
    }
    found
}

fn spawn(program: &PathBuf, port: u16, arguments: &[String]) -> Child {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
