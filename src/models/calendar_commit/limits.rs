//! Limits per day and week, checked under the calendar's advisory lock: another node may have
//! filled a day since the actor looked. See `domain::limits` for what counts.

use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use super::insert::NewBooking;
use super::insert::Row;
use super::{Ledger, freed, news, reload, waiting};
use crate::domain::booking::{Status, Step};
use crate::models::Conn;
use crate::models::bookings::Booking;

/// One limit that a new hold or booking has to fit into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitCheck {
    /// Counts only sessions of the booking's service.
    pub of_service: bool,
    /// The local day or week: from this instant,
    pub from: Timestamp,
    /// until before this one.
    pub until: Timestamp,
    /// How many sessions may begin in it.
    pub at_most: i64,
    /// A booking that does not count, since it is being moved.
    pub moving: Option<Uuid>,
}

impl LimitCheck {
    fn covers(&self, own: &NewBooking, other: &NewBooking) -> bool {
        let in_span = self.from <= other.scheduled_at && other.scheduled_at < self.until;
        in_span && (!self.of_service || own.service_id == other.service_id)
    }
}

/// Who shares these is in one session, which counts once.
fn session(new: &NewBooking) -> (Uuid, Timestamp) {
    (new.service_id, new.scheduled_at)
}

/// What a batch may insert now.
#[derive(Default)]
pub(super) struct Admitted<'a> {
    pub now: Vec<Row<'a>>,
    /// Those that found no room. It may be there once `now` is stored, when one of them lost or
    /// gave up a hold.
    pub full: Vec<Row<'a>>,
    /// Seekers' own holds for which there is no room beside what they want instead, by the id of
    /// that.
    gives_way: Vec<(Uuid, Uuid)>,
}

/// Sorts out what has room within its limits, each beside those before it. Asks the database only
/// when there are limits.
pub(super) async fn admit<'a>(conn: &mut Conn, wanted: Vec<Row<'a>>) -> QueryResult<Admitted<'a>> {
    let counts = count(conn, &wanted).await?;
    let mut counts = counts.into_iter();
    let mut admitted = Admitted::default();
    for wish in wanted {
        let new = wish.new;
        let mut own_holds = Vec::new();
        let mut has_room = true;
        for check in &new.limits {
            let Some(Count { others, own, .. }) = counts.next() else { continue };
            let beside = admitted.now.iter().filter(|earlier| {
                earlier.practitioner_id == wish.practitioner_id
                    && session(earlier.new) != session(new)
                    && check.covers(new, earlier.new)
            });
            let taken = others + i64::try_from(beside.count()).unwrap_or(i64::MAX);
            has_room &= taken < check.at_most;
            let held = i64::try_from(own.len()).unwrap_or(i64::MAX);
            let excess = (taken + held + 1 - check.at_most).max(0);
            own_holds.extend(own.into_iter().take(usize::try_from(excess).unwrap_or(0)));
        }
        if has_room {
            admitted.gives_way.extend(own_holds.into_iter().map(|hold| (new.id, hold)));
            admitted.now.push(wish);
        } else {
            admitted.full.push(wish);
        }
    }
    Ok(admitted)
}

#[derive(QueryableByName)]
struct Count {
    /// Sessions that stand or took place, without the seeker's own holds.
    #[diesel(sql_type = BigInt)]
    others: i64,
    /// The seeker's own holds, oldest first, that the wish does not replace anyway.
    #[diesel(sql_type = Array<SqlUuid>)]
    own: Vec<Uuid>,
}

