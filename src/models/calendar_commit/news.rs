//! What follows from a change: the audit trail, events for both sides, notifications, pushes.

use diesel::sql_types::{Array, BigInt, Json as SqlJson, Nullable, Text, Uuid as SqlUuid};
use diesel::{IntoSql, QueryResult};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::insert::Placement;
use super::{CommitRules, Ledger, StoredEvent};
use crate::domain::booking::{Status, Step};
use crate::domain::notify::{self, BookingNews};
use crate::models::bookings::{Booking, BookingView};
use crate::models::fixed::Fixed;
use crate::models::json::Json;
use crate::models::notices::{self, Addressed};
use crate::models::user_events::NewUserEvent;
use crate::models::{Conn, reminders};

/// One line of the audit trail.
pub(super) struct TrailEntry {
    booking_id: Uuid,
    version: i64,
    action: &'static str,
    from_status: Option<String>,
    to_status: String,
    actor_id: Option<Uuid>,
    reason: Option<String>,
    data: Json,
}

/// Notes that `action` made `after` out of `before`, or out of nothing, with all that changed.
pub(super) fn trail(
    ledger: &mut Ledger,
    before: Option<&Booking>,
    after: &Booking,
    action: &'static str,
    actor_id: Option<Uuid>,
    reason: Option<&str>,
) {
    ledger.trail.push(TrailEntry {
        booking_id: after.id,
        version: after.version,
        action,
        from_status: before.map(|row| row.status.clone()),
        to_status: after.status.clone(),
        actor_id,
        reason: reason.map(ToOwned::to_owned),
        data: changed(before, after),
    });
}

