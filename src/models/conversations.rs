//! Conversations, their members and how far each has read.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::messages::{self, Quote};
use super::schema::{conversation_members, conversations, users};
use crate::domain::chat::{MemberRole, Shown, Watermarks};

/// The key that makes the conversation of a pair unique, whoever opens it.
pub fn direct_key(a: Uuid, b: Uuid) -> String {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    format!("{low}:{high}")
}

/// Opens the 1:1 conversation of two users, or finds it; the flag tells whether it is new.
pub async fn open_direct(
    conn: &mut Conn,
    id: Uuid,
    creator: Uuid,
    other: Uuid,
) -> QueryResult<(Uuid, bool)> {
    let key = direct_key(creator, other);
    let inserted: Option<Uuid> = diesel::insert_into(conversations::table)
        .values((
            conversations::id.eq(id),
            conversations::kind.eq("direct"),
            conversations::direct_key.eq(&key),
            conversations::created_by.eq(creator),
        ))
        .on_conflict(conversations::direct_key)
        .do_nothing()
        .returning(conversations::id)
        .get_result(conn)
        .await
        .optional()?;
    let Some(id) = inserted else {
        let found = conversations::table
            .filter(conversations::direct_key.eq(&key))
            .select(conversations::id)
            .first(conn)
            .await?;
        return Ok((found, false));
    };
    let members: Vec<_> = [creator, other]
        .into_iter()
        .map(|user| {
            (conversation_members::conversation_id.eq(id), conversation_members::user_id.eq(user))
        })
        .collect();
    diesel::insert_into(conversation_members::table).values(members).execute(conn).await?;
    Ok((id, true))
}

/// The 1:1 conversation of two users, if they have one.
pub async fn find_direct(conn: &mut Conn, a: Uuid, b: Uuid) -> QueryResult<Option<Uuid>> {
    conversations::table
        .filter(conversations::direct_key.eq(direct_key(a, b)))
        .select(conversations::id)
        .first(conn)
        .await
        .optional()
}

/// A member of a conversation.
#[derive(Debug, Clone)]
pub struct Member {
    pub user_id: Uuid,
    pub first_name: String,
    pub last_name: String,
    pub role: MemberRole,
    pub marks: Watermarks,
    /// Whether others are not to learn how far they have read.
    pub private: bool,
}

type MemberRow = ((Uuid, String, String, bool), String, (i64, i64, i64));

impl From<MemberRow> for Member {
    fn from((user, role, (delivered, received, read)): MemberRow) -> Self {
        let (user_id, first_name, last_name, read_receipts) = user;
        Self {
            user_id,
            first_name,
            last_name,
            role: MemberRole::parse(&role).unwrap_or(MemberRole::Member),
            marks: Watermarks { delivered, received, read },
            private: !read_receipts,
        }
    }
}

/// A conversation and who is in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// `direct` or `group`.
    pub kind: String,
    pub title: Option<String>,
    /// The seq of its newest message or change.
    pub head: i64,
    /// The seq of the newest change of members.
    pub members_seq: i64,
    pub members: Vec<Member>,
}

impl Loaded {
    /// The member `user_id`, if they are one.
    pub fn member(&self, user_id: Uuid) -> Option<&Member> {
        self.members.iter().find(|m| m.user_id == user_id)
    }
}

/// A conversation with its members, who came first first; `None` when there is no such
/// conversation. The members are at least as new as `members_seq`.
pub async fn load(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Loaded>> {
    use conversation_members as m;
    let found: Option<(String, Option<String>, i64, i64)> = conversations::table
        .find(id)
        .select((
            conversations::kind,
            conversations::title,
            conversations::last_seq,
            conversations::members_seq,
        ))
        .first(conn)
        .await
        .optional()?;
    let Some((kind, title, head, members_seq)) = found else { return Ok(None) };
    let rows: Vec<MemberRow> = m::table
        .inner_join(users::table)
        .filter(m::conversation_id.eq(id))
        .order((m::joined_at, m::user_id))
        .select((
            (users::id, users::first_name, users::last_name, users::read_receipts),
            m::role,
            (m::delivered_seq, m::received_seq, m::read_seq),
        ))
        .load(conn)
        .await?;
    let members = rows.into_iter().map(Member::from).collect();
    Ok(Some(Loaded { kind, title, head, members_seq, members }))
}

/// Whether `user_id` is a member.
pub async fn is_member(conn: &mut Conn, id: Uuid, user_id: Uuid) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(conversation_members::table.find((id, user_id))))
        .get_result(conn)
        .await
}

