//! What a calendar actor knows: hours, offers, blocked times, busy times; and how it decides
//! without asking the database.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::error::{Error, Result};
use crate::domain::availability::{Hours, LOOK_BACK};
use crate::domain::booking::Status;
use crate::domain::busy::{Buffers, Busy, BusyKind, BusySet, Viewpoint};
use crate::domain::refusal::Refusal;
use crate::domain::rules::{CountedDays, Grid, Horizon, SlotRules};
use crate::domain::schedule::Schedule;
use crate::domain::slots::{SlotQuery, SlotRefusal};
use crate::domain::time::{Interval, shifted};
use crate::models::bookings::Booking;
use crate::models::calendars::{Block, BusyRow};
use crate::models::catalogue::Offer;
use crate::models::{Conn, calendars, catalogue, external_calendars, practitioners};

/// How far back busy times are kept: what a grid may count from, and the longest buffers.
fn kept_from(now: Timestamp) -> Timestamp {
    shifted(now, -(LOOK_BACK + SignedDuration::from_hours(48)))
}

/// One offer with its rules in the form that the domain computes with.
pub(super) struct OfferRules {
    pub offer: Offer,
    pub rules: SlotRules,
}

/// A practitioner's calendar in memory.
pub(super) struct CalendarState {
    pub practitioner_user_id: Uuid,
    pub version: i64,
    /// The version as it was read: everything up to it was in what was read.
    pub loaded: i64,
    hours: Hours,
    offers: HashMap<Uuid, OfferRules>,
    busy: BusySet,
    /// The service that each hold is for.
    held: HashMap<Uuid, Uuid>,
}

impl CalendarState {
    /// Reads the calendar; `NotFound` when there is no such active practice.
    pub(super) async fn load(conn: &mut Conn, id: Uuid, now: Timestamp) -> Result<Self> {
        // The version first: what commits in between is read twice rather than missed.
        let version = calendars::version(conn, id).await?;
        let practice = practitioners::for_calendar(conn, id).await?;
        let (Some(version), Some((practitioner_user_id, schedule, account))) = (version, practice)
        else {
            return Err(Refusal::NotFound("practitioner").into());
        };
        let schedule: Schedule = serde_json::from_value(schedule)
            .map_err(|e| Error::Fault(format!("stored schedule: {e}")))?;
        let hours = Hours::new(&schedule)
            .map_err(|e| Error::Fault(format!("stored schedule: {}", e.field)))?;
        let offers = catalogue::offers_of(conn, id, true)
            .await?
            .into_iter()
            // A practitioner whose account is closed offers nothing; what is booked stays.
            .filter(|_| account == "active")
            .map(|(offer, _)| Ok((offer.service_id, OfferRules { rules: rules(&offer)?, offer })))
            .collect::<Result<_>>()?;
        let from = kept_from(now);
        let rows = calendars::busy_after(conn, id, from).await?;
        let blocks = calendars::blocks_after(conn, id, from).await?;
        let events = external_calendars::busy_after(conn, id, from).await?;
        let busy = rows
            .iter()
            .filter_map(busy_of_row)
            .chain(blocks.iter().filter_map(busy_of_block))
            .chain(events.into_iter().map(busy_of_event));
        Ok(Self {
            practitioner_user_id,
            version,
            loaded: version,
            hours,
            offers,
            busy: busy.collect(),
            held: rows.iter().filter_map(hold_of_row).collect(),
        })
    }

    /// An offer of the practice that can be booked.
    pub(super) fn offer(&self, service_id: Uuid) -> Result<&OfferRules> {
        self.offers.get(&service_id).ok_or_else(|| Refusal::NotFound("service").into())
    }

