//! Sessions with seats: full means full, over many requests, nodes, and past the actor.

use futures_util::future::join_all;
use hub::models::calendar_commit::{Command, CommitRules, Job, Outcome, commit};
use serde_json::{Value, json};

use crate::races::job;
use crate::support::postgres::connect;
use crate::support::{Person, Practice, TestHub, rows};

async fn yoga(hub: &TestHub, capacity: i64) -> Practice {
    hub.practice_with(json!({ "capacity": capacity, "instantConfirm": true })).await
}

async fn seekers(hub: &TestHub, n: usize) -> Vec<Person> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(hub.seeker().await);
    }
    all
}

fn wish(practice: &Practice, slot: i64, seats: i64) -> Value {
    let mut wish = practice.wish(practice.slot(slot));
    wish["seats"] = seats.into();
    wish
}

async fn left(hub: &TestHub, practice: &Practice, slot: i64) -> Option<i64> {
    let (from, to) = (practice.slot(slot), practice.slot(slot + 1));
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={from}&to={to}",
        practice.id, practice.service_id
    );
    let slots = hub.get(&path).await.data(200)["slots"].clone();
    slots[0]["seatsLeft"].as_i64()
}

#[tokio::test]
async fn seats_are_sold_until_none_is_left() {
    let hub = TestHub::start().await;
    let practice = yoga(&hub, 3).await;
    let who = seekers(&hub, 4).await;
    let book =
        async |n: usize, seats| who[n].post(&hub, "/v1/bookings", wish(&practice, 9, seats)).await;
    assert_eq!(left(&hub, &practice, 9).await, Some(3));
    let two = book(0, 2).await.data(201);
    assert_eq!((&two["seats"], &two["totalAmount"]["amount"]), (&json!(2), &json!(300_000)));
    assert_eq!(left(&hub, &practice, 9).await, Some(1));
    book(1, 2).await.refused(409, "slot_taken");
    book(1, 4).await.names("seats");
    book(1, 0).await.names("seats");
    // Slots are not listed for more seats than a session has, either.
    let (from, to) = (practice.slot(9), practice.slot(10));
    let slots = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={from}&to={to}",
        practice.id, practice.service_id
    );
    for seats in [0, 4, 65_535] {
        hub.get(&format!("{slots}&seats={seats}")).await.names("seats");
    }
    hub.get(&format!("{slots}&seats=3")).await.data(200);
    // One booking of a session for each seeker.
    book(0, 1).await.refused(409, "slot_taken");
    book(1, 1).await.data(201);
    assert_eq!(left(&hub, &practice, 9).await, None);
    book(2, 1).await.refused(409, "slot_taken");
    // A seat that is given back is sold again.
    let path = format!("/v1/bookings/{}", two["id"].as_str().unwrap());
    who[0].delete(&hub, &path).await.data(200);
    assert_eq!(left(&hub, &practice, 9).await, Some(2));
    book(2, 1).await.data(201);
    book(3, 1).await.data(201);
    book(0, 1).await.refused(409, "slot_taken");
    let taken = "SELECT taken || '/' || capacity FROM group_sessions";
    assert_eq!(rows::column(&hub.database_url, taken).await, ["3/3"]);
}

#[tokio::test]
async fn a_session_keeps_its_time_from_other_services() {
    let hub = TestHub::start().await;
    let practice = yoga(&hub, 5).await;
    let single = Practice { service_id: hub.service().await, ..practice.clone() };
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60 });
    let path = format!("/v1/practitioners/{}/services/{}", single.id, single.service_id);
    practice.person.put(&hub, &path, offer).await.data(200);
    let who = seekers(&hub, 2).await;
    who[0].post(&hub, "/v1/bookings", wish(&practice, 9, 1)).await.data(201);
    who[1].post(&hub, "/v1/bookings", single.wish(single.slot(9))).await.refused(409, "slot_taken");
    who[1].post(&hub, "/v1/bookings", single.wish(single.slot(12))).await.data(201);
    who[0].post(&hub, "/v1/bookings", wish(&practice, 12, 1)).await.refused(409, "slot_taken");
}

