//! `/v1/holds` and `/v1/bookings`.

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, Nothing, PageQuery};
use super::caller::Caller;
use super::cursor;
use super::envelope::{Envelope, Pagination, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::instant::Instant;
use super::query::{NoQuery, Query};
use crate::domain::booking::Step;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::models::booking_lists::ListFilter;
use crate::models::bookings::{Booking, BookingEvent, BookingView, HoldView};
use crate::services::auth;
use crate::services::bookings::{Bookings, Wish};

/// The version that `If-Match` names, if it is there.
pub fn if_match(req: &HttpRequest) -> ApiResult<Option<i64>> {
    let Some(value) = req.headers().get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.trim_start_matches("W/").trim_matches('"').parse().ok();
    let problem = "must be the ETag of the thing";
    Ok(Some(version.ok_or_else(|| Refusal::field("If-Match", problem))?))
}

/// A slot to hold.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewHold {
    practitioner_id: Uuid,
    service_id: Uuid,
    starts_at: Instant,
    /// How many come, where several may; 1 unless given.
    seats: Option<u16>,
    /// One of the lengths that the service is offered in; its own unless given.
    duration_minutes: Option<i32>,
}

impl NewHold {
    /// Carries it out, for REST and the socket alike.
    pub async fn create(
        self,
        bookings: &Bookings,
        caller: &auth::Caller,
        key: Option<Uuid>,
    ) -> Result<HoldView> {
        let wish = Wish {
            practitioner_id: self.practitioner_id,
            service_id: self.service_id,
            starts_at: self.starts_at.0,
            minutes: self.duration_minutes,
            notes: None,
            seats: self.seats.unwrap_or(1),
            key,
        };
        Ok(bookings.hold(caller, wish).await?.hold_view())
    }
}

/// Holds a slot for some minutes; it can be booked by its owner alone.
#[utoipa::path(post, path = "/v1/holds", tag = "bookings", request_body = NewHold,
    responses((status = 201, body = Envelope<HoldView>)), security(("bearer" = [])))]
pub async fn hold(bookings: web::Data<Bookings>, once: Once<NewHold>) -> ApiResult<Reply> {
    let again = bookings.clone();
    once.run_traced(
        |caller, new, key| async move {
            Reply::created(new.create(&bookings, &caller, key).await?)
        },
        async move |caller, key| {
            let made = again.made(&caller, key, "hold").await?.pop();
            made.map(|hold| Reply::created(hold.hold_view())).transpose()
        },
    )
    .await
}

/// The caller's holds that stand, by their time.
#[utoipa::path(get, path = "/v1/holds", tag = "bookings",
    responses((status = 200, body = Envelope<Vec<HoldView>>)), security(("bearer" = [])))]
pub async fn holds(
    bookings: web::Data<Bookings>,
    caller: Caller,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let held = bookings.holds(&caller).await?;
    Reply::ok(held.iter().map(Booking::hold_view).collect::<Vec<_>>())
}

/// Gives a hold back.
#[utoipa::path(delete, path = "/v1/holds/{id}", tag = "bookings",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn release(
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    bookings.release(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Keeps a hold longer, once; it never lasts more than 15 minutes in all.
#[utoipa::path(post, path = "/v1/holds/{id}/extend", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = Nothing,
    responses((status = 200, body = Envelope<HoldView>)), security(("bearer" = [])))]
pub async fn extend(
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    Reply::ok(bookings.extend(&caller, *id).await?.hold_view())
}

/// A booking: from a hold, or of a slot directly.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBooking {
    /// The caller's hold; then nothing else but `notes` is needed.
    hold_id: Option<Uuid>,
    practitioner_id: Option<Uuid>,
    service_id: Option<Uuid>,
    starts_at: Option<Instant>,
    /// One of the lengths that the service is offered in; its own unless given.
    duration_minutes: Option<i32>,
    /// The seeker's words to the practitioner.
    notes: Option<String>,
    /// How many come, where several may; 1 unless given. A hold says it itself.
    seats: Option<u16>,
}

impl NewBooking {
    /// Carries it out, for REST and the socket alike.
    pub async fn create(
        self,
        bookings: &Bookings,
        caller: &auth::Caller,
        key: Option<Uuid>,
    ) -> Result<Booking> {
        match self {
            Self {
                hold_id: Some(id),
                practitioner_id: None,
                service_id: None,
                starts_at: None,
                duration_minutes: None,
                seats: None,
                notes,
            } => bookings.book_hold(caller, id, notes, key).await,
            Self { hold_id: Some(_), .. } => {
                let problem = "comes alone: the hold says all but the notes";
                Err(Refusal::field("holdId", problem).into())
            }
            Self {
                practitioner_id, service_id, starts_at, duration_minutes, notes, seats, ..
            } => {
                let needed = |field| Refusal::field(field, "is needed when there is no holdId");
                let wish = Wish {
                    practitioner_id: practitioner_id.ok_or_else(|| needed("practitionerId"))?,
                    service_id: service_id.ok_or_else(|| needed("serviceId"))?,
                    starts_at: starts_at.ok_or_else(|| needed("startsAt"))?.0,
                    minutes: duration_minutes,
                    notes,
                    seats: seats.unwrap_or(1),
                    key,
                };
                bookings.book(caller, wish).await
            }
        }
    }
}

