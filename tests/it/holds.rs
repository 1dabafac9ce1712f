//! Holds: kept for their owner, over restarts too, and bookable by others once they ran out,
//! whatever runs in the background.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Person, Practice, Socket, TestHub, rows};

const SHORT: Duration = Duration::from_secs(1);

async fn short_holds() -> TestHub {
    TestHub::start_with(|c| c.booking.hold_ttl = SHORT).await
}

/// The same database, with holds of one second, too.
async fn over(database_url: &str) -> TestHub {
    TestHub::start_over(database_url.to_owned(), |c| c.booking.hold_ttl = SHORT).await
}

async fn hold(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) -> Value {
    seeker.post(hub, "/v1/holds", practice.wish(practice.slot(slot))).await.data(201)
}

/// A hold of `seeker` that the hub does not know of, as if another node had made it, which runs
/// out `seconds` from now.
async fn foreign_hold(
    hub: &TestHub,
    practice: &Practice,
    seeker: &Person,
    slot: i64,
    seconds: f64,
) -> String {
    let id = uuid::Uuid::now_v7();
    let insert = format!(
        "INSERT INTO bookings (id, seeker_id, practitioner_id, service_id, scheduled_at, ends_at,
           duration_minutes, occupied_from, occupied_until, total_amount, commission_amount,
           status, hold_expires_at)
         VALUES ('{id}', '{}', '{}', '{}', '{start}', '{end}', 60, '{start}', '{end}', 1, 0,
           'held', now() + make_interval(secs => {seconds}))",
        seeker.id,
        practice.id,
        practice.service_id,
        start = practice.slot(slot),
        end = practice.slot(slot + 1),
    );
    assert_eq!(rows::run(&hub.database_url, &insert).await, 1);
    id.to_string()
}

async fn watch(hub: &TestHub, practice: &Practice) -> Socket {
    let mut socket = Socket::open(hub, &hub.seeker().await).await;
    let channel = json!({ "channel": format!("calendar:{}", practice.id) });
    socket.ok("subscribe", channel).await;
    socket
}

/// Books `slot` as soon as the hub lets `seeker`.
async fn book_when_free(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let wish = practice.wish(practice.slot(slot));
        let answer = seeker.post(hub, "/v1/bookings", wish).await;
        if answer.status == 201 {
            return;
        }
        answer.refused(409, "slot_taken");
        assert!(Instant::now() < until, "the slot stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long after the hold ran out the booking in its place was made, by the database's clock.
async fn delay(url: &str) -> f64 {
    let sql = "SELECT extract(epoch FROM b.created_at - h.hold_expires_at)::text AS value
                 FROM bookings h JOIN bookings b USING (practitioner_id, scheduled_at)
                WHERE h.status = 'lapsed' AND b.status = 'pending'";
    rows::column(url, sql).await[0].parse().unwrap()
}

#[tokio::test]
async fn a_hold_lasts_as_long_as_it_says() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let held = hold(&hub, &practice, &hub.seeker().await, 9).await;
    let stored = "SELECT (hold_expires_at - created_at)::text AS value FROM bookings";
    let lasts = rows::column(&hub.database_url, stored).await;
    // It counts from its own statement, a little after its transaction began.
    assert!(lasts[0].starts_with("00:05:00"), "{lasts:?}");
    let same =
        format!("bookings WHERE hold_expires_at = '{}'", held["expiresAt"].as_str().unwrap());
    assert_eq!(rows::count(&hub.database_url, &same).await, 1);
}

#[tokio::test]
async fn a_hold_that_ran_out_is_bookable_within_a_second() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    hold(&hub, &practice, &seeker, 9).await;
    book_when_free(&hub, &practice, &other, 9).await;
    let delay = delay(&hub.database_url).await;
    assert!((0.0..1.0).contains(&delay), "{delay}");
}

/// No timer knows of these holds and no sweep comes in time: the booking itself finds out.
#[tokio::test]
async fn nothing_in_the_background_is_needed_for_that() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    // The calendar is in memory before the holds are in the database.
    hold(&hub, &practice, &seeker, 1).await;
    foreign_hold(&hub, &practice, &seeker, 9, -0.1).await;
    let wish = practice.wish(practice.slot(9));
    other.post(&hub, "/v1/bookings", wish).await.data(201);
    let lapsed = "booking_events WHERE action = 'lapse' AND actor_id IS NULL";
    assert_eq!(rows::count(&hub.database_url, lapsed).await, 1);
    rows::run(&hub.database_url, "DELETE FROM bookings").await;

    foreign_hold(&hub, &practice, &seeker, 12, 1.0).await;
    book_when_free(&hub, &practice, &other, 12).await;
    let delay = delay(&hub.database_url).await;
    assert!((0.0..1.0).contains(&delay), "{delay}");
}

