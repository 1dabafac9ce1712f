//! Reminders of agreed sessions: written with the agreement, called off with it, sent once to each
//! side that wants them, whatever the number of nodes and whenever they were down.

use std::time::Duration;

use futures_util::future::join_all;
use hub::models::reminders;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::preferences::{prefer, quiet_for};
use crate::push::{SOON, register};
use crate::support::agreed::begins_in;
use crate::support::postgres::connect;
use crate::support::push_receiver::{PushReceiver, Received};
use crate::support::{Person, Practice, Socket, TestHub, rows};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

// Slots from the tenth on are more than a day away, whatever the hour.

/// A practice that confirms at once.
async fn practice(hub: &TestHub) -> Practice {
    hub.practice_with(json!({ "instantConfirm": true })).await
}

/// The states of all reminders: lead, side, state.
async fn states(hub: &TestHub) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', lead_minutes, CASE WHEN user_id = seeker_id THEN 'seeker'
                 ELSE 'practitioner' END, state)
                 FROM reminders JOIN bookings ON id = booking_id ORDER BY 1";
    rows::column(&hub.database_url, sql).await
}

fn in_state(state: &str) -> String {
    format!("SELECT count(*) FROM reminders WHERE state = '{state}'")
}

/// The reminders in `who`'s inbox, newest first.
async fn reminded(hub: &TestHub, who: &Person) -> Vec<Value> {
    let inbox = who.get(hub, "/v1/notifications?limit=100").await.data(200);
    let all = inbox["notifications"].as_array().unwrap().iter();
    all.filter(|n| n["kind"].as_str().unwrap().starts_with("reminder")).cloned().collect()
}

/// The next push that is a reminder.
async fn next_reminder(browser: &PushReceiver) -> Received {
    loop {
        let push = browser.next(SOON).await.expect("no reminder is pushed");
        if push.plaintext["data"]["kind"].as_str().unwrap().starts_with("reminder") {
            return push;
        }
    }
}

#[tokio::test]
async fn they_are_written_in_the_transaction_that_agrees() {
    let hub = TestHub::start().await;
    let (asked, instant) = (hub.practice().await, practice(&hub).await);
    let seeker = hub.seeker().await;
    // Nobody is reminded of what is not agreed.
    let wish = asked.wish(asked.slot(13));
    let pending = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    let hold = instant.wish(instant.slot(15));
    let hold = seeker.post(&hub, "/v1/holds", hold).await.data(201);
    assert_eq!(states(&hub).await, [""; 0]);

    let id = pending["id"].as_str().unwrap();
    hub.step(&asked, id, "confirm").await;
    let held = json!({ "holdId": hold["id"] });
    seeker.post(&hub, "/v1/bookings", held).await.data(201);
    hub.agreed(&instant, &seeker, 19).await;
    let wanted = [
        "1440 practitioner waiting",
        "1440 seeker waiting",
        "60 practitioner waiting",
        "60 seeker waiting",
    ];
    assert_eq!(states(&hub).await, wanted.map(|line| [line; 3]).concat());
    let wrong = "SELECT count(*) FROM reminders r JOIN bookings b ON b.id = r.booking_id
        JOIN booking_events e ON e.booking_id = b.id AND e.to_status = 'confirmed'
       WHERE due_at <> scheduled_at - make_interval(mins => lead_minutes) OR r.xmin <> e.xmin";
    assert_eq!(hub.number(wrong).await, 0);
}

/// The starts from now on, at most so many hours away.
async fn next_starts(hub: &TestHub, practice: &Practice, hours: i64) -> Vec<Timestamp> {
    let now = Timestamp::now();
    let until = now + jiff::SignedDuration::from_hours(hours);
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={now}&to={until}",
        practice.id, practice.service_id
    );
    let slots = hub.get(&path).await.data(200)["slots"].clone();
    let starts = slots.as_array().unwrap().iter().map(|s| s["start"].as_str().unwrap());
    starts.map(|start| start.parse().unwrap()).collect()
}

