//! Which starts can be booked, and what is said of the others.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Person, Practice, TestHub, rows};

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Tries to book `start`; the code of the refusal with its rule, or `booked`.
async fn book(hub: &TestHub, practice: &Practice, seeker: &Person, start: Timestamp) -> String {
    let answer = seeker.post(hub, "/v1/bookings", practice.wish(start)).await;
    let held = seeker.post(hub, "/v1/holds", practice.wish(start)).await;
    if answer.status == 201 {
        held.refused(409, "slot_taken");
        return "booked".to_owned();
    }
    // A hold is refused for the same reason.
    assert_eq!((answer.status.as_u16(), &answer.body["error"]), (409, &held.body["error"]));
    let error = &answer.body["error"];
    let rule = error["details"]["rule"].as_str().map(|r| format!(" {r}")).unwrap_or_default();
    format!("{}{rule}", error["code"].as_str().unwrap())
}

#[tokio::test]
async fn the_past_and_what_lies_too_near_or_too_far_are_refused() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 30, "minNoticeMinutes": 5760 })).await;
    let seeker = hub.seeker().await;
    let book = async |n: i64| book(&hub, &practice, &seeker, practice.slot(n)).await;
    assert_eq!(book(-24 * 9).await, "slot_unavailable in_past");
    assert_eq!(book(3).await, "slot_unavailable notice");
    assert_eq!(book(24 * 4).await, "booked");
    assert_eq!(book(24 * 27).await, "booked");
    assert_eq!(book(24 * 32).await, "slot_unavailable horizon");
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 2);
}

#[tokio::test]
async fn a_start_off_the_grid_or_outside_the_hours_is_refused() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "09:00", "end": "17:30" })).collect();
    let hours = json!({ "timeZone": "Asia/Kolkata", "weekly": weekly });
    let availability = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(&hub, &availability, hours).await.data(200);
    let book = async |start| book(&hub, &practice, &seeker, start).await;
    for (n, minutes, said) in [
        (8, 0, "slot_unavailable hours"),
        (9, 10, "slot_unavailable grid"),
        (9, 0, "booked"),
        (16, 0, "booked"),
        (17, 0, "slot_unavailable hours"),
    ] {
        assert_eq!(book(practice.slot(n) + MINUTE * minutes).await, said, "{n}:{minutes}");
    }
}

#[tokio::test]
async fn the_buffers_of_both_neighbours_are_added() {
    let hub = TestHub::start().await;
    let offer = json!({
        "bufferBeforeMinutes": 10, "bufferAfterMinutes": 20, "incrementMinutes": 30,
    });
    let practice = hub.practice_with(offer).await;
    let seeker = hub.seeker().await;
    let book = async |n, minutes: i32| {
        book(&hub, &practice, &seeker, practice.slot(n) + MINUTE * minutes).await
    };
    assert_eq!(book(10, 0).await, "booked");
    // The next one needs 20 minutes of the first and 10 of its own.
    assert_eq!(book(11, 0).await, "slot_taken");
    assert_eq!(book(11, 29).await, "slot_taken");
    assert_eq!(book(11, 30).await, "booked");
    // The one before needs its own 20 and 10 of the first.
    assert_eq!(book(9, 0).await, "slot_taken");
    assert_eq!(book(8, 31).await, "slot_taken");
    assert_eq!(book(8, 30).await, "booked");
    let gaps = "SELECT (lead(occupied_from) OVER w - occupied_until)::text AS value \
                FROM bookings WINDOW w AS (ORDER BY scheduled_at) LIMIT 2";
    // Buffer beside buffer, and not a minute more.
    assert_eq!(rows::column(&hub.database_url, gaps).await, ["00:00:00", "00:00:00"]);
}

#[tokio::test]
async fn sessions_may_touch() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for n in [9, 11, 10] {
        assert_eq!(book(&hub, &practice, &seeker, practice.slot(n)).await, "booked");
    }
    let half = practice.slot(9) + MINUTE * 30;
    assert_eq!(book(&hub, &practice, &seeker, half).await, "slot_taken");
}

