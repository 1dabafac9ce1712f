//! Telling users: inbox, push and event of a notice, stored in the transaction that it is about.

use std::collections::HashSet;
use std::time::Duration;

use diesel::sql_types::{Array, Double, Jsonb, Text, Uuid as SqlUuid};
use diesel::{IntoSql, QueryResult};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Conn;
use super::calendar_commit::StoredEvent;
use super::fixed::Fixed;
use super::json::Json;
use super::user_events::{self, Appended, NewUserEvent};
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

/// The data of `notification:new`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationNew<'a> {
    notification_id: Uuid,
    #[serde(flatten)]
    notice: &'a Notice,
}

/// Stores `events` and then `notices` with their pushes, which go out after `window` unless
/// acknowledged; returns what the sockets are to hear. A notice whose id is stored already is left
/// out. Who has no device gets no push, see `outbox`.
///
/// Locks the heads of the users' channels: a transaction calls this once, last.
pub async fn tell(
    conn: &mut Conn,
    window: Duration,
    mut events: Vec<NewUserEvent>,
    notices: Vec<Addressed>,
) -> QueryResult<Vec<StoredEvent>> {
    let stored = store(conn, window, &notices).await?;
    let stored_ones = notices.into_iter().filter(|one| stored.contains(&one.id));
    events.extend(stored_ones.map(|Addressed { id, user_id, notice }| NewUserEvent {
        user_id,
        event: "notification:new",
        data: Json::of(&NotificationNew { notification_id: id, notice: &notice }),
    }));
    append(conn, events).await
}

/// Stores notifications that are not stored yet, with the pushes of those who have a device, and
/// returns their ids. A push says what the event says.
async fn store(
    conn: &mut Conn,
    window: Duration,
    notices: &[Addressed],
) -> QueryResult<HashSet<Uuid>> {
    struct Store;
    if notices.is_empty() {
        return Ok(HashSet::new());
    }
    let texts = |field: fn(&Addressed) -> &str| {
        notices.iter().map(field).collect::<Vec<_>>().into_sql::<Array<Text>>()
    };
    let ids: Vec<Uuid> = notices.iter().map(|one| one.id).collect();
    let users: Vec<Uuid> = notices.iter().map(|one| one.user_id).collect();
    let data: Vec<&Value> = notices.iter().map(|one| &one.notice.data).collect();
    let binds = (
        ids.into_sql::<Array<SqlUuid>>(),
        users.into_sql::<Array<SqlUuid>>(),
        texts(|one| one.notice.kind),
        texts(|one| one.notice.title),
        texts(|one| &one.notice.body),
        data.into_sql::<Array<Jsonb>>(),
        vec![window.as_secs_f64(); notices.len()].into_sql::<Array<Double>>(),
    );
    let stored: Vec<Uuid> = Fixed::<_, _, SqlUuid>::new(
        Store,
        "WITH new AS (SELECT * FROM unnest(",
        binds,
        ") AS t (id, user_id, kind, title, body, data, wait)),
         stored AS (
            INSERT INTO notifications (id, user_id, kind, title, body, data)
            SELECT id, user_id, kind, title, body, data FROM new
            ON CONFLICT DO NOTHING RETURNING id),
         pushes AS (
            INSERT INTO outbox (id, user_id, topic, dedupe_key, payload, not_before)
            SELECT id, user_id, 'notifications', id::text,
                   jsonb_build_object('notificationId', id, 'kind', kind, 'title', title,
                                      'body', body, 'data', data),
                   now() + make_interval(secs => wait)
              FROM new JOIN stored USING (id)
             WHERE EXISTS (SELECT 1 FROM devices d WHERE d.user_id = new.user_id)
            ON CONFLICT DO NOTHING)
         SELECT id FROM stored",
    )
    .load(conn)
    .await?;
    Ok(stored.into_iter().collect())
}

async fn append(conn: &mut Conn, events: Vec<NewUserEvent>) -> QueryResult<Vec<StoredEvent>> {
    let Some(Appended { seqs, at }) = user_events::append(conn, &events).await? else {
        return Ok(Vec::new());
    };
    let stored = events.into_iter().zip(seqs).map(|(event, seq)| StoredEvent {
        channel: Channel::User(event.user_id),
        seq,
        event: event.event,
        at,
        data: event.data,
    });
    Ok(stored.collect())
}
