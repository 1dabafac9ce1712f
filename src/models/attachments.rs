//! Files of conversations: the rows. The row comes before its file and goes after it.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Conn;
use super::schema::{attachments, upload_days};
use crate::domain::attachment::{BYTES_PER_DAY, FILES_PER_DAY};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = attachments, check_for_backend(diesel::pg::Pg))]
pub struct Attachment {
    pub id: Uuid,
    pub conversation_id: Option<Uuid>,
    pub uploader_id: Option<Uuid>,
    /// None until it is sent.
    pub message_id: Option<Uuid>,
    pub content_type: String,
    pub name: String,
    pub bytes: i64,
    /// Of pictures.
    pub width: Option<i32>,
    pub height: Option<i32>,
    /// None until it is stored whole.
    pub sha256: Option<Vec<u8>>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

impl Attachment {
    /// The file as the message tells of it that it is sent with.
    pub fn told(&self) -> Value {
        let mut told = json!({
            "id": self.id, "contentType": self.content_type, "name": self.name, "bytes": self.bytes,
        });
        if let (Some(fields), Some(width), Some(height)) =
            (told.as_object_mut(), self.width, self.height)
        {
            fields.insert("width".to_owned(), width.into());
            fields.insert("height".to_owned(), height.into());
        }
        told
    }
}

/// A file that is about to be stored.
#[derive(Debug, Clone, Copy, Insertable)]
#[diesel(table_name = attachments)]
pub struct NewAttachment<'a> {
    pub id: Uuid,
    pub conversation_id: Uuid,
    pub uploader_id: Uuid,
    pub content_type: &'a str,
    pub name: &'a str,
}

/// What is known of a file once it is stored.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = attachments)]
pub struct Finished<'a> {
    pub content_type: &'a str,
    pub name: &'a str,
    pub bytes: i64,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub sha256: &'a [u8],
}

#[derive(QueryableByName)]
struct Seconds {
    #[diesel(sql_type = BigInt)]
    seconds: i64,
}

/// Counts one file of `announced` bytes against the user's day and stores its row; how many seconds
/// are left of the day when it is used up.
pub async fn begin(
    conn: &mut Conn,
    new: &NewAttachment<'_>,
    announced: i64,
) -> QueryResult<Result<(), i64>> {
    let counted = diesel::sql_query(
        "INSERT INTO upload_days AS d (user_id, day, files, bytes)
         VALUES ($1, (statement_timestamp() AT TIME ZONE 'UTC')::date, 1, 0)
         ON CONFLICT (user_id, day) DO UPDATE SET files = d.files + 1
          WHERE d.files < $2 AND d.bytes + $3 <= $4",
    )
    .bind::<SqlUuid, _>(new.uploader_id)
    .bind::<Integer, _>(FILES_PER_DAY)
    .bind::<BigInt, _>(announced)
    .bind::<BigInt, _>(BYTES_PER_DAY)
    .execute(conn)
    .await?;
    if counted == 0 {
        let left: Seconds = diesel::sql_query(
            "SELECT ceil(extract(epoch FROM date_trunc('day', t) + interval '1 day' - t))::bigint AS seconds
               FROM (SELECT statement_timestamp() AT TIME ZONE 'UTC') AS n (t)",
        )
        .get_result(conn)
        .await?;
        return Ok(Err(left.seconds));
    }
    diesel::insert_into(attachments::table).values(new).execute(conn).await?;
    Ok(Ok(()))
}

/// The file is stored whole: from now on it can be sent. Its bytes count against the day on which
/// they came.
pub async fn finish(conn: &mut Conn, id: Uuid, done: &Finished<'_>) -> QueryResult<Attachment> {
    let row: Attachment = diesel::update(attachments::table.find(id))
        .set(done)
        .returning(Attachment::as_returning())
        .get_result(conn)
        .await?;
    diesel::sql_query(
        "INSERT INTO upload_days AS d (user_id, day, files, bytes)
         SELECT uploader_id, (statement_timestamp() AT TIME ZONE 'UTC')::date, 0, bytes
           FROM attachments WHERE id = $1 AND uploader_id IS NOT NULL
         ON CONFLICT (user_id, day) DO UPDATE SET bytes = d.bytes + excluded.bytes",
    )
    .bind::<SqlUuid, _>(id)
    .execute(conn)
    .await?;
    Ok(row)
}

/// A file that is stored whole and not to be taken away.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Attachment>> {
    attachments::table
        .find(id)
        .filter(attachments::sha256.is_not_null())
        .filter(attachments::doomed_at.is_null())
        .select(Attachment::as_select())
        .first(conn)
        .await
        .optional()
}

