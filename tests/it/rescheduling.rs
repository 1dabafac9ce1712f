//! Moving a booking: atomic, by the rules of a new one, told to both, and traceable.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Person, Practice, Socket, TestHub, rows};

struct Booked {
    hub: TestHub,
    practice: Practice,
    seeker: Person,
    id: String,
}

impl Booked {
    async fn at(slot: i64, offer: Value) -> Self {
        let hub = TestHub::start().await;
        let practice = hub.practice_with(offer).await;
        let seeker = hub.seeker().await;
        let booking = seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(slot))).await;
        let id = booking.data(201)["id"].as_str().unwrap().to_owned();
        Self { hub, practice, seeker, id }
    }

    fn path(&self) -> String {
        format!("/v1/bookings/{}", self.id)
    }

    async fn status(&self) -> String {
        let seen = self.seeker.get(&self.hub, &self.path()).await.data(200);
        seen["status"].as_str().unwrap().to_owned()
    }
}

fn confirmed() -> Value {
    json!({ "instantConfirm": true })
}

#[tokio::test]
async fn a_booking_moves_and_names_what_it_was() {
    let b = Booked::at(10, confirmed()).await;
    let mut theirs = Socket::open(&b.hub, &b.practice.person).await;
    let (to, words) = (b.practice.slot(11) + SignedDuration::from_mins(0), "train is late");
    let body = json!({ "startsAt": to, "reason": words });
    let moved = b.seeker.put(&b.hub, &b.path(), body).await.data(200);
    assert_eq!(moved["rescheduledFrom"], b.id.as_str());
    assert_eq!((&moved["status"], &moved["scheduledAt"]), (&json!("confirmed"), &json!(to)));
    assert_eq!(b.status().await, "rescheduled");
    // Both are told, on the socket and in the inbox.
    let old = theirs.event("booking:updated").await;
    assert_eq!(old["data"]["booking"]["status"], "rescheduled");
    let new = theirs.event("booking:created").await;
    assert_eq!(new["data"]["booking"]["id"], moved["id"]);
    for side in [&b.seeker, &b.practice.person] {
        let inbox = side.get(&b.hub, "/v1/notifications").await.data(200);
        assert_eq!(inbox["notifications"][0]["kind"], "booking_moved");
    }
    // The old time is free, the new one is not.
    let other = b.hub.seeker().await;
    let again = b.practice.wish(b.practice.slot(11));
    other.post(&b.hub, "/v1/bookings", again).await.refused(409, "slot_taken");
    other.post(&b.hub, "/v1/bookings", b.practice.wish(b.practice.slot(10))).await.data(201);
    // What ended does not move again; its chain goes on.
    let back = json!({ "startsAt": b.practice.slot(14) });
    let error = b.seeker.put(&b.hub, &b.path(), back.clone()).await;
    assert_eq!(error.refused(409, "invalid_transition")["details"]["state"], "rescheduled");
    let path = format!("/v1/bookings/{}", moved["id"].as_str().unwrap());
    let third = b.seeker.put(&b.hub, &path, back).await.data(200);
    assert_eq!(third["rescheduledFrom"], moved["id"]);
    let chains = "SELECT DISTINCT coalesce(chain_id, id)::text FROM bookings
        WHERE rescheduled_from IS NOT NULL OR id IN (SELECT rescheduled_from FROM bookings)";
    assert_eq!(rows::column(&b.hub.database_url, chains).await, std::slice::from_ref(&b.id));
    let sequences =
        "SELECT ical_sequence::text FROM bookings WHERE chain_id IS NOT NULL ORDER BY 1";
    assert_eq!(rows::column(&b.hub.database_url, sequences).await, ["1", "2"]);
}

#[tokio::test]
async fn a_refused_time_leaves_everything_as_it_was() {
    let b = Booked::at(10, json!({ "instantConfirm": true, "minNoticeMinutes": 60 })).await;
    let other = b.hub.seeker().await;
    other.post(&b.hub, "/v1/bookings", b.practice.wish(b.practice.slot(12))).await.data(201);
    let stored = async || {
        let mut all = rows::contents(&b.hub.database_url).await;
        // Pushes of what was booked go out meanwhile.
        all.retain(|table, _| !["outbox", "push_deliveries"].contains(&table.as_str()));
        all
    };
    let before = stored().await;
    let half = b.practice.slot(14) + SignedDuration::from_mins(30);
    let soon =
        Timestamp::from_second(Timestamp::now().as_second() / 3_600 * 3_600 + 1_800).unwrap();
    let far = b.practice.slot(24 * 120);
    for (start, code, rule) in [
        (b.practice.slot(12), "slot_taken", None),
        (half, "slot_unavailable", Some("grid")),
        (soon - SignedDuration::from_hours(5), "slot_unavailable", Some("in_past")),
        (far, "slot_unavailable", Some("horizon")),
    ] {
        let answer = b.seeker.put(&b.hub, &b.path(), json!({ "startsAt": start })).await;
        let error = answer.refused(409, code);
        assert_eq!(error["details"]["rule"].as_str(), rule);
    }
    let stale = json!({ "startsAt": b.practice.slot(15), "version": 7 });
    b.seeker.put(&b.hub, &b.path(), stale).await.refused(409, "version_conflict");
    let elsewhere = json!({ "startsAt": b.practice.slot(15) });
    other.put(&b.hub, &b.path(), elsewhere.clone()).await.refused(404, "not_found");
    b.seeker.put(&b.hub, &b.path(), json!({})).await.names("startsAt");
    let both = json!({ "startsAt": b.practice.slot(15), "notes": "x" });
    b.seeker.put(&b.hub, &b.path(), both).await.names("notes");
    assert_eq!(stored().await, before);
    // The control: a time that is free.
    b.seeker.put(&b.hub, &b.path(), elsewhere).await.data(200);
}

