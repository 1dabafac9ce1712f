//! The response body of an upgraded connection. It carries no bytes: it runs the socket's actor,
//! waits for a connection that takes no more, and ends the connection when the line has ended.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use super::line::{Kind, Line};

/// The body around the byte stream of a socket's actor.
pub(super) struct Response<S> {
    actor: Pin<Box<S>>,
    /// The actor has stopped.
    is_alone: bool,
    line: Rc<Line>,
}

impl<S> Response<S> {
    pub(super) fn new(actor: S, line: Rc<Line>) -> Self {
        Self { actor: Box::pin(actor), is_alone: false, line }
    }
}

impl<S, E> Stream for Response<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.is_alone {
            match self.actor.as_mut().poll_next(cx) {
                // Pings and pongs go the way of everything else, so that no frame cuts another.
                Poll::Ready(Some(Ok(frames))) => self.line.push(frames, Kind::Kept),
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(None) => self.is_alone = true,
                Poll::Pending => break,
            }
        }
        self.line.poll_end(cx).map(|()| None)
    }
}

impl<S> Drop for Response<S> {
    fn drop(&mut self) {
        self.line.hang_up();
    }
}
