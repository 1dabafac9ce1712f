//! Bookings in other calendars: an invite for each, and secret addresses that calendar apps
//! subscribe to. Such an app can send no `Authorization`; who knows the address can read.

use secrecy::SecretString;
use uuid::Uuid;

use super::auth::Caller;
use super::practice_for;
use super::secrets::{hash_of, random_token};
use crate::domain::access::{Action, Relation, allows};
use crate::domain::booking::Status;
use crate::domain::ics::invite::{self, Appointment, Invite, Person, Reader, Standing};
use crate::domain::refusal::Refusal;
use crate::domain::time::{Interval, parse_zone};
use crate::error::Result;
use crate::models::calendar_feeds::{self, Owner};
use crate::models::invites::{self, InviteRow, Whose};
use crate::models::pool::Pool;

/// How far back a feed goes.
const FEED_DAYS: i32 = 90;
/// The most bookings in a feed; those that are farthest from now are left out.
const FEED_BOOKINGS: i64 = 3_000;

/// Invites and feeds.
pub struct Invites {
    pool: Pool,
}

impl Invites {
    /// Of the bookings in the database of `pool`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The invite to a booking that the caller may see, or its cancellation.
    pub async fn invite(&self, caller: &Caller, booking_id: Uuid) -> Result<Invite> {
        let mut conn = self.pool.get().await?;
        let row = invites::find(&mut conn, booking_id).await?.filter(|row| {
            let relation = Relation {
                owner: row.seeker_id == caller.user_id,
                practitioner: row.practitioner_user_id == caller.user_id,
            };
            allows(caller.role, Action::BookingRead, relation)
        });
        let appointment = row.and_then(appointment).ok_or(Refusal::NotFound("booking"))?;
        Ok(invite::invite(&appointment))
    }

    /// A new token for the feed of a practice; the old one ends. Its owner alone may read it:
    /// it holds the names of those who come.
    pub async fn open_practice_feed(&self, caller: &Caller, id: Uuid) -> Result<SecretString> {
        practice_for(&self.pool, caller, id, Action::ProfileUpdate).await?;
        self.open(Owner::Practice(id)).await
    }

    /// Ends the feed of a practice.
    pub async fn close_practice_feed(&self, caller: &Caller, id: Uuid) -> Result<()> {
        practice_for(&self.pool, caller, id, Action::ProfileUpdate).await?;
        self.close(Owner::Practice(id)).await
    }

    /// A new token for the feed of the caller's own bookings; the old one ends.
    pub async fn open_own_feed(&self, caller: &Caller) -> Result<SecretString> {
        self.open(Owner::Seeker(caller.user_id)).await
    }

    /// Ends the feed of the caller's own bookings.
    pub async fn close_own_feed(&self, caller: &Caller) -> Result<()> {
        self.close(Owner::Seeker(caller.user_id)).await
    }

    async fn open(&self, owner: Owner) -> Result<SecretString> {
        let token = random_token()?;
        let mut conn = self.pool.get().await?;
        calendar_feeds::put(&mut conn, owner, &hash_of(&token)).await?;
        Ok(token)
    }

    async fn close(&self, owner: Owner) -> Result<()> {
        let mut conn = self.pool.get().await?;
        if calendar_feeds::remove(&mut conn, owner).await? {
            Ok(())
        } else {
            Err(Refusal::NotFound("calendar feed").into())
        }
    }

    /// The feed of the practice `id`, to whoever has its token. Any other is `NotFound`.
    pub async fn practice_feed(&self, id: Uuid, token: &SecretString) -> Result<String> {
        let mut conn = self.pool.get().await?;
        let found = calendar_feeds::practice_of(&mut conn, &hash_of(token)).await?;
        found.filter(|owner| *owner == id).ok_or(Refusal::NotFound("calendar feed"))?;
        let whose = Whose::Practice(id);
        let rows = invites::list(&mut conn, whose, FEED_DAYS, FEED_BOOKINGS).await?;
        Ok(calendar(Reader::Practitioner, rows))
    }

    /// The feed of the seeker who has this token. An unknown one is `NotFound`.
    pub async fn own_feed(&self, token: &SecretString) -> Result<String> {
        let mut conn = self.pool.get().await?;
        let found = calendar_feeds::seeker_of(&mut conn, &hash_of(token)).await?;
        let id = found.ok_or(Refusal::NotFound("calendar feed"))?;
        let rows = invites::list(&mut conn, Whose::Seeker(id), FEED_DAYS, FEED_BOOKINGS).await?;
        Ok(calendar(Reader::Seeker, rows))
    }
}

fn calendar(reader: Reader, rows: Vec<InviteRow>) -> String {
    let appointments: Vec<Appointment> = rows.into_iter().filter_map(appointment).collect();
    invite::calendar(reader, &appointments)
}

/// What calendars know a booking by, and which revision of it this is: a booking that is moved goes
/// on as another row of its chain.
fn identity(row: &InviteRow) -> (String, i64) {
    (invite::uid(row.chain_id.unwrap_or(row.id)), row.ical_sequence.into())
}

/// A row as calendars know it; `None` for a hold.
fn appointment(row: InviteRow) -> Option<Appointment> {
    let standing = Standing::of(Status::parse(&row.status)?)?;
    let zone = row.zone.as_deref().and_then(|name| parse_zone(name).ok());
    let (uid, sequence) = identity(&row);
    Some(Appointment {
        uid,
        sequence,
        changed_at: row.updated_at,
        time: Interval::new(row.scheduled_at, row.ends_at).ok()?,
        zone: zone.unwrap_or(jiff::tz::TimeZone::UTC),
        standing,
        service: row.service_name,
        practitioner: Person { user_id: row.practitioner_user_id, name: row.practitioner_name },
        seeker: Person { user_id: row.seeker_id, name: row.seeker_name },
    })
}
