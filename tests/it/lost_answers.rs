//! `Idempotency-Key` when the work was done and its answer lost: the retry gets that answer.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::lossy_postgres::LossyPostgres;
use crate::support::{Answer, Node, Person, TestHub, postgres, rows, sabotage};

async fn post(hub: &TestHub, who: &Person, path: &str, key: &str, body: &Value) -> Answer {
    let request = hub.request(Method::POST, path).bearer_auth(&who.token);
    answer(request.header("idempotency-key", key).json(body)).await
}

/// Waits until `done`.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

/// A request: key, path, body.
type Keyed = (&'static str, &'static str, Value);

/// Kills the node when it has committed all that `sent` wants and kept none of the answers.
async fn kill_between(node: Node, who: &Person, sent: &[Keyed]) {
    let url = node.database_url.clone();
    sabotage::answers_stuck(&url).await;
    let mut lost = tokio::task::JoinSet::new();
    for (key, path, body) in sent {
        let request = node.request(Method::POST, path).bearer_auth(&who.token);
        lost.spawn(request.header("idempotency-key", *key).json(body).send());
    }
    let all = i64::try_from(sent.len()).unwrap();
    until("all is committed", async || sabotage::stuck(&url).await == all).await;
    node.kill().await;
    sabotage::unstick(&url).await;
    while let Some(sent) = lost.join_next().await {
        assert!(sent.unwrap().is_err(), "nobody was answered");
    }
}

/// kill -9 between the commit of what a key makes and the keeping of its answer.
#[tokio::test]
async fn what_a_killed_node_made_is_answered_by_the_other_as_it_was_made() {
    let url = postgres::migrated();
    let [killed, other] = Node::two(&url).await;
    let (practice, seeker) = (killed.practice().await, killed.seeker().await);
    let wish = |slot| practice.wish(practice.slot(slot));
    let hold = seeker.post(&killed, "/v1/holds", wish(1)).await.data(201);
    let mut series = wish(2);
    series["count"] = json!(3);
    let book_hold = json!({ "holdId": hold["id"], "notes": "hm" });
    // Held before, and booked as a slot.
    seeker.post(&killed, "/v1/holds", wish(3)).await.data(201);
    let sent = [
        ("slot", "/v1/bookings", wish(0)),
        ("hold", "/v1/bookings", book_hold),
        ("series", "/v1/bookings/series", series),
        ("held", "/v1/bookings", wish(3)),
        ("new hold", "/v1/holds", wish(4)),
    ];

    kill_between(killed, &seeker, &sent).await;
    assert_eq!(rows::count(&url, "idempotency_keys WHERE status IS NULL").await, 5);
    assert_eq!(rows::count(&url, "bookings WHERE status = 'pending'").await, 6);

    // What it was: then life goes on before the retry.
    let listed = seeker.get(&other, "/v1/bookings").await.data(200);
    let listed = listed.as_array().unwrap();
    let starting = |slot: i64| {
        let found = listed.iter().find(|b| b["scheduledAt"] == json!(practice.slot(slot)));
        found.unwrap().clone()
    };
    for booking in listed {
        let path = format!("/v1/bookings/{}/confirm", booking["id"].as_str().unwrap());
        practice.person.post(&other, &path, json!({})).await.data(200);
    }
    for round in 0..2 {
        let mut answers = Vec::new();
        for (key, path, body) in &sent {
            answers.push(post(&other, &seeker, path, key, body).await.data(201));
        }
        let [slot, hold_booked, series, held, new_hold] = answers.try_into().unwrap();
        assert_eq!((slot["status"].as_str(), &slot["version"]), (Some("pending"), &json!(1)));
        assert_eq!([&slot, &hold_booked, &held], [&starting(0), &starting(1), &starting(3)]);
        assert_eq!(hold_booked["id"], hold["id"]);
        let of_series = series["bookings"].as_array().unwrap();
        assert_eq!(of_series.len(), 3);
        assert!(
            of_series.iter().all(|b| listed.contains(b) && b["seriesId"] == series["seriesId"])
        );
        let holds = seeker.get(&other, "/v1/holds").await.data(200);
        assert_eq!(holds, json!([new_hold]));
        // From the second time on they are kept.
        let kept = rows::count(&url, "idempotency_keys WHERE status = 201").await;
        assert_eq!(kept, 5, "round {round}");
    }
    assert_eq!(rows::count(&url, "bookings").await, 7);
    other.stop().await;
}

