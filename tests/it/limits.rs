//! How many sessions may begin in a day and a week: offered, refused, and kept by the database when
//! two nodes fill the same day at once.

use std::time::Duration;

use futures_util::future::join_all;
use hub::domain::booking::Status;
use hub::models::calendar_commit::{Command, CommitRules, Job, LimitCheck, Outcome, commit};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::races::job;
use crate::support::postgres::connect;
use crate::support::{Answer, Person, Practice, TestHub, rows};

const RULES: CommitRules =
    CommitRules { push_window: Duration::from_secs(60), commission_bps: 1_500 };

/// The states that stand or took place, as rows.
const COUNTED: &str =
    "status IN ('held', 'pending', 'confirmed', 'in_session', 'completed', 'no_show')";

/// A practice in Kolkata, open around the clock, whose week is limited to so many sessions.
async fn with_week_limit(hub: &TestHub, limits: Value) -> Practice {
    let practice = hub.practice().await;
    put_limits(hub, &practice, limits).await;
    practice
}

async fn put_limits(hub: &TestHub, practice: &Practice, limits: Value) {
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "00:00", "end": "24:00" })).collect();
    let hours = json!({ "timeZone": "Asia/Kolkata", "weekly": weekly, "limits": limits });
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(hub, &path, hours).await.data(200);
}

/// Another service of the same practice.
async fn second_service(hub: &TestHub, practice: &Practice) -> Practice {
    let second = Practice { service_id: hub.service().await, ..practice.clone() };
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60 });
    let path = format!("/v1/practitioners/{}/services/{}", second.id, second.service_id);
    practice.person.put(hub, &path, offer).await.data(200);
    second
}

async fn book(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) -> Answer {
    seeker.post(hub, "/v1/bookings", practice.wish(practice.slot(slot))).await
}

#[track_caller]
fn is_full(answer: &Answer) {
    let error = answer.refused(409, "slot_unavailable");
    assert_eq!(error["details"]["rule"], "limit", "{error:#}");
}

/// How many slots `who` sees from slot `from` to slot `to`.
async fn seen(hub: &TestHub, practice: &Practice, who: &Person, from: i64, to: i64) -> usize {
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}",
        practice.id,
        practice.service_id,
        practice.slot(from),
        practice.slot(to)
    );
    who.get(hub, &path).await.data(200)["slots"].as_array().unwrap().len()
}

fn id_of(answer: &Answer) -> String {
    answer.data(201)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_full_day_is_neither_offered_nor_booked() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 2 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let first = id_of(&book(&hub, &practice, &seeker, 5).await);
    assert_eq!(seen(&hub, &practice, &other, 0, 24).await, 23);
    // A hold counts for others.
    let wish = practice.wish(practice.slot(23));
    let hold = id_of(&seeker.post(&hub, "/v1/holds", wish).await);
    assert_eq!(seen(&hub, &practice, &other, 0, 24).await, 0);
    for slot in [0, 12, 22] {
        is_full(&book(&hub, &practice, &other, slot).await);
        let wish = practice.wish(practice.slot(slot));
        is_full(&other.post(&hub, "/v1/holds", wish).await);
    }
    // The days around are days of their own, by the practitioner's clock.
    assert_eq!(seen(&hub, &practice, &other, -2, 0).await, 2);
    assert_eq!(seen(&hub, &practice, &other, 24, 48).await, 24);
    id_of(&book(&hub, &practice, &other, 24).await);
    // What is given back or called off makes room.
    seeker.delete(&hub, &format!("/v1/holds/{hold}")).await.data(200);
    assert_eq!(seen(&hub, &practice, &other, 0, 24).await, 23);
    id_of(&book(&hub, &practice, &other, 12).await);
    assert_eq!(seen(&hub, &practice, &seeker, 0, 24).await, 0);
    let cancel = format!("/v1/bookings/{first}/cancel");
    seeker.post(&hub, &cancel, json!({})).await.data(200);
    assert_eq!(seen(&hub, &practice, &seeker, 0, 24).await, 23);
}

/// The first slot of the first whole week from here, in Kolkata.
fn monday(practice: &Practice) -> i64 {
    let kolkata = TimeZone::get("Asia/Kolkata").unwrap();
    let days = (0..7).find(|day| {
        let date = practice.slot(24 * day).to_zoned(kolkata.clone()).date();
        date.weekday() == Weekday::Monday
    });
    24 * days.unwrap()
}

