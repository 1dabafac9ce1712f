//! Requests that do not keep others out: several may stand, one is confirmed.

use serde_json::json;

use crate::support::{Person, Practice, TestHub, rows};

async fn requested(hub: &TestHub, practice: &Practice, who: &Person, slot: i64) -> String {
    let wish = practice.wish(practice.slot(slot));
    let booking = who.post(hub, "/v1/bookings", wish).await.data(201);
    assert_eq!(booking["status"], "pending");
    format!("/v1/bookings/{}", booking["id"].as_str().unwrap())
}

/// Case calcom-cont-03: two overlapping requests confirmed at once, on two nodes; one is confirmed.
#[tokio::test]
async fn of_two_requests_confirmed_at_once_one_is() {
    let hub = TestHub::start().await;
    let node = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let practice = hub.practice_with(json!({ "pendingBlocks": false })).await;
    let (one, two) = (hub.seeker().await, hub.seeker().await);
    for slot in 0..10 {
        let first = requested(&hub, &practice, &one, slot).await;
        let second = requested(&hub, &practice, &two, slot).await;
        let confirm = async |hub, booking: &str| {
            practice.person.post(hub, &format!("{booking}/confirm"), json!({})).await
        };
        let (a, b) = tokio::join!(confirm(&hub, &first), confirm(&node, &second));
        let (won, lost, left) = if a.status == 200 { (a, b, second) } else { (b, a, first) };
        assert_eq!(won.data(200)["status"], "confirmed");
        lost.refused(409, "slot_taken");
        // The other one still waits: the practitioner can decline it, or confirm it when the first
        // is called off.
        let other = practice.person.get(&hub, &left).await.data(200);
        assert_eq!(other["status"], "pending");
    }
    let overlapping = "bookings a JOIN bookings b ON a.id < b.id AND a.blocks AND b.blocks
        AND a.occupied && b.occupied";
    assert_eq!(rows::count(&hub.database_url, overlapping).await, 0);
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE status = 'confirmed'").await, 10);
}

#[tokio::test]
async fn a_request_keeps_nobody_out_and_is_kept_out_by_what_is_agreed() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "pendingBlocks": false })).await;
    let (one, two, three) = (hub.seeker().await, hub.seeker().await, hub.seeker().await);
    let first = requested(&hub, &practice, &one, 9).await;
    // A hold keeps others out, its booking does not.
    let wish = practice.wish(practice.slot(9));
    let hold = two.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    three.post(&hub, "/v1/bookings", wish.clone()).await.refused(409, "slot_taken");
    two.post(&hub, "/v1/bookings", json!({ "holdId": hold["id"] })).await.data(201);
    let third = requested(&hub, &practice, &three, 9).await;
    practice.person.post(&hub, &format!("{third}/confirm"), json!({})).await.data(200);
    hub.seeker().await.post(&hub, "/v1/bookings", wish).await.refused(409, "slot_taken");
    practice
        .person
        .post(&hub, &format!("{first}/confirm"), json!({}))
        .await
        .refused(409, "slot_taken");
    // Called off, the time is another's.
    three.delete(&hub, &third).await.data(200);
    practice.person.post(&hub, &format!("{first}/confirm"), json!({})).await.data(200);
}
