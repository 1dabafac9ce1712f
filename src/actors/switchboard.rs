//! Who follows what, for the sockets of one HTTP worker.
//!
//! The board is shared by everything on the worker's thread; the switchboard actor is the door
//! through which other threads reach it. Each subscription to a durable channel has a cursor: the
//! seq of the last event handed over. An event that is next goes out; one at or before the cursor
//! is a repeat and is dropped; one further ahead means that something is missing, and the socket
//! is told to catch up from PostgreSQL. So no event is lost, repeated or out of order, whatever
//! the fan-out or the bus do.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, MessageResult, Recipient};
use bytes::Bytes;

use super::fanout::Event;
use super::healing::Missed;
use super::interest::Interest;
use super::line::{Line, Outlet};
use super::outbox::Kind;
use super::protocol::Close;
use super::replay::Replays;
use crate::counters;
use crate::domain::channel::Channel;

/// Events that may wait at one worker; more are dropped and caught up with.
const MAILBOX: usize = 8_192;

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
    /// It is being found out whether the socket may follow; the newest seq heard of meanwhile, or how
    /// many events of a channel that has no seqs.
    Asking(i64),
    /// Everything up to this seq was handed over.
    Live(i64),
    /// The socket reads from PostgreSQL; the newest seq heard of meanwhile.
    Behind(i64),
}

struct Subscription {
    line: Rc<Line>,
    ticket: Ticket,
    cursor: Cursor,
}

/// Who follows one channel. Each line knows its place in the list.
struct Followers {
    list: Vec<Subscription>,
    /// Something was heard of the channel since its head was last compared with PostgreSQL's.
    is_stirred: bool,
}

/// The subscriptions of one worker's sockets.
#[derive(Default)]
pub struct Board {
    channels: HashMap<Channel, Followers>,
    /// The keys of `channels`, for other threads.
    interest: Interest,
    last_ticket: Ticket,
    outlet: Rc<Outlet>,
    replays: Rc<Replays>,
}

/// The board as everything on the worker's thread holds it.
pub type SharedBoard = Rc<RefCell<Board>>;

impl Board {
    /// What is followed here, for other threads.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// What writes for the sockets of this worker.
    pub fn outlet(&self) -> &Rc<Outlet> {
        &self.outlet
    }

    /// What reads for the sockets of this worker.
    pub fn replays(&self) -> &Rc<Replays> {
        &self.replays
    }

    /// Lets `line` listen to `channel` while it is found out whether it may: nothing is handed over
    /// before [`admit`](Self::admit), and what is heard of meanwhile is not forgotten. Durable events
    /// then wait until `advance` says how far the socket is. An earlier subscription ends, and what is
    /// still read for it counts no more.
    pub fn listen(
        &mut self,
        channel: Channel,
        line: &Rc<Line>,
        catch_up: Recipient<CatchUp>,
    ) -> Ticket {
        self.unsubscribe(channel, line);
        self.last_ticket += 1;
        line.set_catch_up(catch_up);
        let (line, ticket, cursor) = (line.clone(), self.last_ticket, Cursor::Asking(0));
        let followers = self.channels.entry(channel).or_insert_with(|| {
            self.interest.begin(channel);
            Followers::new()
        });
        line.set_place(channel, Some(followers.list.len()));
        followers.list.push(Subscription { line, ticket, cursor });
        ticket
    }

    /// The socket may follow `channel`: what it is told now reaches it.
    pub fn admit(&mut self, channel: Channel, line: &Rc<Line>, ticket: Ticket) {
        if let Some(s) = self.find(channel, line).filter(|s| s.ticket == ticket)
            && let Cursor::Asking(heard) = s.cursor
        {
            s.cursor = Cursor::Behind(heard);
        }
    }

    /// Whether something was heard of `channel`, which keeps no events, since `line` began to listen or
    /// since the last call.
    pub fn was_stirred(&mut self, channel: Channel, line: &Rc<Line>, ticket: Ticket) -> bool {
        match self.find(channel, line).filter(|s| s.ticket == ticket).map(|s| &mut s.cursor) {
            Some(Cursor::Asking(heard)) => std::mem::take(heard) > 0,
            Some(Cursor::Live(_) | Cursor::Behind(_)) | None => false,
        }
    }

    /// Whether `ticket` is the subscription of `line` to `channel`, and not an earlier one.
    pub fn is_current(&mut self, channel: Channel, line: &Rc<Line>, ticket: Ticket) -> bool {
        self.find(channel, line).is_some_and(|s| s.ticket == ticket)
    }

