//! The end of a connection, once the hub's close frame is written (RFC 6455 section 7.1.1).
//!
//! A connection that is ended with bytes in it that nobody has read makes the kernel send a reset,
//! which can take back the close frame: the peer would see 1006 instead of why. So the peer is
//! listened to until it has said goodbye, for a moment.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::frame_guard::Verdict;
use super::protocol::Close;
use super::wire::Tap;

/// How long a peer may take to answer the hub's close frame with its own.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// After a broken frame nobody can tell where the next one begins: the connection ends when the
/// peer has been quiet for so long.
const QUIET: Duration = Duration::from_millis(100);

enum State {
    /// Nobody has looked yet.
    New,
    /// Until the peer's close frame comes, or this time is over.
    Listening(Pin<Box<Sleep>>),
    /// The socket's actor ended over a broken frame: what still comes is thrown away.
    Deaf {
        end: Pin<Box<Sleep>>,
        quiet: Pin<Box<Sleep>>,
    },
    Done,
}

/// Waits for the end of one connection.
pub(super) struct Goodbye {
    tap: Rc<Tap>,
    verdict: Verdict,
    state: State,
}

impl Goodbye {
    /// `tap` is the connection, `verdict` says whether what came was broken.
    pub(super) fn new(tap: Rc<Tap>, verdict: Verdict) -> Self {
        Self { tap, verdict, state: State::New }
    }

    /// Ready when the connection may end. `alone` when the socket's actor has ended: by the peer's
    /// close frame, by the connection's end, or over a broken frame.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, alone: bool) -> Poll<()> {
        loop {
            match &mut self.state {
                State::New if alone => {
                    let broken = self.verdict.get().is_some_and(|why| why != Close::Normal);
                    self.state = match broken {
                        true => State::Deaf {
                            end: Box::pin(sleep(LAST_WORDS)),
                            quiet: Box::pin(sleep(QUIET)),
                        },
                        false => State::Done,
                    };
                }
                State::New => self.state = State::Listening(Box::pin(sleep(LAST_WORDS))),
                State::Listening(_) if alone => self.state = State::New,
                State::Listening(end) => return end.as_mut().poll(cx),
                State::Deaf { end, quiet } => {
                    match self.tap.poll_away(cx) {
                        Poll::Ready(true) => {
                            quiet.as_mut().reset(Instant::now() + QUIET);
                            // There may be more: others have their turn first.
                            cx.waker().wake_by_ref();
                        }
                        Poll::Ready(false) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                    let over = end.as_mut().poll(cx).is_ready();
                    return if over { Poll::Ready(()) } else { quiet.as_mut().poll(cx) };
                }
                State::Done => return Poll::Ready(()),
            }
        }
    }
}
