//! `/v1/conversations`.

use actix_web::web;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::{Body, PageQuery, check_limit};
use super::caller::Caller;
use super::catalogue::ListQuery;
use super::cursor;
use super::envelope::{Envelope, Pagination, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::query::{NoQuery, Query};
use crate::actors::conversation_receipts::Receipt;
use crate::domain::refusal::{Problems, Refusal};
use crate::error::Result;
use crate::models::conversations::{Loaded, Member, Summary};
use crate::models::messages::{Quote, Range, Told};
use crate::services::auth;
use crate::services::chat::{Chat, Draft, Opened};

/// A line of the conversation list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryView {
    id: Uuid,
    /// `direct` or `group`.
    kind: String,
    title: Option<String>,
    /// Seq of the newest message.
    last_seq: i64,
    /// How far the caller has read.
    read_seq: i64,
    /// Messages of others after that, lines of the platform not counted.
    unread: i64,
    updated_at: Timestamp,
    /// The newest message that is still there.
    preview: Option<Quote>,
    members: Vec<NameView>,
}

/// Somebody's name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameView {
    user_id: Uuid,
    name: String,
}

impl From<(Summary, Option<Quote>)> for SummaryView {
    fn from((s, preview): (Summary, Option<Quote>)) -> Self {
        let names = s.member_ids.into_iter().zip(s.member_names);
        Self {
            id: s.id,
            kind: s.kind,
            title: s.title,
            last_seq: s.last_seq,
            read_seq: s.read_seq,
            unread: s.unread,
            updated_at: s.updated_at,
            preview,
            members: names.map(|(user_id, name)| NameView { user_id, name }).collect(),
        }
    }
}

/// The caller's conversations, the one written to last first.
#[utoipa::path(get, path = "/v1/conversations", tag = "chat", params(ListQuery),
    responses((status = 200, body = Envelope<Vec<SummaryView>>)), security(("bearer" = [])))]
pub async fn list(
    chat: web::Data<Chat>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Reply> {
    let page = query.page().check()?;
    let (rows, total) = chat.list(&caller, page).await?;
    Reply::page(rows.into_iter().map(SummaryView::from).collect::<Vec<_>>(), page, total)
}

/// A conversation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationView {
    id: Uuid,
    /// `direct` or `group`.
    kind: String,
    title: Option<String>,
    /// Seq of the newest message or change.
    last_seq: i64,
    members: Vec<MemberView>,
}

/// A member and how far they have come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    user_id: Uuid,
    first_name: String,
    last_name: String,
    /// `owner`, `admin` or `member`.
    role: String,
    delivered_seq: i64,
    /// Not there for others who keep it to themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_seq: Option<i64>,
}

impl MemberView {
    /// The member as `viewer` sees them.
    pub fn of(m: Member, viewer: Uuid) -> Self {
        let shown = m.marks.shown(m.private && m.user_id != viewer);
        Self {
            user_id: m.user_id,
            first_name: m.first_name,
            last_name: m.last_name,
            role: m.role.as_str().to_owned(),
            delivered_seq: shown.delivered,
            read_seq: shown.read,
        }
    }
}

impl ConversationView {
    /// The conversation as `viewer` sees it.
    pub fn of(id: Uuid, loaded: Loaded, viewer: Uuid) -> Self {
        let Loaded { kind, title, head, members, .. } = loaded;
        let members = members.into_iter().map(|m| MemberView::of(m, viewer)).collect();
        Self { id, kind, title, last_seq: head, members }
    }
}

/// Who to talk to: one user, or a group.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewConversation {
    /// `direct`, unless given, or `group`.
    kind: Option<String>,
    /// Of a 1:1 conversation.
    user_id: Option<Uuid>,
    /// Of a group: 1 to 120 characters.
    title: Option<String>,
    /// Of a group: 1 to 99 others with whom the caller shares a booking or a conversation.
    member_ids: Option<Vec<Uuid>>,
}

impl NewConversation {
    async fn open(self, chat: &Chat, caller: &auth::Caller) -> Result<Opened> {
        let mut problems = Problems::default();
        let is_group = match self.kind.as_deref() {
            None | Some("direct") => false,
            Some("group") => true,
            Some(_) => return Err(Refusal::field("kind", "must be direct or group").into()),
        };
        let no_group = "goes with a group only";
        problems.require(is_group || self.title.is_none(), "title", no_group);
        problems.require(is_group || self.member_ids.is_none(), "memberIds", no_group);
        problems.require(!is_group || self.user_id.is_none(), "userId", "does not go with a group");
        match (is_group, self.user_id, self.title, self.member_ids) {
            (false, Some(user_id), ..) => {
                problems.into_result()?;
                chat.open(caller, user_id).await
            }
            (true, _, Some(title), Some(members)) => {
                problems.into_result()?;
                chat.create_group(caller, &title, &members).await
            }
            (_, _, title, members) => {
                problems.require(is_group, "userId", "is missing");
                problems.require(!is_group || title.is_some(), "title", "is missing");
                problems.require(!is_group || members.is_some(), "memberIds", "is missing");
                problems.into_result()?;
                Err(Refusal::field("kind", "must be direct or group").into())
            }
        }
    }
}

/// Opens the 1:1 conversation with a user (201 when it is new, 200 when it was there), or makes a
/// group.
///
/// A seeker may write to any practitioner, an administrator to anybody; all others need to share a
/// booking or a conversation.
#[utoipa::path(post, path = "/v1/conversations", tag = "chat", request_body = NewConversation,
    responses(
        (status = 201, body = Envelope<ConversationView>),
        (status = 200, description = "It was there", body = Envelope<ConversationView>),
    ),
    security(("bearer" = [])))]
