//! One's own account.

use jiff::civil::Date;
use jiff_diesel::ToDiesel;
use uuid::Uuid;

use crate::clock::now;
use crate::domain::refusal::{Problems, Refusal};
use crate::error::Result;
use crate::models::pool::Pool;
use crate::models::users::{self, ProfileChange, User};

/// What a phone number must look like (E.164).
pub(super) const PHONE_RULE: &str = "must be a number with country code, such as +919812345678";

/// Whether `text` is an E.164 number.
pub(super) fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Changes to a profile; `None` leaves a field as it is, `Some(None)` takes its value away.
#[derive(Debug, Default)]
pub struct ProfileUpdate {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub phone: Option<Option<String>>,
    pub gender: Option<Option<String>>,
    pub date_of_birth: Option<Option<Date>>,
}

/// Accounts, as their owners see them.
pub struct Users {
    pool: Pool,
}

impl Users {
    /// Accounts in the database of `pool`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The account of `user_id`.
    pub async fn profile(&self, user_id: Uuid) -> Result<User> {
        let mut conn = self.pool.get().await?;
        let user = users::find(&mut conn, user_id).await?;
        Ok(user.ok_or(Refusal::NotFound("user"))?)
    }

    /// Changes the account of `user_id`.
    pub async fn update(&self, user_id: Uuid, update: ProfileUpdate) -> Result<User> {
        check(&update)?;
        let change = ProfileChange {
            first_name: update.first_name.as_deref().map(str::trim),
            last_name: update.last_name.as_deref().map(str::trim),
            phone: update.phone.as_ref().map(Option::as_deref),
            gender: update.gender.as_ref().map(Option::as_deref),
            date_of_birth: update.date_of_birth.map(|date| date.map(ToDiesel::to_diesel)),
        };
        if change.is_empty() {
            return self.profile(user_id).await;
        }
        let mut conn = self.pool.get().await?;
        Ok(users::update(&mut conn, user_id, &change).await?)
    }
}

fn check(update: &ProfileUpdate) -> std::result::Result<(), Refusal> {
    let mut problems = Problems::default();
    let texts = [
        ("firstName", update.first_name.as_ref(), 100),
        ("lastName", update.last_name.as_ref(), 100),
        ("gender", update.gender.iter().flatten().next(), 20),
    ];
    for (field, text, max) in texts {
        if let Some(text) = text {
            problems.length(field, text, 1, max);
        }
    }
    if let Some(phone) = update.phone.iter().flatten().next() {
        problems.require(is_phone(phone), "phone", PHONE_RULE);
    }
    if let Some(date) = update.date_of_birth.flatten() {
        let today = now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let plausible = date <= today && date.year() >= 1900;
        problems.require(plausible, "dateOfBirth", "must be a day from 1900 to today");
    }
    problems.into_result()
}
