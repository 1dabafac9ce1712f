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
use super::deeds::{Deed, Memory};
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
/// Between two attempts to open a channel that is not the device's.
const KNOCK: Duration = Duration::from_millis(700);
/// Of so many deeds one is a change of a message that is there.
const CHANGES: u32 = 4;

/// What a device is and does.
pub struct Plan {
    pub name: String,
    pub user: User,
    pub conversations: Vec<Channel>,
    pub calendars: Vec<Channel>,
    /// Mean time between two of its messages and changes; none for one that only reads.
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

/// A deed that the hub has not acknowledged.
struct Unacknowledged {
    channel: Channel,
    /// The client id of a new message; tells deeds apart.
    key: Uuid,
    deed: Deed,
    written: Instant,
    sent: bool,
    /// When it may be sent (again); none while an answer is awaited on this connection.
    due: Option<Instant>,
}

/// What a command on this connection was.
enum Asked {
    Deed(Uuid),
    Open(Channel, i64),
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
    memory: Memory,
    /// Conversations that are not the device's at the moment, and when to ask again.
    closed: BTreeMap<Channel, Instant>,
    /// Channels of which the hub had more to tell at the last ping.
    behind: BTreeMap<String, i64>,
    /// The hub had more to tell at two pings, and told nothing: it is time to come again.
    stuck: bool,
}

impl Device {
    pub fn new(plan: Plan, proxies: Arc<[Proxy; 2]>, phase: watch::Receiver<Phase>) -> Self {
        let shared = Arc::new(Shared::default());
        {
            let mut history = shared.history.lock().unwrap();
            history.device.clone_from(&plan.name);
            history.user = plan.user.id;
        }
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
            memory: Memory::default(),
            closed: BTreeMap::new(),
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
        self.closed.clear();
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
        let is_closed = |channel: &Channel| {
            let error = opened.get(&**channel).and_then(|r| r.error.as_ref());
            channel.starts_with("conversation:") && error.is_some_and(|e| e.code == "not_found")
        };
        let is_open = |channel: &Channel| {
            is_closed(channel) || opened.get(&**channel).is_some_and(|r| r.seq.is_some())
        };
        if !answer.ok || !from.keys().all(is_open) {
            self.shared.count("resume refused");
            return Err(None);
        }
        self.shared.cursors.lock().unwrap().clone_from(&from);
        for (channel, since) in from {
            if is_closed(&channel) {
                self.is_put_out(channel);
            } else {
                self.opened(channel, since);
            }
        }
        Ok(())
    }

    /// From now on everything of the channel is told that comes after `since`.
    fn opened(&self, channel: Channel, since: i64) {
        let mut history = self.shared.history.lock().unwrap();
        if channel.starts_with("conversation:") {
            history.view.entry(channel.clone()).or_default();
        }
        history.lines.push(Line::From { channel, since });
    }

    /// The channel is not the device's any more; it asks again until it is.
    fn is_put_out(&mut self, channel: Channel) {
        self.shared.note(Line::Ended { channel: channel.clone() });
        self.closed.insert(channel, Instant::now() + KNOCK);
    }

    /// Asks for the channels that are closed.
    async fn knock(&mut self, wire: &mut Wire, now: Instant) -> Option<()> {
        for (channel, due) in &mut self.closed {
            if *due > now {
                continue;
            }
            *due = now + PATIENCE;
            let since = self.shared.cursors.lock().unwrap().get(channel).copied().unwrap_or(0);
            let data = json!({ "channel": &**channel, "since": since });
            let id = wire.send("subscribe", &data).await?;
            self.asked.insert(id, Asked::Open(channel.clone(), since));
        }
        Some(())
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
        let Some(channel) = frame.channel else { return };
        let Some(seq) = frame.seq else {
            if frame.event.as_deref() == Some("subscription:ended") {
                self.is_put_out(channel.into());
            }
            return;
        };
        let mut cursors = self.shared.cursors.lock().unwrap();
        let known = cursors.get_key_value(channel.as_str()).map(|(known, _)| known.clone());
        let channel: Channel = known.unwrap_or_else(|| channel.into());
        let id = frame.data.message.as_ref().map_or(Uuid::nil(), |message| message.id);
        {
            let mut history = self.shared.history.lock().unwrap();
            history.lines.push(Line::Saw { channel: channel.clone(), seq, id });
            if let Some(message) = frame.data.message {
                history.view.entry(channel.clone()).or_default().insert(id, message.into());
            }
        }
        if self.plan.writes_every.is_some() && frame.event.as_deref() == Some("message:new") {
            self.memory.saw(&channel, id);
        }
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
            Some(Asked::Deed(key)) => self.done(*key, frame),
            Some(Asked::Open(channel, since)) => self.let_in(channel, *since, &frame),
            Some(Asked::Ping) => self.compare(frame.data.heads.unwrap_or_default()),
            Some(Asked::Hold(wish)) => {
                if let Some(holder) = &mut self.plan.holder {
                    holder.heard(*wish, frame.data.id.filter(|_| frame.ok));
                }
            }
            Some(Asked::Other) | None => {}
        }
    }

