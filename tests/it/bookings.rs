//! The life of a booking, over REST and over the socket: every step, every refusal, and what each
//! leaves behind. Which starts can be booked at all is in `booking_rules`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Person, Practice, Socket, TestHub, rows};

/// The two ways to the same operations.
enum Way {
    Rest(Person),
    Socket(Box<Socket>),
}

impl Way {
    /// The answer's data, or its error.
    async fn call(&mut self, hub: &TestHub, op: &str, mut data: Value) -> Value {
        match self {
            Self::Socket(socket) => {
                let answer = socket.call(op, data).await;
                answer.get("data").or(answer.get("error")).unwrap().clone()
            }
            Self::Rest(person) => {
                let mut take = |field: &str| {
                    let id = data.as_object_mut().unwrap().remove(field).unwrap();
                    id.as_str().unwrap().to_owned()
                };
                let answer = match op {
                    "hold:create" => person.post(hub, "/v1/holds", data).await,
                    "booking:create" => person.post(hub, "/v1/bookings", data).await,
                    "hold:release" => {
                        let path = format!("/v1/holds/{}", take("holdId"));
                        person.delete(hub, &path).await
                    }
                    "booking:cancel" => {
                        let path = format!("/v1/bookings/{}/cancel", take("bookingId"));
                        person.post(hub, &path, data).await
                    }
                    _ => panic!("{op}"),
                };
                answer.body.get("data").or(answer.body.get("error")).unwrap().clone()
            }
        }
    }
}

/// Blanks what differs from one run to the next: ids and times.
fn blank(value: &mut Value) {
    const OWN: [&str; 8] =
        ["id", "seekerId", "startsAt", "endsAt", "expiresAt", "scheduledAt", "createdAt", "notes"];
    if let Some(object) = value.as_object_mut() {
        for (key, value) in object {
            if OWN.contains(&key.as_str()) {
                assert!(value.is_string(), "{key}: {value}");
                *value = json!("…");
            } else {
                blank(value);
            }
        }
    }
}

/// Everything that a seeker does with slots from `first` on, and what the hub says to it.
async fn story(hub: &TestHub, practice: &Practice, way: &mut Way, first: i64) -> Vec<Value> {
    let mut said = Vec::new();
    let mut say = |value: &Value| said.push(value.clone());
    let at = |n: i64| practice.wish(practice.slot(first + n));

    let hold = way.call(hub, "hold:create", at(0)).await;
    say(&hold);
    let other = json!({ "practitionerId": practice.id, "serviceId": uuid::Uuid::nil(),
        "startsAt": practice.slot(first + 1) });
    say(&way.call(hub, "hold:create", other).await);
    let from_hold = json!({ "holdId": hold["id"], "notes": "first time" });
    let booking = way.call(hub, "booking:create", from_hold.clone()).await;
    say(&booking);
    assert_eq!(booking["id"], hold["id"]);
    say(&way.call(hub, "booking:create", from_hold).await);
    say(&way.call(hub, "hold:release", json!({ "holdId": hold["id"] })).await);
    let id = &booking["id"];
    say(&way.call(hub, "booking:cancel", json!({ "bookingId": id, "version": 99 })).await);
    let cancel = json!({ "bookingId": id, "reason": "ill" });
    say(&way.call(hub, "booking:cancel", cancel.clone()).await);
    say(&way.call(hub, "booking:cancel", cancel).await);
    say(&way.call(hub, "booking:create", at(1)).await);
    say(&way.call(hub, "booking:create", at(1)).await);
    let hold = way.call(hub, "hold:create", at(2)).await;
    for _ in 0..2 {
        say(&way.call(hub, "hold:release", json!({ "holdId": hold["id"] })).await);
    }
    say(&way.call(hub, "booking:create", json!({ "holdId": hold["id"] })).await);
    say(&way.call(hub, "booking:create", at(-24 * 9)).await);
    let mut odd = at(3);
    odd["colour"] = json!("blue");
    say(&way.call(hub, "booking:create", odd).await);
    let mut both = at(3);
    both["holdId"] = hold["id"].clone();
    say(&way.call(hub, "booking:create", both).await);
    say(&way.call(hub, "booking:create", json!({ "serviceId": practice.service_id })).await);
    said
}