/// Where a member stands after a receipt.
#[derive(Debug, Clone, Copy)]
pub struct Advanced {
    pub marks: Watermarks,
    /// Messages of others that come after the read watermark.
    pub unread: i64,
    /// Whether a watermark moved at all.
    pub moved: bool,
    /// What others saw before, and what they see now.
    pub shown: (Shown, Shown),
}

#[derive(QueryableByName)]
struct Marks {
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
    #[diesel(sql_type = BigInt)]
    delivered_seq: i64,
    #[diesel(sql_type = BigInt)]
    received_seq: i64,
    #[diesel(sql_type = BigInt)]
    read_seq: i64,
    #[diesel(sql_type = Bool)]
    read_receipts: bool,
}

/// Moves a member's watermarks forward (never back, never past the head) by `step`, which is given
/// them, the head, and whether the member reads in private; `None` when the user is no member.
pub async fn advance(
    conn: &mut Conn,
    id: Uuid,
    user_id: Uuid,
    step: impl FnOnce(Watermarks, i64, bool) -> Watermarks + Send,
) -> QueryResult<Option<Advanced>> {
    let row: Option<Marks> = diesel::sql_query(
        "SELECT c.last_seq, m.delivered_seq, m.received_seq, m.read_seq, u.read_receipts
           FROM conversation_members m
           JOIN conversations c ON c.id = m.conversation_id JOIN users u ON u.id = m.user_id
          WHERE m.conversation_id = $1 AND m.user_id = $2 FOR UPDATE OF m",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(user_id)
    .get_result(conn)
    .await
    .optional()?;
    let Some(row) = row else { return Ok(None) };
    let (delivered, received, read) = (row.delivered_seq, row.received_seq, row.read_seq);
    let before = Watermarks { delivered, received, read };
    let private = !row.read_receipts;
    let marks = step(before, row.last_seq, private);
    let moved = marks != before;
    if moved {
        diesel::update(conversation_members::table.find((id, user_id)))
            .set((
                conversation_members::delivered_seq.eq(marks.delivered),
                conversation_members::received_seq.eq(marks.received),
                conversation_members::read_seq.eq(marks.read),
            ))
            .execute(conn)
            .await?;
    }
    let unread = unread(conn, id, user_id, marks.read).await?;
    let shown = (before.shown(private), marks.shown(private));
    Ok(Some(Advanced { marks, unread, moved, shown }))
}

/// How many messages come after `read` that somebody else wrote and that are still there. Lines of
/// the platform do not count: what they say was notified.
async fn unread(conn: &mut Conn, id: Uuid, user_id: Uuid, read: i64) -> QueryResult<i64> {
    use super::schema::messages;
    messages::table
        .filter(messages::conversation_id.eq(id))
        .filter(messages::seq.gt(read))
        .filter(messages::sender_id.is_distinct_from(user_id))
        .filter(messages::deleted_at.is_null())
        .filter(messages::message_type.ne("system"))
        .count()
        .get_result(conn)
        .await
}

/// Where a conversation is, for each of its members.
#[derive(Debug)]
pub struct Heads {
    /// The seq of its newest message or change.
    pub head: i64,
    /// The newest message that is still there.
    pub preview: Option<Quote>,
    pub members: Vec<MemberHead>,
}

/// Where one member is.
#[derive(Debug, QueryableByName)]
pub struct MemberHead {
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
    #[diesel(sql_type = BigInt, column_name = read_seq)]
    pub read: i64,
    #[diesel(sql_type = BigInt)]
    pub unread: i64,
    #[diesel(sql_type = BigInt)]
    head: i64,
}

/// Where conversation `id` is. Its cost grows with what is unread to the member who has read least:
/// messages and watermarks are counted in one pass, not once per member.
pub async fn heads(conn: &mut Conn, id: Uuid) -> QueryResult<Heads> {
    let preview = messages::previews(conn, &[id]).await?.remove(&id);
    // Head and counts in one statement: they are of one moment.
    let members: Vec<MemberHead> = diesel::sql_query(
        "WITH h AS MATERIALIZED (SELECT last_seq FROM conversations WHERE id = $1),
         m AS MATERIALIZED (
             SELECT user_id, read_seq FROM conversation_members WHERE conversation_id = $1),
         c AS MATERIALIZED (
             SELECT seq, sender_id FROM messages
              WHERE conversation_id = $1 AND seq > (SELECT min(read_seq) FROM m)
                AND deleted_at IS NULL AND message_type <> 'system'),
         passed AS (
             SELECT user_id, at, count(*) FILTER (WHERE user_id IS NULL)
                        OVER (ORDER BY at DESC, user_id NULLS LAST) AS n
               FROM (SELECT seq AS at, NULL::uuid AS user_id FROM c
                     UNION ALL SELECT read_seq, user_id FROM m) both_kinds),
         own AS (
             SELECT m.user_id, count(*) AS n
               FROM c JOIN m ON c.sender_id = m.user_id AND c.seq > m.read_seq GROUP BY m.user_id)
         SELECT p.user_id, p.at AS read_seq, p.n - COALESCE(o.n, 0) AS unread,
                (SELECT last_seq FROM h) AS head
           FROM passed p LEFT JOIN own o ON o.user_id = p.user_id WHERE p.user_id IS NOT NULL",
    )
    .bind::<SqlUuid, _>(id)
    .load(conn)
    .await?;
    let head = members.as_slice().first().map_or(0, |m| m.head);
    Ok(Heads { head, preview, members })
}

/// A line of the conversation list.
#[derive(Debug, Clone, QueryableByName)]
pub struct Summary {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub title: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub last_seq: i64,
    #[diesel(sql_type = BigInt)]
    pub read_seq: i64,
    #[diesel(sql_type = BigInt)]
    pub unread: i64,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    pub updated_at: Timestamp,
    #[diesel(sql_type = Array<SqlUuid>)]
    pub member_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<Text>)]
    pub member_names: Vec<String>,
}

