//! Practices: their public face, weekly hours, offers; blocked times are in `blocks`.

mod blocks;

mod next;

use diesel_async::AsyncConnection;
use serde_json::Value;
use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::actors::calendar::{Calendars, Change, GetSlots, Slots};
use crate::domain::access::{Action, Relation, allows};
use crate::domain::money::{AMOUNT_RULE, CURRENCY_RULE, is_amount, is_currency};
use crate::domain::refusal::{FieldProblem, Problems, Refusal};
use crate::domain::schedule::Schedule;
use crate::domain::time::Interval;
use crate::error::{Error, Result};
use crate::models::calendar_commit::{Command, Outcome};
use crate::models::catalogue::{self, Offer};
use crate::models::pool::Pool;
use crate::models::practitioners::{self, Filter, NewPractice, Practice, PracticeChange};
use crate::models::violation::Violation;

pub use self::next::MAX_PRACTICES;

/// Longest range of one slot query, in days.
pub const MAX_SLOT_DAYS: i64 = 62;
/// Offers that one practice may have.
const MAX_OFFERS: usize = 100;
/// Lengths of one offer beside its own.
const MAX_OTHER_DURATIONS: usize = 10;

/// The public face of a practice; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct PracticeInput {
    pub bio: Option<String>,
    pub experience_years: Option<i32>,
    /// Minor units.
    pub hourly_rate: Option<i64>,
    pub currency: Option<String>,
    pub languages: Option<Vec<String>>,
    pub specializations: Option<Vec<String>>,
    pub certifications: Option<Vec<Value>>,
}

/// Practices.
pub struct Practices {
    pool: Pool,
    calendars: Calendars,
}

impl Practices {
    /// Practices in the database of `pool`, whose calendars are `calendars`.
    pub fn new(pool: Pool, calendars: Calendars) -> Self {
        Self { pool, calendars }
    }

    /// A page of practices, best rated first, and how many there are.
    pub async fn list(&self, filter: &Filter, page: Page) -> Result<(Vec<Practice>, i64)> {
        let mut problems = Problems::default();
        for (field, word) in
            [("specialization", &filter.specialization), ("language", &filter.language)]
        {
            if let Some(word) = word {
                problems.length(field, word, 1, 100);
            }
        }
        problems.into_result()?;
        let mut conn = self.pool.get().await?;
        Ok(practitioners::list(&mut conn, filter, page.limit, page.offset()).await?)
    }

    /// The practice `id`.
    pub async fn find(&self, id: Uuid) -> Result<Practice> {
        let mut conn = self.pool.get().await?;
        let found = practitioners::find(&mut conn, id).await?;
        Ok(found.ok_or(Refusal::NotFound("practitioner"))?)
    }

    /// The practice `id`, if `caller` may do `action` with it.
    async fn find_for(&self, caller: &Caller, id: Uuid, action: Action) -> Result<Practice> {
        super::practice_for(&self.pool, caller, id, action).await
    }

    /// Opens the caller's practice; each user has at most one.
    pub async fn create(
        &self,
        caller: &Caller,
        input: &PracticeInput,
        schedule: &Schedule,
    ) -> Result<Practice> {
        if !allows(caller.role, Action::PracticeCreate, Relation::default()) {
            return Err(Refusal::Forbidden.into());
        }
        let mut problems = check(input);
        problems.extend(schedule_problems("availability.", schedule));
        problems.into_result()?;
        let new = NewPractice {
            id: Uuid::now_v7(),
            user_id: caller.user_id,
            bio: input.bio.as_deref(),
            experience_years: input.experience_years,
            hourly_rate: input.hourly_rate,
            currency: input.currency.as_deref().unwrap_or("INR"),
            languages: input.languages.as_deref().unwrap_or_default(),
            specializations: input.specializations.as_deref().unwrap_or_default(),
            certifications: input.certifications.clone().unwrap_or_default().into(),
            availability: stored(schedule)?,
        };
        let mut conn = self.pool.get().await?;
        conn.transaction(async |conn| practitioners::insert(conn, &new).await).await.map_err(
            |e| {
                super::refuse_violation(e, |v| {
                    (v == Violation::PracticeOfUser)
                        .then_some(Refusal::AlreadyExists("practitioner"))
                })
            },
        )?;
        drop(conn);
        self.find(new.id).await
    }

