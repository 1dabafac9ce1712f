//! How far ahead can be booked: every kind of horizon over the API and in the columns.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

use crate::support::{Practice, TestHub, rows};

fn kolkata() -> TimeZone {
    TimeZone::get("Asia/Kolkata").unwrap()
}

fn today() -> Date {
    Zoned::now().with_time_zone(kolkata()).date()
}

fn after(date: Date, days: i32) -> Date {
    date.checked_add(days.days()).unwrap()
}

fn is_business(date: &Date) -> bool {
    !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

async fn put_offer(hub: &TestHub, practice: &Practice, horizon: Value) -> Value {
    let path = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60,
        "horizon": horizon });
    practice.person.put(hub, &path, offer).await.data(200)[0].clone()
}

/// The dates of the next 20 days on which something is free under `horizon`.
async fn dates(hub: &TestHub, practice: &Practice, horizon: Value) -> Vec<Date> {
    let offer = put_offer(hub, practice, horizon.clone()).await;
    for (key, value) in horizon.as_object().unwrap() {
        assert_eq!(offer["horizon"][key], *value, "{offer}");
    }
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}&timeZone=Asia/Kolkata",
        practice.id,
        practice.service_id,
        today(),
        after(today(), 20)
    );
    let slots = hub.get(&path).await.data(200);
    let slots = slots["slots"].as_array().unwrap().iter();
    let date = |slot: &Value| slot["localStart"].as_str().unwrap()[..10].parse().unwrap();
    slots.map(date).collect::<BTreeSet<Date>>().into_iter().collect()
}

#[tokio::test]
async fn each_kind_ends_where_it_says() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    // Two days from now nothing is free.
    let block = json!({ "startsAt": practice.slot(0), "endsAt": practice.slot(24) });
    let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
    practice.person.post(&hub, &blocks, block).await.data(201);
    // All over again if midnight passes while the test looks.
    loop {
        let now = today();
        let all = dates(&hub, &practice, json!({ "kind": "unlimited" })).await;
        assert!(all.len() >= 19, "{all:?}");
        let until = |last: Date| all.iter().copied().filter(|d| *d <= last).collect::<Vec<_>>();
        let nth = |mut days: Vec<Date>, n: usize| days.remove(n);
        let rolling = json!({ "kind": "rolling", "days": 3 });
        let business = json!({ "kind": "rolling", "days": 4, "businessDays": true });
        let ahead = (1..20).map(|n| after(now, n)).filter(is_business).collect();
        let window = json!({ "kind": "rollingWindow", "days": 5 });
        let working = json!({ "kind": "rollingWindow", "days": 6, "businessDays": true });
        let free_working = all.iter().copied().filter(is_business).collect();
        let (from, to) = (after(now, 4), after(now, 6));
        let range = json!({ "kind": "range", "from": from.to_string(), "to": to.to_string() });
        let expected = [
            (rolling, until(after(now, 3))),
            (business, until(nth(ahead, 3))),
            (window, until(all[4])),
            (working, until(nth(free_working, 5))),
            (range, vec![from, after(now, 5), to]),
        ];
        let mut found = Vec::new();
        for (horizon, _) in &expected {
            found.push(dates(&hub, &practice, horizon.clone()).await);
        }
        if today() != now {
            continue;
        }
        for ((horizon, expected), found) in expected.iter().zip(found) {
            assert_eq!(found, *expected, "{horizon}");
        }
        break;
    }
    // What is not listed is refused, and the reverse.
    let seeker = hub.seeker().await;
    let far = practice.slot(24 * 1_000);
    let refused = seeker.post(&hub, "/v1/bookings", practice.wish(far)).await;
    assert_eq!(refused.refused(409, "slot_unavailable")["details"]["rule"], "horizon");
    put_offer(&hub, &practice, json!({ "kind": "unlimited" })).await;
    seeker.post(&hub, "/v1/bookings", practice.wish(far)).await.data(201);
}

#[tokio::test]
async fn the_short_form_is_a_rolling_horizon() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 30 })).await;
    let services = format!("/v1/practitioners/{}/services", practice.id);
    let offer = &hub.get(&services).await.data(200)[0];
    let long = json!({ "kind": "rolling", "days": 30, "businessDays": false });
    assert_eq!((&offer["horizon"], &offer["horizonDays"]), (&long, &json!(30)));
    let plain = hub.practice().await;
    let services = format!("/v1/practitioners/{}/services", plain.id);
    assert_eq!(hub.get(&services).await.data(200)[0]["horizon"]["days"], 90);
    for horizon in [
        json!({ "kind": "unlimited" }),
        json!({ "kind": "rolling", "days": 5, "businessDays": true }),
        json!({ "kind": "rollingWindow", "days": 5 }),
        json!({ "kind": "range", "from": "2030-01-01", "to": "2030-01-31" }),
    ] {
        let offer = put_offer(&hub, &plain, horizon).await;
        assert_eq!(offer.get("horizonDays"), None, "{offer}");
    }
}

