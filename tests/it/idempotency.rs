//! `Idempotency-Key`: once, whatever is sent how often, to which node, before or after a restart.

use reqwest::Method;
use serde_json::Value;

use crate::support::hub::answer;
use crate::support::{Answer, Node, Person, TestHub, postgres, rows};

async fn post(hub: &TestHub, who: &Person, path: &str, key: &str, body: &Value) -> Answer {
    let request = hub.request(Method::POST, path).bearer_auth(&who.token);
    answer(request.header("idempotency-key", key).json(body)).await
}

async fn bookings(hub: &TestHub) -> i64 {
    rows::number(&hub.database_url, "SELECT count(*) FROM bookings").await
}

#[tokio::test]
async fn the_first_answer_is_given_again_here_elsewhere_and_after_a_restart() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(10));
    let first = post(&hub, &seeker, "/v1/bookings", "key 1", &wish).await;
    let booking = first.data(201);
    let again = post(&hub, &seeker, "/v1/bookings", "key 1", &wish).await;
    assert_eq!(again.data(201), booking);
    assert_ne!(again.body["meta"]["requestId"], first.body["meta"]["requestId"]);

    let node = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    assert_eq!(post(&node, &seeker, "/v1/bookings", "key 1", &wish).await.data(201), booking);
    node.stop().await;
    let url = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(url, |_| {}).await;
    assert_eq!(post(&hub, &seeker, "/v1/bookings", "key 1", &wish).await.data(201), booking);
    assert_eq!(bookings(&hub).await, 1);

    // The control: without the key the slot is taken.
    seeker.post(&hub, "/v1/bookings", wish).await.refused(409, "slot_taken");
    hub.stop().await;
}

#[tokio::test]
async fn a_refusal_is_kept_as_well() {
    let hub = TestHub::start().await;
    let (practice, seeker, other) = (hub.practice().await, hub.seeker().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(10));
    let hold = other.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    post(&hub, &seeker, "/v1/bookings", "k", &wish).await.refused(409, "slot_taken");
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    other.delete(&hub, &path).await.data(200);
    post(&hub, &seeker, "/v1/bookings", "k", &wish).await.refused(409, "slot_taken");
    post(&hub, &seeker, "/v1/bookings", "another", &wish).await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_user() {
    let hub = TestHub::start().await;
    let (practice, seeker, other) = (hub.practice().await, hub.seeker().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(10));
    post(&hub, &seeker, "/v1/bookings", "k", &wish).await.data(201);
    let later = practice.wish(practice.slot(12));
    let conflict = post(&hub, &seeker, "/v1/bookings", "k", &later).await;
    conflict.refused(422, "idempotency_conflict");
    let conflict = post(&hub, &seeker, "/v1/holds", "k", &wish).await;
    conflict.refused(422, "idempotency_conflict");
    assert_eq!(bookings(&hub).await, 1);
    // Somebody else's key of the same name is another key.
    post(&hub, &other, "/v1/bookings", "k", &later).await.data(201);
    for bad in ["", &"x".repeat(101)] {
        post(&hub, &seeker, "/v1/holds", bad, &later).await.names("Idempotency-Key");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_key_in_flight_is_told_and_freed_when_its_node_is_gone() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(10));
    post(&hub, &seeker, "/v1/bookings", "k", &wish).await.data(201);
    // As a node leaves it that dies between the claim and the answer, and made nothing under it.
    let unanswered =
        "UPDATE idempotency_keys SET status = NULL, body = NULL, id = gen_random_uuid()";
    rows::rows(&hub.database_url, unanswered).await;
    let running = post(&hub, &seeker, "/v1/bookings", "k", &wish).await;
    running.refused(409, "idempotency_in_flight");
    assert_eq!(running.headers["retry-after"], "1");
    let expired = "UPDATE idempotency_keys SET locked_until = now() - interval '1 second'";
    rows::rows(&hub.database_url, expired).await;
    let other = practice.wish(practice.slot(11));
    let conflict = post(&hub, &seeker, "/v1/bookings", "k", &other).await;
    conflict.refused(422, "idempotency_conflict");
    // The work is done anew, and the booking that is there says so: the control of `lost_answers`.
    post(&hub, &seeker, "/v1/bookings", "k", &wish).await.refused(409, "slot_taken");
    hub.stop().await;
}

/// Who comes while the first is at work waits for its answer: all get the same one.
#[tokio::test]
async fn fifty_at_once_at_two_nodes_are_one_booking_and_one_answer() {
    let url = postgres::migrated();
    let nodes = Node::two(&url).await;
    let (practice, seeker) = (nodes[0].practice().await, nodes[0].seeker().await);
    for (slot, path) in [(10, "/v1/bookings"), (12, "/v1/holds")] {
        let wish = practice.wish(practice.slot(slot));
        let sent = (0..50).map(|n| post(&nodes[n % 2], &seeker, path, path, &wish));
        let answers = futures_util::future::join_all(sent).await;
        let first = answers[0].data(201);
        assert!(answers.iter().all(|answer| answer.data(201) == first));
        // Not the same slot, and not the same answer, with a key of its own.
        post(&nodes[1], &seeker, path, "k", &practice.wish(practice.slot(slot + 1)))
            .await
            .data(201);
        rows::run(&url, "DELETE FROM idempotency_keys WHERE key = 'k'").await;
    }
    assert_eq!(rows::count(&url, "bookings").await, 4);
    for node in nodes {
        node.stop().await;
    }
}

/// The answer outlives the process that gave it, and is given by one that never saw the request.
#[tokio::test]
async fn the_answer_of_a_killed_node_is_given_by_the_other() {
    let url = postgres::migrated();
    let [killed, other] = Node::two(&url).await;
    let (practice, seeker) = (killed.practice().await, killed.seeker().await);
    let wish = practice.wish(practice.slot(10));
    let first = post(&killed, &seeker, "/v1/bookings", "k", &wish).await.data(201);
    killed.kill().await;
    assert_eq!(post(&other, &seeker, "/v1/bookings", "k", &wish).await.data(201), first);
    let later = practice.wish(practice.slot(12));
    let conflict = post(&other, &seeker, "/v1/bookings", "k", &later).await;
    conflict.refused(422, "idempotency_conflict");
    assert_eq!(rows::count(&url, "bookings").await, 1);
    other.stop().await;
}
