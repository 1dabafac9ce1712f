//! `/v1/bookings/{id}/start`, `end`, `no-show`: what the practitioner does at the hour.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Body;
use super::bookings::{StepBody, step};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use crate::domain::booking::Step;
use crate::models::bookings::BookingView;
use crate::services::bookings::Bookings;

/// The session begins, at most 15 minutes before its time.
#[utoipa::path(post, path = "/v1/bookings/{id}/start", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = StepBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn start(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<StepBody>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::Start, body).await
}

/// What the practitioner writes down at the end.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndBody {
    /// For the practitioner alone.
    notes: Option<String>,
    /// The version that was read. `If-Match` does the same.
    version: Option<i64>,
}

/// The session is over: it counts as completed.
#[utoipa::path(post, path = "/v1/bookings/{id}/end", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = EndBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn end(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<EndBody>,
) -> ApiResult<Reply> {
    let body = StepBody { reason: body.notes, version: body.version };
    step(&req, &bookings, &caller, *id, Step::End, body).await
}

/// The seeker did not come; not before the session's time.
#[utoipa::path(post, path = "/v1/bookings/{id}/no-show", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = StepBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn no_show(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<StepBody>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::NoShow, body).await
}
