//! Pure rules: no async, no I/O, no clock, no environment, no randomness. `now` is a parameter.

pub mod access;
pub mod availability;
pub mod booking;
pub mod busy;
pub mod channel;
pub mod chat;
pub mod explain;
pub mod ics;
pub mod intervals;
pub mod money;
pub mod notify;
pub mod presence;
pub mod rate;
pub mod recurrence;
pub mod refusal;
pub mod rules;
pub mod schedule;
pub mod slots;
pub mod time;
pub mod tokens;
