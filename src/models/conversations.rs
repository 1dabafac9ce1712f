//! Conversations, their members and how far each has read.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::schema::{bookings, conversation_members, conversations, practitioners, users};
use crate::domain::chat::Watermarks;

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

/// A member of a conversation.
#[derive(Debug, Clone)]
pub struct Member {
    pub user_id: Uuid,
    pub first_name: String,
    pub last_name: String,
    pub marks: Watermarks,
}

/// A conversation's head and members; `None` when there is no such conversation.
pub async fn load(conn: &mut Conn, id: Uuid) -> QueryResult<Option<(i64, Vec<Member>)>> {
    let Some(head) = conversations::table
        .find(id)
        .select(conversations::last_seq)
        .first::<i64>(conn)
        .await
        .optional()?
    else {
        return Ok(None);
    };
    let rows: Vec<(Uuid, String, String, i64, i64)> = conversation_members::table
        .inner_join(users::table)
        .filter(conversation_members::conversation_id.eq(id))
        .order(conversation_members::joined_at)
        .select((
            users::id,
            users::first_name,
            users::last_name,
            conversation_members::delivered_seq,
            conversation_members::read_seq,
        ))
        .load(conn)
        .await?;
    let members = rows
        .into_iter()
        .map(|(user_id, first_name, last_name, delivered, read)| Member {
            user_id,
            first_name,
            last_name,
            marks: Watermarks { delivered, read },
        })
        .collect();
    Ok(Some((head, members)))
}

/// Whether `user_id` is a member.
pub async fn is_member(conn: &mut Conn, id: Uuid, user_id: Uuid) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(conversation_members::table.find((id, user_id))))
        .get_result(conn)
        .await
}

/// The head of a conversation.
pub async fn head(conn: &mut Conn, id: Uuid) -> QueryResult<Option<i64>> {
    conversations::table.find(id).select(conversations::last_seq).first(conn).await.optional()
}

/// Where a member stands after a receipt.
#[derive(Debug, Clone, Copy)]
pub struct Advanced {
    pub marks: Watermarks,
    /// Messages of others that come after the read watermark.
    pub unread: i64,
    /// Whether a watermark moved at all.
    pub moved: bool,
}

/// Moves a member's watermarks forward (never back, never past the head); `None` when the user is
/// no member.
pub async fn advance(
    conn: &mut Conn,
    id: Uuid,
    user_id: Uuid,
    step: impl FnOnce(Watermarks, i64) -> Watermarks + Send,
) -> QueryResult<Option<Advanced>> {
    let Some(head) = head(conn, id).await? else { return Ok(None) };
    let row: Option<(i64, i64)> = conversation_members::table
        .find((id, user_id))
        .select((conversation_members::delivered_seq, conversation_members::read_seq))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let Some((delivered, read)) = row else { return Ok(None) };
    let before = Watermarks { delivered, read };
    let marks = step(before, head);
    let moved = marks != before;
    if moved {
        diesel::update(conversation_members::table.find((id, user_id)))
            .set((
                conversation_members::delivered_seq.eq(marks.delivered),
                conversation_members::read_seq.eq(marks.read),
            ))
            .execute(conn)
            .await?;
    }
    let unread = unread(conn, id, user_id, marks.read).await?;
    Ok(Some(Advanced { marks, unread, moved }))
}

/// How many messages of others come after `read`.
async fn unread(conn: &mut Conn, id: Uuid, user_id: Uuid, read: i64) -> QueryResult<i64> {
    use super::schema::messages;
    messages::table
        .filter(messages::conversation_id.eq(id))
        .filter(messages::seq.gt(read))
        .filter(messages::sender_id.is_distinct_from(user_id))
        .count()
        .get_result(conn)
        .await
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
                    AND x.seq > m.read_seq AND x.sender_id IS DISTINCT FROM $1) AS unread,
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

/// Whether two users share a conversation or a booking, which lets one see the other's presence.
pub async fn are_acquainted(conn: &mut Conn, a: Uuid, b: Uuid) -> QueryResult<bool> {
    let (mine, theirs) =
        diesel::alias!(conversation_members as mine, conversation_members as theirs);
    let share: bool = diesel::select(diesel::dsl::exists(
        mine.inner_join(
            theirs.on(mine
                .field(conversation_members::conversation_id)
                .eq(theirs.field(conversation_members::conversation_id))),
        )
        .filter(mine.field(conversation_members::user_id).eq(a))
        .filter(theirs.field(conversation_members::user_id).eq(b)),
    ))
    .get_result(conn)
    .await?;
    if share {
        return Ok(true);
    }
    let booked = |seeker: Uuid, practitioner: Uuid| {
        bookings::table
            .inner_join(practitioners::table)
            .filter(bookings::seeker_id.eq(seeker))
            .filter(practitioners::user_id.eq(practitioner))
            .filter(bookings::status.ne_all(["held", "released", "lapsed"]))
    };
    diesel::select(diesel::dsl::exists(booked(a, b)).or(diesel::dsl::exists(booked(b, a))))
        .get_result(conn)
        .await
}
