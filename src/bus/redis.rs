//! The bus over Redis pub/sub.
//!
//! What is told goes to one of [`TOPICS`] topics by the id of its channel or user, so that the
//! masters of a cluster share the work (sharded pub/sub, Redis 7; plain pub/sub before). Every
//! node follows all topics: most have many channels in each, and what nobody here follows ends at
//! the boards.
//!
//! A node hears its own beat in every topic each second. When one stays out, Redis counts as
//! lost, whatever the connections look like, and everything is made anew.

mod heard;
mod link;
mod presence;
mod rates;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use self::heard::Heard;
use self::link::{Connection, Link, Server};
use super::wire::{self, Message};
use super::{Envelope, Incoming};
use crate::counters;

pub use self::link::Away;
pub use self::presence::{Members, Seen, Told};

/// Topics that channels and users are spread over.
const TOPICS: usize = 16;
/// Messages that may wait for Redis; more are dropped and healed from PostgreSQL.
const QUEUE: usize = 8_192;
/// Messages that leave together.
const BATCH: usize = 256;
/// How often a node says in every topic how far it is.
const BEAT: Duration = Duration::from_secs(1);
/// A node that does not hear itself for so long is cut off.
const LOST: Duration = Duration::from_secs(4);
/// Pause before a lost connection is made again.
const RETRY: Duration = Duration::from_millis(500);

/// Redis can not be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct RedisFault(#[from] redis::RedisError);

/// A node's connection to the others.
#[derive(Clone)]
pub struct RedisBus {
    outgoing: mpsc::Sender<(usize, Vec<u8>)>,
    shared: Arc<Shared>,
}

/// What the tasks of one bus share.
struct Shared {
    node: Uuid,
    /// The name of this node in what all nodes know together. One that was taken for dead gets a
    /// new one, since what it told is being taken away.
    member: RwLock<Uuid>,
    /// Orders what this node says about the same user.
    stamp: AtomicU64,
    /// Whether Redis knows this node by that name.
    is_known: AtomicBool,
    /// Nodes that have not said for a while that they live, by commas.
    late: RwLock<String>,
    link: Link,
    /// Whether other nodes are heard now, as far as is known.
    listening: AtomicBool,
    /// How many messages of each topic found no room in the queue.
    dropped: [AtomicU64; TOPICS],
    /// When each topic last brought this node's own beat, in milliseconds after `since`.
    own_beats: [AtomicU64; TOPICS],
    since: Instant,
    heard: Mutex<Heard>,
    incoming: Box<dyn Fn(Incoming) + Send + Sync>,
}

impl RedisBus {
    /// Refuses what is no URL of a Redis server or cluster. Nothing is connected.
    pub fn check(url: &str) -> Result<(), RedisFault> {
        Ok(Server::parse(url).map(|_| ())?)
    }

    /// Hands everything that other nodes tell to `incoming`, which must not block, as soon as
    /// Redis is there. Does not wait for that: a node serves without it. The tasks live as long as
    /// the runtime; a lost connection is made again for ever, at a bounded rate.
    pub fn start(
        url: &str,
        incoming: impl Fn(Incoming) + Send + Sync + 'static,
    ) -> Result<Self, RedisFault> {
        let server = Server::parse(url)?;
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            node: Uuid::now_v7(),
            member: RwLock::new(Uuid::now_v7()),
            stamp: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            late: RwLock::default(),
            link: Link::default(),
            listening: AtomicBool::new(false),
            dropped: Default::default(),
            own_beats: Default::default(),
            since: Instant::now(),
            heard: Mutex::default(),
            incoming: Box::new(incoming),
        });
        tokio::spawn(send_all(shared.clone(), queue));
        tokio::spawn(keep_connected(shared.clone(), server));
        Ok(Self { outgoing, shared })
    }

    /// Whether other nodes are heard now, as far as is known.
    pub(super) fn is_listening(&self) -> bool {
        self.shared.listening.load(Ordering::Acquire)
    }

    /// Queues `envelope`; at the limit it is dropped, which other nodes notice.
    pub(super) fn publish(&self, envelope: &Envelope) {
        let topic = topic_of(envelope.about());
        let Some(bytes) = wire::encode(envelope) else { return };
        if self.outgoing.try_send((topic, bytes)).is_err()
            && let Some(dropped) = self.shared.dropped.get(topic)
        {
            counters::bus_dropped();
            dropped.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The topic of a channel or user. The last bits of an id are random.
fn topic_of(id: Uuid) -> usize {
    usize::from(id.as_bytes().last().copied().unwrap_or_default()) % TOPICS
}

fn name_of(topic: usize) -> String {
    format!("klearkarma:{topic}")
}

/// Numbers what is told and sends it. What can not be sent keeps its number, so that others see a
/// gap; nothing is sent twice.
async fn send_all(shared: Arc<Shared>, mut queue: mpsc::Receiver<(usize, Vec<u8>)>) {
    let mut last = [0u64; TOPICS];
    let mut batch = Vec::with_capacity(BATCH);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_beat = tokio::select! {
            taken = queue.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return;
                }
                false
            }
            _ = beat.tick() => true,
        };
        let mut outgoing: [Vec<Vec<u8>>; TOPICS] = Default::default();
        for (number, dropped) in last.iter_mut().zip(&shared.dropped) {
            *number += dropped.swap(0, Ordering::AcqRel);
        }
        for (topic, body) in batch.drain(..) {
            if let (Some(number), Some(list)) = (last.get_mut(topic), outgoing.get_mut(topic)) {
                *number += 1;
                list.push(wire::message(shared.node, *number, &body));
            }
        }
        if is_beat {
            for (number, list) in last.iter().zip(&mut outgoing) {
                list.push(wire::beat(shared.node, *number));
            }
        }
        let sent = outgoing.iter().enumerate().filter(|(_, list)| !list.is_empty());
        join_all(sent.map(|(topic, list)| shared.link.publish(name_of(topic), list))).await;
    }
}

