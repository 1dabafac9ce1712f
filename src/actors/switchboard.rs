//! Who follows what, for the sockets of one HTTP worker.
//!
//! The board is shared by everything on the worker's thread; the switchboard actor is the door
//! through which other threads reach it. Each subscription to a durable channel has a cursor: the
//! seq of the last event handed over. An event that is next goes out; one at or before the cursor
//! is a repeat and is dropped; one further ahead means that something is missing, and the socket
//! is told to catch up from PostgreSQL. So no event is lost, repeated or out of order, whatever
//! the fan-out or the bus do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Actor, Context, Handler, Message, Recipient};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fanout::Event;
use super::line::{Kind, Line};
use super::protocol::{self, Close};
use crate::domain::channel::Channel;

/// Events that may wait at one worker; more are dropped and caught up with.
const MAILBOX: usize = 8_192;
/// What a client is told to wait before it looks for another node.
const RECONNECT_AFTER_MS: u32 = 1_000;

/// To a socket: read what is missing in `channel` after `since` from PostgreSQL.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CatchUp {
    pub channel: Channel,
    pub since: i64,
    pub ticket: Ticket,
}

/// Tells one subscription from an earlier one of the same socket to the same channel.
pub type Ticket = u64;

/// How far a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Everything up to this seq was handed over.
    Live(i64),
    /// The socket reads from PostgreSQL; the newest seq heard of meanwhile.
    Behind(i64),
}

struct Subscription {
    line: Rc<Line>,
    catch_up: Recipient<CatchUp>,
    ticket: Ticket,
    cursor: Cursor,
}

/// The subscriptions of one worker's sockets.
#[derive(Default)]
pub struct Board {
    channels: HashMap<Channel, Vec<Subscription>>,
    last_ticket: Ticket,
    /// Sockets that nobody has authenticated yet: they follow nothing, and a stop must reach them.
    strangers: HashMap<u64, Rc<Line>>,
    /// Sockets that come now are sent elsewhere.
    stopping: bool,
}

/// The board as everything on the worker's thread holds it.
pub type SharedBoard = Rc<RefCell<Board>>;

impl Board {
    /// Knows the socket `id` before it follows anything.
    pub fn admit(&mut self, id: u64, line: &Rc<Line>) {
        self.strangers.insert(id, line.clone());
        if self.stopping {
            line.close(Close::ShuttingDown);
        }
    }

    /// The socket `id` is authenticated, or gone.
    pub fn no_stranger(&mut self, id: u64) {
        self.strangers.remove(&id);
    }

    /// Lets `line` follow `channel`; live events wait until `advance` says how far the socket is.
    /// An earlier subscription ends, and what is still read for it counts no more.
    pub fn subscribe(
        &mut self,
        channel: Channel,
        line: &Rc<Line>,
        catch_up: Recipient<CatchUp>,
    ) -> Ticket {
        self.unsubscribe(channel, line);
        if self.stopping {
            line.close(Close::ShuttingDown);
        }
        self.last_ticket += 1;
        let (line, ticket, cursor) = (line.clone(), self.last_ticket, Cursor::Behind(0));
        let subscription = Subscription { line, catch_up, ticket, cursor };
        self.channels.entry(channel).or_default().push(subscription);
        ticket
    }

    /// Whether `ticket` is the subscription of `line` to `channel`, and not an earlier one.
    pub fn is_current(&mut self, channel: Channel, line: &Rc<Line>, ticket: Ticket) -> bool {
        self.find(channel, line).is_some_and(|s| s.ticket == ticket)
    }

    /// Ends a subscription; false if there was none.
    pub fn unsubscribe(&mut self, channel: Channel, line: &Rc<Line>) -> bool {
        let Some(list) = self.channels.get_mut(&channel) else { return false };
        let before = list.len();
        list.retain(|s| !Rc::ptr_eq(&s.line, line));
        let found = list.len() < before;
        if list.is_empty() {
            self.channels.remove(&channel);
        }
        found
    }

    /// The socket has handed over everything up to `seq`; `read_all` when PostgreSQL had no more.
    ///
    /// True when it is level with all that was heard of, so that live events flow from now on (or
    /// flow already, or the subscription `ticket` is over); false when it has to read on.
    pub fn advance(
        &mut self,
        channel: Channel,
        line: &Rc<Line>,
        ticket: Ticket,
        (seq, read_all): (i64, bool),
    ) -> bool {
        let found = self.find(channel, line).filter(|s| s.ticket == ticket);
        let Some(s) = found else { return true };
        match s.cursor {
            Cursor::Behind(heard) if read_all && heard <= seq => {
                s.cursor = Cursor::Live(seq);
                true
            }
            Cursor::Behind(_) => false,
            Cursor::Live(_) => true,
        }
    }

