//! The next free slot, of one practitioner or of several.

use actix_web::web;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::calendars::{SlotView, bound, zone};
use super::caller::MaybeCaller;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::query::Query;
use crate::actors::calendar_next::{GetNext, Next};
use crate::domain::refusal::Refusal;
use crate::services::practices::Practices;

/// Which slot.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NextQuery {
    service_id: Uuid,
    /// One of the lengths that the service is offered in; its own unless given.
    duration_minutes: Option<i32>,
    /// The earliest start, an instant, or a date in `timeZone`; now unless given.
    from: Option<String>,
    /// IANA zone of the date and of `localStart`; UTC unless given. The slot does not depend on it.
    time_zone: Option<String>,
}

/// Which slots of whom.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NextOfManyQuery {
    /// 1 to 50 ids, by commas.
    practitioner_ids: String,
    service_id: Uuid,
    /// One of the lengths that the service is offered in; its own unless given.
    duration_minutes: Option<i32>,
    /// The earliest start, an instant, or a date in `timeZone`; now unless given.
    from: Option<String>,
    /// IANA zone of the date and of `localStart`; UTC unless given. The slots do not depend on it.
    time_zone: Option<String>,
}

/// The first slot that can be booked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextView {
    practitioner_id: Uuid,
    /// Version of the calendar that it was computed from.
    version: i64,
    duration_minutes: i32,
    /// Null when nothing is free within the horizon of the service and before `searchedUntil`.
    slot: Option<SlotView>,
    /// 366 days after `from` or now, whichever is later.
    searched_until: Timestamp,
}

impl NextView {
    fn new(practitioner_id: Uuid, next: &Next, zone: Option<&TimeZone>) -> Self {
        Self {
            practitioner_id,
            version: next.version,
            duration_minutes: next.duration_minutes,
            slot: next.start.map(|start| SlotView::new(start, next.duration_minutes, zone)),
            searched_until: next.searched_until,
        }
    }
}

impl NextQuery {
    /// What is to be asked, and the zone of the viewer.
    fn read(&self, caller: MaybeCaller) -> ApiResult<(GetNext, Option<TimeZone>)> {
        let zone = zone(self.time_zone.as_deref())?;
        let dates_in = zone.clone().unwrap_or(TimeZone::UTC);
        let from = self.from.as_ref().map(|text| bound("from", text, &dates_in, false));
        let ask = GetNext {
            service_id: self.service_id,
            minutes: self.duration_minutes,
            from: from.transpose()?,
            asker: caller.0.map(|c| c.user_id),
        };
        Ok((ask, zone))
    }
}

/// The first slot of a service that can be booked, or none within its horizon.
#[utoipa::path(get, path = "/v1/practitioners/{id}/next-available", tag = "calendar",
    params(("id" = Uuid, Path), NextQuery),
    responses((status = 200, body = Envelope<NextView>)))]
pub async fn of_one(
    practices: web::Data<Practices>,
    caller: MaybeCaller,
    id: web::Path<Uuid>,
    Query(query): Query<NextQuery>,
) -> ApiResult<Reply> {
    let (ask, zone) = query.read(caller)?;
    let next = practices.next_slot(*id, ask).await?;
    Reply::ok(NextView::new(*id, &next, zone.as_ref()))
}

/// The first slot of a service with each of several practitioners, the earliest first. Who has
/// nothing free comes last; who does not exist, or does not offer the service in that length, is
/// left out.
#[utoipa::path(get, path = "/v1/availability/next", tag = "calendar", params(NextOfManyQuery),
    responses((status = 200, body = Envelope<Vec<NextView>>)))]
pub async fn of_many(
    practices: web::Data<Practices>,
    caller: MaybeCaller,
    Query(query): Query<NextOfManyQuery>,
) -> ApiResult<Reply> {
    let NextOfManyQuery { practitioner_ids, service_id, duration_minutes, from, time_zone } = query;
    let (ask, zone) = NextQuery { service_id, duration_minutes, from, time_zone }.read(caller)?;
    let ids = practitioner_ids.split(',').map(|id| {
        let problem = "must be UUIDs, by commas";
        Uuid::try_parse(id.trim()).map_err(|_| Refusal::field("practitionerIds", problem))
    });
    let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
    let found = practices.next_slots(&ids, &ask).await?;
    let view = |(id, next): &(Uuid, Next)| NextView::new(*id, next, zone.as_ref());
    Reply::ok(found.iter().map(view).collect::<Vec<_>>())
}
