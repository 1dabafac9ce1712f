//! What is unread to each member of a conversation, kept up with what happens instead of being
//! counted anew.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Messages that may be heard of before those that come before them.
const EARLY: usize = 256;

/// A message that was stored.
#[derive(Debug, Clone)]
pub struct Stored<P> {
    pub seq: i64,
    /// Whose it is: to them it is not unread. Nobody's if the platform wrote it.
    pub sender: Option<Uuid>,
    /// Whether it counts as unread at all.
    pub counts: bool,
    /// How it reads in a list of conversations.
    pub preview: P,
}

/// How far a member has read, and how much is unread to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub read: i64,
    pub unread: i64,
}

/// Where a conversation is, for each of its members. Once something can not be followed it knows
/// nothing more, and has to be made anew from what is stored.
#[derive(Debug, Clone)]
pub struct Tally<P> {
    head: i64,
    preview: Option<P>,
    members: BTreeMap<Uuid, Place>,
    early: BTreeMap<i64, Stored<P>>,
    lost: bool,
}

impl<P> Tally<P> {
    /// Where it was when everything up to `head` was counted.
    pub fn new(head: i64, preview: Option<P>, members: BTreeMap<Uuid, Place>) -> Self {
        Self { head, preview, members, early: BTreeMap::new(), lost: false }
    }

    /// A message was stored. They may be told of in any order; one that is known changes nothing.
    pub fn stored(&mut self, message: Stored<P>) {
        if message.seq > self.head {
            self.early.insert(message.seq, message);
        }
        while let Some(next) = self.early.remove(&(self.head + 1)) {
            self.head = next.seq;
            for (user, place) in &mut self.members {
                if next.sender == Some(*user) && place.read == next.seq - 1 {
                    // Who writes has seen what they wrote, and had read everything before it.
                    place.read = next.seq;
                }
                if next.counts && next.sender != Some(*user) && next.seq > place.read {
                    place.unread += 1;
                }
            }
            self.preview = Some(next.preview);
        }
        self.lost |= self.early.len() > EARLY;
    }

    /// A member has read up to `seq`.
    pub fn read(&mut self, user: Uuid, seq: i64) {
        match self.members.get_mut(&user) {
            Some(place) if seq > place.read => {
                *place = Place { read: seq, unread: 0 };
                // What lies between is not kept here.
                self.lost |= seq < self.head;
            }
            Some(_) => {}
            None => self.lost = true,
        }
    }

    /// Something happened that this does not follow.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// The seq of the newest message, its preview, and the place of each member; `None` when that
    /// is not known, or something is missing before what was heard of.
    pub fn told(&self) -> Option<(i64, Option<&P>, &BTreeMap<Uuid, Place>)> {
        let level = !self.lost && self.early.is_empty();
        level.then_some((self.head, self.preview.as_ref(), &self.members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(log: &[(usize, bool)], user: usize, read: i64) -> i64 {
        let unread = (1i64..)
            .zip(log)
            .filter(|(seq, (sender, counts))| *seq > read && *counts && *sender != user);
        i64::try_from(unread.count()).unwrap()
    }

    proptest! {
        /// Whatever is known is what counting gives, and it is known unless somebody read a part.
        #[test]
        fn a_tally_is_what_counting_gives(
            steps in proptest::collection::vec((0usize..4, any::<bool>(), 0usize..3, 0u8..4), 1..60),
            swaps in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let users: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
            let nobody = Place { read: 0, unread: 0 };
            let mut tally = Tally::new(0, None, users.iter().map(|u| (*u, nobody)).collect());
            let (mut log, mut read, mut partly, mut held) = (Vec::new(), [0i64; 3], false, None);
            for ((kind, counts, who, back), swap) in steps.into_iter().zip(swaps) {
                let head = i64::try_from(log.len()).unwrap();
                if kind < 3 {
                    log.push((who, counts));
                    if read[who] == head {
                        read[who] = head + 1;
                    }
                    let new = Stored { seq: head + 1, sender: Some(users[who]), counts, preview: head + 1 };
                    // Now and then a message is told of after the next one.
                    match held.take() {
                        None if swap => held = Some(new),
                        earlier => {
                            tally.stored(new);
                            earlier.into_iter().for_each(|m| tally.stored(m));
                        }
                    }
                } else {
                    let seq = (head - i64::from(back)).max(0);
                    partly |= seq > read[who] && seq < head - i64::from(held.is_some());
                    read[who] = read[who].max(seq);
                    tally.read(users[who], seq);
                }
            }
            held.into_iter().for_each(|m| tally.stored(m));
            let head = i64::try_from(log.len()).unwrap();
            match tally.told() {
                None => prop_assert!(partly),
                Some((known, preview, members)) => {
                    prop_assert_eq!(known, head);
                    prop_assert_eq!(preview.copied().unwrap_or(0), head);
                    for (i, user) in users.iter().enumerate() {
                        // Who reads just before a message of theirs is told of has read that, too:
                        // whether it was stored before they read is not known here.
                        let own = |read: &i64| log.get(usize::try_from(*read).unwrap()).is_some_and(|(who, _)| *who == i);
                        let past_own = |mut read: i64| { while own(&read) { read += 1; } read };
                        prop_assert_eq!(past_own(members[user].read), past_own(read[i]));
                        prop_assert_eq!(members[user].unread, count(&log, i, read[i]));
                    }
                }
            }
        }
    }

    #[test]
    fn a_gap_is_not_known() {
        let me = Uuid::from_u128(1);
        let place = Place { read: 2, unread: 0 };
        let mut tally = Tally::new(2, None, [(me, place)].into());
        let new = |seq| Stored { seq, sender: None, counts: true, preview: () };
        tally.stored(new(4));
        assert!(tally.told().is_none(), "3 was written elsewhere");
        tally.stored(new(3));
        assert_eq!(tally.told().unwrap().2[&me].unread, 2);
        tally.read(Uuid::from_u128(9), 4);
        assert!(tally.told().is_none(), "a member who was not there");
    }
}
