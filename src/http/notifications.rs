//! `/v1/notifications`: the inbox and the devices that pushes go to.

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, check_limit};
use super::caller::Caller;
use super::cursor;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::query::{NoQuery, Query};
use crate::domain::refusal::Refusal;
use crate::models::notifications::{Notification, Which};
use crate::services::inbox::{Inbox, Registration};

/// A notification.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    id: Uuid,
    kind: String,
    title: String,
    body: String,
    data: Value,
    read_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<Notification> for NotificationView {
    fn from(n: Notification) -> Self {
        Self {
            id: n.id,
            kind: n.kind,
            title: n.title,
            body: n.body,
            data: n.data,
            read_at: n.read_at,
            created_at: n.created_at,
        }
    }
}

/// Which part of the inbox.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InboxQuery {
    /// Older than this one: the last id of the page before.
    before: Option<Uuid>,
    /// The `nextCursor` of the part before; not together with `before`.
    cursor: Option<String>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

/// The inbox.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboxView {
    notifications: Vec<NotificationView>,
    unread: i64,
    /// Leads to what comes after; null at the end.
    next_cursor: Option<String>,
}

/// The caller's notifications, newest first.
#[utoipa::path(get, path = "/v1/notifications", tag = "notifications", params(InboxQuery),
    responses((status = 200, body = Envelope<InboxView>)), security(("bearer" = [])))]
pub async fn list(
    inbox: web::Data<Inbox>,
    caller: Caller,
    Query(query): Query<InboxQuery>,
) -> ApiResult<Reply> {
    let limit = check_limit(query.limit.unwrap_or(20))?;
    let before = match (query.before, query.cursor) {
        (Some(_), Some(_)) => {
            return Err(Refusal::field("cursor", "comes without before").into());
        }
        (before, None) => before,
        (None, Some(text)) => Some(cursor::read(&text)?.1),
    };
    let (rows, unread) = inbox.list(&caller, before, limit).await?;
    let next_cursor = cursor::after(&rows, limit, |row| (row.created_at, row.id));
    let notifications = rows.into_iter().map(NotificationView::from).collect();
    Reply::ok(InboxView { notifications, unread, next_cursor })
}

/// Which notifications: one, or one and all older ones.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhichBody {
    notification_id: Option<Uuid>,
    up_to: Option<Uuid>,
}

impl WhichBody {
    /// What is named.
    pub fn which(&self) -> Result<Which, Refusal> {
        match (self.notification_id, self.up_to) {
            (Some(id), None) => Ok(Which::One(id)),
            (None, Some(id)) => Ok(Which::UpTo(id)),
            _ => Err(Refusal::field("notificationId", "either this or upTo must be given")),
        }
    }
}

/// How many notifications of the caller are unread.
#[derive(Serialize, ToSchema)]
pub struct UnreadView {
    unread: i64,
}

/// Marks notifications as read; their pushes are cancelled.
#[utoipa::path(post, path = "/v1/notifications/read", tag = "notifications",
    request_body = WhichBody, responses((status = 200, body = Envelope<UnreadView>)), security(("bearer" = [])))]
pub async fn read(
    inbox: web::Data<Inbox>,
    caller: Caller,
    Body(body): Body<WhichBody>,
) -> ApiResult<Reply> {
    let unread = inbox.read(&caller, body.which()?).await?;
    Reply::ok(UnreadView { unread })
}

/// The hub's public key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VapidKeyView {
    /// Base64url.
    public_key: String,
}

/// The key that browsers subscribe with (`applicationServerKey`, RFC 8292).
#[utoipa::path(get, path = "/v1/notifications/vapid-public-key", tag = "notifications",
    responses((status = 200, body = Envelope<VapidKeyView>)))]
pub async fn vapid_public_key(inbox: web::Data<Inbox>, NoQuery: NoQuery) -> ApiResult<Reply> {
    Reply::ok(VapidKeyView { public_key: inbox.vapid_public_key()?.to_owned() })
}

/// A device that wants pushes: a browser's subscription or an FCM registration.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDevice {
    /// What a browser's `pushManager.subscribe()` gives, as it is.
    web_push: Option<WebPushBody>,
    fcm: Option<FcmBody>,
    /// For the list of devices.
    label: Option<String>,
}

/// A browser's `PushSubscription`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebPushBody {
    endpoint: String,
    /// Browsers send it; the hub does not need it.
    #[serde(rename = "expirationTime")]
    #[schema(value_type = Option<i64>)]
    _expiration_time: Option<Value>,
    keys: KeysBody,
}

/// The keys of a subscription, base64url.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysBody {
    p256dh: String,
    auth: String,
}

/// An FCM registration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FcmBody {
    token: String,
}

/// What was registered.
#[derive(Serialize, ToSchema)]
pub struct RegisteredView {
    id: Uuid,
}

/// Registers a device; at most 20 are kept, the oldest makes room.
#[utoipa::path(post, path = "/v1/notifications/devices", tag = "notifications",
    request_body = NewDevice, responses((status = 201, body = Envelope<RegisteredView>)), security(("bearer" = [])))]
pub async fn register(inbox: web::Data<Inbox>, once: Once<NewDevice>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let device = match (new.web_push, new.fcm) {
            (Some(w), None) => Registration::WebPush {
                endpoint: w.endpoint,
                p256dh: w.keys.p256dh,
                auth: w.keys.auth,
            },
            (None, Some(f)) => Registration::Fcm { token: f.token },
            _ => return Err(Refusal::field("webPush", "either this or fcm must be given").into()),
        };
        Reply::created(RegisteredView { id: inbox.register(&caller, device, new.label).await? })
    })
    .await
}

/// A registered device; where it is reached is not told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    id: Uuid,
    /// `web_push` or `fcm`.
    kind: String,
    label: Option<String>,
    created_at: Timestamp,
}

/// The caller's devices, newest first.
#[utoipa::path(get, path = "/v1/notifications/devices", tag = "notifications",
    responses((status = 200, body = Envelope<Vec<DeviceView>>)), security(("bearer" = [])))]
pub async fn devices(
    inbox: web::Data<Inbox>,
    caller: Caller,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    let rows = inbox.devices(&caller).await?.into_iter();
    let views: Vec<DeviceView> = rows
        .map(|d| DeviceView { id: d.id, kind: d.kind, label: d.label, created_at: d.created_at })
        .collect();
    Reply::ok(views)
}

/// Forgets a device of the caller.
#[utoipa::path(delete, path = "/v1/notifications/devices/{id}", tag = "notifications",
    params(("id" = Uuid, Path)), responses((status = 200)), security(("bearer" = [])))]
pub async fn forget(
    inbox: web::Data<Inbox>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> ApiResult<Reply> {
    inbox.forget(&caller, *id).await?;
    Reply::ok(json!({}))
}
