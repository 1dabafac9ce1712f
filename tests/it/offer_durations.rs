//! Services that are offered in several lengths, each at its price.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Practice, Socket, TestHub, rows};

/// A practice that offers 60 minutes (1,500 rupees), 90 (2,000) and 30 (800), every half hour from
/// 09:00 to 12:00 in Kolkata.
async fn practice(hub: &TestHub) -> Practice {
    let price = |amount: i64| json!({ "amount": amount, "currency": "INR" });
    let practice = hub
        .practice_with(json!({
            "incrementMinutes": 30, "bufferAfterMinutes": 10, "instantConfirm": true,
            "otherDurations": [
                { "durationMinutes": 90, "price": price(200_000) },
                { "durationMinutes": 30, "price": price(80_000) },
            ],
        }))
        .await;
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "09:00", "end": "12:00" })).collect();
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let hours = json!({ "timeZone": "Asia/Kolkata", "weekly": weekly });
    practice.person.put(hub, &path, hours).await.data(200);
    practice
}

fn at(practice: &Practice, hour: i64, minute: i64) -> Timestamp {
    practice.slot(hour) + SignedDuration::from_mins(minute)
}

fn wish(practice: &Practice, start: Timestamp, minutes: i64) -> Value {
    let mut wish = practice.wish(start);
    wish["durationMinutes"] = json!(minutes);
    wish
}

/// The slots of the day, as `HH:MM` in Kolkata.
async fn clocks(hub: &TestHub, practice: &Practice, more: &str) -> Vec<String> {
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}&timeZone=Asia/Kolkata{more}",
        practice.id,
        practice.service_id,
        practice.slot(0),
        practice.slot(24)
    );
    let data = hub.get(&path).await.data(200);
    let slots = data["slots"].as_array().unwrap().iter();
    slots.map(|s| s["localStart"].as_str().unwrap()[11..16].to_owned()).collect()
}

#[tokio::test]
async fn each_length_has_its_slots_and_its_price() {
    let hub = TestHub::start().await;
    let practice = practice(&hub).await;
    let seeker = hub.seeker().await;
    let offers = hub.get(&format!("/v1/practitioners/{}/services", practice.id)).await.data(200);
    let inr = |amount: i64| json!({ "amount": amount, "currency": "INR" });
    assert_eq!(
        offers[0]["otherDurations"],
        json!([{ "durationMinutes": 90, "price": inr(200_000) },
               { "durationMinutes": 30, "price": inr(80_000) }])
    );
    assert_eq!(clocks(&hub, &practice, "").await.last().unwrap(), "11:00");
    assert_eq!(clocks(&hub, &practice, "&durationMinutes=60").await.last().unwrap(), "11:00");
    assert_eq!(clocks(&hub, &practice, "&durationMinutes=90").await.last().unwrap(), "10:30");
    assert_eq!(clocks(&hub, &practice, "&durationMinutes=30").await.last().unwrap(), "11:30");

    // The socket says the same, with the length it was computed for.
    let mut socket = Socket::open(&hub, &seeker).await;
    let asked = json!({ "practitionerId": practice.id, "serviceId": practice.service_id,
        "from": practice.slot(0), "to": practice.slot(24), "durationMinutes": 90 });
    let slots = socket.ok("availability:get", asked).await;
    assert_eq!(slots["durationMinutes"], 90);
    assert_eq!(slots["slots"].as_array().unwrap().len(), 4);
    assert_eq!(slots["slots"][0]["end"], at(&practice, 10, 30).to_string());

    let nine = at(&practice, 9, 0);
    let booking = seeker.post(&hub, "/v1/bookings", wish(&practice, nine, 90)).await.data(201);
    assert_eq!(booking["durationMinutes"], 90);
    assert_eq!(booking["endsAt"], at(&practice, 10, 30).to_string());
    assert_eq!(booking["totalAmount"], inr(200_000));
    let stored = "SELECT concat_ws(' ', duration_minutes, commission_amount, ends_at = \
                  scheduled_at + interval '90 min', occupied_until - ends_at) FROM bookings";
    assert_eq!(rows::column(&hub.database_url, stored).await, ["90 30000 t 00:10:00"]);
    // The memory keeps 90 minutes busy and the buffer after them, not 60.
    assert_eq!(clocks(&hub, &practice, "").await, ["11:00"]);
    assert_eq!(clocks(&hub, &practice, "&durationMinutes=30").await, ["11:00", "11:30"]);
    let overlap =
        seeker.post(&hub, "/v1/bookings", wish(&practice, at(&practice, 10, 0), 30)).await;
    overlap.refused(409, "slot_taken");
    // So does a memory that was read from the database.
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    assert_eq!(clocks(&other, &practice, "").await, ["11:00"]);
    let half = socket.ok("booking:create", wish(&practice, at(&practice, 11, 30), 30)).await;
    assert_eq!((&half["totalAmount"], &half["durationMinutes"]), (&inr(80_000), &json!(30)));
}