    /// Changes the public face of a practice if its version is still `expected`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: Option<i64>,
        input: &PracticeInput,
    ) -> Result<Practice> {
        self.find_for(caller, id, Action::ProfileUpdate).await?;
        check(input).into_result()?;
        let change = PracticeChange {
            bio: input.bio.as_deref(),
            experience_years: input.experience_years,
            hourly_rate: input.hourly_rate,
            currency: input.currency.as_deref(),
            languages: input.languages.as_deref(),
            specializations: input.specializations.as_deref(),
            certifications: input.certifications.clone().map(Value::from),
        };
        let mut conn = self.pool.get().await?;
        let updated = conn
            .transaction(async |conn| practitioners::update(conn, id, expected, &change).await)
            .await?;
        drop(conn);
        let practice = self.find(id).await?;
        if updated {
            Ok(practice)
        } else {
            Err(Refusal::VersionConflict { current: practice.version }.into())
        }
    }

    /// The slots of a service, in the length of so many minutes or its own, whose sessions lie in
    /// `range`.
    pub async fn slots(
        &self,
        id: Uuid,
        service_id: Uuid,
        minutes: Option<i32>,
        range: Interval,
        asker: Option<Uuid>,
        seats: u16,
    ) -> Result<Slots> {
        let days = range.end().duration_since(range.start()).as_hours() / 24;
        if days >= MAX_SLOT_DAYS {
            let problem = format!("must be less than {MAX_SLOT_DAYS} days after from");
            return Err(Refusal::field("to", problem).into());
        }
        self.calendars.ask(id, GetSlots { service_id, minutes, range, asker, seats }).await
    }

    /// Replaces weekly hours, overrides and zone; returns the schedule's new version.
    pub async fn put_schedule(
        &self,
        caller: &Caller,
        id: Uuid,
        expected_version: Option<i64>,
        schedule: &Schedule,
    ) -> Result<i64> {
        self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        let mut problems = Problems::default();
        problems.extend(schedule_problems("", schedule));
        problems.into_result()?;
        let command = Command::PutSchedule { schedule: stored(schedule)?, expected_version };
        match self.change(caller, id, command).await? {
            Outcome::Scheduled(version) => Ok(version),
            _ => Err(Error::Fault("a schedule had another outcome".to_owned())),
        }
    }

    /// The schedule of a practice and its version: what is edited and put back. Everybody sees the
    /// hours, but not where a practitioner will be.
    pub async fn schedule(&self, caller: &Caller, id: Uuid) -> Result<(Schedule, i64)> {
        let practice = self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        Ok((read(&practice)?, practice.schedule_version))
    }

    /// What the practice offers, with the services' names.
    pub async fn offers(&self, id: Uuid) -> Result<Vec<(Offer, String)>> {
        let mut conn = self.pool.get().await?;
        if practitioners::find(&mut conn, id).await?.is_none() {
            return Err(Refusal::NotFound("practitioner").into());
        }
        Ok(catalogue::offers_of(&mut conn, id, true).await?)
    }

    /// Adds or changes an offer.
    pub async fn put_offer(&self, caller: &Caller, offer: &Offer) -> Result<()> {
        let id = offer.practitioner_id;
        self.find_for(caller, id, Action::AvailabilityUpdate).await?;
        check_offer(offer).into_result()?;
        let mut conn = self.pool.get().await?;
        let others = catalogue::offers_of(&mut conn, id, false).await?;
        let is_new = others.iter().all(|(o, _)| o.service_id != offer.service_id);
        if is_new && others.len() >= MAX_OFFERS {
            let problem = format!("a practice has at most {MAX_OFFERS} services");
            return Err(Refusal::field("serviceId", problem).into());
        }
        if !catalogue::has_service(&mut conn, offer.service_id).await? {
            return Err(Refusal::field("serviceId", "there is no such service").into());
        }
        drop(conn);
        self.change(caller, id, Command::PutOffer(offer.clone())).await.map(|_| ())
    }

    async fn change(&self, caller: &Caller, id: Uuid, command: Command) -> Result<Outcome> {
        self.calendars.ask(id, Change { actor: Some(caller.user_id), command }).await
    }
}

fn stored(schedule: &Schedule) -> Result<Value> {
    serde_json::to_value(schedule).map_err(|e| Error::Fault(format!("schedule: {e}")))
}

fn read(practice: &Practice) -> Result<Schedule> {
    serde_json::from_value(practice.availability.clone())
        .map_err(|e| Error::Fault(format!("stored schedule: {e}")))
}

