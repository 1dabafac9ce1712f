//! What follows from a change: the audit trail, events for both sides, notifications, pushes.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::{CommitRules, Ledger, Placement, StoredEvent};
use crate::domain::booking::{Status, Step};
use crate::domain::notify::{self, BookingNews};
use crate::models::bookings::Booking;
use crate::models::notices::{self, Addressed};
use crate::models::schema::booking_events;
use crate::models::user_events::NewUserEvent;
use crate::models::{Conn, reminders};

/// One line of the audit trail.
#[derive(Insertable)]
#[diesel(table_name = booking_events)]
pub(super) struct TrailEntry {
    booking_id: Uuid,
    version: i64,
    action: &'static str,
    from_status: Option<&'static str>,
    to_status: String,
    actor_id: Option<Uuid>,
    reason: Option<String>,
}

/// Notes that `row` was changed by `action` into what it is now.
pub(super) fn trail(
    ledger: &mut Ledger,
    row: &Booking,
    action: &'static str,
    from: Option<Status>,
    actor_id: Option<Uuid>,
    reason: Option<&str>,
) {
    ledger.trail.push(TrailEntry {
        booking_id: row.id,
        version: row.version,
        action,
        from_status: from.map(Status::as_str),
        to_status: row.status.clone(),
        actor_id,
        reason: reason.map(ToOwned::to_owned),
    });
}

pub(super) async fn write_trail(conn: &mut Conn, trail: &[TrailEntry]) -> QueryResult<()> {
    if !trail.is_empty() {
        diesel::insert_into(booking_events::table).values(trail).execute(conn).await?;
    }
    Ok(())
}

/// A new row stands; of a hold nobody but its owner is told.
pub(super) fn placed(ledger: &mut Ledger, actor: Option<Uuid>, row: &Booking, how: Placement) {
    match how {
        Placement::Hold(_) => trail(ledger, row, "hold", None, actor, None),
        Placement::Pending | Placement::Confirmed => {
            trail(ledger, row, "book", None, actor, None);
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
        Step::Release => {}
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
        Step::NoShow => ("booking:updated", BookingNews::Missed),
    };
    both_sides(ledger, event, row);
    for side in [row.seeker_id, row.practitioner_user_id] {
        if actor != Some(side) {
            notice(ledger, side, news, row);
        }
    }
}

/// A request was not answered in time; the seeker is notified.
pub(super) fn expired(ledger: &mut Ledger, row: &Booking) {
    both_sides(ledger, "booking:updated", row);
    notice(ledger, row.seeker_id, BookingNews::Expired, row);
}

fn both_sides(ledger: &mut Ledger, event: &'static str, row: &Booking) {
    for user_id in [row.seeker_id, row.practitioner_user_id] {
        let data = json!({ "booking": row.view(user_id), "reason": row.cancellation_reason });
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
