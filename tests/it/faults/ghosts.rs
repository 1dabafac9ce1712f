//! Presence after many kills: whoever is shown online has a socket, and whoever has one is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::people::{self, User};
use super::proxy::Proxy;
use super::wire::{Incoming, Wire};
use super::world::{Fault, World};

/// How long the users of a dead node may be shown online, the grace included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Channels asked for at once; a socket may have a hundred, and each is looked up.
const AT_ONCE: usize = 30;

/// What everybody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    ComeAndGo,
    /// Those who are to stay come back and stay, the others leave.
    Settle,
    Stop,
}

/// One who comes and goes, with a socket or without.
struct Visitor {
    user: User,
    proxies: Arc<[Proxy; 2]>,
    phase: watch::Receiver<Phase>,
    /// Whether there is a socket in the end.
    stays: bool,
    here: Arc<AtomicBool>,
    rng: StdRng,
}

impl Visitor {
    async fn run(mut self) {
        loop {
            let phase = *self.phase.borrow_and_update();
            match phase {
                Phase::Stop => return,
                Phase::Settle if !self.stays => {
                    let _ = self.phase.wait_for(|phase| *phase == Phase::Stop).await;
                    return;
                }
                _ => {}
            }
            let pause = Duration::from_millis(self.rng.random_range(50..3_000));
            tokio::time::sleep(pause).await;
            let node = self.proxies[self.rng.random_range(0..2)].leads_to();
            let Some(node) = node else { continue };
            if let Some(wire) = Wire::open(node, &self.user.token).await {
                self.here.store(true, Ordering::Release);
                self.stay(wire).await;
                self.here.store(false, Ordering::Release);
            }
        }
    }

    /// Until the connection ends or it is time to go, with a goodbye or without.
    async fn stay(&mut self, mut wire: Wire) {
        let time = Duration::from_millis(self.rng.random_range(500..30_000));
        let leaves = tokio::time::sleep(time);
        tokio::pin!(leaves);
        loop {
            let settled = *self.phase.borrow_and_update() != Phase::ComeAndGo;
            if *self.phase.borrow() == Phase::Stop || (settled && !self.stays) {
                break;
            }
            tokio::select! {
                incoming = wire.next() => if let Incoming::End(_) = incoming { return },
                _ = self.phase.changed() => {}
                () = &mut leaves, if !settled => break,
            }
        }
        if self.rng.random_bool(0.5) {
            wire.close().await;
        }
    }
}

/// What came of it.
pub struct Outcome {
    pub sockets: usize,
    pub kills: usize,
    /// Shown online without a socket, and the other way round.
    pub ghosts: Vec<Uuid>,
    pub missing: Vec<Uuid>,
    /// How long it took until presence was right, or was given up.
    pub took: Duration,
}

/// Runs; none without Redis.
pub async fn run(seed: u64, count: usize, duration: Duration) -> Option<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::start(&[("PRESENCE_GRACE_SECONDS", "1")]).await?;
    let mut users = people::seekers(&world.url, count + 1).await;
    people::conversation(&world.url, 1, &users.iter().collect::<Vec<_>>()).await;
    let witness = users.pop().unwrap();
    let (phase, watched) = watch::channel(Phase::ComeAndGo);
    let mut visitors = BTreeMap::new();
    let mut tasks = Vec::new();
    for user in users {
        let here = Arc::new(AtomicBool::new(false));
        visitors.insert(user.id, here.clone());
        let (proxies, phase) = (world.proxies.clone(), watched.clone());
        let (stays, rng) = (rng.random_bool(0.5), StdRng::seed_from_u64(rng.random()));
        let visitor = Visitor { user, proxies, phase, stays, here, rng };
        tasks.push(tokio::spawn(visitor.run()));
    }
    let kills = kill(&mut world, duration, &mut rng).await;
    phase.send_replace(Phase::Settle);
    let mut outcome = settle(&world, &witness, &visitors).await;
    outcome.kills = kills;
    phase.send_replace(Phase::Stop);
    for task in tasks {
        task.await.unwrap();
    }
    world.stop().await;
    Some(outcome)
}

async fn kill(world: &mut World, duration: Duration, rng: &mut StdRng) -> usize {
    let kinds = [
        Fault::Kill(0),
        Fault::Kill(1),
        Fault::Kill(0),
        Fault::Kill(1),
        Fault::Drain(0),
        Fault::Drain(1),
        Fault::Redis { kill: Some(0) },
        Fault::Redis { kill: Some(1) },
        Fault::Postgres(Signal::SIGKILL),
    ];
    let (until, mut kills) = (Instant::now() + duration, 0);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..10_000))).await;
        let fault = *kinds.choose(rng).unwrap();
        world.suffer(fault, rng).await;
        kills += 1;
    }
    // The last one is a node that dies with its sockets.
    world.suffer(Fault::Kill(rng.random_range(0..2)), rng).await;
    kills + 1
}

/// Waits until both nodes show online whoever has a socket and nobody else.
async fn settle(
    world: &World,
    witness: &User,
    visitors: &BTreeMap<Uuid, Arc<AtomicBool>>,
) -> Outcome {
    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let here = || -> BTreeSet<Uuid> {
            let here = visitors.iter().filter(|(_, here)| here.load(Ordering::Acquire));
            here.map(|(id, _)| *id).collect()
        };
        let before = here();
        let (mut ghosts, mut missing) = (BTreeSet::new(), BTreeSet::new());
        for n in [0, 1] {
            let online = online(world, n, witness, visitors).await;
            // A node that does not answer in time shows nobody.
            let online = online.unwrap_or_default();
            ghosts.extend(online.difference(&before).copied());
            missing.extend(before.difference(&online).copied());
        }
        let right = ghosts.is_empty() && missing.is_empty() && before == here();
        if right || began.elapsed() > PATIENCE {
            explain(world, ghosts.iter().chain(&missing)).await;
            return Outcome {
                sockets: before.len(),
                kills: 0,
                ghosts: ghosts.into_iter().collect(),
                missing: missing.into_iter().collect(),
                took: began.elapsed(),
            };
        }
    }
}

/// Says what Redis has of the first of `wrong`.
async fn explain(world: &World, wrong: impl Iterator<Item = &Uuid>) {
    for id in wrong.take(5) {
        let known = world.ask_redis(&format!("HGETALL klearkarma:user:{}", id.simple())).await;
        println!("{id}: {known:?}");
    }
    let nodes = world.ask_redis("ZRANGE klearkarma:nodes 0 -1 WITHSCORES").await;
    println!("nodes: {nodes:?}");
}

/// Whom the node shows online; none when it does not answer.
async fn online(
    world: &World,
    n: usize,
    witness: &User,
    visitors: &BTreeMap<Uuid, Arc<AtomicBool>>,
) -> Option<BTreeSet<Uuid>> {
    let mut online = BTreeSet::new();
    let ids: Vec<&Uuid> = visitors.keys().collect();
    for some in ids.chunks(AT_ONCE) {
        let mut wire = Wire::open(world.node(n).address, &witness.token).await?;
        let channels: BTreeMap<String, i64> =
            some.iter().map(|id| (format!("presence:{id}"), 0)).collect();
        let answer = wire.ask("resume", &json!({ "channels": channels })).await?;
        for (channel, opened) in answer.data.channels? {
            let snapshot = opened.snapshot?;
            if snapshot["state"] != "offline" {
                online.insert(channel.strip_prefix("presence:").unwrap().parse().unwrap());
            }
        }
        wire.close().await;
    }
    Some(online)
}
