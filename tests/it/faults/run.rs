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

use super::calendar::Holder;
use super::device::{Device, Phase, Plan, Shared};
use super::history::{self, Channel, History, Row, Stored, Violation};
use super::people::{self, User};
use super::wire::Wire;
use super::world::{Schedule, World};
use crate::support::{Practice, rows};

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
    pub faults: usize,
    pub violations: Vec<Violation>,
}

/// A device that runs.
pub type Running = (Arc<Shared>, JoinHandle<()>);

struct Run {
    world: World,
    devices: Vec<Running>,
    phase: watch::Sender<Phase>,
    practices: Vec<Practice>,
    witness: User,
}

/// Runs; none without Redis. Panics when the hub does not come to rest.
pub async fn run(options: Options) -> Option<Outcome> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let short = [("HOLD_TTL_SECONDS", "20"), ("PRESENCE_GRACE_SECONDS", "1")];
    let world = World::start(&short).await?;
    let mut run = populate(world, options, &mut rng).await;
    let faults = run.fail(options, &mut rng).await;
    run.phase.send_replace(Phase::Rest);
    come_to_rest(&run.devices, &run.world.url).await;
    let mut violations = run.unanswered();
    violations.extend(run.compare_calendars().await);
    let stored = stored(&run.world.url).await;
    let histories = run.end().await;
    violations.extend(history::check(&histories, &stored));
    let lines = || histories.iter().flat_map(|h| &h.lines);
    let acknowledged = lines().filter(|l| matches!(l, history::Line::Acked { .. })).count();
    Some(Outcome { deliveries: history::deliveries(&histories), acknowledged, faults, violations })
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
    let mut conversations: BTreeMap<Uuid, Vec<Channel>> = BTreeMap::new();
    let mut count = 0;
    for size in [2, options.group] {
        for members in users.chunks(size).filter(|members| members.len() > 1) {
            count += 1;
            let members: Vec<&User> = members.iter().collect();
            let channel = people::conversation(&world.url, count, &members).await;
            for member in members {
                conversations.entry(member.id).or_default().push(channel.clone());
            }
        }
    }
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
    Run { world, devices, phase, practices, witness }
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
    let heads = heads(url).await;
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

async fn heads(url: &str) -> BTreeMap<String, i64> {
    let sql = "SELECT 'conversation:' || id, last_seq FROM conversations
               UNION ALL SELECT 'user:' || user_id, last_seq FROM user_channels
               UNION ALL SELECT 'calendar:' || practitioner_id, version FROM calendars";
    let rows = rows::rows(url, sql).await.into_iter();
    rows.map(|row| (row[0].clone().unwrap(), row[1].as_ref().unwrap().parse().unwrap())).collect()
}

/// What the database has.
pub async fn stored(url: &str) -> Stored {
    let nil = Uuid::nil();
    let sql = format!(
        "SELECT 'conversation:' || conversation_id, seq, id, client_id FROM messages
         UNION ALL SELECT 'user:' || user_id, seq, '{nil}', '{nil}' FROM user_events
         UNION ALL SELECT 'calendar:' || practitioner_id, version, '{nil}', '{nil}'
           FROM calendar_changes
         ORDER BY 1, 2"
    );
    let mut stored = Stored::new();
    for row in rows::rows(url, &sql).await {
        let [channel, seq, id, client_id] = &row[..] else { unreachable!() };
        let text = |value: &Option<String>| value.clone().unwrap();
        stored.entry(text(channel).into()).or_default().push(Row {
            seq: text(seq).parse().unwrap(),
            id: text(id).parse().unwrap(),
            client_id: text(client_id).parse().unwrap(),
        });
    }
    stored
}
