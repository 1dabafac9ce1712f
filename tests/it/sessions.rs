//! Holds that are kept longer, and what happens at the hour: start, end, no-show.

use diesel_async::RunQueryDsl;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Person, Practice, TestHub, postgres};

/// A confirmed booking whose session began `minutes` ago (or is to begin, when negative).
async fn booking_begun(hub: &TestHub, minutes: i32) -> (Practice, Person, String) {
    begun(hub, minutes, true).await
}

/// The same, confirmed or pending. The API refuses to book the past, so the row is moved there.
async fn begun(hub: &TestHub, minutes: i32, confirmed: bool) -> (Practice, Person, String) {
    let practice = hub.practice_with(json!({ "instantConfirm": confirmed })).await;
    let seeker = hub.seeker().await;
    let wish = practice.wish(practice.slot(10));
    let booking = seeker.post(hub, "/v1/bookings", wish).await.data(201);
    let id = booking["id"].as_str().unwrap().to_owned();
    let mut conn = postgres::connect(&hub.database_url).await;
    diesel::sql_query(
        "UPDATE bookings SET scheduled_at = now() - make_interval(mins => $2),
                ends_at = now() - make_interval(mins => $2) + interval '1 hour',
                occupied_from = now() - make_interval(mins => $2),
                occupied_until = now() - make_interval(mins => $2) + interval '1 hour'
          WHERE id = $1::uuid",
    )
    .bind::<diesel::sql_types::Text, _>(&id)
    .bind::<diesel::sql_types::Integer, _>(minutes)
    .execute(&mut conn)
    .await
    .unwrap();
    (practice, seeker, format!("/v1/bookings/{id}"))
}

#[tokio::test]
async fn a_session_starts_ends_and_counts() {
    let hub = TestHub::start().await;
    let (practice, seeker, path) = booking_begun(&hub, 5).await;
    let (start, end) = (format!("{path}/start"), format!("{path}/end"));
    seeker.post(&hub, &start, json!({})).await.refused(403, "forbidden");
    practice.person.post(&hub, &end, json!({})).await.refused(409, "invalid_transition");
    let started = practice.person.post(&hub, &start, json!({})).await.data(200);
    assert_eq!(started["status"], "in_session");
    seeker
        .post(&hub, &format!("{path}/cancel"), json!({}))
        .await
        .refused(409, "invalid_transition");
    let notes = json!({ "notes": "Shoulder is better." });
    let ended = practice.person.post(&hub, &end, notes).await.data(200);
    assert_eq!(
        (&ended["status"], &ended["sessionNotes"]),
        (&json!("completed"), &json!("Shoulder is better."))
    );

    // The notes are the practitioner's alone, in the booking and in its trail.
    let seen = seeker.get(&hub, &path).await.data(200);
    assert_eq!((&seen["status"], seen.get("sessionNotes")), (&json!("completed"), None));
    let trail = seeker.get(&hub, &format!("{path}/events")).await.data(200);
    let actions: Vec<&Value> = trail.as_array().unwrap().iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["book", "start", "end"]);
    assert!(!trail.to_string().contains("Shoulder"));
    let profile = hub.get(&format!("/v1/practitioners/{}", practice.id)).await.data(200);
    assert_eq!(profile["totalSessions"], 1);
}

#[tokio::test]
async fn a_session_begins_a_quarter_of_an_hour_early_at_most_and_ends_after_it_began() {
    let hub = TestHub::start().await;
    let (practice, _, path) = booking_begun(&hub, -30).await;
    let start = practice.person.post(&hub, &format!("{path}/start"), json!({})).await;
    let begins = practice.person.get(&hub, &path).await.data(200)["scheduledAt"].clone();
    let begins: Timestamp = begins.as_str().unwrap().parse().unwrap();
    let details = start.refused(409, "invalid_transition")["details"].clone();
    let from = begins - SignedDuration::from_mins(15);
    assert_eq!((&details["rule"], &details["at"]), (&json!("too_early"), &json!(from)));

    let (practice, seeker, path) = booking_begun(&hub, -10).await;
    practice.person.post(&hub, &format!("{path}/start"), json!({})).await.data(200);
    let end = practice.person.post(&hub, &format!("{path}/end"), json!({})).await;
    let details = end.refused(409, "invalid_transition")["details"].clone();
    assert_eq!((&details["rule"], &details["state"]), (&json!("too_early"), &json!("in_session")));
    assert_eq!(seeker.get(&hub, &path).await.data(200)["status"], "in_session");

    // What has begun can not be called off any more.
    let (_, seeker, path) = booking_begun(&hub, 1).await;
    let late = seeker.post(&hub, &format!("{path}/cancel"), json!({})).await;
    assert_eq!(late.refused(409, "invalid_transition")["details"]["rule"], "too_late");
    hub.stop().await;
}

