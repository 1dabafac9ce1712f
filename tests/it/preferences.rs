//! What users want to hear and when: which pushes go out, which wait, and that changes count at
//! once. The inbox always has everything.

use std::time::{Duration, Instant};

use diesel_async::AsyncConnection;
use hub::models::preferences;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::chat::Pair;
use crate::push::{SOON, register};
use crate::support::postgres::connect;
use crate::support::push_receiver::PushReceiver;
use crate::support::{Person, Socket, TestHub, rows};

const PATH: &str = "/v1/notifications/preferences";

/// Quiet hours in Kolkata that began an hour ago and end so many minutes from now.
pub fn quiet_for(minutes: i64) -> Value {
    let zone = TimeZone::get("Asia/Kolkata").unwrap();
    let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M").to_string();
    let now = Timestamp::now();
    json!({ "from": clock(now - SignedDuration::from_hours(1)),
        "to": clock(now + SignedDuration::from_mins(minutes)), "timeZone": "Asia/Kolkata" })
}

pub async fn prefer(hub: &TestHub, who: &Person, body: Value) -> Value {
    who.put(hub, PATH, body).await.data(200)
}

#[tokio::test]
async fn everything_is_wanted_until_somebody_says_otherwise() {
    let hub = TestHub::start().await;
    let (me, other) = (hub.seeker().await, hub.seeker().await);
    let all = json!({
        "push": { "booking": true, "message": true, "reminder": true, "review": true },
        "quietHours": null, "reminders": { "dayBefore": true, "hourBefore": true },
    });
    assert_eq!(me.get(&hub, PATH).await.data(200), all);
    let quiet = json!({ "from": "22:00", "to": "07:00", "timeZone": "Asia/Kolkata" });
    let change = json!({ "push": { "review": false }, "quietHours": quiet,
        "reminders": { "dayBefore": false } });
    let mut wanted = all.clone();
    wanted["push"]["review"] = json!(false);
    wanted["reminders"]["dayBefore"] = json!(false);
    wanted["quietHours"] = quiet;
    assert_eq!(prefer(&hub, &me, change).await, wanted);
    assert_eq!(me.get(&hub, PATH).await.data(200), wanted);
    // What is left out stays; only null takes the quiet hours away.
    wanted["push"]["message"] = json!(false);
    assert_eq!(prefer(&hub, &me, json!({ "push": { "message": false } })).await, wanted);
    assert_eq!(prefer(&hub, &me, json!({})).await, wanted);
    wanted["quietHours"] = Value::Null;
    assert_eq!(prefer(&hub, &me, json!({ "quietHours": null })).await, wanted);
    // Everybody has their own.
    assert_eq!(other.get(&hub, PATH).await.data(200), all);
    let database_url = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(database_url, |_| {}).await;
    assert_eq!(me.get(&hub, PATH).await.data(200), wanted);
}

#[tokio::test]
async fn what_is_wrong_with_preferences_is_named_and_changes_nothing() {
    let hub = TestHub::start().await;
    let me = hub.seeker().await;
    let before = rows::contents(&hub.database_url).await;
    let quiet = |from: &str, to: &str, zone: &str| json!({ "quietHours": { "from": from, "to": to, "timeZone": zone } });
    for (body, field) in [
        (quiet("25:00", "07:00", "UTC"), "quietHours.from"),
        (quiet("22:00", "7:00", "UTC"), "quietHours.to"),
        (quiet("22:00", "22:00", "UTC"), "quietHours.to"),
        (quiet("00:00", "24:00", "UTC"), "quietHours.to"),
        (quiet("22:00", "07:00", "Mars/Olympus"), "quietHours.timeZone"),
        (json!({ "quietHours": { "from": "22:00" } }), "quietHours.to"),
        (json!({ "quietHours": "night" }), "quietHours"),
        (json!({ "push": { "booking": "no" } }), "push.booking"),
        (json!({ "push": { "marketing": false } }), "push.marketing"),
        (json!({ "reminders": { "weekBefore": true } }), "reminders.weekBefore"),
        (json!({ "sound": "gong" }), "sound"),
    ] {
        me.put(&hub, PATH, body).await.names(field);
    }
    assert_eq!(rows::contents(&hub.database_url).await, before);
}

#[tokio::test]
async fn two_changes_at_once_both_count() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let me = hub.seeker().await;
    for round in 0..10 {
        let on = round % 2 == 1;
        let (push, reminders) =
            (json!({ "push": { "booking": on } }), json!({ "reminders": { "hourBefore": on } }));
        tokio::join!(prefer(&hub, &me, push), prefer(&other, &me, reminders));
        let now = me.get(&hub, PATH).await.data(200);
        assert_eq!(
            (&now["push"]["booking"], &now["reminders"]["hourBefore"]),
            (&json!(on), &json!(on))
        );
    }
}