const COUNT: &str = "
SELECT count(DISTINCT (b.service_id, b.scheduled_at)) FILTER (WHERE NOT b.is_own_hold) AS others,
       coalesce(array_agg(b.id ORDER BY b.created_at, b.id) FILTER (WHERE b.is_own_hold), '{}') AS own
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) WITH ORDINALITY
    AS t (practitioner_id, seeker_id, service_id, starts_at, occupied_from, occupied_until,
          of_service, from_at, until_at, moving, place)
  LEFT JOIN LATERAL (
    SELECT o.id, o.created_at, o.service_id, o.scheduled_at,
           o.status = 'held' AND o.seeker_id = t.seeker_id AS is_own_hold
      FROM bookings o
     WHERE o.practitioner_id = t.practitioner_id
       AND o.scheduled_at >= t.from_at AND o.scheduled_at < t.until_at
       AND o.status = ANY ($11)
       AND (NOT t.of_service OR o.service_id = t.service_id)
       AND o.id IS DISTINCT FROM t.moving
       AND ((o.service_id, o.scheduled_at) <> (t.service_id, t.starts_at)
            OR o.status IN ('completed', 'no_show'))
       AND NOT (o.status = 'held' AND o.seeker_id = t.seeker_id
                AND o.occupied && tstzrange(t.occupied_from, t.occupied_until))
  ) b ON true
 GROUP BY t.place ORDER BY t.place";

/// What stands in the way of each check, in their order.
async fn count(conn: &mut Conn, wanted: &[Row<'_>]) -> QueryResult<Vec<Count>> {
    let checks: Vec<(Uuid, &NewBooking, &LimitCheck)> = wanted
        .iter()
        .flat_map(|r| r.new.limits.iter().map(|check| (r.practitioner_id, r.new, check)))
        .collect();
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    let ids = |value: fn(&NewBooking) -> Uuid| -> Vec<Uuid> {
        checks.iter().map(|(_, new, _)| value(new)).collect()
    };
    let instants = |value: fn(&NewBooking, &LimitCheck) -> Timestamp| -> Vec<_> {
        checks.iter().map(|(_, new, check)| value(new, check).to_diesel()).collect()
    };
    let counted = Status::ALL.into_iter().filter(|status| status.counts());
    sql_query(COUNT)
        .bind::<Array<SqlUuid>, _>(checks.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(ids(|new| new.seeker_id))
        .bind::<Array<SqlUuid>, _>(ids(|new| new.service_id))
        .bind::<Array<Timestamptz>, _>(instants(|new, _| new.scheduled_at))
        .bind::<Array<Timestamptz>, _>(instants(|new, _| new.occupied_from))
        .bind::<Array<Timestamptz>, _>(instants(|new, _| new.occupied_until))
        .bind::<Array<Bool>, _>(checks.iter().map(|(.., c)| c.of_service).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(instants(|_, check| check.from))
        .bind::<Array<Timestamptz>, _>(instants(|_, check| check.until))
        .bind::<Array<Nullable<SqlUuid>>, _>(
            checks.iter().map(|(.., check)| check.moving).collect::<Vec<_>>(),
        )
        .bind::<Array<Text>, _>(counted.map(Status::as_str).collect::<Vec<_>>())
        .load(conn)
        .await
}

impl Admitted<'_> {
    /// Releases the holds that give way to a winner.
    pub(super) async fn make_room(
        &self,
        conn: &mut Conn,
        winners: &[Booking],
        ledger: &mut Ledger,
    ) -> QueryResult<()> {
        #[derive(QueryableByName)]
        struct Released {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let won = self.gives_way.iter().filter(|(new, _)| winners.iter().any(|w| w.id == *new));
        let holds: Vec<Uuid> = won.map(|(_, hold)| *hold).collect();
        if holds.is_empty() {
            return Ok(());
        }
        let released: Vec<Released> = sql_query(
            "UPDATE bookings SET status = 'released', version = version + 1
              WHERE id = ANY ($1) AND status = 'held' RETURNING id",
        )
        .bind::<Array<SqlUuid>, _>(holds)
        .load(conn)
        .await?;
        for Released { id } in released {
            let row = reload(conn, id).await?;
            let actor = Some(row.seeker_id);
            news::ended(ledger, &row, Status::Held, Step::Release.as_str(), actor);
            let span = (row.occupied_from, row.occupied_until);
            freed(conn, row.practitioner_id, span, ledger).await?;
            // The next who waits for it would find no room within the limit.
            waiting::settle(conn, &[row.id], "missed").await?;
            ledger.others.push(row);
        }
        Ok(())
    }
}