#[tokio::test]
async fn who_did_not_come_is_missed_at_the_hour_and_not_before() {
    let hub = TestHub::start().await;
    let (practice, seeker, path) = booking_begun(&hub, -10).await;
    let no_show = format!("{path}/no-show");
    let early = practice.person.post(&hub, &no_show, json!({})).await;
    let early = early.refused(409, "invalid_transition");
    let begins = practice.person.get(&hub, &path).await.data(200)["scheduledAt"].clone();
    assert_eq!(early["details"]["rule"], "too_early");
    assert_eq!(
        (&early["details"]["at"], &early["details"]["state"]),
        (&begins, &json!("confirmed"))
    );
    assert!(early["message"].as_str().unwrap().starts_with("It is too early"), "{early}");
    let (practice, seeker2, path) = booking_begun(&hub, 20).await;
    let no_show = format!("{path}/no-show");
    seeker2.post(&hub, &no_show, json!({})).await.refused(403, "forbidden");
    seeker.post(&hub, &no_show, json!({})).await.refused(404, "not_found");
    let missed = practice.person.post(&hub, &no_show, json!({ "reason": "Waited." })).await;
    assert_eq!(missed.data(200)["status"], "no_show");
    let inbox = seeker2.get(&hub, "/v1/notifications").await.data(200);
    assert_eq!(inbox["notifications"][0]["kind"], "booking_missed");
}

#[tokio::test]
async fn a_hold_is_extended_once_and_by_its_owner_only() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (owner, other) = (hub.seeker().await, hub.seeker().await);
    let hold = owner.post(&hub, "/v1/holds", practice.wish(practice.slot(3))).await.data(201);
    let path = format!("/v1/holds/{}/extend", hold["id"].as_str().unwrap());
    other.post(&hub, &path, json!({})).await.refused(404, "not_found");
    let longer = owner.post(&hub, &path, json!({})).await.data(200);
    let at = |hold: &Value| hold["expiresAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(at(&longer).duration_since(at(&hold)).as_secs(), 300);
    owner.post(&hub, &path, json!({})).await.refused(409, "hold_extended");
    let body = json!({ "holdId": hold["id"] });
    assert_eq!(owner.post(&hub, "/v1/bookings", body).await.data(201)["status"], "pending");
    owner.post(&hub, &path, json!({})).await.refused(409, "hold_expired");
}

#[tokio::test]
async fn an_extension_never_makes_a_hold_last_longer_than_a_quarter_of_an_hour() {
    let hub = TestHub::start_with(|config| {
        config.booking.hold_ttl = std::time::Duration::from_secs(700);
    })
    .await;
    let practice = hub.practice().await;
    let owner = hub.seeker().await;
    let hold = owner.post(&hub, "/v1/holds", practice.wish(practice.slot(3))).await.data(201);
    let path = format!("/v1/holds/{}/extend", hold["id"].as_str().unwrap());
    let longer = owner.post(&hub, &path, json!({})).await.data(200);
    let at = |hold: &Value| hold["expiresAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let gained = at(&longer).duration_since(at(&hold)).as_secs();
    assert!((199..=200).contains(&gained), "{gained}");
}

#[tokio::test]
async fn a_request_that_nobody_answered_expires_when_its_calendar_is_next_touched() {
    let hub = TestHub::start().await;
    let (practice, seeker, path) = begun(&hub, 1, false).await;
    // Any change of the calendar, even one that is refused, puts it away first.
    let confirm = format!("{path}/confirm");
    practice.person.post(&hub, &confirm, json!({})).await.refused(409, "invalid_transition");
    assert_eq!(seeker.get(&hub, &path).await.data(200)["status"], "expired");
    let inbox = seeker.get(&hub, "/v1/notifications").await.data(200);
    assert_eq!(inbox["notifications"][0]["kind"], "booking_expired");
}
