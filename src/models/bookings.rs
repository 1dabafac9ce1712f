//! Bookings and holds as rows, and how they read on the wire.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Conn;
use super::schema::{booking_events, bookings, practitioners, services};
use crate::domain::cancellation::share;

/// A row of `bookings` with the user of its practice and the name of its service.
///
/// Its JSON is what the audit trail keeps of a change, so that a booking can be rebuilt from its
/// events; what others store or the database derives is left out of it, and so is what is null.
#[derive(Debug, Clone, PartialEq, Queryable, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booking {
    pub id: Uuid,
    pub seeker_id: Uuid,
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub scheduled_at: Timestamp,
    pub duration_minutes: i32,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub ends_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub occupied_from: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub occupied_until: Timestamp,
    pub total_amount: i64,
    pub commission_amount: i64,
    pub currency: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp)]
    pub hold_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancellation_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_notes: Option<String>,
    pub version: i64,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
    /// How many come.
    pub seats: i32,
    /// The session that others may join, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_session_id: Option<Uuid>,
    /// Whether it keeps others out while it waits for an answer.
    pub pending_blocks: bool,
    /// The booking that this one took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescheduled_from: Option<Uuid>,
    /// The first booking of the chain of reschedules; `None` for that one itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Uuid>,
    /// RFC 5545 `SEQUENCE`.
    pub ical_sequence: i32,
    /// What bookings made together have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_id: Option<Uuid>,
    /// See `domain::cancellation`; copied from the offer.
    pub cancellation_policy: serde_json::Value,
    /// The percent of the price that come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_percent: Option<i16>,
    /// Whether it keeps others out.
    #[serde(skip)]
    pub blocks: bool,
    #[serde(skip)]
    pub practitioner_user_id: Uuid,
    #[serde(skip)]
    pub service_name: String,
}

/// The SQL types of the columns of a [`Booking`].
pub(super) type RowTypes = diesel::dsl::SqlTypeOf<columns>;

#[diesel::dsl::auto_type]
pub(super) fn columns() -> _ {
    (
        bookings::id,
        bookings::seeker_id,
        bookings::practitioner_id,
        bookings::service_id,
        bookings::scheduled_at,
        bookings::duration_minutes,
        bookings::ends_at,
        bookings::occupied_from,
        bookings::occupied_until,
        bookings::total_amount,
        bookings::commission_amount,
        bookings::currency,
        bookings::status,
        bookings::hold_expires_at,
        bookings::cancellation_reason,
        bookings::notes,
        bookings::session_notes,
        bookings::version,
        bookings::created_at,
        bookings::seats,
        bookings::group_session_id,
        bookings::pending_blocks,
        bookings::rescheduled_from,
        bookings::chain_id,
        bookings::ical_sequence,
        bookings::series_id,
        bookings::cancellation_policy,
        bookings::refund_percent,
        bookings::blocks,
        practitioners::user_id,
        services::name,
    )
}

/// An amount on the wire: minor units and an ISO 4217 currency.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Amount {
    /// Minor units: 150000 INR is 1,500 rupees.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
}

/// The states of bookings, for the API description.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BookingStatus {
    Pending,
    Confirmed,
    Declined,
    Expired,
    InSession,
    Completed,
    NoShow,
    Cancelled,
    Rescheduled,
}

/// The name of a seeker.
#[derive(Debug, Clone, PartialEq, Queryable, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeekerView {
    pub first_name: String,
    pub last_name: String,
}

/// A booking as either side sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BookingView {
    pub id: Uuid,
    pub seeker_id: Uuid,
    /// Who booked, where a booking or a list of them is read by the practitioner or an administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeker: Option<SeekerView>,
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    pub service_name: String,
    pub scheduled_at: Timestamp,
    pub ends_at: Timestamp,
    pub duration_minutes: i32,
    /// A booking that was moved is `rescheduled`, and another one has taken its place.
    #[schema(value_type = BookingStatus)]
    pub status: String,
    /// How many come.
    pub seats: i32,
    pub total_amount: Amount,
    /// The platform's share; the seeker is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commission_amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancellation_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// What the practitioner wrote down; the seeker is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_notes: Option<String>,
    /// What comes back of the price when the seeker cancels, by how long before the session.
    #[schema(value_type = Vec<Object>)]
    pub cancellation_policy: serde_json::Value,
    /// Once it ended: the share of the price that comes back, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_percent: Option<i16>,
    /// That share of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_amount: Option<Amount>,
    /// The booking that this one took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescheduled_from: Option<Uuid>,
    /// What the bookings of one series have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_id: Option<Uuid>,
    /// Grows with every change.
    pub version: i64,
    pub created_at: Timestamp,
}

/// A hold as its owner sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    pub id: Uuid,
    pub practitioner_id: Uuid,
    pub service_id: Uuid,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    /// How many come.
    pub seats: i32,
    /// From then on the slot is free again.
    pub expires_at: Option<Timestamp>,
    pub total_amount: Amount,
}

impl Booking {
    fn amount(&self, amount: i64) -> Amount {
        Amount { amount, currency: self.currency.clone() }
    }

