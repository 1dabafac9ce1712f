//! The connection of a socket, written from two sides.
//!
//! The HTTP dispatcher reads from it and writes answers. Once it has written the answer to an
//! upgrade, the socket's line writes frames straight into it, without waking the dispatcher for
//! each. Both sides live on one thread; the tap knows whether the dispatcher still has bytes to
//! write, and the line waits for that.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes of a socket's events that the kernel may hold for it. Left to itself the kernel takes
/// megabytes for a peer that does not read, and such a peer is noticed late.
const KERNEL_BUFFER: usize = 64 * 1024;

/// Bytes that the dispatcher gets in one go. Of a peer that sends fast it would take 128 KiB before
/// anybody looks at them.
const GULP: usize = 16 * 1024;

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
        let tap = Tap { write, is_level: Cell::new(true), is_shared: Cell::new(false) };
        Self { read, gulp: 0, tap: Rc::new(tap) }
    }

    /// The other side.
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
        let tap = &self.tap;
        tap.is_level.set(false);
        let written = loop {
            ready!(tap.stream().poll_write_ready(cx))?;
            match tap.stream().try_write(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => break written?,
            }
        };
        if written == buf.len() {
            tap.is_level.set(true);
            if tap.is_shared.get() {
                // The line may write from now on.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(self.tap.stream()).shutdown(Shutdown::Write))
    }
}

/// The writing side of a connection.
pub struct Tap {
    write: OwnedWriteHalf,
    /// The dispatcher has nothing left to write.
    is_level: Cell<bool>,
    /// A line writes, too.
    is_shared: Cell<bool>,
}

impl Tap {
    /// The connection itself, for its options.
    pub fn stream(&self) -> &TcpStream {
        self.write.as_ref()
    }

    /// From the dispatcher's next write on, which is the answer to the upgrade, a line writes.
    pub(super) fn share(&self) {
        self.is_shared.set(true);
        self.is_level.set(false);
        // A kernel that refuses notices a slow peer later.
        let _ = socket2::SockRef::from(self.stream()).set_send_buffer_size(KERNEL_BUFFER);
    }

    /// Writes what the connection takes now of `frames`; `WouldBlock` when that is nothing.
    pub(super) fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match frames {
            _ if !self.is_level.get() => Err(io::ErrorKind::WouldBlock.into()),
            [frame] => self.stream().try_write(frame),
            frames => self.stream().try_write_vectored(frames),
        }
    }

    /// Nothing more is written: the peer sees the end after what was (RFC 6455 section 7.1.1).
    pub(super) fn finish(&self) {
        // A connection that is gone has ended.
        let _ = socket2::SockRef::from(self.stream()).shutdown(Shutdown::Write);
    }

    /// Ready when it may be worth trying again.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_level.get() {
            // The dispatcher's task, which this is, is woken by its own write.
            return Poll::Pending;
        }
        self.stream().poll_write_ready(cx)
    }
}
