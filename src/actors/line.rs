//! One socket's way out: its outbox, and the connection that it is written to.
//!
//! Whoever has something for a socket pushes it here: the worker's switchboard, and the socket's
//! own actor. The worker's [`Outlet`] then writes it; no task of the socket is woken for that. A
//! connection that takes no more is left to the socket's response stream, which waits for it.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::outbox::Outbox;
use super::protocol::Close;
use super::switchboard::CatchUp;
use super::wire::Tap;
use crate::counters;
use crate::domain::channel::Channel;

pub use super::outbox::{CAPACITY, Kind};

/// How long a peer has to take the close frame.
const FAREWELL: Duration = Duration::from_secs(2);
/// Sockets that are written to before the worker does something else.
const TURN: usize = 32;

/// The sockets of one worker that have something to write, in the order in which they got it.
#[derive(Default)]
pub struct Outlet {
    ready: RefCell<VecDeque<Rc<Line>>>,
    waker: Cell<Option<Waker>>,
}

impl Outlet {
    fn add(&self, line: Rc<Line>) {
        self.ready.borrow_mut().push_back(line);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Writes what comes, for ever.
    pub async fn run(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                if self.ready.borrow().is_empty() {
                    self.waker.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            for _ in 0..TURN {
                let Some(line) = self.ready.borrow_mut().pop_front() else { break };
                line.take_turn();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// How a line stands to its connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing waits.
    #[default]
    Idle,
    /// It is the outlet's turn.
    Queued,
    /// The connection takes no more: the response stream's turn.
    Blocked,
    /// Nothing is written any more.
    Ended,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    flow: Flow,
    tap: Option<Rc<Tap>>,
    closing: Option<Close>,
    /// Set when a socket closes: how long its peer is waited for.
    farewell: Option<Pin<Box<Sleep>>>,
    /// Of the response stream.
    waker: Option<Waker>,
    /// How the socket is told to read from PostgreSQL.
    catch_up: Option<Recipient<CatchUp>>,
    /// The channels that the socket follows, and where it stands in the board's list of each.
    places: Vec<(Channel, usize)>,
}

/// The way out of one socket. Lives on the worker's thread, like everything that touches it.
pub struct Line {
    outlet: Rc<Outlet>,
    state: RefCell<State>,
}

impl Line {
    /// A line that writes to `tap`. Without one it only gathers, which is what tests need.
    pub fn new(outlet: Rc<Outlet>, tap: Option<Rc<Tap>>) -> Rc<Self> {
        let state = RefCell::new(State { tap, ..State::default() });
        Rc::new(Self { outlet, state })
    }

    /// Queues a whole frame; false when it is not, since the socket is being closed or, slow, goes
    /// without what is fleeting.
    pub fn push(self: &Rc<Self>, frame: Bytes, kind: Kind) -> bool {
        let mut state = self.state.borrow_mut();
        if state.is_closing() {
            return false;
        }
        let Ok(queued) = state.outbox.push(frame, kind) else {
            counters::slow_consumer_closed();
            state.closing = Some(Close::SlowConsumer);
            state.outbox.give_up(Close::SlowConsumer.frame());
            // To count the time that the peer gets.
            wake(state);
            return false;
        };
        self.write_soon(state);
        queued
    }

    /// Ends the socket after what is queued; the first reason stands.
    pub fn close(self: &Rc<Self>, why: Close) {
        let mut state = self.state.borrow_mut();
        if state.closing.is_none() {
            state.closing = Some(why);
            state.outbox.finish(why.frame());
            wake(state);
            self.write_soon(self.state.borrow_mut());
        }
    }

    fn write_soon(self: &Rc<Self>, mut state: RefMut<'_, State>) {
        if state.flow == Flow::Idle {
            state.flow = Flow::Queued;
            drop(state);
            self.outlet.add(self.clone());
        }
    }

    /// Whether the socket is being closed.
    pub fn is_closing(&self) -> bool {
        self.state.borrow().is_closing()
    }

    /// Whether `more` bytes can be queued and leave half of the room to live events.
    pub fn has_room(&self, more: usize) -> bool {
        let state = self.state.borrow();
        !state.is_closing() && state.outbox.has_room(more)
    }

    /// Says how the socket is told to read from PostgreSQL; the first way stands.
    pub(super) fn set_catch_up(&self, how: Recipient<CatchUp>) {
        self.state.borrow_mut().catch_up.get_or_insert(how);
    }

    /// Tells the socket to read from PostgreSQL; false when it can not even be told.
    pub(super) fn catch_up(&self, gap: CatchUp) -> bool {
        let state = self.state.borrow();
        state.catch_up.as_ref().is_some_and(|how| how.try_send(gap).is_ok())
    }

    /// Where the socket stands in the board's list of `channel`.
    pub(super) fn place(&self, channel: Channel) -> Option<usize> {
        let state = self.state.borrow();
        state.places.iter().find(|(c, _)| *c == channel).map(|(_, place)| *place)
    }

    /// Notes where the socket stands in the board's list of `channel`, or that it left it.
    pub(super) fn set_place(&self, channel: Channel, place: Option<usize>) {
        let mut state = self.state.borrow_mut();
        let at = state.places.iter().position(|(c, _)| *c == channel);
        match (at, place) {
            (Some(at), None) => {
                state.places.swap_remove(at);
            }
            (Some(at), Some(place)) => {
                if let Some((_, known)) = state.places.get_mut(at) {
                    *known = place;
                }
            }
            (None, Some(place)) => state.places.push((channel, place)),
            (None, None) => {}
        }
    }

    fn take_turn(&self) {
        let mut state = self.state.borrow_mut();
        if state.flow == Flow::Queued {
            state.write();
            if state.flow != Flow::Idle {
                wake(state);
            }
        }
    }

    /// Ready once the last byte is written, or can not be. Writes when the connection takes bytes
    /// again; must be polled whenever its waker says so.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        while state.flow == Flow::Blocked {
            let Some(tap) = state.tap.clone() else { break };
            match tap.poll_ready(cx) {
                Poll::Ready(Ok(())) => state.write(),
                Poll::Ready(Err(_)) => state.flow = Flow::Ended,
                Poll::Pending => break,
            }
        }
        if state.closing.is_some() && state.flow != Flow::Ended {
            let farewell = state.farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL)));
            if farewell.as_mut().poll(cx).is_ready() {
                state.flow = Flow::Ended;
            }
        }
        if state.flow == Flow::Ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets go of the connection, and tells the peer that nothing more comes.
    pub(super) fn hang_up(&self) {
        let mut state = self.state.borrow_mut();
        state.flow = Flow::Ended;
        if let Some(tap) = state.tap.take() {
            tap.finish();
        }
        state.waker = None;
        state.catch_up = None;
    }
}

