//! The channels of a socket: opening them, and reading from PostgreSQL what it missed.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Handler, WrapFuture};
use serde_json::{Map, Value, json};

use super::channel_commands::{read_resume, read_subscribe, read_unsubscribe};
use super::outbox::Kind;
use super::protocol::{self, Close};
use super::replay;
use super::session::{Ctx, Session};
use super::session_presence::Watching;
use super::socket_machine::Input;
use super::subscriptions::{self, Opening};
use super::switchboard::{CatchUp, Ticket};
use crate::counters;
use crate::domain::channel::Channel;
use crate::domain::refusal::Refusal;
use crate::error;
use crate::error::Error;
use crate::models::openings::Head;

/// Pause before a socket that is full, or ahead of what it can read, is looked at again.
const PAUSE: Duration = Duration::from_millis(25);

/// How often the pause doubles for a socket that reads nothing although there should be something.
const DOUBLINGS: u32 = 7;

/// Why a channel is opened, and so who hears of it.
pub(super) enum Asked {
    /// Nobody: the socket's own channel.
    Implicit,
    /// The command under way.
    Subscribe,
    /// A command that opens many.
    Resume(Resume),
}

/// Where a subscription that is open is to be caught up with from.
#[derive(Clone, Copy)]
struct Start {
    channel: Channel,
    ticket: Ticket,
    since: i64,
    /// PostgreSQL had nothing after `since` when it was asked for the head.
    level: bool,
    /// Pages in a row that had nothing.
    empty: u32,
}

/// A channel whose head was asked for, while events of it wait.
struct Listening {
    channel: Channel,
    since: Option<i64>,
    ticket: Ticket,
}

/// A `resume` under way.
pub(super) struct Resume {
    /// What is answered about each channel.
    done: Map<String, Value>,
    /// The channels that are open, and from where they are to be caught up with.
    opened: Vec<Start>,
}

fn too_many() -> Error {
    Refusal::TooManySubscriptions { limit: protocol::MAX_SUBSCRIPTIONS }.into()
}

impl Session {
    /// Opens the user's own channel; it starts at its head.
    pub(super) fn open_own(&mut self, user_id: uuid::Uuid, ctx: &mut Ctx) {
        self.open_at_head(Channel::User(user_id), None, Asked::Implicit, ctx);
    }

