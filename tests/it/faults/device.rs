//! A device: it writes, reads, comes back after every fall, and keeps a history of it all.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::busy::Busy;
use super::calendar::{Holder, Wish};
use super::history::{Channel, History, Line};
use super::people::User;
use super::proxy::Proxy;
use super::wire::{Frame, Incoming, PATIENCE, Refused, Wire};

/// What all devices are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Work,
    /// Write nothing new; what is not acknowledged is still sent again.
    Rest,
    Stop,
}

/// Answers that leave open whether, or say that not, something was done: it is tried again.
const TRY_AGAIN: [&str; 5] =
    ["overloaded", "unavailable", "rate_limited", "internal", "idempotency_in_flight"];
/// Messages under way at once.
const UNDER_WAY: usize = 4;
const TICK: Duration = Duration::from_millis(50);
const PING: Duration = Duration::from_secs(3);

/// What a device is and does.
pub struct Plan {
    pub name: String,
    pub user: User,
    pub conversations: Vec<Channel>,
    pub calendars: Vec<Channel>,
    /// Mean time between two of its messages; none for one that only reads.
    pub writes_every: Option<Duration>,
    /// Reads so slowly that the hub has to close it now and then.
    pub slow: bool,
    /// Holds, books and gives back.
    pub holder: Option<Holder>,
    pub seed: u64,
}

/// What the runner sees of a device while it runs.
#[derive(Default)]
pub struct Shared {
    pub history: Mutex<History>,
    /// The last seq seen per channel.
    pub cursors: Mutex<BTreeMap<Channel, i64>>,
    pub calendars: Mutex<BTreeMap<Channel, Busy>>,
    pub unacknowledged: AtomicUsize,
    pub connected: AtomicBool,
    /// Refusals by code, and what else is worth knowing.
    pub counts: Mutex<BTreeMap<String, usize>>,
}

impl Shared {
    fn count(&self, what: &str) {
        *self.counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn note(&self, line: Line) {
        self.history.lock().unwrap().lines.push(line);
    }
}

/// A message that the hub has not acknowledged.
struct Unacknowledged {
    channel: Channel,
    client_id: Uuid,
    text: String,
    written: Instant,
    /// When it may be sent (again); none while an answer is awaited on this connection.
    due: Option<Instant>,
}

/// What a command on this connection was.
enum Asked {
    Send(Uuid),
    Ping,
    Hold(Wish),
    Other,
}

pub struct Device {
    plan: Plan,
    proxies: Arc<[Proxy; 2]>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    rng: StdRng,
    outbox: Vec<Unacknowledged>,
    next_write: Instant,
    next_ping: Instant,
    heard_at: Instant,
    asked: HashMap<u64, Asked>,
    messages: usize,
    /// Channels of which the hub had more to tell at the last ping.
    behind: BTreeMap<String, i64>,
    /// The hub had more to tell at two pings, and told nothing: it is time to come again.
    stuck: bool,
}

impl Device {
    pub fn new(plan: Plan, proxies: Arc<[Proxy; 2]>, phase: watch::Receiver<Phase>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.history.lock().unwrap().device.clone_from(&plan.name);
        let rng = StdRng::seed_from_u64(plan.seed);
        let now = Instant::now();
        let (outbox, asked, behind) = (Vec::new(), HashMap::new(), BTreeMap::new());
        let (next_write, next_ping, heard_at) = (now, now + PING, now);
        Self {
            plan,
            proxies,
            shared,
            phase,
            rng,
            outbox,
            next_write,
            next_ping,
            heard_at,
            asked,
            messages: 0,
            behind,
            stuck: false,
        }
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Until told to stop.
    pub async fn run(mut self) {
        while *self.phase.borrow() != Phase::Stop {
            let node = self.rng.random_range(0..2);
            let address = self.proxies[node].address;
            if let Some(wire) = Wire::open(address, &self.plan.user.token).await {
                self.shared.note(Line::Opened { node });
                let code = self.connection(wire).await;
                self.shared.note(Line::Closed { code });
                self.shared.connected.store(false, Ordering::Release);
                self.shared.count(&code.map_or("closed".to_owned(), |c| format!("closed {c}")));
            }
            let pause = Duration::from_millis(self.rng.random_range(50..500));
            tokio::time::sleep(pause).await;
        }
    }

    /// From the resume to the end of one connection.
    async fn connection(&mut self, mut wire: Wire) -> Option<u16> {
        if let Err(code) = self.begin(&mut wire).await {
            return code;
        }
        self.shared.connected.store(true, Ordering::Release);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                incoming = wire.next() => match incoming {
                    Incoming::Frame(frame) => {
                        self.heard_at = Instant::now();
                        self.take(*frame);
                        self.dawdle().await;
                    }
                    Incoming::Nothing => {}
                    Incoming::End(code) => return code,
                },
                _ = tick.tick() => {
                    if *self.phase.borrow() == Phase::Stop {
                        wire.close().await;
                        return Some(1000);
                    }
                    if self.work(&mut wire).await.is_none() || self.hears_nothing() || self.stuck {
                        return None;
                    }
                }
            }
        }
    }

