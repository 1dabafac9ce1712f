//! Cards of bookings, and the platform's lines about them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Person, Practice, Socket, TestHub};

async fn open(hub: &TestHub, seeker: &Person, practice: &Practice) -> String {
    let body = json!({ "userId": practice.person.id });
    let chat = seeker.post(hub, "/v1/conversations", body).await.data(201);
    chat["id"].as_str().unwrap().to_owned()
}

async fn book(hub: &TestHub, seeker: &Person, practice: &Practice, slot: i64) -> String {
    let wish = practice.wish(practice.slot(slot));
    let booking = seeker.post(hub, "/v1/bookings", wish).await.data(201);
    booking["id"].as_str().unwrap().to_owned()
}

/// What the platform's lines tell, and of which booking.
fn told_of(history: &Value) -> Vec<(&str, &str)> {
    let lines = history.as_array().unwrap().iter();
    lines.map(|m| (m["systemEvent"].as_str().unwrap(), m["bookingId"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_card_shows_a_booking_of_both() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let (mine, theirs) =
        (book(&hub, &seeker, &practice, 5).await, book(&hub, &other, &practice, 7).await);
    let hold = seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(9))).await.data(201);
    let chat = open(&hub, &seeker, &practice).await;
    let path = format!("/v1/conversations/{chat}/messages");
    let card = |booking: &Value| json!({ "clientId": Uuid::new_v4(), "type": "booking", "bookingId": booking });
    let sent = practice.person.post(&hub, &path, card(&json!(mine))).await.data(201);
    assert_eq!((&sent["type"], &sent["bookingId"]), (&json!("booking"), &json!(mine)));
    for foreign in [json!(theirs), hold["id"].clone(), json!(Uuid::new_v4())] {
        practice.person.post(&hub, &path, card(&foreign)).await.names("bookingId");
    }
    seeker.post(&hub, &path, card(&json!(null))).await.names("bookingId");
    let mut words = card(&json!(mine));
    words["content"] = json!("See you there");
    let sent = seeker.post(&hub, &path, words).await.data(201);
    assert_eq!(sent["content"], "See you there");
    // Who is not in the conversation does not learn whether the booking is theirs.
    other.post(&hub, &path, card(&json!(theirs))).await.refused(404, "not_found");
}

#[tokio::test]
async fn the_conversation_hears_what_becomes_of_bookings() {
    let hub = TestHub::start().await;
    // The second node says nothing twice.
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let practice = hub.practice().await;
    let (seeker, quiet) = (hub.seeker().await, hub.seeker().await);
    let before = book(&hub, &seeker, &practice, 2).await;
    let chat = open(&hub, &seeker, &practice).await;
    let lines = "SELECT count(*) FROM messages WHERE message_type = 'system'";
    let mut socket = Socket::open(&other, &seeker).await;
    socket.ok("subscribe", json!({ "channel": format!("conversation:{chat}") })).await;

    let booking = book(&hub, &seeker, &practice, 5).await;
    hub.becomes(lines, 1).await;
    let confirm = format!("/v1/bookings/{booking}/confirm");
    practice.person.post(&hub, &confirm, json!({})).await.data(200);
    hub.becomes(lines, 2).await;
    let to = json!({ "startsAt": practice.slot(8) });
    let moved = seeker.put(&other, &format!("/v1/bookings/{booking}"), to).await.data(200);
    hub.becomes(lines, 3).await;
    let moved = moved["id"].as_str().unwrap().to_owned();
    let cancel = format!("/v1/bookings/{moved}/cancel");
    seeker.post(&hub, &cancel, json!({ "reason": "ill" })).await.data(200);
    hub.becomes(lines, 4).await;
    // Those who have no conversation hear nothing, and nobody hears of holds.
    book(&hub, &quiet, &practice, 11).await;
    seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(13))).await.data(201);
    let decline = format!("/v1/bookings/{before}/decline");
    practice.person.post(&hub, &decline, json!({})).await.data(200);
    hub.becomes(lines, 5).await;
    hub.becomes("SELECT count(*) FROM booking_lines", 0).await;

    let path = format!("/v1/conversations/{chat}/messages?after=0");
    let history = seeker.get(&hub, &path).await.data(200);
    let told = told_of(&history);
    let expected = [
        ("booking:requested", booking.as_str()),
        ("booking:confirmed", booking.as_str()),
        ("booking:rescheduled", moved.as_str()),
        ("booking:cancelled", moved.as_str()),
        ("booking:declined", before.as_str()),
    ];
    assert_eq!(told, expected);
    assert!(history[0]["senderId"].is_null() && history[0]["type"] == "system");
    assert!(history[0]["content"].as_str().unwrap().starts_with("Reiki on "), "{history}");
    // They are no unread messages, and push nothing of their own: that was notified.
    let list = practice.person.get(&hub, "/v1/conversations").await.data(200);
    assert_eq!((&list[0]["unread"], &list[0]["lastSeq"]), (&json!(0), &json!(5)));
    let pushes = "SELECT count(*) FROM outbox WHERE topic LIKE 'conversation:%'";
    assert_eq!(hub.number(pushes).await, 0);
    // Nobody edits them or takes them away.
    let line = history[0]["id"].as_str().unwrap();
    let path = format!("/v1/conversations/{chat}/messages/{line}");
    seeker.delete(&hub, &path).await.refused(403, "forbidden");
    seeker.put(&hub, &path, json!({ "content": "x" })).await.refused(403, "forbidden");
}

