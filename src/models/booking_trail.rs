//! Bookings as they were once, rebuilt from their audit trail.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Conn;
use super::bookings::Booking;
use super::schema::{booking_events, bookings, services};

/// The most rows that one request makes: the bookings of a series, without what they are moved to.
const MOST_MADE: i64 = 52;

/// What the keyed request of the id `key` made for `seeker_id`, as it was right after its first
/// `action`, by the time of the session. The name of the service is that of now.
pub async fn made(
    conn: &mut Conn,
    seeker_id: Uuid,
    key: Uuid,
    action: &str,
) -> QueryResult<Vec<Booking>> {
    let under_key = bookings::id.eq(key).or(bookings::series_id.eq(key));
    let rows: Vec<(Uuid, String)> = bookings::table
        .inner_join(services::table)
        .filter(bookings::seeker_id.eq(seeker_id))
        .filter(bookings::rescheduled_from.is_null())
        .filter(under_key.nullable().or(bookings::booked_under.eq(key)))
        .limit(MOST_MADE)
        .select((bookings::id, services::name))
        .load(conn)
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
    let events: Vec<(Uuid, String, Value)> = booking_events::table
        .filter(booking_events::booking_id.eq_any(&ids))
        .order((booking_events::booking_id, booking_events::version))
        .select((booking_events::booking_id, booking_events::action, booking_events::data))
        .load(conn)
        .await?;
    let names: BTreeMap<Uuid, String> = rows.into_iter().collect();
    let mut made = Vec::with_capacity(names.len());
    for (id, service_name) in names {
        let of_row = events.iter().filter(|(booking_id, ..)| *booking_id == id);
        if let Some(fields) = until(of_row.map(|(_, action, data)| (action.as_str(), data)), action)
        {
            let row: Booking = serde_json::from_value(fields)
                .map_err(|e| Error::DeserializationError(e.into()))?;
            made.push(Booking { service_name, ..row });
        }
    }
    made.sort_by_key(|row| (row.scheduled_at, row.id));
    Ok(made)
}

/// The fields that the changes up to the first `wanted` action add up to; `None` without one.
fn until<'a>(events: impl Iterator<Item = (&'a str, &'a Value)>, wanted: &str) -> Option<Value> {
    let mut fields = Map::new();
    for (action, data) in events {
        if let Value::Object(changes) = data {
            fields.extend(changes.clone());
        }
        if action == wanted {
            return Some(Value::Object(fields));
        }
    }
    None
}