    /// Whether both sides know of it: of a hold only the seeker does.
    pub fn is_told(&self) -> bool {
        !matches!(self.status.as_str(), "held" | "released" | "lapsed")
    }

    /// The view of the user `viewer`: the seeker does not see the commission.
    pub fn view(&self, viewer: Uuid) -> BookingView {
        BookingView {
            id: self.id,
            seeker_id: self.seeker_id,
            seeker: None,
            practitioner_id: self.practitioner_id,
            service_id: self.service_id,
            service_name: self.service_name.clone(),
            scheduled_at: self.scheduled_at,
            ends_at: self.ends_at,
            duration_minutes: self.duration_minutes,
            status: self.status.clone(),
            seats: self.seats,
            total_amount: self.amount(self.total_amount),
            commission_amount: (viewer != self.seeker_id)
                .then(|| self.amount(self.commission_amount)),
            cancellation_reason: self.cancellation_reason.clone(),
            notes: self.notes.clone(),
            session_notes: self.session_notes.clone().filter(|_| viewer != self.seeker_id),
            cancellation_policy: self.cancellation_policy.clone(),
            refund_percent: self.refund_percent,
            refund_amount: self.refund_percent.map(|p| self.amount(share(self.total_amount, p))),
            rescheduled_from: self.rescheduled_from,
            series_id: self.series_id,
            version: self.version,
            created_at: self.created_at,
        }
    }

    /// The view of a row in status `held`.
    pub fn hold_view(&self) -> HoldView {
        HoldView {
            id: self.id,
            practitioner_id: self.practitioner_id,
            service_id: self.service_id,
            starts_at: self.scheduled_at,
            ends_at: self.ends_at,
            seats: self.seats,
            expires_at: self.hold_expires_at,
            total_amount: self.amount(self.total_amount),
        }
    }
}

/// The rows with `ids`, in no order.
pub async fn find_all(conn: &mut Conn, ids: &[Uuid]) -> QueryResult<Vec<Booking>> {
    bookings::table
        .inner_join(practitioners::table)
        .inner_join(services::table)
        .filter(bookings::id.eq_any(ids))
        .select(columns())
        .load(conn)
        .await
}

/// The row with `id`, hold or booking.
pub async fn find(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Booking>> {
    Ok(find_all(conn, &[id]).await?.pop())
}

/// The row with `id`, locked until the transaction ends. Its service and practice are not locked:
/// every booking of the service, with whomever, would wait.
pub async fn lock(conn: &mut Conn, id: Uuid) -> QueryResult<Option<Booking>> {
    bookings::table.find(id).select(bookings::id).for_update().execute(conn).await?;
    find(conn, id).await
}

/// Whether another row keeps the time of `row` from it. Under the practitioner's lock this is what
/// the constraint would say.
pub async fn is_taken(conn: &mut Conn, row: &Booking) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        taken: bool,
    }
    let answer: Answer = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM bookings o JOIN bookings r ON r.id = $1
                         WHERE o.practitioner_id = r.practitioner_id AND o.id <> r.id AND o.blocks
                           AND o.occupied && r.occupied
                           AND coalesce(o.group_session_id <> r.group_session_id, true)) AS taken",
    )
    .bind::<diesel::sql_types::Uuid, _>(row.id)
    .get_result(conn)
    .await?;
    Ok(answer.taken)
}

/// The holds of `seeker_id` that stand by the database's clock, by their time. A seeker has few.
pub async fn holds_of(conn: &mut Conn, seeker_id: Uuid) -> QueryResult<Vec<Booking>> {
    let now = diesel::dsl::now.into_sql::<diesel::sql_types::Timestamptz>();
    bookings::table
        .inner_join(practitioners::table)
        .inner_join(services::table)
        .filter(bookings::seeker_id.eq(seeker_id))
        .filter(bookings::status.eq("held"))
        .filter(bookings::hold_expires_at.gt(now.nullable()))
        .order(bookings::scheduled_at)
        .limit(100)
        .select(columns())
        .load(conn)
        .await
}

/// One entry of a booking's audit trail.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = booking_events, check_for_backend(diesel::pg::Pg))]
#[serde(rename_all = "camelCase")]
pub struct BookingEvent {
    pub version: i64,
    /// `hold`, `book`, `confirm`, `decline`, `cancel`, `start`, `end`, `no_show`,
    /// `extend`, `release`, `lapse`, `expire`, `edit`, `reschedule`.
    pub action: String,
    pub from_status: Option<String>,
    pub to_status: String,
    /// Who did it; nobody when the hub itself did.
    pub actor_id: Option<Uuid>,
    pub reason: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// The audit trail of a booking, oldest first; as long as the booking has had changes.
pub async fn events(conn: &mut Conn, booking_id: Uuid) -> QueryResult<Vec<BookingEvent>> {
    booking_events::table
        .filter(booking_events::booking_id.eq(booking_id))
        .order(booking_events::version)
        .limit(1_000)
        .select(BookingEvent::as_select())
        .load(conn)
        .await
}