/// A hold takes seats, its owner books them, another's hold that ran out does not count.
#[tokio::test]
async fn holds_take_seats() {
    let hub = TestHub::start_with(|c| c.booking.hold_ttl = std::time::Duration::from_secs(1)).await;
    let practice = yoga(&hub, 2).await;
    let who = seekers(&hub, 3).await;
    let hold = who[0].post(&hub, "/v1/holds", wish(&practice, 9, 1)).await.data(201);
    who[1].post(&hub, "/v1/holds", wish(&practice, 9, 1)).await.data(201);
    who[2].post(&hub, "/v1/bookings", wish(&practice, 9, 1)).await.refused(409, "slot_taken");
    let body = json!({ "holdId": hold["id"] });
    who[0].post(&hub, "/v1/bookings", body).await.data(201);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let late = who[2].post(&hub, "/v1/bookings", wish(&practice, 9, 1)).await;
        if late.status == 201 {
            break;
        }
        late.refused(409, "slot_taken");
        assert!(tokio::time::Instant::now() < until, "the hold never ran out");
    }
    let taken = "SELECT taken || '/' || capacity FROM group_sessions";
    assert_eq!(rows::column(&hub.database_url, taken).await, ["2/2"]);
}

#[tokio::test]
async fn of_many_over_two_nodes_as_many_win_as_there_are_seats() {
    let hub = TestHub::start().await;
    let node = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let practice = yoga(&hub, 7).await;
    let who = seekers(&hub, 40).await;
    let posts = who.iter().enumerate().map(|(n, person)| {
        let node = if n % 2 == 0 { &hub } else { &node };
        person.post(node, "/v1/bookings", wish(&practice, 9, 1))
    });
    let answers = join_all(posts).await;
    let won = answers.iter().filter(|a| a.status == 201).count();
    answers.iter().filter(|a| a.status != 201).for_each(|a| {
        a.refused(409, "slot_taken");
    });
    assert_eq!(won, 7);
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE blocks").await, 7);
}

/// Past every check of the hub the database refuses the seat too many; with its check taken away it
/// is sold, so that this test is known to be able to fail.
#[tokio::test]
async fn the_database_alone_counts_the_seats() {
    let hub = TestHub::start().await;
    let practice = yoga(&hub, 2).await;
    let who = seekers(&hub, 6).await;
    let url = &hub.database_url;
    who[0].post(&hub, "/v1/bookings", wish(&practice, 9, 1)).await.data(201);
    let insert = |person: &Person| {
        format!(
            "INSERT INTO bookings (seeker_id, practitioner_id, service_id, scheduled_at, ends_at,
               duration_minutes, occupied_from, occupied_until, total_amount, commission_amount,
               group_session_id)
             SELECT '{}', practitioner_id, service_id, scheduled_at, ends_at, duration_minutes,
               occupied_from, occupied_until, 0, 0, group_session_id FROM bookings LIMIT 1",
            person.id
        )
    };
    assert_eq!(rows::run(url, &insert(&who[1])).await, 1);
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let refused = client.simple_query(&insert(&who[2])).await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.constraint(), Some("group_sessions_seats_check"));
    rows::run(url, "ALTER TABLE group_sessions DROP CONSTRAINT group_sessions_seats_check").await;
    assert_eq!(rows::run(url, &insert(&who[2])).await, 1);
    assert_eq!(rows::count(url, "bookings WHERE blocks").await, 3);
}

/// The committer, asked by two connections at once past the actor, sells each seat once.
#[tokio::test]
async fn the_committer_counts_under_the_lock() {
    const RULES: CommitRules =
        CommitRules { push_window: std::time::Duration::from_secs(60), commission_bps: 0 };
    let hub = TestHub::start().await;
    let practice = yoga(&hub, 3).await;
    let who = seekers(&hub, 12).await;
    let start = practice.slot(9);
    let jobs: Vec<Job> = who
        .iter()
        .map(|seeker| {
            let mut job = job(&practice, seeker, start, 60);
            if let Command::Place(new) = &mut job.command {
                new.capacity = Some(3);
            }
            job
        })
        .collect();
    let url = &hub.database_url;
    let commits = jobs.chunks(3).map(async |jobs| {
        let mut conn = connect(url).await;
        let done = commit(&mut conn, RULES, jobs).await.unwrap();
        done.outcomes.iter().filter(|o| matches!(o, Outcome::Booked(_))).count()
    });
    let won: usize = join_all(commits).await.into_iter().sum();
    assert_eq!((won, rows::count(url, "bookings WHERE blocks").await), (3, 3));
}