    /// Opens a channel; an answer that needs no waiting is returned.
    pub(super) fn subscribe(&mut self, data: Value, ctx: &mut Ctx) -> Option<error::Result<Value>> {
        let (channel, since) = match read_subscribe(data) {
            Ok(read) => read,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        if self.is_full_for(channel) {
            return Some(Err(too_many()));
        }
        match (channel, since) {
            (Channel::Calendar(id), None) => self.open_calendar(id, ctx),
            _ => self.open_at_head(channel, since, Asked::Subscribe, ctx),
        }
        None
    }

    pub(super) fn unsubscribe(&self, data: Value) -> error::Result<Value> {
        let channel = read_unsubscribe(data)?;
        self.socket.channels.borrow_mut().remove(&channel);
        self.world.board.borrow_mut().unsubscribe(channel, &self.socket.line);
        Ok(json!({}))
    }

    /// Opens many channels, with one question to PostgreSQL, then answers for all of them.
    pub(super) fn resume(&mut self, data: Value, ctx: &mut Ctx) -> Option<error::Result<Value>> {
        let asked = match read_resume(data) {
            Ok(asked) => asked,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        let mut resume = Resume { done: Map::new(), opened: Vec::new() };
        let mut listening = Vec::with_capacity(asked.len());
        for (channel, since) in asked {
            if self.is_full_for(channel) {
                resume.done.insert(channel.to_string(), self.refused(&too_many()));
            } else {
                listening.push(self.listen(channel, Some(since), ctx));
            }
        }
        self.ask_heads(listening, Asked::Resume(resume), ctx);
        None
    }

    fn is_full_for(&self, channel: Channel) -> bool {
        let channels = self.socket.channels.borrow();
        !channels.contains(&channel) && channels.len() >= protocol::MAX_SUBSCRIPTIONS
    }

    fn listen(&mut self, channel: Channel, since: Option<i64>, ctx: &mut Ctx) -> Listening {
        let recipient = ctx.address().recipient();
        let mut board = self.world.board.borrow_mut();
        let ticket = board.listen(channel, &self.socket.line, recipient);
        self.socket.channels.borrow_mut().insert(channel);
        Listening { channel, since, ticket }
    }

    fn open_at_head(&mut self, channel: Channel, since: Option<i64>, asked: Asked, ctx: &mut Ctx) {
        let listening = self.listen(channel, since, ctx);
        self.ask_heads(vec![listening], asked, ctx);
    }

    /// Finds out which of these the user may follow, and where they begin. They are listened to
    /// already, so nothing that happens meanwhile is missed.
    fn ask_heads(&mut self, listening: Vec<Listening>, asked: Asked, ctx: &mut Ctx) {
        let Some(user_id) = self.user_id() else { return };
        let openings = self.world.openings.clone();
        let channels = listening.iter().map(|l| l.channel).collect();
        let ask = async move { openings.heads(user_id, channels).await };
        ctx.spawn(ask.into_actor(self).map(move |heads, session, ctx| {
            session.heads_are(listening, &heads, asked, ctx);
        }));
    }

    fn heads_are(
        &mut self,
        listening: Vec<Listening>,
        heads: &error::Result<Vec<Option<Head>>>,
        mut asked: Asked,
        ctx: &mut Ctx,
    ) {
        let mut watching = Vec::new();
        for (place, Listening { channel, since, ticket }) in listening.into_iter().enumerate() {
            let head = match heads {
                Ok(heads) => heads.get(place).copied().flatten(),
                Err(_) => None,
            };
            let opening = match (head, heads) {
                (Some(head), _) => {
                    if let Channel::Presence(user_id) = channel {
                        watching.push(Watching { user_id, ticket, last_used: head.last_used });
                        continue;
                    }
                    self.world.board.borrow_mut().admit(channel, &self.socket.line, ticket);
                    Ok(Opening { head: head.seq, snapshot: None })
                }
                (None, Ok(_)) => Err(Refusal::NotFound("channel").into()),
                (None, Err(e)) => Err(e.clone()),
            };
            match self.opened(channel, since, opening, ticket, asked, ctx) {
                Some(more) => asked = more,
                None => return,
            }
        }
        self.look(watching, asked, ctx);
    }

    pub(super) fn answer_resume(&mut self, asked: Asked, ctx: &mut Ctx) {
        let Asked::Resume(resume) = asked else { return };
        self.feed(Input::Finished(Ok(json!({ "channels": resume.done }))), ctx);
        for start in resume.opened {
            self.catch_up(start, ctx);
        }
    }

    /// Follows a calendar that is not known yet, whose snapshot is read once it is listened to.
    fn open_calendar(&mut self, id: uuid::Uuid, ctx: &mut Ctx) {
        let channel = Channel::Calendar(id);
        let ticket = self.listen(channel, None, ctx).ticket;
        // Anybody may follow a calendar.
        self.world.board.borrow_mut().admit(channel, &self.socket.line, ticket);
        let pool = self.world.pool.clone();
        let read = async move { subscriptions::open_calendar(&pool, id).await };
        ctx.spawn(read.into_actor(self).map(move |result, session, ctx| {
            session.opened(channel, None, result, ticket, Asked::Subscribe, ctx);
        }));
    }

    /// Takes back a subscription that could not be opened. A socket without its own channel would
    /// miss its bookings, and its revocation: it has to come again.
    fn unfollow(&mut self, channel: Channel, ticket: Ticket, ctx: &mut Ctx) {
        let mut board = self.world.board.borrow_mut();
        if !board.is_current(channel, &self.socket.line, ticket) {
            return;
        }
        board.unsubscribe(channel, &self.socket.line);
        drop(board);
        self.socket.channels.borrow_mut().remove(&channel);
        if Some(channel) == self.user_id().map(Channel::User) {
            self.feed(Input::Broken(Close::Overloaded), ctx);
        }
    }

    /// Says what came of one channel to whoever asked; a `resume` comes back, for the next one.
    pub(super) fn opened(
        &mut self,
        channel: Channel,
        since: Option<i64>,
        result: error::Result<Opening>,
        ticket: Ticket,
        asked: Asked,
        ctx: &mut Ctx,
    ) -> Option<Asked> {
        // Who was shut out meanwhile must not hear that they follow.
        let kept = self.socket.channels.borrow().contains(&channel);
        let result = result.and_then(|opening| {
            if kept { Ok(opening) } else { Err(Refusal::NotFound("channel").into()) }
        });
        if result.is_err() {
            self.unfollow(channel, ticket, ctx);
        }
        // A seq from the future (a database put back) starts at the head.
        let from = |o: &Opening| since.filter(|seq| *seq <= o.head).unwrap_or(o.head);
        let start = result.as_ref().ok().map(|o| Start {
            channel,
            ticket,
            since: from(o),
            level: from(o) == o.head,
            empty: 0,
        });
        let result = result.map(|o| answer(channel, since, o));
        match asked {
            Asked::Implicit => {
                if let Err(e) = result {
                    tracing::error!("a socket's own channel could not be opened: {e:?}");
                }
            }
            Asked::Subscribe => self.feed(Input::Finished(result), ctx),
            Asked::Resume(mut resume) => {
                let about = result.unwrap_or_else(|e| self.refused(&e));
                resume.done.insert(channel.to_string(), about);
                resume.opened.extend(start);
                return Some(Asked::Resume(resume));
            }
        }
        if let Some(start) = start {
            self.catch_up(start, ctx);
        }
        None
    }

    fn refused(&self, error: &Error) -> Value {
        let e = self.explain(&Value::Null, "resume", error);
        json!({ "error": { "code": e.code, "message": e.message } })
    }

    /// Sends what comes after `since`, as fast as the peer reads, until the board says that the
    /// socket is level with the live events.
    fn catch_up(&mut self, start: Start, ctx: &mut Ctx) {
        let Start { channel, ticket, since, level, .. } = start;
        if !channel.is_durable() || self.socket.line.is_closing() {
            return;
        }
        if self.world.board.borrow_mut().advance(channel, &self.socket.line, ticket, (since, level))
        {
            return;
        }
        if !self.socket.line.has_room(0) {
            ctx.run_later(PAUSE, move |session, ctx| session.catch_up(start, ctx));
            return;
        }
        let read = self.world.board.borrow().replays().page(&self.world.pool, channel, since);
        ctx.spawn(read.into_actor(self).map(move |page, session, ctx| {
            match page {
                Ok(page) => session.send_page(start, &page, ctx),
                Err(e) => {
                    // The client resumes from what it has seen.
                    tracing::warn!("a socket could not catch up: {e:?}");
                    session.feed(Input::Broken(Close::Overloaded), ctx);
                }
            }
        }));
    }

    fn send_page(&mut self, start: Start, page: &[(i64, bytes::Bytes)], ctx: &mut Ctx) {
        let Start { channel, ticket, since, .. } = start;
        if !self.world.board.borrow_mut().is_current(channel, &self.socket.line, ticket) {
            // Unsubscribed meanwhile, or subscribed anew from somewhere else.
            return;
        }
        let (mut last, mut sent, mut sent_all) = (since, 0, true);
        let is_end = page.len() < usize::try_from(replay::PAGE).unwrap_or(usize::MAX);
        for (seq, frame) in page {
            if !self.socket.line.has_room(frame.len()) {
                sent_all = false;
                break;
            }
            self.socket.line.push(frame.clone(), Kind::Kept);
            last = *seq;
            sent += 1;
        }
        counters::caught_up(sent);
        let done = (last, sent_all && is_end);
        if !self.world.board.borrow_mut().advance(channel, &self.socket.line, ticket, done) {
            let (pause, empty) = match page {
                // Something was heard of that is not there: after a restored backup it may never
                // come, so it is asked for ever more rarely.
                [] => (PAUSE * 2u32.pow(start.empty.min(DOUBLINGS)), start.empty.saturating_add(1)),
                _ if last > since => (Duration::ZERO, 0),
                _ => (PAUSE, 0),
            };
            let next = Start { since: last, level: false, empty, ..start };
            ctx.run_later(pause, move |session, ctx| session.catch_up(next, ctx));
        }
    }
}

/// What is answered about an opened channel. A snapshot is of the head: who resumes from before
/// it gets the changes instead.
fn answer(channel: Channel, since: Option<i64>, opening: Opening) -> Value {
    let mut answer = json!({ "seq": opening.head });
    let wanted = since.is_none() || !channel.is_durable();
    if let (Some(object), Some(snapshot)) =
        (answer.as_object_mut(), opening.snapshot.filter(|_| wanted))
    {
        object.insert("snapshot".to_owned(), snapshot);
    }
    answer
}

impl Handler<CatchUp> for Session {
    type Result = ();

    fn handle(&mut self, gap: CatchUp, ctx: &mut Ctx) {
        let CatchUp { channel, since, ticket } = gap;
        self.catch_up(Start { channel, ticket, since, level: false, empty: 0 }, ctx);
    }
}