#[tokio::test]
async fn weeks_begin_on_monday_and_the_practitioners_limit_is_over_all_services() {
    let hub = TestHub::start().await;
    let practice = with_week_limit(&hub, json!({ "perWeek": 3 })).await;
    let second = second_service(&hub, &practice).await;
    let seeker = hub.seeker().await;
    let monday = monday(&practice);
    let sunday = monday + 7 * 24 - 1;
    id_of(&book(&hub, &practice, &seeker, monday).await);
    id_of(&book(&hub, &second, &seeker, monday + 50).await);
    id_of(&book(&hub, &practice, &seeker, sunday).await);
    for practice in [&practice, &second] {
        assert_eq!(seen(&hub, practice, &seeker, monday, sunday + 1).await, 0);
        is_full(&book(&hub, practice, &seeker, monday + 100).await);
    }
    id_of(&book(&hub, &practice, &seeker, sunday + 1).await);
    id_of(&book(&hub, &second, &seeker, sunday + 2).await);
    // The limit of a service counts that service only.
    put_limits(&hub, &practice, json!({})).await;
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60,
        "maxPerWeek": 2 });
    let path = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    practice.person.put(&hub, &path, offer).await.data(200);
    is_full(&book(&hub, &practice, &seeker, monday + 100).await);
    id_of(&book(&hub, &second, &seeker, monday + 100).await);
}

#[tokio::test]
async fn limits_are_read_back_and_checked() {
    let hub = TestHub::start().await;
    let practice = with_week_limit(&hub, json!({ "perDay": 2 })).await;
    let path = format!("/v1/practitioners/{}", practice.id);
    let shown = hub.get(&path).await.data(200);
    assert_eq!(shown["availability"]["limits"], json!({ "perDay": 2 }));
    put_limits(&hub, &practice, json!({})).await;
    let shown = hub.get(&path).await.data(200);
    assert_eq!(shown["availability"].get("limits"), None);
    let hours = format!("{path}/availability");
    for (limits, field) in [
        (json!({ "perDay": 0 }), "limits.perDay"),
        (json!({ "perWeek": 1001 }), "limits.perWeek"),
        (json!({ "perMonth": 1 }), "limits.perMonth"),
        (json!({ "perDay": "2" }), "limits.perDay"),
    ] {
        let body = json!({ "timeZone": "UTC", "limits": limits });
        practice.person.put(&hub, &hours, body).await.names(field);
    }
    let service = format!("{path}/services/{}", practice.service_id);
    let offer = |field: &str, value: i64| json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60, field: value });
    for field in ["maxPerDay", "maxPerWeek"] {
        for value in [0, -1, 1001] {
            practice.person.put(&hub, &service, offer(field, value)).await.names(field);
        }
        let offers = practice.person.put(&hub, &service, offer(field, 1000)).await.data(200);
        assert_eq!(offers[0][field], 1000);
    }
}

/// The database and a memory that was read from it agree about every state of a booking.
#[tokio::test]
async fn what_stands_or_took_place_counts() {
    let hub = TestHub::start().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let mut practices = Vec::new();
    for status in Status::ALL {
        let practice = hub.practice_with(json!({ "maxPerDay": 1 })).await;
        let booking = id_of(&book(&hub, &practice, &seeker, 5).await);
        let set = format!(
            "UPDATE bookings SET status = '{}', hold_expires_at = now() + interval '1 hour' \
              WHERE id = '{booking}'",
            status.as_str()
        );
        assert_eq!(rows::run(&hub.database_url, &set).await, 1);
        practices.push((status, practice));
    }
    let fresh = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let mut conn = connect(&hub.database_url).await;
    for (status, practice) in practices {
        let counts = status.counts();
        let listed = seen(&fresh, &practice, &other, 6, 24).await;
        assert_eq!(listed, if counts { 0 } else { 18 }, "{status:?}");
        let wish = limited(&practice, &other, 10, 1, true);
        let done = commit(&mut conn, RULES, &[wish]).await.unwrap();
        match &done.outcomes[0] {
            Outcome::Booked(_) => assert!(!counts, "{status:?}"),
            Outcome::Refused(_) => assert!(counts, "{status:?}"),
            outcome => panic!("{status:?}: {outcome:?}"),
        }
    }
}

