//! Whether a user is online, over all their devices.
//!
//! This node's actor of a user knows the sockets that are here. What that makes of them is reported
//! to Redis, where all nodes together know what others see (`bus/redis/presence.rs`); the node
//! whose report changes that tells all nodes. Without Redis, or while it is away, this node's
//! knowledge is all there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler,
    Message, MessageResult, ResponseFuture, SpawnHandle, WrapFuture,
};
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::connections::Connections;
use super::directory::Directory;
use super::fanout::Fanout;
use super::presence_news::PresenceNews;
use crate::bus::{Away, Bus, Envelope, Members, Told};
use crate::domain::presence::{Presence, State, View};
use crate::error::Result;

/// Users that are asked about at once.
const ASKED: usize = 32;
/// Users that are reported anew at once.
const RENEWED: usize = 64;

/// One user's presence.
pub struct PresenceActor {
    user_id: Uuid,
    presence: Presence,
    common: Common,
    /// What watchers were told of this node's part, or all nodes.
    told: State,
    /// Whether a report is under way; what changes meanwhile is reported after it.
    reporting: bool,
    /// Whether a report has failed, so that the next one is told whether or not it changes anything.
    unreported: bool,
    /// Who wants to know when the report under way is answered.
    renewed: Vec<oneshot::Sender<()>>,
    timer: Option<SpawnHandle>,
}

/// What the presence of all users shares.
#[derive(Clone)]
struct Common {
    news: PresenceNews,
    bus: Bus,
    connections: Connections,
    grace: Duration,
    /// Some report has failed.
    unreported: Arc<AtomicBool>,
    /// Everything is to be reported anew.
    all_due: Arc<AtomicBool>,
    /// What Redis does not know is being set right.
    upkeep: Arc<AtomicBool>,
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
        let now = crate::clock::now();
        if self.presence.view(now).state != self.told {
            self.report(ctx);
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = self.presence.due(now) {
            let left = Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO);
            self.timer = Some(ctx.run_later(left, PresenceActor::settle));
        }
    }

    /// Reports what this node knows, one report after the other, and tells what it changes.
    fn report(&mut self, ctx: &mut Context<Self>) {
        if self.reporting {
            return;
        }
        let view = self.presence.view(crate::clock::now());
        self.told = view.state;
        let Some(members) = self.common.bus.members() else {
            return self.common.news.tell(self.user_id, None, view);
        };
        self.reporting = true;
        let user_id = self.user_id;
        // With the number of sockets, which may not have come to Redis when they opened and closed.
        let told = |here| members.report(user_id, Some(view), Some(here));
        let report = self.common.connections.tell(user_id, told);
        ctx.spawn(report.into_actor(self).map(move |told, actor, ctx| {
            actor.reporting = false;
            // Who does not wait any more needs no answer.
            for done in actor.renewed.drain(..) {
                let _ = done.send(());
            }
            match told {
                Ok(told) if told.changed || actor.unreported => {
                    actor.unreported = false;
                    actor.common.tell(user_id, told);
                }
                Ok(_) => {}
                Err(Away) => {
                    actor.unreported = true;
                    actor.common.unreported.store(true, Ordering::Release);
                    actor.common.news.tell(user_id, None, view);
                }
            }
            actor.settle(ctx);
        }));
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        if self.presence.is_idle(crate::clock::now()) && !self.reporting && !self.unreported {
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
        let now = crate::clock::now();
        let known = match what {
            What::Opened => {
                self.presence.connect(id, now);
                true
            }
            What::Closed => {
                self.presence.disconnect(id, now, self.common.grace);
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
        MessageResult(self.presence.view(crate::clock::now()))
    }
}

/// Report again what is known here, since Redis may have lost it, or only what could not be
/// reported. Answered when Redis has.
#[derive(Message)]
#[rtype(result = "()")]
struct Renew {
    all: bool,
}

impl Handler<Renew> for PresenceActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, renew: Renew, ctx: &mut Context<Self>) -> Self::Result {
        if self.unreported || (renew.all && !self.presence.is_idle(crate::clock::now())) {
            self.report(ctx);
        }
        if !self.reporting {
            return Box::pin(async {});
        }
        let (done, answered) = oneshot::channel();
        self.renewed.push(done);
        Box::pin(async {
            // An actor that stops has nothing to report.
            let _ = answered.await;
        })
    }
}

