//! `/v1/waitlist`: waiting for a slot that somebody else has.

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::instant::Instant;
use super::query::NoQuery;
use crate::domain::refusal::Refusal;
use crate::domain::time::Interval;
use crate::models::waitlist::Entry;
use crate::services::waitlist::Waitlist;

/// A time to wait for.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewEntry {
    practitioner_id: Uuid,
    service_id: Uuid,
    /// The session must not begin before this.
    from: Instant,
    /// The session must not end after this; at most 31 days after `from`.
    to: Instant,
}

/// A time that the caller waits for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    id: Uuid,
    practitioner_id: Uuid,
    service_id: Uuid,
    from: Timestamp,
    to: Timestamp,
    /// `waiting`, `offered`, `booked`, `missed` or `left`.
    status: String,
    /// The hold that was offered; book it before it runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_id: Option<Uuid>,
    created_at: Timestamp,
}

impl From<Entry> for EntryView {
    fn from(e: Entry) -> Self {
        Self {
            id: e.id,
            practitioner_id: e.practitioner_id,
            service_id: e.service_id,
            from: e.from_at,
            to: e.until_at,
            status: e.status,
            hold_id: e.hold_id,
            created_at: e.created_at,
        }
    }
}

/// Waits for a slot. One that becomes free is held for 15 minutes for who has waited longest; a
/// notification of kind `waitlist_offer` says so.
#[utoipa::path(post, path = "/v1/waitlist", tag = "bookings", request_body = NewEntry,
    responses((status = 201, body = Envelope<EntryView>)), security(("bearer" = [])))]
pub async fn join(waitlist: web::Data<Waitlist>, once: Once<NewEntry>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let time = Interval::new(new.from.0, new.to.0)
            .map_err(|_| Refusal::field("to", "must be after from"))?;
        let entry = waitlist.join(&caller, new.practitioner_id, new.service_id, time).await?;
        Reply::created(EntryView::from(entry))
    })
    .await
}

/// What the caller waits for, and what came of it, until the time is over.
#[utoipa::path(get, path = "/v1/waitlist", tag = "bookings",
    responses((status = 200, body = Envelope<Vec<EntryView>>)), security(("bearer" = [])))]
pub async fn list(
    waitlist: web::Data<Waitlist>,
    caller: Caller,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let entries = waitlist.list(&caller).await?;
    Reply::ok(entries.into_iter().map(EntryView::from).collect::<Vec<_>>())
}

/// Waits no longer.
#[utoipa::path(delete, path = "/v1/waitlist/{id}", tag = "bookings",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn leave(
    waitlist: web::Data<Waitlist>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    waitlist.leave(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}
