//! The contention cases of tests/data/slot-cases.json, each in a test of its name: what went wrong,
//! or was found to hold, in other booking systems, tried on two hub processes.

use std::time::Duration;

use diesel::sql_query;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::races::overlaps;
use crate::support::postgres::{connect, migrated};
use crate::support::{Answer, Node, Person, Practice, rows, sabotage};

/// What is not tested here, and where it is.
const ELSEWHERE: [(&str, &str); 2] = [
    ("hyperswitch-cont-01", "is about refunds: it belongs to the tests of payments"),
    ("calcom-cont-03", "needs requests that do not block each other: it is with those"),
];

#[test]
fn every_contention_case_has_its_test() {
    let cases: Value = serde_json::from_str(include_str!("../data/slot-cases.json")).unwrap();
    let ids = cases["contention_cases"].as_array().unwrap().iter().map(|c| c["id"].as_str());
    let ids: Vec<&str> = ids.map(Option::unwrap).collect();
    assert!(!ids.is_empty());
    for id in &ids {
        let test = format!("async fn {}_", id.replace('-', "_"));
        let here = include_str!("contention.rs").contains(&test);
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| other == id);
        assert!(here != elsewhere, "{id}");
    }
    assert!(ELSEWHERE.iter().all(|(id, _)| ids.contains(id)));
}

/// Two nodes with a practice whose calendar both have in memory, and two seekers.
struct World {
    url: String,
    nodes: [Node; 2],
    practice: Practice,
    seekers: [Person; 2],
}

impl World {
    async fn over(url: String) -> Self {
        let nodes = Node::two(&url).await;
        let practice = nodes[0].practice().await;
        let seekers = [nodes[0].seeker().await, nodes[0].seeker().await];
        let world = Self { url, nodes, practice, seekers };
        for node in &world.nodes {
            // `slot_unavailable`: no slot begins at a quarter past.
            let odd = world.practice.slot(0) + Duration::from_secs(900);
            let asked = world.seekers[0].post(node, "/v1/holds", world.practice.wish(odd)).await;
            asked.refused(409, "slot_unavailable");
        }
        world
    }

    /// The two seekers post to `path` at once, each at a node of their own.
    async fn both(&self, path: &str, start: Timestamp) -> [Answer; 2] {
        let post = |n: usize| self.seekers[n].post(&self.nodes[n], path, self.practice.wish(start));
        let (one, two) = tokio::join!(post(0), post(1));
        [one, two]
    }

    async fn rows(&self) -> usize {
        rows::count(&self.url, "bookings").await
    }

    async fn stop(self) {
        for node in self.nodes {
            assert_eq!(node.complaints(), [json!(null); 0]);
            node.stop().await;
        }
    }
}

