//! Messages and watermarks.

use super::refusal::{Problems, Refusal};

/// Longest text of a message, in characters.
pub const MAX_CONTENT: usize = 8_000;

/// How much of a message is quoted in a reply to it, in characters.
pub const QUOTED: i32 = 140;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Any other file.
    File,
    /// A booking of all who are in the conversation.
    Booking,
    /// Written by the platform, never by a member.
    System,
}

impl MessageType {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::File => "file",
            Self::Booking => "booking",
            Self::System => "system",
        }
    }
}

/// Reads what a member may send. Only text until attachments can be uploaded; `system` is the
/// platform's own.
pub fn parse_sendable(kind: &str, content: &str) -> Result<MessageType, Refusal> {
    let mut problems = Problems::default();
    problems.require(kind == "text", "type", "must be text");
    problems.length("content", content, 1, MAX_CONTENT);
    problems.into_result()?;
    Ok(MessageType::Text)
}

/// What a member may do beside writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// Writes.
    Member,
    /// Takes members in and out of a group, takes away what others wrote.
    Admin,
    /// The same, and says who is admin.
    Owner,
}

impl MemberRole {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Reads the word back; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|r| r.as_str() == word)
    }
}

/// A member's watermarks: everything up to and including the seq was delivered, was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Highest seq that reached a device of the member.
    pub delivered: i64,
    /// The same, as those may know it who are not to know of reading.
    pub received: i64,
    /// Highest seq that the member read.
    pub read: i64,
}

/// Watermarks as the others see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    pub delivered: i64,
    /// None for who keeps it to themselves.
    pub read: Option<i64>,
}

impl Watermarks {
    /// After the member read up to `seq` of a conversation whose head is `head`. Watermarks only
    /// move forward and never past the head; what is read was delivered. For who reads in
    /// private, what others see does not move.
    pub fn read_to(self, seq: i64, head: i64, private: bool) -> Self {
        let read = self.read.max(seq.min(head));
        let received = if private { self.received } else { self.received.max(read) };
        Self { read, received, delivered: self.delivered.max(read) }
    }

    /// After messages up to `seq` reached a device of the member.
    pub fn delivered_to(self, seq: i64, head: i64) -> Self {
        let reached = seq.min(head);
        let (delivered, received) = (self.delivered.max(reached), self.received.max(reached));
        Self { delivered, received, ..self }
    }

    /// What others see of a member who reads in private, or does not.
    pub fn shown(self, private: bool) -> Shown {
        if private {
            Shown { delivered: self.received, read: None }
        } else {
            Shown { delivered: self.delivered, read: Some(self.read) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn watermarks_only_move_forward(
            private: bool,
            steps in proptest::collection::vec((any::<bool>(), -5i64..50, 0i64..40), 0..50),
        ) {
            let (mut marks, mut head, mut received) = (Watermarks::default(), 0, 0);
            for (reads, seq, more) in steps {
                head = head.max(more);
                let next =
                    if reads { marks.read_to(seq, head, private) } else { marks.delivered_to(seq, head) };
                prop_assert!(next.read >= marks.read && next.delivered >= marks.delivered);
                prop_assert!(next.received >= marks.received && next.received <= next.delivered);
                prop_assert!(next.read <= next.delivered && next.delivered <= head);
                marks = next;
                if !reads {
                    received = received.max(seq.min(head));
                }
                // What others see of a private reader follows from deliveries alone.
                if private {
                    prop_assert_eq!(marks.shown(true), Shown { delivered: received, read: None });
                }
            }
        }
    }

    #[test]
    fn members_send_text_only() {
        assert!(parse_sendable("text", "namaste").is_ok());
        assert!(parse_sendable("system", "x").is_err());
        assert!(parse_sendable("text", "   ").is_err());
        assert!(parse_sendable("text", &"a".repeat(MAX_CONTENT + 1)).is_err());
    }
}
