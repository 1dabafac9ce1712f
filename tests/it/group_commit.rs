//! The committer: what shares a transaction, and what a failure does to the rest.

use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, RunQueryDsl};
use futures_util::future::join_all;
use hub::actors::calendar_batch::CalendarBatch;
use hub::actors::committer::Committer;
use hub::actors::fanout::Fanout;
use hub::bus::Bus;
use hub::models::calendar_commit::{Command, CommitRules, Job, Outcome, commit};
use hub::models::calendars::Block;
use hub::models::pool::Pool;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::races::job;
use crate::support::postgres::{connect, log_of};
use crate::support::{Practice, Socket, TestHub, rows};

const RULES: CommitRules =
    CommitRules { push_window: Duration::from_secs(60), commission_bps: 1_500 };

fn committer(url: &str, connections: usize, wait: Duration) -> (Pool, Committer<CalendarBatch>) {
    let pool = Pool::new(url, connections, wait).unwrap();
    let fanout = Fanout::new(Bus::InProcess);
    (pool.clone(), Committer::start(CalendarBatch(RULES), pool, fanout))
}

/// Waits until some connection to the database of `url` waits for a lock.
async fn somebody_waits(url: &str) {
    let waiting = "pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    let until = Instant::now() + Duration::from_secs(10);
    while rows::count(url, waiting).await == 0 {
        assert!(Instant::now() < until, "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn block(practice: &Practice, slot: i64) -> Job {
    let (starts_at, ends_at) = (practice.slot(slot), practice.slot(slot + 1));
    let block = Block { id: Uuid::now_v7(), starts_at, ends_at, reason: None, series_id: None };
    let practitioner_id = practice.id.parse().unwrap();
    Job { practitioner_id, actor: None, command: Command::Block(vec![block]) }
}

#[tokio::test]
async fn a_bad_job_fails_alone() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let url = &hub.database_url;
    let (_, committer) = committer(url, 2, Duration::from_secs(5));
    // While the first job waits for its calendar, the others gather in the same lane.
    let mut elsewhere = connect(url).await;
    let lock =
        format!("SELECT 1 FROM calendars WHERE practitioner_id = '{}' FOR UPDATE", practice.id);
    let submit = |job| {
        let committer = committer.clone();
        async move { committer.submit(job).await.map(|_| ()) }
    };
    let first = tokio::spawn(submit(block(&practice, 9)));
    let results = {
        elsewhere
            .transaction::<_, diesel::result::Error, _>(async |conn| {
                diesel::sql_query(&lock).execute(conn).await?;
                somebody_waits(url).await;
                let nowhere = Practice { service_id: Uuid::nil().to_string(), ..practice.clone() };
                let jobs = [
                    job(&practice, &seeker, practice.slot(1), 60),
                    job(&nowhere, &seeker, practice.slot(3), 60),
                    job(&practice, &seeker, practice.slot(5), 60),
                ];
                let rest: Vec<_> = jobs.into_iter().map(|job| tokio::spawn(submit(job))).collect();
                tokio::task::yield_now().await;
                Ok(rest)
            })
            .await
            .unwrap()
    };
    first.await.unwrap().unwrap();
    let results: Vec<bool> =
        join_all(results).await.into_iter().map(|r| r.unwrap().is_ok()).collect();
    assert_eq!(results, [true, false, true]);
    assert_eq!(rows::count(url, "bookings").await, 2);
    assert_eq!(rows::count(url, "booking_events").await, 2);
}

#[tokio::test]
async fn without_a_connection_all_that_wait_are_told_at_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (pool, committer) = committer(&hub.database_url, 1, Duration::from_millis(300));
    let taken = pool.get().await.unwrap();
    let started = Instant::now();
    let jobs = (0..20).map(|n| committer.submit(block(&practice, n)));
    let answers = join_all(jobs).await;
    assert!(answers.iter().all(Result::is_err));
    // One wait for the first batch and one for the rest, not one each.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(taken);
    committer.submit(block(&practice, 1)).await.unwrap();
}

#[tokio::test]
async fn changed_hours_are_told_beside_what_became_busy() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let hours = Job {
        command: Command::PutSchedule {
            schedule: json!({ "timeZone": "Asia/Kolkata", "weekly": [], "overrides": [] }),
            expected_version: None,
        },
        ..block(&practice, 1)
    };
    let mut conn = connect(&hub.database_url).await;
    let done = commit(&mut conn, RULES, &[hours, block(&practice, 3)]).await.unwrap();
    assert!(matches!(done.outcomes[..], [Outcome::Scheduled(_), Outcome::Blocked(_)]));
    assert_eq!(done.events.len(), 1);
    let data = &done.events[0].data;
    let data: Value = serde_json::from_str(&data.to_string()).unwrap();
    assert_eq!(data["hoursChanged"], true);
    assert_eq!(data["changes"][0]["start"], practice.slot(3).to_string());
}

