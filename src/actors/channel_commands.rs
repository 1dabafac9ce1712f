//! What `subscribe`, `resume` and `unsubscribe` ask for, read.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;

use super::protocol;
use crate::domain::channel::Channel;
use crate::domain::input;
use crate::domain::refusal::Refusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeData {
    channel: String,
    since: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnsubscribeData {
    channel: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeData {
    channels: BTreeMap<String, i64>,
}

fn channel_in(field: &str, text: &str) -> Result<Channel, Refusal> {
    text.parse().map_err(|_| Refusal::field(field, "must be the name of a channel"))
}

fn seq_in(field: &str, seq: i64) -> Result<i64, Refusal> {
    let problem = "must be the seq of the last event seen, or 0";
    if seq >= 0 { Ok(seq) } else { Err(Refusal::field(field, problem)) }
}

pub(super) fn read_subscribe(data: Value) -> Result<(Channel, Option<i64>), Refusal> {
    let data: SubscribeData = input::parse_value(data)?;
    let since = data.since.map(|seq| seq_in("since", seq)).transpose()?;
    Ok((channel_in("channel", &data.channel)?, since))
}

pub(super) fn read_unsubscribe(data: Value) -> Result<Channel, Refusal> {
    let data: UnsubscribeData = input::parse_value(data)?;
    match channel_in("channel", &data.channel)? {
        Channel::User(_) => Err(Refusal::field("channel", "one's own channel stays open")),
        channel => Ok(channel),
    }
}

pub(super) fn read_resume(data: Value) -> Result<VecDeque<(Channel, i64)>, Refusal> {
    let ResumeData { channels } = input::parse_value(data)?;
    if channels.len() > protocol::MAX_SUBSCRIPTIONS {
        let problem = format!("may name at most {} channels", protocol::MAX_SUBSCRIPTIONS);
        return Err(Refusal::field("channels", problem));
    }
    let read = |(name, seq): (&String, &i64)| {
        let field = format!("channels.{name}");
        Ok((channel_in(&field, name)?, seq_in(&field, *seq)?))
    };
    channels.iter().map(read).collect()
}
