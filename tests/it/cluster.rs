//! `make cluster`: two nodes behind nginx. Users on different nodes chat; one node is killed, and
//! clients go on at the other.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::chat::Pair;
use crate::support::postgres::migrated;
use crate::support::{Person, Socket, TestHub};

/// A running `scripts/cluster`; stopped, with all that it started, when dropped.
struct Cluster {
    script: Child,
    hub: TestHub,
    /// Of the two nodes.
    nodes: Vec<Pid>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts it. `None`, loudly, where a program is missing: a test installs nothing.
    fn start() -> Option<Self> {
        for program in ["redis-server", "nginx", "curl", "setsid"] {
            let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/bin", "/sbin"];
            if !places.iter().any(|place| std::path::Path::new(place).join(program).is_file()) {
                println!("SKIPPED: no {program} found; apt-get install redis-server nginx curl");
                eprintln!("SKIPPED: no {program} found; apt-get install redis-server nginx curl");
                return None;
            }
        }
        let (dir, url, port) = (tempfile::tempdir().unwrap(), migrated(), free_ports());
        let mut script = Command::new("sh")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster")])
            .arg(env!("CARGO_BIN_EXE_hub"))
            .env("CLUSTER_PORT", port.to_string())
            .env("CLUSTER_DIR", dir.path())
            .env("DATABASE_URL", &url)
            .envs([("DATABASE_POOL_SIZE", "8"), ("BCRYPT_COST", "10"), ("SHUTDOWN_SECONDS", "2")])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut nodes = Vec::new();
        // Dropped after it is ready: the script goes on, and stops everything, with nobody to tell.
        for line in BufReader::new(script.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            for rest in line.split("(process ").skip(1) {
                let pid = rest.split(')').next().unwrap();
                nodes.push(Pid::from_raw(pid.parse().unwrap()));
            }
            if line.contains("ready: ") {
                break;
            }
        }
        assert_eq!(nodes.len(), 2, "the cluster does not start");
        let hub = TestHub::at(([127, 0, 0, 1], port).into(), url);
        Some(Self { script, hub, nodes, _dir: dir })
    }

    /// Which node answers now.
    async fn node(&self) -> String {
        let answer = self.hub.get("/healthz").await;
        answer.headers["x-node"].to_str().unwrap().to_owned()
    }

    /// Ctrl-C.
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.script.id().try_into().unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.script.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the cluster does not stop");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.script.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
    }
}

/// The first of four ports in a row that are free.
fn free_ports() -> u16 {
    let bind = |port| TcpListener::bind(("127.0.0.1", port)).ok();
    for _ in 0..100 {
        let port = bind(0).unwrap().local_addr().unwrap().port();
        if port < 65_000 && (port..port + 4).all(|port| bind(port).is_some()) {
            return port;
        }
    }
    panic!("no ports");
}

/// A socket, opened again until the balancer has found a node that lives.
async fn open_again(hub: &TestHub, person: &Person) -> Socket {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match Socket::try_open(hub, Some(&person.token)).await {
            Ok(socket) => return socket,
            Err(e) => assert!(Instant::now() < until, "nobody lets them in: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn clients_go_on_at_the_other_node_when_one_is_killed() {
    let Some(mut cluster) = Cluster::start() else { return };
    let hub = &cluster.hub;
    let pair = Pair::of(hub).await;
    // The balancer gives each node one of two sockets.
    let mut here = pair.follow(hub, &pair.a).await;
    let mut there = pair.follow(hub, &pair.b).await;
    let presence = json!({ "channel": format!("presence:{}", pair.a.id) });
    there.ok("subscribe", presence).await;
    for n in 1..=5 {
        here.ok("message:send", pair.message("one way")).await;
        assert_eq!(there.event("message:new").await["seq"], 2 * n - 1);
        there.ok("message:send", pair.message("the other")).await;
        assert_eq!(there.event("message:new").await["seq"], 2 * n);
    }
    here.ok("typing:start", json!({ "conversationId": pair.id })).await;
    there.event("typing:start").await;
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..20 {
        served.insert(cluster.node().await);
    }
    assert_eq!(served.len(), 2, "both nodes serve: {served:?}");

    let killed = Instant::now();
    kill(cluster.nodes[0], Signal::SIGKILL).unwrap();
    // One of the two sockets is gone, the other goes on; who was cut off comes back and resumes.
    let since = json!({ "channels": { (pair.channel()): 10 } });
    let (mut a, mut b) = (open_again(hub, &pair.a).await, open_again(hub, &pair.b).await);
    let back = killed.elapsed();
    a.ok("resume", since.clone()).await;
    b.ok("resume", since).await;
    a.ok("message:send", pair.message("still here")).await;
    for socket in [&mut a, &mut b] {
        assert_eq!(socket.event("message:new").await["seq"], 11);
    }
    let left = [here.call_if_open("ping").await, there.call_if_open("ping").await];
    assert_eq!(left.iter().filter(|open| **open).count(), 1, "the two were on different nodes");
    // Requests do not see the dead node.
    for _ in 0..10 {
        pair.a.get(hub, "/v1/conversations").await.data(200);
    }
    println!("back {back:?} after the kill");
    assert_eq!(cluster.stop(), Some(130));
}
