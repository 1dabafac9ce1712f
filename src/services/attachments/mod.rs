//! Files of conversations: uploading, reading, sweeping.

mod picture;
mod turns;

use std::time::Duration;

use bytes::Bytes;
use diesel_async::AsyncConnection;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::turns::{Decoders, Uploads};
use super::auth::Caller;
use crate::domain::access::Role;
use crate::domain::attachment::{FileType, HEAD, file_name, mismatch, text_goes_on};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::attachments::{self as rows, Attachment, Finished, NewAttachment};
use crate::models::conversations;
use crate::models::pool::Pool;
use crate::storage::{Contents, Storage, StorageFault};

/// Files that were not sent are taken away after this.
const UNSENT_HOURS: i32 = 24;
/// Files that one sweep takes away.
const SWEPT: i64 = 200;
/// So many that can not be taken away end a sweep: then it is the store.
const STUCK: usize = 3;

impl From<StorageFault> for Error {
    fn from(fault: StorageFault) -> Self {
        Self::Unavailable(format!("storage: {fault}"))
    }
}

/// A file that is about to come.
#[derive(Debug)]
pub struct Announced {
    pub kind: FileType,
    pub name: Option<String>,
    /// The size that the client tells, if it does.
    pub bytes: Option<usize>,
}

/// Which of a file's two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Whole,
    /// A small JPEG, of pictures.
    Thumbnail,
}

/// Files of conversations.
pub struct Attachments {
    pool: Pool,
    storage: Storage,
    uploads: Uploads,
    decoders: Decoders,
}

impl Attachments {
    /// Files in `storage`, their rows in the database of `pool`.
    pub fn new(pool: Pool, storage: Storage) -> Self {
        Self { pool, storage, uploads: Uploads::new(), decoders: Decoders::new() }
    }

    /// Stores a file of the caller, to be sent in the conversation within a day. `body` ends with
    /// an error when the client does not send on; then, and whenever the file is refused, what was
    /// stored of it is taken away.
    pub async fn upload(
        &self,
        caller: &Caller,
        conversation_id: Uuid,
        file: Announced,
        body: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Attachment> {
        let limit = file.kind.max_bytes();
        if file.bytes.is_some_and(|bytes| bytes > limit) {
            return Err(Refusal::PayloadTooLarge { limit }.into());
        }
        let _place = self.uploads.enter(caller.user_id)?;
        let id = self.begin(caller, conversation_id, &file).await?;
        let stored = if file.kind.is_picture() {
            self.store_picture(id, &file, body).await
        } else {
            self.store_file(id, &file, body).await
        };
        if stored.is_err() {
            let mut conn = self.pool.get().await?;
            rows::doom(&mut conn, id).await?;
        }
        stored
    }

    async fn begin(
        &self,
        caller: &Caller,
        conversation_id: Uuid,
        file: &Announced,
    ) -> Result<Uuid> {
        let mut conn = self.pool.get().await?;
        if !conversations::is_member(&mut conn, conversation_id, caller.user_id).await? {
            return Err(Refusal::NotFound("conversation").into());
        }
        let new = NewAttachment {
            id: Uuid::now_v7(),
            conversation_id,
            uploader_id: caller.user_id,
            content_type: file.kind.media_type(),
            name: &file_name(file.name.as_deref(), file.kind),
        };
        let announced = file.bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0);
        let begun = conn
            .transaction::<_, diesel::result::Error, _>(async |conn| {
                rows::begin(conn, &new, announced).await
            })
            .await?;
        let wait = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        begun.map_err(|seconds| Refusal::RateLimited(wait(seconds)))?;
        Ok(new.id)
    }

