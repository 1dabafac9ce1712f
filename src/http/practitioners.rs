//! `/v1/practitioners`: practices and what they offer. Their calendars are in `calendars`.

use actix_web::{HttpRequest, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, PageQuery};
use super::bookings::if_match;
use super::caller::Caller;
use super::catalogue::Price;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::offer_rules::{
    DurationForm, HorizonForm, duration_forms, durations, horizon, short_form,
};
use super::query::{NoQuery, Query};
use crate::domain::cancellation::{Policy, Tier};
use crate::domain::refusal::Refusal;
use crate::domain::schedule::Schedule;
use crate::models::catalogue::Offer;
use crate::models::practitioners::{Filter, Practice};
use crate::services::practices::{PracticeInput, Practices};

/// A practice as everybody sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PracticeView {
    id: Uuid,
    user_id: Uuid,
    first_name: String,
    last_name: String,
    bio: Option<String>,
    experience_years: Option<i32>,
    hourly_rate: Option<Price>,
    languages: Vec<String>,
    specializations: Vec<String>,
    certifications: Value,
    verification_status: String,
    /// Mean of the reviews, 0 when there are none.
    rating: f64,
    /// How many reviews that is the mean of.
    review_count: i32,
    total_sessions: i32,
    /// IANA zone of the practice.
    time_zone: Value,
    /// Weekly hours, overrides and holidays, for people to read. To edit, take `…/schedule`: where
    /// the practitioner travels is not told here.
    #[schema(value_type = super::calendars::ScheduleBody)]
    availability: Value,
    /// What `PUT …/availability` takes as `version`.
    schedule_version: i64,
    version: i64,
    created_at: Timestamp,
}

impl From<Practice> for PracticeView {
    fn from(mut p: Practice) -> Self {
        if let Some(schedule) = p.availability.as_object_mut() {
            schedule.remove("travel");
        }
        let currency = p.currency;
        Self {
            id: p.id,
            user_id: p.user_id,
            first_name: p.first_name,
            last_name: p.last_name,
            bio: p.bio,
            experience_years: p.experience_years,
            hourly_rate: p.hourly_rate.map(|amount| Price { amount, currency }),
            languages: p.languages,
            specializations: p.specializations,
            certifications: p.certifications,
            verification_status: p.verification_status,
            rating: p.rating,
            review_count: p.review_count,
            total_sessions: p.total_sessions,
            time_zone: p.availability.get("timeZone").cloned().unwrap_or(Value::Null),
            availability: p.availability,
            schedule_version: p.schedule_version,
            version: p.version,
            created_at: p.created_at,
        }
    }
}

/// Which practices to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PracticeQuery {
    specialization: Option<String>,
    language: Option<String>,
    service_id: Option<Uuid>,
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

/// Practices, best rated first.
#[utoipa::path(get, path = "/v1/practitioners", tag = "practitioners", params(PracticeQuery),
    responses((status = 200, body = Envelope<Vec<PracticeView>>)))]
pub async fn list(
    practices: web::Data<Practices>,
    Query(query): Query<PracticeQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(query.page, query.limit).check()?;
    let filter = Filter {
        specialization: query.specialization,
        language: query.language,
        service_id: query.service_id,
    };
    let (rows, total) = practices.list(&filter, page).await?;
    Reply::page(rows.into_iter().map(PracticeView::from).collect::<Vec<_>>(), page, total)
}

/// One practice.
#[utoipa::path(get, path = "/v1/practitioners/{id}", tag = "practitioners",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<PracticeView>)))]
pub async fn show(
    practices: web::Data<Practices>,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let practice = practices.find(*id).await?;
    let version = practice.version;
    Ok(Reply::ok(PracticeView::from(practice))?.versioned(version))
}

/// The public face of a practice.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PracticeBody {
    bio: Option<String>,
    experience_years: Option<i32>,
    hourly_rate: Option<Price>,
    languages: Option<Vec<String>>,
    specializations: Option<Vec<String>>,
    certifications: Option<Vec<Value>>,
    /// With PUT: the version that was read. `If-Match` does the same.
    version: Option<i64>,
}

