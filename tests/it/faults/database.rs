//! What the database has in the end.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::history::{Row, Stored};
use super::view::{State, View};
use crate::support::rows;

/// The last seq of every channel.
pub async fn heads(url: &str) -> BTreeMap<String, i64> {
    let sql = "SELECT 'conversation:' || id, last_seq FROM conversations
               UNION ALL SELECT 'user:' || user_id, last_seq FROM user_channels
               UNION ALL SELECT 'calendar:' || practitioner_id, version FROM calendars";
    let rows = rows::rows(url, sql).await.into_iter();
    rows.map(|row| (row[0].clone().unwrap(), row[1].as_ref().unwrap().parse().unwrap())).collect()
}

/// The durable events that the database has.
pub async fn stored(url: &str) -> Stored {
    let nil = Uuid::nil();
    let sql = format!(
        "SELECT 'conversation:' || conversation_id, seq, id, client_id FROM messages
         UNION ALL SELECT 'conversation:' || conversation_id, seq, coalesce(message_id, '{nil}'),
                          '{nil}' FROM conversation_events
         UNION ALL SELECT 'user:' || user_id, seq, '{nil}', '{nil}' FROM user_events
         UNION ALL SELECT 'calendar:' || practitioner_id, version, '{nil}', '{nil}'
           FROM calendar_changes
         ORDER BY 1, 2"
    );
    let mut stored = Stored::new();
    for row in rows::rows(url, &sql).await {
        let [channel, seq, id, client_id] = &row[..] else { unreachable!() };
        let text = |value: &Option<String>| value.clone().unwrap();
        stored.entry(text(channel).into()).or_default().push(Row {
            seq: text(seq).parse().unwrap(),
            id: text(id).parse().unwrap(),
            client_id: text(client_id).parse().unwrap(),
        });
    }
    stored
}

/// The messages as they are in the end.
pub async fn messages(url: &str) -> View {
    let instant = |column| {
        format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
    let sql = format!(
        "SELECT 'conversation:' || conversation_id, id, content, {}, {},
                (SELECT string_agg(emoji || ' ' || user_id, ',') FROM message_reactions
                  WHERE message_id = id)
           FROM messages",
        instant("edited_at"),
        instant("deleted_at"),
    );
    let mut view = View::new();
    for row in rows::rows(url, &sql).await {
        let [channel, id, content, edited_at, deleted_at, reactions] = &row[..] else {
            unreachable!()
        };
        let instant = |value: &Option<String>| value.as_ref().map(|at| at.parse().unwrap());
        let given = reactions.iter().flat_map(|all| all.split(','));
        let reactions: BTreeSet<(Box<str>, Uuid)> = given
            .map(|one| one.split_once(' ').unwrap())
            .map(|(emoji, user)| (emoji.into(), user.parse().unwrap()))
            .collect();
        let state = State {
            content: content.clone().unwrap().into(),
            edited_at: instant(edited_at),
            deleted_at: instant(deleted_at),
            reactions,
        };
        let channel = channel.clone().unwrap().into();
        view.entry(channel).or_default().insert(id.as_ref().unwrap().parse().unwrap(), state);
    }
    view
}
