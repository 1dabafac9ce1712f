//! What happens to every request before and after its handler: id, version, envelope of errors,
//! one line in the log.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use futures_util::FutureExt;
use uuid::Uuid;

use super::caller::LoggedUser;
use super::envelope::{RequestId, failure};
use super::error::ApiError;
use crate::counters;
use crate::domain::refusal::Refusal;
use crate::error::Error;

/// The id of a request, by its client or by the hub.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The first middleware that a request of a route meets. Around it is only what reads `Origin`: a
/// preflight is answered there, with no id and no line in the log, so that whatever is answered here,
/// refusals and panics too, has the headers without which a page may not read it.
pub async fn front(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let id = incoming_id(&req).unwrap_or_else(|| Uuid::now_v7().to_string());
    req.extensions_mut().insert(RequestId(id.clone()));
    let method = req.method().clone();
    if method == Method::HEAD {
        // Answered like GET; the server leaves the body out.
        req.head_mut().method = Method::GET;
    }
    let mut response = if let Err(refusal) = negotiate_version(&mut req) {
        req.into_response(failure(&refusal.into(), &id))
    } else {
        // The router needs the request for itself: no clone of it may be kept here.
        match AssertUnwindSafe(next.call(req)).catch_unwind().await {
            Ok(handled) => finish(handled?.map_into_boxed_body(), &id),
            Err(_) => return Err(Panicked(id).into()),
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    log(&response, &method, &id, started);
    Ok(response)
}

/// A handler panicked: the client hears no more of it than of any fault.
#[derive(Debug)]
struct Panicked(String);

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a handler panicked")
    }
}

impl ResponseError for Panicked {
    fn error_response(&self) -> HttpResponse {
        tracing::error!(requestId = self.0, "a handler panicked");
        failure(&Error::Fault(String::new()), &self.0)
    }
}

/// The client's own id, if it is one that can stand in a log line.
fn incoming_id(req: &ServiceRequest) -> Option<String> {
    let id = req.headers().get(X_REQUEST_ID)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    ((1..=100).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// The version is in the path; it can also be asked for by `Accept` or `?version=`, and then a
/// path without one is taken to mean it.
fn negotiate_version(req: &mut ServiceRequest) -> Result<(), Refusal> {
    let accept = req.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let by_accept = accept.and_then(|accept| {
        let (_, rest) = accept.split_once("application/vnd.klearkarma.v")?;
        Some(rest.split_once("+json").map_or("", |(version, _)| version).to_owned())
    });
    let mut others = Vec::new();
    let mut by_query = None;
    for pair in req.query_string().split('&').filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("version", version)) => by_query = Some(version.to_owned()),
            _ => others.push(pair.to_owned()),
        }
    }
    let asked = by_accept.iter().chain(&by_query);
    if asked.clone().any(|version| version != "1") {
        return Err(Refusal::UnsupportedVersion);
    }
    if asked.count() == 0 {
        return Ok(());
    }
    let path = req.path();
    let operations = ["/v1", "/docs", "/healthz", "/readyz", "/openapi.json"];
    let is_below = |root: &&str| path == *root || path.starts_with(&format!("{root}/"));
    let prefix = if operations.iter().any(is_below) { "" } else { "/v1" };
    let query = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    let uri: Uri = format!("{prefix}{path}{query}").parse().map_err(|_| Refusal::NoSuchRoute)?;
    req.match_info_mut().get_mut().update(&uri);
    req.head_mut().uri = uri;
    Ok(())
}

/// Puts errors into the envelope: our own, those of actix's extractors, and its empty 405.
fn finish(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let error = match response.response().error() {
        Some(e) => {
            log_fault(e, id);
            refused(e, status)
        }
        None if status == StatusCode::METHOD_NOT_ALLOWED && is_empty(&response) => {
            Refusal::MethodNotAllowed.into()
        }
        None => return response,
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    let request: HttpRequest = response.request().clone();
    let mut answer = failure(&error, id);
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, with_head(allow));
    }
    ServiceResponse::new(request, answer)
}

/// What is read by GET is read by HEAD.
fn with_head(allow: HeaderValue) -> HeaderValue {
    let listed = allow.to_str().unwrap_or_default();
    if !listed.split(", ").any(|method| method == "GET") {
        return allow;
    }
    HeaderValue::from_str(&format!("{listed}, HEAD")).unwrap_or(allow)
}

fn is_empty(response: &ServiceResponse<BoxBody>) -> bool {
    matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
}

fn refused(e: &actix_web::Error, status: StatusCode) -> Error {
    match e.as_error::<ApiError>() {
        Some(ApiError(error)) => error.clone(),
        None if status.is_client_error() => {
            Refusal::field("request", "is not valid HTTP for this path").into()
        }
        None => Error::Fault("actix".to_owned()),
    }
}

/// The cause of a fault goes to the log and nowhere else.
fn log_fault(e: &actix_web::Error, id: &str) {
    match e.as_error::<ApiError>() {
        Some(ApiError(e)) => {
            if let Some(cause) = e.cause() {
                tracing::error!(requestId = id, cause, "fault");
            }
        }
        None => tracing::debug!(requestId = id, "refused by actix: {e}"),
    }
}

/// One line per request; the path's pattern instead of the path, which holds ids.
fn log(response: &ServiceResponse<BoxBody>, method: &Method, id: &str, started: Instant) {
    let req = response.request();
    let user = req.extensions().get::<LoggedUser>().map(|u| u.0.to_string());
    let (route, status) = (req.match_pattern(), response.status().as_u16());
    let route = route.as_deref().unwrap_or("-");
    counters::request(method.as_str(), route, status);
    tracing::info!(
        requestId = id,
        user = user.as_deref().unwrap_or("-"),
        method = method.as_str(),
        route,
        status,
        durationUs = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}
