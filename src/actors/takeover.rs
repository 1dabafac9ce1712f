//! A connection from the request on that asks for a WebSocket.
//!
//! The HTTP dispatcher gives it away and frees its buffers: it would keep at least 16 KiB of them for
//! every idle socket, and of a peer that sends fast it would take 128 KiB before anybody looks at
//! them. Here nothing is read before somebody asks for it, and what arrives does so in one place
//! per worker.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_codec::Encoder;
use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::h1::{Codec, Message};
use actix_http::{ConnectionType, Payload, Request, Response};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::timeout;

use super::wire::{GULP, Tap, Wire};

/// How long a peer may take to end its side of a connection that has ended.
const LINGER: Duration = Duration::from_millis(500);

/// A connection that the dispatcher has given away, and how its answer is written.
pub struct Taken {
    tap: Rc<Tap>,
    codec: Codec,
    /// Answers to earlier requests that are not written yet.
    unwritten: Bytes,
}

impl Taken {
    /// Takes `wire` with what the dispatcher has read and not looked at, and not written. Returns it
    /// with the request, whose body is everything that the peer sends from now on.
    pub fn new(
        request: Request,
        wire: &Wire,
        codec: Codec,
        (unread, unwritten): (BytesMut, BytesMut),
    ) -> (Self, Request) {
        let tap = wire.tap().clone();
        tap.set_free();
        let unread = Some(unread.freeze()).filter(|bytes| !bytes.is_empty());
        let intake = Intake { tap: tap.clone(), unread, gulp: 0 };
        let (request, _) =
            request.replace_payload(Payload::Stream { payload: Box::pin(intake) as Pin<Box<_>> });
        (Self { tap, codec, unwritten: unwritten.freeze() }, request)
    }

    /// Writes the head of `answer`; its body is still to be served.
    pub async fn begin(mut self, mut answer: Response<BoxBody>) -> io::Result<Begun> {
        if !answer.upgrade() {
            // Where the next request would begin is not known.
            answer.head_mut().set_connection_type(ConnectionType::Close);
        }
        let mut body = BoxBody::new(());
        let head = answer.map_body(|_, its| body = its);
        let mut out = BytesMut::from(&*self.unwritten);
        self.codec.encode(Message::Item((head, body.size())), &mut out)?;
        self.tap.write(&out).await?;
        Ok(Begun { tap: self.tap, codec: self.codec, body })
    }
}

/// An answer whose head is written.
pub struct Begun {
    tap: Rc<Tap>,
    codec: Codec,
    body: BoxBody,
}

impl Begun {
    /// Serves the body to its end, then ends the connection.
    pub async fn serve(mut self) {
        if let Err(e) = self.write().await {
            tracing::debug!("a connection ended early: {e}");
        }
        // A socket's body reads the connection, too.
        self.body = BoxBody::new(());
        // A connection that ends with bytes that nobody has read is reset, which can take back what was
        // written last.
        self.tap.finish();
        let rest = async {
            while poll_fn(|cx| self.tap.poll_away(cx)).await {
                tokio::task::yield_now().await;
            }
        };
        // A peer that goes on sending is cut off.
        let _ = timeout(LINGER, rest).await;
    }

    async fn write(&mut self) -> io::Result<()> {
        loop {
            let chunk = poll_fn(|cx| Pin::new(&mut self.body).poll_next(cx)).await;
            let chunk = chunk.transpose().map_err(|e| io::Error::other(e.to_string()))?;
            let is_last = chunk.is_none();
            let mut out = BytesMut::new();
            self.codec.encode(Message::Chunk(chunk), &mut out)?;
            self.tap.write(&out).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// What the peer sends.
struct Intake {
    tap: Rc<Tap>,
    unread: Option<Bytes>,
    /// What was read since it last had to wait.
    gulp: usize,
}

impl Stream for Intake {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(unread) = self.unread.take() {
            return Poll::Ready(Some(Ok(unread)));
        }
        if self.gulp >= GULP {
            self.gulp = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.tap.poll_read(cx);
        self.gulp = match &polled {
            Poll::Ready(Ok(Some(bytes))) => self.gulp + bytes.len(),
            Poll::Ready(_) | Poll::Pending => 0,
        };
        polled.map(|read| read.map_err(PayloadError::Io).transpose())
    }
}