/// A job past every check of the actor, with a limit for its day.
fn limited(practice: &Practice, seeker: &Person, slot: i64, at_most: i64, of_service: bool) -> Job {
    let day = slot.div_euclid(24) * 24;
    let mut job = job(practice, seeker, practice.slot(slot), 60);
    if let Command::Place(new) = &mut job.command {
        let (from, until) = (practice.slot(day), practice.slot(day + 24));
        new.limits = vec![LimitCheck { of_service, from, until, at_most, moving: None }];
    }
    job
}

fn won(outcomes: &[Outcome]) -> Vec<bool> {
    outcomes.iter().map(|o| matches!(o, Outcome::Booked(_))).collect()
}

#[tokio::test]
async fn rows_of_one_batch_count_for_each_other() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let second = second_service(&hub, &practice).await;
    let seeker = hub.seeker().await;
    let mut conn = connect(&hub.database_url).await;
    let jobs: Vec<Job> = (0..5).map(|n| limited(&practice, &seeker, n, 2, true)).collect();
    let done = commit(&mut conn, RULES, &jobs).await.unwrap();
    assert_eq!(won(&done.outcomes), [true, true, false, false, false]);
    // Another service does not count for this one, but for the practitioner.
    let jobs = [
        limited(&second, &seeker, 30, 1, true),
        limited(&practice, &seeker, 31, 1, true),
        limited(&practice, &seeker, 32, 3, false),
        limited(&second, &seeker, 33, 3, false),
    ];
    let done = commit(&mut conn, RULES, &jobs).await.unwrap();
    assert_eq!(won(&done.outcomes), [true, true, true, false]);
    // Who loses the time to somebody else takes no place from those behind.
    let jobs = [
        limited(&practice, &seeker, 48, 2, true),
        limited(&practice, &seeker, 48, 2, true),
        limited(&practice, &seeker, 50, 2, true),
        limited(&practice, &seeker, 51, 2, true),
    ];
    let done = commit(&mut conn, RULES, &jobs).await.unwrap();
    assert_eq!(won(&done.outcomes), [true, false, true, false]);
    assert!(matches!(done.outcomes[1], Outcome::Taken));
    // A booking that is being moved does not stand in its own way.
    let moved =
        rows::column(&hub.database_url, "SELECT id FROM bookings ORDER BY scheduled_at").await;
    let mut jobs = [limited(&practice, &seeker, 6, 2, true)];
    if let Command::Place(new) = &mut jobs[0].command {
        new.limits[0].moving = Some(moved[0].parse().unwrap());
    }
    let done = commit(&mut conn, RULES, &jobs).await.unwrap();
    assert_eq!(won(&done.outcomes), [true]);
}

/// Two memories that know nothing of each other: what decides is the database.
#[tokio::test]
async fn two_nodes_never_fill_a_day_twice() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let nodes = [&hub, &other];
    let per_service = hub.practice_with(json!({ "maxPerDay": 1 })).await;
    let per_practice = with_week_limit(&hub, json!({ "perDay": 1 })).await;
    let second = second_service(&hub, &per_practice).await;
    let mut seekers = Vec::new();
    for _ in 0..4 {
        seekers.push(hub.seeker().await);
    }
    for day in 0..6 {
        for services in [[&per_service; 2], [&per_practice, &second]] {
            let posts = (0..24_usize).map(|n| {
                // Every slot of the day once, services and nodes mixed.
                let slot = 24 * day + i64::try_from(n).unwrap();
                let path = if n % 3 == 0 { "/v1/holds" } else { "/v1/bookings" };
                let practice = services[n / 2 % 2];
                let wish = practice.wish(practice.slot(slot));
                seekers[n % 4].post(nodes[n % 2], path, wish)
            });
            let answers = join_all(posts).await;
            let won: Vec<_> = answers.iter().filter(|a| a.status == 201).collect();
            for lost in answers.iter().filter(|a| a.status != 201) {
                is_full(lost);
            }
            // A hold gives way when its owner is admitted elsewhere that day.
            let practice = services[0];
            let day = format!(
                "bookings WHERE practitioner_id = '{}' AND {COUNTED} AND scheduled_at >= '{}' \
                 AND scheduled_at < '{}'",
                practice.id,
                practice.slot(24 * day),
                practice.slot(24 * day + 24)
            );
            assert_eq!(rows::count(&hub.database_url, &day).await, 1);
            assert!(!won.is_empty());
        }
    }
}

