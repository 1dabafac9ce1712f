//! Starts that can not be booked, and slots on days on which clocks change.

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Value, json};

use crate::support::{Person, Practice, TestHub, rows};

async fn unavailable(hub: &TestHub, seeker: &Person, wish: &Value, rule: &str) {
    for path in ["/v1/holds", "/v1/bookings"] {
        let error = seeker.post(hub, path, wish.clone()).await.refused(409, "slot_unavailable");
        assert_eq!(error["details"]["rule"], rule, "{path} {wish}");
    }
}

#[tokio::test]
async fn a_start_that_is_no_slot_is_refused_with_the_rule() {
    let hub = TestHub::start().await;
    let seeker = hub.seeker().await;
    let practice = hub.practice().await;
    let noticed = hub.practice_with(json!({ "minNoticeMinutes": 10_080, "horizonDays": 10 })).await;
    let closed = hub.practice().await;
    let path = format!("/v1/practitioners/{}/availability", closed.id);
    closed.person.put(&hub, &path, json!({ "timeZone": "UTC" })).await.data(200);
    let before = rows::contents(&hub.database_url).await;

    let slot = practice.slot(10);
    let past = slot - SignedDuration::from_hours(24 * 30);
    let cases = [
        (practice.wish(past), "in_past"),
        (practice.wish(slot + SignedDuration::from_mins(7)), "grid"),
        (practice.wish(slot + SignedDuration::from_secs(1)), "grid"),
        (practice.wish(slot + SignedDuration::from_hours(24 * 200)), "horizon"),
        (noticed.wish(noticed.slot(1)), "notice"),
        (noticed.wish(noticed.slot(24 * 20)), "horizon"),
        (closed.wish(closed.slot(1)), "hours"),
    ];
    for (wish, rule) in &cases {
        unavailable(&hub, &seeker, wish, rule).await;
    }
    let ghost = json!({
        "practitionerId": uuid::Uuid::now_v7(), "serviceId": practice.service_id, "startsAt": slot,
    });
    seeker.post(&hub, "/v1/bookings", ghost).await.refused(404, "not_found");
    let other = json!({
        "practitionerId": practice.id, "serviceId": noticed.service_id, "startsAt": slot,
    });
    seeker.post(&hub, "/v1/bookings", other).await.refused(404, "not_found");
    assert_eq!(rows::contents(&hub.database_url).await, before);
    seeker.post(&hub, "/v1/bookings", practice.wish(slot)).await.data(201);
    hub.stop().await;
}

/// The next instant at which New York's clocks jump, within the 2 years that can be booked.
fn next_jump(forward: bool) -> Timestamp {
    let zone = TimeZone::get("America/New_York").unwrap();
    let now = Timestamp::now() + SignedDuration::from_hours(48);
    let offset = |at: Timestamp| zone.to_offset(at);
    let mut jumps = zone.following(now).map(|t| t.timestamp());
    jumps
        .find(|at| {
            let before = offset(*at - SignedDuration::from_secs(1));
            (offset(*at) > before) == forward
        })
        .unwrap()
}

async fn starts(hub: &TestHub, practice: &Practice, date: jiff::civil::Date) -> Vec<String> {
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={date}&to={date}&timeZone=America/New_York",
        practice.id, practice.service_id
    );
    let data = hub.get(&path).await.data(200);
    let local = |slot: &Value| slot["localStart"].as_str().unwrap()[11..].to_owned();
    data["slots"].as_array().unwrap().iter().map(local).collect()
}

/// A practice in New York, open from 00:00 to 04:00 every day, with slots of an hour.
async fn in_new_york(hub: &TestHub) -> Practice {
    let practice = hub.practice_with(json!({ "horizonDays": 730 })).await;
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "00:00", "end": "04:00" })).collect();
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let hours = json!({ "timeZone": "America/New_York", "weekly": weekly });
    practice.person.put(hub, &path, hours).await.data(200);
    practice
}

#[tokio::test]
async fn the_hour_that_clocks_skip_is_no_slot() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (in_new_york(&hub).await, hub.seeker().await);
    let jump = next_jump(true);
    let zone = TimeZone::get("America/New_York").unwrap();
    let date = jump.to_zoned(zone.clone()).date();
    let slots = starts(&hub, &practice, date).await;
    assert_eq!(slots, ["00:00:00-05:00", "01:00:00-05:00", "03:00:00-04:00"]);
    let day_before = starts(&hub, &practice, date - 1.day()).await;
    assert_eq!(day_before.len(), 4, "the control: {day_before:?}");
    // What is offered can be booked, up to both edges of the gap.
    for hours in [-1, 0] {
        let start = jump + SignedDuration::from_hours(hours);
        let booking = seeker.post(&hub, "/v1/bookings", practice.wish(start)).await.data(201);
        assert_eq!(booking["scheduledAt"], start.to_string());
    }
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let lost = json!({ "timeZone": "America/New_York", "overrides":
        [{ "date": date.to_string(), "windows": [{ "start": "02:30", "end": "03:00" }] }] });
    practice.person.put(&hub, &path, lost).await.names("overrides[0].windows[0].start");
    hub.stop().await;
}

#[tokio::test]
async fn the_hour_that_comes_twice_is_two_slots() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (in_new_york(&hub).await, hub.seeker().await);
    let jump = next_jump(false);
    let zone = TimeZone::get("America/New_York").unwrap();
    let date = jump.to_zoned(zone).date();
    let slots = starts(&hub, &practice, date).await;
    assert_eq!(
        slots,
        ["00:00:00-04:00", "01:00:00-04:00", "01:00:00-05:00", "02:00:00-05:00", "03:00:00-05:00"]
    );
    for hours in [-1, 0] {
        let start = jump + SignedDuration::from_hours(hours);
        seeker.post(&hub, "/v1/bookings", practice.wish(start)).await.data(201);
    }
    assert_eq!(starts(&hub, &practice, date).await.len(), 3);
    hub.stop().await;
}
