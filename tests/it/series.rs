//! The same slot week after week: all, or none and which clash.

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::support::{TestHub, rows};

#[tokio::test]
async fn a_series_is_booked_as_one() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 300 })).await;
    let seeker = hub.seeker().await;
    let start = practice.slot(10);
    let mut wish = practice.wish(start);
    wish["count"] = json!(10);
    let made = seeker.post(&hub, "/v1/bookings/series", wish).await.data(201);
    let bookings = made["bookings"].as_array().unwrap();
    for (week, booking) in (0i64..).zip(bookings) {
        // Kolkata has no clock changes.
        assert_eq!(booking["scheduledAt"], json!(start + SignedDuration::from_hours(168 * week)));
        assert_eq!(booking["seriesId"], made["seriesId"]);
    }
    assert_eq!(bookings.len(), 10);
    let path = format!("/v1/bookings?seriesId={}", made["seriesId"].as_str().unwrap());
    assert_eq!(seeker.get(&hub, &path).await.data(200).as_array().unwrap().len(), 10);
    // One notification for all of it.
    let inbox = practice.person.get(&hub, "/v1/notifications").await.data(200);
    let inbox = inbox["notifications"].as_array().unwrap();
    assert_eq!(inbox.len(), 1);
    assert!(inbox[0]["body"].as_str().unwrap().ends_with("9 more of it follow."));
}

#[tokio::test]
async fn of_a_series_that_clashes_nothing_is_booked() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 30 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let week = |n: i64| practice.slot(10) + SignedDuration::from_hours(168 * n);
    other.post(&hub, "/v1/bookings", practice.wish(week(2))).await.data(201);
    let stored = async || {
        let mut all = rows::contents(&hub.database_url).await;
        // Pushes of what was booked go out meanwhile.
        all.retain(|table, _| !["outbox", "push_deliveries"].contains(&table.as_str()));
        all
    };
    let before = stored().await;
    let mut wish = practice.wish(week(0));
    wish["count"] = json!(6);
    let refused = seeker.post(&hub, "/v1/bookings/series", wish.clone()).await;
    let details = refused.refused(409, "series_clash")["details"].clone();
    let expected = json!([
        { "startsAt": week(2), "code": "slot_taken" },
        { "startsAt": week(5), "code": "slot_unavailable", "rule": "horizon" },
    ]);
    // The fifth week may be the first beyond the horizon, by the hour of the day.
    let beyond: Vec<&Value> = details.as_array().unwrap().iter().collect();
    assert_eq!(beyond[0], &expected[0]);
    assert!(beyond[1..].contains(&&expected[1]), "{details:#}");
    for (field, value) in [("count", json!(1)), ("count", json!(53)), ("everyWeeks", json!(0))] {
        let mut bad = wish.clone();
        bad[field] = value;
        seeker.post(&hub, "/v1/bookings/series", bad).await.names(field);
    }
    assert_eq!(stored().await, before);
    wish["everyWeeks"] = json!(3);
    wish["count"] = json!(2);
    seeker.post(&hub, "/v1/bookings/series", wish).await.data(201);
}

/// What another node booked meanwhile is found out by the transaction, which undoes the rest.
#[tokio::test]
async fn a_clash_that_only_the_database_knows_undoes_the_rest() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let week = |n: i64| practice.slot(10) + SignedDuration::from_hours(168 * n);
    // The calendar is in this node's memory; the other node writes without telling it.
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(1))).await.data(201);
    let node = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    other.post(&node, "/v1/bookings", practice.wish(week(1))).await.data(201);
    let mut wish = practice.wish(week(0));
    wish["count"] = json!(3);
    let refused = seeker.post(&hub, "/v1/bookings/series", wish).await;
    let details = refused.refused(409, "series_clash")["details"].clone();
    assert_eq!(details, json!([{ "startsAt": week(1), "code": "slot_taken" }]));
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 2);
    // Its first slot is free for anybody.
    other.post(&hub, "/v1/bookings", practice.wish(week(0))).await.data(201);
}

/// Ten o'clock stays ten o'clock when clocks change.
#[tokio::test]
async fn the_clock_time_stays() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 365 })).await;
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "09:00", "end": "17:00" })).collect();
    let hours = json!({ "timeZone": "Europe/London", "weekly": weekly });
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(&hub, &path, hours).await.data(200);
    let london = TimeZone::get("Europe/London").unwrap();
    let first = practice
        .slot(0)
        .to_zoned(london.clone())
        .date()
        .to_datetime(jiff::civil::time(10, 0, 0, 0));
    let first = first.to_zoned(london.clone()).unwrap().timestamp();
    let mut wish = practice.wish(first);
    wish["count"] = json!(35);
    let made = hub.seeker().await.post(&hub, "/v1/bookings/series", wish).await.data(201);
    let mut utc = std::collections::BTreeSet::new();
    for booking in made["bookings"].as_array().unwrap() {
        let at: jiff::Timestamp = booking["scheduledAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(at.to_zoned(london.clone()).hour(), 10);
        utc.insert(at.as_second().rem_euclid(86_400));
    }
    assert_eq!(utc.len(), 2, "35 weeks cross a clock change");
}