#[tokio::test]
async fn a_hold_that_ran_out_can_not_be_booked() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut watcher = watch(&hub, &practice).await;
    let held = hold(&hub, &practice, &seeker, 9).await;
    for state in ["busy", "free"] {
        let event = watcher.event("availability:changed").await;
        let change =
            json!([{ "start": practice.slot(9), "end": practice.slot(10), "state": state }]);
        assert_eq!(event["data"]["changes"], change);
    }
    let body = json!({ "holdId": held["id"] });
    seeker.post(&hub, "/v1/bookings", body.clone()).await.refused(409, "hold_expired");
    let mut socket = Socket::open(&hub, &seeker).await;
    socket.refused("booking:create", body, "hold_expired").await;
    // Not even when nobody has noticed yet.
    let unnoticed = foreign_hold(&hub, &practice, &seeker, 12, -0.1).await;
    let body = json!({ "holdId": unnoticed });
    seeker.post(&hub, "/v1/bookings", body).await.refused(409, "hold_expired");
    // Holding it again is a new hold.
    let again = hold(&hub, &practice, &seeker, 9).await;
    assert_ne!(again["id"], held["id"]);
}

#[tokio::test]
async fn giving_back_what_is_over_is_no_mistake() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let id = foreign_hold(&hub, &practice, &seeker, 9, -0.1).await;
    for _ in 0..2 {
        seeker.delete(&hub, &format!("/v1/holds/{id}")).await.data(200);
    }
    // It is written down as what it was.
    let trail = "SELECT action AS value FROM booking_events";
    assert_eq!(rows::column(&hub.database_url, trail).await, ["lapse"]);
    let wish = practice.wish(practice.slot(9));
    hub.seeker().await.post(&hub, "/v1/bookings", wish).await.data(201);
}

#[tokio::test]
async fn a_booked_hold_does_not_run_out() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut watcher = watch(&hub, &practice).await;
    let held = hold(&hub, &practice, &seeker, 9).await;
    seeker.post(&hub, "/v1/bookings", json!({ "holdId": held["id"] })).await.data(201);
    hold(&hub, &practice, &seeker, 12).await;
    // Busy, busy, free: the second one ran out, and the first would have by then.
    for start in [9, 12, 12] {
        let event = watcher.event("availability:changed").await;
        assert_eq!(event["data"]["changes"][0]["start"], practice.slot(start).to_string());
    }
    let statuses = "SELECT status AS value FROM bookings ORDER BY scheduled_at";
    assert_eq!(rows::column(&hub.database_url, statuses).await, ["pending", "lapsed"]);
}

#[tokio::test]
async fn a_hold_survives_a_restart() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let held = hold(&hub, &practice, &seeker, 9).await;
    let database_url = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(database_url, |_| {}).await;
    let wish = practice.wish(practice.slot(9));
    other.post(&hub, "/v1/bookings", wish.clone()).await.refused(409, "slot_taken");
    let again = seeker.post(&hub, "/v1/holds", wish).await.data(201);
    assert_eq!(again, held);
    let booking = seeker.post(&hub, "/v1/bookings", json!({ "holdId": held["id"] })).await;
    assert_eq!(booking.data(201)["id"], held["id"]);
}

#[tokio::test]
async fn a_hub_that_dies_with_a_hold_leaves_nothing_behind() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let database_url = hub.database_url.clone();
    hold(&hub, &practice, &seeker, 9).await;
    drop(hub);
    let hub = over(&database_url).await;
    book_when_free(&hub, &practice, &other, 9).await;
    let delay = delay(&database_url).await;
    assert!((0.0..1.0).contains(&delay), "{delay}");
    assert_eq!(rows::count(&database_url, "bookings WHERE status = 'held'").await, 0);
}

/// Those who watch hear of it, although the node that made the hold is gone: long before the next
/// sweep, once somebody looks at the calendar.
#[tokio::test]
async fn watchers_hear_of_a_lapse_after_a_restart() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    hold(&hub, &practice, &hub.seeker().await, 9).await;
    let database_url = hub.database_url.clone();
    hub.stop().await;
    let hub = over(&database_url).await;
    let mut watcher = watch(&hub, &practice).await;
    let slots = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}",
        practice.id,
        practice.service_id,
        practice.slot(9),
        practice.slot(10)
    );
    hub.get(&slots).await.data(200);
    let event = watcher.event_within("availability:changed", Duration::from_secs(5)).await;
    let event = event.expect("nobody tells the watcher");
    assert_eq!(event["data"]["changes"][0]["state"], "free");
    let listed = hub.get(&slots).await.data(200);
    assert_eq!(listed["slots"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn two_holds_that_run_out_together_are_both_told() {
    let hub = short_holds().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut watcher = watch(&hub, &practice).await;
    let (a, b) = (
        foreign_hold(&hub, &practice, &seeker, 9, -0.1),
        foreign_hold(&hub, &practice, &seeker, 10, -0.1),
    );
    tokio::join!(a, b);
    hold(&hub, &practice, &seeker, 12).await;
    let event = watcher.event("availability:changed").await;
    let changes = event["data"]["changes"].as_array().unwrap();
    let states: Vec<&str> = changes.iter().map(|c| c["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["free", "free", "busy"], "{changes:?}");
    let lapses = "booking_events WHERE action = 'lapse'";
    assert_eq!(rows::count(&hub.database_url, lapses).await, 2);
}