#[tokio::test]
async fn only_what_the_practice_offers_can_be_booked_and_only_by_seekers() {
    let hub = TestHub::start().await;
    let (practice, other) = (hub.practice().await, hub.practice().await);
    let seeker = hub.seeker().await;
    let start = practice.slot(9);
    for (path, field, value) in [
        ("/v1/bookings", "serviceId", &other.service_id),
        ("/v1/holds", "serviceId", &other.service_id),
        ("/v1/bookings", "practitionerId", &seeker.id),
    ] {
        let mut wish = practice.wish(start);
        wish[field] = json!(value);
        seeker.post(&hub, path, wish).await.refused(404, "not_found");
    }
    for person in [&practice.person, &other.person, &hub.admin().await] {
        for path in ["/v1/bookings", "/v1/holds"] {
            let answer = person.post(&hub, path, practice.wish(start)).await;
            answer.refused(403, "forbidden");
        }
    }
    hub.post("/v1/bookings", practice.wish(start)).await.refused(401, "unauthenticated");
    // A service that is taken off the list can not be booked any more.
    let mut offer = json!({
        "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60, "status": "inactive",
    });
    let service = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    practice.person.put(&hub, &service, offer.clone()).await.data(200);
    seeker.post(&hub, "/v1/bookings", practice.wish(start)).await.refused(404, "not_found");
    offer["status"] = json!("active");
    practice.person.put(&hub, &service, offer).await.data(200);
    seeker.post(&hub, "/v1/bookings", practice.wish(start)).await.data(201);
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 1);
}

/// A practice with a second service of the same length.
async fn with_second_service(hub: &TestHub) -> (Practice, Practice) {
    let practice = hub.practice().await;
    let second = Practice { service_id: hub.service().await, ..practice.clone() };
    let offer = json!({ "price": { "amount": 70_000, "currency": "INR" }, "durationMinutes": 60 });
    let path = format!("/v1/practitioners/{}/services/{}", second.id, second.service_id);
    practice.person.put(hub, &path, offer).await.data(200);
    (practice, second)
}

#[tokio::test]
async fn a_hold_of_one_service_never_becomes_a_booking_of_another() {
    let hub = TestHub::start().await;
    let (practice, second) = with_second_service(&hub).await;
    let seeker = hub.seeker().await;
    let start = practice.slot(9);
    let hold = seeker.post(&hub, "/v1/holds", practice.wish(start)).await.data(201);
    let booking = seeker.post(&hub, "/v1/bookings", second.wish(start)).await.data(201);
    assert_eq!(booking["serviceId"], second.service_id);
    assert_eq!(booking["totalAmount"]["amount"], 70_000);
    // Who books something else over their own hold gives it up.
    let late = seeker.post(&hub, "/v1/bookings", json!({ "holdId": hold["id"] })).await;
    late.refused(409, "hold_expired");
}

#[tokio::test]
async fn what_is_listed_for_who_holds_a_slot_nearby_can_be_booked() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "incrementMinutes": 30 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let (first, later) = (practice.slot(9), practice.slot(9) + MINUTE * 30);
    seeker.post(&hub, "/v1/holds", practice.wish(first)).await.data(201);
    let listed = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={first}&to={}",
        practice.id,
        practice.service_id,
        practice.slot(11)
    );
    let starts = |answer: Value| -> Vec<Timestamp> {
        let slots = answer["slots"].as_array().unwrap().iter();
        slots.map(|s| s["start"].as_str().unwrap().parse().unwrap()).collect()
    };
    assert!(!starts(other.get(&hub, &listed).await.data(200)).contains(&later));
    assert!(starts(seeker.get(&hub, &listed).await.data(200)).contains(&later));
    // They changed their mind: the new hold takes the place of the old one.
    seeker.post(&hub, "/v1/holds", practice.wish(later)).await.data(201);
    let stored = "SELECT status AS value FROM bookings ORDER BY created_at";
    assert_eq!(rows::column(&hub.database_url, stored).await, ["released", "held"]);
    // Without the hold the way is free for others up to the new one.
    let before = practice.slot(8) + MINUTE * 30;
    other.post(&hub, "/v1/bookings", practice.wish(before)).await.data(201);
    // A wish that fails leaves the hold as it is.
    let refused = seeker.post(&hub, "/v1/holds", practice.wish(first)).await;
    refused.refused(409, "slot_taken");
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE status = 'held'").await, 1);
}
