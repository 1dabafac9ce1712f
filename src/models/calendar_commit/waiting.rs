//! The waiting list: a slot that becomes free is held for the first who waits for it, in the same
//! transaction, so that nobody comes in between. When that hold runs out or is given back, it is the
//! next one's.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::insert::{NewBooking, Placed, Placement, place_one};
use super::{Command, CommitRules, Job, Ledger, Outcome, news};
use crate::domain::money::commission;
use crate::models::bookings::Booking;
use crate::models::schema::waitlist;
use crate::models::{Conn, waitlist as entries};

/// How long an offer is held, in seconds: the longest that a hold may last.
const OFFER_SECONDS: f64 = 900.0;

impl Command {
    /// Whether times may open by it that no booking kept.
    pub fn may_open(&self) -> bool {
        match self {
            Self::Unblock { .. }
            | Self::PutOffer(_)
            | Self::PutSchedule { .. }
            | Self::ReplaceExternal(_)
            | Self::RemoveExternal(_) => true,
            Self::Place(_)
            | Self::BookHold { .. }
            | Self::ExtendHold { .. }
            | Self::PlaceSeries(_)
            | Self::Reschedule(_)
            | Self::Edit { .. }
            | Self::Step { .. }
            | Self::Block(_)
            | Self::Lapse
            | Self::OfferOpened { .. } => false,
        }
    }
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    seeker_id: Uuid,
    #[diesel(sql_type = BigInt)]
    price: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Integer)]
    capacity: i32,
    #[diesel(sql_type = Bool)]
    pending_blocks: bool,
    #[diesel(sql_type = Jsonb)]
    cancellation_policy: serde_json::Value,
}

/// Who wait the longest for this slot. Notice and offer are those of now; a slot of a length that
/// the offer no longer has is offered to nobody.
const NEXT: &str = "
SELECT w.id, w.seeker_id, o.price, o.currency, o.capacity, o.pending_blocks, o.cancellation_policy
  FROM waitlist w
  JOIN practitioner_services o USING (practitioner_id, service_id)
  JOIN users u ON u.id = w.seeker_id
 WHERE w.status = 'waiting' AND w.practitioner_id = $1 AND w.service_id = $2
   AND w.from_at <= $3 AND $4 <= w.until_at AND w.seeker_id <> $5
   AND o.status = 'active' AND u.status = 'active' AND o.duration_minutes = $6
   AND $3 >= statement_timestamp() + make_interval(mins => greatest(o.min_notice_minutes, 1))
 ORDER BY w.created_at, w.id
 LIMIT 5
   FOR UPDATE OF w SKIP LOCKED";

/// Holds the slot of `row`, which kept it until now, for who waits for it, if anybody does.
pub(super) async fn offer(
    conn: &mut Conn,
    rules: CommitRules,
    row: &Booking,
    ledger: &mut Ledger,
) -> QueryResult<()> {
    settle(conn, &[row.id], "missed").await?;
    let waiting: Vec<Next> = diesel::sql_query(NEXT)
        .bind::<SqlUuid, _>(row.practitioner_id)
        .bind::<SqlUuid, _>(row.service_id)
        .bind::<Timestamptz, _>(row.scheduled_at.to_diesel())
        .bind::<Timestamptz, _>(row.ends_at.to_diesel())
        .bind::<SqlUuid, _>(row.seeker_id)
        .bind::<Integer, _>(row.duration_minutes)
        .load(conn)
        .await?;
    for next in waiting {
        let (entry, new) = (next.id, hold_for(next, row, rules));
        // The time was blocked meanwhile, or this seeker comes to the session anyway.
        if hold(conn, row.practitioner_id, entry, &new, ledger).await? {
            break;
        }
    }
    Ok(())
}

/// Holds for who still wait what opened for them, and notes that it was looked for if that is all.
pub(super) async fn offer_opened(
    conn: &mut Conn,
    job: &Job,
    look: Option<i64>,
    offers: &[(Uuid, NewBooking)],
    ledger: &mut Ledger,
) -> QueryResult<Outcome> {
    for (entry, new) in offers {
        let waits = waitlist::table.find(*entry).filter(waitlist::status.eq("waiting"));
        // Locked, so that who leaves the list does so before or after.
        if waits.select(waitlist::id).for_update().execute(conn).await? > 0 {
            let new = NewBooking { placement: Placement::Hold(OFFER_SECONDS), ..new.clone() };
            hold(conn, job.practitioner_id, *entry, &new, ledger).await?;
        }
    }
    if let Some(look) = look {
        entries::looked(conn, job.practitioner_id, look).await?;
    }
    Ok(Outcome::Done)
}

/// Makes the hold that an entry of the list is offered, unless somebody was first.
async fn hold(
    conn: &mut Conn,
    practitioner_id: Uuid,
    entry: Uuid,
    new: &NewBooking,
    ledger: &mut Ledger,
) -> QueryResult<bool> {
    let placed = place_one(conn, practitioner_id, new, ledger).await?;
    let Placed::Stored(hold) = placed else { return Ok(false) };
    diesel::update(waitlist::table.find(entry))
        .set((waitlist::status.eq("offered"), waitlist::hold_id.eq(hold.id)))
        .execute(conn)
        .await?;
    news::offered(ledger, &hold);
    ledger.others.push(*hold);
    Ok(true)
}

/// The hold of the slot of `row` for who comes next.
fn hold_for(next: Next, row: &Booking, rules: CommitRules) -> NewBooking {
    NewBooking {
        id: Uuid::now_v7(),
        seeker_id: next.seeker_id,
        service_id: row.service_id,
        scheduled_at: row.scheduled_at,
        duration_minutes: row.duration_minutes,
        ends_at: row.ends_at,
        occupied_from: row.occupied_from,
        occupied_until: row.occupied_until,
        total_amount: next.price,
        commission_amount: commission(next.price, rules.commission_bps),
        currency: next.currency,
        notes: None,
        placement: Placement::Hold(OFFER_SECONDS),
        over_own_hold: false,
        seats: 1,
        capacity: (next.capacity > 1).then_some(next.capacity),
        pending_blocks: next.pending_blocks,
        cancellation_policy: next.cancellation_policy,
        series_id: None,
        replaces: None,
        // It takes the place of a session that counted.
        limits: Vec::new(),
    }
}

/// What became of the offers that these holds were.
pub(super) async fn settle(conn: &mut Conn, holds: &[Uuid], status: &str) -> QueryResult<usize> {
    diesel::sql_query(
        "UPDATE waitlist SET status = $2 WHERE hold_id = ANY ($1) AND status = 'offered'",
    )
    .bind::<Array<SqlUuid>, _>(holds)
    .bind::<Text, _>(status)
    .execute(conn)
    .await
}
