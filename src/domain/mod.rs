//! Pure rules: no async, no I/O, no clock, no environment, no randomness. `now` is a parameter.

pub mod access;
pub mod availability;
pub mod booking;
pub mod busy;
pub mod cancellation;
pub mod channel;
pub mod chat;
pub mod explain;
pub mod group;
pub mod holidays;
pub mod intervals;
pub mod money;
pub mod notify;
pub mod presence;
pub mod quiet;
pub mod rate;
pub mod recurrence;
pub mod refusal;
pub mod repeat;
pub mod review;
pub mod rules;
pub mod schedule;
pub mod slots;
pub mod time;
pub mod tokens;
pub mod travel;