    /// The newest seq that this worker knows of in `channel` for `line`; none while it is opened
    /// and nothing was heard of it.
    pub fn head(&mut self, channel: Channel, line: &Rc<Line>) -> Option<i64> {
        match self.find(channel, line)?.cursor {
            Cursor::Behind(0) => None,
            Cursor::Live(seq) | Cursor::Behind(seq) => Some(seq),
        }
    }

    /// Hands `event` to every socket that follows its channel.
    pub fn deliver(&mut self, event: &Event) {
        let Some(list) = self.channels.get_mut(&event.channel) else { return };
        for s in list {
            let Some(seq) = event.seq else {
                s.line.push(event.frame.clone(), Kind::Ephemeral);
                continue;
            };
            match s.cursor {
                Cursor::Live(last) if seq == last + 1 => {
                    s.cursor = Cursor::Live(seq);
                    s.line.push(event.frame.clone(), Kind::Kept);
                }
                Cursor::Live(last) if seq > last => s.fall_behind(event.channel, last, seq),
                Cursor::Live(_) => {}
                Cursor::Behind(heard) => s.cursor = Cursor::Behind(heard.max(seq)),
            }
        }
    }

    /// Something was dropped on its way here: every durable subscription reads what it missed.
    pub fn catch_up_all(&mut self) {
        for (channel, list) in self.channels.iter_mut().filter(|(c, _)| c.is_durable()) {
            for s in list {
                if let Cursor::Live(last) = s.cursor {
                    s.fall_behind(*channel, last, last);
                }
            }
        }
    }

    /// Tells the sockets of `user_id` that belong to one of `sessions` so, then closes them.
    pub fn revoke(&mut self, user_id: Uuid, sessions: &[Uuid]) {
        let channel = Channel::User(user_id);
        for s in self.channels.get(&channel).into_iter().flatten() {
            if let Some(id) = s.line.session().filter(|id| sessions.contains(id)) {
                let data = json!({ "sessionId": id });
                s.line.push(farewell("session:revoked", channel, &data), Kind::Kept);
                s.line.close(Close::Revoked);
            }
        }
    }

    /// Tells every socket that the hub stops, then closes it; also those that come after this.
    pub fn shut_down(&mut self) {
        self.stopping = true;
        for line in self.strangers.values() {
            line.close(Close::ShuttingDown);
        }
        for (channel, list) in &self.channels {
            if let Channel::User(_) = channel {
                let data = json!({ "reconnectAfterMs": RECONNECT_AFTER_MS });
                for s in list {
                    s.line.push(farewell("server:draining", *channel, &data), Kind::Kept);
                    s.line.close(Close::ShuttingDown);
                }
            }
        }
    }

    fn find(&mut self, channel: Channel, line: &Rc<Line>) -> Option<&mut Subscription> {
        self.channels.get_mut(&channel)?.iter_mut().find(|s| Rc::ptr_eq(&s.line, line))
    }
}

impl Subscription {
    fn fall_behind(&mut self, channel: Channel, since: i64, heard: i64) {
        self.cursor = Cursor::Behind(heard);
        if self.catch_up.try_send(CatchUp { channel, since, ticket: self.ticket }).is_err() {
            // A socket that can not even be told has a full mailbox: it resumes after a reconnect.
            self.line.close(Close::SlowConsumer);
        }
    }
}

/// The door to one worker's board.
pub struct Switchboard {
    board: SharedBoard,
    missed: Arc<AtomicBool>,
}

impl Switchboard {
    /// The switchboard of `board`; `missed` is how the fan-out says that it dropped something.
    pub fn new(board: SharedBoard, missed: Arc<AtomicBool>) -> Self {
        Self { board, missed }
    }
}

impl Actor for Switchboard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// An event for the sockets of this worker.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Arc<Event>);

impl Handler<Deliver> for Switchboard {
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver, _: &mut Context<Self>) {
        let mut board = self.board.borrow_mut();
        board.deliver(&event);
        if self.missed.swap(false, Ordering::AcqRel) {
            board.catch_up_all();
        }
    }
}

/// Close the sockets of these sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Revoke {
    pub user_id: Uuid,
    pub sessions: Arc<[Uuid]>,
}

impl Handler<Revoke> for Switchboard {
    type Result = ();

    fn handle(&mut self, message: Revoke, _: &mut Context<Self>) {
        self.board.borrow_mut().revoke(message.user_id, &message.sessions);
    }
}

