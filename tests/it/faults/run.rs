//! A run: devices at work while things fail, then a quiet time, then the checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::books;
use super::calendar::Holder;
use super::database;
use super::device::{Device, Phase, Plan, Shared};
use super::history::{self, Channel, History, Line, Violation};
use super::people::{self, User};
use super::steward::{Group, Steward};
use super::view;
use super::wire::Wire;
use super::world::{Schedule, World};
use crate::support::{Person, Practice};

/// How long it may take until everybody has everything.
const REST: Duration = Duration::from_secs(120);

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seed: u64,
    pub users: usize,
    /// Members of a group; each user is in one, and in a conversation of two.
    pub group: usize,
    pub duration: Duration,
    /// Mean time between two messages of a user.
    pub writes_every: Duration,
    /// The longest time between two faults.
    pub rest: Duration,
}

/// What came of it.
pub struct Outcome {
    pub deliveries: usize,
    pub acknowledged: usize,
    /// Edits, reactions and the like that were acknowledged.
    pub changes: usize,
    /// How often a member was taken out of a group.
    pub removals: usize,
    pub faults: usize,
    pub violations: Vec<Violation>,
}

/// A device that runs.
pub type Running = (Arc<Shared>, JoinHandle<()>);

struct Run {
    world: World,
    devices: Vec<Running>,
    steward: JoinHandle<usize>,
    phase: watch::Sender<Phase>,
    practices: Vec<Practice>,
    witness: User,
}

/// Runs; none without Redis. Panics when the hub does not come to rest.
pub async fn run(options: Options) -> Option<Outcome> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let variables = [
        ("HOLD_TTL_SECONDS", "20"),
        ("PRESENCE_GRACE_SECONDS", "1"),
        ("PUSH_WINDOW_SECONDS", "3"),
        ("PUSH_ALLOW_PRIVATE_ENDPOINTS", "true"),
        ("METRICS_ADDR", "127.0.0.1:0"),
    ];
    let world = World::start(&variables).await?;
    let mut run = populate(world, options, &mut rng).await;
    let faults = run.fail(options, &mut rng).await;
    run.phase.send_replace(Phase::Rest);
    let removals = (&mut run.steward).await.unwrap();
    come_to_rest(&run.devices, &run.world.url).await;
    let mut violations = run.unanswered();
    violations.extend(run.compare_calendars().await);
    let (said, found) = books::balance(&run.world).await;
    println!("{said}");
    violations.extend(found);
    let stored = database::stored(&run.world.url).await;
    let messages = database::messages(&run.world.url).await;
    let histories = run.end().await;
    violations.extend(history::check(&histories, &stored));
    violations.extend(view::check(&histories, &messages));
    let count = |is: fn(&Line) -> bool| {
        histories.iter().flat_map(|h| &h.lines).filter(|line| is(line)).count()
    };
    Some(Outcome {
        deliveries: history::deliveries(&histories),
        acknowledged: count(|line| matches!(line, Line::Acked { .. })),
        changes: count(|line| matches!(line, Line::Changed { .. })),
        removals,
        faults,
        violations,
    })
}

/// The conversations of each user.
type Conversations = BTreeMap<Uuid, Vec<Channel>>;

/// Brings the users together, by the API: in groups that `steward` owns, and in pairs of a group, who
/// know each other by it. In each group one who stays has a browser that takes pushes.
async fn bring_together(
    world: &World,
    steward: &Person,
    users: &[User],
    size: usize,
) -> (Conversations, Vec<Group>) {
    let node = world.node(0);
    let (mut conversations, mut groups) = (Conversations::new(), Vec::new());
    let mut join = |id: &str, users: &[User]| {
        let channel: Channel = format!("conversation:{id}").into();
        for user in users {
            conversations.entry(user.id).or_default().push(channel.clone());
        }
    };
    for (n, members) in users.chunks(size).enumerate() {
        let ids: Vec<Uuid> = members.iter().map(|user| user.id).collect();
        let body = json!({ "kind": "group", "title": format!("Group {n}"), "memberIds": ids });
        let group = steward.post(node, "/v1/conversations", body).await.data(201);
        let id = group["id"].as_str().unwrap().to_owned();
        join(&id, members);
        books::gets_pushes(node, &members[0].person()).await;
        groups.push(Group { id, members: ids[1..].to_vec() });
        for pair in members.chunks_exact(2) {
            let body = json!({ "userId": pair[1].id });
            let chat = pair[0].person().post(node, "/v1/conversations", body).await.data(201);
            join(chat["id"].as_str().unwrap(), pair);
        }
    }
    (conversations, groups)
}