fn winners(answers: &[Answer]) -> usize {
    let (won, lost): (Vec<&Answer>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
    for answer in lost {
        answer.refused(409, "slot_taken");
    }
    won.len()
}

async fn of_two_one_wins(url: String) {
    let world = World::over(url).await;
    let answers = world.both("/v1/bookings", world.practice.slot(9)).await;
    assert_eq!(winners(&answers), 1);
    assert_eq!((world.rows().await, overlaps(&world.url).await), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn pretix_cont_01_a_pause_after_the_check() {
    let url = migrated();
    sabotage::slow_insert(&url, 200).await;
    of_two_one_wins(url).await;
}

#[tokio::test]
async fn pretix_cont_02_a_pause_before_the_commit() {
    let url = migrated();
    sabotage::slow_commit(&url, 200).await;
    of_two_one_wins(url).await;
}

/// A hub that trusts its lock: takes it, looks, and inserts what is free. Both transactions have
/// read something before either has the lock. How many inserted.
async fn lock_look_insert(world: &World, level: &str, start: Timestamp) -> usize {
    let (practice, seeker) = (&world.practice, &world.seekers[0]);
    let end = start + Duration::from_secs(3600);
    let insert = format!(
        "INSERT INTO bookings (seeker_id, practitioner_id, service_id, scheduled_at, ends_at,
           duration_minutes, occupied_from, occupied_until, total_amount, commission_amount)
         SELECT '{}', '{}', '{}', '{start}', '{end}', 60, '{start}', '{end}', 0, 0
          WHERE NOT EXISTS (SELECT 1 FROM bookings WHERE practitioner_id = '{}'
                             AND occupied && tstzrange('{start}', '{end}'))",
        seeker.id, practice.id, practice.service_id, practice.id
    );
    let mut conns = [connect(&world.url).await, connect(&world.url).await];
    for conn in &mut conns {
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        sql_query(begin).execute(conn).await.unwrap();
        sql_query("SELECT count(*) FROM users").execute(conn).await.unwrap();
    }
    let mut inserted = 0;
    for conn in &mut conns {
        sql_query("SELECT pg_advisory_xact_lock(4)").execute(conn).await.unwrap();
        // Refused by the constraint, or not even tried.
        inserted += sql_query(&insert).execute(conn).await.unwrap_or(0);
        sql_query("COMMIT").execute(conn).await.unwrap();
    }
    inserted
}

/// A lock and a look do not suffice where the look sees an old state; the constraint sees the
/// present, and the hub takes its word, whatever level the database is set to.
#[tokio::test]
async fn pretix_cont_03_a_lock_with_an_old_snapshot() {
    let url = migrated();
    sabotage::repeatable_read(&url).await;
    sabotage::slow_commit(&url, 200).await;
    let world = World::over(url).await;
    let slot = |n| world.practice.slot(n);
    assert_eq!(winners(&world.both("/v1/bookings", slot(0)).await), 1);
    assert_eq!((world.rows().await, overlaps(&world.url).await), (1, 0));
    assert_eq!(lock_look_insert(&world, "REPEATABLE READ", slot(3)).await, 1);

    sabotage::constraint_off(&world.url).await;
    assert_eq!(lock_look_insert(&world, "READ COMMITTED", slot(6)).await, 1);
    assert_eq!(overlaps(&world.url).await, 0);
    assert_eq!(lock_look_insert(&world, "REPEATABLE READ", slot(9)).await, 2);
    assert_eq!(overlaps(&world.url).await, 1);
    for node in world.nodes {
        node.stop().await;
    }
}

/// The negative control, for each of the two pauses.
#[tokio::test]
async fn pretix_cont_04_with_the_locks_switched_off() {
    for pause in ["after the check", "before the commit"] {
        let url = migrated();
        sabotage::advisory_lock_off(&url).await;
        sabotage::constraint_off(&url).await;
        match pause {
            "after the check" => sabotage::slow_insert(&url, 200).await,
            _ => sabotage::slow_commit(&url, 200).await,
        }
        let world = World::over(url).await;
        let answers = world.both("/v1/bookings", world.practice.slot(9)).await;
        assert_eq!(winners(&answers), 2, "{pause}");
        assert_eq!((world.rows().await, overlaps(&world.url).await), (2, 1), "{pause}");
        assert!(sabotage::locks_not_taken(&world.url).await >= 2, "{pause}");
        world.stop().await;
    }
}

/// The hub has no vouchers; what it has one of, and keeps for one, is a held slot.
#[tokio::test]
async fn pretix_cont_05_one_seat_and_two_who_want_to_hold_it() {
    let world = World::over(migrated()).await;
    for slot in 0..5 {
        let answers = world.both("/v1/holds", world.practice.slot(slot)).await;
        assert_eq!(winners(&answers), 1);
        // The other has no luck with a booking either, wherever it is tried.
        let loser = usize::from(answers[0].status == 201);
        for node in &world.nodes {
            let wish = world.practice.wish(world.practice.slot(slot));
            let late = world.seekers[loser].post(node, "/v1/bookings", wish).await;
            late.refused(409, "slot_taken");
        }
    }
    assert_eq!((world.rows().await, overlaps(&world.url).await), (5, 0));
    world.stop().await;
}

/// The second browser is served from a memory that knows nothing of the first one's booking.
#[tokio::test]
async fn calcom_cont_01_one_and_a_half_seconds_apart_with_old_slots_shown() {
    let world = World::over(migrated()).await;
    let start = world.practice.slot(9);
    let wish = world.practice.wish(start);
    let first = world.seekers[0].post(&world.nodes[0], "/v1/bookings", wish.clone()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let second = world.seekers[1].post(&world.nodes[1], "/v1/bookings", wish).await;
    assert_eq!((first.status.as_u16(), winners(&[first, second])), (201, 1));
    assert_eq!(world.rows().await, 1);
    world.stop().await;
}

#[tokio::test]
async fn calcom_cont_02_ten_identical_posts() {
    let world = World::over(migrated()).await;
    let wish = world.practice.wish(world.practice.slot(9));
    let posts =
        (0..10).map(|n| world.seekers[0].post(&world.nodes[n % 2], "/v1/bookings", wish.clone()));
    assert_eq!(winners(&join_all(posts).await), 1);
    assert_eq!(world.rows().await, 1);
    world.stop().await;
}

#[tokio::test]
async fn calcom_cont_04_a_hold_keeps_others_out_until_it_is_the_booking() {
    let world = World::over(migrated()).await;
    let [owner, other] = &world.seekers;
    let wish = world.practice.wish(world.practice.slot(14));
    let hold = owner.post(&world.nodes[0], "/v1/holds", wish.clone()).await.data(201);
    for node in &world.nodes {
        other.post(node, "/v1/bookings", wish.clone()).await.refused(409, "slot_taken");
    }
    // There is no moment between hold and booking at which the other would get through.
    let from_hold = json!({ "holdId": hold["id"] });
    let mut posts: Vec<_> = (0..20).map(|n| (other, &world.nodes[n % 2], wish.clone())).collect();
    posts.insert(10, (owner, &world.nodes[1], from_hold));
    let posts = posts.into_iter().map(|(who, node, body)| who.post(node, "/v1/bookings", body));
    let answers = join_all(posts).await;
    assert_eq!(answers[10].data(201)["id"], hold["id"]);
    assert_eq!(winners(&answers), 1);
    assert_eq!(rows::column(&world.url, "SELECT status FROM bookings").await, ["pending"]);
    world.stop().await;
}

#[tokio::test]
async fn medplum_cont_01_a_busy_time_can_not_be_booked() {
    let world = World::over(migrated()).await;
    let [one, two] = &world.seekers;
    let (booked, closed) = (world.practice.slot(9), world.practice.slot(12));
    // Known to the first node only.
    one.post(&world.nodes[0], "/v1/bookings", world.practice.wish(booked)).await.data(201);
    let path = format!("/v1/practitioners/{}/blocks", world.practice.id);
    let block = json!({ "startsAt": closed, "endsAt": closed + Duration::from_secs(1800) });
    world.practice.person.post(&world.nodes[0], &path, block).await.data(201);
    let before = rows::contents(&world.url).await;
    for node in world.nodes.iter().rev() {
        for start in [booked, closed] {
            let late = two.post(node, "/v1/bookings", world.practice.wish(start)).await;
            late.refused(409, "slot_taken");
        }
    }
    assert_eq!(rows::contents(&world.url).await, before);
    world.stop().await;
}
