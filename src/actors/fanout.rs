//! From a committed event to every socket that follows its channel, on this node and others.
//!
//! An event becomes bytes once. It crosses to each HTTP worker once, where that worker's
//! switchboard hands a reference to each of its sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix::Addr;
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::protocol;
use super::switchboard::{Deliver, Revoke, Shutdown, Switchboard};
use crate::bus::{Bus, Envelope};
use crate::domain::channel::Channel;
use crate::models::calendar_commit::StoredEvent;

/// An event as sockets get it.
#[derive(Debug, Clone)]
pub struct Event {
    pub channel: Channel,
    /// Place in the channel's history; `None` for what is not kept.
    pub seq: Option<i64>,
    /// The whole WebSocket frame.
    pub frame: Bytes,
}

/// One worker's switchboard and whether something for it was dropped.
#[derive(Clone)]
struct Line {
    board: Addr<Switchboard>,
    /// Set when its mailbox was full: the board then lets every socket catch up from PostgreSQL.
    missed: Arc<AtomicBool>,
}

/// Hands events to all switchboards of this node and to the bus.
#[derive(Clone)]
pub struct Fanout {
    boards: Arc<RwLock<Vec<Line>>>,
    bus: Bus,
}

impl Fanout {
    /// A fan-out with no switchboards yet.
    pub fn new(bus: Bus) -> Self {
        Self { boards: Arc::default(), bus }
    }

    /// The same switchboards with another bus.
    pub fn with_bus(self, bus: Bus) -> Self {
        Self { bus, ..self }
    }

    /// How other nodes are reached.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Whether `other` is a clone of this fan-out, whatever its bus.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.boards, &other.boards)
    }

    /// Adds a worker's switchboard; those of workers that died are dropped. `missed` is set by
    /// the fan-out when it could not hand something over.
    pub fn register(&self, board: Addr<Switchboard>, missed: Arc<AtomicBool>) {
        let mut boards = self.boards.write().unwrap_or_else(PoisonError::into_inner);
        boards.retain(|line| line.board.connected());
        boards.push(Line { board, missed });
    }

    /// Tells everybody of events that a transaction stored.
    pub fn publish_stored(&self, events: &[StoredEvent]) {
        for e in events {
            let at = e.at.to_string();
            let text = protocol::event(e.event, e.channel, Some(e.seq), &at, &e.data);
            self.publish(e.channel, Some(e.seq), &text);
        }
    }

    /// Tells everybody of something that is not kept: who is not listening misses it.
    pub fn publish_ephemeral(&self, channel: Channel, event: &str, data: &Value) {
        let at = super::now().to_string();
        self.publish(channel, None, &protocol::event(event, channel, None, &at, data));
    }

    fn publish(&self, channel: Channel, seq: Option<i64>, text: &str) {
        self.deliver(channel, seq, text);
        self.bus.publish(&Envelope::Event { channel, seq, text: text.to_owned() });
    }

    /// Hands an event to the sockets of this node alone.
    pub fn deliver(&self, channel: Channel, seq: Option<i64>, text: &str) {
        let event = Arc::new(Event { channel, seq, frame: protocol::text_frame(text) });
        self.each(|line| {
            if line.board.try_send(Deliver(event.clone())).is_err() && event.seq.is_some() {
                line.missed.store(true, Ordering::Release);
            }
        });
    }

    /// Closes the sockets of revoked sessions, everywhere.
    pub fn revoke(&self, user_id: Uuid, sessions: &[Uuid]) {
        self.revoke_here(user_id, sessions);
        self.bus.publish(&Envelope::Revoke { user_id, sessions: sessions.to_vec() });
    }

    /// Closes the sockets of revoked sessions on this node.
    pub fn revoke_here(&self, user_id: Uuid, sessions: &[Uuid]) {
        let sessions: Arc<[Uuid]> = sessions.into();
        self.each(|line| {
            if line.board.try_send(Revoke { user_id, sessions: sessions.clone() }).is_err() {
                tracing::warn!("a switchboard is too busy to revoke sockets at once");
            }
        });
    }

    /// Tells every socket of this node that the hub stops, and closes it with 4000.
    pub async fn shut_down(&self) {
        let boards = self.boards.read().unwrap_or_else(PoisonError::into_inner).clone();
        for line in boards {
            // A board that is gone has no sockets left to tell.
            let _ = line.board.send(Shutdown).await;
        }
    }

    fn each(&self, f: impl Fn(&Line)) {
        self.boards.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(f);
    }
}