/// Users in pairs and groups, a device for each and a second one for every fourth.
async fn populate(world: World, options: Options, rng: &mut StdRng) -> Run {
    let mut practices = Vec::new();
    for _ in 0..2 {
        let changes = json!({ "instantConfirm": true });
        practices.push(world.node(0).practice_with(changes).await);
    }
    let mut users = people::seekers(&world.url, options.users + 1).await;
    let witness = users.pop().unwrap();
    let person = world.node(0).admin().await;
    let (conversations, groups) = bring_together(&world, &person, &users, options.group).await;
    let (phase, watched) = watch::channel(Phase::Work);
    let calendars: Vec<Channel> =
        practices.iter().map(|p| format!("calendar:{}", p.id).into()).collect();
    let mut devices = Vec::new();
    for (n, user) in users.iter().enumerate() {
        let twice = if n % 4 == 0 { 2 } else { 1 };
        for copy in 0..twice {
            let plan = Plan {
                name: format!("user {n}, device {copy}"),
                user: user.clone(),
                conversations: conversations[&user.id].clone(),
                calendars: if n % 3 == 0 { calendars.clone() } else { Vec::new() },
                writes_every: (copy == 0).then_some(options.writes_every),
                slow: n % 11 == 5,
                holder: (n % 6 == 1)
                    .then(|| Holder::new(practices.clone(), Duration::from_secs(2))),
                seed: rng.random(),
            };
            let device = Device::new(plan, world.proxies.clone(), watched.clone());
            devices.push((device.shared(), tokio::spawn(device.run())));
        }
    }
    let steward = Steward { person, groups, proxies: world.proxies.clone(), seed: rng.random() };
    let steward = tokio::spawn(steward.run(watched));
    Run { world, devices, steward, phase, practices, witness }
}

impl Run {
    /// Lets things fail for the time given, and until each kind has been; returns how often.
    async fn fail(&mut self, options: Options, rng: &mut StdRng) -> usize {
        let until = Instant::now() + options.duration;
        let mut schedule = Schedule::new(rng);
        let mut faults = 0;
        while Instant::now() < until || !schedule.is_through() {
            let rest = options.rest.mul_f64(rng.random_range(0.1..1.0));
            tokio::time::sleep(rest).await;
            let fault = schedule.next(rng);
            let began = Instant::now();
            self.world.suffer(fault, rng).await;
            faults += 1;
            println!("{fault:?} for {:?}; {}", began.elapsed(), self.progress());
            are_alive(&self.devices);
        }
        faults
    }

    fn progress(&self) -> String {
        let sum = |f: fn(&Shared) -> usize| self.devices.iter().map(|(s, _)| f(s)).sum::<usize>();
        let lines = sum(|s| s.history.lock().unwrap().lines.len());
        let waiting = sum(|s| s.unacknowledged.load(Ordering::Acquire));
        let connected = sum(|s| usize::from(s.connected.load(Ordering::Acquire)));
        format!("{lines} lines, {waiting} unacknowledged, {connected} connected")
    }

    /// Who still waits for an acknowledgement after the quiet time.
    fn unanswered(&self) -> Vec<Violation> {
        let waiting = |(shared, _): &Running| {
            let waiting = shared.unacknowledged.load(Ordering::Acquire);
            let history = shared.history.lock().unwrap();
            (waiting > 0).then(|| history::unanswered(&history, waiting))
        };
        self.devices.iter().filter_map(waiting).collect()
    }