#[tokio::test]
async fn what_is_not_wanted_is_not_pushed_and_in_the_inbox_all_the_same() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(2)).await;
    let practice = hub.practice().await;
    let (me, seeker) = (&practice.person, hub.seeker().await);
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, me, &browser).await;
    let mut socket = Socket::open(&hub, me).await;
    // Asked when the push is due, not when it is written: the change comes in between.
    let wish = practice.wish(practice.slot(1));
    seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    prefer(&hub, me, json!({ "push": { "booking": false } })).await;
    socket.event("notification:new").await;
    hub.becomes("SELECT count(*) FROM outbox WHERE state = 'cancelled'", 1).await;
    let inbox = me.get(&hub, "/v1/notifications").await.data(200);
    assert_eq!(
        (&inbox["unread"], &inbox["notifications"][0]["kind"]),
        (&json!(1), &json!("booking_requested"))
    );

    // Other things are pushed, and bookings again once they are wanted again.
    let open = json!({ "userId": me.id });
    let chat = seeker.post(&hub, "/v1/conversations", open).await.data(201);
    let pair =
        Pair { id: chat["id"].as_str().unwrap().to_owned(), a: seeker.clone(), b: me.clone() };
    let message = pair.post(&hub, &seeker, "hello").await;
    assert_eq!(browser.next(SOON).await.unwrap().plaintext["id"], message["id"]);
    let wish = practice.wish(practice.slot(2));
    seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    prefer(&hub, me, json!({ "push": { "booking": true } })).await;
    let push = browser.next(SOON).await.unwrap().plaintext;
    assert_eq!(push["data"]["kind"], "booking_requested");
    assert_eq!(browser.requests(), 2);
}

#[tokio::test]
async fn pushes_wait_while_it_is_quiet_and_come_when_it_is_not() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, &pair.b, &browser).await;
    prefer(&hub, &pair.b, json!({ "quietHours": quiet_for(120) })).await;
    let first = pair.post(&hub, &pair.a, "one").await;
    let held = "SELECT count(*) FROM outbox WHERE state = 'waiting' AND held
        AND not_before BETWEEN now() + interval '118 min' AND now() + interval '121 min'";
    hub.becomes(held, 1).await;
    // Read meanwhile: it is not pushed at all.
    let read = format!("/v1/conversations/{}/read", pair.id);
    pair.b.post(&hub, &read, json!({ "seq": 1 })).await.data(200);
    assert_eq!(hub.number(held).await, 0);
    let second = pair.post(&hub, &pair.a, "two").await;
    hub.becomes(held, 1).await;
    // Another change of preferences asks anew and finds it still quiet.
    prefer(&hub, &pair.b, json!({ "push": { "review": false } })).await;
    hub.becomes(held, 1).await;
    assert_eq!(browser.requests(), 0);
    prefer(&hub, &pair.b, json!({ "quietHours": null })).await;
    assert_eq!(browser.next(SOON).await.unwrap().plaintext["id"], second["id"]);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(browser.requests(), 1);

    // A shorter night counts at once as well.
    prefer(&hub, &pair.b, json!({ "quietHours": quiet_for(120) })).await;
    let third = pair.post(&hub, &pair.a, "three").await;
    hub.becomes(held, 1).await;
    let night_is_over = json!({ "quietHours": quiet_for(0) });
    prefer(&hub, &pair.b, night_is_over).await;
    assert_eq!(browser.next(SOON).await.unwrap().plaintext["id"], third["id"]);
}

/// A push that is being decided on while the preferences change: who changes them waits for the
/// decision and has it made anew.
#[tokio::test]
async fn no_push_is_held_by_quiet_hours_of_the_past() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let pair = Pair::of(&hub).await;
    hub.with_device(&pair.b).await;
    pair.post(&hub, &pair.a, "hello").await;
    let (url, user_id) = (hub.database_url.clone(), pair.b.id.parse().unwrap());
    // From here on the test is the worker.
    hub.stop().await;
    rows::run(&url, "UPDATE outbox SET not_before = now() - interval '1 s'").await;
    let mut worker = connect(&url).await;
    let mut changer = connect(&url).await;
    let hold = "UPDATE outbox SET held = true, not_before = now() + interval '2 hours'";
    let change = worker
        .transaction::<_, diesel::result::Error, _>(async |worker| {
            diesel_async::RunQueryDsl::execute(diesel::sql_query(hold), worker).await?;
            let change = tokio::spawn(async move {
                preferences::update(&mut changer, user_id, |p| p.quiet_hours = None).await
            });
            let until = Instant::now() + SOON;
            let waits = "pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%outbox%'
                AND datname = current_database()";
            while rows::count(&url, waits).await == 0 {
                assert!(Instant::now() < until, "the change does not wait for the decision");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(change)
        })
        .await
        .unwrap();
    change.await.unwrap().unwrap();
    let due = "outbox WHERE state = 'waiting' AND not_before <= now()";
    assert_eq!(rows::count(&url, due).await, 1);
}

/// Preferences that nobody can read are none; the outbox does not stand still for them.
#[tokio::test]
async fn what_is_stored_and_can_not_be_read_hinders_nothing() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, &pair.b, &browser).await;
    prefer(&hub, &pair.b, json!({ "push": { "message": false } })).await;
    hub.execute("UPDATE notification_preferences SET preferences = '{\"push\": 7}'").await;
    let message = pair.post(&hub, &pair.a, "hello").await;
    assert_eq!(browser.next(SOON).await.unwrap().plaintext["id"], message["id"]);
    assert_eq!(pair.b.get(&hub, PATH).await.data(200)["push"]["message"], true);
}
