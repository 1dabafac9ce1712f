//! The operations of sockets, as one table. Each ends in the same service call as its REST route.

use actix_web::web;
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::body::parse_value;
use super::bookings::{NewBooking, NewHold};
use super::calendars::{SlotsQuery, find_slots};
use super::conversations::{HistoryQuery, NewMessage};
use super::error::{self, ApiError};
use super::messages::{DeleteOp, EditOp, ReactOp};
use super::notifications::WhichBody;
use crate::actors::conversation_receipts::Receipt;
use crate::actors::protocol::WireError;
use crate::actors::session::SocketOps;
use crate::actors::socket_machine::Identity;
use crate::domain::booking::Step;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::services::auth::{Auth, Caller};
use crate::services::bookings::Bookings;
use crate::services::chat::Chat;
use crate::services::inbox::Inbox;
use crate::services::practices::Practices;

/// The services that sockets reach.
#[derive(Clone)]
pub struct Ops {
    pub auth: web::Data<Auth>,
    pub practices: web::Data<Practices>,
    pub bookings: web::Data<Bookings>,
    pub chat: web::Data<Chat>,
    pub inbox: web::Data<Inbox>,
}

impl SocketOps for Ops {
    fn authenticate(&self, token: String) -> LocalBoxFuture<'static, Result<Identity>> {
        let auth = self.auth.clone();
        Box::pin(async move {
            let Caller { user_id, role, session_id, expires_at } = auth.verify(&token).await?;
            Ok(Identity { user_id, role, session_id, expires_at })
        })
    }

    fn call(
        &self,
        who: Identity,
        op: String,
        data: Value,
    ) -> LocalBoxFuture<'static, Result<Value>> {
        let ops = self.clone();
        Box::pin(async move { ops.run(who, &op, data).await })
    }

    fn explain(&self, error: &Error) -> WireError {
        error::on_the_wire(error)
    }
}

impl Ops {
    async fn run(&self, who: Identity, op: &str, data: Value) -> Result<Value> {
        let Identity { user_id, role, session_id, expires_at } = who;
        let caller = Caller { user_id, role, session_id, expires_at };
        match op {
            "message:send" => self.send(&caller, data).await,
            "message:edit" => json(parse_value::<EditOp>(data)?.run(&self.chat, &caller).await?),
            "message:delete" => {
                json(parse_value::<DeleteOp>(data)?.run(&self.chat, &caller).await?)
            }
            "message:react" => json(parse_value::<ReactOp>(data)?.run(&self.chat, &caller).await?),
            "message:received" => self.acknowledge(&caller, data, Receipt::Received).await,
            "message:read" => self.acknowledge(&caller, data, Receipt::Read).await,
            "message:history" => self.history(&caller, data).await,
            "typing:start" => self.typing(&caller, data, true).await,
            "typing:stop" => self.typing(&caller, data, false).await,
            "availability:get" => self.availability(&caller, data).await,
            "hold:create" => {
                json(parse_value::<NewHold>(data)?.create(&self.bookings, &caller, None).await?)
            }
            "hold:release" => self.release(&caller, data).await,
            "booking:create" => {
                let new = parse_value::<NewBooking>(data)?;
                json(new.create(&self.bookings, &caller, None).await?.view(caller.user_id))
            }
            "booking:cancel" => self.cancel(&caller, data).await,
            "notification:read" => {
                let which = parse_value::<WhichBody>(data)?.which()?;
                Ok(json!({ "unread": self.inbox.read(&caller, which).await? }))
            }
            "notification:received" => {
                let which = parse_value::<WhichBody>(data)?.which()?;
                self.inbox.received(&caller, which).await.map(|()| json!({}))
            }
            _ => Err(Refusal::UnknownOp.into()),
        }
    }

    async fn send(&self, caller: &Caller, mut data: Value) -> Result<Value> {
        let id = take_id(&mut data, "conversationId")?;
        let sent = parse_value::<NewMessage>(data)?.send(&self.chat, caller, id).await?.message;
        Ok(json!({ "messageId": sent.id, "seq": sent.seq, "createdAt": sent.created_at }))
    }

    async fn acknowledge(&self, caller: &Caller, data: Value, receipt: Receipt) -> Result<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Ack {
            conversation_id: Uuid,
            seq: i64,
        }
        let ack: Ack = parse_value(data)?;
        let marked = self.chat.acknowledge(caller, ack.conversation_id, ack.seq, receipt).await?;
        Ok(json!({ "unread": marked.unread }))
    }

    async fn history(&self, caller: &Caller, data: Value) -> Result<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct History {
            conversation_id: Uuid,
            before: Option<i64>,
            after: Option<i64>,
            limit: Option<i64>,
        }
        let h: History = parse_value(data)?;
        let query = HistoryQuery::new(h.before, h.after, h.limit);
        let page = query.read(&self.chat, caller, h.conversation_id).await;
        Ok(json!({ "messages": page.map_err(|ApiError(e)| e)? }))
    }

    async fn typing(&self, caller: &Caller, mut data: Value, typing: bool) -> Result<Value> {
        let id = take_id(&mut data, "conversationId")?;
        parse_value::<super::body::Nothing>(data)?;
        self.chat.typing(caller, id, typing).await.map(|()| json!({}))
    }

    async fn availability(&self, caller: &Caller, mut data: Value) -> Result<Value> {
        let id = take_id(&mut data, "practitionerId")?;
        let query: SlotsQuery = parse_value(data)?;
        let slots = find_slots(&self.practices, id, &query, Some(caller.user_id)).await;
        json(slots.map_err(|ApiError(e)| e)?)
    }

    async fn release(&self, caller: &Caller, mut data: Value) -> Result<Value> {
        let id = take_id(&mut data, "holdId")?;
        parse_value::<super::body::Nothing>(data)?;
        self.bookings.release(caller, id).await.map(|()| json!({}))
    }

    async fn cancel(&self, caller: &Caller, data: Value) -> Result<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Cancel {
            booking_id: Uuid,
            reason: Option<String>,
            version: Option<i64>,
        }
        let c: Cancel = parse_value(data)?;
        let done = self
            .bookings
            .take_step(caller, c.booking_id, Step::Cancel, c.reason, c.version)
            .await?;
        json(done.view(caller.user_id))
    }
}

/// Takes the id `field` out of `data`, so that what is left is the body of the REST route.
fn take_id(data: &mut Value, field: &str) -> Result<Uuid> {
    let id = data.as_object_mut().and_then(|object| object.remove(field));
    let id = id.as_ref().and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
    id.ok_or_else(|| Refusal::field(field, "must be a UUID").into())
}

fn json(data: impl Serialize) -> Result<Value> {
    serde_json::to_value(data).map_err(|e| Error::Fault(format!("json: {e}")))
}
