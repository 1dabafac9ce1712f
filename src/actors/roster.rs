//! The live sockets of one HTTP worker, apart from what they follow: their deadlines, revocation,
//! and the goodbye of a hub that stops.
//!
//! Nothing that must happen in time waits for a socket's actor or its peer, and no socket has timers
//! of its own: the worker looks through its sockets a few times a second, and pings and closes go to
//! the socket's [`Line`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::line::Line;
use super::outbox::Kind;
use super::protocol::{self, Close};
use super::socket_machine::{Effect, Input, Machine};
use super::switchboard::SharedBoard;
use crate::clock::uptime;
use crate::domain::channel::Channel;

/// How often a worker looks for sockets with something due: so late may a deadline be.
const BEAT: Duration = Duration::from_millis(250);
/// Orders that may wait at one worker.
const ORDERS: usize = 1_024;
/// How long after a drain's window a socket may take to be gone: its last command, then the close
/// handshake.
const GOODBYE: Duration = Duration::from_secs(7);
/// What a client is told to wait after a drain has closed it, and how much more at most.
const RECONNECT_MS: u64 = 500;
const RECONNECT_SPREAD_MS: u64 = 4_500;

/// One socket, as everything on its worker's thread holds it.
pub struct Socket {
    pub id: u64,
    pub line: Rc<Line>,
    pub machine: RefCell<Machine>,
    /// What it follows.
    pub channels: RefCell<HashSet<Channel>>,
}

impl Socket {
    /// Tells the machine what happened now; returns what is to be done besides what the line did.
    pub fn on(&self, input: Input) -> Vec<Effect> {
        let mut machine = self.machine.borrow_mut();
        if self.line.is_closing() {
            // The line itself gave up, on a peer that does not read.
            machine.on(uptime(), Input::Broken(Close::SlowConsumer));
            return Vec::new();
        }
        let mut effects = machine.on(uptime(), input);
        drop(machine);
        effects.retain(|effect| !self.done_by_line(effect));
        effects
    }

    fn done_by_line(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Ping => {
                self.line.push(protocol::frame(0x89, b""), Kind::Kept);
            }
            Effect::Pong(payload) => {
                self.line.push(protocol::frame(0x8a, payload), Kind::Kept);
            }
            // Whatever was answered before has to leave first: the driver closes.
            Effect::Close(_)
            | Effect::Verify(_)
            | Effect::Adopt(_)
            | Effect::Start(_)
            | Effect::Answer { .. } => return false,
            #[cfg(feature = "autobahn")]
            Effect::Send(frame) => {
                self.line.push(frame.clone(), Kind::Kept);
            }
        }
        true
    }

    /// The same for what needs no actor: time, revocation, drains.
    fn hear(&self, input: Input) {
        for effect in self.on(input) {
            if let Effect::Close(why) = effect {
                self.line.close(why);
            }
        }
    }

    /// The last event of a socket whose owner is known.
    fn tell(&self, event: &str, data: &Value) {
        let user = self.machine.borrow().identity().map(|who| who.user_id);
        if let Some(user) = user {
            self.line.push(ephemeral(event, Channel::User(user), data), Kind::Kept);
        }
    }
}

fn ephemeral(event: &str, channel: Channel, data: &Value) -> bytes::Bytes {
    let at = crate::clock::now().to_string();
    protocol::text_frame(&protocol::event(event, channel, None, &at, data))
}

/// The sockets of one worker.
pub struct Roster {
    sockets: HashMap<u64, Rc<Socket>>,
    draining: bool,
    /// Those of all workers.
    live: Arc<AtomicUsize>,
}

/// The roster as everything on the worker's thread holds it.
pub type SharedRoster = Rc<RefCell<Roster>>;

impl Roster {
    /// A socket opened. One that comes while the hub stops is sent away.
    pub fn enter(&mut self, socket: &Rc<Socket>) {
        self.live.fetch_add(1, Ordering::AcqRel);
        self.sockets.insert(socket.id, socket.clone());
        if self.draining {
            socket.hear(Input::Broken(Close::ShuttingDown));
        }
    }

