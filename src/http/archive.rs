//! Searching one's conversations, and taking one home.

use std::collections::VecDeque;

use actix_web::http::header::{self, ContentDisposition};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::check_limit;
use super::caller::Caller;
use super::conversations::MemberView;
use super::cursor;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::{NoQuery, Query};
use crate::error::{Error, Result};
use crate::models::conversations::Loaded;
use crate::models::message_archive::Hit;
use crate::services::archive::Archive;

/// What to look for.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words, 2 to 200 characters: all of them, a phrase in quotes, either side of `or`, not what
    /// follows `-`.
    q: String,
    /// The `nextCursor` of the part before.
    cursor: Option<String>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundView {
    hits: Vec<HitView>,
    /// Leads to what comes after; null at the end.
    next_cursor: Option<String>,
}

/// A message that was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HitView {
    message_id: Uuid,
    conversation_id: Uuid,
    seq: i64,
    sender_id: Option<Uuid>,
    #[serde(rename = "type")]
    kind: String,
    /// Some of its text, in pieces of plain text: nothing in it is markup.
    snippet: Vec<Piece>,
    created_at: Timestamp,
}

/// A piece of a text.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    text: String,
    /// Whether it is what was looked for.
    hit: bool,
}

impl From<Hit> for HitView {
    fn from(h: Hit) -> Self {
        Self {
            message_id: h.id,
            conversation_id: h.conversation_id,
            seq: h.seq,
            sender_id: h.sender_id,
            kind: h.message_type,
            snippet: pieces(&h.headline),
            created_at: h.created_at,
        }
    }
}

/// Cuts a headline where its marks are.
fn pieces(headline: &str) -> Vec<Piece> {
    let mut hit = false;
    let mut pieces = Vec::new();
    for text in headline.split(['\u{e000}', '\u{e001}']) {
        if !text.is_empty() {
            pieces.push(Piece { text: text.to_owned(), hit });
        }
        hit = !hit;
    }
    pieces
}

/// Messages with some words in the caller's conversations, the newest first.
#[utoipa::path(get, path = "/v1/conversations/search", tag = "chat", params(SearchQuery),
    responses((status = 200, body = Envelope<FoundView>)), security(("bearer" = [])))]
pub async fn search(
    archive: web::Data<Archive>,
    caller: Caller,
    Query(query): Query<SearchQuery>,
) -> ApiResult<Reply> {
    let limit = check_limit(query.limit.unwrap_or(20))?;
    let before = query.cursor.as_deref().map(cursor::read).transpose()?;
    let before = before.map(|(_, id)| id);
    let hits = archive.search(&caller, &query.q, before, limit).await?;
    let next_cursor = cursor::after(&hits, limit, |hit| (hit.created_at, hit.id));
    Reply::ok(FoundView { hits: hits.into_iter().map(HitView::from).collect(), next_cursor })
}

/// A conversation as lines of JSON: first itself and its members, then each message as it is now,
/// oldest first.
#[utoipa::path(get, path = "/v1/conversations/{id}/export", tag = "chat",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = String, content_type = "application/x-ndjson")),
    security(("bearer" = [])))]
pub async fn export(
    archive: web::Data<Archive>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<HttpResponse> {
    let id = id.into_inner();
    let loaded = archive.begin_export(&caller, id).await?;
    let name = format!("conversation-{}.ndjson", id.simple());
    let first = first_line(id, loaded, caller.user_id)?;
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header(ContentDisposition::attachment(name))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .streaming(Box::pin(lines(archive, caller, id, first).map_err(|e| broken_off(&e)))))
}

fn broken_off(e: &Error) -> std::io::Error {
    tracing::warn!("an export broke off: {e:?}");
    std::io::Error::other("the export broke off")
}

fn first_line(id: Uuid, loaded: Loaded, viewer: Uuid) -> Result<Bytes> {
    let Loaded { kind, title, head, members, .. } = loaded;
    let members: Vec<MemberView> = members.into_iter().map(|m| MemberView::of(m, viewer)).collect();
    line(&json!({ "id": id, "kind": kind, "title": title, "lastSeq": head, "members": members }))
}

fn line(value: &impl Serialize) -> Result<Bytes> {
    let mut line = serde_json::to_vec(value).map_err(|e| Error::Fault(format!("json: {e}")))?;
    line.push(b'\n');
    Ok(line.into())
}

/// The lines, a page of messages at a time: the next is read when the client has taken this one.
/// A fault on the way breaks the answer off, so that half an export does not look like a whole.
fn lines(
    archive: web::Data<Archive>,
    caller: Caller,
    id: Uuid,
    first: Bytes,
) -> impl Stream<Item = Result<Bytes>> {
    let state = (VecDeque::from([first]), 0i64);
    futures_util::stream::try_unfold(state, move |(mut waiting, mut after)| {
        let (archive, caller) = (archive.clone(), caller.clone());
        async move {
            if let Some(next) = waiting.pop_front() {
                return Ok(Some((next, (waiting, after))));
            }
            for told in archive.export(&caller, id, after).await? {
                after = told.message.seq;
                waiting.push_back(line(&told)?);
            }
            Ok(waiting.pop_front().map(|next| (next, (waiting, after))))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_cut_at_its_marks() {
        let piece = |text: &str, hit| Piece { text: text.to_owned(), hit };
        let cut = pieces("say \u{e000}reiki\u{e001} & <b>");
        assert_eq!(cut, [piece("say ", false), piece("reiki", true), piece(" & <b>", false)]);
        assert_eq!(pieces("\u{e000}reiki\u{e001}"), [piece("reiki", true)]);
        assert_eq!(pieces(""), []);
    }
}