    /// Not even the answer to a ping. One that is slow by itself has no reason to think so while it
    /// works.
    fn hears_nothing(&self) -> bool {
        let is_slow = self.plan.slow && *self.phase.borrow() == Phase::Work;
        let nothing = !is_slow && self.heard_at.elapsed() > PATIENCE;
        if nothing {
            self.shared.count("heard nothing for 10 s");
        }
        nothing
    }

    /// Opens all channels from where the device is. What comes of one's own channel before the
    /// answer begins at its head and is told again: it does not count.
    async fn begin(&mut self, wire: &mut Wire) -> Result<(), Option<u16>> {
        self.asked.clear();
        self.behind.clear();
        self.stuck = false;
        self.outbox.iter_mut().for_each(|m| m.due = Some(Instant::now()));
        (self.heard_at, self.next_ping) = (Instant::now(), Instant::now() + PING);
        for calendar in self.plan.calendars.clone() {
            if !self.shared.calendars.lock().unwrap().contains_key(&calendar) {
                self.watch(wire, calendar).await.ok_or(None)?;
            }
        }
        let mut from = self.shared.cursors.lock().unwrap().clone();
        let own: Channel = format!("user:{}", self.plan.user.id).into();
        for channel in self.plan.conversations.iter().chain([&own]) {
            from.entry(channel.clone()).or_insert(0);
        }
        let channels: BTreeMap<&str, i64> = from.iter().map(|(c, seq)| (&**c, *seq)).collect();
        let answer = wire.ask("resume", &json!({ "channels": channels })).await.ok_or(None)?;
        let opened = answer.data.channels.unwrap_or_default();
        let all = from.keys().all(|c| opened.get(&**c).is_some_and(|r| r.seq.is_some()));
        if !answer.ok || !all {
            self.shared.count("resume refused");
            return Err(None);
        }
        for (channel, since) in &from {
            self.shared.note(Line::From { channel: channel.clone(), since: *since });
        }
        *self.shared.cursors.lock().unwrap() = from;
        Ok(())
    }

    /// Asks for a calendar's snapshot. What comes of it meanwhile is told again by `resume`.
    async fn watch(&mut self, wire: &mut Wire, calendar: Channel) -> Option<()> {
        let answer = wire.ask("subscribe", &json!({ "channel": &*calendar })).await?;
        let (seq, snapshot) = (answer.data.seq?, answer.data.calendar()?);
        self.shared.cursors.lock().unwrap().insert(calendar.clone(), seq);
        self.shared.calendars.lock().unwrap().insert(calendar, Busy::of(&snapshot));
        Some(())
    }

    fn take(&mut self, frame: Frame) {
        match (&frame.channel, frame.id) {
            (Some(_), _) => self.see(frame),
            (None, Some(id)) => {
                let asked = self.asked.remove(&id);
                self.hear(asked.as_ref(), frame);
            }
            (None, None) => panic!("neither an answer nor an event: {frame:?}"),
        }
    }

    /// An event.
    fn see(&mut self, frame: Frame) {
        let (Some(channel), Some(seq)) = (frame.channel, frame.seq) else { return };
        let mut cursors = self.shared.cursors.lock().unwrap();
        let known = cursors.get_key_value(channel.as_str()).map(|(known, _)| known.clone());
        let channel: Channel = known.unwrap_or_else(|| channel.into());
        let id = frame.data.message.map_or(Uuid::nil(), |message| message.id);
        self.shared.note(Line::Saw { channel: channel.clone(), seq, id });
        if let Some(changes) = frame.data.changes
            && let Some(busy) = self.shared.calendars.lock().unwrap().get_mut(&channel)
        {
            busy.apply(&changes);
        }
        let cursor = cursors.entry(channel).or_default();
        *cursor = seq.max(*cursor);
    }

    /// An answer.
    fn hear(&mut self, asked: Option<&Asked>, frame: Frame) {
        if let Some(error) = &frame.error {
            self.shared.count(&error.code);
        }
        match asked {
            Some(Asked::Send(client_id)) => self.sent(*client_id, frame),
            Some(Asked::Ping) => self.compare(frame.data.heads.unwrap_or_default()),
            Some(Asked::Hold(wish)) => {
                if let Some(holder) = &mut self.plan.holder {
                    holder.heard(*wish, frame.data.id.filter(|_| frame.ok));
                }
            }
            Some(Asked::Other) | None => {}
        }
    }