/// Tell every socket goodbye.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl Handler<Shutdown> for Switchboard {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Context<Self>) {
        self.board.borrow_mut().shut_down();
    }
}

/// The last event of a socket.
fn farewell(event: &str, channel: Channel, data: &Value) -> bytes::Bytes {
    let at = super::now().to_string();
    protocol::text_frame(&protocol::event(event, channel, None, &at, data))
}

#[cfg(test)]
mod tests {
    use std::task::{Context as TaskContext, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::actors::line::Written;

    /// Stands for a socket: keeps what it is told to catch up with.
    #[derive(Default)]
    struct Probe(Rc<RefCell<Vec<CatchUp>>>);

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<CatchUp> for Probe {
        type Result = ();

        fn handle(&mut self, gap: CatchUp, _: &mut Context<Self>) {
            self.0.borrow_mut().push(gap);
        }
    }

    fn event(channel: Channel, seq: i64) -> Event {
        // One byte per frame is enough to see the order; the seqs of the test stay below 256.
        let frame = vec![u8::try_from(seq).unwrap()].into();
        Event { channel, seq: Some(seq), frame }
    }

    fn drain(line: &Line) -> Vec<u8> {
        let mut cx = TaskContext::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(Written::More(bytes)) = line.poll_write(&mut cx) {
            out.extend_from_slice(&bytes);
        }
        out
    }

    #[actix::test]
    async fn a_head_that_nobody_has_heard_of_is_not_told() {
        let (channel, line) = (Channel::Calendar(uuid::Uuid::nil()), Rc::new(Line::default()));
        let mut board = Board::default();
        assert_eq!(board.head(channel, &line), None);
        let ticket = board.subscribe(channel, &line, Probe::default().start().recipient());
        assert_eq!(board.head(channel, &line), None, "it is being opened");
        assert!(board.advance(channel, &line, ticket, (0, true)));
        assert_eq!(board.head(channel, &line), Some(0), "nothing has happened in it yet");
        board.deliver(&event(channel, 1));
        assert_eq!(board.head(channel, &line), Some(1));
    }

    /// Commits events one by one; each is delivered, lost, delivered twice or held back until the
    /// end. The socket reads what is committed in small pages whenever it is told to. Returns what
    /// it saw.
    async fn run(fates: Vec<u8>, page: usize) -> Vec<u8> {
        let channel = Channel::User(Uuid::from_u128(1));
        let told = Rc::new(RefCell::new(Vec::new()));
        let probe = Probe(told.clone()).start();
        let (mut board, line) = (Board::default(), Rc::new(Line::default()));
        let ticket = board.subscribe(channel, &line, probe.recipient());
        assert!(board.advance(channel, &line, ticket, (0, true)));
        let (mut committed, mut late) = (0, Vec::new());
        for fate in fates.iter().chain([&0]) {
            committed += 1;
            match fate % 4 {
                0 => board.deliver(&event(channel, committed)),
                1 => {}
                2 => (0..2).for_each(|_| board.deliver(&event(channel, committed))),
                _ => late.push(event(channel, committed)),
            }
            // Lets the probe's mailbox run now and then, so that gaps overlap with deliveries.
            if fate % 3 == 0 {
                catch_up(&mut board, &line, &told, committed, page).await;
            }
        }
        late.iter().for_each(|event| board.deliver(event));
        catch_up(&mut board, &line, &told, committed, page).await;
        drain(&line)
    }

    async fn catch_up(
        board: &mut Board,
        line: &Rc<Line>,
        told: &RefCell<Vec<CatchUp>>,
        committed: i64,
        page: usize,
    ) {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let gaps = std::mem::take(&mut *told.borrow_mut());
        for CatchUp { channel, mut since, ticket } in gaps {
            loop {
                let rows: Vec<i64> = (since + 1..=committed).take(page).collect();
                for seq in &rows {
                    line.push(event(channel, *seq).frame, Kind::Kept);
                    since = *seq;
                }
                if board.advance(channel, line, ticket, (since, rows.len() < page)) {
                    break;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the fan-out loses, repeats or delays, a socket sees every event once, in order.
        #[test]
        fn nothing_is_lost_repeated_or_disordered(
            fates in proptest::collection::vec(any::<u8>(), 0..120),
            page in 1usize..10,
        ) {
            let expected: Vec<u8> = (1..=u8::try_from(fates.len() + 1).unwrap()).collect();
            let seen = actix::System::new().block_on(run(fates, page));
            prop_assert_eq!(seen, expected);
        }
    }
}
