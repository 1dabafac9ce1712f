//! `/v1/practitioners/{id}/availability` and `/schedule`: slots and hours.

use actix_web::{HttpRequest, web};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::Body;
use super::bookings::if_match;
use super::caller::{Caller, MaybeCaller};
use super::envelope::{Envelope, Reply};
use super::error::{ApiError, ApiResult};
use super::instant::Instant;
use super::query::{NoQuery, Query};
use crate::domain::holidays::HolidayChoice;
use crate::domain::limits::ScheduleLimits;
use crate::domain::refusal::Refusal;
use crate::domain::schedule::{DateOverride, Schedule, WeeklyRange};
use crate::domain::time::{
    Interval, canonical_zone, date_after, parse_zone, shifted, start_of_date,
};
use crate::domain::travel::Stay;
use crate::services::practices::Practices;

/// Which slots.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SlotsQuery {
    pub service_id: Uuid,
    /// One of the lengths that the service is offered in; its own unless given.
    pub duration_minutes: Option<i32>,
    /// An instant, or a date in `timeZone`.
    pub from: String,
    /// An instant, or a date in `timeZone` that is included.
    pub to: String,
    /// IANA zone of dates and of `localStart`; UTC unless given. The slots do not depend on it.
    pub time_zone: Option<String>,
    /// How many want to come, 1 unless given.
    pub seats: Option<u16>,
}

/// The slots of a service.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotsView {
    /// Version of the calendar that the slots were computed from.
    version: i64,
    duration_minutes: i32,
    slots: Vec<SlotView>,
}

/// A time that can be booked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotView {
    start: Timestamp,
    end: Timestamp,
    /// The start in the zone that was asked for, with its offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_start: Option<String>,
    /// For a service that several may come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    seats_left: Option<u32>,
}

/// The slots of a service that can be booked, of sessions that lie between `from` and `to`.
#[utoipa::path(get, path = "/v1/practitioners/{id}/availability", tag = "calendar",
    params(("id" = Uuid, Path), SlotsQuery),
    responses((status = 200, body = Envelope<SlotsView>)))]
pub async fn slots(
    practices: web::Data<Practices>,
    caller: MaybeCaller,
    id: web::Path<Uuid>,
    Query(query): Query<SlotsQuery>,
) -> ApiResult<Reply> {
    let asker = caller.0.map(|c| c.user_id);
    Reply::ok(find_slots(&practices, *id, &query, asker).await?)
}

/// The same for the socket.
pub async fn find_slots(
    practices: &Practices,
    id: Uuid,
    query: &SlotsQuery,
    asker: Option<Uuid>,
) -> ApiResult<SlotsView> {
    let zone = zone(query.time_zone.as_deref())?;
    let dates_in = zone.clone().unwrap_or(TimeZone::UTC);
    let from = bound("from", &query.from, &dates_in, false)?;
    let to = bound("to", &query.to, &dates_in, true)?;
    let range = Interval::new(from, to)
        .ok()
        .filter(|range| !range.is_empty())
        .ok_or_else(|| Refusal::field("to", "must be after from"))?;
    let (minutes, seats) = (query.duration_minutes, query.seats.unwrap_or(1));
    let found = practices.slots(id, query.service_id, minutes, range, asker, seats).await?;
    let left = found.seats_left.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
    let slots = found.starts.into_iter().zip(left);
    Ok(SlotsView {
        version: found.version,
        duration_minutes: found.duration_minutes,
        slots: slots
            .map(|(start, seats_left)| SlotView {
                seats_left,
                ..SlotView::new(start, found.duration_minutes, zone.as_ref())
            })
            .collect(),
    })
}

impl SlotView {
    /// The slot from `start` of so many minutes, as a viewer in `zone` sees it.
    pub(super) fn new(start: Timestamp, minutes: i32, zone: Option<&TimeZone>) -> Self {
        let local = |zone: &TimeZone| {
            let local = start.to_zoned(zone.clone());
            format!("{}{}", local.datetime(), local.strftime("%:z"))
        };
        let end = shifted(start, SignedDuration::from_mins(minutes.into()));
        Self { start, end, local_start: zone.map(local), seats_left: None }
    }
}

/// The zone that `timeZone` names.
pub(super) fn zone(name: Option<&str>) -> Result<Option<TimeZone>, Refusal> {
    let problem = "must be an IANA time zone such as Asia/Kolkata";
    let read = |name| parse_zone(name).map_err(|_| Refusal::field("timeZone", problem));
    name.map(read).transpose()
}

