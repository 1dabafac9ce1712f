//! What a booking leaves behind: its audit trail, the events of both sides, notifications and
//! pushes, all in the transaction that changed it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Person, Practice, Socket, TestHub, rows};

async fn hold(hub: &TestHub, practice: &Practice, seeker: &Person, slot: i64) -> Value {
    seeker.post(hub, "/v1/holds", practice.wish(practice.slot(slot))).await.data(201)
}

async fn book(hub: &TestHub, seeker: &Person, hold: &Value) -> Value {
    seeker.post(hub, "/v1/bookings", json!({ "holdId": hold["id"] })).await.data(201)
}

fn path(booking: &Value, step: &str) -> String {
    format!("/v1/bookings/{}/{step}", booking["id"].as_str().unwrap())
}

/// Who, what, from, to, why of each entry.
fn lines(trail: &Value) -> Vec<[&Value; 5]> {
    let entries = trail.as_array().unwrap().iter();
    entries
        .map(|e| [&e["actorId"], &e["action"], &e["fromStatus"], &e["toStatus"], &e["reason"]])
        .collect()
}

#[tokio::test]
async fn the_trail_tells_who_did_what_when_and_why() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, admin) = (hub.seeker().await, hub.admin().await);
    let held = hold(&hub, &practice, &seeker, 9).await;
    let booking = book(&hub, &seeker, &held).await;
    practice.person.post(&hub, &path(&booking, "confirm"), json!({})).await.data(200);
    let why = json!({ "reason": "the studio is closed" });
    admin.post(&hub, &path(&booking, "cancel"), why).await.data(200);

    let trail = seeker.get(&hub, &path(&booking, "events")).await.data(200);
    let none = &Value::Null;
    let words = |words: [&str; 3]| words.map(|w| json!(w));
    let [hold, book, confirm, cancel] = [
        words(["hold", "", "held"]),
        words(["book", "held", "pending"]),
        words(["confirm", "pending", "confirmed"]),
        words(["cancel", "confirmed", "cancelled"]),
    ];
    let (me, them, ruler) = (json!(seeker.id), json!(practice.person.id), json!(admin.id));
    let wanted = [
        [&me, &hold[0], none, &hold[2], none],
        [&me, &book[0], &book[1], &book[2], none],
        [&them, &confirm[0], &confirm[1], &confirm[2], none],
        [&ruler, &cancel[0], &cancel[1], &cancel[2], &json!("the studio is closed")],
    ];
    assert_eq!(lines(&trail), wanted);
    let versions: Vec<i64> =
        trail.as_array().unwrap().iter().map(|e| e["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    let whens: Vec<&str> =
        trail.as_array().unwrap().iter().map(|e| e["createdAt"].as_str().unwrap()).collect();
    assert!(whens.is_sorted(), "{whens:?}");
    assert_eq!(practice.person.get(&hub, &path(&booking, "events")).await.data(200), trail);
    let stranger = hub.seeker().await;
    stranger.get(&hub, &path(&booking, "events")).await.refused(404, "not_found");
}

#[tokio::test]
async fn lapses_and_releases_are_in_the_trail_too() {
    let hub = TestHub::start_with(|c| c.booking.hold_ttl = Duration::from_secs(1)).await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut watcher = Socket::open(&hub, &hub.seeker().await).await;
    let channel = json!({ "channel": format!("calendar:{}", practice.id) });
    watcher.ok("subscribe", channel).await;
    let released = hold(&hub, &practice, &seeker, 9).await;
    let released_id = released["id"].as_str().unwrap();
    seeker.delete(&hub, &format!("/v1/holds/{released_id}")).await.data(200);
    hold(&hub, &practice, &seeker, 10).await;
    // Held, released, held, lapsed.
    for _ in 0..4 {
        watcher.event("availability:changed").await;
    }
    let trail = "SELECT concat_ws(' ', e.version, action, from_status, to_status, \
                 CASE WHEN actor_id = b.seeker_id THEN 'seeker' END) AS value \
                 FROM booking_events e JOIN bookings b ON b.id = e.booking_id ORDER BY b.id, 1";
    let wanted = [
        "1 hold held seeker",
        "2 release held released seeker",
        "1 hold held seeker",
        "2 lapse held lapsed",
    ];
    assert_eq!(rows::column(&hub.database_url, trail).await, wanted);
}

/// The names of `person`'s events since `head` as their socket got them; asserts that the seqs are
/// dense and that none is left.
async fn heard(socket: &mut Socket, person: &Person, head: i64, names: &[&str]) {
    let channel = format!("user:{}", person.id);
    let mut got = Vec::new();
    for name in names {
        let event = socket.event(name).await;
        assert_eq!(event["channel"], channel);
        got.push(event["seq"].as_i64().unwrap());
    }
    let wanted: Vec<i64> = (head + 1..).take(names.len()).collect();
    assert_eq!(got, wanted, "{names:?}");
    let pong = socket.ok("ping", json!({})).await;
    assert_eq!(pong["heads"][&channel], *wanted.last().unwrap());
    assert!(socket.events.is_empty(), "{:?}", socket.events);
}

#[tokio::test]
async fn both_sides_hear_of_every_step_once_and_in_order() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let (mut ours, mut theirs) =
        (Socket::open(&hub, &seeker).await, Socket::open(&hub, &practice.person).await);
    let heads: Vec<usize> = vec![
        rows::count(&hub.database_url, &format!("user_events WHERE user_id = '{}'", seeker.id))
            .await,
        rows::count(
            &hub.database_url,
            &format!("user_events WHERE user_id = '{}'", practice.person.id),
        )
        .await,
    ];
    assert_eq!(heads, [0, 0]);

    let held = hold(&hub, &practice, &seeker, 9).await;
    let booking = book(&hub, &seeker, &held).await;
    practice.person.post(&hub, &path(&booking, "confirm"), json!({})).await.data(200);
    seeker.post(&hub, &path(&booking, "cancel"), json!({ "reason": "ill" })).await.data(200);
    let (created, updated, cancelled, notified) =
        ("booking:created", "booking:updated", "booking:cancelled", "notification:new");
    heard(&mut ours, &seeker, 0, &[created, updated, notified, cancelled]).await;
    let names = [created, notified, updated, cancelled, notified];
    heard(&mut theirs, &practice.person, 0, &names).await;

    let held = hold(&hub, &practice, &seeker, 9).await;
    let booking = book(&hub, &seeker, &held).await;
    practice.person.post(&hub, &path(&booking, "decline"), json!({})).await.data(200);
    let declined = ours.event(created).await;
    assert_eq!(declined["data"]["booking"]["id"], booking["id"]);
    ours.event(updated).await;
    ours.event(notified).await;
    // What is replayed is what was live.
    let mut late = Socket::open(&hub, &seeker).await;
    let all = json!({ "channel": format!("user:{}", seeker.id), "since": 0 });
    late.ok("subscribe", all).await;
    let names = [created, updated, notified, cancelled, created, updated, notified];
    heard(&mut late, &seeker, 0, &names).await;
    // Nobody else hears of it: a hold and its lapse are nobody's news, a stranger has none.
    assert_eq!(rows::count(&hub.database_url, "user_channels WHERE last_seq > 0").await, 2);
}