    /// The starts of `service_id` that `asker` may book, whose sessions lie in `range`.
    pub(super) fn slots(
        &self,
        service_id: Uuid,
        range: Interval,
        asker: Option<Uuid>,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>> {
        let offer = self.offer(service_id)?;
        Ok(self.query(&offer.rules, asker, now).slots(range))
    }

    /// Whether `asker` may book `start`; `SlotTaken` or `SlotUnavailable` with the rule's name.
    pub(super) fn check(
        &self,
        offer: &OfferRules,
        start: Timestamp,
        asker: Uuid,
        now: Timestamp,
    ) -> std::result::Result<(), Refusal> {
        self.query(&offer.rules, Some(asker), now).check_start(start).map_err(|why| match why {
            SlotRefusal::Taken { .. } => Refusal::SlotTaken,
            other => Refusal::SlotUnavailable(other.rule().into()),
        })
    }

    fn query<'a>(
        &'a self,
        rules: &'a SlotRules,
        asker: Option<Uuid>,
        now: Timestamp,
    ) -> SlotQuery<'a> {
        let view = Viewpoint { asker: asker.map(|id| id.as_u128()), ..Viewpoint::at(now) };
        SlotQuery { hours: &self.hours, rules, busy: &self.busy, view }
    }

    /// The hold of `seeker` for this offer that begins at `start`, if it still stands.
    pub(super) fn own_hold(
        &self,
        offer: &OfferRules,
        start: Timestamp,
        seeker: Uuid,
        now: Timestamp,
    ) -> Option<Uuid> {
        let time = Interval::lasting(start, offer.rules.duration());
        self.busy
            .overlapping(time)
            .filter(|item| {
                item.time() == time
                    && matches!(item.kind(), BusyKind::Hold { owner, expires_at }
                        if owner == seeker.as_u128() && expires_at > now)
            })
            .map(|item| Uuid::from_u128(item.key()))
            .find(|id| self.held.get(id) == Some(&offer.offer.service_id))
    }

    /// Whether a hold of `seeker` would be in the way of this booking.
    pub(super) fn has_hold_near(&self, offer: &OfferRules, start: Timestamp, seeker: Uuid) -> bool {
        let time = Interval::lasting(start, offer.rules.duration());
        !self.holds_in(offer.rules.buffers.around(time), seeker).is_empty()
    }

    fn holds_in(&self, occupied: Interval, seeker: Uuid) -> Vec<Uuid> {
        let is_own = |item: &&Busy| matches!(item.kind(), BusyKind::Hold { owner, .. } if owner == seeker.as_u128());
        self.busy
            .overlapping(occupied)
            .filter(is_own)
            .map(|item| Uuid::from_u128(item.key()))
            .collect()
    }

    /// When the next hold runs out.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.busy.items().iter().filter_map(expiry).min()
    }

    /// Forgets the holds that have run out.
    pub(super) fn forget_lapsed(&mut self, now: Timestamp) {
        let items = self.busy.items().iter();
        let over = items.filter(|item| expiry(item).is_some_and(|at| at <= now));
        let over: Vec<Uuid> = over.map(|item| Uuid::from_u128(item.key())).collect();
        over.into_iter().for_each(|id| self.forget(id));
    }

    /// Keeps a time busy until its commit is decided.
    pub(super) fn reserve(&mut self, id: Uuid, offer: &Offer, start: Timestamp) {
        let time = Interval::lasting(start, minutes(offer.duration_minutes));
        self.busy.remove(id.as_u128());
        self.busy.insert(Busy::new(id.as_u128(), time, buffers(offer), BusyKind::Booking));
    }

    /// Forgets a row or a reservation.
    pub(super) fn forget(&mut self, id: Uuid) {
        self.busy.remove(id.as_u128());
        self.held.remove(&id);
    }

    /// Takes over what the database says of a row.
    pub(super) fn apply(&mut self, row: &Booking) {
        self.forget(row.id);
        let busy = BusyRow {
            id: row.id,
            starts_at: row.scheduled_at,
            ends_at: row.ends_at,
            occupied_from: row.occupied_from,
            occupied_until: row.occupied_until,
            status: row.status.clone(),
            seeker_id: row.seeker_id,
            service_id: row.service_id,
            hold_expires_at: row.hold_expires_at,
        };
        if let Some(item) = busy_of_row(&busy) {
            // No two rows that block overlap: the seeker's holds there made room for this one.
            let gone = self.holds_in(item.occupied(), row.seeker_id);
            gone.into_iter().for_each(|id| self.forget(id));
            self.busy.insert(item);
            self.held.extend(hold_of_row(&busy));
        }
    }

    /// Takes over a blocked time.
    pub(super) fn block(&mut self, block: &Block) {
        if let Some(item) = busy_of_block(block) {
            self.busy.insert(item);
        }
    }
}

