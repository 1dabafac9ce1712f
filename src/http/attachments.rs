//! `/v1/attachments`, and uploading to a conversation.

use std::time::{Duration, Instant};

use actix_web::http::header::{
    self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue,
};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::{NoQuery, Query};
use crate::domain::attachment::FileType;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::models::attachments::Attachment;
use crate::services::attachments::{Announced, Attachments, Form};

/// How long a client may be silent, and how long an upload may take.
const SILENCE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);
/// What is waited for a client in all: so long, and for each so many bytes of it a second more. The
/// slowest phone does better; who sends less keeps a place from others.
const START: Duration = Duration::from_secs(10);
const BYTES_PER_SECOND: u32 = 8 * 1024;

/// What a file is called.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NameQuery {
    /// Kept without folders and control characters, at most 100 characters, with the ending of its
    /// true type.
    name: Option<String>,
}

/// A file.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentView {
    id: Uuid,
    content_type: String,
    name: String,
    bytes: i64,
    /// Of pictures, upright.
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<i32>,
    created_at: Timestamp,
}

impl From<Attachment> for AttachmentView {
    fn from(a: Attachment) -> Self {
        Self {
            id: a.id,
            content_type: a.content_type,
            name: a.name,
            bytes: a.bytes,
            width: a.width,
            height: a.height,
            created_at: a.created_at,
        }
    }
}

/// Uploads a file, to be sent with `attachments` of a message within 24 h. The body is the file
/// itself. Pictures (JPEG, PNG, WebP, GIF; 10 MiB) are decoded and written anew, without their
/// metadata; PDF, plain text (UTF-8) and audio (MP3, M4A, Ogg, WAV; 25 MiB) stay as they are.
#[utoipa::path(post, path = "/v1/conversations/{id}/attachments", tag = "chat",
    params(("id" = Uuid, Path), NameQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Envelope<AttachmentView>)), security(("bearer" = [])))]
pub async fn upload(
    req: HttpRequest,
    attachments: web::Data<Attachments>,
    caller: Caller,
    id: web::Path<Uuid>,
    Query(query): Query<NameQuery>,
    body: web::Payload,
) -> ApiResult<Reply> {
    let text = |name| req.headers().get(name).and_then(|v| v.to_str().ok());
    let kind = text(header::CONTENT_TYPE).and_then(FileType::parse);
    let kind = kind.ok_or_else(|| {
        let allowed = FileType::ALL.map(FileType::media_type).to_vec();
        Refusal::UnsupportedMediaType { allowed }
    })?;
    let bytes = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let file = Announced { kind, name: query.name, bytes };
    let chunks = Box::pin(patient(body));
    let whole = attachments.upload(&caller, *id, file, chunks);
    let late = |_| Refusal::field("body", "took too long to arrive");
    let stored = tokio::time::timeout(PATIENCE, whole).await.map_err(late)??;
    Reply::created(AttachmentView::from(stored))
}

/// The body, until its sender falls silent or sends too slowly.
fn patient(body: web::Payload) -> impl Stream<Item = Result<Bytes>> {
    // What is left of the time that is waited for the client. That for the store is not the client's.
    futures_util::stream::try_unfold((body, START), |(mut body, left)| async move {
        let late = |_| Refusal::field("body", "took too long to arrive");
        let asked = Instant::now();
        match tokio::time::timeout(SILENCE.min(left), body.next()).await.map_err(late)? {
            Some(Ok(chunk)) => {
                let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                let earned = Duration::from_secs(1) * bytes / BYTES_PER_SECOND;
                let left = left.saturating_sub(asked.elapsed()) + earned;
                Ok(Some((chunk, (body, left))))
            }
            Some(Err(_)) => Err(Refusal::field("body", "could not be read").into()),
            None => Ok(None),
        }
    })
}

/// A file, to the members of its conversation.
#[utoipa::path(get, path = "/v1/attachments/{id}", tag = "chat",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304)),
    security(("bearer" = [])))]
pub async fn show(
    req: HttpRequest,
    attachments: web::Data<Attachments>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<HttpResponse> {
    send(&req, &attachments, &caller, *id, Form::Whole).await
}

/// A small JPEG of a picture, at most 320 pixels a side.
#[utoipa::path(get, path = "/v1/attachments/{id}/thumbnail", tag = "chat",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "image/jpeg"), (status = 304)),
    security(("bearer" = [])))]
pub async fn thumbnail(
    req: HttpRequest,
    attachments: web::Data<Attachments>,
    caller: Caller,
    id: web::Path<Uuid>,
    NoQuery: NoQuery,
) -> ApiResult<HttpResponse> {
    send(&req, &attachments, &caller, *id, Form::Thumbnail).await
}

/// Sends a file such that a browser shows it as nothing but what it is. It may be kept, but asked
/// for each time: who left the conversation does not get it again.
async fn send(
    req: &HttpRequest,
    attachments: &Attachments,
    caller: &Caller,
    id: Uuid,
    form: Form,
) -> ApiResult<HttpResponse> {
    let known = req.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let etag = etag(&attachments.find(caller, id).await?, form);
    if known.is_some_and(|list| super::invites::has_tag(list, &etag)) {
        let mut answer = HttpResponse::NotModified();
        answer.insert_header((header::ETAG, etag));
        return Ok(answer.insert_header((header::CACHE_CONTROL, "private, no-cache")).finish());
    }
    let (row, contents) = attachments.open(caller, id, form).await?;
    let mut answer = HttpResponse::Ok();
    let kind = match form {
        Form::Whole => row.content_type.as_str(),
        Form::Thumbnail => FileType::Jpeg.media_type(),
    };
    answer
        .content_type(kind)
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .insert_header(disposition(&row, form));
    if form == Form::Whole {
        answer.no_chunking(row.bytes.unsigned_abs());
    }
    Ok(answer.streaming(contents.inspect_err(|e| tracing::error!("a file broke off: {e}"))))
}

/// Of the file that was stored; a thumbnail is made once, from it.
fn etag(row: &Attachment, form: Form) -> String {
    let hash = row.sha256.as_deref().unwrap_or_default();
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    match form {
        Form::Whole => format!("\"{hash}\""),
        Form::Thumbnail => format!("\"{hash}-thumbnail\""),
    }
}

/// Pictures may be shown in place, anything else is a download (RFC 6266, the name by RFC 8187).
fn disposition(row: &Attachment, form: Form) -> ContentDisposition {
    let is_picture = row.width.is_some();
    let kind = if is_picture { DispositionType::Inline } else { DispositionType::Attachment };
    let name = match form {
        Form::Whole => row.name.clone(),
        Form::Thumbnail => format!("thumbnail-{}.jpg", row.id.simple()),
    };
    let extended = DispositionParam::FilenameExt(ExtendedValue {
        charset: Charset::Ext("UTF-8".to_owned()),
        language_tag: None,
        value: name.into_bytes(),
    });
    ContentDisposition { disposition: kind, parameters: vec![extended] }
}
