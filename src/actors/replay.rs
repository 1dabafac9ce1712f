//! What a socket missed, read from PostgreSQL: the durable events of a channel after a seq.
//!
//! When a node missed something, all its sockets on a channel want the same page at once. They
//! share one read, and the frames it gives. Nobody joins a read that has begun: it may not see what
//! the newcomer has heard of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use diesel::QueryResult;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared, WeakShared};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::protocol;
use crate::domain::channel::Channel;
use crate::error::Result;
use crate::models::calendar_commit::calendar_event;
use crate::models::pool::Pool;
use crate::models::{Conn, calendars, conversation_events, user_events};

/// Events read at once. A socket that missed more reads on, page by page.
pub const PAGE: i64 = 200;

/// Reads of one worker at a time; the others wait, and leave connections to commands.
const READS: usize = 4;
/// Reads that wait before those that nobody waits for are forgotten.
const TIDY: usize = 256;

/// Events in order, each as a whole frame.
pub type Page = Rc<[(i64, Bytes)]>;

/// A read that any number of sockets wait for.
type Read = LocalBoxFuture<'static, Result<Page>>;

/// The reads of one worker's sockets.
pub struct Replays {
    /// Those that have not begun.
    waiting: RefCell<HashMap<(Channel, i64), WeakShared<Read>>>,
    gate: Semaphore,
}

impl Default for Replays {
    fn default() -> Self {
        Self { waiting: RefCell::default(), gate: Semaphore::new(READS) }
    }
}

impl Replays {
    /// At most [`PAGE`] events of `channel` after `since`, of all that are committed now.
    pub fn page(self: &Rc<Self>, pool: &Pool, channel: Channel, since: i64) -> Shared<Read> {
        let key = (channel, since);
        let mut waiting = self.waiting.borrow_mut();
        if let Some(read) = waiting.get(&key).and_then(WeakShared::upgrade) {
            return read;
        }
        if waiting.len() >= TIDY {
            waiting.retain(|_, read| read.upgrade().is_some());
        }
        let (replays, pool) = (self.clone(), pool.clone());
        let read = async move {
            // The gate is never closed.
            let _permit = replays.gate.acquire().await;
            let conn = pool.get().await;
            replays.waiting.borrow_mut().remove(&key);
            let mut conn = conn?;
            Ok(page(&mut conn, channel, since).await?.into())
        };
        let read = read.boxed_local().shared();
        if let Some(weak) = read.downgrade() {
            waiting.insert(key, weak);
        }
        read
    }
}

/// At most [`PAGE`] events of `channel` after `since`, in order, each as a whole frame.
async fn page(conn: &mut Conn, channel: Channel, since: i64) -> QueryResult<Vec<(i64, Bytes)>> {
    let frame = |seq: i64, name: &str, at: Timestamp, data: &Value| {
        let text = protocol::event(name, channel, Some(seq), &at.to_string(), data);
        (seq, protocol::text_frame(&text))
    };
    Ok(match channel {
        Channel::User(id) => user_events::after(conn, id, since, PAGE)
            .await?
            .into_iter()
            .map(|(seq, name, data, at)| frame(seq, &name, at.into(), &data))
            .collect(),
        Channel::Conversation(id) => conversation_events::after(conn, id, since, PAGE)
            .await?
            .into_iter()
            .map(|e| frame(e.seq, &e.event, e.at, &e.data))
            .collect(),
        Channel::Calendar(id) => calendars::changes_after(conn, id, since, PAGE)
            .await?
            .into_iter()
            .map(|(seq, data, at)| {
                frame(seq, "availability:changed", at.into(), &calendar_event(seq, data))
            })
            .collect(),
        Channel::Presence(_) => Vec::new(),
    })
}
