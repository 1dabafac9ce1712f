//! The integration tests: one binary, since every further one is linked again. They act through
//! the public API against real servers; `support` starts and stops those.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod architecture;
mod auth;
mod auth_guessing;
mod auth_tokens;
mod availability;
mod booking_news;
mod booking_rules;
mod bookings;
mod bus;
mod calendar_channel;
mod chat;
mod chat_order;
mod config;
mod conventions;
mod fuzz;
mod fuzz_world;
mod group_commit;
mod holds;
mod ical_channel;
mod ical_expand;
mod ical_import;
mod ical_invites;
mod ical_log;
mod idempotency;
mod openapi;
mod presence;
mod privacy;
mod private_postgres;
mod push;
mod push_fcm;
mod push_inbox;
mod push_web;
mod push_web_keys;
mod races;
mod resume;
mod routes;
mod schema;
mod sessions;
mod slot_cases;
mod slot_oracle;
mod slot_refusals;
mod smoke;
mod sockets;
mod stop;
mod support;
mod tour;
mod validation;