    /// Ends a subscription; false if there was none.
    pub fn unsubscribe(&mut self, channel: Channel, line: &Rc<Line>) -> bool {
        let Some(place) = line.place(channel) else { return false };
        let Some(followers) = self.channels.get_mut(&channel) else { return false };
        line.set_place(channel, None);
        followers.list.swap_remove(place);
        if let Some(moved) = followers.list.get(place) {
            moved.line.set_place(channel, Some(place));
        }
        if followers.list.is_empty() {
            self.channels.remove(&channel);
            self.interest.end(channel);
        }
        true
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
            Cursor::Behind(_) | Cursor::Asking(_) => false,
            Cursor::Live(_) => true,
        }
    }

    /// The newest seq that this worker knows of in `channel` for `line`; none while it is opened
    /// and nothing was heard of it.
    pub fn head(&mut self, channel: Channel, line: &Rc<Line>) -> Option<i64> {
        match self.find(channel, line)?.cursor {
            Cursor::Behind(0) | Cursor::Asking(_) => None,
            Cursor::Live(seq) | Cursor::Behind(seq) => Some(seq),
        }
    }

    /// Hands `event` to every socket that follows its channel.
    pub fn deliver(&mut self, event: &Event) {
        let Some(followers) = self.channels.get_mut(&event.channel) else { return };
        followers.is_stirred |= event.seq.is_some();
        // A copy for this worker: its threads would take turns at counting clones of one.
        let frame = Bytes::copy_from_slice(&event.frame);
        let mut sent = 0;
        for s in &mut followers.list {
            let Some(seq) = event.seq else {
                match s.cursor {
                    // What was seen of it may be older than this.
                    Cursor::Asking(heard) if !event.channel.is_durable() => {
                        s.cursor = Cursor::Asking(heard + 1);
                    }
                    Cursor::Asking(_) => {}
                    Cursor::Live(_) | Cursor::Behind(_) => {
                        sent += usize::from(s.line.push(frame.clone(), event.kind));
                    }
                }
                continue;
            };
            match s.cursor {
                Cursor::Live(last) if seq == last + 1 => {
                    s.cursor = Cursor::Live(seq);
                    sent += usize::from(s.line.push(frame.clone(), Kind::Kept));
                }
                Cursor::Live(last) if seq > last => s.fall_behind(event.channel, last, seq),
                Cursor::Live(_) => {}
                Cursor::Behind(heard) => s.cursor = Cursor::Behind(heard.max(seq)),
                Cursor::Asking(heard) => s.cursor = Cursor::Asking(heard.max(seq)),
            }
        }
        counters::delivered(event.seq.is_some(), sent);
    }

    /// Something was dropped on its way here: every durable subscription reads what it missed.
    pub fn catch_up_all(&mut self) {
        for (channel, followers) in self.channels.iter_mut().filter(|(c, _)| c.is_durable()) {
            for s in &mut followers.list {
                if let Cursor::Live(last) = s.cursor {
                    s.fall_behind(*channel, last, last);
                }
            }
        }
    }

    /// A state was not told in these channels: who follows them has to come again and look.
    fn close_all(&mut self, channels: &HashSet<Channel>) {
        for followers in channels.iter().filter_map(|channel| self.channels.get(channel)) {
            followers.list.iter().for_each(|s| s.line.close(Close::Overloaded));
        }
    }

    /// The durable channels that nothing was heard of since the last call, each with the seq that
    /// the live socket farthest behind is at.
    pub fn quiet(&mut self) -> Vec<(Channel, i64)> {
        let mut quiet = Vec::new();
        for (channel, followers) in self.channels.iter_mut().filter(|(c, _)| c.is_durable()) {
            let live = followers.list.iter().filter_map(|s| match s.cursor {
                Cursor::Live(seq) => Some(seq),
                Cursor::Behind(_) | Cursor::Asking(_) => None,
            });
            if !std::mem::take(&mut followers.is_stirred)
                && let Some(seq) = live.min()
            {
                quiet.push((*channel, seq));
            }
        }
        quiet
    }

    /// `channel` is at `head` in PostgreSQL: sockets that are not read what they missed.
    pub fn see_head(&mut self, channel: Channel, head: i64) {
        let Some(followers) = self.channels.get_mut(&channel) else { return };
        for s in &mut followers.list {
            if let Cursor::Live(last) = s.cursor
                && last < head
            {
                s.fall_behind(channel, last, head);
            }
        }
    }

    /// What is followed here.
    pub(super) fn followed(&self) -> impl Iterator<Item = Channel> {
        self.channels.keys().copied()
    }

    fn find(&mut self, channel: Channel, line: &Rc<Line>) -> Option<&mut Subscription> {
        self.channels.get_mut(&channel)?.list.get_mut(line.place(channel)?)
    }
}

