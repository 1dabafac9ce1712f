//! iCalendar (RFC 5545, scheduling by RFC 5546): invites and feeds out, busy times in.
//!
//! `invite` writes and needs no crate: a handful of properties, and the zone data must be the same
//! that the slots were computed from. `read` takes a calendar of any origin apart with `calcard`;
//! `rule` and `zones` work out its repetitions and its time zones, `events` puts them together.

mod events;
pub mod invite;
pub mod read;
mod rule;
mod text;
mod vtimezone;
mod zones;

#[cfg(test)]
mod read_tests;
