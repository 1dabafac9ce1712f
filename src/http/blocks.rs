//! `/v1/practitioners/{id}/blocks`: times that the practitioner closes.

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::instant::Instant;
use super::query::{NoQuery, Query};
use crate::domain::refusal::Refusal;
use crate::domain::repeat::Repeat;
use crate::domain::time::Interval;
use crate::error::Error;
use crate::models::calendars::Block;
use crate::services::practices::Practices;

/// A blocked time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    id: Uuid,
    starts_at: Timestamp,
    ends_at: Timestamp,
    reason: Option<String>,
    /// Shared by the times of one recurrence.
    series_id: Option<Uuid>,
}

impl From<Block> for BlockView {
    fn from(b: Block) -> Self {
        let (starts_at, ends_at) = (b.starts_at, b.ends_at);
        Self { id: b.id, starts_at, ends_at, reason: b.reason, series_id: b.series_id }
    }
}

/// What a request closed or opened.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlocksView {
    /// The first time of what was closed, or the one that was named.
    #[serde(flatten)]
    block: BlockView,
    /// How many times it was in all.
    count: usize,
}

fn view(blocks: Vec<Block>) -> ApiResult<BlocksView> {
    let count = blocks.len();
    let block = blocks.into_iter().next();
    let block = block.ok_or_else(|| Error::Fault("no blocked time".to_owned()))?;
    Ok(BlocksView { block: block.into(), count })
}

/// The blocked times that have not passed, those of a series one by one.
#[utoipa::path(get, path = "/v1/practitioners/{id}/blocks", tag = "calendar",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<Vec<BlockView>>)),
    security(("bearer" = [])))]
pub async fn list(
    practices: web::Data<Practices>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let blocks = practices.blocks(&caller, *id).await?;
    Reply::ok(blocks.into_iter().map(BlockView::from).collect::<Vec<_>>())
}

/// A time to close.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBlock {
    starts_at: Instant,
    ends_at: Instant,
    reason: Option<String>,
    /// `{every: "day" | "week" | "month", interval?, weekdays?, nth?, until}`: repeats by the wall
    /// clock of the practice. `weekdays` are ISO numbers; `nth` (1 to 4, -1 the last) is which such
    /// weekday of the month; `until` is the last date. `startsAt` must be the first time of it.
    #[schema(value_type = Option<Object>)]
    recurrence: Option<Repeat>,
}

/// Closes a time, or a series of times, all or none. Bookings in them stay.
#[utoipa::path(post, path = "/v1/practitioners/{id}/blocks", tag = "calendar",
    params(("id" = Uuid, Path)), request_body = NewBlock,
    responses((status = 201, body = Envelope<BlocksView>)), security(("bearer" = [])))]
pub async fn create(
    practices: web::Data<Practices>,
    id: web::Path<Uuid>,
    once: Once<NewBlock>,
) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let time = Interval::new(new.starts_at.0, new.ends_at.0)
            .map_err(|_| Refusal::field("endsAt", "must be after startsAt"))?;
        let repeat = new.recurrence.as_ref();
        let blocks = practices.block(&caller, *id, time, new.reason, repeat).await?;
        Reply::created(view(blocks)?)
    })
    .await
}

/// What to open.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnblockQuery {
    /// True: all times of the series that this one belongs to. False unless given.
    #[serde(default)]
    series: bool,
}

/// Opens a closed time again, or its whole series.
#[utoipa::path(delete, path = "/v1/practitioners/{id}/blocks/{blockId}", tag = "calendar",
    params(("id" = Uuid, Path), ("blockId" = Uuid, Path), UnblockQuery),
    responses((status = 200, body = Envelope<BlocksView>)), security(("bearer" = [])))]
pub async fn delete(
    practices: web::Data<Practices>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
    Query(query): Query<UnblockQuery>,
) -> ApiResult<Reply> {
    let (id, block_id) = path.into_inner();
    Reply::ok(view(practices.unblock(&caller, id, block_id, query.series).await?)?)
}
