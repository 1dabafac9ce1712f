//! What is let down: two nodes, a PostgreSQL and a Redis of the run's own, and proxies before the
//! nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::models::migrations::{self, Direction};
use hub::postgres::{self, Options, PrivatePostgres};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::proxy::Proxy;
use crate::private_postgres::DataDir;
use crate::support::Node;
use crate::support::redis::Redis;

/// How long a node or PostgreSQL may take to come back.
const PATIENCE: Duration = Duration::from_secs(90);

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of a node, which is started again after a while.
    Kill(usize),
    /// SIGTERM: the node says goodbye.
    Drain(usize),
    /// PostgreSQL ends without a checkpoint: SIGQUIT tells the clients, SIGKILL tells nobody.
    Postgres(Signal),
    /// Redis stands still, and a node is killed meanwhile or not.
    Redis { kill: Option<usize> },
    /// Connections are cut.
    Cut,
}

/// Everything that runs. What is still there ends when this is dropped.
pub struct World {
    pub url: String,
    pub proxies: Arc<[Proxy; 2]>,
    nodes: [Option<Node>; 2],
    redis: Redis,
    postgres: Option<PrivatePostgres>,
    env: Vec<(String, String)>,
    dir: DataDir,
}

fn options(dir: &DataDir) -> Options {
    // Durable: what was acknowledged outlives a killed server.
    Options { max_connections: 60, orphan_grace: Duration::ZERO, ..Options::new(dir.path()) }
}

impl World {
    /// Starts it, with these variables for the nodes; none, loudly, without Redis.
    pub async fn start(variables: &[(&str, &str)]) -> Option<Self> {
        let redis = Redis::start().await?;
        let dir = DataDir::new();
        let postgres = postgres::start(options(&dir)).await.unwrap();
        postgres.create_database_if_missing("hub").await.unwrap();
        let url = postgres.url("hub");
        let conn = crate::support::postgres::connect(&url).await;
        migrations::run(conn, Direction::Up).await.unwrap();
        let proxies = Arc::new([Proxy::start().await, Proxy::start().await]);
        let mut env = vec![("REDIS_URL".to_owned(), redis.url())];
        env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let postgres = Some(postgres);
        let mut world = Self { url, proxies, nodes: [None, None], redis, postgres, env, dir };
        for n in [0, 1] {
            world.start_node(n).await;
        }
        world.redis.is_followed_by(2).await;
        Some(world)
    }

    /// A node, to ask it something.
    pub fn node(&self, n: usize) -> &Node {
        self.nodes[n].as_ref().unwrap()
    }

    /// What Redis answers to `command`.
    pub async fn ask_redis(&self, command: &str) -> String {
        self.redis.ask(command).await
    }

    async fn start_node(&mut self, n: usize) {
        let env: Vec<(&str, &str)> = self.env.iter().map(|(k, v)| (&**k, &**v)).collect();
        let until = Instant::now() + PATIENCE;
        let node = loop {
            match Node::try_start(&self.url, &env).await {
                Ok(node) => break node,
                Err(said) => assert!(Instant::now() < until, "a node does not come up: {said}"),
            }
        };
        self.proxies[n].lead_to(Some(node.address));
        self.nodes[n] = Some(node);
    }

    async fn kill_node(&mut self, n: usize) {
        self.proxies[n].lead_to(None);
        if let Some(node) = self.nodes[n].take() {
            node.kill().await;
        }
    }

    async fn restart_postgres(&mut self, how: Signal, pause: Duration) {
        let server = self.postgres.take().unwrap();
        kill(Pid::from_raw(server.pid().try_into().unwrap()), how).unwrap();
        // Takes note of the end, and lets go of the data directory.
        server.stop().await.unwrap();
        tokio::time::sleep(pause).await;
        self.postgres = Some(postgres::start(options(&self.dir)).await.unwrap());
    }

    /// Brings a fault about and sets right what it broke; connections it leaves to the devices.
    pub async fn suffer(&mut self, fault: Fault, rng: &mut StdRng) {
        let pause = Duration::from_millis(rng.random_range(0..1_500));
        match fault {
            Fault::Kill(n) => {
                self.kill_node(n).await;
                tokio::time::sleep(pause).await;
                self.start_node(n).await;
            }
            Fault::Drain(n) => {
                self.proxies[n].lead_to(None);
                self.nodes[n].take().unwrap().stop().await;
                tokio::time::sleep(pause).await;
                self.start_node(n).await;
            }
            Fault::Postgres(how) => self.restart_postgres(how, pause).await,
            Fault::Redis { kill } => {
                self.redis.freeze();
                tokio::time::sleep(pause).await;
                if let Some(n) = kill {
                    self.kill_node(n).await;
                }
                tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..5_000))).await;
                self.redis.thaw();
                if let Some(n) = kill {
                    self.start_node(n).await;
                }
            }
            Fault::Cut => {
                for proxy in &*self.proxies {
                    proxy.cut(rng, 0.4);
                }
            }
        }
    }

    /// Stops everything as an operator would: each node ends well.
    pub async fn stop(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.stop().await;
        }
        self.postgres.take().unwrap().stop().await.unwrap();
    }
}

/// One of each kind in random order, then random ones for ever.
pub struct Schedule {
    first: Vec<Fault>,
}

fn all() -> Vec<Fault> {
    vec![
        Fault::Kill(0),
        Fault::Kill(1),
        Fault::Drain(0),
        Fault::Drain(1),
        Fault::Postgres(Signal::SIGQUIT),
        Fault::Postgres(Signal::SIGKILL),
        Fault::Redis { kill: None },
        Fault::Redis { kill: Some(0) },
        Fault::Redis { kill: Some(1) },
        Fault::Cut,
        Fault::Cut,
        Fault::Cut,
    ]
}

impl Schedule {
    /// The first ones: each kind once, at either node.
    pub fn new(rng: &mut StdRng) -> Self {
        let node = rng.random_range(0..2);
        let how = if rng.random_bool(0.5) { Signal::SIGQUIT } else { Signal::SIGKILL };
        let mut first = vec![
            Fault::Kill(node),
            Fault::Drain(1 - node),
            Fault::Postgres(how),
            Fault::Redis { kill: None },
            Fault::Cut,
        ];
        first.shuffle(rng);
        Self { first }
    }

    pub fn next(&mut self, rng: &mut StdRng) -> Fault {
        self.first.pop().unwrap_or_else(|| *all().choose(rng).unwrap())
    }

    /// Whether each kind has been.
    pub fn is_through(&self) -> bool {
        self.first.is_empty()
    }
}
