//! Reviews: once, by the seeker, of what took place; shown to everybody without telling whose an
//! anonymous one is.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::push::{SOON, register};
use crate::support::hub::answer;
use crate::support::push_receiver::PushReceiver;
use crate::support::{Answer, Person, Practice, Socket, TestHub, rows};

async fn review(hub: &TestHub, who: &Person, booking: &str, more: Value) -> Answer {
    let mut body = json!({ "bookingId": booking, "rating": 4 });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    who.post(hub, "/v1/reviews", body).await
}

fn path(review: &Value) -> String {
    format!("/v1/reviews/{}", review["id"].as_str().unwrap())
}

async fn listed(hub: &TestHub, practice: &Practice) -> Value {
    hub.get(&format!("/v1/practitioners/{}/reviews", practice.id)).await.data(200)
}

async fn face(hub: &TestHub, practice: &Practice) -> Value {
    hub.get(&format!("/v1/practitioners/{}", practice.id)).await.data(200)
}

/// A practice that confirms at once.
async fn practice(hub: &TestHub) -> Practice {
    hub.practice_with(json!({ "instantConfirm": true })).await
}

#[tokio::test]
async fn a_completed_session_is_reviewed_once_and_everybody_sees_it() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.completed(&practice, &seeker, 3).await;
    let empty = listed(&hub, &practice).await;
    let none = json!({ "1": 0, "2": 0, "3": 0, "4": 0, "5": 0 });
    assert_eq!(empty["summary"], json!({ "average": 0.0, "count": 0, "stars": none }));
    assert_eq!((&empty["reviews"], &empty["nextCursor"]), (&json!([]), &Value::Null));

    let words = json!({ "comment": "  My shoulder is better.\n" });
    let made = review(&hub, &seeker, &booking, words).await.data(201);
    assert_eq!((&made["bookingId"], &made["rating"]), (&json!(booking), &json!(4)));
    assert_eq!(made["comment"], "My shoulder is better.");
    let again = review(&hub, &seeker, &booking, json!({ "rating": 5 })).await;
    again.refused(409, "already_exists");

    let list = listed(&hub, &practice).await;
    let shown = &list["reviews"][0];
    let profile = seeker.get(&hub, "/v1/users/profile").await.data(200);
    let reviewer = json!({ "id": seeker.id, "firstName": profile["firstName"] });
    assert_eq!((&shown["id"], &shown["reviewer"]), (&made["id"], &reviewer));
    assert_eq!((&shown["rating"], &shown["practitionerId"]), (&json!(4), &json!(practice.id)));
    assert!(shown.get("bookingId").is_none() && !list.to_string().contains(&booking));
    assert!(!list.to_string().contains(profile["lastName"].as_str().unwrap()));
    let stars = json!({ "1": 0, "2": 0, "3": 0, "4": 1, "5": 0 });
    assert_eq!(list["summary"], json!({ "average": 4.0, "count": 1, "stars": stars }));
    let face = face(&hub, &practice).await;
    assert_eq!(
        (&face["rating"], &face["reviewCount"], &face["totalSessions"]),
        (&json!(4.0), &json!(1), &json!(1))
    );
    let own = seeker.get(&hub, "/v1/reviews").await.data(200);
    assert_eq!(own, json!([made]));
    assert_eq!(hub.seeker().await.get(&hub, "/v1/reviews").await.data(200), json!([]));
    let nobody = format!("/v1/practitioners/{}/reviews", Uuid::now_v7());
    hub.get(&nobody).await.refused(404, "not_found");
}

