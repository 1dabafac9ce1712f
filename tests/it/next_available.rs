//! The next slot that is free, of one practitioner and over several.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Person, Practice, TestHub};

async fn next(hub: &TestHub, practice: &Practice, more: &str) -> Value {
    let path = format!(
        "/v1/practitioners/{}/next-available?serviceId={}{more}",
        practice.id, practice.service_id
    );
    hub.get(&path).await.data(200)
}

async fn next_of(hub: &TestHub, who: &Person, practice: &Practice, from: Timestamp) -> Value {
    let path = format!(
        "/v1/practitioners/{}/next-available?serviceId={}&from={from}",
        practice.id, practice.service_id
    );
    who.get(hub, &path).await.data(200)["slot"]["start"].clone()
}

async fn block(hub: &TestHub, practice: &Practice, from: Timestamp, until: Timestamp) {
    let path = format!("/v1/practitioners/{}/blocks", practice.id);
    let body = json!({ "startsAt": from, "endsAt": until });
    practice.person.post(hub, &path, body).await.data(201);
}

async fn put_hours(hub: &TestHub, practice: &Practice, hours: Value) {
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(hub, &path, hours).await.data(200);
}

#[tokio::test]
async fn it_is_the_first_of_the_list() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let from = practice.slot(0);
    let found = next(&hub, &practice, &format!("&from={from}&timeZone=America/New_York")).await;
    let list = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={from}&to={}&timeZone=America/New_York",
        practice.id,
        practice.service_id,
        practice.slot(5)
    );
    let list = hub.get(&list).await.data(200);
    assert_eq!(found["slot"], list["slots"][0]);
    assert_eq!(found["slot"]["start"], from.to_string());
    assert_eq!((&found["version"], &found["durationMinutes"]), (&list["version"], &json!(60)));
    assert_eq!(found["practitionerId"], practice.id);
    // A date is one of the zone that is named.
    let day = practice.slot(0).to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").unwrap()).date();
    let of_day = next(&hub, &practice, &format!("&from={day}&timeZone=Asia/Kolkata")).await;
    assert_eq!(of_day["slot"]["start"], from.to_string());

    // Own holds are not in the way of their owner, those of others are.
    seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(0))).await.data(201);
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(1))).await.data(201);
    assert_eq!(next_of(&hub, &seeker, &practice, from).await, from.to_string());
    assert_eq!(next_of(&hub, &other, &practice, from).await, practice.slot(2).to_string());
    // The past is not searched.
    let past = next(&hub, &practice, "&from=2020-01-01").await;
    let start: Timestamp = past["slot"]["start"].as_str().unwrap().parse().unwrap();
    assert!(start > Timestamp::now() && start < Timestamp::now() + SignedDuration::from_hours(2));
}

#[tokio::test]
async fn it_looks_as_far_as_the_horizon_and_a_year_at_most() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 366 })).await;
    block(&hub, &practice, practice.slot(-100), practice.slot(24 * 100)).await;
    assert_eq!(next(&hub, &practice, "").await["slot"]["start"], practice.slot(2_400).to_string());
    let short = hub.practice_with(json!({ "horizonDays": 90 })).await;
    block(&hub, &short, short.slot(-100), short.slot(24 * 100)).await;
    assert_eq!(next(&hub, &short, "").await["slot"], Value::Null);

    let unlimited = hub.practice_with(json!({ "horizon": { "kind": "unlimited" } })).await;
    let open_on = |days: i64| {
        let date = (Timestamp::now() + SignedDuration::from_hours(24 * days)).to_string();
        json!({ "timeZone": "UTC", "overrides": [{ "date": date[..10],
            "windows": [{ "start": "09:00", "end": "10:00" }] }] })
    };
    put_hours(&hub, &unlimited, open_on(300)).await;
    let found = next(&hub, &unlimited, "").await;
    let date = open_on(300)["overrides"][0]["date"].as_str().unwrap().to_owned();
    assert_eq!(found["slot"]["start"], format!("{date}T09:00:00Z"));
    put_hours(&hub, &unlimited, open_on(400)).await;
    let found = next(&hub, &unlimited, "").await;
    assert_eq!(found["slot"], Value::Null);
    let until: Timestamp = found["searchedUntil"].as_str().unwrap().parse().unwrap();
    let days = until.duration_since(Timestamp::now()).as_hours() / 24;
    assert!((365..=366).contains(&days), "{days}");
    // Who asks from later on looks further.
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 100);
    let found = next(&hub, &unlimited, &format!("&from={later}")).await;
    assert!(found["slot"]["start"].is_string(), "{found}");
    // The end of time is no trouble.
    let never = next(&hub, &unlimited, "&from=9999-12-30T00:00:00Z").await;
    assert_eq!(never["slot"], Value::Null);
}