#[tokio::test]
async fn what_would_be_late_when_it_is_agreed_is_not_written() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let starts = next_starts(&hub, &practice, 4).await;
    // One within the hour, one within the day.
    for start in &starts[..2] {
        seeker.post(&hub, "/v1/bookings", practice.wish(*start)).await.data(201);
    }
    let leads =
        "SELECT concat_ws(' ', lead_minutes, count(*)) FROM reminders GROUP BY lead_minutes";
    let written = rows::column(&hub.database_url, leads).await;
    // At the full hour the first one may be just more than an hour away.
    assert!(written == ["60 2"] || written == ["60 4"], "{written:?}");
    hub.agreed(&practice, &seeker, 11).await;
    assert_eq!(hub.number("SELECT count(*) FROM reminders WHERE lead_minutes = 1440").await, 2);
}

#[tokio::test]
async fn what_ends_the_agreement_calls_them_off() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let (asked, other) = (hub.practice().await, hub.seeker().await);
    let cancelled = hub.agreed(&practice, &seeker, 11).await;
    let path = format!("/v1/bookings/{cancelled}/cancel");
    seeker.post(&hub, &path, json!({})).await.data(200);
    assert_eq!(hub.number(&in_state("cancelled")).await, 4);
    // A request that is declined has none.
    let wish = asked.wish(asked.slot(11));
    let declined = other.post(&hub, "/v1/bookings", wish).await.data(201);
    hub.step(&asked, declined["id"].as_str().unwrap(), "decline").await;
    assert_eq!(hub.number("SELECT count(*) FROM reminders").await, 4);
    // A session that begins before its time needs no reminder, nor does one that was missed.
    let early = hub.agreed(&practice, &seeker, 13).await;
    // The booking alone moves, so that its reminders stay to come.
    let at = |id: &str, minutes: i64| {
        let start = format!("now() + make_interval(mins => {minutes})");
        format!(
            "UPDATE bookings SET scheduled_at = {start}, ends_at = {start} + interval '1 hour',
                    occupied_from = {start}, occupied_until = {start} + interval '1 hour'
              WHERE id = '{id}'"
        )
    };
    hub.execute(&at(&early, 9)).await;
    hub.step(&practice, &early, "start").await;
    assert_eq!(hub.number(&in_state("cancelled")).await, 8);
    let missed = hub.agreed(&practice, &seeker, 16).await;
    hub.execute(&at(&missed, -90)).await;
    hub.step(&practice, &missed, "no-show").await;
    assert_eq!(hub.number(&in_state("cancelled")).await, 12);
    // The slot that was freed is booked anew, with reminders of its own.
    hub.agreed(&practice, &other, 11).await;
    assert_eq!(hub.number(&in_state("waiting")).await, 4);
}

