//! A client's connection. The HTTP dispatcher has it as a [`Wire`] until a request asks for a
//! WebSocket; from then on the [`Tap`] is all there is: whoever answers that request writes the
//! answer through it, reads the peer's frames from it, and the socket's line writes frames into it.
//! All of them live on one thread.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes of a socket's events that the kernel may hold for it. Left to itself the kernel takes
/// megabytes for a peer that does not read, and such a peer is noticed late.
const KERNEL_BUFFER: usize = 64 * 1024;

/// Bytes that are read of a connection before others have their turn. Of a peer that sends fast the
/// dispatcher would take 128 KiB before anybody looks at them.
pub(super) const GULP: usize = 16 * 1024;

thread_local! {
    /// Where the bytes of a worker's sockets arrive, so that none needs room of its own to wait in.
    static ARRIVAL: RefCell<Vec<u8>> = RefCell::new(vec![0; GULP]);
}

/// A connection as the HTTP dispatcher has it.
pub struct Wire {
    read: OwnedReadHalf,
    /// What it got since it last had to wait.
    gulp: usize,
    tap: Rc<Tap>,
}

impl Wire {
    /// Takes over an accepted connection.
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, gulp: 0, tap: Rc::new(Tap { write, is_free: Cell::new(false) }) }
    }

    /// The connection without the dispatcher.
    pub fn tap(&self) -> &Rc<Tap> {
        &self.tap
    }

    /// The peer's address, as far as it is known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.read.peer_addr().ok()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gulp >= GULP {
            self.gulp = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.read).poll_read(cx, buf);
        self.gulp = match polled {
            Poll::Ready(_) => self.gulp + (buf.filled().len() - before),
            Poll::Pending => 0,
        };
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tap.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(self.tap.stream()).shutdown(Shutdown::Write))
    }
}

/// A connection that is read and written by whoever holds this.
pub struct Tap {
    write: OwnedWriteHalf,
    /// The dispatcher has let go of it.
    is_free: Cell<bool>,
}

impl Tap {
    fn stream(&self) -> &TcpStream {
        self.write.as_ref()
    }

    /// The dispatcher has let go of the connection, and does not read or write it any more.
    pub(super) fn set_free(&self) {
        self.is_free.set(true);
    }

    /// Whether a socket may have the connection.
    pub fn is_free(&self) -> bool {
        self.is_free.get()
    }

    /// Bounds what the kernel holds of what is written.
    pub(super) fn bound_kernel(&self) {
        // A kernel that refuses notices a slow peer later.
        let _ = socket2::SockRef::from(self.stream()).set_send_buffer_size(KERNEL_BUFFER);
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx))?;
            match self.stream().try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes what the connection takes now of `frames`; `WouldBlock` when that is nothing.
    pub(super) fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match frames {
            [frame] => self.stream().try_write(frame),
            frames => self.stream().try_write_vectored(frames),
        }
    }

    /// Nothing more is written: the peer sees the end after what was (RFC 6455 section 7.1.1).
    pub(super) fn finish(&self) {
        // A connection that is gone has ended.
        let _ = socket2::SockRef::from(self.stream()).shutdown(Shutdown::Write);
    }

    /// Ready when it may be worth writing.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_write_ready(cx)
    }

    /// What has come, up to [`GULP`] bytes of it; none at its end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.poll_arrival(cx, Bytes::copy_from_slice)
    }

    /// Throws away what has come, as much as `poll_read` takes; false at its end.
    pub(super) fn poll_away(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll_arrival(cx, |_| ()).map(|away| matches!(away, Ok(Some(()))))
    }

    fn poll_arrival<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<Option<T>>> {
        ARRIVAL.with_borrow_mut(|room| {
            let read = loop {
                ready!(self.stream().poll_read_ready(cx))?;
                match self.stream().try_read(room) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read?,
                }
            };
            Poll::Ready(Ok((read > 0).then(|| take(room.get(..read).unwrap_or_default()))))
        })
    }
}