impl Common {
    /// Tells all nodes what a report has changed.
    fn tell(&self, user_id: Uuid, told: Told) {
        let Told { view, version, .. } = told;
        self.news.tell(user_id, Some(version), view);
        self.bus.publish(&Envelope::Presence { user_id, version, view });
    }
}

/// The presence of all users.
#[derive(Clone)]
pub struct PresenceBook {
    users: Directory<Uuid, PresenceActor>,
    common: Common,
    fanout: Fanout,
}

impl PresenceBook {
    /// A user is offline when no socket was open for `grace`.
    pub fn new(
        threads: Arc<[ArbiterHandle]>,
        fanout: Fanout,
        connections: Connections,
        grace: Duration,
    ) -> Self {
        let news = PresenceNews::new(fanout.clone());
        let (bus, unreported) = (fanout.bus().clone(), Arc::default());
        let common = Common {
            news,
            bus,
            connections,
            grace,
            unreported,
            all_due: Arc::default(),
            upkeep: Arc::default(),
        };
        let each = common.clone();
        let users = Directory::new(threads, move |user_id, _| PresenceActor {
            user_id,
            presence: Presence::default(),
            common: each.clone(),
            told: State::Offline,
            reporting: false,
            unreported: false,
            renewed: Vec::new(),
            timer: None,
        });
        Self { users, common, fanout }
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

    /// `user_id` as others may see them, over all nodes as far as they are known.
    pub async fn look(&self, user_id: Uuid) -> Result<View> {
        Ok(self.seen(user_id).await?.0)
    }

    /// The same, and as of which change that all nodes know of.
    async fn seen(&self, user_id: Uuid) -> Result<(View, Option<i64>)> {
        let _permit = self.users.permit()?;
        let here = match self.users.find(user_id) {
            Some(actor) => actor.send(Look).await?,
            None => View::default(),
        };
        let (elsewhere, version) = match self.common.bus.members() {
            Some(members) => members.elsewhere(user_id).await.unwrap_or_default(),
            None => (View::default(), None),
        };
        Ok((here.and(elsewhere), version))
    }

    /// Another node told that `user_id` is seen as `view`.
    pub fn told(&self, user_id: Uuid, version: i64, view: View) {
        self.common.news.tell(user_id, Some(version), view);
    }

    /// Tells the watchers of this node what those are whom they follow: a change may not have come.
    pub async fn tell_again(&self) {
        let tell = async |user_id| match self.seen(user_id).await {
            Ok((view, version)) => self.common.news.tell(user_id, version, view),
            Err(e) => tracing::debug!("presence was not told again: {e:?}"),
        };
        stream::iter(self.fanout.watched().await).for_each_concurrent(ASKED, tell).await;
    }

    /// Says to the other nodes that this one lives, and lets what dead ones have told be taken away
    /// and what Redis may not know be reported: after a failure what failed, for a node that is new
    /// to Redis and after a `minute` everything. To be called every few seconds: that other work
    /// goes on beside it, one at a time, since a node that does not say that it lives is dead.
    pub async fn keep(&self, minute: bool) {
        let Some(members) = self.common.bus.members().filter(Members::is_there) else { return };
        let Ok(seen) = members.beat().await else { return };
        let common = &self.common;
        common.all_due.fetch_or(seen.is_new || minute, Ordering::AcqRel);
        // What is under way is looked at again at the next beat.
        if common.upkeep.swap(true, Ordering::AcqRel) {
            return;
        }
        let book = self.clone();
        tokio::spawn(async move {
            let all = book.common.all_due.swap(false, Ordering::AcqRel);
            if book.common.unreported.swap(false, Ordering::AcqRel) || all {
                book.renew(&members, all).await;
            }
            for node in seen.dead {
                tracing::info!(%node, "a node is dead; its users are taken away");
                let tell = |user_id, told| book.common.tell(user_id, told);
                if members.sweep(node, tell).await.is_err() {
                    break;
                }
            }
            book.common.upkeep.store(false, Ordering::Release);
        });
    }

    /// Reports everybody who is here, or who could not be reported, some at a time; stops when Redis
    /// is away.
    async fn renew(&self, members: &Members, all: bool) {
        let renew = async |actor: Addr<PresenceActor>| {
            if !members.is_there() {
                let again = if all { &self.common.all_due } else { &self.common.unreported };
                again.store(true, Ordering::Release);
                return;
            }
            // One that is just stopping has nothing to report.
            let _ = actor.send(Renew { all }).await;
        };
        stream::iter(self.users.all()).for_each_concurrent(RENEWED, renew).await;
    }
}