#[tokio::test]
async fn the_other_side_is_notified_in_the_same_transaction() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(60)).await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    hub.with_device(&practice.person).await;
    hub.with_device(&seeker).await;
    let held = hold(&hub, &practice, &seeker, 9).await;
    assert_eq!(rows::count(&hub.database_url, "notifications").await, 0);
    let booking = book(&hub, &seeker, &held).await;
    let (me, them) = (&seeker.id, &practice.person.id);
    for (step, action, kind, side, who) in [
        ("", "book", "booking_requested", them, &seeker),
        ("confirm", "confirm", "booking_confirmed", me, &practice.person),
        ("cancel", "cancel", "booking_cancelled", them, &seeker),
    ] {
        if !step.is_empty() {
            who.post(&hub, &path(&booking, step), json!({})).await.data(200);
        }
        let url = &hub.database_url;
        let told = format!("notifications WHERE kind = '{kind}'");
        assert_eq!(rows::count(url, &told).await, 1, "{kind}");
        assert_eq!(rows::count(url, &format!("{told} AND user_id = '{side}'")).await, 1, "{kind}");
        let of_one = format!(
            "SELECT count(*)::text || ' ' || count(DISTINCT x)::text AS value FROM (
               SELECT xmin::text x FROM booking_events WHERE action = '{action}'
               UNION ALL SELECT xmin::text FROM notifications WHERE kind = '{kind}'
               UNION ALL SELECT o.xmin::text FROM outbox o JOIN notifications n
                   ON o.dedupe_key = n.id::text AND n.kind = '{kind}' AND o.user_id = '{side}'
               UNION ALL SELECT xmin::text FROM user_events
                   WHERE event = 'notification:new' AND data ->> 'kind' = '{kind}') t"
        );
        // Four rows, one transaction.
        assert_eq!(rows::column(url, &of_one).await, ["4 1"], "{kind}");
    }
    assert_eq!(rows::count(&hub.database_url, "outbox").await, 3);
    let inbox = seeker.get(&hub, "/v1/notifications").await.data(200);
    assert!(inbox.to_string().contains("booking_confirmed"), "{inbox:#}");
}