#[tokio::test]
async fn the_conversation_hears_of_the_session() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let chat = open(&hub, &seeker, &practice).await;
    let (held, missed) =
        (book(&hub, &seeker, &practice, 2).await, book(&hub, &seeker, &practice, 5).await);
    // The API books nothing in the past.
    for (booking, minutes) in [(&held, 200), (&missed, 20)] {
        let begun = format!(
            "UPDATE bookings SET scheduled_at = at, ends_at = at + interval '1 hour',
                    occupied_from = at, occupied_until = at + interval '1 hour'
               FROM (SELECT now() - make_interval(mins => {minutes})) AS begun (at)
              WHERE id = '{booking}'"
        );
        assert_eq!(hub.execute(&begun).await, 1);
    }
    let lines = "SELECT count(*) FROM messages WHERE message_type = 'system'";
    hub.becomes(lines, 2).await;
    for (booking, step, count) in [(&held, "start", 3), (&held, "end", 4), (&missed, "no-show", 5)]
    {
        let path = format!("/v1/bookings/{booking}/{step}");
        practice.person.post(&hub, &path, json!({})).await.data(200);
        hub.becomes(lines, count).await;
    }
    let path = format!("/v1/conversations/{chat}/messages?after=2");
    let history = seeker.get(&hub, &path).await.data(200);
    let told = told_of(&history);
    let expected = [
        ("booking:started", held.as_str()),
        ("booking:completed", held.as_str()),
        ("booking:missed", missed.as_str()),
    ];
    assert_eq!(told, expected);
    assert!(history[2]["content"].as_str().unwrap().ends_with(" was missed."), "{history}");
}

#[tokio::test]
async fn a_line_that_can_not_be_said_keeps_no_other_waiting() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (stuck, other) = (hub.seeker().await, hub.seeker().await);
    let mute = open(&hub, &stuck, &practice).await;
    open(&hub, &other, &practice).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'nothing is said here'; END $$";
    hub.execute(refuse).await;
    let trigger = format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW
         WHEN (NEW.conversation_id = '{mute}') EXECUTE FUNCTION refuse()"
    );
    hub.execute(&trigger).await;
    for slot in 0..3 {
        book(&hub, &stuck, &practice, 2 * slot).await;
    }
    let lines = "SELECT count(*) FROM messages WHERE message_type = 'system'";
    for n in 1..=3 {
        book(&hub, &other, &practice, 8 + 2 * n).await;
        hub.becomes(lines, n).await;
    }
    hub.becomes("SELECT count(*) FROM booking_lines", 3).await;
    hub.execute("DROP TRIGGER refuse ON messages").await;
    hub.becomes(lines, 6).await;
    // In the order in which it happened.
    let path = format!("/v1/conversations/{mute}/messages?after=0");
    let history = stuck.get(&hub, &path).await.data(200);
    let said: Vec<&str> =
        history.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert!(said.len() == 3 && said.is_sorted(), "{said:?}");
}