pub async fn create(chat: web::Data<Chat>, once: Once<NewConversation>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let Opened { id, loaded, is_new } = new.open(&chat, &caller).await?;
        let view = ConversationView::of(id, loaded, caller.user_id);
        if is_new { Reply::created(view) } else { Reply::ok(view) }
    })
    .await
}

/// One conversation of the caller, with everybody's watermarks.
#[utoipa::path(get, path = "/v1/conversations/{id}", tag = "chat",
    params(("id" = Uuid, Path)), responses((status = 200, body = Envelope<ConversationView>)),
    security(("bearer" = [])))]
pub async fn show(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    Reply::ok(ConversationView::of(*id, chat.find(&caller, *id).await?, caller.user_id))
}

/// Which part of a conversation.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Messages with a smaller seq, newest first. The newest ones when neither is given.
    before: Option<i64>,
    /// Messages with a larger seq, oldest first.
    after: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
    /// `meta.pagination.nextCursor` of the part before, whose direction it keeps; not together with
    /// `before` or `after`.
    cursor: Option<String>,
}

impl HistoryQuery {
    /// Reads it, for REST and the socket alike.
    pub async fn read(&self, chat: &Chat, caller: &auth::Caller, id: Uuid) -> ApiResult<Vec<Told>> {
        let limit = check_limit(self.limit.unwrap_or(20))?;
        Ok(chat.history(caller, id, self.range()?, limit).await?)
    }

    fn range(&self) -> Result<Range> {
        Ok(match (&self.cursor, self.before, self.after) {
            (Some(cursor), None, None) => cursor::read_message(cursor)?,
            (Some(_), ..) => {
                return Err(Refusal::field("cursor", "comes without before and after").into());
            }
            (None, Some(_), Some(_)) => {
                return Err(Refusal::field("before", "does not go with after").into());
            }
            (None, None, Some(seq)) => Range::After(seq),
            (None, before, None) => Range::Before(before.unwrap_or(i64::MAX)),
        })
    }

    /// The cursor that leads on from what was read; none at the end.
    fn next(&self, read: &[Told], limit: i64) -> Result<Option<String>> {
        let is_full = i64::try_from(read.len()).is_ok_and(|n| n == limit);
        let Some(last) = read.last().filter(|_| is_full) else { return Ok(None) };
        Ok(Some(cursor::write_message(match self.range()? {
            Range::Before(_) => Range::Before(last.message.seq),
            Range::After(_) => Range::After(last.message.seq),
        })))
    }

    /// A query from a socket's command.
    pub fn new(before: Option<i64>, after: Option<i64>, limit: Option<i64>) -> Self {
        Self { before, after, limit, cursor: None }
    }
}

/// Messages of a conversation.
#[utoipa::path(get, path = "/v1/conversations/{id}/messages", tag = "chat",
    params(("id" = Uuid, Path), HistoryQuery),
    responses((status = 200, body = Envelope<Vec<Told>>)), security(("bearer" = [])))]
pub async fn history(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    Query(query): Query<HistoryQuery>,
) -> ApiResult<Reply> {
    let page = PageQuery::new(None, query.limit).check()?;
    let read = query.read(&chat, &caller, *id).await?;
    let next = query.next(&read, page.limit)?;
    Reply::part(read, Pagination::part(page, None, next))
}

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMessage {
    /// The client's own id: the same one again gives the same answer for ever.
    client_id: Uuid,
    /// `text`, unless given, or `booking`; `image` and `file` need `attachments`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// 1 to 8,000 characters; a card and files need none.
    content: Option<String>,
    /// Files that the sender uploaded to the conversation, 1 to 10; each is sent once.
    #[serde(default)]
    attachments: Vec<Uuid>,
    /// A message of the same conversation.
    reply_to: Option<Uuid>,
    /// Of a card: a booking of everybody in the conversation.
    booking_id: Option<Uuid>,
}

impl NewMessage {
    /// Sends it, for REST and the socket alike.
    pub async fn send(self, chat: &Chat, caller: &auth::Caller, id: Uuid) -> Result<Told> {
        let draft = Draft {
            client_id: self.client_id,
            kind: self.kind.unwrap_or_else(|| "text".to_owned()),
            content: self.content.unwrap_or_default(),
            attachments: self.attachments,
            reply_to: self.reply_to,
            booking_id: self.booking_id,
        };
        chat.send(caller, id, draft).await
    }
}

/// Sends a message. Answered after the commit.
#[utoipa::path(post, path = "/v1/conversations/{id}/messages", tag = "chat",
    params(("id" = Uuid, Path)), request_body = NewMessage,
    responses((status = 201, body = Envelope<Told>)), security(("bearer" = [])))]
pub async fn send(
    chat: web::Data<Chat>,
    id: web::Path<Uuid>,
    once: Once<NewMessage>,
) -> ApiResult<Reply> {
    once.run(|caller, new| async move { Reply::created(new.send(&chat, &caller, *id).await?) })
        .await
}

/// How far.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadBody {
    /// Everything up to this message was read.
    seq: i64,
}

/// How far the caller has read.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadView {
    read_seq: i64,
    /// What is left.
    unread: i64,
}

/// Marks a conversation as read up to a message; the watermark only moves forward.
#[utoipa::path(post, path = "/v1/conversations/{id}/read", tag = "chat",
    params(("id" = Uuid, Path)), request_body = ReadBody,
    responses((status = 200, body = Envelope<ReadView>)), security(("bearer" = [])))]
pub async fn read(
    chat: web::Data<Chat>,
    caller: Caller,
    id: web::Path<Uuid>,
    Body(body): Body<ReadBody>,
) -> ApiResult<Reply> {
    let marked = chat.acknowledge(&caller, *id, body.seq, Receipt::Read).await?;
    Reply::ok(ReadView { read_seq: marked.marks.read, unread: marked.unread })
}