/// The new time may overlap the old one: a booking is not in its own way.
#[tokio::test]
async fn a_booking_may_move_by_less_than_its_length() {
    let b = Booked::at(10, json!({ "incrementMinutes": 15, "slotGrid": "window" })).await;
    let to = b.practice.slot(10) + SignedDuration::from_mins(15);
    let moved = b.seeker.put(&b.hub, &b.path(), json!({ "startsAt": to })).await.data(200);
    assert_eq!(moved["status"], "pending");
    let path = format!("/v1/bookings/{}", moved["id"].as_str().unwrap());
    b.practice
        .person
        .put(&b.hub, &path, json!({ "startsAt": b.practice.slot(10) }))
        .await
        .data(200);
}

/// What the practitioner agreed to is a request again when the seeker moves it, not when they do.
#[tokio::test]
async fn a_seekers_move_needs_the_practitioners_answer() {
    let b = Booked::at(10, json!({})).await;
    let me = &b.practice.person;
    me.post(&b.hub, &format!("{}/confirm", b.path()), json!({})).await.data(200);
    let to = json!({ "startsAt": b.practice.slot(11) });
    let moved = me.put(&b.hub, &b.path(), to).await.data(200);
    assert_eq!(moved["status"], "confirmed");
    let path = format!("/v1/bookings/{}", moved["id"].as_str().unwrap());
    let to = json!({ "startsAt": b.practice.slot(12) });
    let moved = b.seeker.put(&b.hub, &path, to).await.data(200);
    assert_eq!(moved["status"], "pending");
}

/// Two move to the same free time, from two nodes: one does, the other keeps what it had.
#[tokio::test]
async fn of_two_who_move_to_one_time_one_does() {
    let b = Booked::at(10, confirmed()).await;
    let node = TestHub::start_over(b.hub.database_url.clone(), |_| {}).await;
    let other = b.hub.seeker().await;
    for round in 0..8 {
        let hour = 24 + 4 * round;
        let place = async |who: &Person, n| {
            let wish = b.practice.wish(b.practice.slot(hour + n));
            let booking = who.post(&b.hub, "/v1/bookings", wish).await.data(201);
            format!("/v1/bookings/{}", booking["id"].as_str().unwrap())
        };
        let (one, two) = (place(&b.seeker, 0).await, place(&other, 1).await);
        let to = json!({ "startsAt": b.practice.slot(hour + 2) });
        let (first, second) =
            tokio::join!(b.seeker.put(&b.hub, &one, to.clone()), other.put(&node, &two, to));
        let (won, lost, kept, whose) = if first.status == 200 {
            (first, second, two, &other)
        } else {
            (second, first, one, &b.seeker)
        };
        won.data(200);
        lost.refused(409, "slot_taken");
        assert_eq!(whose.get(&b.hub, &kept).await.data(200)["status"], "confirmed");
    }
}

#[tokio::test]
async fn the_seekers_words_can_be_changed_by_the_seeker() {
    let b = Booked::at(10, json!({})).await;
    let body = json!({ "notes": "I bring a friend.", "version": 1 });
    b.practice.person.put(&b.hub, &b.path(), body.clone()).await.refused(403, "forbidden");
    let edited = b.seeker.put(&b.hub, &b.path(), body.clone()).await.data(200);
    assert_eq!((&edited["notes"], &edited["version"]), (&json!("I bring a friend."), &json!(2)));
    b.seeker.put(&b.hub, &b.path(), body).await.refused(409, "version_conflict");
    b.seeker.put(&b.hub, &b.path(), json!({ "notes": "x".repeat(2_001) })).await.names("notes");
    b.seeker.delete(&b.hub, &b.path()).await.data(200);
    let late = b.seeker.put(&b.hub, &b.path(), json!({ "notes": "late" })).await;
    assert_eq!(late.refused(409, "invalid_transition")["details"]["state"], "cancelled");
}

/// Reminders follow a booking to its new time, and end where it is a request again.
#[tokio::test]
async fn reminders_move_along() {
    let b = Booked::at(10, confirmed()).await;
    let waiting = async || {
        let sql =
            "SELECT booking_id || ' ' || (extract(epoch FROM scheduled_at - due_at) / 60)::int
            FROM reminders JOIN bookings ON id = booking_id WHERE state = 'waiting' ORDER BY 1";
        rows::column(&b.hub.database_url, sql).await
    };
    let both_sides_of = |id: &str| {
        let lines = [format!("{id} 1440"), format!("{id} 60")];
        lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect::<Vec<_>>()
    };
    assert_eq!(waiting().await, both_sides_of(&b.id));
    let to = json!({ "startsAt": b.practice.slot(40) });
    let moved = b.practice.person.put(&b.hub, &b.path(), to).await.data(200);
    let id = moved["id"].as_str().unwrap();
    assert_eq!(waiting().await, both_sides_of(id));
    let offer = json!({ "price": { "amount": 150_000, "currency": "INR" }, "durationMinutes": 60 });
    let service = format!("/v1/practitioners/{}/services/{}", b.practice.id, b.practice.service_id);
    b.practice.person.put(&b.hub, &service, offer).await.data(200);
    let to = json!({ "startsAt": b.practice.slot(50) });
    let moved = b.seeker.put(&b.hub, &format!("/v1/bookings/{id}"), to).await.data(200);
    assert_eq!(moved["status"], "pending");
    assert_eq!(waiting().await, [""; 0]);
}