/// A page of a user's conversations, the one written to last first, and how many there are.
pub async fn list(
    conn: &mut Conn,
    user_id: Uuid,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Summary>, i64)> {
    let total = conversation_members::table
        .filter(conversation_members::user_id.eq(user_id))
        .count()
        .get_result(conn)
        .await?;
    let rows = diesel::sql_query(
        "SELECT c.id, c.kind, c.title, c.last_seq, m.read_seq, c.updated_at,
                (SELECT count(*) FROM messages x WHERE x.conversation_id = c.id
                    AND x.seq > m.read_seq AND x.sender_id IS DISTINCT FROM $1
                    AND x.deleted_at IS NULL AND x.message_type <> 'system') AS unread,
                (SELECT array_agg(o.user_id ORDER BY o.joined_at, o.user_id)
                   FROM conversation_members o WHERE o.conversation_id = c.id) AS member_ids,
                (SELECT array_agg(u.first_name || ' ' || u.last_name ORDER BY o.joined_at, o.user_id)
                   FROM conversation_members o JOIN users u ON u.id = o.user_id
                  WHERE o.conversation_id = c.id) AS member_names
           FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
          WHERE m.user_id = $1
          ORDER BY c.updated_at DESC, c.id DESC LIMIT $2 OFFSET $3",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<BigInt, _>(limit)
    .bind::<BigInt, _>(offset)
    .load(conn)
    .await?;
    Ok((rows, total))
}