    /// The answer to a knock. Only an open channel is told of, and only after this.
    fn let_in(&mut self, channel: &Channel, since: i64, frame: &Frame) {
        if frame.ok {
            self.closed.remove(channel);
            self.opened(channel.clone(), since);
        } else if let Some(due) = self.closed.get_mut(channel) {
            *due = Instant::now() + KNOCK;
        }
    }

    fn done(&mut self, key: Uuid, frame: Frame) {
        let Some(at) = self.outbox.iter().position(|m| m.key == key) else { return };
        let mut is_gone = false;
        if let Some(Refused { code, message, retry_after_ms }) = frame.error {
            let is_out = code == "not_found" && message.contains("conversation");
            is_gone = code == "not_found" && !is_out && self.outbox[at].deed.changes().is_some();
            if !is_gone {
                let again = is_out || TRY_AGAIN.contains(&code.as_str());
                assert!(again, "{:?} was refused: {code}", self.outbox[at].deed);
                let pause = Duration::from_millis(retry_after_ms.unwrap_or(500));
                self.outbox[at].due = Some(Instant::now() + pause);
                return;
            }
        }
        let Unacknowledged { channel, deed, written, .. } = self.outbox.remove(at);
        self.shared.unacknowledged.store(self.outbox.len(), Ordering::Release);
        self.shared.count(match written.elapsed().as_millis() {
            0..100 => "acknowledged in 0.1 s",
            100..1_000 => "acknowledged in 1 s",
            1_000..10_000 => "acknowledged in 10 s",
            _ => "acknowledged later",
        });
        let Some(message) = deed.changes() else {
            let (seq, id) = (frame.data.seq.unwrap(), frame.data.message_id.unwrap());
            self.memory.wrote(&channel, id);
            return self.shared.note(Line::Acked { channel, client_id: key, seq, id });
        };
        if is_gone {
            self.memory.leave(message);
        }
        self.made(channel, message, deed, is_gone);
    }

    /// Keeps in mind how a message now is.
    fn made(&self, channel: Channel, id: Uuid, deed: Deed, is_gone: bool) {
        let op = if is_gone { "finding the end" } else { deed.op() };
        self.shared.count(op);
        let mut history = self.shared.history.lock().unwrap();
        let made = history.made.entry((channel.clone(), id)).or_default();
        made.gone |= is_gone;
        match deed {
            Deed::Edit { text, .. } => made.text = Some(text.into()),
            Deed::Delete { .. } => made.gone = true,
            Deed::React { emoji, give, .. } if !is_gone => _ = made.reactions.insert(emoji, give),
            Deed::React { .. } | Deed::Send { .. } => {}
        }
        history.lines.push(Line::Changed { channel, id, op });
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
            let waiting = &mut self.outbox[n];
            if waiting.due.is_none_or(|due| due > now) {
                continue;
            }
            waiting.due = None;
            let was_sent = std::mem::replace(&mut waiting.sent, true);
            match waiting.deed.changes() {
                Some(message) if was_sent => self.memory.leave(message),
                Some(_) => {}
                // Noted before: a lost connection does not tell whether the hub has it.
                None => self
                    .shared
                    .note(Line::Sent { channel: waiting.channel.clone(), client_id: waiting.key }),
            }
            let (key, data) = (waiting.key, waiting.deed.data(&waiting.channel, waiting.key));
            let id = wire.send(waiting.deed.op(), &data).await?;
            self.asked.insert(id, Asked::Deed(key));
        }
        self.knock(wire, now).await?;
        if self.next_ping <= now {
            self.next_ping = now + PING;
            let id = wire.send("ping", &json!({})).await?;
            self.asked.insert(id, Asked::Ping);
            self.acknowledge(wire).await?;
        }
        Some(())
    }

    /// Decides on the next deed when it is time.
    fn compose(&mut self, now: Instant) {
        let Some(every) = self.plan.writes_every else { return };
        if now < self.next_write || self.outbox.len() >= UNDER_WAY {
            return;
        }
        self.next_write = now + every.mul_f64(self.rng.random_range(0.2..1.8));
        let Some((channel, deed)) = self.think() else { return };
        let key = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
        let due = Some(now);
        self.outbox.push(Unacknowledged { channel, key, deed, written: now, sent: false, due });
        self.shared.unacknowledged.store(self.outbox.len(), Ordering::Release);
    }

    /// A new message, or a change of one that is there and is not being changed.
    fn think(&mut self) -> Option<(Channel, Deed)> {
        if self.rng.random_ratio(1, CHANGES) {
            let busy = |id| self.outbox.iter().any(|m| m.deed.changes() == Some(id));
            return self.memory.think(&self.plan.name, &mut self.rng, busy);
        }
        self.messages += 1;
        let channel = self.plan.conversations.choose(&mut self.rng)?.clone();
        Some((channel, Deed::Send { text: format!("{} {}", self.plan.name, self.messages) }))
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
