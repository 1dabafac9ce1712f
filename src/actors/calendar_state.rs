//! What a calendar actor knows: hours, offers, blocked times, busy times; and how it decides
//! without asking the database.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::availability::{Hours, LOOK_BACK};
use crate::domain::booking::Status;
use crate::domain::busy::{Buffers, Busy, BusyKind, BusySet, Viewpoint};
use crate::domain::group::{Group, Seats};
use crate::domain::limits::{self, Limits};
use crate::domain::refusal::Refusal;
use crate::domain::rules::{Grid, SlotRules};
use crate::domain::schedule::Schedule;
use crate::domain::slots::{SlotQuery, SlotRefusal};
use crate::domain::time::{Interval, shifted};
use crate::error::{Error, Result};
use crate::models::bookings::Booking;
use crate::models::calendar_commit::{LimitCheck, NewBooking};
use crate::models::calendars::{Block, BusyRow};
use crate::models::catalogue::Offer;
use crate::models::{Conn, calendars, catalogue, external_calendars, practitioners};

/// How far back busy times are kept: what a grid may count from, and the longest buffers.
fn kept_from(now: Timestamp) -> Timestamp {
    shifted(now, -(LOOK_BACK + SignedDuration::from_hours(48)))
}

/// One offer in one of its lengths (its duration and price are those of that length), with its
/// rules in the form that the domain computes with.
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
    /// Each service in all its lengths, the offer's own first.
    offers: HashMap<Uuid, Vec<OfferRules>>,
    busy: BusySet,
    /// Of each hold the service that it is for, and when it runs out.
    held: HashMap<Uuid, (Uuid, Timestamp)>,
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
            .map(|(offer, _)| Ok((offer.service_id, in_all_lengths(&offer)?)))
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

    /// An offer of the practice that can be booked, in the length of so many minutes or its own.
    /// Refuses a length that is not offered.
    pub(super) fn offer(&self, service_id: Uuid, minutes: Option<i32>) -> Result<&OfferRules> {
        let lengths = self.offers.get(&service_id).ok_or(Refusal::NotFound("service"))?;
        let wanted = |one: &&OfferRules| minutes.is_none_or(|m| one.offer.duration_minutes == m);
        let found = lengths.iter().find(wanted);
        found.ok_or_else(|| {
            let all = lengths.iter().map(|one| one.offer.duration_minutes.to_string());
            let problem = format!("must be one of {}", all.collect::<Vec<_>>().join(", "));
            Refusal::field("durationMinutes", problem).into()
        })
    }

    /// The limits that a session under `rules` at `start` has to fit into, for the database to
    /// check.
    pub(super) fn limit_checks(&self, rules: &SlotRules, start: Timestamp) -> Vec<LimitCheck> {
        let limits = limits::limits_at(&self.hours, rules, start);
        let check = |limit: limits::Limit| LimitCheck {
            of_service: limit.of_service,
            from: limit.span.start(),
            until: limit.span.end(),
            at_most: limit.at_most.into(),
            moving: None,
        };
        limits.into_iter().map(check).collect()
    }

    /// How `asker`, or nobody in particular, sees the calendar when `seats` want to come.
    pub(super) fn view(&self, asker: Option<Uuid>, seats: u32, now: Timestamp) -> Viewpoint {
        Viewpoint { asker: asker.map(|id| id.as_u128()), seats, ..Viewpoint::at(now) }
    }

    /// The hours of the practice.
    pub(super) fn hours(&self) -> &Hours {
        &self.hours
    }

    /// The seats that are left at each of `starts`, for a service that several may come to.
    pub(super) fn seats_left(
        &self,
        offer: &OfferRules,
        starts: &[Timestamp],
        view: Viewpoint,
    ) -> Option<Vec<u32>> {
        let (group, rules) = (offer.rules.group?, &offer.rules);
        let left = |start: &Timestamp| {
            let time = Interval::lasting(*start, rules.duration());
            group.seats_left(&self.busy, time, rules.buffers, view).unwrap_or(0)
        };
        Some(starts.iter().map(left).collect())
    }

    /// Whether `start` can be booked by `view` under `rules`; `SlotTaken` or `SlotUnavailable` with
    /// the rule's name.
    pub(super) fn check(
        &self,
        rules: &SlotRules,
        start: Timestamp,
        view: Viewpoint,
    ) -> std::result::Result<(), Refusal> {
        self.query(rules, view).check_start(start).map_err(|why| match why {
            SlotRefusal::Taken { .. } => Refusal::SlotTaken,
            other => Refusal::SlotUnavailable(other.rule().into()),
        })
    }

    /// The calendar as `view` sees it for `rules`.
    pub(super) fn query<'a>(&'a self, rules: &'a SlotRules, view: Viewpoint) -> SlotQuery<'a> {
        SlotQuery { hours: &self.hours, rules, busy: &self.busy, view }
    }

    /// The hold of `view.asker` for this offer and as many seats that begins at `start`, if it still
    /// stands.
    pub(super) fn own_hold(
        &self,
        offer: &OfferRules,
        start: Timestamp,
        view: Viewpoint,
    ) -> Option<Uuid> {
        let time = Interval::lasting(start, offer.rules.duration());
        let owner = view.asker?;
        self.busy
            .overlapping(time)
            .filter(|item| {
                item.time() == time
                    && item.seats().map_or(1, |s| s.count) == view.seats
                    && matches!(item.kind(), BusyKind::Hold { owner: of, expires_at }
                        if of == owner && expires_at > view.now)
            })
            .map(|item| Uuid::from_u128(item.key()))
            .find(|id| self.held.get(id).is_some_and(|(s, _)| *s == offer.offer.service_id))
    }

    /// Whether a hold of `seeker` would be in the way of a booking that occupies this time.
    pub(super) fn has_hold_in(&self, occupied: Interval, seeker: Uuid) -> bool {
        !self.holds_in(occupied, seeker).is_empty()
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
        self.held.values().map(|(_, expires_at)| *expires_at).min()
    }

    /// Forgets the holds that have run out.
    pub(super) fn forget_lapsed(&mut self, now: Timestamp) {
        let held = self.held.iter();
        let over = held.filter(|(_, (_, expires_at))| *expires_at <= now);
        let over: Vec<Uuid> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.forget(id));
    }

    /// Keeps a time busy until its commit is decided.
    pub(super) fn reserve(&mut self, new: &NewBooking) {
        let row = BusyRow {
            id: new.id,
            starts_at: new.scheduled_at,
            ends_at: new.ends_at,
            occupied_from: new.occupied_from,
            occupied_until: new.occupied_until,
            status: Status::Confirmed.as_str().to_owned(),
            seeker_id: new.seeker_id,
            service_id: new.service_id,
            hold_expires_at: None,
            seats: new.seats,
            group_session_id: new.capacity.map(|_| new.id),
            blocks: true,
        };
        self.busy.remove(new.id.as_u128());
        if let Some(item) = busy_of_row(&row) {
            self.busy.insert(item);
        }
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
            seats: row.seats,
            group_session_id: row.group_session_id,
            blocks: row.blocks,
        };
        if let Some(item) = busy_of_row(&busy) {
            if row.blocks {
                // No two rows of one seeker that block overlap: their holds there made room.
                let gone = self.holds_in(item.occupied(), row.seeker_id);
                gone.into_iter().for_each(|id| self.forget(id));
            }
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

/// The offer in its own length and in all others.
fn in_all_lengths(offer: &Offer) -> Result<Vec<OfferRules>> {
    let others = offer.other_durations.0.clone();
    let others = others.into_iter().map(|other| Offer {
        duration_minutes: other.duration_minutes,
        price: other.price,
        ..offer.clone()
    });
    let all = std::iter::once(offer.clone()).chain(others);
    all.map(|offer| Ok(OfferRules { rules: rules(&offer)?, offer })).collect()
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
    let unread = |what: &str| Error::Fault(format!("stored offer: {what}"));
    rules.horizon = offer.horizon.read().ok_or_else(|| unread("horizon"))?;
    rules.service = offer.service_id.as_u128();
    rules.limits =
        Limits::new(offer.max_per_day.map(Into::into), offer.max_per_week.map(Into::into))
            .map_err(unread)?;
    if offer.slot_grid == "window" {
        rules.grid = Grid::Window;
    }
    let capacity = u32::try_from(offer.capacity).unwrap_or(1);
    rules.group = (capacity > 1).then_some(Group { service: offer.service_id.as_u128(), capacity });
    Ok(rules)
}

/// The item of a row that blocks or counts; the buffers are those that were stored with it.
fn busy_of_row(row: &BusyRow) -> Option<Busy> {
    let status = Status::parse(&row.status).filter(|status| status.counts())?;
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
        _ if row.blocks => BusyKind::Booking,
        _ => BusyKind::Counted,
    };
    let service = row.service_id.as_u128();
    let item = Busy::new(row.id.as_u128(), time, buffers, kind).of_service(service);
    let count = u32::try_from(row.seats).unwrap_or(1);
    let seats = Seats { service, count };
    Some(if row.group_session_id.is_some() { item.with_seats(seats) } else { item })
}

/// The hold that a row is, its service, and when it runs out.
fn hold_of_row(row: &BusyRow) -> Option<(Uuid, (Uuid, Timestamp))> {
    let held = Status::parse(&row.status) == Some(Status::Held);
    row.hold_expires_at.filter(|_| held).map(|at| (row.id, (row.service_id, at)))
}

fn busy_of_block(block: &Block) -> Option<Busy> {
    let time = Interval::new(block.starts_at, block.ends_at).ok()?;
    Some(Busy::new(block.id.as_u128(), time, Buffers::default(), BusyKind::Blocked))
}

fn busy_of_event((id, time): (Uuid, Interval)) -> Busy {
    Busy::new(id.as_u128(), time, Buffers::default(), BusyKind::External)
}
