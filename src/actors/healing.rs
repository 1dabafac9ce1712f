//! What a worker is asked when something of another node may not have come.

use std::sync::atomic::Ordering;

use actix::{Context, Handler, Message};
use uuid::Uuid;

use super::switchboard::Switchboard;
use crate::domain::channel::Channel;

/// Let every durable subscription read what it missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CatchUpAll;

impl Handler<CatchUpAll> for Switchboard {
    type Result = ();

    fn handle(&mut self, _: CatchUpAll, _: &mut Context<Self>) {
        if self.missed.swap(false, Ordering::AcqRel) {
            self.board.borrow_mut().catch_up_all();
        }
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
