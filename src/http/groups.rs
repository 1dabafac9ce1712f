//! Members and titles of groups, and what a user lets others know in conversations.

use actix_web::web;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Body;
use super::caller::Caller;
use super::conversations::{ConversationView, MemberView};
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::NoQuery;
use crate::services::chat::Chat;

/// What a group is called.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TitleBody {
    /// 1 to 120 characters.
    title: String,
}

/// Another title for a group, by its admins.
#[utoipa::path(put, path = "/v1/conversations/{id}", tag = "chat",
    params(("id" = Uuid, Path)), request_body = TitleBody,
    responses((status = 200, body = Envelope<ConversationView>)), security(("bearer" = [])))]
pub async fn retitle(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<TitleBody>,
) -> ApiResult<Reply> {
    let loaded = chat.retitle(&caller, *id, body.title).await?;
    Reply::ok(ConversationView::of(*id, loaded, caller.user_id))
}

/// The members of a conversation, who came first first.
#[utoipa::path(get, path = "/v1/conversations/{id}/members", tag = "chat",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<Vec<MemberView>>)),
    security(("bearer" = [])))]
pub async fn members(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let members = chat.find(&caller, *id).await?.members;
    let view = |m| MemberView::of(m, caller.user_id);
    Reply::ok(members.into_iter().map(view).collect::<Vec<_>>())
}

/// Who comes in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddBody {
    /// Users with whom the caller shares a booking or a conversation; those who are in stay.
    user_ids: Vec<Uuid>,
}

/// Takes users into a group, by its admins. They read the whole history, from the first message on;
/// none of it is unread.
#[utoipa::path(post, path = "/v1/conversations/{id}/members", tag = "chat",
    params(("id" = Uuid, Path)), request_body = AddBody,
    responses((status = 200, body = Envelope<ConversationView>)), security(("bearer" = [])))]
pub async fn add(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<AddBody>,
) -> ApiResult<Reply> {
    let loaded = chat.add_members(&caller, *id, body.user_ids).await?;
    Reply::ok(ConversationView::of(*id, loaded, caller.user_id))
}

/// What a member is from now on.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleBody {
    /// `owner`, `admin` or `member`.
    role: String,
}

/// Gives a member of a group another role, by its owner; a new owner makes the old one admin.
#[utoipa::path(put, path = "/v1/conversations/{id}/members/{userId}", tag = "chat",
    params(("id" = Uuid, Path), ("userId" = Uuid, Path)), request_body = RoleBody,
    responses((status = 200, body = Envelope<ConversationView>)), security(("bearer" = [])))]
pub async fn set_role(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
    Body(body): Body<RoleBody>,
) -> ApiResult<Reply> {
    let (id, user_id) = *path;
    let loaded = chat.set_role(&caller, id, user_id, &body.role).await?;
    Reply::ok(ConversationView::of(id, loaded, caller.user_id))
}

/// Takes a member out of a group, by those with a higher role; oneself, to leave. Their access ends
/// at once.
#[utoipa::path(delete, path = "/v1/conversations/{id}/members/{userId}", tag = "chat",
    params(("id" = Uuid, Path), ("userId" = Uuid, Path)), responses((status = 200)),
    security(("bearer" = [])))]
pub async fn remove(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
) -> ApiResult<Reply> {
    let (id, user_id) = *path;
    chat.remove_member(&caller, id, user_id).await?;
    Reply::ok(serde_json::json!({}))
}

/// What the caller lets others know in conversations.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatSettings {
    /// Whether others learn how far one has read. What reached a device is told in any case.
    read_receipts: bool,
}

/// The caller's settings of conversations.
#[utoipa::path(get, path = "/v1/users/chat-settings", tag = "chat",
    responses((status = 200, body = Envelope<ChatSettings>)), security(("bearer" = [])))]
pub async fn settings(chat: web::Data<Chat>, caller: Caller, NoQuery: NoQuery) -> ApiResult<Reply> {
    Reply::ok(ChatSettings { read_receipts: chat.read_receipts(&caller).await? })
}

/// Changes them, for all conversations.
#[utoipa::path(put, path = "/v1/users/chat-settings", tag = "chat", request_body = ChatSettings,
    responses((status = 200, body = Envelope<ChatSettings>)), security(("bearer" = [])))]
pub async fn set_settings(
    chat: web::Data<Chat>,
    caller: Caller,
    Body(body): Body<ChatSettings>,
) -> ApiResult<Reply> {
    chat.set_read_receipts(&caller, body.read_receipts).await?;
    Reply::ok(body)
}
