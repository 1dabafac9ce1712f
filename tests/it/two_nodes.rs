//! One slot, one winner, over two hub processes on one PostgreSQL that know of each other only by
//! it; the same with the actors left out; and, so that these tests are known to be able to fail,
//! with the guards taken away.
//!
//! `RACE_ROUNDS` says how often each race is run; a few times unless it is given.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hub::models::calendar_commit::{Job, Outcome, commit};
use jiff::Timestamp;
use serde_json::json;

use crate::races::{RULES, job, minutes, overlaps};
use crate::support::postgres::{connect, log_of, migrated};
use crate::support::{Answer, Node, Person, Practice, rows, sabotage};

/// Requests, or jobs, that want the same time at once.
const RIVALS: usize = 200;
/// Connections that commit at once where the actors are left out.
const CONNECTIONS: usize = 25;

fn rounds() -> usize {
    std::env::var("RACE_ROUNDS").map_or(2, |n| n.parse().expect("RACE_ROUNDS is a number"))
}

/// Two nodes, one practitioner with two services, and who wants to go there.
struct World {
    url: String,
    nodes: [Node; 2],
    /// 60 minutes from every half hour, and 90.
    services: [Practice; 2],
    seekers: Vec<Person>,
}

impl World {
    /// Starts everything over `url`; both nodes have the calendar in memory.
    async fn over(url: String) -> Self {
        let nodes = Node::two(&url).await;
        let hub = &nodes[0];
        let short = hub.practice_with(json!({ "incrementMinutes": 30 })).await;
        let long = Practice { service_id: hub.service().await, ..short.clone() };
        let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 90,
            "incrementMinutes": 30 });
        let path = format!("/v1/practitioners/{}/services/{}", long.id, long.service_id);
        short.person.put(hub, &path, offer).await.data(200);
        let mut seekers = Vec::new();
        for _ in 0..4 {
            seekers.push(hub.seeker().await);
        }
        for node in &nodes {
            node.get(&slots(&long)).await.data(200);
        }
        Self { url, nodes, services: [short, long], seekers }
    }

    /// What the `n`th rival wants: with a `spread`, of two services and two starts, which all take
    /// the time from half an hour after `start` to an hour after it.
    fn wish(&self, n: usize, start: Timestamp, spread: bool) -> (&Practice, Timestamp, i64) {
        let (service, late) = if spread { (n / 2 % 2, n / 4 % 2) } else { (0, 0) };
        let start = if late == 1 { start + minutes(30) } else { start };
        (&self.services[service], start, if service == 0 { 60 } else { 90 })
    }

    /// All rivals at once, every second one at the other node.
    async fn race(&self, start: Timestamp, spread: bool) -> Vec<Answer> {
        join_all((0..RIVALS).map(|n| {
            let (service, start, _) = self.wish(n, start, spread);
            let seeker = &self.seekers[n % self.seekers.len()];
            seeker.post(&self.nodes[n % 2], "/v1/bookings", service.wish(start))
        }))
        .await
    }

    /// All rivals at once, past the actors, over many connections; how many won.
    async fn bypass(&self, start: Timestamp, spread: bool) -> usize {
        let jobs: Vec<Job> = (0..RIVALS)
            .map(|n| {
                let (service, start, length) = self.wish(n, start, spread);
                job(service, &self.seekers[n % self.seekers.len()], start, length)
            })
            .collect();
        let mut conns = join_all((0..CONNECTIONS).map(|_| connect(&self.url))).await;
        let shares = conns.iter_mut().zip(jobs.chunks(RIVALS / CONNECTIONS));
        let committed = shares.map(async |(conn, jobs)| {
            let mut won = 0;
            for job in jobs {
                let done = commit(conn, RULES, std::slice::from_ref(job)).await.unwrap();
                won += usize::from(matches!(done.outcomes[0], Outcome::Booked(_)));
            }
            won
        });
        join_all(committed).await.into_iter().sum()
    }

    /// Nobody may complain, least of all PostgreSQL, and `winners` rows stand beside each other.
    async fn is_sound(&self, winners: usize) {
        assert_eq!(overlaps(&self.url).await, 0);
        assert_eq!(rows::count(&self.url, "bookings").await, winners);
        assert_eq!(errors(&self.url), [""; 0]);
        for node in &self.nodes {
            assert_eq!(node.complaints(), [json!(null); 0]);
        }
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

fn slots(practice: &Practice) -> String {
    let (from, to) = (practice.slot(0), practice.slot(24));
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    format!("{path}?serviceId={}&from={from}&to={to}", practice.service_id)
}

fn errors(url: &str) -> Vec<String> {
    log_of(url).into_iter().filter(|line| line.contains("ERROR:")).collect()
}

/// How many won; all others must have been told that the slot is taken.
fn winners(answers: &[Answer]) -> usize {
    let (won, lost): (Vec<&Answer>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
    for answer in lost {
        answer.refused(409, "slot_taken");
    }
    won.len()
}

#[tokio::test]
async fn of_two_hundred_bookings_at_two_nodes_one_wins() {
    let world = World::over(migrated()).await;
    for round in 0..rounds() {
        // Three hours apart, so that no race reaches into the next.
        let start = world.services[0].slot(6 * i64::try_from(round).unwrap());
        assert_eq!(winners(&world.race(start, false).await), 1);
        assert_eq!(winners(&world.race(start + minutes(180), true).await), 1);
    }
    world.is_sound(2 * rounds()).await;
    world.stop().await;
}

#[tokio::test]
async fn of_two_hundred_commits_past_the_actors_one_wins() {
    let world = World::over(migrated()).await;
    for round in 0..rounds() {
        let start = world.services[0].slot(9 * i64::try_from(round).unwrap());
        assert_eq!(world.bypass(start, false).await, 1);
        assert_eq!(world.bypass(start + minutes(180), true).await, 1);
        // Beside nodes that are just as much in the dark.
        let start = start + minutes(360);
        let (answers, past) = tokio::join!(world.race(start, true), world.bypass(start, true));
        assert_eq!(winners(&answers) + past, 1);
    }
    world.is_sound(3 * rounds()).await;
    world.stop().await;
}

/// The negative control: without constraint and lock the same race, at the same nodes, has a winner
/// at each of them, and every commit past the actors wins.
#[tokio::test]
async fn without_the_guards_these_tests_see_two_winners() {
    let url = migrated();
    sabotage::advisory_lock_off(&url).await;
    sabotage::constraint_off(&url).await;
    // Neither node may hear of the other's booking before its own is decided.
    sabotage::slow_commit(&url, 200).await;
    let world = World::over(url).await;
    for (race, spread) in [false, true].into_iter().enumerate() {
        let start = world.services[0].slot(3 * i64::try_from(race).unwrap());
        assert_eq!(winners(&world.race(start, spread).await), 2);
        assert_eq!(overlaps(&world.url).await, race + 1);
    }
    assert!(sabotage::locks_not_taken(&world.url).await > 0, "the hub takes other locks");
    world.stop().await;
}

#[tokio::test]
async fn past_the_actors_and_without_the_guards_everybody_wins() {
    let url = migrated();
    sabotage::advisory_lock_off(&url).await;
    sabotage::constraint_off(&url).await;
    let world = World::over(url).await;
    assert_eq!(world.bypass(world.services[0].slot(0), true).await, RIVALS);
    assert_eq!(overlaps(&world.url).await, RIVALS * (RIVALS - 1) / 2);
    world.stop().await;
}

/// The control for "no deadlock in the log": one that happens is in it.
#[tokio::test]
async fn a_deadlock_would_be_seen_in_the_log() {
    let (url, other) = (migrated(), migrated());
    sabotage::deadlock(&url).await;
    let errors = errors(&url);
    assert!(errors.iter().any(|line| line.contains("deadlock detected")), "{errors:#?}");
    assert_eq!(log_of(&other), [""; 0]);
}

/// kill -9 between hold and booking: nobody is left who could release the hold, and nothing but its
/// time keeps others out.
#[tokio::test]
async fn a_node_killed_between_hold_and_booking_leaves_nothing_behind() {
    let url = migrated();
    let short = [("HOLD_TTL_SECONDS", "1")];
    let (killed, other) =
        tokio::join!(Node::start_with(&url, &short), Node::start_with(&url, &short));
    let practice = killed.practice().await;
    let (owner, seeker) = (killed.seeker().await, killed.seeker().await);
    let wish = practice.wish(practice.slot(9));
    owner.post(&killed, "/v1/holds", wish.clone()).await.data(201);
    killed.kill().await;
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = seeker.post(&other, "/v1/bookings", wish.clone()).await;
        if answer.status == 201 {
            break;
        }
        answer.refused(409, "slot_taken");
        assert!(Instant::now() < until, "the slot stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delay = "SELECT extract(epoch FROM b.created_at - h.hold_expires_at) < 1
                   FROM bookings h JOIN bookings b USING (practitioner_id, scheduled_at)
                  WHERE h.status = 'lapsed' AND b.status = 'pending'";
    assert_eq!(rows::column(&url, delay).await, ["t"]);
    assert_eq!(rows::count(&url, "bookings").await, 2);
    other.stop().await;
}
