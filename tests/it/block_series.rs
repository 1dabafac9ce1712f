//! Blocked times that repeat.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Practice, Socket, TestHub, rows};

fn path(practice: &Practice) -> String {
    format!("/v1/practitioners/{}/blocks", practice.id)
}

fn date(practice: &Practice, slot: i64) -> Date {
    let zone = TimeZone::get("Asia/Kolkata").unwrap();
    practice.slot(slot).to_zoned(zone).date()
}

/// An hour a day for so many days, from the `slot`th slot on.
fn daily(practice: &Practice, slot: i64, days: i64) -> Value {
    json!({ "startsAt": practice.slot(slot), "endsAt": practice.slot(slot + 1), "reason": "lunch",
        "recurrence": { "every": "day", "until": date(practice, slot + 24 * (days - 1)) } })
}

async fn free(hub: &TestHub, practice: &Practice, slot: i64) -> bool {
    let (from, to) = (practice.slot(slot), practice.slot(slot + 1));
    let query = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={from}&to={to}",
        practice.id, practice.service_id
    );
    !hub.get(&query).await.data(200)["slots"].as_array().unwrap().is_empty()
}

/// What a watcher of the calendar knows: its version, and the minutes that are busy.
#[derive(Debug, PartialEq)]
struct View {
    version: i64,
    busy: BTreeSet<i64>,
}

fn minutes(span: &Value) -> std::ops::Range<i64> {
    let minute = |v: &Value| v.as_str().unwrap().parse::<Timestamp>().unwrap().as_second() / 60;
    minute(&span["start"])..minute(&span["end"])
}

impl View {
    fn apply(&mut self, event: &Value) {
        self.version += 1;
        assert_eq!(event["seq"], self.version, "one version for a series");
        for change in event["data"]["changes"].as_array().unwrap() {
            match change["state"].as_str().unwrap() {
                "busy" => self.busy.extend(minutes(change)),
                _ => self.busy.retain(|minute| !minutes(change).contains(minute)),
            }
        }
    }
}

async fn watch(hub: &TestHub, practice: &Practice) -> (Socket, View) {
    let mut socket = Socket::open(hub, &hub.seeker().await).await;
    let channel = format!("calendar:{}", practice.id);
    let answer = socket.ok("subscribe", json!({ "channel": channel })).await;
    let busy = answer["snapshot"]["busy"].as_array().unwrap().iter().flat_map(minutes).collect();
    (socket, View { version: answer["seq"].as_i64().unwrap(), busy })
}

#[tokio::test]
async fn a_series_is_closed_and_opened_as_one_change() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let owner = &practice.person;
    let booked = practice.slot(24 + 13);
    seeker.post(&hub, "/v1/bookings", practice.wish(booked)).await.data(201);
    let (mut watcher, mut view) = watch(&hub, &practice).await;

    let made = owner.post(&hub, &path(&practice), daily(&practice, 13, 5)).await.data(201);
    assert_eq!(made["count"], 5);
    assert_eq!(made["startsAt"], practice.slot(13).to_string());
    let list = owner.get(&hub, &path(&practice)).await.data(200);
    let list = list.as_array().unwrap();
    let starts: Vec<&Value> = list.iter().map(|b| &b["startsAt"]).collect();
    let expected: Vec<_> = (0..5).map(|n| json!(practice.slot(13 + 24 * n))).collect();
    assert_eq!(starts, expected.iter().collect::<Vec<_>>());
    assert!(list.iter().all(|b| b["seriesId"] == made["seriesId"] && b["reason"] == "lunch"));
    let told = watcher.event("availability:changed").await;
    view.apply(&told);
    assert_eq!(told["data"]["changes"].as_array().unwrap().len(), 5);
    for n in 0..5 {
        assert!(!free(&hub, &practice, 13 + 24 * n).await);
        assert!(free(&hub, &practice, 14 + 24 * n).await, "the control");
    }

    // One of them opens alone.
    let one = format!("{}/{}", path(&practice), list[2]["id"].as_str().unwrap());
    assert_eq!(owner.delete(&hub, &one).await.data(200)["count"], 1);
    assert!(free(&hub, &practice, 13 + 48).await && !free(&hub, &practice, 13).await);
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(13 + 48))).await.data(201);
    for _ in 0..2 {
        view.apply(&watcher.event("availability:changed").await);
    }

    // The rest opens together, in one version; what is booked in it stays busy.
    let last = list[4]["id"].as_str().unwrap();
    let all = format!("{}/{last}?series=true", path(&practice));
    for other in [&seeker, &hub.practice().await.person] {
        other.delete(&hub, &all).await.refused(403, "forbidden");
    }
    let opened = owner.delete(&hub, &all).await.data(200);
    assert_eq!((&opened["id"], &opened["count"]), (&json!(last), &json!(4)));
    let told = watcher.event("availability:changed").await;
    view.apply(&told);
    assert_eq!(watch(&hub, &practice).await.1, view, "the deltas make a fresh snapshot");
    let changes = told["data"]["changes"].as_array().unwrap();
    let states = |state: &str| changes.iter().filter(|c| c["state"] == state).count();
    assert_eq!((states("free"), states("busy")), (4, 1), "{changes:#?}");
    assert_eq!(changes.last().unwrap()["start"], booked.to_string());
    for (n, is_free) in [true, false, false, true, true].into_iter().enumerate() {
        let slot = 13 + 24 * i64::try_from(n).unwrap();
        assert_eq!(free(&hub, &practice, slot).await, is_free, "day {n}");
    }
    assert_eq!(owner.get(&hub, &path(&practice)).await.data(200), json!([]));
    owner.delete(&hub, &all).await.refused(404, "not_found");
    hub.stop().await;
}