impl From<PracticeBody> for PracticeInput {
    fn from(body: PracticeBody) -> Self {
        let (hourly_rate, currency) =
            body.hourly_rate.map_or((None, None), |p| (Some(p.amount), Some(p.currency)));
        Self {
            bio: body.bio,
            experience_years: body.experience_years,
            hourly_rate,
            currency,
            languages: body.languages,
            specializations: body.specializations,
            certifications: body.certifications,
        }
    }
}

/// A new practice.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPractice {
    bio: Option<String>,
    experience_years: Option<i32>,
    hourly_rate: Option<Price>,
    languages: Option<Vec<String>>,
    specializations: Option<Vec<String>>,
    certifications: Option<Vec<Value>>,
    /// Zone, weekly hours and overrides.
    #[schema(value_type = super::calendars::ScheduleBody)]
    availability: Schedule,
}

/// Opens the caller's practice; practitioners only, one each.
#[utoipa::path(post, path = "/v1/practitioners", tag = "practitioners", request_body = NewPractice,
    responses((status = 201, body = Envelope<PracticeView>)), security(("bearer" = [])))]
pub async fn create(practices: web::Data<Practices>, once: Once<NewPractice>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let schedule = new.availability;
        let body = PracticeBody {
            bio: new.bio,
            experience_years: new.experience_years,
            hourly_rate: new.hourly_rate,
            languages: new.languages,
            specializations: new.specializations,
            certifications: new.certifications,
            version: None,
        };
        let practice = practices.create(&caller, &body.into(), &schedule).await?;
        Reply::created(PracticeView::from(practice))
    })
    .await
}

/// Changes a practice; what is left out stays.
#[utoipa::path(put, path = "/v1/practitioners/{id}", tag = "practitioners",
    params(("id" = Uuid, Path)), request_body = PracticeBody,
    responses((status = 200, body = Envelope<PracticeView>)), security(("bearer" = [])))]
pub async fn update(
    req: HttpRequest,
    practices: web::Data<Practices>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<PracticeBody>,
) -> ApiResult<Reply> {
    let expected = if_match(&req)?.or(body.version);
    let practice = practices.update(&caller, *id, expected, &body.into()).await?;
    let version = practice.version;
    Ok(Reply::ok(PracticeView::from(practice))?.versioned(version))
}

/// A service as a practice offers it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferView {
    service_id: Uuid,
    name: String,
    price: Price,
    duration_minutes: i32,
    buffer_before_minutes: i32,
    buffer_after_minutes: i32,
    increment_minutes: i32,
    min_notice_minutes: i32,
    horizon: Option<HorizonForm>,
    /// The days of a rolling horizon of calendar days.
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon_days: Option<u16>,
    slot_grid: String,
    instant_confirm: bool,
    capacity: i32,
    pending_blocks: bool,
    #[schema(value_type = Vec<Object>)]
    cancellation_policy: Value,
    other_durations: Vec<DurationForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_day: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_week: Option<i32>,
}

fn offer_view((offer, name): (Offer, String)) -> OfferView {
    let horizon = offer.horizon.read();
    OfferView {
        service_id: offer.service_id,
        name,
        other_durations: duration_forms(offer.other_durations, &offer.currency),
        price: Price { amount: offer.price, currency: offer.currency },
        duration_minutes: offer.duration_minutes,
        buffer_before_minutes: offer.buffer_before_minutes,
        buffer_after_minutes: offer.buffer_after_minutes,
        increment_minutes: offer.increment_minutes,
        min_notice_minutes: offer.min_notice_minutes,
        horizon: horizon.map(HorizonForm::from),
        horizon_days: horizon.and_then(short_form),
        slot_grid: offer.slot_grid,
        instant_confirm: offer.instant_confirm,
        capacity: offer.capacity,
        pending_blocks: offer.pending_blocks,
        cancellation_policy: offer.cancellation_policy,
        max_per_day: offer.max_per_day,
        max_per_week: offer.max_per_week,
    }
}

/// What a practice offers.
#[utoipa::path(get, path = "/v1/practitioners/{id}/services", tag = "practitioners",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<Vec<OfferView>>)))]
pub async fn offers(
    practices: web::Data<Practices>,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let offers = practices.offers(*id).await?;
    Reply::ok(offers.into_iter().map(offer_view).collect::<Vec<_>>())
}

