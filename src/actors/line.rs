//! One socket's outgoing queue, counted in bytes.
//!
//! Shared between the worker's switchboard, which pushes, and the socket's response stream, which
//! drains it into the connection whenever the peer reads. A peer that does not read fills it:
//! at half, what is not kept is dropped; full, the socket is closed with 4001 and resumes later.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::protocol::Close;

/// Bytes that may wait on one socket.
pub const CAPACITY: usize = 256 * 1024;
/// Bytes that leave in one write.
const WRITE: usize = 16 * 1024;

/// What may happen to a frame when its socket is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer or a durable event: it is sent, or the socket is closed.
    Kept,
    /// Typing, presence: dropped when the queue is half full.
    Ephemeral,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    closing: Option<Close>,
    session: Option<Uuid>,
    waker: Option<Waker>,
}

/// The queue of one socket. Lives on the worker's thread, like everything that touches it.
#[derive(Default)]
pub struct Line(RefCell<State>);

impl Line {
    /// Queues a whole frame. Nothing is queued on a socket that is being closed.
    pub fn push(&self, frame: Bytes, kind: Kind) {
        let mut state = self.0.borrow_mut();
        let after = state.bytes + frame.len();
        if state.closing.is_some() || (kind == Kind::Ephemeral && after > CAPACITY / 2) {
            return;
        }
        // One answer may be larger than the line: it is bounded by its page, and alone.
        if after > CAPACITY && !state.queue.is_empty() {
            state.queue = VecDeque::new();
            state.bytes = 0;
            state.closing = Some(Close::SlowConsumer);
        } else {
            state.bytes = after;
            state.queue.push_back(frame);
        }
        wake(state);
    }

    /// Ends the socket after what is queued; the first reason stands.
    pub fn close(&self, why: Close) {
        let mut state = self.0.borrow_mut();
        if state.closing.is_none() {
            state.closing = Some(why);
        }
        wake(state);
    }

    /// Whether the socket is being closed.
    pub fn is_closing(&self) -> bool {
        self.0.borrow().closing.is_some()
    }

    /// Whether `more` bytes can be queued and leave half of the room to live events.
    pub fn has_room(&self, more: usize) -> bool {
        let state = self.0.borrow();
        state.closing.is_none() && (state.queue.is_empty() || state.bytes + more <= CAPACITY / 2)
    }

    /// Says which session the socket is authenticated with.
    pub fn set_session(&self, session: Uuid) {
        self.0.borrow_mut().session = Some(session);
    }

    /// The session that the socket is authenticated with.
    pub fn session(&self) -> Option<Uuid> {
        self.0.borrow().session
    }

    /// What to write next: several frames at once, the close frame last. `None` after that.
    pub fn poll_write(&self, cx: &mut Context<'_>) -> Poll<Written> {
        let mut state = self.0.borrow_mut();
        let Some(first) = state.queue.pop_front() else {
            if let Some(why) = state.closing {
                return Poll::Ready(Written::Last(why.frame()));
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.bytes -= first.len();
        if state.queue.is_empty() {
            return Poll::Ready(Written::More(first));
        }
        let mut batch = BytesMut::with_capacity(WRITE.min(first.len() + state.bytes));
        batch.extend_from_slice(&first);
        while batch.len() < WRITE {
            let Some(frame) = state.queue.pop_front() else { break };
            state.bytes -= frame.len();
            batch.extend_from_slice(&frame);
        }
        Poll::Ready(Written::More(batch.freeze()))
    }
}

/// Bytes for the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// There may be more.
    More(Bytes),
    /// The close frame: nothing comes after it.
    Last(Bytes),
}

fn wake(mut state: std::cell::RefMut<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(line: &Line) -> Vec<Written> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(written) = line.poll_write(&mut cx) {
            let last = matches!(written, Written::Last(_));
            out.push(written);
            if last {
                break;
            }
        }
        out
    }

    #[test]
    fn several_frames_leave_in_one_write() {
        let line = Line::default();
        line.push(Bytes::from_static(b"ab"), Kind::Kept);
        line.push(Bytes::from_static(b"cd"), Kind::Kept);
        assert_eq!(drain(&line), [Written::More(Bytes::from_static(b"abcd"))]);
    }

    #[test]
    fn half_full_drops_the_ephemeral_and_full_closes() {
        let line = Line::default();
        line.push(Bytes::from(vec![0; CAPACITY / 2]), Kind::Kept);
        line.push(Bytes::from_static(b"typing"), Kind::Ephemeral);
        assert_eq!(line.0.borrow().queue.len(), 1);
        line.push(Bytes::from(vec![0; CAPACITY / 2]), Kind::Kept);
        assert!(!line.is_closing());
        line.push(Bytes::from_static(b"x"), Kind::Kept);
        assert_eq!(drain(&line), [Written::Last(Close::SlowConsumer.frame())]);
    }

    #[test]
    fn one_frame_larger_than_the_line_leaves_when_it_is_alone() {
        let line = Line::default();
        line.push(Bytes::from(vec![0; CAPACITY * 2]), Kind::Kept);
        assert!(!line.is_closing());
        line.push(Bytes::from_static(b"x"), Kind::Kept);
        assert!(line.is_closing());
    }

    #[test]
    fn what_is_queued_leaves_before_the_close_frame() {
        let line = Line::default();
        line.push(Bytes::from_static(b"bye"), Kind::Kept);
        line.close(Close::Revoked);
        line.push(Bytes::from_static(b"late"), Kind::Kept);
        assert_eq!(
            drain(&line),
            [Written::More(Bytes::from_static(b"bye")), Written::Last(Close::Revoked.frame())]
        );
    }
}
