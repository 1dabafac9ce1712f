//! Reading what a client sends: bodies, queries, paths. What does not fit names its field.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::error::ApiError;
use crate::domain::input;
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::services::Page;

/// Largest body of a request, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// What bodies are.
pub const JSON: &str = "application/json";

/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A JSON body. Unknown fields are refused by `deny_unknown_fields` on every `T`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(req, payload);
        Box::pin(async move { parse(&bytes.await?).map(Self) })
    }
}

/// Reads a JSON body of at most [`LIMIT`] bytes.
pub fn read(
    req: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, ApiError>> + use<> {
    let json = is_of_type(req, JSON);
    let body = read_up_to(req, payload, LIMIT);
    async move {
        let body = body.await?;
        if !json && !body.is_empty() {
            return Err(Refusal::UnsupportedMediaType { allowed: vec![JSON] }.into());
        }
        Ok(body)
    }
}

/// Reads a body of at most `limit` bytes, of whatever type. One that says it is larger is refused
/// unread.
pub(super) fn read_up_to(
    req: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
) -> impl Future<Output = Result<Bytes, ApiError>> + use<> {
    let announced = req
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut payload = payload.take();
    async move {
        let too_large = || ApiError::from(Refusal::PayloadTooLarge { limit });
        if announced > limit {
            return Err(too_large());
        }
        let whole = async {
            let mut body = BytesMut::with_capacity(announced);
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| Refusal::field("body", "could not be read"))?;
                if body.len() + chunk.len() > limit {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        let late = |_| Refusal::field("body", "took too long to arrive");
        let body = tokio::time::timeout(PATIENCE, whole).await.map_err(late)??;
        Ok(body.freeze())
    }
}

/// Whether the body says that it is of this media type.
pub(super) fn is_of_type(req: &HttpRequest, kind: &str) -> bool {
    let given = req.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let given = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    given.eq_ignore_ascii_case(kind)
}

/// Reads JSON; an empty body is an empty object.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    Ok(input::parse(if bytes.is_empty() { b"{}" } else { bytes })?)
}

/// Reads the data of a socket's command, by the same rules as a body.
pub fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    Ok(input::parse_value(value)?)
}

/// The parameters `page` and `limit` of a list.
#[derive(Debug, Clone, Copy)]
pub struct PageQuery {
    page: Option<i64>,
    limit: Option<i64>,
}

/// Items on a page unless asked otherwise.
const DEFAULT_LIMIT: i64 = 20;
/// Most items on a page.
pub const MAX_LIMIT: i64 = 100;
/// Highest page: deeper lists are read by filter or cursor.
const MAX_PAGE: i64 = 10_000;

impl PageQuery {
    /// The page that `page` and `limit` ask for.
    pub fn new(page: Option<i64>, limit: Option<i64>) -> Self {
        Self { page, limit }
    }

    /// The page, or what is wrong with it.
    pub fn check(self) -> Result<Page, ApiError> {
        let (number, limit) = (self.page.unwrap_or(1), self.limit.unwrap_or(DEFAULT_LIMIT));
        if !(1..=MAX_PAGE).contains(&number) {
            return Err(Refusal::field("page", format!("must be 1 to {MAX_PAGE}")).into());
        }
        Ok(Page { number, limit: check_limit(limit)? })
    }
}

/// A number of items within bounds.
pub fn check_limit(limit: i64) -> Result<i64, ApiError> {
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::field("limit", format!("must be 1 to {MAX_LIMIT}")).into())
    }
}

/// Makes actix's own extractor of paths name the parameter, too: ids, all of them.
pub fn configure(config: &mut web::ServiceConfig) {
    config.app_data(web::PathConfig::default().error_handler(|_, req| {
        let parts = req.match_info();
        let wrong = parts.iter().find(|(_, value)| Uuid::try_parse(value).is_err());
        let field = wrong.map_or("id", |(name, _)| name).to_owned();
        ApiError::from(Refusal::field(field, "must be a UUID")).into()
    }));
}

/// Tells null, which takes a value away, from what is not there, which leaves it. For
/// `deserialize_with`, beside `default`.
pub fn also_null<'de, D, T>(input: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(input).map(Some)
}

/// An empty object: the body of a request that needs none.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
