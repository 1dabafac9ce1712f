//! Telling users: inbox, push and event of a notice, stored in the transaction that it is about.

use std::collections::HashSet;
use std::time::Duration;

use diesel::QueryResult;
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::Conn;
use super::calendar_commit::StoredEvent;
use super::notifications::{self, NewNotification};
use super::outbox::{self, NewPush};
use super::user_events::{self, NewUserEvent};
use crate::domain::channel::Channel;
use crate::domain::notify::Notice;

/// A notice and who gets it.
#[derive(Debug)]
pub struct Addressed {
    /// Of the notification, and of its push: a device shows it once.
    pub id: Uuid,
    pub user_id: Uuid,
    pub notice: Notice,
}

impl Addressed {
    /// With a new id.
    pub fn new(user_id: Uuid, notice: Notice) -> Self {
        Self { id: Uuid::now_v7(), user_id, notice }
    }
}

/// Stores `events` and then `notices` with their pushes, which go out after `window` unless
/// acknowledged; returns what the sockets are to hear. A notice whose id is stored already is left
/// out.
///
/// Locks the heads of the users' channels: a transaction calls this once, last.
pub async fn tell(
    conn: &mut Conn,
    window: Duration,
    mut events: Vec<NewUserEvent>,
    notices: Vec<Addressed>,
) -> QueryResult<Vec<StoredEvent>> {
    let rows: Vec<NewNotification> = notices.iter().map(row).collect();
    let stored: HashSet<Uuid> = notifications::insert(conn, &rows).await?.into_iter().collect();
    let mut pushes = Vec::new();
    for Addressed { id, user_id, notice } in notices {
        if !stored.contains(&id) {
            continue;
        }
        let data = json!({
            "notificationId": id, "kind": notice.kind, "title": notice.title,
            "body": notice.body, "data": notice.data,
        });
        pushes.push(NewPush {
            id: Uuid::now_v7(),
            user_id,
            topic: "notifications".to_owned(),
            topic_seq: None,
            dedupe_key: id.to_string(),
            payload: data.clone(),
        });
        events.push(NewUserEvent { user_id, event: "notification:new", data });
    }
    outbox::insert(conn, &pushes, window).await?;
    append(conn, events).await
}

fn row(Addressed { id, user_id, notice }: &Addressed) -> NewNotification {
    NewNotification {
        id: *id,
        user_id: *user_id,
        kind: notice.kind.to_owned(),
        title: notice.title.to_owned(),
        body: notice.body.clone(),
        data: notice.data.clone(),
    }
}

async fn append(conn: &mut Conn, events: Vec<NewUserEvent>) -> QueryResult<Vec<StoredEvent>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let at: jiff_diesel::Timestamp =
        diesel::select(diesel::dsl::sql::<Timestamptz>("statement_timestamp()"))
            .get_result(conn)
            .await?;
    let at = at.to_jiff();
    let seqs = user_events::append(conn, &events, at).await?;
    let stored = events.into_iter().zip(seqs).map(|(event, seq)| StoredEvent {
        channel: Channel::User(event.user_id),
        seq,
        event: event.event,
        at,
        data: event.data,
    });
    Ok(stored.collect())
}
