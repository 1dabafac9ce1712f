//! What people are told about events: the words of a notification and its push.
//!
//! The texts hold no message content and no health matter: a push is shown on locked screens.

use serde_json::{Value, json};
use uuid::Uuid;

/// A notification before it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Machine-readable kind, `booking_requested` and so on.
    pub kind: &'static str,
    /// One line.
    pub title: &'static str,
    /// One sentence.
    pub body: String,
    /// What an app needs to open the right screen.
    pub data: Value,
}

/// What happened to a booking, as the one who is told sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookingNews {
    /// To the practitioner: somebody asks for a session.
    Requested,
    /// To the practitioner: a session was booked and needs no answer.
    Booked,
    /// To the seeker: the practitioner agreed.
    Confirmed,
    /// To the seeker: the practitioner declined.
    Declined,
    /// To the other side: it was called off.
    Cancelled,
    /// To the seeker: nobody answered in time.
    Expired,
    /// To the seeker: the practitioner waited in vain.
    Missed,
    /// To both: it has another time now.
    Moved,
    /// To the seeker: a slot that they waited for is held for them.
    Offered,
}

/// The notice about `news`; `starts_at` is RFC 3339 UTC, apps show it in their user's zone.
pub fn booking(news: BookingNews, booking_id: Uuid, service: &str, starts_at: &str) -> Notice {
    let (kind, title, what) = match news {
        BookingNews::Requested => ("booking_requested", "New booking request", "was requested"),
        BookingNews::Booked => ("booking_booked", "New booking", "was booked"),
        BookingNews::Confirmed => ("booking_confirmed", "Booking confirmed", "is confirmed"),
        BookingNews::Declined => ("booking_declined", "Booking declined", "was declined"),
        BookingNews::Expired => ("booking_expired", "Request not answered", "was not answered"),
        BookingNews::Missed => ("booking_missed", "Session missed", "was missed"),
        BookingNews::Moved => ("booking_moved", "Booking moved", "is the new time"),
        BookingNews::Offered => ("waitlist_offer", "A slot is free", "is held for you"),
        BookingNews::Cancelled => ("booking_cancelled", "Booking cancelled", "was cancelled"),
    };
    Notice {
        kind,
        title,
        body: format!("{service} on {starts_at} {what}."),
        data: json!({ "bookingId": booking_id, "startsAt": starts_at }),
    }
}

/// The notice about a series of bookings: the first, and how many `more`.
pub fn series(
    news: BookingNews,
    booking_id: Uuid,
    service: &str,
    starts_at: &str,
    more: usize,
) -> Notice {
    let first = booking(news, booking_id, service, starts_at);
    let body = format!("{} {more} more of it follow.", first.body);
    Notice { body, ..first }
}

/// The push about a message: who wrote, not what.
pub fn message(sender_first_name: &str, conversation_id: Uuid, seq: i64) -> Notice {
    Notice {
        kind: "message_new",
        title: "New message",
        body: format!("{sender_first_name} sent you a message."),
        data: json!({ "conversationId": conversation_id, "seq": seq }),
    }
}
