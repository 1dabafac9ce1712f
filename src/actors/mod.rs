//! What needs order: calendars, conversations, presence, sockets, and the fan-out between them.
//!
//! An actor's mailbox is no bound (every clone of an `Addr` gets a slot of its own), so each handle
//! bounds what it lets in with permits. `do_send` is forbidden by `clippy.toml`.

pub mod calendar;
pub mod calendar_batch;
pub mod calendar_move;
pub mod calendar_next;
pub mod calendar_place;
mod calendar_state;
pub mod calendar_waiting;
mod channel_commands;
pub mod committer;
pub mod connections;
pub mod conversation;
pub mod conversation_changes;
mod conversation_inbox;
pub mod conversation_receipts;
pub mod conversation_typing;
pub mod directory;
pub mod elsewhere;
pub mod fanout;
mod frame_guard;
mod goodbye;
pub mod healing;
pub mod interest;
pub mod line;
mod merge;
pub mod openings;
pub mod outbox;
pub mod presence;
mod presence_news;
pub mod protocol;
pub mod replay;
mod response;
pub mod roster;
pub mod session;
mod session_channels;
mod session_commands;
mod session_presence;
pub mod socket_machine;
mod subscriptions;
pub mod switchboard;
pub mod takeover;
pub mod wire;
