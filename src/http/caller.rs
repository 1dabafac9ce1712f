//! Who is calling: proven by the bearer token (RFC 6750), or by nothing.

use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

use super::error::ApiError;
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::services::auth::{self, Auth, Origin};

/// The user of a request, for its log line.
#[derive(Debug, Clone, Copy)]
pub struct LoggedUser(pub Uuid);

/// A request with a valid token.
#[derive(Debug, Clone)]
pub struct Caller(pub auth::Caller);

impl Deref for Caller {
    type Target = auth::Caller;

    fn deref(&self) -> &auth::Caller {
        &self.0
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let req = req.clone();
        Box::pin(async move { identify(&req).await?.ok_or(Refusal::Unauthenticated.into()) })
    }
}

/// A request with a valid token, or with none at all. A token that is not valid is refused: its
/// sender believes to be somebody.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Caller>);

impl FromRequest for MaybeCaller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let req = req.clone();
        Box::pin(async move { Ok(Self(identify(&req).await?)) })
    }
}

async fn identify(req: &HttpRequest) -> Result<Option<Caller>, ApiError> {
    let Some(value) = req.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.ok_or(Refusal::Unauthenticated)?;
    let auth = req
        .app_data::<web::Data<Auth>>()
        .ok_or_else(|| Error::Fault("no auth service".to_owned()))?;
    let caller = auth.verify(token).await?;
    req.extensions_mut().insert(LoggedUser(caller.user_id));
    Ok(Some(Caller(caller)))
}

/// The addresses of the balancers whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<std::net::IpAddr>);

/// Where a request came from: the peer, or what a trusted proxy says of it.
pub fn origin(req: &HttpRequest) -> Origin {
    let peer = req.peer_addr().map(|a| a.ip());
    let trusted = req.app_data::<TrustedProxies>();
    let believed = peer.is_some_and(|p| trusted.is_some_and(|t| t.0.contains(&p)));
    let forwarded = req
        .headers()
        .get_all("x-forwarded-for")
        .last()
        .filter(|_| believed)
        // The last entry of the last line is the one that our own proxy added.
        .and_then(|v| v.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    let user_agent = req.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    Origin { address: forwarded.or(peer), user_agent: user_agent.map(ToOwned::to_owned) }
}