/// A commit that fails leaves the slot as it was: free, and not for ever reserved in memory.
#[tokio::test]
async fn a_slot_whose_booking_failed_is_free_again() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let mut socket = Socket::open(&hub, &other).await;
    let wish = practice.wish(practice.slot(9));
    let url = &hub.database_url;
    rows::run(url, "ALTER TABLE notifications RENAME TO away").await;
    let failed = seeker.post(&hub, "/v1/bookings", wish.clone()).await;
    failed.refused(500, "internal");
    assert!(!failed.body.to_string().contains("away"), "{}", failed.body);
    socket.refused("booking:create", wish.clone(), "internal").await;
    rows::run(url, "ALTER TABLE away RENAME TO notifications").await;
    assert_eq!(rows::count(url, "bookings").await, 0);
    let asked = json!({ "practitionerId": practice.id, "serviceId": practice.service_id,
        "from": practice.slot(9), "to": practice.slot(10) });
    let slots = socket.ok("availability:get", asked).await;
    assert_eq!(slots["slots"].as_array().unwrap().len(), 1);
    socket.ok("booking:create", wish).await;
    assert_eq!(rows::count(url, "bookings").await, 1);
}

/// Lanes, of two nodes, that all want the same people: nobody waits in a circle, and each channel is
/// dense.
#[tokio::test]
async fn lanes_that_share_people_do_not_get_in_each_others_way() {
    const SLOTS: i64 = 12;
    let hub = TestHub::start().await;
    let url = &hub.database_url;
    let practices = join_all((0..8).map(|_| hub.practice())).await;
    let seekers = join_all((0..6).map(|_| hub.seeker())).await;
    let nodes = [(); 2].map(|()| committer(url, 8, Duration::from_secs(5)).1);
    let jobs = (0..SLOTS).flat_map(|slot| {
        practices.iter().enumerate().map(move |(n, practice)| (slot, n, practice))
    });
    let submitted = jobs.map(|(slot, n, practice)| {
        let nth = usize::try_from(slot).unwrap() * 5 + n;
        let seeker = &seekers[nth % seekers.len()];
        nodes[nth % 2].submit(job(practice, seeker, practice.slot(slot), 60))
    });
    for settled in join_all(submitted).await {
        settled.unwrap();
    }
    let all = SLOTS * 8;
    assert_eq!(rows::count(url, "bookings").await, usize::try_from(all).unwrap());
    let errors = log_of(url).into_iter().filter(|line| line.contains("ERROR:"));
    assert_eq!(errors.collect::<Vec<_>>(), [""; 0]);
    let dense = "SELECT count(*) FROM user_channels c WHERE last_seq =
        (SELECT count(*) FROM user_events e WHERE e.user_id = c.user_id AND seq <= last_seq)";
    assert_eq!(hub.number(dense).await, hub.number("SELECT count(*) FROM user_channels").await);
    // Created to both sides and one notification.
    assert_eq!(hub.number("SELECT sum(last_seq) FROM user_channels").await, 3 * all);
}

/// Jobs of one calendar are committed as they came, whatever goes on beside them.
#[tokio::test]
async fn jobs_of_one_calendar_keep_their_order() {
    let hub = TestHub::start().await;
    let practices = join_all((0..4).map(|_| hub.practice())).await;
    let (_, committer) = committer(&hub.database_url, 4, Duration::from_secs(5));
    let hours = |minute: i64| {
        json!({ "timeZone": "Asia/Kolkata", "overrides": [],
        "weekly": [{ "weekday": 1, "start": format!("09:{minute:02}"), "end": "17:00" }] })
    };
    let jobs = (0..160).map(|n: i64| {
        let practice = &practices[usize::try_from(n % 4).unwrap()];
        let command = Command::PutSchedule { schedule: hours(n / 4), expected_version: None };
        committer.submit(Job { command, ..block(practice, 1) })
    });
    for settled in join_all(jobs).await {
        settled.unwrap();
    }
    for practice in &practices {
        let stored = format!("SELECT availability FROM practitioners WHERE id = '{}'", practice.id);
        let stored = rows::column(&hub.database_url, &stored).await;
        assert!(stored[0].contains("09:39"), "{stored:?}");
    }
}