#[tokio::test]
async fn what_may_not_be_reviewed_is_refused_and_changes_nothing() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let (stranger, rival) = (hub.seeker().await, hub.practice().await);
    let done = hub.completed(&practice, &seeker, 1).await;
    let agreed = hub.agreed(&practice, &seeker, 5).await;
    let wish = practice.wish(practice.slot(7));
    let pending = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    let hold = practice.wish(practice.slot(9));
    let hold = seeker.post(&hub, "/v1/holds", hold).await.data(201);
    let before = rows::contents(&hub.database_url).await;

    for (booking, state) in [(json!(agreed), "confirmed"), (pending["id"].clone(), "pending")] {
        let early = review(&hub, &seeker, booking.as_str().unwrap(), json!({})).await;
        let error = early.refused(409, "invalid_transition");
        assert_eq!(error["details"]["state"], state);
        assert!(error["details"]["version"].is_i64());
    }
    // Not even that there is such a booking is told.
    let nowhere = Uuid::now_v7().to_string();
    for (who, booking) in [
        (&stranger, done.as_str()),
        (&stranger, agreed.as_str()),
        (&seeker, hold["id"].as_str().unwrap()),
        (&seeker, nowhere.as_str()),
    ] {
        review(&hub, who, booking, json!({})).await.refused(404, "not_found");
    }
    for who in [&practice.person, &rival.person, &hub.admin().await] {
        review(&hub, who, &done, json!({})).await.refused(403, "forbidden");
    }
    for (more, field) in [
        (json!({ "rating": 0 }), "rating"),
        (json!({ "rating": 6 }), "rating"),
        (json!({ "rating": 4.5 }), "rating"),
        (json!({ "rating": null }), "rating"),
        (json!({ "comment": "x".repeat(2_001) }), "comment"),
        (json!({ "comment": "a\u{0}b" }), "comment"),
        (json!({ "isAnonymous": "yes" }), "isAnonymous"),
        (json!({ "stars": 5 }), "stars"),
        (json!({ "bookingId": "x" }), "bookingId"),
    ] {
        review(&hub, &seeker, &done, more).await.names(field);
    }
    let mut after = rows::contents(&hub.database_url).await;
    // The administrator came meanwhile.
    for table in ["users", "sessions", "refresh_tokens", "user_channels", "audit_log"] {
        after.insert(table.to_owned(), before[table].clone());
    }
    assert_eq!(after, before);
    // The control: what was refused only for its form.
    review(&hub, &seeker, &done, json!({ "comment": "x".repeat(2_000) })).await.data(201);
}

#[tokio::test]
async fn the_practitioner_is_told_in_the_same_transaction_on_every_way() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.completed(&practice, &seeker, 1).await;
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, &practice.person, &browser).await;
    // What was to be said of the booking itself has been.
    hub.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    let mut socket = Socket::open(&hub, &practice.person).await;
    let made = review(&hub, &seeker, &booking, json!({ "rating": 2 })).await.data(201);

    let event = socket.event("notification:new").await;
    let (data, name) = (&event["data"], seeker.email.replace("user", "Name"));
    let name = name.split('@').next().unwrap();
    assert_eq!((&data["kind"], &data["title"]), (&json!("review_received"), &json!("New review")));
    assert_eq!(data["body"], format!("{name} gave you 2 of 5 stars."));
    assert_eq!(data["data"], json!({ "reviewId": made["id"], "rating": 2 }));
    let push = loop {
        let push = browser.next(SOON).await.unwrap().plaintext;
        if push["data"]["kind"] == "review_received" {
            break push;
        }
    };
    assert_eq!((&push["id"], &push["body"]), (&data["notificationId"], &data["body"]));
    let inbox = practice.person.get(&hub, "/v1/notifications?limit=1").await.data(200);
    assert_eq!(inbox["notifications"][0]["id"], data["notificationId"]);
    let id = made["id"].as_str().unwrap();
    let of_one = format!(
        "SELECT count(*)::text || ' ' || count(DISTINCT x)::text FROM (
           SELECT xmin::text x FROM notifications WHERE kind = 'review_received'
           UNION ALL SELECT xmin::text FROM user_events WHERE data ->> 'kind' = 'review_received'
           UNION ALL SELECT xmin::text FROM practitioners WHERE id = '{}'
           UNION ALL SELECT xmin::text FROM reviews WHERE id = '{id}') t",
        practice.id
    );
    assert_eq!(rows::column(&hub.database_url, &of_one).await, ["4 1"]);
}

#[tokio::test]
async fn whose_an_anonymous_review_is_nobody_is_told() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    hub.with_device(&practice.person).await;
    let booking = hub.completed(&practice, &seeker, 1).await;
    let hidden = json!({ "isAnonymous": true, "comment": "Cold room." });
    let made = review(&hub, &seeker, &booking, hidden).await.data(201);
    // Neither the public list, nor anything that the practitioner is told, leads to the seeker.
    let list = listed(&hub, &practice).await;
    assert_eq!(list["reviews"][0]["reviewer"], Value::Null);
    assert_eq!(list["reviews"][0]["comment"], "Cold room.");
    let told = rows::column(
        &hub.database_url,
        "SELECT to_jsonb(n) FROM notifications n WHERE kind = 'review_received'
         UNION ALL SELECT to_jsonb(e) FROM user_events e WHERE data ->> 'kind' = 'review_received'
         UNION ALL SELECT payload FROM outbox WHERE payload ->> 'kind' = 'review_received'",
    )
    .await;
    assert_eq!(told.len(), 3);
    for text in [vec![list.to_string()], told].concat() {
        let name = seeker.email.replace("user", "Name");
        let name = format!("{} ", name.split('@').next().unwrap());
        for secret in [seeker.id.as_str(), booking.as_str(), name.as_str()] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    // The control: its author sees which booking it is of.
    let own = seeker.get(&hub, "/v1/reviews").await.data(200);
    assert_eq!((&own[0]["id"], &own[0]["bookingId"]), (&made["id"], &json!(booking)));
}

