//! Rows and queries. Functions take a connection and return a `QueryResult` or a named outcome;
//! every SQL statement of the hub stands on this floor, and no decision that `domain` can make.

mod acquaintance;
pub mod attachments;
pub mod audit;
pub mod booking_lines;
pub mod booking_lists;
pub mod booking_trail;
pub mod bookings;
pub mod calendar_commit;
pub mod calendar_feeds;
pub mod calendars;
pub mod catalogue;
pub mod chat_settings;
pub mod conversation_changes;
pub mod conversation_events;
pub mod conversations;
pub mod departures;
pub mod devices;
pub mod external_calendars;
mod fixed;
pub mod groups;
pub mod heads;
pub mod idempotency;
pub mod invites;
pub mod json;
pub mod ledger;
pub mod message_archive;
pub mod message_commit;
pub mod messages;
pub mod migrations;
pub mod mutes;
pub mod notices;
pub mod notifications;
pub mod offer_rules;
pub mod openings;
pub mod outbox;
pub mod pool;
pub mod practitioners;
pub mod preferences;
pub mod reminders;
pub mod reports;
pub mod reviews;
pub mod schema;
pub mod sessions;
pub mod user_blocks;
pub mod user_events;
pub mod users;
pub mod violation;
pub mod waitlist;

/// Which part of a list that begins with the newest or latest.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// What comes after so many.
    Offset(i64),
    /// What comes after the one of this time and id.
    After(jiff::Timestamp, uuid::Uuid),
}

/// The connection that every query function takes.
pub type Conn = diesel_async::AsyncPgConnection;
