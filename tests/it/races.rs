//! One slot, one winner: over many requests, over two nodes, with the actor left out, and, so that
//! the checks are known to be able to fail, with what guards it taken away.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::future::{join_all, try_join_all};
use hub::models::calendar_commit::{
    Command, CommitRules, Job, NewBooking, Outcome, Placement, commit,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::postgres::connect;
use crate::support::{Person, Practice, TestHub, rows};

pub const RULES: CommitRules =
    CommitRules { push_window: Duration::from_secs(60), commission_bps: 1_500 };

/// Pairs of rows that block each other's time: what must never be.
pub async fn overlaps(url: &str) -> usize {
    let from =
        "(SELECT * FROM bookings WHERE blocks) a JOIN (SELECT * FROM bookings WHERE blocks) b
           ON a.practitioner_id = b.practitioner_id AND a.id < b.id AND a.occupied && b.occupied";
    rows::count(url, from).await
}

pub fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

/// A job that books `length` minutes from `start`, past every check of the actor.
pub fn job(practice: &Practice, seeker: &Person, start: Timestamp, length: i64) -> Job {
    let end = start + minutes(length);
    let seeker_id = seeker.id.parse().unwrap();
    Job {
        practitioner_id: practice.id.parse().unwrap(),
        actor: Some(seeker_id),
        command: Command::Place(NewBooking {
            id: Uuid::now_v7(),
            seeker_id,
            service_id: practice.service_id.parse().unwrap(),
            scheduled_at: start,
            duration_minutes: length.try_into().unwrap(),
            ends_at: end,
            occupied_from: start,
            occupied_until: end,
            total_amount: 1_000,
            commission_amount: 150,
            currency: "INR".to_owned(),
            notes: None,
            placement: Placement::Pending,
            over_own_hold: false,
            seats: 1,
            capacity: None,
            pending_blocks: true,
            cancellation_policy: json!([]),
            series_id: None,
            replaces: None,
        }),
    }
}

/// Commits `jobs`, each on a connection of its own, all at once; how many won.
async fn commit_all(url: &str, jobs: Vec<Job>) -> usize {
    let mut conns = join_all(jobs.iter().map(|_| connect(url))).await;
    let commits = conns.iter_mut().zip(&jobs).map(async |(conn, job)| {
        let done = commit(conn, RULES, std::slice::from_ref(job)).await?;
        diesel::QueryResult::Ok(matches!(done.outcomes[0], Outcome::Booked(_)))
    });
    let won: Vec<bool> = try_join_all(commits).await.unwrap();
    won.into_iter().filter(|won| *won).count()
}

async fn seekers(hub: &TestHub, n: usize) -> Vec<Person> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(hub.seeker().await);
    }
    all
}

#[tokio::test]
async fn of_a_hundred_parallel_bookings_one_wins() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seekers = seekers(&hub, 5).await;
    let wish = practice.wish(practice.slot(9));
    let posts = (0..100).map(|n| seekers[n % 5].post(&hub, "/v1/bookings", wish.clone()));
    let answers = join_all(posts).await;
    let won = answers.iter().filter(|a| a.status == 201).count();
    assert_eq!(won, 1);
    for lost in answers.iter().filter(|a| a.status != 201) {
        lost.refused(409, "slot_taken");
    }
    assert_eq!(rows::count(&hub.database_url, "bookings").await, 1);
    assert_eq!(rows::count(&hub.database_url, "notifications").await, 1);
}

#[tokio::test]
async fn two_nodes_that_know_nothing_of_each_other_agree() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "incrementMinutes": 30 })).await;
    let long = Practice { service_id: hub.service().await, ..practice.clone() };
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 90,
        "incrementMinutes": 30 });
    let path = format!("/v1/practitioners/{}/services/{}", long.id, long.service_id);
    practice.person.put(&hub, &path, offer).await.data(200);
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let (one, two) = (hub.seeker().await, hub.seeker().await);

    // Three hours apart, so that no group reaches into the next.
    let groups: Vec<Timestamp> = (0..6).map(|n| practice.slot(3 * n)).collect();
    let posts = groups.iter().flat_map(|start| {
        [(&practice, 0), (&long, 0), (&practice, 30), (&long, 30)].into_iter().flat_map(
            |(service, late)| {
                let wish = service.wish(*start + minutes(late));
                [(&hub, &one), (&other, &two)]
                    .map(|(node, who)| who.post(node, "/v1/bookings", wish.clone()))
            },
        )
    });
    let answers = join_all(posts).await;
    for lost in answers.iter().filter(|a| a.status != 201) {
        lost.refused(409, "slot_taken");
    }
    let won = answers.iter().filter(|a| a.status == 201).count();
    assert_eq!(won, rows::count(&hub.database_url, "bookings").await);
    assert_eq!(overlaps(&hub.database_url).await, 0);
    // All of a group overlap between minute 30 and 60, so that each group has one.
    assert_eq!(won, groups.len());
}

#[tokio::test]
async fn the_database_alone_lets_one_win() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let start = practice.slot(9);
    let identical = (0..10).map(|_| job(&practice, &seeker, start, 60)).collect();
    assert_eq!(commit_all(&hub.database_url, identical).await, 1);
    let staggered =
        (0..10).map(|n| job(&practice, &seeker, practice.slot(12) + minutes(5 * n), 60)).collect();
    assert_eq!(commit_all(&hub.database_url, staggered).await, 1);
    assert_eq!(overlaps(&hub.database_url).await, 0);
    // The hub, whose actor was left out, finds out.
    let late = seeker.post(&hub, "/v1/bookings", practice.wish(start)).await;
    late.refused(409, "slot_taken");
}

