//! Reads the headers of a client's frames before the WebSocket codec does.
//!
//! The codec of actix-http checks the size limit only once a whole frame is buffered: one
//! unauthenticated socket could make the server hold hundreds of megabytes. The guard ends the
//! stream at the header (RFC 6455 section 5.2) and leaves its verdict for the session to act on.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use super::protocol::Close;

/// Why the stream ended, for the session to read.
pub(super) type Verdict = Rc<Cell<Option<Close>>>;

/// The payload stream with its frame headers checked.
pub(super) struct FrameGuard<S> {
    inner: S,
    headers: Headers,
    verdict: Verdict,
    ended: bool,
}

impl<S> FrameGuard<S> {
    /// Lets frames of at most `max` bytes through.
    pub(super) fn new(inner: S, max: usize, verdict: Verdict) -> Self {
        Self { inner, headers: Headers::new(max as u64), verdict, ended: false }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGuard<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut self.inner).poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(bytes))) => {
                if let Err(why) = self.headers.scan(bytes) {
                    self.verdict.set(Some(why));
                    self.ended = true;
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
            }
            // The peer is gone. The codec would report that with the same error as bad UTF-8.
            Poll::Ready(_) => self.verdict.set(Some(Close::Normal)),
            Poll::Pending => {}
        }
        next
    }
}

/// Where the scan is, over any number of chunks.
struct Headers {
    max: u64,
    header: [u8; 10],
    have: usize,
    mask_left: usize,
    payload_left: u64,
}

impl Headers {
    fn new(max: u64) -> Self {
        Self { max, header: [0; 10], have: 0, mask_left: 0, payload_left: 0 }
    }

    fn scan(&mut self, mut bytes: &[u8]) -> Result<(), Close> {
        loop {
            let skip = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= skip as u64;
            bytes = bytes.get(skip..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if self.mask_left > 0 {
                self.mask_left -= 1;
                if self.mask_left == 0 {
                    self.payload_left = self.length().unwrap_or(0);
                    self.have = 0;
                }
            } else {
                self.header_byte(byte)?;
            }
        }
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), Close> {
        if let Some(slot) = self.header.get_mut(self.have) {
            *slot = byte;
            self.have += 1;
        }
        if self.have < 2 {
            return Ok(());
        }
        let [first, second, ..] = self.header;
        // Reserved bits without an extension, or a client that does not mask.
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(Close::Malformed);
        }
        let Some(length) = self.length() else { return Ok(()) };
        let is_control = first & 0x08 != 0;
        if is_control && (length > 125 || first & 0x80 == 0) {
            return Err(Close::Malformed);
        }
        if length > self.max {
            return Err(Close::TooBig);
        }
        self.mask_left = 4;
        Ok(())
    }

    /// The payload's length, once enough of the header is there.
    fn length(&self) -> Option<u64> {
        let [_, second, b2, b3, rest @ ..] = self.header;
        match (second & 0x7f, self.have) {
            (126, 4..) => Some(u64::from(u16::from_be_bytes([b2, b3]))),
            (127, 10..) => {
                let [b4, b5, b6, b7, b8, b9] = rest;
                Some(u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]))
            }
            (126 | 127, _) => None,
            (short, _) => Some(u64::from(short)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut f = vec![first];
        match length {
            0..=125 => f.push(0x80 | u8::try_from(length).unwrap()),
            126..=0xffff => {
                f.push(0xfe);
                f.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                f.push(0xff);
                f.extend((length as u64).to_be_bytes());
            }
        }
        f.extend([1, 2, 3, 4]);
        f.extend(std::iter::repeat_n(0xff, length));
        f
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_header() {
        let header: Vec<u8> = frame(0x81, 70_000).into_iter().take(10).collect();
        assert_eq!(Headers::new(65_536).scan(&header), Err(Close::TooBig));
        assert_eq!(Headers::new(65_536).scan(&[0x81, 0x05]), Err(Close::Malformed));
        assert_eq!(Headers::new(65_536).scan(&[0xc1, 0x85]), Err(Close::Malformed));
        assert_eq!(Headers::new(65_536).scan(&frame(0x89, 126)), Err(Close::Malformed));
    }

    proptest! {
        /// However the bytes are cut, well-formed frames pass and one that is too long does not.
        #[test]
        fn chunks_do_not_matter(
            lengths in proptest::collection::vec(0usize..2_000, 1..8),
            cut in 1usize..50,
            too_long in any::<bool>(),
        ) {
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|n| frame(0x82, *n)).collect();
            if too_long {
                bytes.extend(frame(0x82, 2_000));
            }
            let mut headers = Headers::new(1_999);
            let result = bytes.chunks(cut).try_for_each(|chunk| headers.scan(chunk));
            prop_assert_eq!(result, if too_long { Err(Close::TooBig) } else { Ok(()) });
        }
    }
}
