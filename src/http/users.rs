//! `/v1/users`.

use actix_web::web;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{Body, also_null};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::NoQuery;
use crate::domain::refusal::Refusal;
use crate::domain::schedule::parse_date;
use crate::models::users::User;
use crate::services::users::{ProfileUpdate, Users};

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    id: Uuid,
    email: String,
    first_name: String,
    last_name: String,
    phone: Option<String>,
    date_of_birth: Option<Date>,
    gender: Option<String>,
    /// `seeker`, `practitioner` or `admin`.
    user_type: String,
    email_verified: bool,
    phone_verified: bool,
    created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(u: User) -> Self {
        Self {
            id: u.id,
            email: u.email,
            first_name: u.first_name,
            last_name: u.last_name,
            phone: u.phone,
            date_of_birth: u.date_of_birth,
            gender: u.gender,
            user_type: u.user_type,
            email_verified: u.email_verified,
            phone_verified: u.phone_verified,
            created_at: u.created_at,
        }
    }
}

/// The caller's account.
#[utoipa::path(get, path = "/v1/users/profile", tag = "users",
    responses((status = 200, body = Envelope<UserView>)), security(("bearer" = [])))]
pub async fn profile(
    users: web::Data<Users>,
    caller: Caller,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    Reply::ok(UserView::from(users.profile(caller.user_id).await?))
}

/// Changes to the caller's account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateProfile {
    first_name: Option<String>,
    last_name: Option<String>,
    /// E.164. Null takes it away, as with the fields below.
    #[serde(default, deserialize_with = "also_null")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
    #[serde(default, deserialize_with = "also_null")]
    #[schema(value_type = Option<String>)]
    gender: Option<Option<String>>,
    #[serde(default, deserialize_with = "also_null")]
    #[schema(value_type = Option<Date>)]
    date_of_birth: Option<Option<String>>,
}

/// Changes the caller's account.
#[utoipa::path(put, path = "/v1/users/profile", tag = "users", request_body = UpdateProfile,
    responses((status = 200, body = Envelope<UserView>)), security(("bearer" = [])))]
pub async fn update_profile(
    users: web::Data<Users>,
    caller: Caller,
    Body(update): Body<UpdateProfile>,
) -> ApiResult<Reply> {
    let problem = "must be a date such as 1990-01-31";
    let date =
        |text: String| parse_date(&text).ok_or_else(|| Refusal::field("dateOfBirth", problem));
    let date_of_birth = update.date_of_birth.map(|text| text.map(date).transpose()).transpose()?;
    let update = ProfileUpdate {
        first_name: update.first_name,
        last_name: update.last_name,
        phone: update.phone,
        gender: update.gender,
        date_of_birth,
    };
    Reply::ok(UserView::from(users.update(caller.user_id, update).await?))
}