#[tokio::test]
async fn rest_and_socket_give_equal_answers() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let other = hub.seeker().await;
    let mut socket = Way::Socket(Box::new(Socket::open(&hub, &other).await));
    let mut over_rest = story(&hub, &practice, &mut Way::Rest(seeker), 1).await;
    let mut over_socket = story(&hub, &practice, &mut socket, 6).await;

    let codes: Vec<&str> = over_rest.iter().filter_map(|v| v["code"].as_str()).collect();
    let wanted = "not_found already_exists not_found version_conflict invalid_transition \
                  slot_taken hold_expired slot_unavailable validation_failed validation_failed \
                  validation_failed";
    assert_eq!(codes, wanted.split_whitespace().collect::<Vec<_>>(), "{over_rest:#?}");
    for value in over_rest.iter_mut().chain(&mut over_socket) {
        blank(value);
    }
    assert_eq!(over_rest, over_socket);
}

/// A hold that was made and booked by `seeker`.
async fn requested(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) -> Value {
    let hold = seeker.post(hub, "/v1/holds", practice.wish(practice.slot(slot))).await.data(201);
    let body = json!({ "holdId": hold["id"], "notes": "first time" });
    seeker.post(hub, "/v1/bookings", body).await.data(201)
}

fn path(booking: &Value, step: &str) -> String {
    let id = booking["id"].as_str().unwrap();
    if step.is_empty() { format!("/v1/bookings/{id}") } else { format!("/v1/bookings/{id}/{step}") }
}

#[tokio::test]
async fn a_request_is_confirmed_or_declined_by_the_practitioner_alone() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, stranger) = (hub.seeker().await, hub.seeker().await);
    let (one, two) = (
        requested(&hub, &practice, &seeker, 9).await,
        requested(&hub, &practice, &seeker, 10).await,
    );
    assert_eq!((&one["status"], &one["version"]), (&json!("pending"), &json!(2)));

    let confirm = path(&one, "confirm");
    seeker.post(&hub, &confirm, json!({})).await.refused(403, "forbidden");
    stranger.post(&hub, &confirm, json!({})).await.refused(404, "not_found");
    let rival = hub.practice().await;
    rival.person.post(&hub, &confirm, json!({})).await.refused(404, "not_found");
    hub.post(&confirm, json!({})).await.refused(401, "unauthenticated");
    stranger.get(&hub, &path(&one, "")).await.refused(404, "not_found");

    let confirmed = practice.person.post(&hub, &confirm, json!({})).await.data(200);
    assert_eq!((&confirmed["status"], &confirmed["version"]), (&json!("confirmed"), &json!(3)));
    let again = practice.person.post(&hub, &confirm, json!({})).await;
    let details = again.refused(409, "invalid_transition")["details"].clone();
    assert_eq!(details, json!({ "state": "confirmed", "version": 3 }));

    let declined =
        practice.person.post(&hub, &path(&two, "decline"), json!({ "reason": "away" })).await;
    let declined = declined.data(200);
    assert_eq!(declined["status"], "declined");
    let late = seeker.post(&hub, &path(&two, "cancel"), json!({})).await;
    assert_eq!(late.refused(409, "invalid_transition")["details"]["state"], "declined");
    // The declined time is free for others, the confirmed one is not.
    stranger.post(&hub, "/v1/bookings", practice.wish(practice.slot(10))).await.data(201);
    let taken = stranger.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await;
    taken.refused(409, "slot_taken");
    let stored =
        rows::column(&hub.database_url, "SELECT status AS value FROM bookings ORDER BY id").await;
    assert_eq!(stored, ["confirmed", "declined", "pending"]);
}

#[tokio::test]
async fn an_instant_service_is_confirmed_at_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let from_hold = requested(&hub, &practice, &seeker, 9).await;
    let wish = practice.wish(practice.slot(10));
    let direct = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    for booking in [&from_hold, &direct] {
        assert_eq!(booking["status"], "confirmed");
        let confirm = practice.person.post(&hub, &path(booking, "confirm"), json!({})).await;
        confirm.refused(409, "invalid_transition");
    }
    let kinds = rows::column(&hub.database_url, "SELECT kind AS value FROM notifications").await;
    assert_eq!(kinds, ["booking_booked", "booking_booked"]);
    practice.person.delete(&hub, &path(&direct, "")).await.data(200);
}

#[tokio::test]
async fn booking_ones_own_held_slot_consumes_the_hold() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(9));
    let hold = seeker.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    for path in ["/v1/holds", "/v1/bookings"] {
        other.post(&hub, path, wish.clone()).await.refused(409, "slot_taken");
    }
    let foreign = json!({ "holdId": hold["id"] });
    other.post(&hub, "/v1/bookings", foreign).await.refused(404, "not_found");
    let release = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    other.delete(&hub, &release).await.refused(404, "not_found");
    practice.person.delete(&hub, &release).await.refused(404, "not_found");
    // A hold is no booking, to nobody.
    seeker.get(&hub, &path(&hold, "")).await.refused(404, "not_found");

    let mut with_notes = wish.clone();
    with_notes["notes"] = json!("window seat");
    let booking = seeker.post(&hub, "/v1/bookings", with_notes).await.data(201);
    assert_eq!((&booking["id"], &booking["notes"]), (&hold["id"], &json!("window seat")));
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 1);
    assert_eq!(
        rows::count(&hub.database_url, "bookings WHERE hold_expires_at IS NOT NULL").await,
        0
    );
}

