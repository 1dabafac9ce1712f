//! What a socket missed, read from PostgreSQL: the durable events of a channel after a seq.

use bytes::Bytes;
use diesel::QueryResult;
use jiff::Timestamp;
use serde_json::Value;

use super::protocol;
use crate::domain::channel::Channel;
use crate::models::calendar_commit::calendar_event;
use crate::models::{Conn, calendars, conversation_events, conversations, user_events};

/// Events read at once. A socket that missed more reads on, page by page.
pub const PAGE: i64 = 200;

/// At most [`PAGE`] events of `channel` after `since`, in order, each as a whole frame.
pub async fn page(conn: &mut Conn, channel: Channel, since: i64) -> QueryResult<Vec<(i64, Bytes)>> {
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

/// The seq of the newest event of `channel`; `None` when there is no such channel.
pub async fn head(conn: &mut Conn, channel: Channel) -> QueryResult<Option<i64>> {
    match channel {
        Channel::User(id) => user_events::head(conn, id).await.map(Some),
        Channel::Conversation(id) => conversations::head(conn, id).await,
        Channel::Calendar(id) => calendars::version(conn, id).await,
        Channel::Presence(_) => Ok(Some(0)),
    }
}
