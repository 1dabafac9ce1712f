//! Whether a user is online, over all their devices on this node.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler, Message, MessageResult,
    SpawnHandle,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::directory::Directory;
use super::error::Result;
use super::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::domain::presence::{Change, Presence};

/// One user's presence.
pub struct PresenceActor {
    user_id: Uuid,
    presence: Presence,
    grace: Duration,
    fanout: Fanout,
    timer: Option<SpawnHandle>,
}

impl Actor for PresenceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // An actor that was only asked about stops when there is nothing to remember.
        ctx.run_interval(Duration::from_secs(60), PresenceActor::stop_if_idle);
    }
}

impl PresenceActor {
    fn tell(&self, change: Option<Change>) {
        let event = match change {
            None => return,
            Some(Change::Online) => "user:online",
            Some(Change::Offline) => "user:offline",
        };
        self.fanout.publish_ephemeral(Channel::Presence(self.user_id), event, &self.view());
    }

    fn view(&self) -> Value {
        let state = if self.presence.is_online() { "online" } else { "offline" };
        json!({ "userId": self.user_id, "state": state, "lastSeen": self.presence.last_seen() })
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        if self.presence.is_idle() {
            ctx.stop();
        }
    }
}

/// A device of the user opened a socket, or closed it.
#[derive(Message)]
#[rtype(result = "()")]
struct Socket {
    id: u64,
    open: bool,
}

impl Handler<Socket> for PresenceActor {
    type Result = ();

    fn handle(&mut self, socket: Socket, ctx: &mut Context<Self>) {
        let now = super::now();
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if socket.open {
            let change = self.presence.connect(socket.id, now);
            self.tell(change);
        } else {
            self.presence.disconnect(socket.id, now, self.grace);
        }
        if self.presence.due().is_some() {
            self.timer = Some(ctx.run_later(self.grace, |actor, _| {
                let change = actor.presence.tick(super::now());
                actor.tell(change);
            }));
        }
    }
}

/// What others may see.
#[derive(Message)]
#[rtype(result = "Value")]
struct Look;

impl Handler<Look> for PresenceActor {
    type Result = MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.view())
    }
}

/// The presence of all users.
#[derive(Clone)]
pub struct PresenceBook(Directory<Uuid, PresenceActor>);

impl PresenceBook {
    /// A user is offline when no socket was open for `grace`.
    pub fn new(threads: Arc<[ArbiterHandle]>, fanout: Fanout, grace: Duration) -> Self {
        Self(Directory::new(threads, move |user_id, _| PresenceActor {
            user_id,
            presence: Presence::default(),
            grace,
            fanout: fanout.clone(),
            timer: None,
        }))
    }

    /// The socket `id` of `user_id` opened.
    pub async fn connected(&self, user_id: Uuid, id: u64) -> Result<()> {
        Ok(self.0.find_or_start(user_id)?.send(Socket { id, open: true }).await?)
    }

    /// The socket `id` of `user_id` closed. Does not wait: it is called while a socket is torn
    /// down, and a message to a live actor of one user is never refused for want of room.
    pub fn disconnected(&self, user_id: Uuid, id: u64) {
        if let Some(actor) = self.0.find(user_id)
            && actor.try_send(Socket { id, open: false }).is_err()
        {
            tracing::warn!("presence missed a goodbye");
        }
    }

    /// `{userId, state, lastSeen}` of `user_id` as others may see it.
    pub async fn snapshot(&self, user_id: Uuid) -> Result<Value> {
        let _permit = self.0.permit()?;
        match self.0.find(user_id) {
            Some(actor) => Ok(actor.send(Look).await?),
            None => Ok(json!({ "userId": user_id, "state": "offline", "lastSeen": null })),
        }
    }
}