/// A file that is the evidence of a report, whether or not its message still stands.
pub async fn find_held(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Attachment>> {
    let now = diesel::dsl::sql::<Timestamptz>("statement_timestamp()");
    attachments::table
        .find(id)
        .filter(attachments::held_until.gt(now.nullable()))
        .filter(attachments::sha256.is_not_null())
        .select(Attachment::as_select())
        .first(conn)
        .await
        .optional()
}

/// Marks a file as to be taken away.
pub async fn doom(conn: &mut Conn, id: Uuid) -> QueryResult<()> {
    diesel::sql_query("UPDATE attachments SET doomed_at = statement_timestamp() WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// At most `limit` files to take away, the longest doomed first; those that were not sent within
/// `hours` are doomed by this.
pub async fn doomed(conn: &mut Conn, hours: i32, limit: i64) -> QueryResult<Vec<Uuid>> {
    diesel::sql_query(
        "UPDATE attachments SET doomed_at = statement_timestamp()
          WHERE id IN (SELECT id FROM attachments
                        WHERE message_id IS NULL AND doomed_at IS NULL
                          AND created_at < statement_timestamp() - make_interval(hours => $1)
                        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Integer, _>(hours)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?;
    attachments::table
        .filter(attachments::doomed_at.is_not_null())
        .filter(
            attachments::held_until.is_null().or(attachments::held_until.lt(diesel::dsl::sql::<
                Timestamptz,
            >(
                "statement_timestamp()",
            )
            .nullable())),
        )
        .order(attachments::doomed_at)
        .limit(limit)
        .select(attachments::id)
        .load(conn)
        .await
}

/// Takes a file to be deleted right after, unless it is not to be any more: a report may have made it
/// evidence meanwhile. What is taken counts as doomed now, so that one whose deletion fails comes after
/// all others.
pub async fn take(conn: &mut Conn, id: Uuid) -> QueryResult<bool> {
    let taken = diesel::sql_query(
        "UPDATE attachments SET doomed_at = statement_timestamp()
          WHERE id = $1 AND doomed_at IS NOT NULL
            AND (held_until IS NULL OR held_until < statement_timestamp())",
    )
    .bind::<SqlUuid, _>(id)
    .execute(conn)
    .await?;
    Ok(taken > 0)
}

/// Forgets rows whose files are gone, and counts of days that are over.
pub async fn forget(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<()> {
    diesel::delete(attachments::table.filter(attachments::id.eq_any(ids)))
        .filter(attachments::doomed_at.is_not_null())
        .execute(conn)
        .await?;
    let yesterday = diesel::dsl::sql::<diesel::sql_types::Date>("current_date - 2");
    diesel::delete(upload_days::table.filter(upload_days::day.lt(yesterday))).execute(conn).await?;
    Ok(())
}

/// Of `ids`, the files that `uploader_id` may send in the conversation: stored whole, not sent yet.
pub async fn unsent(
    conn: &mut Conn,
    conversation_id: Uuid,
    uploader_id: Uuid,
    ids: &[Uuid],
) -> QueryResult<Vec<Attachment>> {
    attachments::table
        .filter(attachments::id.eq_any(ids))
        .filter(attachments::conversation_id.eq(conversation_id))
        .filter(attachments::uploader_id.eq(uploader_id))
        .filter(attachments::message_id.is_null())
        .filter(attachments::sha256.is_not_null())
        .filter(attachments::doomed_at.is_null())
        .select(Attachment::as_select())
        .load(conn)
        .await
}

/// Locks those of `ids` that can still be sent, in the order of their ids.
pub async fn lock_free(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<Vec<Uuid>> {
    attachments::table
        .filter(attachments::id.eq_any(ids))
        .filter(attachments::message_id.is_null())
        .filter(attachments::doomed_at.is_null())
        .order(attachments::id)
        .select(attachments::id)
        .for_update()
        .load(conn)
        .await
}

/// Binds files to the messages that they are sent with, as (file, message).
pub async fn bind(conn: &mut Conn, pairs: &[(Uuid, Uuid)]) -> QueryResult<()> {
    let (files, of): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    diesel::sql_query(
        "UPDATE attachments a SET message_id = t.message_id
           FROM unnest($1, $2) AS t (id, message_id) WHERE a.id = t.id",
    )
    .bind::<Array<SqlUuid>, _>(files)
    .bind::<Array<SqlUuid>, _>(of)
    .execute(conn)
    .await?;
    Ok(())
}
