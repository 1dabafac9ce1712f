//! The response body of an upgraded connection. It carries no bytes: it runs the socket's actor,
//! waits for a connection that takes no more, and ends the connection when the line has ended and
//! the peer has said goodbye.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use super::goodbye::Goodbye;
use super::line::Line;
use super::outbox::Kind;

/// The body around the byte stream of a socket's actor.
pub(super) struct Response<S> {
    /// Until it has stopped.
    actor: Option<Pin<Box<S>>>,
    line: Rc<Line>,
    goodbye: Goodbye,
}

impl<S> Response<S> {
    pub(super) fn new(actor: S, line: Rc<Line>, goodbye: Goodbye) -> Self {
        Self { actor: Some(Box::pin(actor)), line, goodbye }
    }
}

impl<S, E> Stream for Response<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(actor) = &mut self.actor {
            match actor.as_mut().poll_next(cx) {
                // Pings and pongs go the way of everything else, so that no frame cuts another.
                Poll::Ready(Some(Ok(frames))) => {
                    self.line.push(frames, Kind::Kept);
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(None) => self.actor = None,
                Poll::Pending => break,
            }
        }
        ready!(self.line.poll_end(cx));
        let alone = self.actor.is_none();
        self.goodbye.poll(cx, alone).map(|()| None)
    }
}

impl<S> Drop for Response<S> {
    fn drop(&mut self) {
        self.line.hang_up();
    }
}