/// The fields of `after` that differ from `before`; without one, all that are not null.
fn changed(before: Option<&Booking>, after: &Booking) -> Json {
    let Some(before) = before else { return Json::of(after) };
    let fields = |row: &Booking| match json!(row) {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let (old, mut new) = (fields(before), fields(after));
    // What is null now has no field.
    for name in old.keys() {
        new.entry(name).or_insert(Value::Null);
    }
    new.retain(|name, value| old.get(name) != Some(value));
    Json::of(&new)
}

/// Notes the end of a hold or request that the database flipped from `from` to what it now is.
pub(super) fn ended(
    ledger: &mut Ledger,
    after: &Booking,
    from: Status,
    action: &'static str,
    actor_id: Option<Uuid>,
) {
    let mut before = after.clone();
    from.as_str().clone_into(&mut before.status);
    before.version -= 1;
    if from == Status::Pending {
        before.refund_percent = None;
        before.ical_sequence -= 1;
    }
    trail(ledger, Some(&before), after, action, actor_id, None);
}

pub(super) async fn write_trail(conn: &mut Conn, trail: &[TrailEntry]) -> QueryResult<()> {
    struct Trail;
    if trail.is_empty() {
        return Ok(());
    }
    let texts = |field: fn(&TrailEntry) -> Option<&str>| {
        trail.iter().map(field).collect::<Vec<_>>().into_sql::<Array<Nullable<Text>>>()
    };
    let ids: Vec<Uuid> = trail.iter().map(|e| e.booking_id).collect();
    let versions: Vec<i64> = trail.iter().map(|e| e.version).collect();
    let actors: Vec<Option<Uuid>> = trail.iter().map(|e| e.actor_id).collect();
    let data: Vec<&Json> = trail.iter().map(|e| &e.data).collect();
    let binds = (
        ids.into_sql::<Array<SqlUuid>>(),
        versions.into_sql::<Array<BigInt>>(),
        texts(|e| Some(e.action)),
        texts(|e| e.from_status.as_deref()),
        texts(|e| Some(&e.to_status)),
        actors.into_sql::<Array<Nullable<SqlUuid>>>(),
        texts(|e| e.reason.as_deref()),
        data.into_sql::<Array<SqlJson>>(),
    );
    let insert = "INSERT INTO booking_events (booking_id, version, action, from_status, to_status,
            actor_id, reason, data) SELECT * FROM unnest(";
    Fixed::<_, _, ()>::new(Trail, insert, binds, ")").execute(conn).await?;
    Ok(())
}

/// A new row stands; of a hold nobody but its owner is told.
pub(super) fn placed(ledger: &mut Ledger, actor: Option<Uuid>, row: &Booking, how: Placement) {
    match how {
        Placement::Hold(_) => trail(ledger, None, row, "hold", actor, None),
        Placement::Pending | Placement::Confirmed => {
            trail(ledger, None, row, "book", actor, None);
            booked(ledger, row, how.status());
        }
    }
}

/// A booking came into being.
pub(super) fn booked(ledger: &mut Ledger, row: &Booking, status: Status) {
    let news =
        if status == Status::Confirmed { BookingNews::Booked } else { BookingNews::Requested };
    if status == Status::Confirmed {
        ledger.agreed.push(row.id);
    }
    both_sides(ledger, "booking:created", row);
    notice(ledger, row.practitioner_user_id, news, row);
}

/// A booking took a step; the other side is notified.
pub(super) fn stepped(ledger: &mut Ledger, row: &Booking, step: Step, actor: Option<Uuid>) {
    match step {
        // A move has its own words, and says itself what is over.
        Step::Release | Step::Reschedule => {}
        Step::Confirm => ledger.agreed.push(row.id),
        Step::Decline | Step::Cancel | Step::Start | Step::End | Step::NoShow => {
            ledger.over.push(row.id);
        }
    }
    let (event, news) = match step {
        Step::Release => return,
        Step::Confirm => ("booking:updated", BookingNews::Confirmed),
        Step::Decline => ("booking:updated", BookingNews::Declined),
        Step::Cancel => ("booking:cancelled", BookingNews::Cancelled),
        // Both are in the room, or one was missed and will hear of it.
        Step::Start | Step::End => return both_sides(ledger, "booking:updated", row),
        // Told by `moved`, which knows where to.
        Step::Reschedule => return,
        Step::NoShow => ("booking:updated", BookingNews::Missed),
    };
    both_sides(ledger, event, row);
    for side in [row.seeker_id, row.practitioner_user_id] {
        if actor != Some(side) {
            notice(ledger, side, news, row);
        }
    }
}

/// The seeker's words are others now.
pub(super) fn edited(ledger: &mut Ledger, row: &Booking) {
    both_sides(ledger, "booking:updated", row);
}

/// A booking was moved; both are notified, whoever moved it.
pub(super) fn moved(ledger: &mut Ledger, old: &Booking, new: &Booking) {
    ledger.over.push(old.id);
    ledger.agreed.push(new.id);
    both_sides(ledger, "booking:updated", old);
    both_sides(ledger, "booking:created", new);
    for side in [new.seeker_id, new.practitioner_user_id] {
        notice(ledger, side, BookingNews::Moved, new);
    }
}

/// A series came into being: one notification for all of it.
pub(super) fn series(ledger: &mut Ledger, actor: Option<Uuid>, rows: &[Booking]) {
    for row in rows {
        trail(ledger, None, row, "book", actor, None);
        ledger.agreed.push(row.id);
        both_sides(ledger, "booking:created", row);
    }
    let Some(first) = rows.first() else { return };
    let agreed = first.status == Status::Confirmed.as_str();
    let news = if agreed { BookingNews::Booked } else { BookingNews::Requested };
    let (starts_at, more) = (first.scheduled_at.to_string(), rows.len().saturating_sub(1));
    let notice = notify::series(news, first.id, &first.service_name, &starts_at, more);
    ledger.notices.push(Addressed::new(first.practitioner_user_id, notice));
}

/// A slot became free and is held for who waited for it.
pub(super) fn offered(ledger: &mut Ledger, hold: &Booking) {
    trail(ledger, None, hold, "offer", None, None);
    notice(ledger, hold.seeker_id, BookingNews::Offered, hold);
}

/// A request was not answered in time; the seeker is notified.
pub(super) fn expired(ledger: &mut Ledger, row: &Booking) {
    both_sides(ledger, "booking:updated", row);
    notice(ledger, row.seeker_id, BookingNews::Expired, row);
}

/// The data of an event about a booking.
#[derive(Serialize)]
struct About<'a> {
    booking: BookingView,
    reason: Option<&'a str>,
}

fn both_sides(ledger: &mut Ledger, event: &'static str, row: &Booking) {
    for user_id in [row.seeker_id, row.practitioner_user_id] {
        let (booking, reason) = (row.view(user_id), row.cancellation_reason.as_deref());
        let data = Json::of(&About { booking, reason });
        ledger.events.push(NewUserEvent { user_id, event, data });
    }
}

fn notice(ledger: &mut Ledger, user_id: Uuid, news: BookingNews, row: &Booking) {
    let starts_at = row.scheduled_at.to_string();
    let notice = notify::booking(news, row.id, &row.service_name, &starts_at);
    ledger.notices.push(Addressed::new(user_id, notice));
}

/// Keeps the reminders, then stores notifications with their pushes, and all user events; adds
/// them to `stored`.
pub(super) async fn tell(
    conn: &mut Conn,
    rules: CommitRules,
    ledger: &mut Ledger,
    stored: &mut Vec<StoredEvent>,
) -> QueryResult<()> {
    reminders::cancel(conn, &ledger.over).await?;
    reminders::schedule(conn, &ledger.agreed).await?;
    let (events, told) = (std::mem::take(&mut ledger.events), std::mem::take(&mut ledger.notices));
    stored.extend(notices::tell(conn, rules.push_window, events, told).await?);
    Ok(())
}
