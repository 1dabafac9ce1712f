//! `/v1/notifications/preferences`: what the caller wants to hear and when.

use actix_web::web;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Body, also_null};
use super::caller::Caller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::NoQuery;
use crate::domain::notify::Preferences;
use crate::domain::quiet::QuietText;
use crate::services::preferences::{NotificationPreferences, PreferenceChange};

/// Whether pushes are wanted, by what they are about. The inbox has everything.
#[derive(Serialize, ToSchema)]
pub struct PushView {
    booking: bool,
    message: bool,
    reminder: bool,
    review: bool,
}

/// A part of each day in which pushes wait, except about a session that begins less than half an
/// hour after it, or in it. An offer from the waiting list is not pushed at all then.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuietHoursBody {
    /// `HH:MM`.
    from: String,
    /// `HH:MM`, over midnight when it is not later than `from`; `24:00` is the end of the day.
    to: String,
    /// IANA name. Reminders tell the time in it.
    time_zone: String,
}

/// Which reminders of sessions are wanted at all.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemindersView {
    day_before: bool,
    hour_before: bool,
}

/// What a user wants to hear and when.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferencesView {
    push: PushView,
    /// Null when no hour is quiet.
    quiet_hours: Option<QuietHoursBody>,
    reminders: RemindersView,
}

impl From<Preferences> for PreferencesView {
    fn from(p: Preferences) -> Self {
        let quiet = p.quiet_hours.map(QuietText::from);
        Self {
            push: PushView {
                booking: p.push.booking,
                message: p.push.message,
                reminder: p.push.reminder,
                review: p.push.review,
            },
            quiet_hours: quiet.map(|q| QuietHoursBody {
                from: q.from,
                to: q.to,
                time_zone: q.time_zone,
            }),
            reminders: RemindersView {
                day_before: p.reminders.day_before,
                hour_before: p.reminders.hour_before,
            },
        }
    }
}

/// Switches to change.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushBody {
    booking: Option<bool>,
    message: Option<bool>,
    reminder: Option<bool>,
    review: Option<bool>,
}

/// Reminders to change.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemindersBody {
    day_before: Option<bool>,
    hour_before: Option<bool>,
}

/// Changes to preferences; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreferencesBody {
    #[serde(default)]
    push: PushBody,
    /// Null: no hour is quiet.
    #[serde(default, deserialize_with = "also_null")]
    #[schema(value_type = Option<QuietHoursBody>)]
    quiet_hours: Option<Option<QuietHoursBody>>,
    #[serde(default)]
    reminders: RemindersBody,
}

impl From<PreferencesBody> for PreferenceChange {
    fn from(body: PreferencesBody) -> Self {
        let text = |q: QuietHoursBody| QuietText { from: q.from, to: q.to, time_zone: q.time_zone };
        Self {
            push_booking: body.push.booking,
            push_message: body.push.message,
            push_reminder: body.push.reminder,
            push_review: body.push.review,
            quiet_hours: body.quiet_hours.map(|hours| hours.map(text)),
            day_before: body.reminders.day_before,
            hour_before: body.reminders.hour_before,
        }
    }
}

/// What the caller wants to hear and when; everything at any hour unless they said otherwise.
#[utoipa::path(get, path = "/v1/notifications/preferences", tag = "notifications",
    responses((status = 200, body = Envelope<PreferencesView>)), security(("bearer" = [])))]
pub async fn show(
    preferences: web::Data<NotificationPreferences>,
    caller: Caller,
    NoQuery: NoQuery,
) -> ApiResult<Reply> {
    Reply::ok(PreferencesView::from(preferences.find(&caller).await?))
}

/// Changes what the caller wants to hear and when; what is left out stays. It counts at once.
#[utoipa::path(put, path = "/v1/notifications/preferences", tag = "notifications",
    request_body = PreferencesBody,
    responses((status = 200, body = Envelope<PreferencesView>)), security(("bearer" = [])))]
pub async fn update(
    preferences: web::Data<NotificationPreferences>,
    caller: Caller,
    Body(body): Body<PreferencesBody>,
) -> ApiResult<Reply> {
    Reply::ok(PreferencesView::from(preferences.update(&caller, body.into()).await?))
}
