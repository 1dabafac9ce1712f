//! Messages and watermarks.

use super::refusal::{Problems, Refusal};

/// Longest text of a message, in characters.
pub const MAX_CONTENT: usize = 8_000;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Any other file.
    File,
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

/// A member's two watermarks: everything up to and including the seq was delivered, was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Highest seq that reached a device of the member.
    pub delivered: i64,
    /// Highest seq that the member read.
    pub read: i64,
}

impl Watermarks {
    /// After the member read up to `seq` of a conversation whose head is `head`. Watermarks only
    /// move forward and never past the head; what is read was delivered.
    pub fn read_to(self, seq: i64, head: i64) -> Self {
        let read = self.read.max(seq.min(head));
        Self { read, delivered: self.delivered.max(read) }
    }

    /// After messages up to `seq` reached a device of the member.
    pub fn delivered_to(self, seq: i64, head: i64) -> Self {
        Self { delivered: self.delivered.max(seq.min(head)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn watermarks_only_move_forward(steps in proptest::collection::vec((any::<bool>(), -5i64..50, 0i64..40), 0..50)) {
            let mut marks = Watermarks::default();
            let mut head = 0;
            for (reads, seq, more) in steps {
                head = head.max(more);
                let next = if reads { marks.read_to(seq, head) } else { marks.delivered_to(seq, head) };
                prop_assert!(next.read >= marks.read && next.delivered >= marks.delivered);
                prop_assert!(next.read <= next.delivered && next.delivered <= head);
                marks = next;
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