    /// A socket is gone.
    pub fn leave(&mut self, id: u64) {
        if self.sockets.remove(&id).is_some() {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn tick(&self) {
        let now = uptime();
        for socket in self.sockets.values() {
            let due = socket.machine.borrow().due();
            if due <= now {
                socket.hear(Input::Tick);
            }
        }
    }

    /// Tells the sockets of these sessions (sorted) so, then closes them.
    fn revoke(&self, sessions: &[Uuid]) {
        for socket in self.sockets.values() {
            let session = socket.machine.borrow().identity().map(|who| who.session_id);
            if let Some(id) = session.filter(|id| sessions.binary_search(id).is_ok()) {
                socket.tell("session:revoked", &json!({ "sessionId": id }));
                socket.hear(Input::Revoked);
            }
        }
    }

    /// Ends the subscriptions of users (in their order) to channels that are not theirs any more; an
    /// event says so.
    fn expel(&self, ended: &[(Uuid, Channel)], board: &SharedBoard) {
        for socket in self.sockets.values() {
            let user = socket.machine.borrow().identity().map(|who| who.user_id);
            let Some(user) = user else { continue };
            let first = ended.partition_point(|(other, _)| *other < user);
            let theirs = ended.iter().skip(first).take_while(|(other, _)| *other == user);
            for channel in theirs.map(|(_, channel)| *channel) {
                if !socket.channels.borrow_mut().remove(&channel) {
                    continue;
                }
                board.borrow_mut().unsubscribe(channel, &socket.line);
                let reason = match channel {
                    Channel::Conversation(_) => "not_a_member",
                    Channel::User(_) | Channel::Calendar(_) | Channel::Presence(_) => "not_allowed",
                };
                let data = json!({ "reason": reason });
                socket.line.push(ephemeral("subscription:ended", channel, &data), Kind::Kept);
            }
        }
    }

    /// Tells every socket that the hub stops, and closes them one after the other over `window`.
    fn drain(&mut self, window: Duration) {
        self.draining = true;
        let now = uptime();
        let count = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX).max(1);
        for (n, socket) in (0u32..).zip(self.sockets.values()) {
            let wait = window.mul_f64(f64::from(n) / f64::from(count));
            // By the id, so that those that closed together do not come back together.
            let spread = socket.id.wrapping_mul(2_654_435_761) % RECONNECT_SPREAD_MS;
            let data = json!({
                "reconnectAfterMs": RECONNECT_MS + spread,
                "closesInMs": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
            socket.tell("server:draining", &data);
            let known = socket.machine.borrow().identity().is_some();
            socket.hear(Input::Drain(if known { now + wait } else { now }));
        }
        self.tick();
    }
}

/// What a worker's roster is told from other threads.
enum Order {
    /// These sessions, sorted, are no more.
    Revoke(Arc<[Uuid]>),
    /// These users, sorted, may not follow these channels any more.
    Expel(Arc<[(Uuid, Channel)]>),
    /// Say goodbye to everybody within this time.
    Drain(Duration),
}

/// The rosters of all workers. Clones share them.
#[derive(Clone, Default)]
pub struct Rosters {
    doors: Arc<RwLock<Vec<mpsc::Sender<Order>>>>,
    live: Arc<AtomicUsize>,
}

impl Rosters {
    /// Starts the roster of the worker whose thread this is, beside its `board`.
    pub fn start(&self, board: SharedBoard) -> SharedRoster {
        let roster = Roster { sockets: HashMap::new(), draining: false, live: self.live.clone() };
        let roster = Rc::new(RefCell::new(roster));
        let (door, orders) = mpsc::channel(ORDERS);
        let mut doors = self.doors.write().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|door| !door.is_closed());
        doors.push(door);
        actix::spawn(run(roster.clone(), board, orders));
        roster
    }

    /// How many sockets are open on this node.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Closes the sockets of these sessions on this node. At the limit of what may wait it is left
    /// to the job that reads revocations from the database.
    pub fn revoke(&self, mut sessions: Vec<Uuid>) {
        sessions.sort_unstable();
        let sessions: Arc<[Uuid]> = sessions.into();
        self.each(|| Order::Revoke(sessions.clone()));
    }

    /// Ends the subscriptions of users to the channels beside them, on this node. False when some
    /// worker is at the limit of what may wait: it is left to the job that reads from the database.
    pub fn expel(&self, mut ended: Vec<(Uuid, Channel)>) -> bool {
        ended.sort_unstable();
        let ended: Arc<[(Uuid, Channel)]> = ended.into();
        self.each(|| Order::Expel(ended.clone()))
    }

    /// Whether every worker took it.
    fn each(&self, order: impl Fn() -> Order) -> bool {
        let mut all = true;
        for door in self.doors.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if door.try_send(order()).is_err() {
                tracing::warn!("a worker is too busy to end sockets at once");
                all = false;
            }
        }
        all
    }

    /// Tells every socket that the hub stops and closes them over `window`; returns when all are
    /// gone, or some seconds after the window.
    pub async fn drain(&self, window: Duration) {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner).clone();
        for door in doors {
            // A worker that is gone has no sockets left to tell.
            let _ = door.send(Order::Drain(window)).await;
        }
        let until = uptime() + window + GOODBYE;
        while self.live() > 0 && uptime() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn run(roster: SharedRoster, board: SharedBoard, mut orders: mpsc::Receiver<Order>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Revoke(sessions)) => roster.borrow().revoke(&sessions),
                Some(Order::Expel(ended)) => roster.borrow().expel(&ended, &board),
                Some(Order::Drain(window)) => roster.borrow_mut().drain(window),
                None => return,
            },
            _ = beat.tick() => roster.borrow().tick(),
        }
    }
}