fn schedule_problems(prefix: &str, schedule: &Schedule) -> Vec<FieldProblem> {
    let named = |p: crate::domain::schedule::ScheduleProblem| {
        FieldProblem::new(format!("{prefix}{}", p.field), p.kind.to_string())
    };
    schedule.validate().into_iter().map(named).collect()
}

fn check(input: &PracticeInput) -> Problems {
    let mut problems = Problems::default();
    if let Some(bio) = &input.bio {
        problems.length("bio", bio, 0, 5_000);
    }
    let years = input.experience_years.is_none_or(|y| (0..=100).contains(&y));
    problems.require(years, "experienceYears", "must be 0 to 100");
    let rate = input.hourly_rate.is_none_or(is_amount);
    problems.require(rate, "hourlyRate.amount", AMOUNT_RULE);
    let currency = input.currency.as_deref().is_none_or(is_currency);
    problems.require(currency, "hourlyRate.currency", CURRENCY_RULE);
    for (field, words) in
        [("languages", &input.languages), ("specializations", &input.specializations)]
    {
        let words = words.as_deref().unwrap_or_default();
        problems.require(words.len() <= 50, field, "must have at most 50 entries");
        for (i, word) in words.iter().enumerate() {
            problems.length(&format!("{field}[{i}]"), word, 1, 100);
        }
    }
    let certificates = input.certifications.as_deref().unwrap_or_default();
    problems.require(certificates.len() <= 50, "certifications", "must have at most 50 entries");
    problems
}

fn check_offer(offer: &Offer) -> Problems {
    let mut problems = Problems::default();
    let mut range = |field: &str, value: i32, min: i32, max: i32| {
        let sane = (min..=max).contains(&value);
        problems.require(sane, field, &format!("must be {min} to {max}"));
    };
    range("durationMinutes", offer.duration_minutes, 1, 1440);
    range("incrementMinutes", offer.increment_minutes, 1, 1440);
    range("bufferBeforeMinutes", offer.buffer_before_minutes, 0, 1440);
    range("bufferAfterMinutes", offer.buffer_after_minutes, 0, 1440);
    range("minNoticeMinutes", offer.min_notice_minutes, 0, 525_600);
    range("capacity", offer.capacity, 1, 500);
    let mut optional = |field: &str, value: Option<i32>, max: i32| {
        value.into_iter().for_each(|value| range(field, value, 1, max));
    };
    optional("maxPerDay", offer.max_per_day, 1_000);
    optional("maxPerWeek", offer.max_per_week, 1_000);
    check_price(offer.price, offer.capacity, "price.amount", &mut problems);
    problems.require(is_currency(&offer.currency), "price.currency", CURRENCY_RULE);
    let grid = matches!(offer.slot_grid.as_str(), "restart" | "window");
    check_durations(offer, &mut problems);
    problems.require(grid, "slotGrid", "must be restart or window");
    let status = matches!(offer.status.as_str(), "active" | "inactive");
    problems.require(status, "status", "must be active or inactive");
    problems
}

fn check_durations(offer: &Offer, problems: &mut Problems) {
    let others = &offer.other_durations.0;
    let few = others.len() <= MAX_OTHER_DURATIONS;
    let problem = format!("must have at most {MAX_OTHER_DURATIONS} entries");
    problems.require(few, "otherDurations", &problem);
    let mut seen = vec![offer.duration_minutes];
    for (i, other) in others.iter().take(MAX_OTHER_DURATIONS).enumerate() {
        let field = format!("otherDurations[{i}].durationMinutes");
        let sane = (1..=1440).contains(&other.duration_minutes);
        problems.require(sane, &field, "must be 1 to 1440");
        let new = !seen.contains(&other.duration_minutes);
        problems.require(new, &field, "is offered already");
        seen.push(other.duration_minutes);
        let field = format!("otherDurations[{i}].price.amount");
        check_price(other.price, offer.capacity, &field, problems);
    }
}

/// A price is one amount, and what all seats of a session cost together is one, too.
fn check_price(price: i64, capacity: i32, field: &str, problems: &mut Problems) {
    problems.require(is_amount(price), field, AMOUNT_RULE);
    let sane = !is_amount(price) || price.checked_mul(capacity.into()).is_some_and(is_amount);
    let problem = format!("times the capacity it {AMOUNT_RULE}");
    problems.require(sane || capacity < 1, field, &problem);
}
