//! Whether a user is online, over all their devices on this node.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler, Message, MessageResult,
    SpawnHandle,
};
use uuid::Uuid;

use super::directory::Directory;
use super::error::Result;
use super::fanout::Fanout;
use super::presence_news::PresenceNews;
use crate::domain::presence::{Presence, State, View};

/// One user's presence.
pub struct PresenceActor {
    user_id: Uuid,
    presence: Presence,
    grace: Duration,
    news: PresenceNews,
    /// What watchers were told, or are about to be.
    told: State,
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
    /// Tells what has changed, and looks again when something changes by itself.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let now = super::now();
        let view = self.presence.view(now);
        if view.state != self.told {
            self.told = view.state;
            self.news.tell(self.user_id, None, view);
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = self.presence.due(now) {
            let left = Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO);
            self.timer = Some(ctx.run_later(left, PresenceActor::settle));
        }
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        if self.presence.is_idle(super::now()) {
            ctx.stop();
        }
    }
}

/// What happened to a socket of the user.
#[derive(Debug, Clone, Copy)]
enum What {
    Opened,
    Closed,
    /// Its device says that it is not used, or that it is.
    Says {
        away: bool,
    },
}

#[derive(Message)]
#[rtype(result = "bool")]
struct Socket {
    id: u64,
    what: What,
}

impl Handler<Socket> for PresenceActor {
    type Result = bool;

    fn handle(&mut self, Socket { id, what }: Socket, ctx: &mut Context<Self>) -> bool {
        let now = super::now();
        let known = match what {
            What::Opened => {
                self.presence.connect(id, now);
                true
            }
            What::Closed => {
                self.presence.disconnect(id, now, self.grace);
                true
            }
            What::Says { away } => self.presence.say(id, away, now),
        };
        self.settle(ctx);
        known
    }
}

/// What others may see.
#[derive(Message)]
#[rtype(result = "View")]
struct Look;

impl Handler<Look> for PresenceActor {
    type Result = MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.presence.view(super::now()))
    }
}

/// The presence of all users.
#[derive(Clone)]
pub struct PresenceBook {
    users: Directory<Uuid, PresenceActor>,
}

impl PresenceBook {
    /// A user is offline when no socket was open for `grace`.
    pub fn new(threads: Arc<[ArbiterHandle]>, fanout: Fanout, grace: Duration) -> Self {
        let news = PresenceNews::new(fanout);
        let users = Directory::new(threads, move |user_id, _| PresenceActor {
            user_id,
            presence: Presence::default(),
            grace,
            news: news.clone(),
            told: State::Offline,
            timer: None,
        });
        Self { users }
    }

    /// The socket `id` of `user_id` opened; it counts as used.
    pub async fn connected(&self, user_id: Uuid, id: u64) -> Result<()> {
        self.users.find_or_start(user_id)?.send(Socket { id, what: What::Opened }).await?;
        Ok(())
    }

    /// The device behind the socket `id` of `user_id` says whether it is `away`. False when the
    /// socket is not known, which is when `connected` has failed.
    pub async fn says(&self, user_id: Uuid, id: u64, away: bool) -> Result<bool> {
        let what = What::Says { away };
        match self.users.find(user_id) {
            Some(actor) => Ok(actor.send(Socket { id, what }).await?),
            None => Ok(false),
        }
    }

    /// The socket `id` of `user_id` closed. Does not wait: it is called while a socket is torn
    /// down, and a message to a live actor of one user is never refused for want of room.
    pub fn disconnected(&self, user_id: Uuid, id: u64) {
        if let Some(actor) = self.users.find(user_id)
            && actor.try_send(Socket { id, what: What::Closed }).is_err()
        {
            tracing::warn!("presence missed a goodbye");
        }
    }

    /// `user_id` as others may see them.
    pub async fn look(&self, user_id: Uuid) -> Result<View> {
        let _permit = self.users.permit()?;
        match self.users.find(user_id) {
            Some(actor) => Ok(actor.send(Look).await?),
            None => Ok(View::default()),
        }
    }
}