#[tokio::test]
async fn the_clock_time_stays_when_clocks_change() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let availability = format!("/v1/practitioners/{}/availability", practice.id);
    let hours = json!({ "timeZone": "America/New_York" });
    practice.person.put(&hub, &availability, hours).await.data(200);
    let zone = TimeZone::get("America/New_York").unwrap();
    let first = practice.slot(24).to_zoned(zone.clone()).date().at(13, 0, 0, 0);
    let first = first.to_zoned(zone.clone()).unwrap();
    let until = first.date().checked_add(jiff::Span::new().days(330)).unwrap();
    let weekly = json!({ "startsAt": first.timestamp(),
        "endsAt": first.timestamp() + SignedDuration::from_mins(45),
        "recurrence": { "every": "week", "until": until } });
    let made = practice.person.post(&hub, &path(&practice), weekly).await.data(201);
    assert_eq!(made["count"], 48);
    let list = practice.person.get(&hub, &path(&practice)).await.data(200);
    let mut offsets = BTreeSet::new();
    for block in list.as_array().unwrap() {
        let at = |field: &str| block[field].as_str().unwrap().parse::<Timestamp>().unwrap();
        let local = at("startsAt").to_zoned(zone.clone());
        assert_eq!((local.hour(), local.weekday()), (13, first.weekday()), "{local}");
        assert_eq!(at("endsAt").duration_since(at("startsAt")).as_mins(), 45);
        offsets.insert(local.offset().seconds());
    }
    assert_eq!(offsets.len(), 2, "eleven months cross a change of clocks");
    hub.stop().await;
}

#[tokio::test]
async fn wrong_recurrences_are_refused_by_field_and_change_nothing() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let weekday = practice.slot(13).to_zoned(TimeZone::get("Asia/Kolkata").unwrap()).weekday();
    let other = i64::from(weekday.next().to_monday_one_offset());
    let before = rows::contents(&hub.database_url).await;
    let (until, year) = (date(&practice, 13 + 240), date(&practice, 13 + 24 * 366));
    for (field, recurrence) in [
        ("recurrence.until", json!({ "every": "day" })),
        ("recurrence.every", json!({ "until": until })),
        ("recurrence.every", json!({ "every": "year", "until": until })),
        ("recurrence.until", json!({ "every": "day", "until": "soon" })),
        ("recurrence.until", json!({ "every": "day", "until": "2020-01-01" })),
        ("recurrence.until", json!({ "every": "day", "until": year })),
        ("recurrence.interval", json!({ "every": "day", "interval": 0, "until": until })),
        ("recurrence.weekdays", json!({ "every": "week", "weekdays": [8], "until": until })),
        ("recurrence.nth", json!({ "every": "week", "nth": 1, "until": until })),
        ("recurrence.colour", json!({ "every": "day", "until": until, "colour": "blue" })),
        ("recurrence", json!("weekly")),
        ("startsAt", json!({ "every": "week", "weekdays": [other], "until": until })),
    ] {
        let mut body = daily(&practice, 13, 5);
        body["recurrence"] = recurrence;
        practice.person.post(&hub, &path(&practice), body).await.names(field);
    }
    let one = format!("{}/{}?series=perhaps", path(&practice), uuid::Uuid::now_v7());
    practice.person.delete(&hub, &one).await.refused(422, "validation_failed");
    assert_eq!(rows::contents(&hub.database_url).await, before);
    hub.stop().await;
}

/// The bound is counted under the calendar's lock: requests at once do not slip through together.
#[tokio::test]
async fn a_practice_has_at_most_a_thousand_blocked_times_ahead() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let series = (0..4).map(|n| {
        let body = daily(&practice, n, 366);
        async { practice.person.post(&hub, &path(&practice), body).await }
    });
    let answers = join_all(series).await;
    let made = answers.iter().filter(|a| a.status == 201).count();
    assert_eq!(made, 2, "two years fit, three do not");
    for refused in answers.iter().filter(|a| a.status != 201) {
        refused.names("startsAt");
    }
    let count = || rows::count(&hub.database_url, "blocked_times");
    assert_eq!(count().await, 732);
    let rest = daily(&practice, 10, 268);
    practice.person.post(&hub, &path(&practice), rest).await.data(201);
    let single = json!({ "startsAt": practice.slot(20), "endsAt": practice.slot(21) });
    practice.person.post(&hub, &path(&practice), single.clone()).await.names("startsAt");
    assert_eq!(count().await, 1_000);
    hub.stop().await;
}

#[tokio::test]
async fn a_series_that_is_sent_twice_with_a_key_is_made_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let send = || {
        let request = hub.request(Method::POST, &path(&practice));
        let request = request.bearer_auth(&practice.person.token);
        answer(request.header("Idempotency-Key", "lunch").json(&daily(&practice, 13, 5)))
    };
    let first = send().await.data(201);
    assert_eq!(send().await.data(201), first);
    assert_eq!(rows::count(&hub.database_url, "blocked_times").await, 5);
    hub.stop().await;
}