#[tokio::test]
async fn a_length_that_is_not_offered_is_named() {
    let hub = TestHub::start().await;
    let practice = practice(&hub).await;
    let seeker = hub.seeker().await;
    let mut socket = Socket::open(&hub, &seeker).await;
    let before = rows::contents(&hub.database_url).await;
    for minutes in [45, 0, -60, i64::from(i32::MAX)] {
        let wish = wish(&practice, at(&practice, 9, 0), minutes);
        for path in ["/v1/holds", "/v1/bookings"] {
            seeker.post(&hub, path, wish.clone()).await.names("durationMinutes");
        }
        for op in ["hold:create", "booking:create"] {
            let error = socket.refused(op, wish.clone(), "validation_failed").await;
            assert_eq!(error["details"][0]["field"], "durationMinutes");
            assert_eq!(error["details"][0]["problem"], "must be one of 60, 90, 30");
        }
        let tail = format!("serviceId={}&durationMinutes={minutes}", practice.service_id);
        for path in ["availability?from=2030-01-01&to=2030-01-02&", "next-available?"] {
            let path = format!("/v1/practitioners/{}/{path}{tail}", practice.id);
            hub.get(&path).await.names("durationMinutes");
        }
    }
    let hold = seeker.post(&hub, "/v1/holds", wish(&practice, at(&practice, 9, 0), 30)).await;
    let hold = hold.data(201)["id"].clone();
    let both = json!({ "holdId": hold, "durationMinutes": 30 });
    seeker.post(&hub, "/v1/bookings", both).await.names("holdId");
    // The control: but for the hold nothing was changed.
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 1);
    assert_eq!(before["bookings"], "0 ");
}

#[tokio::test]
async fn a_hold_keeps_the_length_and_the_price_it_was_made_with() {
    let hub = TestHub::start().await;
    let practice = practice(&hub).await;
    let seeker = hub.seeker().await;
    let nine = at(&practice, 9, 0);
    let hold = seeker.post(&hub, "/v1/holds", wish(&practice, nine, 90)).await.data(201);
    assert_eq!(hold["endsAt"], at(&practice, 10, 30).to_string());
    assert_eq!(hold["totalAmount"]["amount"], 200_000);
    assert_eq!(clocks(&hub, &practice, "").await, ["11:00"]);
    // The same wish again is the same hold; another length there is another one.
    let again = seeker.post(&hub, "/v1/holds", wish(&practice, nine, 90)).await.data(201);
    assert_eq!(again, hold);
    let booked = seeker.post(&hub, "/v1/bookings", wish(&practice, nine, 90)).await.data(201);
    assert_eq!((&booked["id"], &booked["durationMinutes"]), (&hold["id"], &json!(90)));
    assert_eq!(booked["totalAmount"]["amount"], 200_000);

    let ten = practice.slot(24 + 10);
    let long = seeker.post(&hub, "/v1/holds", wish(&practice, ten, 90)).await.data(201);
    let short = seeker.post(&hub, "/v1/bookings", practice.wish(ten)).await.data(201);
    assert_ne!(short["id"], long["id"]);
    assert_eq!(
        (&short["durationMinutes"], &short["totalAmount"]["amount"]),
        (&json!(60), &json!(150_000))
    );
    let late = seeker.post(&hub, "/v1/bookings", json!({ "holdId": long["id"] })).await;
    late.refused(409, "hold_expired");
}

#[tokio::test]
async fn lengths_are_checked_when_they_are_offered() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    let offer = |others: Value| {
        json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60,
            "otherDurations": others })
    };
    let one = |minutes: i64, amount: i64, currency: &str| json!({ "durationMinutes": minutes, "price": { "amount": amount, "currency": currency } });
    let eleven: Vec<Value> = (1..=11).map(|n| one(n, 1, "INR")).collect();
    let before = rows::contents(&hub.database_url).await;
    for (others, field) in [
        (json!([one(0, 1, "INR")]), "otherDurations[0].durationMinutes"),
        (json!([one(1441, 1, "INR")]), "otherDurations[0].durationMinutes"),
        (json!([one(60, 1, "INR")]), "otherDurations[0].durationMinutes"),
        (json!([one(30, 1, "INR"), one(30, 2, "INR")]), "otherDurations[1].durationMinutes"),
        (json!([one(30, -1, "INR")]), "otherDurations[0].price.amount"),
        (json!([one(30, 1, "EUR")]), "otherDurations[0].price.currency"),
        (json!([{ "durationMinutes": 30 }]), "otherDurations[0].price"),
        (json!([{ "minutes": 30 }]), "otherDurations[0].minutes"),
        (json!(eleven), "otherDurations"),
        (json!("x"), "otherDurations"),
    ] {
        practice.person.put(&hub, &path, offer(others)).await.names(field);
    }
    assert_eq!(rows::contents(&hub.database_url).await, before);
    let ten = eleven[..10].to_vec();
    practice.person.put(&hub, &path, offer(json!(ten))).await.data(200);
    // What is left out is gone again.
    let plain = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60 });
    let offers = practice.person.put(&hub, &path, plain).await.data(200);
    assert_eq!(offers[0]["otherDurations"], json!([]));
}