/// Connects, listens, and starts anew when that is over.
async fn keep_connected(shared: Arc<Shared>, server: Server) {
    let mut is_known_lost = false;
    loop {
        match listen(&shared, &server).await {
            Ok((connection, ended)) => {
                is_known_lost = false;
                tracing::info!("redis is there");
                shared.link.open(connection);
                shared.listening.store(true, Ordering::Release);
                // Nobody was heard meanwhile.
                (shared.incoming)(Incoming::Missed);
                shared.until_lost(&ended).await;
                tracing::warn!("redis is lost; this node goes on alone");
                shared.listening.store(false, Ordering::Release);
                shared.link.close();
            }
            Err(e) if !is_known_lost => {
                is_known_lost = true;
                tracing::warn!("REDIS_URL: redis can not be reached, trying again: {e}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A connection that follows all topics, and what it says when it is over.
async fn listen(shared: &Arc<Shared>, server: &Server) -> RedisResult<(Connection, Arc<Notify>)> {
    let (hears, ended) = (shared.clone(), Arc::new(Notify::new()));
    let over = ended.clone();
    let push = move |push: PushInfo| match push.kind {
        PushKind::Message | PushKind::SMessage => hears.take(push.data),
        PushKind::Disconnection => over.notify_one(),
        _ => {}
    };
    let mut connection = server.connect(push).await?;
    let mut subscribe = "SSUBSCRIBE";
    for topic in 0..TOPICS {
        let mut done = follow(&mut connection, subscribe, topic).await;
        if topic == 0 && done.as_ref().is_err_and(|e| e.code() == Some("ERR")) {
            // Before Redis 7 there is only one kind.
            subscribe = "SUBSCRIBE";
            done = follow(&mut connection, subscribe, topic).await;
        }
        done?;
    }
    shared.link.use_sharded(subscribe == "SSUBSCRIBE");
    let now = shared.now();
    shared.own_beats.iter().for_each(|at| at.store(now, Ordering::Release));
    Ok((connection, ended))
}

async fn follow(connection: &mut Connection, subscribe: &str, topic: usize) -> RedisResult<()> {
    redis::cmd(subscribe).arg(name_of(topic)).query_async::<Value>(connection).await.map(|_| ())
}

impl Shared {
    /// Takes what a subscription brings.
    fn take(&self, data: Vec<Value>) {
        let mut data = data.into_iter();
        let (Some(Value::BulkString(name)), Some(Value::BulkString(bytes))) =
            (data.next(), data.next())
        else {
            return;
        };
        let topic = std::str::from_utf8(&name).ok().and_then(|name| name.rsplit_once(':'));
        let topic = topic.and_then(|(_, topic)| topic.parse::<usize>().ok());
        if let (Some(topic), Some(message)) = (topic, wire::read(&bytes)) {
            self.hear(topic, &message);
        }
    }

    fn hear(&self, topic: usize, message: &Message<'_>) {
        let Message { node, number, body } = *message;
        if node == self.node {
            if let (None, Some(at)) = (body, self.own_beats.get(topic)) {
                at.store(self.now(), Ordering::Release);
            }
            return;
        }
        // A beat says what went before it; a message is one more itself.
        let before = if body.is_some() { number.saturating_sub(1) } else { number };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = heard.hear(node, topic, (before, number), Instant::now());
        drop(heard);
        if missed {
            (self.incoming)(Incoming::Missed);
        }
        if let Some(envelope) = body.and_then(wire::decode) {
            (self.incoming)(Incoming::Told(envelope));
        }
    }

    /// Returns when this node does not hear itself any more.
    async fn until_lost(&self, ended: &Notify) {
        let limit = u64::try_from(LOST.as_millis()).unwrap_or(u64::MAX);
        loop {
            tokio::select! {
                // A cluster's connection mends itself; what it lost meanwhile shows as a gap.
                () = ended.notified(), if !self.link.is_cluster() => return,
                () = tokio::time::sleep(BEAT / 2) => {}
            }
            let now = self.now();
            let oldest = self.own_beats.iter().map(|at| at.load(Ordering::Acquire)).min();
            if oldest.is_none_or(|at| now.saturating_sub(at) > limit) {
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
