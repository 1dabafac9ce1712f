//! What the inboxes of a conversation's members hear of it: its head, what is unread, how it goes on.
//!
//! Inboxes are told at once when it was quiet. When it is not, they are told at the end of a pause at
//! the latest, or with a message that comes in its second half: to a socket that follows the
//! conversation, too, the two then leave in one write. The last state is always told. What is unread
//! is counted once and then kept up with (`domain/unread.rs`);
//! it is counted anew after what can not be followed: a message of another node, an edit, somebody
//! who read a part. So the cost of a busy conversation does not grow with its messages.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::conversation::ConversationActor;
use crate::bus::Bus;
use crate::domain::channel::Channel;
use crate::domain::unread::{Place, Stored, Tally};
use crate::error;
use crate::models::conversations::{self, Heads};
use crate::models::messages::{Quote, Told};

/// After the inboxes are told: what happens meanwhile is told at its end.
const PAUSE: Duration = Duration::from_millis(250);
/// After the inboxes are told: a message that comes from then on takes the news along.
const SHORT: Duration = Duration::from_millis(125);
/// What may happen while it is counted; more, and it is counted again.
const MEANWHILE: usize = 1_024;

/// How long a count is kept up with where there are other nodes: what they tell of may be lost.
const KEPT: Duration = Duration::from_secs(5);

/// Whether the inboxes are being told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum News {
    /// They know everything.
    #[default]
    Told,
    /// They are being told, or were a moment ago.
    Telling,
    /// The same, and something happened since.
    Stale,
}

/// Something that changes what is unread.
#[derive(Debug)]
pub(super) enum Happened {
    Stored(Stored<Quote>),
    Read(Uuid, i64),
    /// Anything else.
    Other,
}

impl Happened {
    /// A message of this node was stored.
    pub(super) fn stored(told: &Told) -> Self {
        let message = &told.message;
        Self::Stored(Stored {
            seq: message.seq,
            sender: message.sender_id,
            counts: message.kind != "system",
            preview: Quote::of(message),
        })
    }
}

/// What the actor knows of inboxes.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    news: News,
    /// The pause that runs, and since when.
    pause: Option<(SpawnHandle, Instant)>,
    tally: Option<Tally<Quote>>,
    counted_at: Option<Timestamp>,
    /// What happens while it is counted.
    meanwhile: Vec<Happened>,
}

impl Inboxes {
    fn apply(&mut self, happened: Happened) {
        let Some(tally) = &mut self.tally else { return };
        match happened {
            Happened::Stored(message) => tally.stored(message),
            Happened::Read(user, seq) => tally.read(user, seq),
            Happened::Other => tally.lose(),
        }
    }

    /// Takes over what was counted, and what happened since.
    fn counted(&mut self, heads: Heads) {
        let place =
            |m: conversations::MemberHead| (m.user_id, Place { read: m.read, unread: m.unread });
        let members = heads.members.into_iter().map(place).collect();
        self.tally = Some(Tally::new(heads.head, heads.preview, members));
        for happened in std::mem::take(&mut self.meanwhile) {
            self.apply(happened);
        }
    }
}

/// A member has read up to `seq`, at another node.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReadElsewhere {
    pub user_id: Uuid,
    pub seq: i64,
}

impl Handler<ReadElsewhere> for ConversationActor {
    type Result = ();

    fn handle(&mut self, read: ReadElsewhere, _: &mut Context<Self>) {
        self.note(Happened::Read(read.user_id, read.seq));
    }
}

impl ConversationActor {
    /// Notes what happened; it is told with `tell_inboxes`.
    pub(super) fn note(&mut self, happened: Happened) {
        if self.inboxes.tally.is_some() {
            self.inboxes.apply(happened);
        } else if self.inboxes.news != News::Told && self.inboxes.meanwhile.len() < MEANWHILE {
            self.inboxes.meanwhile.push(happened);
        }
    }

    /// The same as `tell_inboxes`, for a message that is being told of.
    pub(super) fn tell_inboxes_along(&mut self, ctx: &mut Context<Self>) {
        if let Some((pause, _)) = self.inboxes.pause.take_if(|(_, since)| since.elapsed() >= SHORT)
        {
            ctx.cancel_future(pause);
            self.inboxes.news = News::Told;
        }
        self.tell_inboxes(ctx);
    }

    /// Tells every member's inbox where the conversation is.
    pub(super) fn tell_inboxes(&mut self, ctx: &mut Context<Self>) {
        if self.inboxes.news != News::Told {
            self.inboxes.news = News::Stale;
            return;
        }
        self.inboxes.news = News::Telling;
        if self.tell_places() {
            return self.pause_inboxes(ctx);
        }
        (self.inboxes.tally, self.inboxes.meanwhile) = (None, Vec::new());
        self.inboxes.counted_at = Some(crate::clock::now());
        let (pool, id) = (self.pool.clone(), self.id);
        let read = async move {
            let mut conn = pool.get().await?;
            error::Result::Ok(conversations::heads(&mut conn, id).await?)
        };
        ctx.spawn(read.into_actor(self).map(|heads, actor, ctx| {
            match heads {
                Ok(heads) => {
                    actor.tell_heads(&heads);
                    if actor.inboxes.meanwhile.len() < MEANWHILE {
                        actor.inboxes.counted(heads);
                    }
                }
                // Not kept: the list of conversations tells the same.
                Err(e) => tracing::debug!("inboxes are not told: {e:?}"),
            }
            actor.pause_inboxes(ctx);
        }));
    }

    fn pause_inboxes(&mut self, ctx: &mut Context<Self>) {
        let pause = ctx.run_later(PAUSE, |actor, ctx| {
            actor.inboxes.pause = None;
            if std::mem::take(&mut actor.inboxes.news) == News::Stale {
                actor.tell_inboxes(ctx);
            }
        });
        self.inboxes.pause = Some((pause, Instant::now()));
    }

    /// Tells what is known without counting; false when it is not.
    fn tell_places(&self) -> bool {
        let alone = matches!(self.fanout.bus(), Bus::InProcess);
        let age =
            self.inboxes.counted_at.map(|at| crate::clock::now().duration_since(at).unsigned_abs());
        if !alone && age.is_none_or(|age| age > KEPT) {
            return false;
        }
        let told = self.inboxes.tally.as_ref().and_then(Tally::told);
        let Some((head, preview, members)) = told else { return false };
        for (user, place) in members {
            self.tell_inbox(*user, head, *place, preview);
        }
        true
    }

    fn tell_heads(&self, heads: &Heads) {
        for member in &heads.members {
            let place = Place { read: member.read, unread: member.unread };
            self.tell_inbox(member.user_id, heads.head, place, heads.preview.as_ref());
        }
    }

    fn tell_inbox(&self, user: Uuid, head: i64, place: Place, preview: Option<&Quote>) {
        let data = json!({
            "conversationId": self.id,
            "lastSeq": head,
            "readSeq": place.read,
            "unread": place.unread,
            "preview": preview,
        });
        self.fanout.publish_ephemeral(Channel::User(user), "conversation:updated", &data);
    }
}