pub(super) fn reply(booking: &Booking, caller: &auth::Caller) -> ApiResult<Reply> {
    Ok(Reply::ok(booking.view(caller.user_id))?.versioned(booking.version))
}

fn created(booking: &Booking, caller: &auth::Caller) -> ApiResult<Reply> {
    Ok(Reply::created(booking.view(caller.user_id))?.versioned(booking.version))
}

/// Books a slot.
#[utoipa::path(post, path = "/v1/bookings", tag = "bookings", request_body = NewBooking,
    responses((status = 201, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn create(bookings: web::Data<Bookings>, once: Once<NewBooking>) -> ApiResult<Reply> {
    let again = bookings.clone();
    once.run_traced(
        |caller, new, key| async move {
            created(&new.create(&bookings, &caller, key).await?, &caller)
        },
        async move |caller, key| {
            let made = again.made(&caller, key, "book").await?.pop();
            made.map(|booking| created(&booking, &caller)).transpose()
        },
    )
    .await
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    Asc,
    Desc,
}

/// Which bookings to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BookingsQuery {
    /// Only in this state.
    status: Option<String>,
    /// Only of this series.
    series_id: Option<Uuid>,
    /// Only sessions that begin at this instant or later.
    from: Option<Instant>,
    /// Only sessions that begin before this instant.
    to: Option<Instant>,
    /// `desc` (unless given): the latest session first; `asc`: the earliest.
    #[param(inline)]
    order: Option<Order>,
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
    /// `meta.pagination.nextCursor` of the part before; not together with `page`.
    cursor: Option<String>,
}

/// The caller's bookings on either side; administrators see all.
#[utoipa::path(get, path = "/v1/bookings", tag = "bookings", params(BookingsQuery),
    responses((status = 200, body = Envelope<Vec<BookingView>>)), security(("bearer" = [])))]
pub async fn list(
    bookings: web::Data<Bookings>,
    caller: Caller,
    Query(query): Query<BookingsQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(query.page, query.limit).check()?;
    let part = cursor::part(query.cursor.as_deref(), query.page, page)?;
    let filter = ListFilter {
        of_user: None,
        status: query.status,
        series_id: query.series_id,
        from: query.from.map(|instant| instant.0),
        to: query.to.map(|instant| instant.0),
        ascending: query.order == Some(Order::Asc),
    };
    let (views, total) = bookings.list(&caller, filter, part, page.limit).await?;
    let next = cursor::after(&views, page.limit, |view| (view.scheduled_at, view.id));
    Reply::part(views, Pagination::part(page, total, next))
}

/// One booking of the caller.
#[utoipa::path(get, path = "/v1/bookings/{id}", tag = "bookings",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<BookingView>)),
    security(("bearer" = [])))]
pub async fn show(
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let view = bookings.view(&caller, *id).await?;
    let version = view.version;
    Ok(Reply::ok(view)?.versioned(version))
}

/// The audit trail of a booking: who did what, when and why.
#[utoipa::path(get, path = "/v1/bookings/{id}/events", tag = "bookings",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<Vec<BookingEvent>>)),
    security(("bearer" = [])))]
pub async fn events(
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    Reply::ok(bookings.events(&caller, *id).await?)
}

/// Why, and of which version.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepBody {
    pub(super) reason: Option<String>,
    /// The version that was read. `If-Match` does the same.
    pub(super) version: Option<i64>,
}

pub(super) async fn step(
    req: &HttpRequest,
    bookings: &Bookings,
    caller: &Caller,
    id: Uuid,
    step: Step,
    body: StepBody,
) -> ApiResult<Reply> {
    let expected = if_match(req)?.or(body.version);
    let booking = bookings.take_step(caller, id, step, body.reason, expected).await?;
    reply(&booking, caller)
}

/// The practitioner agrees.
#[utoipa::path(post, path = "/v1/bookings/{id}/confirm", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = StepBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn confirm(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<StepBody>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::Confirm, body).await
}

/// The practitioner refuses.
#[utoipa::path(post, path = "/v1/bookings/{id}/decline", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = StepBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn decline(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<StepBody>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::Decline, body).await
}

/// Either side calls it off.
#[utoipa::path(post, path = "/v1/bookings/{id}/cancel", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = StepBody,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn cancel(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<StepBody>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::Cancel, body).await
}

/// The same as `cancel` without a reason.
#[utoipa::path(delete, path = "/v1/bookings/{id}", tag = "bookings",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<BookingView>)),
    security(("bearer" = [])))]
pub async fn delete(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    step(&req, &bookings, &caller, *id, Step::Cancel, StepBody::default()).await
}
