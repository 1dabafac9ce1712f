//! `/v1/practitioners/{id}/external-calendars`: calendars elsewhere whose busy times count.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{self, Body, Nothing};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::{ApiError, ApiResult};
use super::idempotency::Once;
use super::query::{self, NoQuery};
use crate::domain::refusal::Refusal;
use crate::models::external_calendars::External;
use crate::services::external_calendars::ExternalCalendars;

/// Largest uploaded calendar, in bytes.
const MAX_FILE: usize = 1024 * 1024;
/// What an uploaded calendar is called unless it is told.
const NAMELESS: &str = "Calendar";

/// A calendar elsewhere. What happens there is not told: neither titles nor places are kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalCalendarView {
    id: Uuid,
    name: String,
    /// `address` or `file`.
    kind: &'static str,
    /// Where its address lies; the rest of it is a secret and is not shown.
    host: Option<String>,
    /// How many events keep the practitioner busy, repeated ones as often as they take place.
    events: i32,
    /// How many events made no sense; nothing is busy because of them.
    unreadable: i32,
    /// When it was read last.
    last_read_at: Option<Timestamp>,
    /// Since when it can not be read: the busy times are those of the last reading.
    stale_since: Option<Timestamp>,
    /// Why.
    last_error: Option<String>,
    created_at: Timestamp,
}

impl From<External> for ExternalCalendarView {
    fn from(e: External) -> Self {
        Self {
            id: e.id,
            name: e.name,
            kind: if e.host.is_some() { "address" } else { "file" },
            host: e.host,
            events: e.events,
            unreadable: e.unreadable,
            last_read_at: e.last_read_at,
            stale_since: e.stale_since,
            last_error: e.last_error,
            created_at: e.created_at,
        }
    }
}

/// The external calendars of a practice.
#[utoipa::path(get, path = "/v1/practitioners/{id}/external-calendars", tag = "calendar",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Envelope<Vec<ExternalCalendarView>>)),
    security(("bearer" = [])))]
pub async fn list(
    calendars: web::Data<ExternalCalendars>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let found = calendars.list(&caller, *id).await?;
    Reply::ok(found.into_iter().map(ExternalCalendarView::from).collect::<Vec<_>>())
}

/// An address to read a calendar from.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAddress {
    name: String,
    /// `https:` or `webcal:`, as calendar apps hand it out; at a public address.
    #[schema(example = "https://calendar.example.com/private/basic.ics")]
    url: String,
}

/// What an uploaded calendar is called.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FileQuery {
    /// Of an upload; the JSON body has its own.
    name: Option<String>,
}

/// What a calendar is added from.
pub enum Source {
    Address(NewAddress),
    File { name: Option<String>, text: String },
}

impl FromRequest for Once<Source> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(req, payload);
        let file = is_calendar(req);
        let limit = if file { MAX_FILE } else { body::LIMIT };
        let bytes = body::read_up_to(req, payload, limit);
        let req = req.clone();
        Box::pin(async move {
            let (caller, bytes) = (caller.await?, bytes.await?);
            let source = if file {
                let FileQuery { name } = query::parse(req.query_string())?;
                Source::File { name, text: text_of(&bytes) }
            } else if bytes.is_empty() || body::is_of_type(&req, body::JSON) {
                Source::Address(body::parse(&bytes)?)
            } else {
                let allowed = vec![body::JSON, CALENDAR];
                return Err(Refusal::UnsupportedMediaType { allowed }.into());
            };
            Self::of(&req, caller, &bytes, source)
        })
    }
}

/// RFC 5545 section 8.1.
const CALENDAR: &str = "text/calendar";

fn is_calendar(req: &HttpRequest) -> bool {
    body::is_of_type(req, CALENDAR)
}

/// iCalendar is UTF-8; what is not does not touch the times.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Somebody's calendar as a file.
pub struct Upload {
    caller: Caller,
    text: String,
}

impl FromRequest for Upload {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (caller, fits) = (Caller::from_request(req, payload), is_calendar(req));
        let bytes = body::read_up_to(req, payload, MAX_FILE);
        Box::pin(async move {
            let caller = caller.await?;
            if !fits {
                return Err(Refusal::UnsupportedMediaType { allowed: vec![CALENDAR] }.into());
            }
            Ok(Self { caller, text: text_of(&bytes.await?) })
        })
    }
}

/// Adds a calendar: one at an address, which is read every few minutes from now on, or a file.
#[utoipa::path(post, path = "/v1/practitioners/{id}/external-calendars", tag = "calendar",
    params(("id" = Uuid, Path), FileQuery),
    request_body(content((NewAddress = "application/json"), (String = "text/calendar"))),
    responses((status = 201, body = Envelope<ExternalCalendarView>)), security(("bearer" = [])))]
pub async fn add(
    calendars: web::Data<ExternalCalendars>,
    id: web::Path<Uuid>,
    once: Once<Source>,
) -> ApiResult<Reply> {
    once.run(|caller, source| async move {
        let added = match source {
            Source::Address(NewAddress { name, url }) => {
                calendars.add_address(&caller, *id, &name, &url).await?
            }
            Source::File { name, text } => {
                let name = name.as_deref().unwrap_or(NAMELESS);
                calendars.add_file(&caller, *id, name, text).await?
            }
        };
        Reply::created(ExternalCalendarView::from(added))
    })
    .await
}

/// Puts another file in the place of an uploaded calendar.
#[utoipa::path(put, path = "/v1/practitioners/{id}/external-calendars/{calendarId}",
    tag = "calendar", params(("id" = Uuid, Path), ("calendarId" = Uuid, Path)),
    request_body(content = String, content_type = "text/calendar"),
    responses((status = 200, body = Envelope<ExternalCalendarView>)), security(("bearer" = [])))]
pub async fn put(
    calendars: web::Data<ExternalCalendars>,
    path: web::Path<(Uuid, Uuid)>,
    Upload { caller, text }: Upload,
) -> ApiResult<Reply> {
    let (id, calendar_id) = path.into_inner();
    let put = calendars.replace_file(&caller, id, calendar_id, text).await?;
    Reply::ok(ExternalCalendarView::from(put))
}

/// Forgets a calendar; the times that it kept busy are free.
#[utoipa::path(delete, path = "/v1/practitioners/{id}/external-calendars/{calendarId}",
    tag = "calendar", params(("id" = Uuid, Path), ("calendarId" = Uuid, Path)),
    responses((status = 200)), security(("bearer" = [])))]
pub async fn remove(
    calendars: web::Data<ExternalCalendars>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
) -> ApiResult<Reply> {
    let (id, calendar_id) = path.into_inner();
    calendars.remove(&caller, id, calendar_id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Has a calendar read again soon; when that was done shows in the list.
#[utoipa::path(post, path = "/v1/practitioners/{id}/external-calendars/{calendarId}/refresh",
    tag = "calendar", params(("id" = Uuid, Path), ("calendarId" = Uuid, Path)),
    request_body = Nothing,
    responses((status = 200, body = Envelope<ExternalCalendarView>)), security(("bearer" = [])))]
pub async fn refresh(
    calendars: web::Data<ExternalCalendars>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    let (id, calendar_id) = path.into_inner();
    Reply::ok(ExternalCalendarView::from(calendars.refresh(&caller, id, calendar_id).await?))
}