    /// What each watcher knows of a calendar equals a fresh snapshot.
    async fn compare_calendars(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for practice in &self.practices {
            let channel = format!("calendar:{}", practice.id);
            let address = self.world.node(1).address;
            let mut wire = Wire::open(address, &self.witness.token).await.unwrap();
            let ask = json!({ "channel": channel });
            let fresh = wire.ask("subscribe", &ask).await.unwrap().data;
            let (seq, snapshot) = (fresh.seq.unwrap(), fresh.calendar().unwrap());
            for (shared, _) in &self.devices {
                let at = shared.cursors.lock().unwrap().get(&*channel).copied();
                // A hold that has lapsed since is another version.
                if at != Some(seq) {
                    continue;
                }
                let known = shared.calendars.lock().unwrap().get(&*channel).cloned();
                let wrong = known.map_or_else(Vec::new, |busy| busy.differs_from(&snapshot));
                if !wrong.is_empty() {
                    found.push(Violation {
                        kind: history::Kind::Foreign,
                        device: shared.history.lock().unwrap().device.clone(),
                        text: format!("{channel} at {seq}: {} minutes are wrong", wrong.len()),
                        lines: vec![format!("{:?}", &wrong[..wrong.len().min(20)])],
                    });
                }
            }
            wire.close().await;
        }
        found
    }

    /// Everything ends; what the devices did and saw.
    async fn end(self) -> Vec<History> {
        self.phase.send_replace(Phase::Stop);
        let histories = histories(self.devices).await;
        self.world.stop().await;
        histories
    }
}

/// A device that stopped by itself has found something that must not be.
fn are_alive(devices: &[Running]) {
    if let Some((shared, _)) = devices.iter().find(|(_, task)| task.is_finished()) {
        let history = shared.history.lock().unwrap();
        let last = history.lines.iter().rev().take(10).rev();
        let last: Vec<String> = last.map(ToString::to_string).collect();
        panic!("{} has stopped: {last:#?}", history.device);
    }
}

/// Waits until everything is acknowledged and everybody has all that there is, or long enough: the
/// checks tell what is missing.
pub async fn come_to_rest(devices: &[Running], url: &str) {
    let began = Instant::now();
    loop {
        are_alive(devices);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let waiting = devices.iter().map(|(s, _)| s.unacknowledged.load(Ordering::Acquire));
        let waiting: usize = waiting.sum();
        let behind = behind(devices, url).await;
        if waiting == 0 && behind.is_empty() {
            println!("at rest after {:?}", began.elapsed());
            return;
        }
        if began.elapsed() > REST {
            let some = &behind[..behind.len().min(20)];
            println!("NOT at rest: {waiting} unacknowledged, behind: {some:#?}");
            return;
        }
    }
}

/// Who has not seen the last event of which channel.
async fn behind(devices: &[Running], url: &str) -> Vec<String> {
    let heads = database::heads(url).await;
    let mut behind = Vec::new();
    for (shared, _) in devices {
        for (channel, seen) in &*shared.cursors.lock().unwrap() {
            let head = heads.get(&**channel).copied().unwrap_or(0);
            if *seen < head {
                let device = shared.history.lock().unwrap().device.clone();
                behind.push(format!("{device}: {channel} at {seen} of {head}"));
            }
        }
    }
    behind
}

/// Waits for the devices, which were told to stop; what they did and saw.
pub async fn histories(devices: Vec<Running>) -> Vec<History> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut histories = Vec::new();
    for (shared, task) in devices {
        task.await.unwrap();
        for (what, count) in &*shared.counts.lock().unwrap() {
            *counts.entry(what.clone()).or_default() += count;
        }
        histories.push(std::mem::take(&mut *shared.history.lock().unwrap()));
    }
    println!("{counts:#?}");
    histories
}
