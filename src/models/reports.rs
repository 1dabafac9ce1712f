//! What users tell administrators of, with copies of what it is about.

use diesel::prelude::*;
use diesel::sql_types::{Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Conn;
use super::messages::Message;
use super::schema::{message_versions, messages, reports};

/// Reports that one user may make in 24 hours.
pub const PER_DAY: i64 = 20;
/// Messages before and after the reported one that are kept with it.
const AROUND: i64 = 10;
/// Versions of it that are kept with it, from each end: all that one can have
/// (`domain::chat::MAX_EDITS` and the one that was taken away), but older ones may have more.
const VERSIONS: i64 = 26;
/// How long files that are evidence are kept after their message went, in days.
const FILES_HELD_DAYS: i32 = 180;

/// A report, without its evidence.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = reports, check_for_backend(diesel::pg::Pg))]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub id: Uuid,
    pub reporter_id: Option<Uuid>,
    /// Who is reported.
    pub user_id: Option<Uuid>,
    pub conversation_id: Option<Uuid>,
    pub message_id: Option<Uuid>,
    /// `spam`, `harassment`, `threat`, `sexual`, `fraud`, `health_claim` or `other`.
    pub reason: String,
    pub details: String,
    /// `open`, `upheld` or `dismissed`.
    pub status: String,
    /// Of the administrator who resolved it.
    pub note: Option<String>,
    pub resolved_by: Option<Uuid>,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub resolved_at: Option<Timestamp>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// A report that is about to be stored.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = reports)]
pub struct NewReport {
    pub id: Uuid,
    pub reporter_id: Uuid,
    pub user_id: Option<Uuid>,
    pub conversation_id: Option<Uuid>,
    pub message_id: Option<Uuid>,
    pub reason: &'static str,
    pub details: String,
    pub evidence: Value,
}

/// What became of a report that was to be stored.
#[derive(Debug)]
pub enum Stored {
    Done(Box<Report>),
    /// The reporter reported the same message before.
    Again,
    /// The reporter made as many as they may.
    TooMany,
}

/// Stores a report, and keeps the files of its message.
pub async fn insert(conn: &mut Conn, new: NewReport) -> QueryResult<Stored> {
    // Of two at once the second counts the first.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('reports:' || $1, 0))")
        .bind::<Text, _>(new.reporter_id.to_string())
        .execute(conn)
        .await?;
    let mine = || reports::table.filter(reports::reporter_id.eq(new.reporter_id));
    let again = mine().filter(reports::message_id.eq(new.message_id));
    if new.message_id.is_some()
        && diesel::select(diesel::dsl::exists(again)).get_result(conn).await?
    {
        return Ok(Stored::Again);
    }
    let day = diesel::dsl::sql::<Timestamptz>("statement_timestamp() - interval '24 hours'");
    let count: i64 = mine().filter(reports::created_at.gt(day)).count().get_result(conn).await?;
    if count >= PER_DAY {
        return Ok(Stored::TooMany);
    }
    if let Some(message_id) = new.message_id {
        diesel::sql_query(
            "UPDATE attachments SET held_until = statement_timestamp() + make_interval(days => $2)
              WHERE message_id = $1",
        )
        .bind::<SqlUuid, _>(message_id)
        .bind::<Integer, _>(FILES_HELD_DAYS)
        .execute(conn)
        .await?;
    }
    let report = diesel::insert_into(reports::table)
        .values(new)
        .returning(Report::as_returning())
        .get_result(conn)
        .await?;
    Ok(Stored::Done(Box::new(report)))
}

/// A copy of a message, of what it said before, and of those around it, as they are now. It is bounded:
/// each text by the length of a message, their number by `VERSIONS` and `AROUND`.
pub async fn evidence(conn: &mut Conn, message: &Message) -> QueryResult<Value> {
    let (version_count, versions) = versions(conn, message.id).await?;
    let near = messages::table
        .filter(messages::conversation_id.eq(message.conversation_id))
        .filter(messages::seq.between(message.seq - 4 * AROUND, message.seq + 4 * AROUND))
        .order(messages::seq)
        .select(Message::as_select())
        .load(conn)
        .await?;
    // Changes have seqs of their own between them.
    let (before, after): (Vec<Message>, Vec<Message>) =
        near.into_iter().filter(|m| m.seq != message.seq).partition(|m| m.seq < message.seq);
    let around = usize::try_from(AROUND).unwrap_or_default();
    let skipped = before.len().saturating_sub(around);
    let context: Vec<Message> =
        before.into_iter().skip(skipped).chain(after.into_iter().take(around)).collect();
    Ok(json!({
        "message": message, "versions": versions, "versionCount": version_count, "context": context,
    }))
}

/// How many versions of a message there are, and its first and last ones in their order.
async fn versions(conn: &mut Conn, message_id: Uuid) -> QueryResult<(i64, Vec<Value>)> {
    use message_versions as v;
    let all = || v::table.filter(v::message_id.eq(message_id));
    let row = (v::version, v::content, v::attachments);
    let count: i64 = all().count().get_result(conn).await?;
    let mut kept: Vec<(i32, String, Value)> =
        all().order(v::version).limit(VERSIONS).select(row).load(conn).await?;
    let more = (count - VERSIONS).clamp(0, VERSIONS);
    let mut last: Vec<(i32, String, Value)> =
        all().order(v::version.desc()).limit(more).select(row).load(conn).await?;
    last.reverse();
    kept.append(&mut last);
    let version = |(n, content, attachments)| json!({ "version": n, "content": content, "attachments": attachments });
    Ok((count, kept.into_iter().map(version).collect()))
}

/// A page of reports, the newest first, and how many there are.
pub async fn list(
    conn: &mut Conn,
    status: Option<&str>,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Report>, i64)> {
    let wanted = || {
        let all = reports::table.into_boxed();
        match status {
            Some(status) => all.filter(reports::status.eq(status.to_owned())),
            None => all,
        }
    };
    let total = wanted().count().get_result(conn).await?;
    let rows = wanted()
        .order((reports::created_at.desc(), reports::id))
        .limit(limit)
        .offset(offset)
        .select(Report::as_select())
        .load(conn)
        .await?;
    Ok((rows, total))
}

/// A report and its evidence.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<(Report, Value)>> {
    reports::table
        .find(id)
        .select((Report::as_select(), reports::evidence))
        .first(conn)
        .await
        .optional()
}

/// Resolves a report that is open; `None` for any other.
pub async fn resolve(
    conn: &mut Conn,
    id: Uuid,
    by: Uuid,
    status: &str,
    note: Option<&str>,
) -> QueryResult<Option<Report>> {
    let now = diesel::dsl::sql::<Timestamptz>("statement_timestamp()");
    diesel::update(reports::table.find(id).filter(reports::status.eq("open")))
        .set((
            reports::status.eq(status),
            reports::note.eq(note),
            reports::resolved_by.eq(by),
            reports::resolved_at.eq(now.nullable()),
        ))
        .returning(Report::as_returning())
        .get_result(conn)
        .await
        .optional()
}