/// Of a batch whose COMMIT was not answered nobody knows whether it was carried out.
#[tokio::test]
async fn a_booking_whose_commit_was_not_heard_of_is_found() {
    let way = LossyPostgres::open(&postgres::migrated());
    let hub = TestHub::start_over(way.url.clone(), |_| {}).await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = |slot| practice.wish(practice.slot(slot));

    // The control: without a key nobody can tell.
    way.lose_commits();
    seeker.post(&hub, "/v1/bookings", wish(0)).await.refused(503, "unavailable");
    way.mend();
    seeker.post(&hub, "/v1/bookings", wish(0)).await.refused(409, "slot_taken");

    // The hub looks itself.
    for (key, path) in [("a", "/v1/bookings"), ("b", "/v1/holds")] {
        way.lose_commits();
        let wish = wish(if key == "a" { 1 } else { 2 });
        let found = post(&hub, &seeker, path, key, &wish).await.data(201);
        way.mend();
        assert_eq!(post(&hub, &seeker, path, key, &wish).await.data(201), found);
    }

    // It can not, since the database is gone; then the retry does.
    let mut wish = wish(3);
    wish["notes"] = json!("the last words");
    way.is_gone_after("the last words");
    post(&hub, &seeker, "/v1/bookings", "c", &wish).await.refused(503, "unavailable");
    way.mend();
    let mut retry = post(&hub, &seeker, "/v1/bookings", "c", &wish).await;
    while retry.status == 503 {
        // A connection that the hub does not know to be dead yet.
        retry = post(&hub, &seeker, "/v1/bookings", "c", &wish).await;
    }
    let found = retry.data(201);
    let path = format!("/v1/bookings/{}", found["id"].as_str().unwrap());
    assert_eq!(seeker.get(&hub, &path).await.data(200), found);
    assert_eq!(rows::count(&way.url, "bookings").await, 4);
    hub.stop().await;
}

/// A request that takes longer than its key is believed to be in flight.
#[tokio::test]
async fn two_that_believe_the_key_to_be_theirs_make_one_booking_and_one_answer() {
    let url = postgres::migrated();
    let hub = TestHub::start_over(url.clone(), |_| {}).await;
    let node = TestHub::start_over(url.clone(), |_| {}).await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(0));
    sabotage::slow_commit(&url, 1_500).await;
    let first = post(&hub, &seeker, "/v1/bookings", "k", &wish);
    let second = async {
        let claimed = async || rows::count(&url, "idempotency_keys").await == 1;
        until("the key is claimed", claimed).await;
        rows::run(&url, "UPDATE idempotency_keys SET locked_until = now()").await;
        post(&node, &seeker, "/v1/bookings", "k", &wish).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.data(201), second.data(201));
    assert_eq!(rows::count(&url, "bookings").await, 1);
    node.stop().await;
    hub.stop().await;
}

/// Requests of a series that keep nobody out do not keep their twins out either: the key does.
#[tokio::test]
async fn two_that_believe_the_key_to_be_theirs_make_one_series_and_one_answer() {
    let url = postgres::migrated();
    let hub = TestHub::start_over(url.clone(), |_| {}).await;
    let node = TestHub::start_over(url.clone(), |_| {}).await;
    let practice = hub.practice_with(json!({ "pendingBlocks": false })).await;
    let seeker = hub.seeker().await;
    let mut wish = practice.wish(practice.slot(0));
    wish["count"] = json!(3);
    sabotage::slow_commit(&url, 500).await;
    let path = "/v1/bookings/series";
    let first = post(&hub, &seeker, path, "k", &wish);
    let second = async {
        let claimed = async || rows::count(&url, "idempotency_keys").await == 1;
        until("the key is claimed", claimed).await;
        rows::run(&url, "UPDATE idempotency_keys SET locked_until = now()").await;
        post(&node, &seeker, path, "k", &wish).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.data(201), second.data(201));
    assert_eq!(first.data(201)["bookings"].as_array().unwrap().len(), 3);
    assert_eq!(post(&node, &seeker, path, "k", &wish).await.data(201), first.data(201));
    assert_eq!(rows::count(&url, "bookings").await, 3);
    node.stop().await;
    hub.stop().await;
}