#[tokio::test]
async fn both_sides_are_reminded_on_every_way_once() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let (ours, theirs) =
        (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    register(&hub, &seeker, &ours).await;
    register(&hub, &practice.person, &theirs).await;
    let booking = hub.agreed(&practice, &seeker, 14).await;
    let mut socket = Socket::open(&hub, &seeker).await;
    for (begins, kind) in [(DAY - 5, "reminder_day_before"), (HOUR - 5, "reminder_hour_before")] {
        hub.begins_in(&booking, begins).await;
        let event = socket.event("notification:new").await;
        let data = &event["data"];
        let seen = seeker.get(&hub, &format!("/v1/bookings/{booking}")).await.data(200);
        let start: Timestamp = seen["scheduledAt"].as_str().unwrap().parse().unwrap();
        let local = start.in_tz("Asia/Kolkata").unwrap();
        let when = local.strftime("%a %-d %b %Y, %H:%M");
        assert_eq!(data["body"], format!("Reiki on {when} (Asia/Kolkata)."));
        assert_eq!((&data["kind"], &data["title"]), (&json!(kind), &json!("Upcoming session")));
        assert_eq!(
            (&data["data"]["bookingId"], &data["data"]["timeZone"]),
            (&json!(booking), &json!("Asia/Kolkata"))
        );
        for (browser, who) in [(&ours, &seeker), (&theirs, &practice.person)] {
            let push = next_reminder(browser).await;
            let inbox = reminded(&hub, who).await;
            assert_eq!((&push.plaintext["id"], &inbox[0]["kind"]), (&inbox[0]["id"], &json!(kind)));
            assert_eq!(push.plaintext["body"], data["body"]);
            // A device that is off is not reminded of what is over.
            let left = u64::try_from(begins).unwrap();
            assert!(push.ttl <= left && push.ttl + 60 > left, "{} of {left}", push.ttl);
        }
    }
    assert_eq!(hub.number(&in_state("sent")).await, 4);
    // Inbox, push and event came in one transaction each.
    let parted = "SELECT count(*) FROM reminders r JOIN notifications n ON n.id = r.notification_id
        LEFT JOIN user_events e ON e.data ->> 'notificationId' = n.id::text AND e.xmin = n.xmin
       WHERE r.xmin <> n.xmin OR e.seq IS NULL";
    assert_eq!(hub.number(parted).await, 0);
    assert_eq!(
        (reminded(&hub, &seeker).await.len(), reminded(&hub, &practice.person).await.len()),
        (2, 2)
    );
}

/// Neither two nodes at once nor a row that comes due again reminds anybody twice.
#[tokio::test]
async fn two_nodes_never_remind_twice() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let nodes = [
        &hub,
        &TestHub::start_over(hub.database_url.clone(), |_| {}).await,
        &TestHub::start_over(hub.database_url.clone(), |_| {}).await,
    ];
    let practices = [practice(&hub).await, practice(&hub).await];
    let seekers = [hub.seeker().await, hub.seeker().await, hub.seeker().await];
    let bookings = join_all((0..40_usize).map(async |n| {
        let slot = i64::try_from(n / 2).unwrap() + 10;
        nodes[n % 3].agreed(&practices[n % 2], &seekers[n % 3], slot).await
    }))
    .await;
    assert_eq!(bookings.len(), 40);
    // All at once: every session is an hour away or a little less.
    rows::run(&hub.database_url, "ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap").await;
    begins_in(&hub.database_url, "true", HOUR - 60).await;
    hub.becomes(&in_state("waiting"), 0).await;
    // Of the two that are due, the nearer one.
    assert_eq!(
        (hub.number(&in_state("sent")).await, hub.number(&in_state("dropped")).await),
        (80, 80)
    );
    let told = "SELECT count(*) FROM notifications WHERE kind LIKE 'reminder%'";
    assert_eq!(hub.number(told).await, 80);
    let events = "SELECT count(*) FROM user_events WHERE data ->> 'kind' LIKE 'reminder%'";
    assert_eq!(hub.number(events).await, 80);
    let each =
        "SELECT count(DISTINCT data #>> '{data,bookingId}' || user_id::text) FROM user_events
        WHERE data ->> 'kind' LIKE 'reminder%'";
    assert_eq!(hub.number(each).await, 80);

    hub.execute("UPDATE reminders SET state = 'waiting' WHERE state = 'sent'").await;
    hub.becomes(&in_state("waiting"), 0).await;
    assert_eq!((hub.number(told).await, hub.number(events).await), (80, 80));
}