#[tokio::test]
async fn over_a_list_the_earliest_comes_first() {
    let hub = TestHub::start().await;
    let first = hub.practice().await;
    let mut practices = vec![first.clone()];
    for _ in 0..3 {
        let mut practice = hub.practice().await;
        practice.service_id.clone_from(&first.service_id);
        practices.push(practice);
    }
    let [late, closed, soon, idle] = practices.try_into().unwrap_or_else(|_| unreachable!());
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60,
        "otherDurations": [{ "durationMinutes": 30, "price": { "amount": 1, "currency": "INR" } }] });
    for practice in [&late, &closed, &soon] {
        let path = format!("/v1/practitioners/{}/services/{}", practice.id, first.service_id);
        practice.person.put(&hub, &path, offer.clone()).await.data(200);
    }
    block(&hub, &late, late.slot(-100), late.slot(50)).await;
    put_hours(&hub, &closed, json!({ "timeZone": "UTC" })).await;
    block(&hub, &soon, soon.slot(-100), soon.slot(7)).await;
    let ghost = Uuid::now_v7().to_string();
    let ids = [&late.id, &closed.id, &idle.id, &soon.id, &ghost].map(String::as_str).join(",");
    let path =
        format!("/v1/availability/next?practitionerIds={ids}&serviceId={}", first.service_id);
    let found = hub.get(&path).await.data(200);
    // Who does not offer it, or does not exist, is left out; who has nothing comes last.
    let seen: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (&n["practitionerId"], &n["slot"]["start"]))
        .collect();
    let (seven, fifty) = (json!(soon.slot(7)), json!(late.slot(50)));
    let expected =
        [(&json!(soon.id), &seven), (&json!(late.id), &fifty), (&json!(closed.id), &Value::Null)];
    assert_eq!(seen, expected);
    for (next, practice) in found.as_array().unwrap().iter().zip([&soon, &late]) {
        let one = format!(
            "/v1/practitioners/{}/next-available?serviceId={}",
            practice.id, first.service_id
        );
        assert_eq!(hub.get(&one).await.data(200)["slot"], next["slot"]);
    }
    let half = hub.get(&format!("{path}&durationMinutes=30&timeZone=Asia/Kolkata")).await.data(200);
    assert_eq!(half[0]["durationMinutes"], 30);
    assert!(half[0]["slot"]["localStart"].as_str().unwrap().ends_with("+05:30"));
    assert_eq!(hub.get(&format!("{path}&durationMinutes=45")).await.data(200), json!([]));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let one = format!("/v1/practitioners/{}/next-available", practice.id);
    let service = &practice.service_id;
    for (tail, field) in [
        (String::new(), "serviceId"),
        (format!("?serviceId={service}&from=soon"), "from"),
        (format!("?serviceId={service}&timeZone=Mars/Olympus"), "timeZone"),
        (format!("?serviceId={service}&to=2030-01-01"), "to"),
    ] {
        hub.get(&format!("{one}{tail}")).await.names(field);
    }
    let nobody = format!("/v1/practitioners/{}/next-available?serviceId={service}", Uuid::now_v7());
    hub.get(&nobody).await.refused(404, "not_found");
    let nothing = format!("{one}?serviceId={}", Uuid::now_v7());
    hub.get(&nothing).await.refused(404, "not_found");

    let ids =
        |n: usize| vec![(); n].iter().map(|()| Uuid::now_v7().to_string()).collect::<Vec<_>>();
    let many = |ids: &[String]| {
        format!("/v1/availability/next?serviceId={service}&practitionerIds={}", ids.join(","))
    };
    let twice = vec![practice.id.clone(), practice.id.clone()];
    for ids in [ids(51), twice, vec!["x".to_owned()], Vec::new()] {
        hub.get(&many(&ids)).await.names("practitionerIds");
    }
    let missing = format!("/v1/availability/next?serviceId={service}");
    hub.get(&missing).await.names("practitionerIds");
    assert_eq!(hub.get(&many(&ids(50))).await.data(200), json!([]));
}
