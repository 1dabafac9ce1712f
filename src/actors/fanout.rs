//! From a committed event to every socket that follows its channel, on this node and others.
//!
//! An event becomes bytes once. It crosses to each HTTP worker once, where that worker's
//! switchboard hands a reference to each of its sockets.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use actix::Addr;
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::healing::{CatchUpAll, Missed, Watched};
use super::interest::Interest;
use super::merge;
use super::outbox::Kind;
use super::protocol;
use super::roster::Rosters;
use super::switchboard::{Deliver, Heads, Quiet, Switchboard};
use crate::bus::{Bus, Envelope};
use crate::domain::channel::Channel;
use crate::models::calendar_commit::StoredEvent;

/// An event as sockets get it.
#[derive(Debug, Clone)]
pub struct Event {
    pub channel: Channel,
    /// Place in the channel's history; `None` for what is not kept.
    pub seq: Option<i64>,
    /// What may become of it on a slow socket.
    pub kind: Kind,
    /// The whole WebSocket frame.
    pub frame: Bytes,
}

/// One worker's switchboard and whether something for it was dropped.
#[derive(Clone)]
struct Line {
    board: Addr<Switchboard>,
    /// Set when its mailbox was full: the board then lets every socket catch up from PostgreSQL.
    missed: Arc<Missed>,
    interest: Interest,
}

/// Hands events to all switchboards of this node and to the bus.
#[derive(Clone)]
pub struct Fanout {
    boards: Arc<RwLock<Vec<Line>>>,
    rosters: Rosters,
    bus: Bus,
}

impl Fanout {
    /// A fan-out with no switchboards yet.
    pub fn new(bus: Bus) -> Self {
        Self { boards: Arc::default(), rosters: Rosters::default(), bus }
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
    /// the fan-out when it could not hand something over; `interest` tells what its sockets follow.
    pub fn register(&self, board: Addr<Switchboard>, missed: Arc<Missed>, interest: Interest) {
        let mut boards = self.boards.write().unwrap_or_else(PoisonError::into_inner);
        boards.retain(|line| line.board.connected());
        boards.push(Line { board, missed, interest });
    }

    /// Tells everybody of events that a transaction stored.
    pub fn publish_stored(&self, events: &[StoredEvent]) {
        for e in events {
            self.publish(e.channel, Some(e.seq), Kind::Kept, || {
                protocol::event(e.event, e.channel, Some(e.seq), &e.at.to_string(), &e.data)
            });
        }
    }

    /// Tells everybody of something that is not kept: who is not listening misses it.
    pub fn publish_ephemeral(&self, channel: Channel, event: &str, data: &Value) {
        self.publish(channel, None, merge::kind(channel, event, data), || {
            protocol::event(event, channel, None, &crate::clock::now().to_string(), data)
        });
    }

    /// Tells what `text` makes; nobody needs it when nobody follows the channel here and there is
    /// no other node.
    fn publish(
        &self,
        channel: Channel,
        seq: Option<i64>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        if matches!(self.bus, Bus::InProcess) && !self.is_followed(channel) {
            return;
        }
        let text = text();
        self.hand_over(channel, seq, kind, &text);
        self.bus.publish(&Envelope::Event { channel, seq, text });
    }

    /// Hands an event of another node to the sockets of this node.
    pub fn deliver(&self, channel: Channel, seq: Option<i64>, text: &str) {
        let kind = if seq.is_none() { merge::kind_in(channel, text) } else { Kind::Kept };
        self.hand_over(channel, seq, kind, text);
    }

    fn hand_over(&self, channel: Channel, seq: Option<i64>, kind: Kind, text: &str) {
        if !self.is_followed(channel) {
            return;
        }
        let event = Arc::new(Event { channel, seq, kind, frame: protocol::text_frame(text) });
        self.each(|line| {
            if !line.interest.has(channel) {
                return;
            }
            if line.board.try_send(Deliver(event.clone())).is_err() {
                line.missed.drop_event(&event);
            }
        });
    }

    /// Lets every socket of this node read what it missed: something of another node may not have
    /// come.
    pub fn catch_up_here(&self) {
        self.each(|line| {
            line.missed.note();
            // A board that is too full for this looks at the flag after the next event.
            let _ = line.board.try_send(CatchUpAll);
        });
    }

    /// Whose presence the sockets of this node follow.
    pub async fn watched(&self) -> HashSet<Uuid> {
        let boards = self.boards.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = HashSet::new();
        for line in boards {
            all.extend(line.board.send(Watched).await.unwrap_or_default());
        }
        all
    }

    /// Closes the sockets of revoked sessions, everywhere.
    pub fn revoke(&self, user_id: Uuid, sessions: &[Uuid]) {
        self.rosters.revoke(sessions.to_vec());
        self.bus.publish(&Envelope::Revoke { user_id, sessions: sessions.to_vec() });
    }

    /// Ends what the sockets of `user_id` follow of `channel`, everywhere.
    pub fn expel(&self, channel: Channel, user_id: Uuid) {
        self.expel_here(channel, user_id);
        self.bus.publish(&Envelope::Expel { channel, user_id });
    }

    /// Ends what the sockets of `user_id` on this node follow of `channel`.
    pub fn expel_here(&self, channel: Channel, user_id: Uuid) {
        self.rosters.expel(vec![(user_id, channel)]);
    }

    /// The sockets of this node.
    pub fn rosters(&self) -> &Rosters {
        &self.rosters
    }

    /// The durable channels that sockets follow here and that nothing was heard of since the last
    /// call, each with the seq that the socket farthest behind is at.
    pub async fn quiet_channels(&self) -> Vec<(Channel, i64)> {
        let boards = self.boards.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: HashMap<Channel, i64> = HashMap::new();
        for line in boards {
            // A board that is gone has no sockets left.
            for (channel, seq) in line.board.send(Quiet).await.unwrap_or_default() {
                all.entry(channel).and_modify(|known| *known = seq.min(*known)).or_insert(seq);
            }
        }
        all.into_iter().collect()
    }

    /// Says how far channels are in PostgreSQL: sockets that are not as far read what they missed.
    pub fn tell_heads(&self, heads: Vec<(Channel, i64)>) {
        let heads: Arc<[_]> = heads.into();
        self.each(|line| {
            if line.board.try_send(Heads(heads.clone())).is_err() {
                line.missed.note();
            }
        });
    }

    /// Whether a socket of this node follows `channel`.
    fn is_followed(&self, channel: Channel) -> bool {
        let boards = self.boards.read().unwrap_or_else(PoisonError::into_inner);
        boards.iter().any(|line| line.interest.has(channel))
    }

    fn each(&self, f: impl Fn(&Line)) {
        self.boards.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(f);
    }
}
