//! `/v1/reviews` and `/v1/practitioners/{id}/reviews`.

use std::collections::BTreeMap;

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, PageQuery};
use super::caller::Caller;
use super::cursor;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::query::Query;
use crate::models::Part;
use crate::models::reviews::Review;
use crate::services::reviews::{Opinion, Reviews};

/// Who wrote a review.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewerView {
    id: Uuid,
    first_name: String,
}

/// A review as everybody sees it. Nothing of it leads to its booking.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewView {
    id: Uuid,
    practitioner_id: Uuid,
    /// 1 to 5.
    rating: i32,
    comment: Option<String>,
    is_anonymous: bool,
    /// Null when it is anonymous.
    reviewer: Option<ReviewerView>,
    created_at: Timestamp,
    /// Later than `createdAt` when it was changed.
    updated_at: Timestamp,
}

impl From<Review> for ReviewView {
    fn from(r: Review) -> Self {
        let reviewer = ReviewerView { id: r.reviewer_id, first_name: r.reviewer_first_name };
        Self {
            id: r.id,
            practitioner_id: r.practitioner_id,
            rating: r.rating,
            comment: r.comment,
            is_anonymous: r.is_anonymous,
            reviewer: Some(reviewer).filter(|_| !r.is_anonymous),
            created_at: r.created_at,
            updated_at: r.updated_at,
        }
    }
}

/// A review as its author sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnReviewView {
    booking_id: Uuid,
    #[serde(flatten)]
    review: ReviewView,
}

impl From<Review> for OwnReviewView {
    fn from(r: Review) -> Self {
        Self { booking_id: r.booking_id, review: r.into() }
    }
}

/// What a seeker says of a session.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewReview {
    /// A completed booking of the caller.
    booking_id: Uuid,
    /// 1 to 5.
    rating: i32,
    /// At most 2,000 characters.
    comment: Option<String>,
    /// Whether nobody is told who wrote it. False unless given; it stays as it is.
    #[serde(default)]
    is_anonymous: bool,
}

/// Reviews a completed session, once.
#[utoipa::path(post, path = "/v1/reviews", tag = "reviews", request_body = NewReview,
    responses((status = 201, body = Envelope<OwnReviewView>)), security(("bearer" = [])))]
pub async fn create(reviews: web::Data<Reviews>, once: Once<NewReview>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let opinion = Opinion {
            booking_id: new.booking_id,
            rating: new.rating,
            comment: new.comment,
            is_anonymous: new.is_anonymous,
        };
        Reply::created(OwnReviewView::from(reviews.create(&caller, &opinion).await?))
    })
    .await
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OwnReviewsQuery {
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

/// The reviews that the caller wrote, newest first.
#[utoipa::path(get, path = "/v1/reviews", tag = "reviews", params(OwnReviewsQuery),
    responses((status = 200, body = Envelope<Vec<OwnReviewView>>)), security(("bearer" = [])))]
pub async fn own(
    reviews: web::Data<Reviews>,
    caller: Caller,
    Query(query): Query<OwnReviewsQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(query.page, query.limit).check()?;
    let (rows, total) = reviews.of_caller(&caller, page).await?;
    Reply::page(rows.into_iter().map(OwnReviewView::from).collect::<Vec<_>>(), page, total)
}

/// Changes to a review; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewBody {
    rating: Option<i32>,
    /// An empty one takes the comment away.
    comment: Option<String>,
}

/// Changes a review of the caller, within 30 days.
#[utoipa::path(put, path = "/v1/reviews/{id}", tag = "reviews", params(("id" = Uuid, Path)),
    request_body = ReviewBody, responses((status = 200, body = Envelope<OwnReviewView>)),
    security(("bearer" = [])))]
pub async fn update(
    reviews: web::Data<Reviews>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<ReviewBody>,
) -> ApiResult<Reply> {
    let row = reviews.update(&caller, *id, body.rating, body.comment).await?;
    Reply::ok(OwnReviewView::from(row))
}

/// Takes a review away: its author, or an administrator. The booking is not reviewed again.
#[utoipa::path(delete, path = "/v1/reviews/{id}", tag = "reviews", params(("id" = Uuid, Path)),
    responses((status = 200)), security(("bearer" = [])))]
pub async fn remove(
    reviews: web::Data<Reviews>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    reviews.remove(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Which part of a practice's reviews: a page, or what comes after a cursor.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReviewsQuery {
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
    /// The `nextCursor` of the part before; not together with `page`.
    cursor: Option<String>,
}

/// All reviews of a practice in numbers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewSummaryView {
    /// To two places, 0 when there are none.
    average: f64,
    count: i32,
    /// How many have each number of stars, from `1` to `5`.
    stars: BTreeMap<i32, i64>,
}

/// A part of a practice's reviews.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewsView {
    summary: ReviewSummaryView,
    reviews: Vec<ReviewView>,
    /// Leads to what comes after; null at the end.
    next_cursor: Option<String>,
}

/// What is said of a practice, newest first.
#[utoipa::path(get, path = "/v1/practitioners/{id}/reviews", tag = "reviews",
    params(("id" = Uuid, Path), ReviewsQuery),
    responses((status = 200, body = Envelope<ReviewsView>)))]
pub async fn list(
    reviews: web::Data<Reviews>,
    id: web::Path<Uuid>,
    Query(query): Query<ReviewsQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(query.page, query.limit).check()?;
    let part = cursor::part(query.cursor.as_deref(), query.page, page)?;
    let (practice, rows, counted) = reviews.of_practice(*id, part, page.limit).await?;
    let mut stars: BTreeMap<i32, i64> = (1..=5).map(|n| (n, 0)).collect();
    stars.extend(counted);
    let summary =
        ReviewSummaryView { average: practice.rating, count: practice.review_count, stars };
    let view = ReviewsView {
        summary,
        next_cursor: cursor::after(&rows, page.limit, |r| (r.created_at, r.id)),
        reviews: rows.into_iter().map(ReviewView::from).collect(),
    };
    match part {
        Part::Offset(_) => Reply::page(view, page, i64::from(practice.review_count)),
        Part::After(..) => Reply::ok(view),
    }
}
