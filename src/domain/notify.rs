//! What people are told about events: the words of a notification and its push, and whether and
//! when the push goes out.
//!
//! The texts hold no message content and no health matter: a push is shown on locked screens.
//! Every notification is in the inbox and on the sockets at once, whatever its user prefers; only
//! pushes are kept back or left out.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::quiet::QuietHours;
use super::time::{minutes, shifted};

/// A notification before it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// To the practitioner: a session was rated. Of an anonymous review the name stays away, and
/// nothing leads to the booking that it is of.
pub fn review(reviewer_first_name: Option<&str>, review_id: Uuid, rating: i32) -> Notice {
    let who = reviewer_first_name.unwrap_or("A client");
    Notice {
        kind: "review_received",
        title: "New review",
        body: format!("{who} gave you {rating} of 5 stars."),
        data: json!({ "reviewId": review_id, "rating": rating }),
    }
}

/// How long before a session its reminder comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    Day,
    Hour,
}

impl Lead {
    /// Every one, the earliest reminder first.
    pub const ALL: [Self; 2] = [Self::Day, Self::Hour];

    /// Minutes of real time before the start.
    pub fn minutes(self) -> i32 {
        match self {
            Self::Day => 24 * 60,
            Self::Hour => 60,
        }
    }

    /// Reads the minutes back; `None` for any other.
    pub fn of(minutes: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|lead| lead.minutes() == minutes)
    }

    /// When the reminder of a session that begins at `starts_at` is due.
    pub fn before(self, starts_at: Timestamp) -> Timestamp {
        shifted(starts_at, -minutes(self.minutes()))
    }
}

/// The reminder of a session, with its local time in `zone`, which is named.
pub fn reminder(
    lead: Lead,
    booking_id: Uuid,
    service: &str,
    starts_at: Timestamp,
    zone: &TimeZone,
) -> Notice {
    let local = starts_at.to_zoned(zone.clone());
    let (when, name) = (local.strftime("%a %-d %b %Y, %H:%M"), zone.iana_name().unwrap_or("UTC"));
    Notice {
        kind: match lead {
            Lead::Day => "reminder_day_before",
            Lead::Hour => "reminder_hour_before",
        },
        title: "Upcoming session",
        body: format!("{service} on {when} ({name})."),
        data: json!({ "bookingId": booking_id, "startsAt": starts_at, "localTime":
            local.strftime("%Y-%m-%dT%H:%M").to_string(), "timeZone": name }),
    }
}

/// What notifications are about: pushes are switched by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Booking,
    Message,
    /// A slot that is held for who waited for it, for minutes.
    Offer,
    Reminder,
    Review,
}

impl Category {
    /// Of a notice's kind. What is about nothing else is about bookings.
    pub fn of(kind: &str) -> Self {
        match kind.split('_').next() {
            Some("message") => Self::Message,
            Some("waitlist") => Self::Offer,
            Some("reminder") => Self::Reminder,
            Some("review") => Self::Review,
            _ => Self::Booking,
        }
    }
}

/// What a user wants to hear and when, as it is sent and stored. What was never said is wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    pub push: PushWishes,
    /// When pushes wait.
    pub quiet_hours: Option<QuietHours>,
    pub reminders: ReminderWishes,
}

/// What a user wants pushes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PushWishes {
    pub booking: bool,
    pub message: bool,
    pub reminder: bool,
    pub review: bool,
}

impl Default for PushWishes {
    fn default() -> Self {
        Self { booking: true, message: true, reminder: true, review: true }
    }
}

impl PushWishes {
    fn want(self, category: Category) -> bool {
        match category {
            Category::Booking | Category::Offer => self.booking,
            Category::Message => self.message,
            Category::Reminder => self.reminder,
            Category::Review => self.review,
        }
    }
}

/// Which reminders a user wants at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReminderWishes {
    pub day_before: bool,
    pub hour_before: bool,
}

impl Default for ReminderWishes {
    fn default() -> Self {
        Self { day_before: true, hour_before: true }
    }
}

impl ReminderWishes {
    fn want(self, lead: Lead) -> bool {
        match lead {
            Lead::Day => self.day_before,
            Lead::Hour => self.hour_before,
        }
    }

    /// Whether a user gets the reminder of a confirmed session that begins at `starts_at`, now that
    /// it is due: not when it has begun, and of two that are late only the nearer one.
    pub fn remind(self, lead: Lead, starts_at: Timestamp, now: Timestamp) -> bool {
        let superseded =
            lead == Lead::Day && self.hour_before && Lead::Hour.before(starts_at) <= now;
        self.want(lead) && now < starts_at && !superseded
    }
}

/// What becomes of a push whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// It does not go out.
    Never,
    /// It goes out.
    Now,
    /// It waits until then, and is decided on again.
    Waits(Timestamp),
}

/// News of a session that would come less than this before its start do not wait for quiet hours
/// to end: who has a session at such an hour wants to know.
const AHEAD: SignedDuration = SignedDuration::from_mins(30);

/// Decides on the push of a notification of `category`, which is about a session that begins at
/// `starts_at` if about any.
pub fn push(
    category: Category,
    starts_at: Option<Timestamp>,
    preferences: &Preferences,
    now: Timestamp,
) -> Push {
    let to_come = starts_at.filter(|start| now < *start);
    let pointless = category == Category::Reminder && starts_at.is_some() && to_come.is_none();
    if pointless || !preferences.push.want(category) {
        return Push::Never;
    }
    match preferences.quiet_hours.as_ref().and_then(|quiet| quiet.end(now)) {
        // In the morning somebody else has the slot.
        Some(_) if category == Category::Offer => Push::Never,
        Some(end) if to_come.is_none_or(|start| end <= shifted(start, -AHEAD)) => Push::Waits(end),
        Some(_) | None => Push::Now,
    }
}

/// How many seconds a push service keeps a push for a device that is offline, at most `longest`: a
/// reminder not longer than until its session begins.
pub fn kept_for(
    category: Category,
    starts_at: Option<Timestamp>,
    now: Timestamp,
    longest: u32,
) -> u32 {
    match (category, starts_at) {
        (Category::Reminder, Some(start)) => {
            let left = start.duration_since(now).as_secs().max(0);
            u32::try_from(left).unwrap_or(longest).min(longest)
        }
        _ => longest,
    }
}

#[cfg(test)]
mod tests;
