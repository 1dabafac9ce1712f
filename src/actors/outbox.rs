//! What waits to be written to one socket, counted in bytes.
//!
//! A peer that does not read fills it. From half full on, events that only matter now are dropped,
//! and of events that tell a state only the newest is kept, beside the queue; full, the socket is
//! closed with 4001 and resumes later. So the last state of everything arrives, or the socket ends.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use crate::counters;
use crate::domain::channel::Channel;

/// Bytes that may wait on one socket.
pub const CAPACITY: usize = 256 * 1024;
/// From here on what is not kept gives way.
const HALF: usize = CAPACITY / 2;
/// At or below this what was put aside joins the queue again.
const QUARTER: usize = CAPACITY / 4;
/// Frames that leave in one write.
pub const WRITE: usize = 32;
/// Room in the queue that an idle socket keeps.
const SPARE: usize = 16;

/// What an event tells the state of. Of two with the same key the newer one is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeKey {
    pub channel: Channel,
    pub what: State,
    /// Whose state, within the channel.
    pub of: Uuid,
}

/// The kinds of state that events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Presence,
    Delivered,
    Read,
    /// The head of a conversation in an inbox.
    Head,
    /// How far a user has read a conversation, in that user's inbox.
    Unread,
}

/// What may happen to a frame when its socket is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer or a durable event: it is sent, or the socket is closed.
    Kept,
    /// The newest of its key is sent, or the socket is closed; older ones may be left out.
    Newest(MergeKey),
    /// Typing: dropped when the queue is half full.
    Fleeting,
}