    /// A picture is read whole, decoded, written anew.
    async fn store_picture(
        &self,
        id: Uuid,
        file: &Announced,
        mut body: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Attachment> {
        let limit = file.kind.max_bytes();
        let mut bytes = Vec::with_capacity(file.bytes.unwrap_or(0));
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if bytes.len() + chunk.len() > limit {
                return Err(Refusal::PayloadTooLarge { limit }.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        let kind = file.kind;
        if !kind.fits(bytes.get(..HEAD).unwrap_or(&bytes)) {
            return Err(mismatch(kind).into());
        }
        let clean = self.decoders.run(move || picture::clean(&bytes, kind)).await?;
        // A decoder that gives up on what it is fed is the file's fault, not ours.
        let clean =
            clean.ok_or_else(|| Refusal::field("body", "could not be read as a picture"))??;
        let sha256 = Sha256::digest(&clean.bytes);
        let size = clean.bytes.len();
        self.storage.put(&key(id, Form::Whole), clean.bytes.into()).await?;
        self.storage.put(&key(id, Form::Thumbnail), clean.thumb.into()).await?;
        let done = Finished {
            content_type: clean.kind.media_type(),
            name: &file_name(file.name.as_deref(), clean.kind),
            bytes: i64::try_from(size).unwrap_or(i64::MAX),
            width: i32::try_from(clean.width).ok(),
            height: i32::try_from(clean.height).ok(),
            sha256: &sha256,
        };
        self.finish(id, &done).await
    }

    /// Any other file goes to the store as it comes.
    async fn store_file(
        &self,
        id: Uuid,
        file: &Announced,
        body: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Attachment> {
        let mut upload = self.storage.begin(&key(id, Form::Whole))?;
        let taken = take(&mut upload, file.kind, body).await;
        let (size, sha256) = match taken {
            Ok(taken) => taken,
            Err(e) => {
                if let Err(fault) = upload.abort().await {
                    tracing::warn!("an upload was given up and not taken back: {fault}");
                }
                return Err(e);
            }
        };
        upload.finish().await?;
        let done = Finished {
            content_type: file.kind.media_type(),
            name: &file_name(file.name.as_deref(), file.kind),
            bytes: i64::try_from(size).unwrap_or(i64::MAX),
            width: None,
            height: None,
            sha256: &sha256,
        };
        self.finish(id, &done).await
    }

    async fn finish(&self, id: Uuid, done: &Finished<'_>) -> Result<Attachment> {
        let mut conn = self.pool.get().await?;
        let finished = conn
            .transaction::<_, diesel::result::Error, _>(async |conn| {
                rows::finish(conn, id, done).await
            })
            .await?;
        Ok(finished)
    }

    /// A file that the caller may read: of a conversation that they are in; one that is not sent
    /// yet is its uploader's alone; administrators read what is the evidence of a report. Any other
    /// is `NotFound`.
    pub async fn open(
        &self,
        caller: &Caller,
        id: Uuid,
        form: Form,
    ) -> Result<(Attachment, Contents)> {
        let missing = || Error::from(Refusal::NotFound("attachment"));
        let row = self.find(caller, id).await?;
        if form == Form::Thumbnail && row.width.is_none() {
            return Err(missing());
        }
        let contents = self.storage.get(&key(id, form)).await?;
        Ok((row, contents.ok_or_else(missing)?))
    }

    /// The row of such a file.
    pub async fn find(&self, caller: &Caller, id: Uuid) -> Result<Attachment> {
        let mut conn = self.pool.get().await?;
        if caller.role == Role::Admin
            && let Some(evidence) = rows::find_held(&mut conn, id).await?
        {
            return Ok(evidence);
        }
        let row = rows::find(&mut conn, id).await?.ok_or(Refusal::NotFound("attachment"))?;
        let may_read = match (row.message_id, row.conversation_id) {
            (None, _) => row.uploader_id == Some(caller.user_id),
            (Some(_), Some(of)) => conversations::is_member(&mut conn, of, caller.user_id).await?,
            (Some(_), None) => false,
        };
        if may_read { Ok(row) } else { Err(Refusal::NotFound("attachment").into()) }
    }

    /// Takes away what is doomed and what was not sent in time; returns how many files. Any number
    /// of nodes may do so: to delete what is gone is no mistake. One that can not be deleted waits
    /// behind all others for its next time.
    pub async fn sweep(&self) -> Result<usize> {
        let mut conn = self.pool.get().await?;
        let ids = rows::doomed(&mut conn, UNSENT_HOURS, SWEPT).await?;
        drop(conn);
        let (mut gone, mut stuck) = (Vec::with_capacity(ids.len()), 0);
        for id in ids {
            let mut conn = self.pool.get().await?;
            let is_taken = rows::take(&mut conn, id).await?;
            drop(conn);
            if !is_taken {
                continue;
            }
            match self.delete(id).await {
                Ok(()) => gone.push(id),
                Err(fault) => {
                    tracing::warn!(%id, "a file was not taken away and is tried again: {fault}");
                    stuck += 1;
                    if stuck == STUCK {
                        break;
                    }
                }
            }
        }
        let mut conn = self.pool.get().await?;
        rows::forget(&mut conn, &gone).await?;
        Ok(gone.len())
    }

    async fn delete(&self, id: Uuid) -> std::result::Result<(), StorageFault> {
        self.storage.delete(&key(id, Form::Thumbnail)).await?;
        self.storage.delete(&key(id, Form::Whole)).await
    }
}

/// Writes what comes to `upload`, looking at it on the way; returns its size and hash.
async fn take(
    upload: &mut crate::storage::Upload,
    kind: FileType,
    mut body: impl Stream<Item = Result<Bytes>> + Unpin,
) -> Result<(usize, Vec<u8>)> {
    let limit = kind.max_bytes();
    let (mut hash, mut size) = (Sha256::new(), 0);
    // The beginning of the file until enough of it is there; then None.
    let mut head = Some(Vec::new());
    let mut torn = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        size += chunk.len();
        if size > limit {
            return Err(Refusal::PayloadTooLarge { limit }.into());
        }
        if let Some(seen) = &mut head {
            seen.extend_from_slice(&chunk);
            if seen.len() >= HEAD {
                check_head(kind, head.take().as_deref())?;
            }
        }
        if kind == FileType::Text {
            torn.extend_from_slice(&chunk);
            torn = text_goes_on(&torn).ok_or_else(|| mismatch(kind))?.to_vec();
        }
        hash.update(&chunk);
        upload.write(chunk).await?;
    }
    check_head(kind, head.as_deref())?;
    if size == 0 || !torn.is_empty() {
        return Err(mismatch(kind).into());
    }
    Ok((size, hash.finalize().to_vec()))
}

fn check_head(kind: FileType, head: Option<&[u8]>) -> Result<()> {
    match head {
        Some(head) if !kind.fits(head) => Err(mismatch(kind).into()),
        _ => Ok(()),
    }
}

/// Where a file lies. The last letters of an id are random, so that folders fill evenly.
fn key(id: Uuid, form: Form) -> String {
    let id = id.simple().to_string();
    let folder = id.get(30..).unwrap_or_default();
    match form {
        Form::Whole => format!("attachments/{folder}/{id}"),
        Form::Thumbnail => format!("attachments/{folder}/{id}-thumbnail"),
    }
}