#[tokio::test]
async fn its_author_changes_it_for_thirty_days_and_nobody_else() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.completed(&practice, &seeker, 1).await;
    let made = review(&hub, &seeker, &booking, json!({ "comment": "Good." })).await.data(201);
    let (path, change) = (path(&made), json!({ "rating": 1, "comment": "Spite." }));
    for who in [&hub.seeker().await, &practice.person, &hub.admin().await] {
        who.put(&hub, &path, change.clone()).await.refused(403, "forbidden");
    }
    let gone = format!("/v1/reviews/{}", Uuid::now_v7());
    seeker.put(&hub, &gone, change).await.refused(404, "not_found");
    for (body, field) in [
        (json!({ "rating": 6 }), "rating"),
        (json!({ "comment": "x".repeat(2_001) }), "comment"),
        (json!({ "isAnonymous": true }), "isAnonymous"),
        (json!({ "bookingId": booking }), "bookingId"),
    ] {
        seeker.put(&hub, &path, body).await.names(field);
    }
    assert_eq!(face(&hub, &practice).await["rating"], 4.0);

    let changed = seeker.put(&hub, &path, json!({ "rating": 5 })).await.data(200);
    assert_eq!((&changed["rating"], &changed["comment"]), (&json!(5), &json!("Good.")));
    assert!(changed["updatedAt"].as_str() > changed["createdAt"].as_str());
    assert_eq!(face(&hub, &practice).await["rating"], 5.0);
    let changed = seeker.put(&hub, &path, json!({ "comment": " " })).await.data(200);
    assert_eq!((&changed["rating"], &changed["comment"]), (&json!(5), &Value::Null));
    let same = seeker.put(&hub, &path, json!({})).await.data(200);
    assert_eq!(same, changed);

    let written = |ago: &str| format!("UPDATE reviews SET created_at = now() - interval '{ago}'");
    hub.execute(&written("30 days -1 minute")).await;
    seeker.put(&hub, &path, json!({ "rating": 3 })).await.data(200);
    hub.execute(&written("30 days")).await;
    let closed = seeker.put(&hub, &path, json!({ "rating": 1 })).await;
    assert_eq!(closed.refused(409, "edit_closed")["details"], json!({ "days": 30 }));
    assert_eq!(face(&hub, &practice).await["rating"], 3.0);
    // It can be taken away at any time.
    seeker.delete(&hub, &path).await.data(200);
}

#[tokio::test]
async fn a_review_that_is_taken_away_is_gone_with_its_words_and_not_written_again() {
    let hub = TestHub::start().await;
    let (practice, seeker, admin) = (practice(&hub).await, hub.seeker().await, hub.admin().await);
    let mut made = Vec::new();
    for slot in 0..2 {
        let booking = hub.completed(&practice, &seeker, slot).await;
        let words = json!({ "comment": "Not for everybody", "rating": 1 + 4 * slot });
        made.push((review(&hub, &seeker, &booking, words).await.data(201), booking));
    }
    assert_eq!(face(&hub, &practice).await["rating"], 3.0);
    for who in [&hub.seeker().await, &practice.person] {
        who.delete(&hub, &path(&made[0].0)).await.refused(403, "forbidden");
    }
    for (who, (gone, booking), left) in [(&seeker, &made[0], 5.0), (&admin, &made[1], 0.0)] {
        who.delete(&hub, &path(gone)).await.data(200);
        who.delete(&hub, &path(gone)).await.refused(404, "not_found");
        seeker.put(&hub, &path(gone), json!({ "rating": 1 })).await.refused(404, "not_found");
        assert_eq!(face(&hub, &practice).await["rating"], left);
        let again = review(&hub, &seeker, booking, json!({})).await;
        again.refused(409, "already_exists");
    }
    let list = listed(&hub, &practice).await;
    assert_eq!((&list["reviews"], &list["summary"]["count"]), (&json!([]), &json!(0)));
    assert_eq!(seeker.get(&hub, "/v1/reviews").await.data(200), json!([]));
    assert_eq!(rows::count(&hub.database_url, "reviews WHERE comment IS NOT NULL").await, 0);
}

