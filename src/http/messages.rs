//! Messages that are edited, taken away, reacted to: over REST, and as the socket's ops.

use actix_web::web;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Body;
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use crate::error::Result;
use crate::models::messages::Told;
use crate::services::auth;
use crate::services::chat::Chat;

/// What a message says from now on.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditBody {
    /// 1 to 8,000 characters; none is enough beside a card, a picture or a file.
    content: String,
}

/// Edits a message of the caller, for a day after it was written. The same words again change
/// nothing.
#[utoipa::path(put, path = "/v1/conversations/{id}/messages/{messageId}", tag = "chat",
    params(("id" = Uuid, Path), ("messageId" = Uuid, Path)), request_body = EditBody,
    responses((status = 200, body = Envelope<Told>)), security(("bearer" = [])))]
pub async fn edit(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
    Body(body): Body<EditBody>,
) -> ApiResult<Reply> {
    let (id, message_id) = *path;
    Reply::ok(chat.edit(&caller, id, message_id, body.content).await?)
}

/// Takes a message away: the caller's own, or anybody's in a group of which they are admin. It
/// stays in the history, empty, with `deletedAt`.
#[utoipa::path(delete, path = "/v1/conversations/{id}/messages/{messageId}", tag = "chat",
    params(("id" = Uuid, Path), ("messageId" = Uuid, Path)),
    responses((status = 200, body = Envelope<Told>)), security(("bearer" = [])))]
pub async fn delete(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid)>,
) -> ApiResult<Reply> {
    let (id, message_id) = *path;
    Reply::ok(chat.delete(&caller, id, message_id).await?)
}

/// Reacts to a message with an emoji (percent-encoded in the path): at most 5 of one member and 20
/// different ones on a message. Repeating it changes nothing.
#[utoipa::path(put, path = "/v1/conversations/{id}/messages/{messageId}/reactions/{emoji}",
    tag = "chat",
    params(("id" = Uuid, Path), ("messageId" = Uuid, Path), ("emoji" = String, Path)),
    responses((status = 200, body = Envelope<Told>)), security(("bearer" = [])))]
pub async fn react(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid, String)>,
) -> ApiResult<Reply> {
    let (id, message_id, emoji) = path.into_inner();
    Reply::ok(chat.react(&caller, id, message_id, emoji, true).await?)
}

/// Takes a reaction back.
#[utoipa::path(delete, path = "/v1/conversations/{id}/messages/{messageId}/reactions/{emoji}",
    tag = "chat",
    params(("id" = Uuid, Path), ("messageId" = Uuid, Path), ("emoji" = String, Path)),
    responses((status = 200, body = Envelope<Told>)), security(("bearer" = [])))]
pub async fn unreact(
    chat: web::Data<Chat>,
    caller: Caller,
    path: web::Path<(Uuid, Uuid, String)>,
) -> ApiResult<Reply> {
    let (id, message_id, emoji) = path.into_inner();
    Reply::ok(chat.react(&caller, id, message_id, emoji, false).await?)
}

/// The data of `message:edit`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditOp {
    conversation_id: Uuid,
    message_id: Uuid,
    content: String,
}

impl EditOp {
    /// Edits the message.
    pub async fn run(self, chat: &Chat, caller: &auth::Caller) -> Result<Told> {
        chat.edit(caller, self.conversation_id, self.message_id, self.content).await
    }
}

/// The data of `message:delete`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteOp {
    conversation_id: Uuid,
    message_id: Uuid,
}

impl DeleteOp {
    /// Takes the message away.
    pub async fn run(self, chat: &Chat, caller: &auth::Caller) -> Result<Told> {
        chat.delete(caller, self.conversation_id, self.message_id).await
    }
}

/// The data of `message:react`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReactOp {
    conversation_id: Uuid,
    message_id: Uuid,
    emoji: String,
    /// Takes the reaction back.
    #[serde(default)]
    remove: bool,
}

impl ReactOp {
    /// Reacts, or takes the reaction back.
    pub async fn run(self, chat: &Chat, caller: &auth::Caller) -> Result<Told> {
        let give = !self.remove;
        chat.react(caller, self.conversation_id, self.message_id, self.emoji, give).await
    }
}