/// There is no room for what must not be dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The queue. `bytes` is exactly what its frames are long.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// Newest states that are not queued, each key once. No older frame of a key comes after it.
    aside: Vec<(MergeKey, Bytes)>,
    bytes: usize,
    /// Of the first frame a part is written.
    begun: bool,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether `more` bytes leave half of the room to live events.
    pub fn has_room(&self, more: usize) -> bool {
        self.queue.is_empty() || self.bytes + more <= HALF
    }

    /// Queues a whole frame, or what its kind says instead; false when it is dropped. Refuses what must
    /// not be dropped and has no room; one frame may be larger than the outbox if it is alone.
    pub fn push(&mut self, frame: Bytes, kind: Kind) -> Result<bool, Full> {
        let after = self.bytes + frame.len();
        match kind {
            Kind::Fleeting if after > HALF => {
                counters::ephemeral_dropped();
                return Ok(false);
            }
            Kind::Newest(key) => {
                if let Some((_, waiting)) = self.aside.iter_mut().find(|(k, _)| *k == key) {
                    self.bytes = after - waiting.len();
                    *waiting = frame;
                    return if self.bytes > CAPACITY { Err(Full) } else { Ok(true) };
                }
                if after > HALF && !self.queue.is_empty() {
                    self.bytes = after;
                    self.aside.push((key, frame));
                    return if after > CAPACITY { Err(Full) } else { Ok(true) };
                }
            }
            Kind::Kept if after > CAPACITY && !self.queue.is_empty() => return Err(Full),
            Kind::Fleeting | Kind::Kept => {}
        }
        self.bytes = after;
        self.queue.push_back(frame);
        Ok(true)
    }

    /// Drops everything but the rest of a frame that has begun, then queues `last`.
    pub fn give_up(&mut self, last: Bytes) {
        let rest = self.queue.pop_front().filter(|_| self.begun);
        self.aside = Vec::new();
        self.queue = VecDeque::new();
        self.queue.extend(rest);
        self.queue.push_back(last);
        self.bytes = self.queue.iter().map(Bytes::len).sum();
    }

    /// Queues `last` behind everything, however much there is.
    pub fn finish(&mut self, last: Bytes) {
        self.rejoin();
        self.bytes += last.len();
        self.queue.push_back(last);
    }

    /// Offers `write` the first frames in one go; it says how many bytes it took.
    pub fn write_with<E>(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let taken = match self.queue.front() {
            Some(first) if self.queue.len() == 1 => write(&[IoSlice::new(first)])?,
            _ => {
                let mut frames = [IoSlice::new(&[]); WRITE];
                let waiting = self.queue.len().min(WRITE);
                for (slot, frame) in frames.iter_mut().zip(&self.queue) {
                    *slot = IoSlice::new(frame);
                }
                write(frames.get(..waiting).unwrap_or_default())?
            }
        };
        self.advance(taken);
        Ok(())
    }

    fn advance(&mut self, mut taken: usize) {
        self.bytes -= taken;
        while taken > 0 {
            let Some(first) = self.queue.front_mut() else { break };
            if taken < first.len() {
                first.advance(taken);
                self.begun = true;
                break;
            }
            taken -= first.len();
            self.queue.pop_front();
            self.begun = false;
        }
        if !self.aside.is_empty() && self.bytes - self.put_aside() <= QUARTER {
            self.rejoin();
        }
        if self.queue.is_empty() && self.queue.capacity() > SPARE {
            self.queue = VecDeque::new();
        }
    }

    fn put_aside(&self) -> usize {
        self.aside.iter().map(|(_, frame)| frame.len()).sum()
    }

    fn rejoin(&mut self) {
        let aside = std::mem::take(&mut self.aside);
        self.queue.extend(aside.into_iter().map(|(_, frame)| frame));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn key(of: u8) -> MergeKey {
        let of = Uuid::from_u128(of.into());
        MergeKey { channel: Channel::Presence(of), what: State::Presence, of }
    }

    /// Reads up to `most` bytes, as one write.
    fn read(outbox: &mut Outbox, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let taken: Result<(), Infallible> = outbox.write_with(|frames| {
            out.extend(frames.iter().flat_map(|frame| frame.iter().copied()).take(most));
            Ok(out.len())
        });
        taken.unwrap();
        out
    }

    fn read_all(outbox: &mut Outbox) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            out.extend(read(outbox, usize::MAX));
        }
        out
    }

    fn filled(bytes: usize) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.push(vec![0; bytes].into(), Kind::Kept).unwrap();
        outbox
    }

    #[test]
    fn several_frames_leave_in_one_write() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"ab"), Kind::Kept).unwrap();
        outbox.push(Bytes::from_static(b"cd"), Kind::Fleeting).unwrap();
        assert_eq!(read(&mut outbox, 3), b"abc");
        assert_eq!(read(&mut outbox, 3), b"d");
        assert!(outbox.is_empty());
    }

    #[test]
    fn half_full_drops_the_fleeting_and_full_refuses() {
        let mut outbox = filled(HALF);
        outbox.push(Bytes::from_static(b"typing"), Kind::Fleeting).unwrap();
        assert_eq!(outbox.bytes, HALF);
        outbox.push(vec![0; HALF].into(), Kind::Kept).unwrap();
        assert_eq!(outbox.push(Bytes::from_static(b"x"), Kind::Kept), Err(Full));
        outbox.give_up(Bytes::from_static(b"bye"));
        assert_eq!(read_all(&mut outbox), b"bye");
    }

    #[test]
    fn half_full_keeps_the_newest_of_each_state() {
        let mut outbox = filled(HALF);
        for (of, frame) in [(1, "old 1"), (2, "2"), (1, "new 1")] {
            outbox.push(frame.into(), Kind::Newest(key(of))).unwrap();
        }
        assert_eq!(outbox.bytes, HALF + "new 12".len());
        let read = read_all(&mut outbox);
        assert_eq!(read.get(HALF..), Some(&b"new 12"[..]));
    }

    #[test]
    fn one_frame_larger_than_the_outbox_leaves_when_it_is_alone() {
        let mut outbox = filled(CAPACITY * 2);
        assert_eq!(outbox.push(Bytes::from_static(b"x"), Kind::Kept), Err(Full));
    }

    #[test]
    fn a_frame_that_has_begun_is_ended_before_the_close_frame() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"begun"), Kind::Kept).unwrap();
        outbox.push(Bytes::from_static(b"dropped"), Kind::Kept).unwrap();
        assert_eq!(read(&mut outbox, 2), b"be");
        outbox.give_up(Bytes::from_static(b"!"));
        assert_eq!(read_all(&mut outbox), b"gun!");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { kind: u8, of: u8, length: usize },
        Read(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = (0u8..3, 0u8..5, 8usize..40_000).prop_map(|(kind, of, length)| Step::Push {
            kind,
            of,
            length,
        });
        let read = (0usize..120_000).prop_map(Step::Read);
        proptest::collection::vec(prop_oneof![3 => push, 1 => read], 0..120)
    }

    /// A frame that names its number, its kind and its key.
    fn frame(n: usize, kind: u8, of: u8, length: usize) -> Bytes {
        let mut frame = vec![0; length];
        let head = [length.to_be_bytes(), n.to_be_bytes()].concat();
        frame.splice(0..0, head.into_iter().chain([kind, of]));
        frame.into()
    }

    /// The frames in `bytes`: number, kind and key.
    fn frames(mut bytes: &[u8]) -> Vec<(usize, u8, u8)> {
        let mut all = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<18>() {
            let length = usize::from_be_bytes(head[..8].try_into().unwrap());
            all.push((usize::from_be_bytes(head[8..16].try_into().unwrap()), head[16], head[17]));
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty(), "a frame was cut");
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Bytes are counted exactly and bounded; what is kept arrives in order; the last state of
        /// each key arrives, and none of a key after a newer one; unless the outbox refused.
        #[test]
        fn nothing_that_matters_is_lost(steps in steps()) {
            let (mut outbox, mut seen) = (Outbox::default(), Vec::new());
            let (mut kept, mut newest) = (Vec::new(), BTreeMap::new());
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push { kind, of, length } => {
                        let how = match kind {
                            0 => { kept.push(n); Kind::Kept }
                            1 => { newest.insert(of, n); Kind::Newest(key(of)) }
                            _ => Kind::Fleeting,
                        };
                        if outbox.push(frame(n, kind, of, length), how).is_err() {
                            prop_assert!(outbox.bytes + length + 18 > CAPACITY);
                            return Ok(());
                        }
                    }
                    Step::Read(most) => seen.extend(read(&mut outbox, most)),
                }
                let queued: usize = outbox.queue.iter().map(Bytes::len).sum();
                prop_assert_eq!(outbox.bytes, queued + outbox.put_aside());
                prop_assert!(outbox.bytes <= CAPACITY || outbox.queue.len() == 1);
                prop_assert!(!outbox.queue.is_empty() || outbox.aside.is_empty());
            }
            seen.extend(read_all(&mut outbox));
            let seen = frames(&seen);
            let of_kind = |wanted: u8| seen.iter().filter(move |(_, kind, _)| *kind == wanted);
            prop_assert_eq!(of_kind(0).map(|(n, ..)| *n).collect::<Vec<_>>(), kept);
            let mut last = BTreeMap::new();
            for (n, _, of) in of_kind(1) {
                prop_assert!(last.insert(*of, *n).is_none_or(|before| before < *n));
            }
            prop_assert_eq!(last, newest);
        }
    }
}