#[tokio::test]
async fn holding_the_same_slot_twice_gives_the_same_hold() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let wish = practice.wish(practice.slot(9));
    let first = seeker.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    let second = seeker.post(&hub, "/v1/holds", wish).await.data(201);
    // The same to the letter: nobody keeps a slot for ever by asking again.
    assert_eq!(first, second);
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 1);
}

#[tokio::test]
async fn a_released_slot_is_free_for_others() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(9));
    let hold = seeker.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    seeker.delete(&hub, &format!("/v1/holds/{}", hold["id"].as_str().unwrap())).await.data(200);
    other.post(&hub, "/v1/bookings", wish).await.data(201);
    let late = seeker.post(&hub, "/v1/bookings", json!({ "holdId": hold["id"] })).await;
    late.refused(409, "hold_expired");
}

#[tokio::test]
async fn price_and_commission_are_those_of_the_moment_of_booking() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let booking = requested(&hub, &practice, &seeker, 9).await;
    assert_eq!(booking["totalAmount"], json!({ "amount": 150_000, "currency": "INR" }));
    assert_eq!(booking.get("commissionAmount"), None);

    let offer = json!({ "price": { "amount": 99_999, "currency": "INR" }, "durationMinutes": 60 });
    let service = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    practice.person.put(&hub, &service, offer).await.data(200);
    let seen = practice.person.get(&hub, &path(&booking, "")).await.data(200);
    assert_eq!(seen["totalAmount"]["amount"], 150_000);
    assert_eq!(seen["commissionAmount"], json!({ "amount": 22_500, "currency": "INR" }));
    // Neither the list, the events nor a step tell the seeker what the platform takes.
    let list = seeker.get(&hub, "/v1/bookings").await.data(200);
    assert_eq!((list.as_array().unwrap().len(), list[0].get("commissionAmount")), (1, None));
    let cancelled = seeker.delete(&hub, &path(&booking, "")).await.data(200);
    assert_eq!(cancelled.get("commissionAmount"), None);
    let mut late = Socket::open(&hub, &seeker).await;
    let all = json!({ "channel": format!("user:{}", seeker.id), "since": 0 });
    late.ok("subscribe", all).await;
    let created = late.event("booking:created").await;
    assert_eq!(created["data"]["booking"].get("commissionAmount"), None);

    let next = requested(&hub, &practice, &seeker, 9).await;
    assert_eq!(next["totalAmount"]["amount"], 99_999);
    let kept = "bookings WHERE (total_amount, commission_amount) = ";
    for (pair, rows) in [("(150000, 22500)", 1), ("(99999, 15000)", 1)] {
        assert_eq!(rows::count(&hub.database_url, &format!("{kept}{pair}")).await, rows, "{pair}");
    }
}

#[tokio::test]
async fn an_old_version_is_refused_and_changes_nothing() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let booking = requested(&hub, &practice, &seeker, 9).await;
    let step = |method: Method, step: &str, tag: &str| {
        hub.request(method, &path(&booking, step))
            .bearer_auth(&practice.person.token)
            .header("If-Match", tag)
    };
    for request in [step(Method::POST, "confirm", "\"1\""), step(Method::DELETE, "", "\"3\"")] {
        let conflict = answer(request).await.refused(409, "version_conflict");
        assert_eq!(conflict["details"], json!({ "version": 2 }));
    }
    let body = json!({ "version": 1 });
    let conflict = practice.person.post(&hub, &path(&booking, "decline"), body).await;
    conflict.refused(409, "version_conflict");
    answer(step(Method::POST, "confirm", "soon")).await.names("If-Match");
    let shown = seeker.get(&hub, &path(&booking, "")).await;
    assert_eq!(shown.headers["etag"], "\"2\"");
    let confirmed = answer(step(Method::POST, "confirm", "\"2\"")).await;
    assert_eq!(
        (confirmed.data(200)["version"].as_i64(), &confirmed.headers["etag"]),
        (Some(3), &"\"3\"".parse().unwrap())
    );
    let trail = seeker.get(&hub, &path(&booking, "events")).await.data(200);
    assert_eq!(trail.as_array().unwrap().len(), 3);
}
