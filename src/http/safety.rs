//! Blocks, muted conversations, reports.

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, Nothing, PageQuery};
use super::caller::Caller;
use super::catalogue::ListQuery;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::instant::Instant;
use super::query::{NoQuery, Query};
use crate::domain::refusal::Refusal;
use crate::models::reports::Report;
use crate::models::user_blocks::Blocked;
use crate::services::safety::{Safety, Subject};

/// Blocks a user. It holds both ways: no messages between the two, no new conversation, hold or
/// booking, no presence, no typing; what is booked stays. In groups both still read each other.
/// The other one is not told.
#[utoipa::path(post, path = "/v1/users/{id}/block", tag = "safety",
    params(("id" = Uuid, Path)), request_body = Nothing,
    responses((status = 200)), security(("bearer" = [])))]
pub async fn block(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(_): Body<Nothing>,
) -> ApiResult<Reply> {
    safety.block(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Ends the caller's block of a user.
#[utoipa::path(delete, path = "/v1/users/{id}/block", tag = "safety",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn unblock(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    safety.unblock(&caller, *id).await?;
    Reply::ok(serde_json::json!({}))
}

/// Somebody whom the caller blocks.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedView {
    user_id: Uuid,
    first_name: String,
    last_name: String,
    created_at: Timestamp,
}

impl From<Blocked> for BlockedView {
    fn from(b: Blocked) -> Self {
        Self {
            user_id: b.user_id,
            first_name: b.first_name,
            last_name: b.last_name,
            created_at: b.created_at,
        }
    }
}

/// Those whom the caller blocks, the newest first.
#[utoipa::path(get, path = "/v1/blocks", tag = "safety", params(ListQuery),
    responses((status = 200, body = Envelope<Vec<BlockedView>>)), security(("bearer" = [])))]
pub async fn blocks(
    safety: web::Data<Safety>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Reply> {
    let page = query.page().check()?;
    let (rows, total) = safety.blocks(&caller, page).await?;
    Reply::page(rows.into_iter().map(BlockedView::from).collect::<Vec<_>>(), page, total)
}

/// For how long.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMute {
    /// Until the end of 2999, unless given.
    until: Option<Instant>,
}

/// Whether the caller mutes a conversation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MuteView {
    /// Null when they do not.
    muted_until: Option<Timestamp>,
}

/// Until when the caller mutes a conversation.
#[utoipa::path(get, path = "/v1/conversations/{id}/mute", tag = "chat",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<MuteView>)),
    security(("bearer" = [])))]
pub async fn muted(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    Reply::ok(MuteView { muted_until: safety.muted(&caller, *id).await? })
}

/// Mutes a conversation for the caller: no pushes of it; sockets and unread counts go on.
#[utoipa::path(put, path = "/v1/conversations/{id}/mute", tag = "chat",
    params(("id" = Uuid, Path)), request_body = NewMute,
    responses((status = 200, body = Envelope<MuteView>)), security(("bearer" = [])))]
pub async fn mute(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<NewMute>,
) -> ApiResult<Reply> {
    // 2999-12-31T23:59:59Z.
    let latest = Timestamp::from_second(32_503_679_999).unwrap_or(Timestamp::MAX);
    let until = body.until.map_or(latest, |Instant(until)| until.min(latest));
    safety.mute(&caller, *id, Some(until)).await?;
    Reply::ok(MuteView { muted_until: Some(until) })
}

/// Ends that.
#[utoipa::path(delete, path = "/v1/conversations/{id}/mute", tag = "chat",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<MuteView>)),
    security(("bearer" = [])))]
pub async fn unmute(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    safety.mute(&caller, *id, None).await?;
    Reply::ok(MuteView { muted_until: None })
}

/// What is reported: a message or a user, not both.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewReport {
    message_id: Option<Uuid>,
    user_id: Option<Uuid>,
    /// `spam`, `harassment`, `threat`, `sexual`, `fraud`, `health_claim` or `other`.
    reason: String,
    /// At most 2,000 characters; `other` needs some.
    #[serde(default)]
    details: String,
}

/// What the reporter is told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedView {
    id: Uuid,
    /// `open`.
    status: String,
    created_at: Timestamp,
}

/// Reports a message or a user to the administrators, at most 20 a day. A copy of the message, of
/// what it said before it was changed, and of up to ten messages before and after it goes with it.
#[utoipa::path(post, path = "/v1/reports", tag = "safety", request_body = NewReport,
    responses((status = 201, body = Envelope<ReportedView>)), security(("bearer" = [])))]
pub async fn report(safety: web::Data<Safety>, once: Once<NewReport>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let subject = match (new.message_id, new.user_id) {
            (Some(id), None) => Subject::Message(id),
            (None, Some(id)) => Subject::User(id),
            (Some(_), Some(_)) => {
                return Err(Refusal::field("userId", "does not go with messageId").into());
            }
            (None, None) => {
                return Err(Refusal::field("messageId", "this or userId is needed").into());
            }
        };
        let report = safety.report(&caller, subject, &new.reason, new.details).await?;
        let Report { id, status, created_at, .. } = report;
        Reply::created(ReportedView { id, status, created_at })
    })
    .await
}

/// Which reports.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportsQuery {
    /// `open`, `upheld` or `dismissed`; all unless given.
    status: Option<String>,
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

/// Reports, the newest first; for administrators.
#[utoipa::path(get, path = "/v1/reports", tag = "safety", params(ReportsQuery),
    responses((status = 200, body = Envelope<Vec<Report>>)), security(("bearer" = [])))]
pub async fn reports(
    safety: web::Data<Safety>,
    caller: Caller,
    Query(query): Query<ReportsQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(query.page, query.limit).check()?;
    let (rows, total) = safety.reports(&caller, query.status.as_deref(), page).await?;
    Reply::page(rows, page, total)
}

/// A report with its evidence.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceView {
    #[serde(flatten)]
    report: Report,
    /// Of a message: `{message, versions, context}`; of a user: `{user}`.
    #[schema(value_type = Object)]
    evidence: Value,
}

/// A report with its evidence; for administrators. That it was looked at is written down.
#[utoipa::path(get, path = "/v1/reports/{id}", tag = "safety",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<EvidenceView>)),
    security(("bearer" = [])))]
pub async fn show_report(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let (report, evidence) = safety.find_report(&caller, *id).await?;
    Reply::ok(EvidenceView { report, evidence })
}

/// How a report ends.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resolution {
    /// `upheld` or `dismissed`.
    outcome: String,
    /// At most 2,000 characters.
    note: Option<String>,
}

/// Resolves a report that is open; for administrators.
#[utoipa::path(post, path = "/v1/reports/{id}/resolve", tag = "safety",
    params(("id" = Uuid, Path)), request_body = Resolution,
    responses((status = 200, body = Envelope<Report>)), security(("bearer" = [])))]
pub async fn resolve(
    safety: web::Data<Safety>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<Resolution>,
) -> ApiResult<Reply> {
    Reply::ok(safety.resolve(&caller, *id, &body.outcome, body.note).await?)
}