    fn sent(&mut self, client_id: Uuid, frame: Frame) {
        let Some(at) = self.outbox.iter().position(|m| m.client_id == client_id) else { return };
        if let Some(Refused { code, retry_after_ms }) = frame.error {
            assert!(TRY_AGAIN.contains(&code.as_str()), "a message was refused: {code}");
            let pause = Duration::from_millis(retry_after_ms.unwrap_or(500));
            self.outbox[at].due = Some(Instant::now() + pause);
            return;
        }
        let Unacknowledged { channel, written, .. } = self.outbox.remove(at);
        self.shared.count(match written.elapsed().as_millis() {
            0..100 => "acknowledged in 0.1 s",
            100..1_000 => "acknowledged in 1 s",
            1_000..10_000 => "acknowledged in 10 s",
            _ => "acknowledged later",
        });
        let (seq, id) = (frame.data.seq.unwrap(), frame.data.message_id.unwrap());
        self.shared.note(Line::Acked { channel, client_id, seq, id });
        self.shared.unacknowledged.store(self.outbox.len(), Ordering::Release);
    }

    /// A head that is larger than what was seen, twice in a row with nothing in between, is a reason
    /// to come again.
    fn compare(&mut self, heads: BTreeMap<String, i64>) {
        if self.plan.slow {
            return;
        }
        let cursors = self.shared.cursors.lock().unwrap();
        let mut behind = BTreeMap::new();
        for (channel, head) in heads {
            let seen = cursors.get(channel.as_str()).copied().unwrap_or(head);
            if head > seen {
                behind.insert(channel, seen);
            }
        }
        if behind.iter().any(|(channel, seen)| self.behind.get(channel) == Some(seen)) {
            self.shared.count("behind at two pings");
            self.stuck = true;
        }
        self.behind = behind;
    }

    async fn dawdle(&mut self) {
        if self.plan.slow && *self.phase.borrow() == Phase::Work {
            let pause = if self.rng.random_bool(0.01) { 2_000..8_000 } else { 1..20 };
            let pause = Duration::from_millis(self.rng.random_range(pause));
            tokio::time::sleep(pause).await;
        }
    }

    /// What is due; none when the connection is lost.
    async fn work(&mut self, wire: &mut Wire) -> Option<()> {
        let now = Instant::now();
        if *self.phase.borrow() == Phase::Work {
            self.compose(now);
            self.book(wire).await?;
        }
        for n in 0..self.outbox.len() {
            let message = &mut self.outbox[n];
            if message.due.is_some_and(|due| due <= now) {
                message.due = None;
                let (channel, client_id) = (message.channel.clone(), message.client_id);
                let conversation = channel.strip_prefix("conversation:").unwrap();
                let data = json!({ "conversationId": conversation, "clientId": client_id,
                    "content": message.text });
                // Noted before: a lost connection does not tell whether the hub has it.
                self.shared.note(Line::Sent { channel: channel.clone(), client_id });
                let id = wire.send("message:send", &data).await?;
                self.asked.insert(id, Asked::Send(client_id));
            }
        }
        if self.next_ping <= now {
            self.next_ping = now + PING;
            let id = wire.send("ping", &json!({})).await?;
            self.asked.insert(id, Asked::Ping);
            self.acknowledge(wire).await?;
        }
        Some(())
    }

    /// Writes the next message when it is time.
    fn compose(&mut self, now: Instant) {
        let Some(every) = self.plan.writes_every else { return };
        if now < self.next_write || self.outbox.len() >= UNDER_WAY {
            return;
        }
        self.next_write = now + every.mul_f64(self.rng.random_range(0.2..1.8));
        self.messages += 1;
        let client_id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
        let channel = self.plan.conversations.choose(&mut self.rng).unwrap().clone();
        let text = format!("{} {}", self.plan.name, self.messages);
        let due = Some(now);
        self.outbox.push(Unacknowledged { channel, client_id, text, written: now, due });
        self.shared.unacknowledged.store(self.outbox.len(), Ordering::Release);
    }

    /// Says how far one conversation was received or read.
    async fn acknowledge(&mut self, wire: &mut Wire) -> Option<()> {
        let channel = self.plan.conversations.choose(&mut self.rng)?.clone();
        let seq = self.shared.cursors.lock().unwrap().get(&channel).copied().unwrap_or(0);
        if seq > 0 {
            let op = if self.rng.random_bool(0.5) { "message:read" } else { "message:received" };
            let conversation = channel.strip_prefix("conversation:").unwrap();
            let id = wire.send(op, &json!({ "conversationId": conversation, "seq": seq })).await?;
            self.asked.insert(id, Asked::Other);
        }
        Some(())
    }

    async fn book(&mut self, wire: &mut Wire) -> Option<()> {
        let wanted: Option<(&str, Value, Wish)> =
            self.plan.holder.as_mut().and_then(|holder| holder.next(&mut self.rng));
        if let Some((op, data, wish)) = wanted {
            let id = wire.send(op, &data).await?;
            self.asked.insert(id, Asked::Hold(wish));
        }
        Some(())
    }
}