/// The negative control: without the check in the database the same race has several winners.
#[tokio::test]
async fn without_the_check_a_day_is_filled_twice() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 1 })).await;
    let seeker = hub.seeker().await;
    let url = &hub.database_url;
    let race = async |jobs: Vec<Job>| {
        let mut conns = join_all(jobs.iter().map(|_| connect(url))).await;
        let commits = conns.iter_mut().zip(&jobs).map(async |(conn, job)| {
            won(&commit(conn, RULES, std::slice::from_ref(job)).await.unwrap().outcomes)[0]
        });
        join_all(commits).await.into_iter().filter(|won| *won).count()
    };
    let checked = (0..8).map(|n| limited(&practice, &seeker, n, 1, true)).collect();
    assert_eq!(race(checked).await, 1);
    let unchecked = (24..32).map(|n| job(&practice, &seeker, practice.slot(n), 60)).collect();
    assert_eq!(race(unchecked).await, 8);
}

/// The id of a hold that was asked for with a key is the key's, which may be older or younger.
#[tokio::test]
async fn of_ones_own_holds_the_oldest_gives_way_whatever_its_id() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 2 })).await;
    let seeker = hub.seeker().await;
    let hold = async |slot| {
        let wish = practice.wish(practice.slot(slot));
        id_of(&seeker.post(&hub, "/v1/holds", wish).await)
    };
    let (_, second) = (hold(5).await, hold(7).await);
    let older = format!(
        "UPDATE bookings SET created_at = created_at - interval '1 minute' WHERE id = '{second}'"
    );
    assert_eq!(rows::run(&hub.database_url, &older).await, 1);
    hold(9).await;
    let released = "SELECT id FROM bookings WHERE status = 'released'";
    assert_eq!(rows::column(&hub.database_url, released).await, [second]);
}

#[tokio::test]
async fn ones_own_hold_gives_way_when_there_is_no_room_for_both() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 2 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let hold = async |slot| {
        let wish = practice.wish(practice.slot(slot));
        id_of(&seeker.post(&hub, "/v1/holds", wish).await)
    };
    let (first, second) = (hold(5).await, hold(7).await);
    // There is room for two, and their owner still sees the whole day, others nothing.
    assert_eq!(seen(&hub, &practice, &seeker, 0, 24).await, 24);
    assert_eq!(seen(&hub, &practice, &other, 0, 24).await, 0);
    let third = hold(9).await;
    let state = async |id: &str| {
        let sql = format!("SELECT status FROM bookings WHERE id = '{id}'");
        rows::column(&hub.database_url, &sql).await.remove(0)
    };
    assert_eq!(
        [state(&first).await, state(&second).await, state(&third).await],
        ["released", "held", "held"]
    );
    // The memory heard of it: others may not come in beside the two that are left.
    is_full(&book(&hub, &practice, &other, 5).await);
    let released = seeker.post(&hub, "/v1/bookings", json!({ "holdId": first })).await;
    released.refused(409, "hold_expired");
    for hold in [&second, &third] {
        seeker.post(&hub, "/v1/bookings", json!({ "holdId": hold })).await.data(201);
    }
    is_full(&book(&hub, &practice, &seeker, 11).await);
    // A wish that fails leaves the hold as it is.
    let next = hold(24).await;
    id_of(&book(&hub, &practice, &other, 26).await);
    let taken = book(&hub, &practice, &seeker, 26).await;
    taken.refused(409, "slot_taken");
    assert_eq!(state(&next).await, "held");
    let trail = format!("booking_events WHERE booking_id = '{first}' AND action = 'release'");
    assert_eq!(rows::count(&hub.database_url, &trail).await, 1);
}

/// A day that another node filled is known here as soon as the database said so.
#[tokio::test]
async fn a_refusal_by_the_database_corrects_the_memory() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 1 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    assert_eq!(seen(&hub, &practice, &seeker, 0, 24).await, 24);
    let mut conn = connect(&hub.database_url).await;
    let elsewhere = limited(&practice, &other, 20, 1, true);
    commit(&mut conn, RULES, &[elsewhere]).await.unwrap();
    is_full(&book(&hub, &practice, &seeker, 5).await);
    assert_eq!(seen(&hub, &practice, &seeker, 0, 24).await, 0);
}
