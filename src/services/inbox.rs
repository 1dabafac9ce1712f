//! Notifications and the devices that pushes go to.

use std::sync::Arc;

use diesel_async::AsyncConnection;
use serde_json::json;
use uuid::Uuid;

use super::auth::Caller;
use crate::actors::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::domain::refusal::{Problems, Refusal};
use crate::error::{Error, Result};
use crate::models::devices::{self, Device, NewDevice};
use crate::models::notifications::{self, Notification, Which};
use crate::models::outbox;
use crate::models::pool::Pool;
use crate::outbound::EndpointPolicy;
use crate::push::{FcmToken, FieldProblem, Push, Subscription};

/// Devices that one user may have; the oldest makes room.
const MAX_DEVICES: i64 = 20;
/// Notifications that one acknowledgement reaches back.
const MAX_ACKNOWLEDGED: i64 = 1_000;

/// A device that wants pushes.
#[derive(Debug)]
pub enum Registration {
    /// A browser's `PushSubscription`.
    WebPush { endpoint: String, p256dh: String, auth: String },
    /// An FCM registration token.
    Fcm { token: String },
}

/// Notifications and devices.
pub struct Inbox {
    pool: Pool,
    fanout: Fanout,
    push: Arc<Push>,
    endpoints: EndpointPolicy,
}

impl Inbox {
    /// The inboxes in the database of `pool`; `endpoints` says where pushes may go.
    pub fn new(pool: Pool, fanout: Fanout, push: Arc<Push>, endpoints: EndpointPolicy) -> Self {
        Self { pool, fanout, push, endpoints }
    }

    /// The key that browsers need to subscribe, if Web Push is configured.
    pub fn vapid_public_key(&self) -> Result<&str> {
        Ok(self.push.vapid_public_key().ok_or(Refusal::NotFound("vapid key"))?)
    }

    /// Registers a device of the caller and returns its id.
    pub async fn register(
        &self,
        caller: &Caller,
        device: Registration,
        label: Option<String>,
    ) -> Result<Uuid> {
        let mut problems = Problems::default();
        if let Some(label) = &label {
            problems.length("label", label, 1, 100);
        }
        problems.into_result()?;
        let refused = |p: FieldProblem| Error::from(Refusal::field(as_written(p.field), p.problem));
        let id = Uuid::now_v7();
        let (user_id, label) = (caller.user_id, label.as_deref());
        match &device {
            Registration::WebPush { endpoint, p256dh, auth } => {
                let s =
                    Subscription::parse(endpoint, p256dh, auth, self.endpoints).map_err(refused)?;
                let (p256dh, auth) = (Some(s.p256dh()), Some(s.auth()));
                let (kind, address) = ("web_push", s.endpoint());
                self.store(NewDevice { id, user_id, kind, address, p256dh, auth, label }).await?;
            }
            Registration::Fcm { token } => {
                let token = FcmToken::parse(token).map_err(refused)?;
                let (kind, address) = ("fcm", token.expose());
                let (p256dh, auth) = (None, None);
                self.store(NewDevice { id, user_id, kind, address, p256dh, auth, label }).await?;
            }
        }
        Ok(id)
    }

    async fn store(&self, new: NewDevice<'_>) -> Result<()> {
        let mut conn = self.pool.get().await?;
        conn.transaction(async |conn| {
            devices::register(conn, &new).await?;
            devices::forget_beyond(conn, new.user_id, MAX_DEVICES).await
        })
        .await
        .map(|_| ())
        .map_err(|e| {
            use crate::models::violation::Violation;
            super::refuse_violation(e, |v| {
                (v == Violation::DeviceAddress).then_some(Refusal::AlreadyExists("device"))
            })
        })
    }

    /// The caller's devices, newest first.
    pub async fn devices(&self, caller: &Caller) -> Result<Vec<Device>> {
        let mut conn = self.pool.get().await?;
        Ok(devices::list(&mut conn, caller.user_id).await?)
    }

    /// Forgets a device of the caller.
    pub async fn forget(&self, caller: &Caller, id: Uuid) -> Result<()> {
        let mut conn = self.pool.get().await?;
        if devices::remove(&mut conn, caller.user_id, id).await? {
            Ok(())
        } else {
            Err(Refusal::NotFound("device").into())
        }
    }

    /// The caller's notifications older than `before`, newest first, and how many are unread.
    pub async fn list(
        &self,
        caller: &Caller,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<(Vec<Notification>, i64)> {
        let mut conn = self.pool.get().await?;
        let rows = notifications::list(&mut conn, caller.user_id, before, limit).await?;
        let unread = notifications::count_unread(&mut conn, caller.user_id).await?;
        Ok((rows, unread))
    }

    /// Marks notifications as read, cancels their pushes, and tells the caller's other devices.
    /// Returns how many are unread after it.
    pub async fn read(&self, caller: &Caller, which: Which) -> Result<i64> {
        let mut conn = self.pool.get().await?;
        let user_id = caller.user_id;
        let (read, unread) = conn
            .transaction::<_, Error, _>(async |conn| {
                named(conn, user_id, which).await?;
                let read = notifications::mark_read(conn, user_id, which).await?;
                let keys: Vec<String> = read.iter().map(Uuid::to_string).collect();
                outbox::cancel_keys(conn, user_id, &keys).await?;
                Ok((read, notifications::count_unread(conn, user_id).await?))
            })
            .await?;
        if !read.is_empty() {
            let data = json!({ "notificationIds": read, "unread": unread });
            let inbox = Channel::User(caller.user_id);
            self.fanout.publish_ephemeral(inbox, "notification:read", &data);
        }
        Ok(unread)
    }

    /// A live device has shown the notifications: their pushes are not needed any more.
    pub async fn received(&self, caller: &Caller, which: Which) -> Result<()> {
        let mut conn = self.pool.get().await?;
        let ids = named(&mut conn, caller.user_id, which).await?;
        let keys: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        outbox::cancel_keys(&mut conn, caller.user_id, &keys).await?;
        Ok(())
    }
}

/// The path of a device's field as clients write it.
fn as_written(field: &str) -> String {
    match field {
        "p256dh" | "auth" => format!("webPush.keys.{field}"),
        "token" => "fcm.token".to_owned(),
        field => format!("webPush.{field}"),
    }
}

/// The caller's notifications that `which` names; `NotFound` when there is none.
async fn named(conn: &mut crate::models::Conn, user_id: Uuid, which: Which) -> Result<Vec<Uuid>> {
    let ids = notifications::named_by(conn, user_id, which, MAX_ACKNOWLEDGED).await?;
    if ids.is_empty() {
        return Err(Refusal::NotFound("notification").into());
    }
    Ok(ids)
}
