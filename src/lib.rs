//! Klear Karma Hub: the real-time messaging and booking server of the Klear Karma marketplace.
//!
//! The floors, from the ground up; each knows only the ones before it (`tests/it/architecture.rs`
//! reads the `use` lines and fails when one looks up): `domain`, `models`, `actors`, `services`,
//! then `http` and `jobs`. All but `domain` may count what they do (`counters`). Ports to the outside
//! (`outbound`, `push`, `bus`, `postgres`, `storage`) stand beside them.

pub mod actors;
pub mod app;
pub mod bus;
pub mod clock;
pub mod config;
pub mod counters;
pub mod domain;
pub mod error;
pub mod http;
pub mod jobs;
pub mod models;
pub mod outbound;
pub mod postgres;
pub mod push;
pub mod services;
pub mod storage;
