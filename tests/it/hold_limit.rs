//! How many holds one seeker may have at a time: ten on all calendars together, whoever asks at once.

use futures_util::future::join_all;
use hub::domain::refusal::Refusal;
use hub::models::calendar_commit::{Command, Job, Outcome, Placement, commit};
use serde_json::{Value, json};

use crate::races::{RULES, job};
use crate::support::postgres::connect;
use crate::support::{Person, Practice, TestHub, rows};

async fn hold(hub: &TestHub, practice: &Practice, who: &Person, slot: i64) -> (u16, Value) {
    let answer = who.post(hub, "/v1/holds", practice.wish(practice.slot(slot))).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn a_seeker_holds_ten_slots_and_no_more() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let group = hub.practice_with(json!({ "capacity": 3 })).await;
    let seeker = hub.seeker().await;
    let mut held = Vec::new();
    for n in 0..9 {
        let (status, body) = hold(&hub, &practice, &seeker, n).await;
        assert_eq!(status, 201, "{body:#}");
        held.push(body["data"]["id"].as_str().unwrap().to_owned());
    }
    let (status, body) = hold(&hub, &group, &seeker, 20).await;
    assert_eq!(status, 201, "{body:#}");
    // Neither on this calendar nor on another, with seats or without.
    for practice in [&practice, &group] {
        let answer = seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(30))).await;
        let error = answer.refused(409, "too_many_holds");
        assert_eq!(error["details"], json!({ "limit": 10 }));
    }
    // What is refused keeps nobody out, and others have their own ten.
    let other = hub.seeker().await;
    assert_eq!(hold(&hub, &practice, &other, 30).await.0, 201);
    // The same hold again is the same hold; a booking needs no hold.
    assert_eq!(hold(&hub, &practice, &seeker, 0).await.0, 201);
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(40))).await.data(201);
    // One that is given back, booked or has run out makes room.
    seeker.delete(&hub, &format!("/v1/holds/{}", held[0])).await.data(200);
    assert_eq!(hold(&hub, &practice, &seeker, 31).await.0, 201);
    assert_eq!(hold(&hub, &practice, &seeker, 32).await.0, 409);
    seeker.post(&hub, "/v1/bookings", json!({ "holdId": held[1] })).await.data(201);
    assert_eq!(hold(&hub, &practice, &seeker, 32).await.0, 201);
    assert_eq!(hold(&hub, &practice, &seeker, 33).await.0, 409);
    let over = format!(
        "UPDATE bookings SET hold_expires_at = now() - interval '1 second' WHERE id = '{}'",
        held[2]
    );
    assert_eq!(rows::run(&hub.database_url, &over).await, 1);
    assert_eq!(hold(&hub, &practice, &seeker, 33).await.0, 201);
    hub.stop().await;
}

#[tokio::test]
async fn ten_are_ten_when_sixty_are_asked_for_at_once_on_many_calendars() {
    let hub = TestHub::start().await;
    let second = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let mut practices = Vec::new();
    for _ in 0..6 {
        practices.push(hub.practice().await);
    }
    let seeker = hub.seeker().await;
    let asked = (0..60).map(|n| {
        let practice = &practices[usize::try_from(n % 6).unwrap()];
        let node = if n % 2 == 0 { &hub } else { &second };
        hold(node, practice, &seeker, n)
    });
    let answers = join_all(asked).await;
    let granted = answers.iter().filter(|(status, _)| *status == 201).count();
    let refused = |body: &Value| body["error"]["code"] == "too_many_holds";
    assert!(answers.iter().all(|(status, body)| *status == 201 || refused(body)), "{answers:?}");
    assert_eq!(granted, 10);
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE status = 'held'").await, 10);
    second.stop().await;
    hub.stop().await;
}

/// Of what one seeker asks for at once, what another node was faster with does not count.
#[tokio::test]
async fn a_hold_that_loses_makes_room_for_another_of_the_same_transaction() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let group = hub.practice_with(json!({ "capacity": 3 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    other.post(&hub, "/v1/bookings", practice.wish(practice.slot(20))).await.data(201);
    for n in 0..8 {
        assert_eq!(hold(&hub, &practice, &seeker, n).await.0, 201);
    }
    let asked = |practice: &Practice, slot, capacity| -> Job {
        let mut job = job(practice, &seeker, practice.slot(slot), 60);
        if let Command::Place(new) = &mut job.command {
            (new.placement, new.capacity) = (Placement::Hold(600.0), capacity);
        }
        job
    };
    let jobs = [
        asked(&practice, 20, None),
        asked(&practice, 10, None),
        // Refused until the first has lost: then there is room for one of them.
        asked(&group, 11, Some(3)),
        asked(&practice, 12, None),
    ];
    let mut conn = connect(&hub.database_url).await;
    let done = commit(&mut conn, RULES, &jobs).await.unwrap();
    let said: Vec<&str> = done
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Booked(_) => "held",
            Outcome::Taken => "taken",
            Outcome::Refused(Refusal::TooManyHolds { .. }) => "too many",
            _ => "something else",
        })
        .collect();
    assert_eq!(said, ["taken", "held", "held", "too many"]);
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE status = 'held'").await, 10);
    hub.stop().await;
}
