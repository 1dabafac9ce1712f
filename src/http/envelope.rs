//! The envelope of every REST answer.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Responder};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::{self, ApiResult};
use crate::error::Error;
use crate::services::Page;

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// The envelope, for the API description.
#[derive(Serialize, ToSchema)]
pub struct Envelope<T> {
    /// True when `data` is there, false when `error` is.
    pub success: bool,
    pub data: T,
    pub meta: Meta,
}

/// What every answer says about itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// The `X-Request-Id` of the request, or a new one.
    pub request_id: String,
    /// Of lists.
    pub pagination: Option<Pagination>,
}

/// Where a page of a list stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Not with a `cursor`, like the totals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<i64>,
    pub limit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_pages: Option<i64>,
    /// Leads to what comes after, of lists that take a `cursor`; not at their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl Pagination {
    /// The page `page` of a list of `total`.
    pub fn new(page: Page, total: i64) -> Self {
        Self::part(page, Some(total), None)
    }

    /// A part of a list that takes a cursor: the page `page`, or without a `total` what a cursor led
    /// to; `next_cursor` leads on.
    pub fn part(page: Page, total: Option<i64>, next_cursor: Option<String>) -> Self {
        Self {
            page: total.map(|_| page.number),
            limit: page.limit,
            total,
            total_pages: total.map(|total| (total + page.limit - 1) / page.limit.max(1)),
            next_cursor,
        }
    }
}

/// An answer before it is put into its envelope.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    /// `data`, or `error` when the status says so, as JSON text: it is written once, without a tree
    /// of values in between.
    pub body: String,
    pagination: Option<Pagination>,
    version: Option<i64>,
}

impl Reply {
    /// 200 with `data`.
    pub fn ok(data: impl Serialize) -> ApiResult<Self> {
        Self::with(StatusCode::OK, data)
    }

    /// 201 with `data`.
    pub fn created(data: impl Serialize) -> ApiResult<Self> {
        Self::with(StatusCode::CREATED, data)
    }

    fn with(status: StatusCode, data: impl Serialize) -> ApiResult<Self> {
        let body = serde_json::to_string(&data).map_err(|e| Error::Fault(format!("json: {e}")))?;
        Ok(Self { status, body, pagination: None, version: None })
    }

    /// A page of a list of `total`.
    pub fn page(data: impl Serialize, page: Page, total: i64) -> ApiResult<Self> {
        Self::part(data, Pagination::new(page, total))
    }

    /// A part of a list.
    pub fn part(data: impl Serialize, pagination: Pagination) -> ApiResult<Self> {
        Ok(Self { pagination: Some(pagination), ..Self::ok(data)? })
    }

    /// An answer that was given before.
    pub fn again(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string(), pagination: None, version: None }
    }

    /// With the version as `ETag`, for `If-Match`.
    pub fn versioned(self, version: i64) -> Self {
        Self { version: Some(version), ..self }
    }
}

impl Responder for Reply {
    type Body = BoxBody;

    fn respond_to(self, req: &HttpRequest) -> HttpResponse {
        let key = if self.status.is_success() { "data" } else { "error" };
        let body = envelope(key, &self.body, &request_id(req), self.pagination.as_ref());
        let mut response = HttpResponse::build(self.status);
        if let Some(version) = self.version {
            response.insert_header((header::ETAG, format!("\"{version}\"")));
        }
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        response.content_type("application/json").body(body)
    }
}

fn request_id(req: &HttpRequest) -> String {
    req.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// The envelope around `content`, which is JSON already.
fn envelope(key: &str, content: &str, id: &str, pagination: Option<&Pagination>) -> String {
    let mut meta = json!({ "timestamp": crate::clock::now(), "requestId": id });
    if let (Some(meta), Some(pagination)) = (meta.as_object_mut(), pagination) {
        meta.insert("pagination".to_owned(), json!(pagination));
    }
    let success = key == "data";
    format!(r#"{{"{key}":{content},"meta":{meta},"success":{success}}}"#)
}

/// The answer to a failed request.
pub fn failure(error: &Error, id: &str) -> HttpResponse {
    let mut response = HttpResponse::build(error::status(error));
    if let Some(wait) = error::retry_after(error) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.insert_header((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if error::status(error) == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    let body = envelope("error", &error::body(error).to_string(), id, None);
    response.content_type("application/json").body(body)
}