/// Looks first and inserts then, as a hub without a constraint would: each of two connections
/// looks before either inserts. How many inserted.
async fn naive(url: &str, practice: &Practice, seeker: &Person, start: Timestamp) -> usize {
    let mut conns = [connect(url).await, connect(url).await];
    let (at, until) = (start, start + minutes(60));
    let free = format!(
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM bookings WHERE practitioner_id = '{}'
           AND occupied && tstzrange('{at}', '{until}'))",
        practice.id
    );
    let insert = format!(
        "INSERT INTO bookings (seeker_id, practitioner_id, service_id, scheduled_at, ends_at,
           duration_minutes, occupied_from, occupied_until, total_amount, commission_amount)
         VALUES ('{}', '{}', '{}', '{at}', '{until}', 60, '{at}', '{until}', 0, 0)",
        seeker.id, practice.id, practice.service_id
    );
    let mut free_for = Vec::new();
    for conn in &mut conns {
        free_for.push(diesel::sql_query(&free).execute(conn).await.unwrap() == 1);
    }
    assert_eq!(free_for, [true, true]);
    let mut inserted = 0;
    for conn in &mut conns {
        inserted += diesel::sql_query(&insert).execute(conn).await.unwrap_or(0);
    }
    inserted
}

/// The negative control: without the constraint the same checks see two winners.
#[tokio::test]
async fn without_the_constraint_there_are_two_winners() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let url = &hub.database_url;
    assert_eq!(naive(url, &practice, &seeker, practice.slot(3)).await, 1);
    assert_eq!(overlaps(url).await, 0);

    rows::run(url, "ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap").await;
    assert_eq!(naive(url, &practice, &seeker, practice.slot(6)).await, 2);
    assert_eq!(overlaps(url).await, 1);
    let jobs = (0..2).map(|_| job(&practice, &seeker, practice.slot(9), 60)).collect();
    assert_eq!(commit_all(url, jobs).await, 2);
    assert_eq!(overlaps(url).await, 2);
}

/// Thirty connections at once, over two practices and the same few hours.
#[tokio::test]
async fn thirty_connections_on_overlapping_times_never_deadlock() {
    let hub = TestHub::start().await;
    let practices = [hub.practice().await, hub.practice().await];
    let seekers = seekers(&hub, 3).await;
    let url = &hub.database_url;
    let work = (0..30_usize).map(async |n| {
        let mut conn = connect(url).await;
        let mut won = 0;
        for round in 0..4_usize {
            // Both practices in either order, three overlapping times each.
            let jobs: Vec<Job> = (0..6_usize)
                .map(|k| {
                    let practice = &practices[(n + k) % 2];
                    let late = i64::try_from((n * 7 + k * 11 + round * 13) % 300).unwrap();
                    job(practice, &seekers[(n + k) % 3], practice.slot(9) + minutes(late), 45)
                })
                .collect();
            let done = commit(&mut conn, RULES, &jobs).await?;
            won += done.outcomes.iter().filter(|o| matches!(o, Outcome::Booked(_))).count();
        }
        diesel::QueryResult::Ok(won)
    });
    let results = join_all(work).await;
    let errors: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(errors.is_empty(), "{} errors, such as {:?}", errors.len(), errors[0]);
    let won: usize = results.into_iter().map(Result::unwrap).sum();
    assert_eq!(won, rows::count(url, "bookings").await);
    assert!(won >= 4, "{won}");
    assert_eq!(overlaps(url).await, 0);
}

async fn requested(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) -> String {
    let wish = practice.wish(practice.slot(slot));
    let booking = seeker.post(hub, "/v1/bookings", wish).await.data(201);
    format!("/v1/bookings/{}", booking["id"].as_str().unwrap())
}

#[tokio::test]
async fn of_confirm_and_cancel_at_once_one_wins() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for round in 0..10 {
        let booking = requested(&hub, &practice, &seeker, round).await;
        let seen: Value = json!({ "version": 1 });
        let (confirm, cancel) = (format!("{booking}/confirm"), format!("{booking}/cancel"));
        let (confirmed, cancelled) = tokio::join!(
            practice.person.post(&hub, &confirm, seen.clone()),
            seeker.post(if round % 2 == 0 { &hub } else { &other }, &cancel, seen),
        );
        let (won, lost) =
            if confirmed.status == 200 { (confirmed, cancelled) } else { (cancelled, confirmed) };
        won.data(200);
        assert_eq!(lost.status, 409, "{:#}", lost.body);
        let code = lost.body["error"]["code"].as_str().unwrap().to_owned();
        assert!(["version_conflict", "invalid_transition"].contains(&code.as_str()), "{code}");
        let trail = seeker.get(&hub, &format!("{booking}/events")).await.data(200);
        assert_eq!(trail.as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_step_waits_for_nobody_who_uses_the_same_service() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let booking = requested(&hub, &practice, &hub.seeker().await, 9).await;
    // As the foreign key of any booking of the service does, until it commits.
    let mut elsewhere: AsyncPgConnection = connect(&hub.database_url).await;
    let confirmed = elsewhere
        .transaction::<_, diesel::result::Error, _>(async |conn| {
            let lock = "SELECT 1 FROM services, practitioners FOR KEY SHARE";
            assert!(diesel::sql_query(lock).execute(conn).await? > 0);
            let path = format!("{booking}/confirm");
            let confirm = practice.person.post(&hub, &path, json!({}));
            Ok(tokio::time::timeout(Duration::from_secs(5), confirm).await)
        })
        .await
        .unwrap();
    confirmed.expect("the confirmation waits for another transaction").data(200);
}
