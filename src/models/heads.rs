//! The heads of many channels at once.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Conn;
use super::schema::{calendars, conversations, user_channels};
use crate::domain::channel::Channel;

/// The seq of the newest event of each of `channels`; those that keep no events, and those that
/// are not there, are left out. One query for each kind of channel.
pub async fn newest(conn: &mut Conn, channels: &[Channel]) -> QueryResult<Vec<(Channel, i64)>> {
    let (mut users, mut talks, mut books) = (Vec::new(), Vec::new(), Vec::new());
    for channel in channels {
        match *channel {
            Channel::User(id) => users.push(id),
            Channel::Conversation(id) => talks.push(id),
            Channel::Calendar(id) => books.push(id),
            Channel::Presence(_) => {}
        }
    }
    let mut all = Vec::with_capacity(channels.len());
    let mut add = |heads: Vec<(Uuid, i64)>, channel: fn(Uuid) -> Channel| {
        all.extend(heads.into_iter().map(|(id, head)| (channel(id), head)));
    };
    if !users.is_empty() {
        let heads = user_channels::table
            .filter(user_channels::user_id.eq_any(users))
            .select((user_channels::user_id, user_channels::last_seq));
        add(heads.load(conn).await?, Channel::User);
    }
    if !talks.is_empty() {
        let heads = conversations::table
            .filter(conversations::id.eq_any(talks))
            .select((conversations::id, conversations::last_seq));
        add(heads.load(conn).await?, Channel::Conversation);
    }
    if !books.is_empty() {
        let heads = calendars::table
            .filter(calendars::practitioner_id.eq_any(books))
            .select((calendars::practitioner_id, calendars::version));
        add(heads.load(conn).await?, Channel::Calendar);
    }
    Ok(all)
}