impl Followers {
    /// Most channels of a worker have one follower.
    fn new() -> Self {
        Self { list: Vec::with_capacity(1), is_stirred: true }
    }
}

impl Subscription {
    fn fall_behind(&mut self, channel: Channel, since: i64, heard: i64) {
        self.cursor = Cursor::Behind(heard);
        if !self.line.catch_up(CatchUp { channel, since, ticket: self.ticket }) {
            // A socket that can not even be told has a full mailbox: it resumes after a reconnect.
            self.line.close(Close::SlowConsumer);
        }
    }
}

/// The door to one worker's board.
pub struct Switchboard {
    pub(super) board: SharedBoard,
    missed: Arc<Missed>,
}

impl Switchboard {
    /// The switchboard of `board`; `missed` is how the fan-out says that it dropped something.
    pub fn new(board: SharedBoard, missed: Arc<Missed>) -> Self {
        Self { board, missed }
    }

    /// Lets sockets make up for what this worker had no room for.
    pub(super) fn heal(&self) {
        if let Some(states) = self.missed.take() {
            let mut board = self.board.borrow_mut();
            board.catch_up_all();
            board.close_all(&states);
        }
    }
}

impl Actor for Switchboard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let outlet = self.board.borrow().outlet().clone();
        actix::spawn(outlet.run());
    }
}

/// An event for the sockets of this worker.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Arc<Event>);

impl Handler<Deliver> for Switchboard {
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver, _: &mut Context<Self>) {
        self.board.borrow_mut().deliver(&event);
        self.heal();
    }
}

/// Asks for the channels that have been quiet; see [`Board::quiet`].
#[derive(Message)]
#[rtype(result = "Vec<(Channel, i64)>")]
pub struct Quiet;

impl Handler<Quiet> for Switchboard {
    type Result = MessageResult<Quiet>;

    fn handle(&mut self, _: Quiet, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.board.borrow_mut().quiet())
    }
}

/// How far channels are in PostgreSQL.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heads(pub Arc<[(Channel, i64)]>);

impl Handler<Heads> for Switchboard {
    type Result = ();

    fn handle(&mut self, Heads(heads): Heads, _: &mut Context<Self>) {
        let mut board = self.board.borrow_mut();
        for (channel, head) in heads.iter() {
            board.see_head(*channel, *head);
        }
        drop(board);
        self.heal();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        Event { channel, seq: Some(seq), kind: Kind::Kept, frame }
    }

    /// Lets `line` follow `channel`, as one who may.
    fn subscribe(
        board: &mut Board,
        channel: Channel,
        line: &Rc<Line>,
        catch_up: Recipient<CatchUp>,
    ) -> Ticket {
        let ticket = board.listen(channel, line, catch_up);
        board.admit(channel, line, ticket);
        ticket
    }

    #[actix::test]
    async fn what_is_told_while_presence_is_looked_at_comes_not_before_the_answer() {
        let (channel, line) =
            (Channel::Presence(uuid::Uuid::nil()), Line::new(Rc::default(), None));
        let mut board = Board::default();
        let ticket = board.listen(channel, &line, Probe::default().start().recipient());
        let news = Event { seq: None, ..event(channel, 1) };
        assert!(!board.was_stirred(channel, &line, ticket));
        board.deliver(&news);
        assert_eq!(line.drain(), b"");
        assert!(board.was_stirred(channel, &line, ticket), "it has to be looked at again");
        assert!(!board.was_stirred(channel, &line, ticket));
        board.admit(channel, &line, ticket);
        board.deliver(&news);
        assert_eq!(line.drain(), [1]);
    }

    #[actix::test]
    async fn a_head_that_nobody_has_heard_of_is_not_told() {
        let (channel, line) =
            (Channel::Calendar(uuid::Uuid::nil()), Line::new(Rc::default(), None));
        let mut board = Board::default();
        assert_eq!(board.head(channel, &line), None);
        let ticket = subscribe(&mut board, channel, &line, Probe::default().start().recipient());
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
        let channel = Channel::User(uuid::Uuid::from_u128(1));
        let told = Rc::new(RefCell::new(Vec::new()));
        let probe = Probe(told.clone()).start();
        let (mut board, line) = (Board::default(), Line::new(Rc::default(), None));
        let ticket = subscribe(&mut board, channel, &line, probe.recipient());
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
        line.drain()
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
