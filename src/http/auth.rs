//! `/v1/auth`.

use actix_web::{HttpRequest, web};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{Body, Nothing};
use super::caller::{Caller, origin};
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::NoQuery;
use super::users::UserView;
use crate::services::auth::{Auth, Issued, Registration};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Register {
    #[schema(example = "asha@example.in")]
    email: String,
    /// 8 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    first_name: String,
    last_name: String,
    /// E.164.
    phone: Option<String>,
    /// `seeker` or `practitioner`.
    user_type: String,
}

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// A refresh.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refresh {
    /// The newest refresh token of the session.
    #[schema(value_type = String)]
    refresh_token: SecretString,
}

/// A pair of tokens and whose they are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    user: UserView,
    session_id: Uuid,
    token_type: &'static str,
    /// A JWT with the claims sub, email, userType, permissions, iat, exp, jti.
    access_token: String,
    /// When the access token runs out.
    expires_at: Timestamp,
    /// Good for one exchange.
    refresh_token: String,
}

impl From<Issued> for Tokens {
    fn from(issued: Issued) -> Self {
        Self {
            user: issued.user.into(),
            session_id: issued.session_id,
            token_type: "Bearer",
            access_token: issued.access_token.expose_secret().to_owned(),
            expires_at: issued.expires_at,
            refresh_token: issued.refresh_token.expose_secret().to_owned(),
        }
    }
}

/// Opens an account and logs it in.
#[utoipa::path(post, path = "/v1/auth/register", tag = "auth", request_body = Register,
    responses((status = 201, body = Envelope<Tokens>)))]
pub async fn register(
    req: HttpRequest,
    auth: web::Data<Auth>,
    Body(new): Body<Register>,
) -> ApiResult<Reply> {
    let new = Registration {
        email: new.email,
        password: new.password,
        first_name: new.first_name,
        last_name: new.last_name,
        phone: new.phone,
        user_type: new.user_type,
    };
    Reply::created(Tokens::from(auth.register(new, &origin(&req)).await?))
}

/// Logs in. A wrong password and an unknown e-mail get the same answer.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = Login,
    responses((status = 200, body = Envelope<Tokens>)))]
pub async fn login(
    req: HttpRequest,
    auth: web::Data<Auth>,
    Body(login): Body<Login>,
) -> ApiResult<Reply> {
    let issued = auth.login(&login.email, &login.password, &origin(&req)).await?;
    Reply::ok(Tokens::from(issued))
}

/// Exchanges a refresh token for a new pair. Using one twice revokes its session.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "auth", request_body = Refresh,
    responses((status = 200, body = Envelope<Tokens>)))]
pub async fn refresh(
    req: HttpRequest,
    auth: web::Data<Auth>,
    Body(refresh): Body<Refresh>,
) -> ApiResult<Reply> {
    let issued = auth.refresh(&refresh.refresh_token, &origin(&req)).await?;
    Reply::ok(Tokens::from(issued))
}

/// Ends the caller's session.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "auth", request_body = Nothing,
    responses((status = 200)), security(("bearer" = [])))]
pub async fn logout(
    req: HttpRequest,
    auth: web::Data<Auth>,
    caller: Caller,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    auth.log_out(&caller, Some(caller.session_id), &origin(&req)).await?;
    Reply::ok(serde_json::json!({}))
}

/// A login that stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    id: Uuid,
    /// Whether it is the one that asks.
    current: bool,
    user_agent: Option<String>,
    created_at: Timestamp,
    last_used_at: Timestamp,
}

/// The caller's open sessions.
#[utoipa::path(get, path = "/v1/auth/sessions", tag = "auth",
    responses((status = 200, body = Envelope<Vec<SessionView>>)), security(("bearer" = [])))]
pub async fn sessions(auth: web::Data<Auth>, caller: Caller, NoQuery: NoQuery) -> ApiResult<Reply> {
    let sessions = auth.sessions(&caller).await?.into_iter();
    let view: Vec<SessionView> = sessions
        .map(|s| SessionView {
            id: s.id,
            current: s.id == caller.session_id,
            user_agent: s.user_agent,
            created_at: s.created_at,
            last_used_at: s.last_used_at,
        })
        .collect();
    Reply::ok(view)
}

/// Ends one of the caller's sessions.
#[utoipa::path(delete, path = "/v1/auth/sessions/{id}", tag = "auth",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn revoke_session(
    req: HttpRequest,
    auth: web::Data<Auth>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    auth.log_out(&caller, Some(*id), &origin(&req)).await?;
    Reply::ok(serde_json::json!({}))
}

/// Ends all of the caller's sessions, this one included.
#[utoipa::path(delete, path = "/v1/auth/sessions", tag = "auth",
    responses((status = 200)), security(("bearer" = [])))]
pub async fn revoke_all(
    req: HttpRequest,
    auth: web::Data<Auth>,
    caller: Caller,
) -> ApiResult<Reply> {
    auth.log_out(&caller, None, &origin(&req)).await?;
    Reply::ok(serde_json::json!({}))
}
