//! What users want to hear and when.

use super::auth::Caller;
use crate::domain::notify::Preferences;
use crate::domain::quiet::{QuietHours, QuietText};
use crate::error::Result;
use crate::models::pool::Pool;
use crate::models::preferences;

/// Changes to preferences; `None` leaves a switch as it is.
#[derive(Debug, Default)]
pub struct PreferenceChange {
    pub push_booking: Option<bool>,
    pub push_message: Option<bool>,
    pub push_reminder: Option<bool>,
    pub push_review: Option<bool>,
    /// `Some(None)` means that no hour is quiet.
    pub quiet_hours: Option<Option<QuietText>>,
    pub day_before: Option<bool>,
    pub hour_before: Option<bool>,
}

/// The preferences of users.
pub struct NotificationPreferences {
    pool: Pool,
}

impl NotificationPreferences {
    /// Preferences in the database of `pool`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The caller's preferences.
    pub async fn find(&self, caller: &Caller) -> Result<Preferences> {
        let mut conn = self.pool.get().await?;
        Ok(preferences::of(&mut conn, caller.user_id).await?)
    }

    /// Changes the caller's preferences. They count at once, also for pushes that quiet hours keep
    /// back.
    pub async fn update(&self, caller: &Caller, change: PreferenceChange) -> Result<Preferences> {
        let quiet_hours = match &change.quiet_hours {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => Some(Some(QuietHours::parse(text)?)),
        };
        let mut conn = self.pool.get().await?;
        let apply = |current: &mut Preferences| {
            let switches = [
                (&mut current.push.booking, change.push_booking),
                (&mut current.push.message, change.push_message),
                (&mut current.push.reminder, change.push_reminder),
                (&mut current.push.review, change.push_review),
                (&mut current.reminders.day_before, change.day_before),
                (&mut current.reminders.hour_before, change.hour_before),
            ];
            for (switch, wanted) in switches {
                *switch = wanted.unwrap_or(*switch);
            }
            if let Some(hours) = quiet_hours {
                current.quiet_hours = hours;
            }
        };
        Ok(preferences::update(&mut conn, caller.user_id, apply).await?)
    }
}