/// The offer's rules for the domain. The database checks the same bounds.
fn rules(offer: &Offer) -> Result<SlotRules> {
    let bad = |e: crate::domain::rules::RuleProblem| Error::Fault(format!("stored offer: {e}"));
    let mut rules = SlotRules::new(offer.duration_minutes.into(), offer.increment_minutes.into())
        .and_then(|r| {
            r.with_buffers(offer.buffer_before_minutes.into(), offer.buffer_after_minutes.into())
        })
        .and_then(|r| r.with_notice(offer.min_notice_minutes.into()))
        .map_err(bad)?;
    rules.horizon = Horizon::Rolling {
        days: u16::try_from(offer.horizon_days).unwrap_or(u16::MAX),
        count: CountedDays::Calendar,
    };
    if offer.slot_grid == "window" {
        rules.grid = Grid::Window;
    }
    Ok(rules)
}

fn buffers(offer: &Offer) -> Buffers {
    Buffers {
        before_min: u16::try_from(offer.buffer_before_minutes).unwrap_or(0),
        after_min: u16::try_from(offer.buffer_after_minutes).unwrap_or(0),
    }
}

/// So many minutes.
fn minutes(count: i32) -> SignedDuration {
    crate::domain::time::minutes(count)
}

/// The busy item of a row that blocks; the buffers are those that were stored with it.
fn busy_of_row(row: &BusyRow) -> Option<Busy> {
    let status = Status::parse(&row.status).filter(|s| s.blocks())?;
    let time = Interval::new(row.starts_at, row.ends_at).ok()?;
    let between = |a: Timestamp, b: Timestamp| {
        u16::try_from(b.duration_since(a).as_mins()).unwrap_or(u16::MAX)
    };
    let buffers = Buffers {
        before_min: between(row.occupied_from, row.starts_at),
        after_min: between(row.ends_at, row.occupied_until),
    };
    let kind = match (status, row.hold_expires_at) {
        (Status::Held, Some(expires_at)) => {
            BusyKind::Hold { owner: row.seeker_id.as_u128(), expires_at }
        }
        _ => BusyKind::Booking,
    };
    Some(Busy::new(row.id.as_u128(), time, buffers, kind))
}

/// The hold that a row is, and its service.
fn hold_of_row(row: &BusyRow) -> Option<(Uuid, Uuid)> {
    (Status::parse(&row.status) == Some(Status::Held)).then_some((row.id, row.service_id))
}

fn expiry(item: &Busy) -> Option<Timestamp> {
    match item.kind() {
        BusyKind::Hold { expires_at, .. } => Some(expires_at),
        BusyKind::Booking | BusyKind::Blocked | BusyKind::External => None,
    }
}

fn busy_of_block(block: &Block) -> Option<Busy> {
    let time = Interval::new(block.starts_at, block.ends_at).ok()?;
    Some(Busy::new(block.id.as_u128(), time, Buffers::default(), BusyKind::Blocked))
}

fn busy_of_event((id, time): (Uuid, Interval)) -> Busy {
    Busy::new(id.as_u128(), time, Buffers::default(), BusyKind::External)
}