#[tokio::test]
async fn who_does_not_want_reminders_gets_none() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let (ours, theirs) =
        (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    register(&hub, &seeker, &ours).await;
    register(&hub, &practice.person, &theirs).await;
    let booking = hub.agreed(&practice, &seeker, 14).await;
    // Said after the reminders were written. The practitioner wants them, but not as pushes.
    prefer(&hub, &seeker, json!({ "reminders": { "dayBefore": false } })).await;
    prefer(&hub, &practice.person, json!({ "push": { "reminder": false } })).await;
    hub.begins_in(&booking, DAY - 5).await;
    let settled = [
        "1440 practitioner sent",
        "1440 seeker dropped",
        "60 practitioner waiting",
        "60 seeker waiting",
    ];
    hub.becomes(&in_state("waiting"), 2).await;
    assert_eq!(states(&hub).await, settled);
    assert_eq!(reminded(&hub, &seeker).await, [Value::Null; 0]);
    assert_eq!(reminded(&hub, &practice.person).await.len(), 1);
    hub.begins_in(&booking, HOUR - 5).await;
    let push = next_reminder(&ours).await;
    assert_eq!(push.plaintext["data"]["kind"], "reminder_hour_before");
    hub.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    assert_eq!(reminded(&hub, &practice.person).await.len(), 2);
    // The practitioner's browser works: it gets what is wanted.
    let open = json!({ "userId": practice.person.id });
    let chat = seeker.post(&hub, "/v1/conversations", open).await.data(201);
    let id = chat["id"].as_str().unwrap().to_owned();
    let pair = Pair { id, a: seeker.clone(), b: practice.person.clone() };
    let message = pair.post(&hub, &seeker, "see you").await;
    loop {
        let push = theirs.next(SOON).await.unwrap().plaintext;
        assert!(!push["data"]["kind"].as_str().unwrap().starts_with("reminder"), "{push}");
        if push["id"] == message["id"] {
            break;
        }
    }
}

#[tokio::test]
async fn at_night_a_reminder_waits_unless_it_would_come_too_late() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::ZERO).await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, &seeker, &browser).await;
    let night = quiet_for(50);
    let mut night_abroad = night.clone();
    night_abroad["timeZone"] = json!("Europe/Rome");
    prefer(&hub, &seeker, json!({ "quietHours": night })).await;
    let booking = hub.agreed(&practice, &seeker, 14).await;
    hub.begins_in(&booking, DAY - 5).await;
    let held = "SELECT count(*) FROM outbox WHERE held AND state = 'waiting'
        AND payload ->> 'kind' = 'reminder_day_before'";
    hub.becomes(held, 1).await;
    assert_eq!(reminded(&hub, &seeker).await.len(), 1);
    // Ten minutes after the night: at once.
    hub.begins_in(&booking, HOUR - 5).await;
    let push = next_reminder(&browser).await;
    assert_eq!(push.plaintext["data"]["kind"], "reminder_hour_before");
    assert_eq!(hub.number(held).await, 1);
    // What was held back is called off with the session.
    let path = format!("/v1/bookings/{booking}/cancel");
    practice.person.post(&hub, &path, json!({})).await.data(200);
    assert_eq!(hub.number(held).await, 0);

    // Who says where they live is told the time of there.
    prefer(&hub, &seeker, json!({ "quietHours": night_abroad })).await;
    let booking = hub.agreed(&practice, &seeker, 16).await;
    hub.begins_in(&booking, DAY - 5).await;
    hub.becomes("SELECT count(*) FROM notifications WHERE body LIKE '%(Europe/Rome).'", 1).await;
    let theirs = &reminded(&hub, &practice.person).await[0];
    assert!(theirs["body"].as_str().unwrap().ends_with("(Asia/Kolkata)."), "{theirs}");
}

