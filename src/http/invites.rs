//! Bookings as iCalendar: the invite to one, and the secret addresses that calendar apps read.

use actix_web::http::header::{self, ContentDisposition};
use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, Nothing};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::{NoQuery, Query};
use crate::domain::refusal::Refusal;
use crate::services::invites::Invites;

/// The invite to a booking, or its cancellation (RFC 5546); for both sides.
#[utoipa::path(get, path = "/v1/bookings/{id}/invite.ics", tag = "bookings",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = String, content_type = "text/calendar")),
    security(("bearer" = [])))]
pub async fn invite(
    invites: web::Data<Invites>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<HttpResponse> {
    let invite = invites.invite(&caller, *id).await?;
    Ok(HttpResponse::Ok()
        .content_type(format!("text/calendar; method={}; charset=utf-8", invite.method))
        .insert_header(ContentDisposition::attachment("invite.ics"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(invite.text))
}

/// The secret of a feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// What `POST …/calendar-feed` answered. Other parameters are not looked at: services that read
    /// calendars add some of their own.
    token: Option<String>,
}

impl TokenQuery {
    fn secret(self) -> Result<SecretString, Refusal> {
        self.token.map(SecretString::from).ok_or(Refusal::NotFound("calendar feed"))
    }
}

/// The bookings of a practice, to whoever has the token; no login is needed.
#[utoipa::path(get, path = "/v1/practitioners/{id}/calendar.ics", tag = "calendar",
    params(("id" = Uuid, Path), TokenQuery),
    responses((status = 200, body = String, content_type = "text/calendar"), (status = 304)))]
pub async fn practice(
    req: HttpRequest,
    invites: web::Data<Invites>,
    id: web::Path<Uuid>,
    Query(query): Query<TokenQuery>,
) -> ApiResult<HttpResponse> {
    let text = invites.practice_feed(*id, &query.secret()?).await?;
    Ok(feed(&req, text))
}

/// The bookings of a seeker, to whoever has the token; no login is needed.
#[utoipa::path(get, path = "/v1/users/calendar.ics", tag = "users", params(TokenQuery),
    responses((status = 200, body = String, content_type = "text/calendar"), (status = 304)))]
pub async fn own(
    req: HttpRequest,
    invites: web::Data<Invites>,
    Query(query): Query<TokenQuery>,
) -> ApiResult<HttpResponse> {
    let text = invites.own_feed(&query.secret()?).await?;
    Ok(feed(&req, text))
}

/// A feed, or that it is what the client has (RFC 9110 §13.1.2).
fn feed(req: &HttpRequest, text: String) -> HttpResponse {
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{digest}\"");
    let known = req.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let is_known = known.is_some_and(|list| has_tag(list, &etag));
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"));
    if is_known {
        return answer.finish();
    }
    answer.content_type("text/calendar; method=PUBLISH; charset=utf-8").body(text)
}

/// Whether an `If-None-Match` names `etag` (RFC 9110 §13.1.2).
pub(super) fn has_tag(list: &str, etag: &str) -> bool {
    let mut tags = list.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == etag || tag == "*")
}

/// A new secret address.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedView {
    /// Shown this once: only its hash is kept.
    token: String,
    /// What calendar apps subscribe to, below the hub's origin.
    path: String,
}

/// Makes the secret address of a practice's bookings. If there is one, it ends.
#[utoipa::path(post, path = "/v1/practitioners/{id}/calendar-feed", tag = "calendar",
    params(("id" = Uuid, Path)), request_body = Nothing,
    responses((status = 201, body = Envelope<FeedView>)), security(("bearer" = [])))]
pub async fn open_practice(
    invites: web::Data<Invites>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    let token = invites.open_practice_feed(&caller, *id).await?;
    opened(&format!("/v1/practitioners/{id}/calendar.ics"), &token)
}

/// Ends the secret address of a practice's bookings.
#[utoipa::path(delete, path = "/v1/practitioners/{id}/calendar-feed", tag = "calendar",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn close_practice(
    invites: web::Data<Invites>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    invites.close_practice_feed(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Makes the secret address of the caller's own bookings. If there is one, it ends.
#[utoipa::path(post, path = "/v1/users/calendar-feed", tag = "users", request_body = Nothing,
    responses((status = 201, body = Envelope<FeedView>)), security(("bearer" = [])))]
pub async fn open_own(
    invites: web::Data<Invites>,
    caller: Caller,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    let token = invites.open_own_feed(&caller).await?;
    opened("/v1/users/calendar.ics", &token)
}

/// Ends the secret address of the caller's own bookings.
#[utoipa::path(delete, path = "/v1/users/calendar-feed", tag = "users",
    responses((status = 200)), security(("bearer" = [])))]
pub async fn close_own(invites: web::Data<Invites>, caller: Caller) -> ApiResult<Reply> {
    invites.close_own_feed(&caller).await?;
    Reply::ok(serde_json::json!({}))
}

/// Not kept for an `Idempotency-Key`: that would store the token. Asked twice there are two tokens,
/// of which the second is good.
fn opened(path: &str, token: &SecretString) -> ApiResult<Reply> {
    let token = token.expose_secret().to_owned();
    let path = format!("{path}?token={token}");
    Reply::created(FeedView { token, path })
}