#[tokio::test]
async fn the_list_is_read_by_pages_or_by_cursor_newest_first() {
    let hub = TestHub::start().await;
    let practice = practice(&hub).await;
    let (seeker, late) = (hub.seeker().await, hub.seeker().await);
    let mut ids = Vec::new();
    for slot in 0..5 {
        let booking = hub.completed(&practice, &seeker, slot).await;
        let made = review(&hub, &seeker, &booking, json!({ "rating": slot + 1 })).await.data(201);
        ids.insert(0, made["id"].clone());
    }
    let late_booking = hub.completed(&practice, &late, 9).await;
    let base = format!("/v1/practitioners/{}/reviews", practice.id);
    let ids_of = |list: &Value| -> Vec<Value> {
        list["reviews"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect()
    };
    let second = hub.get(&format!("{base}?page=2&limit=2")).await;
    assert_eq!(ids_of(&second.data(200)), ids[2..4]);
    let paging = json!({ "page": 2, "limit": 2, "total": 5, "totalPages": 3 });
    assert_eq!(second.body["meta"]["pagination"], paging);
    assert_eq!(second.body["data"]["summary"]["average"], 3.0);

    // What comes and goes between two parts moves nothing.
    let mut part = hub.get(&format!("{base}?limit=2")).await.data(200);
    let mut seen = ids_of(&part);
    review(&hub, &late, &late_booking, json!({})).await.data(201);
    seeker.delete(&hub, &format!("/v1/reviews/{}", ids[1].as_str().unwrap())).await.data(200);
    while let Some(cursor) = part["nextCursor"].as_str() {
        part = hub.get(&format!("{base}?limit=2&cursor={cursor}")).await.data(200);
        seen.extend(ids_of(&part));
    }
    assert_eq!(seen, ids);

    // Written at one time: the id decides.
    hub.execute("UPDATE reviews SET created_at = '2026-01-01T00:00:00Z'").await;
    let mut seen = Vec::new();
    let mut path = format!("{base}?limit=1");
    loop {
        let part = hub.get(&path).await.data(200);
        seen.extend(ids_of(&part));
        let Some(cursor) = part["nextCursor"].as_str() else { break };
        path = format!("{base}?limit=1&cursor={cursor}");
    }
    let distinct: BTreeSet<String> = seen.iter().map(ToString::to_string).collect();
    assert_eq!((seen.len(), distinct.len()), (5, 5));

    hub.get(&format!("{base}?page=1&cursor=x")).await.names("cursor");
    hub.get(&format!("{base}?cursor=x")).await.names("cursor");
    hub.get(&format!("{base}?limit=101")).await.names("limit");
    hub.get(&format!("{base}?stars=5")).await.names("stars");
    let own = seeker.get(&hub, "/v1/reviews?limit=3&page=2").await;
    assert_eq!(
        (own.data(200).as_array().unwrap().len(), own.body["meta"]["pagination"]["total"].as_i64()),
        (1, Some(4))
    );
}

#[tokio::test]
async fn of_twenty_reviews_at_once_one_is_taken() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    for round in 0..5 {
        let booking = hub.completed(&practice, &seeker, round).await;
        let posts = (0..20).map(|n| {
            let node = if n % 2 == 0 { &hub } else { &other };
            review(node, &seeker, &booking, json!({ "rating": 1 + n % 5 }))
        });
        let answers = join_all(posts).await;
        assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
        for lost in answers.iter().filter(|a| a.status != 201) {
            lost.refused(409, "already_exists");
        }
        let told = "notifications WHERE kind = 'review_received'";
        let taken = usize::try_from(round).unwrap() + 1;
        assert_eq!(rows::count(&hub.database_url, told).await, taken);
        assert_eq!(rows::count(&hub.database_url, "reviews").await, taken);
    }
}

#[tokio::test]
async fn a_review_sent_again_with_its_key_is_answered_as_the_first_time() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (practice(&hub).await, hub.seeker().await);
    let booking = hub.completed(&practice, &seeker, 1).await;
    let send = async |rating: i32| {
        let body = json!({ "bookingId": booking, "rating": rating });
        let request = hub.request(reqwest::Method::POST, "/v1/reviews").bearer_auth(&seeker.token);
        answer(request.header("idempotency-key", "review-1").json(&body)).await
    };
    let first = send(5).await.data(201);
    assert_eq!(send(5).await.data(201), first);
    send(4).await.refused(422, "idempotency_conflict");
    assert_eq!(rows::count(&hub.database_url, "reviews").await, 1);
}
