//! `PUT /v1/bookings/{id}` and `/v1/bookings/series`: bookings that change, and that repeat.

use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Body;
use super::bookings::{if_match, reply};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::instant::Instant;
use crate::domain::refusal::Refusal;
use crate::models::bookings::{Booking, BookingView};
use crate::services::bookings::{Bookings, Wish};

/// What is to change of a booking: its time, or the seeker's words.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BookingChange {
    /// Another time: the booking is moved there.
    starts_at: Option<Instant>,
    /// Why it is moved.
    reason: Option<String>,
    /// The seeker's words to the practitioner, anew; only without `startsAt`.
    notes: Option<String>,
    /// The version that was read. `If-Match` does the same.
    version: Option<i64>,
}

/// Moves a booking to another time, or changes the seeker's words.
///
/// A move makes a new booking, which is the answer and names the old one in `rescheduledFrom`; the
/// old one ends as `rescheduled`. If the new time can not be booked, nothing changes.
#[utoipa::path(put, path = "/v1/bookings/{id}", tag = "bookings",
    params(("id" = Uuid, Path)), request_body = BookingChange,
    responses((status = 200, body = Envelope<BookingView>)), security(("bearer" = [])))]
pub async fn change(
    req: HttpRequest,
    bookings: web::Data<Bookings>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<BookingChange>,
) -> ApiResult<Reply> {
    let version = if_match(&req)?.or(body.version);
    let booking = match body {
        BookingChange { starts_at: Some(start), reason, notes: None, .. } => {
            bookings.reschedule(&caller, *id, start.0, reason, version).await?
        }
        BookingChange { starts_at: Some(_), .. } => {
            return Err(Refusal::field("notes", "are changed apart from startsAt").into());
        }
        BookingChange { reason: Some(_), .. } => {
            return Err(Refusal::field("reason", "belongs to a new startsAt").into());
        }
        BookingChange { notes: Some(notes), .. } => {
            bookings.edit(&caller, *id, Some(notes), version).await?
        }
        BookingChange { .. } => {
            return Err(Refusal::field("startsAt", "is needed when there are no notes").into());
        }
    };
    reply(&booking, &caller)
}

/// The same slot week after week.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSeries {
    practitioner_id: Uuid,
    service_id: Uuid,
    /// The first of them.
    starts_at: Instant,
    /// One of the lengths that the service is offered in; its own unless given.
    duration_minutes: Option<i32>,
    /// How many in all, 2 to 52.
    count: u16,
    /// Weeks from one to the next, 1 to 8; 1 unless given.
    every_weeks: Option<u16>,
    /// The seeker's words to the practitioner.
    notes: Option<String>,
    /// How many come, where several may; 1 unless given.
    seats: Option<u16>,
}

/// The bookings of a series.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeriesView {
    series_id: Option<Uuid>,
    bookings: Vec<BookingView>,
}

/// Books a slot week after week, at the same time by the practitioner's clock: all of them, or none
/// with the times that clash in the details of `series_clash`.
#[utoipa::path(post, path = "/v1/bookings/series", tag = "bookings", request_body = NewSeries,
    responses((status = 201, body = Envelope<SeriesView>)), security(("bearer" = [])))]
pub async fn series(bookings: web::Data<Bookings>, once: Once<NewSeries>) -> ApiResult<Reply> {
    let again = bookings.clone();
    once.run_traced(
        |caller, new, key| async move {
            let wish = Wish {
                practitioner_id: new.practitioner_id,
                service_id: new.service_id,
                starts_at: new.starts_at.0,
                minutes: new.duration_minutes,
                notes: new.notes,
                seats: new.seats.unwrap_or(1),
                key,
            };
            let (count, every) = (new.count, new.every_weeks.unwrap_or(1));
            made(&bookings.book_series(&caller, wish, count, every).await?, &caller)
        },
        async move |caller, key| {
            let bookings = again.made(&caller, key, "book").await?;
            (!bookings.is_empty()).then(|| made(&bookings, &caller)).transpose()
        },
    )
    .await
}

fn made(bookings: &[Booking], caller: &Caller) -> ApiResult<Reply> {
    let series_id = bookings.first().and_then(|booking| booking.series_id);
    let bookings = bookings.iter().map(|booking| booking.view(caller.user_id)).collect();
    Reply::created(SeriesView { series_id, bookings })
}