#[tokio::test]
async fn what_came_due_while_the_hub_was_down_comes_when_it_is_up() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, &seeker, &browser).await;
    let (late, over, both, far) = (
        hub.agreed(&practice, &seeker, 12).await,
        hub.agreed(&practice, &seeker, 14).await,
        hub.agreed(&practice, &seeker, 16).await,
        hub.agreed(&practice, &seeker, 18).await,
    );
    // What was to be said of the bookings themselves has been.
    hub.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    let url = hub.database_url.clone();
    hub.stop().await;
    for (booking, begins) in
        [(&late, DAY - 5 * HOUR), (&over, -HOUR), (&both, HOUR / 2), (&far, 2 * DAY)]
    {
        begins_in(&url, &format!("id = '{booking}'"), begins).await;
    }
    let hub = TestHub::start_over(url, |_| {}).await;
    let kinds = [next_reminder(&browser).await, next_reminder(&browser).await];
    let mut kinds = kinds.map(|push| {
        let data = &push.plaintext["data"];
        (data["bookingId"].as_str().unwrap().to_owned(), data["kind"].as_str().unwrap().to_owned())
    });
    kinds.sort_by(|a, b| a.1.cmp(&b.1));
    // Late is better than never, unless the session has begun or a nearer reminder is due.
    let wanted = [(late, "reminder_day_before"), (both, "reminder_hour_before")];
    assert_eq!(kinds, wanted.map(|(booking, kind)| (booking, kind.to_owned())));
    hub.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    assert_eq!(reminded(&hub, &seeker).await.len(), 2);
    let dropped = |booking: &str| {
        format!(
            "SELECT count(*) FROM reminders WHERE state = 'dropped' AND booking_id = '{booking}'"
        )
    };
    assert_eq!(hub.number(&dropped(&over)).await, 4);
    assert_eq!(hub.number(&dropped(&far)).await, 0);
    assert_eq!(hub.number(&in_state("waiting")).await, 6);
}

/// A row says only that somebody may have to be reminded: the booking says whether.
#[tokio::test]
async fn what_is_not_agreed_for_that_time_any_more_is_dropped() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let off = hub.agreed(&practice, &seeker, 12).await;
    let moved = hub.agreed(&practice, &seeker, 14).await;
    hub.begins_in(&off, DAY + HOUR).await;
    hub.begins_in(&moved, DAY + 3 * HOUR).await;
    hub.execute(&format!("UPDATE bookings SET status = 'cancelled' WHERE id = '{off}'")).await;
    let later = format!(
        "UPDATE bookings SET ends_at = ends_at + interval '1 day', occupied_until =
        occupied_until + interval '1 day', scheduled_at = scheduled_at + interval '1 day'
        WHERE id = '{moved}'"
    );
    hub.execute(&later).await;
    hub.execute("UPDATE reminders SET due_at = due_at - interval '4 hours'").await;
    hub.becomes(&in_state("dropped"), 4).await;
    assert_eq!(
        hub.number("SELECT count(*) FROM notifications WHERE kind LIKE 'reminder%'").await,
        0
    );
}

/// Moves and series pass the same place as everything else that agrees or ends an agreement.
#[tokio::test]
async fn moves_and_series_have_reminders_of_their_own_times() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.agreed(&practice, &seeker, 14).await;
    let to = json!({ "startsAt": practice.slot(20) });
    let moved = seeker.put(&hub, &format!("/v1/bookings/{booking}"), to).await.data(200);
    let of = |id: &str, state: &str| {
        format!(
            "SELECT count(*) FROM reminders JOIN bookings ON id = booking_id
              WHERE id = '{id}' AND state = '{state}'
                AND due_at = scheduled_at - make_interval(mins => lead_minutes)"
        )
    };
    assert_eq!(hub.number(&of(&booking, "cancelled")).await, 4);
    assert_eq!(hub.number(&of(moved["id"].as_str().unwrap(), "waiting")).await, 4);
    let mut series = practice.wish(practice.slot(30));
    series["count"] = json!(3);
    seeker.post(&hub, "/v1/bookings/series", series).await.data(201);
    assert_eq!(hub.number(&in_state("waiting")).await, 4 + 12);
}

