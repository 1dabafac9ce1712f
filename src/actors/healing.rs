//! What a worker does when something may not have come: of another node, or since it had no room.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use actix::{Context, Handler, Message};
use uuid::Uuid;

use super::fanout::Event;
use super::outbox::Kind;
use super::switchboard::Switchboard;
use crate::domain::channel::Channel;

/// What a worker had no room for; the fan-out notes it, the worker takes it.
#[derive(Debug, Default)]
pub struct Missed {
    something: AtomicBool,
    /// Channels in which a state was told, which nothing will tell again. No more than are followed.
    states: Mutex<HashSet<Channel>>,
}

impl Missed {
    /// `event` was dropped.
    pub fn drop_event(&self, event: &Event) {
        if event.seq.is_none() {
            if event.kind == Kind::Fleeting {
                return;
            }
            self.states().insert(event.channel);
        }
        self.note();
    }

    /// Durable events may not have come.
    pub fn note(&self) {
        self.something.store(true, Ordering::Release);
    }

    /// If something was missed since the last call, the channels whose state was.
    pub(super) fn take(&self) -> Option<HashSet<Channel>> {
        let something = self.something.swap(false, Ordering::AcqRel);
        something.then(|| std::mem::take(&mut *self.states()))
    }

    fn states(&self) -> std::sync::MutexGuard<'_, HashSet<Channel>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Let every durable subscription read what it missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CatchUpAll;

impl Handler<CatchUpAll> for Switchboard {
    type Result = ();

    fn handle(&mut self, _: CatchUpAll, _: &mut Context<Self>) {
        self.heal();
    }
}

/// Whose presence is followed here?
#[derive(Message)]
#[rtype(result = "Vec<Uuid>")]
pub(super) struct Watched;

impl Handler<Watched> for Switchboard {
    type Result = Vec<Uuid>;

    fn handle(&mut self, _: Watched, _: &mut Context<Self>) -> Vec<Uuid> {
        let presence = |channel| match channel {
            Channel::Presence(user_id) => Some(user_id),
            Channel::User(_) | Channel::Conversation(_) | Channel::Calendar(_) => None,
        };
        self.board.borrow().followed().filter_map(presence).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use actix::Actor;
    use serde_json::json;

    use super::*;
    use crate::actors::fanout::Fanout;
    use crate::actors::line::Line;
    use crate::actors::switchboard::{CatchUp, SharedBoard};
    use crate::bus::Bus;

    /// Stands for a socket.
    struct Probe;

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<CatchUp> for Probe {
        type Result = ();

        fn handle(&mut self, _: CatchUp, _: &mut Context<Self>) {}
    }

    /// Tells `event` so often to a worker that does nothing meanwhile that there is no room for the
    /// last; whether its socket is closed then.
    async fn is_closed_after(event: &str, data: &serde_json::Value) -> bool {
        let (fanout, board) = (Fanout::new(Bus::InProcess), SharedBoard::default());
        let missed = Arc::new(Missed::default());
        let switchboard = Switchboard::new(board.clone(), missed.clone()).start();
        fanout.register(switchboard, missed, board.borrow().interest().clone());
        let line = Line::new(Rc::default(), None);
        let channel = Channel::User(Uuid::nil());
        let ticket = board.borrow_mut().listen(channel, &line, Probe.start().recipient());
        board.borrow_mut().admit(channel, &line, ticket);
        // The worker gets its room when it first runs.
        fanout.watched().await;
        for _ in 0..20_000 {
            fanout.publish_ephemeral(channel, event, data);
        }
        fanout.watched().await;
        line.is_closing()
    }

    #[actix::test]
    async fn who_missed_a_state_has_to_come_again() {
        let id = Uuid::nil();
        let state = json!({ "conversationId": id, "readSeq": 3, "unread": 0 });
        assert!(is_closed_after("conversation:updated", &state).await);
        let fleeting = json!({ "conversationId": id, "userId": id });
        assert!(!is_closed_after("typing:start", &fleeting).await);
    }
}
