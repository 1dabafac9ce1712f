//! Nothing lost, nothing twice, nothing out of order, whatever fails: devices that keep a history of
//! all they did and saw, two nodes that are killed under them, and checks of the histories against
//! each other and against the database.
//!
//! `make test` runs this for some seconds. `make soak` runs it for `SOAK_SECONDS` with `SOAK_USERS`
//! users in groups of `SOAK_GROUP`, then lets `SOAK_GHOSTS` come and go for as long; `SOAK_SEED` chooses
//! what fails when. Real machines and networks are not seeded: the same seed gives the same faults,
//! not the same run.

mod books;
mod busy;
mod calendar;
mod controls;
mod database;
mod deeds;
mod device;
mod ghosts;
mod history;
mod people;
mod proxy;
mod run;
mod steward;
mod view;
mod wire;
mod world;

use std::time::Duration;

use self::run::{Options, Outcome, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

/// A seed that is another each day, so that `make test` does not try the same for ever.
fn seed() -> u64 {
    let today = jiff::Timestamp::now().as_second() / 86_400;
    number("SOAK_SEED", u64::try_from(today).unwrap())
}

fn judge(seed: u64, outcome: &Outcome) {
    let Outcome { deliveries, acknowledged, changes, removals, faults, violations } = outcome;
    println!(
        "seed {seed}: {deliveries} deliveries, {acknowledged} acknowledged messages, {changes} \
         changes of messages, {removals} members out and in, {faults} faults, {} violations",
        violations.len()
    );
    for violation in violations.iter().take(20) {
        println!("{violation}");
    }
    assert!(violations.is_empty(), "SOAK_SEED={seed}: {}", violations[0]);
    assert!([deliveries, acknowledged, changes, removals].iter().all(|count| **count > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_seconds_of_faults_break_no_promise() {
    let options = Options {
        seed: seed(),
        users: 24,
        group: 12,
        duration: Duration::from_secs(12),
        writes_every: Duration::from_millis(500),
        rest: Duration::from_secs(1),
    };
    if let Some(outcome) = run(options).await {
        judge(options.seed, &outcome);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn soak() {
    let options = Options {
        seed: seed(),
        users: usize::try_from(number("SOAK_USERS", 150)).unwrap(),
        group: usize::try_from(number("SOAK_GROUP", 25)).unwrap(),
        duration: Duration::from_secs(number("SOAK_SECONDS", 900)),
        writes_every: Duration::from_millis(number("SOAK_WRITES_EVERY_MS", 2_000)),
        rest: Duration::from_secs(10),
    };
    println!("{options:?}");
    if let Some(outcome) = run(options).await {
        judge(options.seed, &outcome);
    }
}

async fn no_ghosts(seed: u64, users: usize, seconds: u64) {
    let Some(outcome) = ghosts::run(seed, users, Duration::from_secs(seconds)).await else {
        return;
    };
    let ghosts::Outcome { sockets, kills, ghosts, missing, took } = outcome;
    println!(
        "seed {seed}: {users} users, {kills} kills, then {sockets} sockets: {} ghosts, {} missing \
         after {took:?}",
        ghosts.len(),
        missing.len()
    );
    assert!(sockets > 0 && kills > 0);
    assert_eq!((ghosts, missing), (Vec::new(), Vec::new()), "SOAK_SEED={seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn after_many_kills_presence_is_who_has_a_socket() {
    let users = usize::try_from(number("SOAK_GHOSTS", 300)).unwrap();
    no_ghosts(seed(), users, number("SOAK_SECONDS", 900)).await;
}