#[tokio::test]
async fn the_time_is_told_where_the_practitioner_is_that_day() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.agreed(&practice, &seeker, 14).await;
    let day = |days: i64| {
        (Timestamp::now() + jiff::SignedDuration::from_hours(24 * days)).to_string()[..10]
            .to_owned()
    };
    let stay = json!({ "from": day(-2), "to": day(5), "timeZone": "Europe/Rome" });
    hub.execute(&format!(
        "UPDATE practitioners SET availability = availability || '{}'",
        json!({ "travel": [stay] })
    ))
    .await;
    hub.begins_in(&booking, DAY - 5).await;
    hub.becomes("SELECT count(*) FROM notifications WHERE body LIKE '%(Europe/Rome).'", 2).await;
}

/// What a rescheduling in place does: the same booking at another time is reminded of anew.
#[tokio::test]
async fn a_booking_that_moves_takes_its_reminders_along() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.agreed(&practice, &seeker, 14).await;
    let id: Uuid = booking.parse().unwrap();
    hub.begins_in(&booking, DAY - 5).await;
    hub.becomes(&in_state("sent"), 2).await;
    let mut conn = connect(&hub.database_url).await;
    for days in [2, 3, 3] {
        // The last round changes nothing: what was agreed already is not agreed anew.
        hub.execute(&format!(
            "UPDATE bookings SET scheduled_at = date_trunc('day', now())
            + interval '{days} days', ends_at = now() + interval '4 days',
            occupied_until = now() + interval '4 days'"
        ))
        .await;
        reminders::cancel(&mut conn, &[id]).await.unwrap();
        reminders::schedule(&mut conn, &[id, id]).await.unwrap();
        let right = "SELECT count(*) FROM reminders JOIN bookings ON id = booking_id
            WHERE state = 'waiting' AND due_at = scheduled_at - make_interval(mins => lead_minutes)";
        assert_eq!(hub.number(right).await, 4, "{days}");
    }
    hub.begins_in(&booking, DAY - 5).await;
    hub.becomes(&in_state("sent"), 2).await;
    assert_eq!(reminded(&hub, &seeker).await.len(), 2);
    // Nothing is written for what is not agreed, and moving into the near future writes no more.
    hub.execute("UPDATE bookings SET status = 'cancelled'").await;
    reminders::cancel(&mut conn, &[id]).await.unwrap();
    reminders::schedule(&mut conn, &[id]).await.unwrap();
    assert_eq!(hub.number(&in_state("cancelled")).await, 4);
    assert_eq!(hub.number("SELECT count(*) FROM outbox WHERE state = 'waiting' AND payload ->> 'kind' LIKE 'reminder%'").await, 0);
}

#[tokio::test]
async fn of_a_group_the_practitioner_is_reminded_once() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let group = json!({ "instantConfirm": true, "capacity": 5 });
    let practice = hub.practice_with(group).await;
    let (first, second) = (hub.seeker().await, hub.seeker().await);
    for who in [&first, &second, &practice.person] {
        hub.with_device(who).await;
    }
    let booking = hub.agreed(&practice, &first, 14).await;
    let seat = hub.agreed(&practice, &second, 14).await;
    let due = "WITH moved AS (UPDATE bookings SET scheduled_at = now() + interval '59 min',
            ends_at = now() + interval '2 hours', occupied_from = now(),
            occupied_until = now() + interval '2 hours')
        UPDATE reminders SET due_at = now() + interval '59 min' - make_interval(mins => lead_minutes)";
    hub.execute(due).await;
    hub.becomes(&in_state("sent"), 4).await;
    for who in [&first, &second, &practice.person] {
        assert_eq!(reminded(&hub, who).await.len(), 1);
    }
    // One who cancels takes only their own push along, the last one the practitioner's, too.
    let waiting = "SELECT count(*) FROM outbox WHERE state = 'waiting'
        AND payload ->> 'kind' LIKE 'reminder%'";
    assert_eq!(hub.number(waiting).await, 3);
    for (who, booking, left) in [(&first, &booking, 2), (&second, &seat, 0)] {
        let path = format!("/v1/bookings/{booking}/cancel");
        who.post(&hub, &path, json!({})).await.data(200);
        assert_eq!(hub.number(waiting).await, left);
    }
}