/// How a practice offers a service.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfferBody {
    price: Price,
    /// 1 to 1440.
    duration_minutes: i32,
    /// Kept free before each session. 0 unless given.
    #[serde(default)]
    buffer_before_minutes: i32,
    /// Kept free after each session. 0 unless given.
    #[serde(default)]
    buffer_after_minutes: i32,
    /// Between two starts; the duration unless given.
    increment_minutes: Option<i32>,
    /// Between now and the earliest start. 0 unless given.
    #[serde(default)]
    min_notice_minutes: i32,
    /// How many days ahead can be booked, 1 to 730; short for a `rolling` horizon. 90 unless given.
    horizon_days: Option<i32>,
    /// How far ahead can be booked, in place of `horizonDays`.
    horizon: Option<HorizonForm>,
    /// Other lengths of the service, at most 10, all different.
    #[serde(default)]
    other_durations: Vec<DurationForm>,
    /// How many sessions of the service may begin in a day of the practitioner's zone, 1 to 1000.
    /// No limit unless given.
    max_per_day: Option<i32>,
    /// The same for an ISO week, from Monday.
    max_per_week: Option<i32>,
    /// `restart` (each free stretch begins its own grid; unless given) or `window`.
    slot_grid: Option<String>,
    /// Whether a booking needs no answer of the practitioner. False unless given.
    #[serde(default)]
    instant_confirm: bool,
    /// `active` (unless given) or `inactive`.
    status: Option<String>,
    /// Seats of one session, 1 to 500. 1 unless given: a session of its own.
    capacity: Option<i32>,
    /// Whether a request keeps its time from others until it is answered. True unless given.
    pending_blocks: Option<bool>,
    /// What comes back when the seeker cancels, earliest tier first: `{minutesBefore,
    /// refundPercent}`. 100 % up to a day before and 50 % up to four hours before unless given.
    #[schema(value_type = Option<Vec<Object>>)]
    cancellation_policy: Option<Vec<Tier>>,
}

fn policy(tiers: Option<Vec<Tier>>) -> ApiResult<Value> {
    let policy = tiers.map_or_else(|| Ok(Policy::usual()), Policy::new).map_err(|e| {
        let field = e.tier.map_or(String::new(), |tier| format!("[{tier}]"));
        Refusal::field(format!("cancellationPolicy{field}"), e.problem)
    })?;
    Ok(serde_json::to_value(policy).unwrap_or_default())
}

/// Adds a service to a practice, or changes how it is offered.
#[utoipa::path(put, path = "/v1/practitioners/{id}/services/{serviceId}", tag = "practitioners",
    params(("id" = Uuid, Path), ("serviceId" = Uuid, Path)), request_body = OfferBody,
    responses((status = 200, body = Envelope<Vec<OfferView>>)), security(("bearer" = [])))]
pub async fn put_offer(
    practices: web::Data<Practices>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
    Body(body): Body<OfferBody>,
) -> ApiResult<Reply> {
    let (practitioner_id, service_id) = path.into_inner();
    let offer = Offer {
        practitioner_id,
        service_id,
        horizon: horizon(body.horizon.as_ref(), body.horizon_days)?.into(),
        other_durations: durations(body.other_durations, &body.price.currency)?,
        max_per_day: body.max_per_day,
        max_per_week: body.max_per_week,
        price: body.price.amount,
        currency: body.price.currency,
        duration_minutes: body.duration_minutes,
        buffer_before_minutes: body.buffer_before_minutes,
        buffer_after_minutes: body.buffer_after_minutes,
        increment_minutes: body.increment_minutes.unwrap_or(body.duration_minutes),
        min_notice_minutes: body.min_notice_minutes,
        slot_grid: body.slot_grid.unwrap_or_else(|| "restart".to_owned()),
        instant_confirm: body.instant_confirm,
        status: body.status.unwrap_or_else(|| "active".to_owned()),
        capacity: body.capacity.unwrap_or(1),
        pending_blocks: body.pending_blocks.unwrap_or(true),
        cancellation_policy: policy(body.cancellation_policy)?,
    };
    practices.put_offer(&caller, &offer).await?;
    let offers = practices.offers(practitioner_id).await?;
    Reply::ok(offers.into_iter().map(offer_view).collect::<Vec<_>>())
}
