//! Messages, members, watermarks.

use jiff::{SignedDuration, Timestamp};

use super::refusal::{Problems, Refusal};

/// Longest text of a message, in characters.
pub const MAX_CONTENT: usize = 8_000;

/// Most members of a group.
pub const MAX_MEMBERS: usize = 100;
/// Longest title of a group, in characters.
const MAX_TITLE: usize = 120;
/// How long one's own words can be changed, in days. Taking them away has no end.
const EDIT_DAYS: i64 = 1;
/// How often they can: each change keeps what was said before, and a report takes all of it along.
pub const MAX_EDITS: i32 = 50;
/// Reactions of one member to one message.
const MAX_OWN_REACTIONS: usize = 5;
/// Different emoji on one message.
const MAX_EMOJI: usize = 20;
/// Longest emoji, in characters: a family of four with skin tones has eleven.
const MAX_EMOJI_CHARS: usize = 16;
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

/// Reads what a member may send: text, or a card of a booking with or without words. Pictures and
/// files wait for attachments; `system` is the platform's own.
pub fn parse_sendable(
    kind: &str,
    content: &str,
    has_booking: bool,
) -> Result<MessageType, Refusal> {
    let mut problems = Problems::default();
    problems.require(
        matches!(kind, "text" | "booking"),
        "type",
        "must be text, image, file or booking",
    );
    let (found, least) =
        if kind == "booking" { (MessageType::Booking, 0) } else { (MessageType::Text, 1) };
    problems.length("content", content, least, MAX_CONTENT);
    if found == MessageType::Booking {
        problems.require(has_booking, "bookingId", "a card needs its booking");
    } else {
        problems.require(!has_booking, "bookingId", "goes with the type booking only");
    }
    problems.into_result()?;
    Ok(found)
}

/// Whether a message of `kind` may say `content` from now on: text can not become empty, the words
/// beside anything else can.
pub fn check_edit(kind: &str, content: &str) -> Result<(), Refusal> {
    let mut problems = Problems::default();
    problems.length("content", content, usize::from(kind == "text"), MAX_CONTENT);
    problems.into_result()
}

/// Whether what was written at `written` can still be changed at `now`.
pub fn check_still_editable(written: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now.duration_since(written) <= SignedDuration::from_hours(24 * EDIT_DAYS) {
        Ok(())
    } else {
        Err(Refusal::EditClosed { days: EDIT_DAYS })
    }
}

/// Whether somebody with `own` reactions to a message that has `different` emoji may give one
/// more, which the message has not got yet if `is_new`.
pub fn check_reactions(own: usize, different: usize, is_new: bool) -> Result<(), Refusal> {
    if own >= MAX_OWN_REACTIONS {
        let problem = format!("at most {MAX_OWN_REACTIONS} of one member to a message");
        return Err(Refusal::field("emoji", problem));
    }
    if is_new && different >= MAX_EMOJI {
        let problem = format!("a message has at most {MAX_EMOJI} different ones");
        return Err(Refusal::field("emoji", problem));
    }
    Ok(())
}

/// Checks the title of a group.
pub fn check_title(title: &str) -> Result<(), Refusal> {
    let mut problems = Problems::default();
    problems.length("title", title, 1, MAX_TITLE);
    problems.into_result()
}

/// Checks that `text` is one emoji: a pictograph, with what changes or joins it (Unicode Technical
/// Standard 51). Which of them fonts show is not looked at.
pub fn check_emoji(text: &str) -> Result<(), Refusal> {
    let (mut pictures, mut flag_letters, mut is_joined) = (0, 0, false);
    let is_keycap = text.ends_with('\u{20E3}');
    let mut fits = (1..=MAX_EMOJI_CHARS).contains(&text.chars().count());
    for c in text.chars() {
        match c {
            '\u{FE0F}' | '\u{20E3}' | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}' => {}
            '\u{200D}' => {
                is_joined = true;
                continue;
            }
            '\u{1F1E6}'..='\u{1F1FF}' => flag_letters += 1,
            '0'..='9' | '#' | '*' if is_keycap => pictures += 1,
            c if is_pictograph(c) => pictures += i32::from(!is_joined),
            _ => fits = false,
        }
        is_joined = false;
    }
    let is_one = matches!((pictures, flag_letters), (1, 0) | (0, 2)) && !is_joined;
    if fits && is_one { Ok(()) } else { Err(Refusal::field("emoji", "must be one emoji")) }
}

fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{A9}' | '\u{AE}' | '\u{203C}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2190}'..='\u{21FF}' | '\u{2300}'..='\u{23FF}' | '\u{24C2}'
        | '\u{25A0}'..='\u{27BF}' | '\u{2900}'..='\u{297F}' | '\u{2B00}'..='\u{2BFF}'
        | '\u{3030}' | '\u{303D}' | '\u{3297}' | '\u{3299}' | '\u{1F000}'..='\u{1FAFF}')
}

/// What the platform says in the conversation of the two about a change of their booking: the
/// event, and a line for people.
pub fn booking_line(
    action: &str,
    to_status: &str,
    service: &str,
    starts_at: Timestamp,
) -> Option<(&'static str, String)> {
    let (event, what) = match (action, to_status) {
        ("book", "confirmed") => ("booking:confirmed", "was booked"),
        ("book", _) => ("booking:requested", "was requested"),
        ("confirm", _) => ("booking:confirmed", "was confirmed"),
        ("decline", _) => ("booking:declined", "was declined"),
        ("cancel", _) => ("booking:cancelled", "was cancelled"),
        ("expire", _) => ("booking:expired", "was not answered in time"),
        ("reschedule", _) => ("booking:rescheduled", "was moved to this time"),
        ("start", _) => ("booking:started", "has begun"),
        ("end", _) => ("booking:completed", "has ended"),
        ("no_show", _) => ("booking:missed", "was missed"),
        _ => return None,
    };
    Some((event, format!("{service} on {starts_at} {what}.")))
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
    fn members_send_text_and_cards() {
        assert!(parse_sendable("text", "namaste", false).is_ok());
        assert!(parse_sendable("system", "x", false).is_err());
        assert!(parse_sendable("text", "   ", false).is_err());
        assert!(parse_sendable("text", &"a".repeat(MAX_CONTENT + 1), false).is_err());
        assert!(parse_sendable("text", "x", true).is_err());
        assert!(parse_sendable("booking", "", true).is_ok());
        assert!(parse_sendable("booking", "see you", false).is_err());
    }

    #[test]
    fn an_emoji_is_one_emoji() {
        for one in ["👍", "❤️", "👍🏽", "🇮🇳", "👩‍❤️‍💋‍👨", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "™", "🧘‍♀️"]
        {
            assert_eq!(check_emoji(one), Ok(()), "{one}");
        }
        for other in
            ["", "a", "1", "é", "👍👍", "👍 ", "🇮", "🇮🇳🇮🇳", "👍\u{200D}", "\u{FE0F}", "नम", "<b>"]
        {
            assert!(check_emoji(other).is_err(), "{other:?}");
        }
        assert!(check_emoji(&"👍\u{200D}".repeat(20)).is_err());
    }

    #[test]
    fn words_can_be_changed_for_a_day() {
        let written: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let after = |seconds| written + SignedDuration::from_secs(seconds);
        assert_eq!(check_still_editable(written, after(86_400)), Ok(()));
        assert!(check_still_editable(written, after(86_401)).is_err());
        assert!(check_edit("text", " ").is_err() && check_edit("booking", "").is_ok());
    }
}