/// An instant, or the start (or end) of a date.
pub(super) fn bound(
    field: &str,
    text: &str,
    zone: &TimeZone,
    end: bool,
) -> Result<Timestamp, ApiError> {
    if let Ok(Instant(instant)) = text.parse() {
        return Ok(instant);
    }
    let date: Option<Date> = text.parse().ok().filter(|_| text.len() == 10);
    let date = date.ok_or_else(|| {
        Refusal::field(
            field,
            "must be an instant such as 2027-03-01T09:30:00Z, or a date such as 2027-03-01",
        )
    })?;
    Ok(start_of_date(if end { date_after(date, 1) } else { date }, zone))
}

/// Weekly hours, overrides and zone.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleBody {
    /// IANA name.
    #[schema(example = "Asia/Kolkata")]
    time_zone: String,
    /// `{weekday, start, end}`: ISO weekday 1 to 7, `HH:MM`, the end up to `24:00`.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    weekly: Vec<WeeklyRange>,
    /// `{date, windows: [{start, end}]}`: replaces the weekly hours of that date.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    overrides: Vec<DateOverride>,
    /// `{from, to, timeZone}`: on these dates, both included, hours are read in that zone.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    travel: Vec<Stay>,
    /// `{country, region?, except: [date]}`: closed on the public holidays there (`/v1/holidays`)
    /// but for those in `except` and dates with an override.
    #[schema(value_type = Option<Object>)]
    holidays: Option<HolidayChoice>,
    /// `{perDay?, perWeek?}`: at most so many sessions of all services may begin in a day or an ISO
    /// week of the zone, 1 to 1000.
    #[schema(value_type = Option<Object>)]
    limits: Option<ScheduleLimits>,
    /// The schedule's version that was read. `If-Match` does the same.
    version: Option<i64>,
}

/// The hours that were put, as they are kept.
#[derive(Serialize, ToSchema)]
pub struct PutScheduleView {
    version: i64,
    #[schema(value_type = Object)]
    availability: Schedule,
}

/// Replaces the hours of a practice.
#[utoipa::path(put, path = "/v1/practitioners/{id}/availability", tag = "calendar",
    params(("id" = Uuid, Path)), request_body = ScheduleBody,
    responses((status = 200, body = Envelope<PutScheduleView>)), security(("bearer" = [])))]
pub async fn put_schedule(
    req: HttpRequest,
    practices: web::Data<Practices>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<ScheduleBody>,
) -> ApiResult<Reply> {
    let expected = if_match(&req)?.or(body.version);
    let schedule = Schedule {
        time_zone: canonical_zone(body.time_zone),
        weekly: body.weekly,
        overrides: body.overrides,
        travel: body.travel,
        holidays: body.holidays,
        limits: body.limits.unwrap_or_default(),
    };
    let version = practices.put_schedule(&caller, *id, expected, &schedule).await?;
    let view = PutScheduleView { version, availability: schedule };
    Ok(Reply::ok(view)?.versioned(version))
}

/// The hours of a practice, in the form that `PUT …/availability` takes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    #[schema(example = "Asia/Kolkata")]
    time_zone: String,
    #[schema(value_type = Vec<Object>)]
    weekly: Vec<WeeklyRange>,
    #[schema(value_type = Vec<Object>)]
    overrides: Vec<DateOverride>,
    #[schema(value_type = Vec<Object>)]
    travel: Vec<Stay>,
    #[schema(value_type = Option<Object>)]
    holidays: Option<HolidayChoice>,
    #[schema(value_type = Object)]
    limits: ScheduleLimits,
    version: i64,
}

/// The hours of a practice to edit and put back: its owner and administrators see them whole.
#[utoipa::path(get, path = "/v1/practitioners/{id}/schedule", tag = "calendar",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<ScheduleView>)),
    security(("bearer" = [])))]
pub async fn show_schedule(
    practices: web::Data<Practices>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let (schedule, version) = practices.schedule(&caller, *id).await?;
    let view = ScheduleView {
        time_zone: schedule.time_zone,
        weekly: schedule.weekly,
        overrides: schedule.overrides,
        travel: schedule.travel,
        holidays: schedule.holidays,
        limits: schedule.limits,
        version,
    };
    Ok(Reply::ok(view)?.versioned(version))
}
