//! The response body of an upgraded connection. It carries no bytes: it runs the socket's actor,
//! waits for a connection that takes no more, and ends the connection when the line has ended and
//! the peer has said goodbye.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use super::goodbye::Goodbye;
use super::line::{Kind, Line};

/// The body around the byte stream of a socket's actor.
pub(super) struct Response<S, P> {
    actor: Pin<Box<S>>,
    /// The actor has stopped.
    is_alone: bool,
    line: Rc<Line>,
    goodbye: Goodbye<P>,
}

impl<S, P> Response<S, P> {
    pub(super) fn new(actor: S, line: Rc<Line>, goodbye: Goodbye<P>) -> Self {
        Self { actor: Box::pin(actor), is_alone: false, line, goodbye }
    }
}

impl<S, P, E> Stream for Response<S, P>
where
    S: Stream<Item = Result<Bytes, E>>,
    P: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
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
        ready!(self.line.poll_end(cx));
        let alone = self.is_alone;
        self.goodbye.poll(cx, alone).map(|()| None)
    }
}

impl<S, P> Drop for Response<S, P> {
    fn drop(&mut self) {
        self.line.hang_up();
    }
}