#[tokio::test]
async fn a_horizon_that_makes_no_sense_is_refused_by_field() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    let before = rows::contents(&hub.database_url).await;
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60 });
    for (horizon, field) in [
        (json!({}), "horizon.kind"),
        (json!({ "kind": "weekly" }), "horizon.kind"),
        (json!({ "kind": "rolling" }), "horizon.days"),
        (json!({ "kind": "rolling", "days": 0 }), "horizon.days"),
        (json!({ "kind": "rolling", "days": 731 }), "horizon.days"),
        (json!({ "kind": "rollingWindow", "days": 367 }), "horizon.days"),
        (json!({ "kind": "rolling", "days": 5, "from": "2030-01-01" }), "horizon.from"),
        (json!({ "kind": "range", "from": "2030-01-01" }), "horizon.to"),
        (json!({ "kind": "range", "from": "2030-01-02", "to": "2030-01-01" }), "horizon.to"),
        (json!({ "kind": "range", "from": "2030-02-30", "to": "2030-03-01" }), "horizon.from"),
        (json!({ "kind": "range", "from": "-009999-01-01", "to": "2030-03-01" }), "horizon.from"),
        (json!({ "kind": "range", "from": "2030-01-01", "to": "3000-01-01" }), "horizon.to"),
        (
            json!({ "kind": "range", "from": "2030-01-01", "to": "2030-01-02", "days": 1 }),
            "horizon.days",
        ),
        (json!({ "kind": "unlimited", "businessDays": true }), "horizon.businessDays"),
        (json!({ "kind": "unlimited", "until": "2030-01-01" }), "horizon.until"),
    ] {
        let mut offer = offer.clone();
        offer["horizon"] = horizon;
        practice.person.put(&hub, &path, offer).await.names(field);
    }
    let mut both = offer.clone();
    both["horizon"] = json!({ "kind": "unlimited" });
    both["horizonDays"] = json!(30);
    practice.person.put(&hub, &path, both).await.names("horizonDays");
    assert_eq!(rows::contents(&hub.database_url).await, before);
}

#[tokio::test]
async fn the_columns_refuse_what_the_api_would() {
    let hub = TestHub::start().await;
    hub.practice().await;
    let (client, connection) =
        tokio_postgres::connect(&hub.database_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let update = |set: &str| format!("UPDATE practitioner_services SET {set}");
    for (constraint, set) in [
        ("horizon", "horizon_days = NULL"),
        ("horizon", "horizon_days = 731"),
        ("horizon", "horizon_kind = 'weekly'"),
        ("horizon", "horizon_kind = 'rolling_window', horizon_days = 367"),
        ("horizon", "horizon_kind = 'unlimited'"),
        (
            "horizon",
            "horizon_kind = 'unlimited', horizon_days = NULL, horizon_business_days = true",
        ),
        ("horizon", "horizon_kind = 'range', horizon_days = NULL, horizon_from = '2030-01-01'"),
        (
            "horizon",
            "horizon_kind = 'range', horizon_days = NULL, horizon_from = '2030-01-02', \
                     horizon_to = '2030-01-01'",
        ),
        ("horizon", "horizon_from = '2030-01-02'"),
        ("durations", "other_durations = '{}'"),
        ("durations", r#"other_durations = '[{"durationMinutes": 0, "price": 1}]'"#),
        ("durations", r#"other_durations = '[{"durationMinutes": 5, "price": -1}]'"#),
        ("durations", r#"other_durations = '[{"durationMinutes": 5}]'"#),
        ("durations", r#"other_durations = '[{"durationMinutes": "5", "price": 1}]'"#),
        ("durations", "other_durations = '[1]'"),
        ("limits", "max_per_day = 0"),
        ("limits", "max_per_week = 1001"),
    ] {
        let refused = client.simple_query(&update(set)).await.expect_err(set);
        let name = format!("practitioner_services_{constraint}_check");
        assert_eq!(refused.as_db_error().unwrap().constraint(), Some(name.as_str()), "{set}");
    }
    // The controls.
    for set in [
        "horizon_kind = 'unlimited', horizon_days = NULL",
        "horizon_kind = 'range', horizon_from = '2030-01-01', horizon_to = '2030-01-01'",
        "horizon_kind = 'rolling_window', horizon_days = 366, horizon_business_days = true, \
         horizon_from = NULL, horizon_to = NULL",
        r#"other_durations = '[{"durationMinutes": 5, "price": 0}]', max_per_day = 1"#,
    ] {
        client.simple_query(&update(set)).await.expect(set);
    }
}

#[tokio::test]
async fn a_range_that_is_over_or_far_has_no_slots() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let range = json!({ "kind": "range", "from": "2020-01-01", "to": "2020-12-31" });
    assert_eq!(dates(&hub, &practice, range).await, [] as [Date; 0]);
    let far = json!({ "kind": "range", "from": "2900-01-01", "to": "2900-12-31" });
    assert_eq!(dates(&hub, &practice, far).await, [] as [Date; 0]);
    let start: Timestamp = "2900-06-01T00:30:00Z".parse().unwrap();
    let seeker = hub.seeker().await;
    let wish = practice.wish(start + SignedDuration::from_hours(1));
    seeker.post(&hub, "/v1/bookings", wish).await.data(201);
}
