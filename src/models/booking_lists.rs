//! Lists of bookings, and the names that go with them.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::bookings::{Booking, SeekerView, columns};
use super::schema::{bookings, practitioners, services, users};
use super::{Conn, Part};

/// The names of the seekers of `rows`, by their ids.
pub async fn seekers(conn: &mut Conn, rows: &[Booking]) -> QueryResult<HashMap<Uuid, SeekerView>> {
    let ids: BTreeSet<Uuid> = rows.iter().map(|row| row.seeker_id).collect();
    let names: Vec<(Uuid, SeekerView)> = users::table
        .filter(users::id.eq_any(ids))
        .select((users::id, (users::first_name, users::last_name)))
        .load(conn)
        .await?;
    Ok(names.into_iter().collect())
}

/// Whose bookings to list, and which.
#[derive(Debug, Clone)]
pub struct ListFilter {
    /// Bookings this user made or that are with this user's practice; all of them when `None`.
    pub of_user: Option<Uuid>,
    /// Only in this state.
    pub status: Option<String>,
    /// Only of this series.
    pub series_id: Option<Uuid>,
    /// Only sessions that begin at this instant or later.
    pub from: Option<Timestamp>,
    /// Only sessions that begin before it.
    pub to: Option<Timestamp>,
    /// The earliest session first instead of the latest.
    pub ascending: bool,
}

/// At most `limit` bookings (never holds) in the order of the filter; and how many there are in all,
/// unless the part says where the one before it ended.
pub async fn list(
    conn: &mut Conn,
    filter: &ListFilter,
    limit: i64,
    part: Part,
) -> QueryResult<(Vec<Booking>, Option<i64>)> {
    // Looked up first: a condition over two tables would be checked for every booking there is.
    let practice = match filter.of_user {
        Some(user) => practice_of(conn, user).await?,
        None => None,
    };
    let query = || {
        let mut query = bookings::table
            .filter(bookings::status.ne_all(["held", "released", "lapsed"]))
            .into_boxed();
        if let Some(user) = filter.of_user {
            let own = bookings::seeker_id.eq(user);
            query = match practice {
                Some(id) => query.filter(own.or(bookings::practitioner_id.eq(id))),
                None => query.filter(own),
            };
        }
        if let Some(status) = &filter.status {
            query = query.filter(bookings::status.eq(status.clone()));
        }
        if let Some(series) = filter.series_id {
            query = query.filter(bookings::series_id.eq(series));
        }
        if let Some(from) = filter.from {
            query = query.filter(bookings::scheduled_at.ge(from.to_diesel()));
        }
        if let Some(to) = filter.to {
            query = query.filter(bookings::scheduled_at.lt(to.to_diesel()));
        }
        query
    };
    let (total, page) = match part {
        Part::Offset(n) => (Some(query().count().get_result(conn).await?), query().offset(n)),
        Part::After(at, id) => {
            let (at, column) = (at.to_diesel(), bookings::scheduled_at);
            let rest = if filter.ascending {
                query().filter(column.gt(at).or(column.eq(at).and(bookings::id.gt(id))))
            } else {
                query().filter(column.lt(at).or(column.eq(at).and(bookings::id.lt(id))))
            };
            (None, rest)
        }
    };
    let ordered = if filter.ascending {
        page.order((bookings::scheduled_at.asc(), bookings::id.asc()))
    } else {
        page.order((bookings::scheduled_at.desc(), bookings::id.desc()))
    };
    let named = ordered.inner_join(practitioners::table).inner_join(services::table);
    Ok((named.select(columns()).limit(limit).load(conn).await?, total))
}

/// The practice of this user, if they have one.
async fn practice_of(conn: &mut Conn, user: Uuid) -> QueryResult<Option<Uuid>> {
    let practice = practitioners::table.filter(practitioners::user_id.eq(user));
    practice.select(practitioners::id).first(conn).await.optional()
}