impl State {
    fn is_closing(&self) -> bool {
        self.closing.is_some() || self.flow == Flow::Ended
    }

    fn write(&mut self) {
        let Some(tap) = self.tap.as_ref() else { return };
        while !self.outbox.is_empty() {
            match self.outbox.write_with(|frames| tap.try_write(frames)) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.flow = Flow::Blocked;
                    return;
                }
                Err(_) => {
                    // The actor hears of it, too, when it reads, and ends.
                    self.flow = Flow::Ended;
                    return;
                }
            }
        }
        self.flow = if self.closing.is_some() { Flow::Ended } else { Flow::Idle };
    }
}

fn wake(mut state: RefMut<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
impl Line {
    /// What waits, taken out.
    pub(super) fn drain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut state = self.state.borrow_mut();
        while !state.outbox.is_empty() {
            let taken: Result<(), std::convert::Infallible> = state.outbox.write_with(|frames| {
                out.extend(frames.iter().flat_map(|frame| frame.iter().copied()));
                Ok(frames.iter().map(|frame| frame.len()).sum())
            });
            taken.unwrap();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Rc<Line> {
        Line::new(Rc::default(), None)
    }

    #[test]
    fn a_full_line_closes_and_what_comes_late_is_not_queued() {
        let line = line();
        line.push(Bytes::from(vec![0; CAPACITY]), Kind::Kept);
        assert!(!line.is_closing());
        line.push(Bytes::from_static(b"x"), Kind::Kept);
        line.push(Bytes::from_static(b"late"), Kind::Kept);
        assert!(line.is_closing());
        assert_eq!(line.drain(), Close::SlowConsumer.frame());
    }

    #[test]
    fn what_is_queued_leaves_before_the_close_frame() {
        let line = line();
        line.push(Bytes::from_static(b"bye"), Kind::Kept);
        line.close(Close::Revoked);
        line.push(Bytes::from_static(b"late"), Kind::Kept);
        assert_eq!(line.drain(), [b"bye", &Close::Revoked.frame()[..]].concat());
    }
}
