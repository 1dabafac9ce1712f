//! Who may do what: everybody at everybody else's things.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Person, Practice, Socket, TestHub, rows};

/// Somebody with one of everything, and others who want it.
struct Town {
    hub: TestHub,
    practice: Practice,
    seeker: Person,
    stranger: Person,
    /// Of another practice.
    rival: Practice,
    admin: Person,
    booking: String,
    hold: String,
    block: String,
    conversation: String,
    message: String,
    device: String,
    notification: String,
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl Town {
    async fn build() -> Self {
        // Nothing is to change by itself while the test compares.
        let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
        let (practice, rival) = (hub.practice().await, hub.practice().await);
        let (seeker, stranger, admin) = (hub.seeker().await, hub.seeker().await, hub.admin().await);
        let wish = practice.wish(practice.slot(10));
        let booking = id_of(&seeker.post(&hub, "/v1/bookings", wish).await.data(201));
        let wish = practice.wish(practice.slot(12));
        let hold = id_of(&seeker.post(&hub, "/v1/holds", wish).await.data(201));
        let owner = &practice.person;
        let body = json!({ "startsAt": practice.slot(20), "endsAt": practice.slot(21) });
        let path = format!("/v1/practitioners/{}/blocks", practice.id);
        let block = id_of(&owner.post(&hub, &path, body).await.data(201));
        let open = json!({ "userId": owner.id });
        let conversation = id_of(&seeker.post(&hub, "/v1/conversations", open).await.data(201));
        let path = format!("/v1/conversations/{conversation}/messages");
        let text = json!({ "clientId": Uuid::new_v4(), "content": "between us" });
        let message = id_of(&seeker.post(&hub, &path, text).await.data(201));
        let fcm = json!({ "fcm": { "token": "t".repeat(100) } });
        let device = id_of(&owner.post(&hub, "/v1/notifications/devices", fcm).await.data(201));
        let inbox = owner.get(&hub, "/v1/notifications").await.data(200);
        let notification = id_of(&inbox["notifications"][0]);
        Self {
            hub,
            practice,
            seeker,
            stranger,
            rival,
            admin,
            booking,
            hold,
            block,
            conversation,
            message,
            device,
            notification,
        }
    }

    async fn ask(&self, who: &Person, method: &str, path: &str, body: &Value) -> Answer {
        let body = (method != "GET").then_some(body);
        let method = method.parse().unwrap();
        self.hub.call(method, path, Some(&who.token), body).await
    }

    /// What is its owners' alone: anybody else hears that there is no such thing.
    fn hidden(&self) -> Vec<(&'static str, String, Value)> {
        let (booking, conversation) = (&self.booking, &self.conversation);
        let message = json!({ "clientId": Uuid::new_v4(), "content": "let me in" });
        let chat = format!("/v1/conversations/{conversation}");
        let theirs = format!("{chat}/messages/{}", self.message);
        let member = format!("{chat}/members/{}", self.seeker.id);
        vec![
            ("GET", format!("/v1/bookings/{booking}"), json!({})),
            ("GET", format!("/v1/bookings/{booking}/events"), json!({})),
            ("GET", format!("/v1/bookings/{booking}/invite.ics"), json!({})),
            ("GET", format!("/v1/bookings/{}/invite.ics", self.hold), json!({})),
            ("POST", format!("/v1/bookings/{booking}/confirm"), json!({})),
            ("POST", format!("/v1/bookings/{booking}/decline"), json!({})),
            ("POST", format!("/v1/bookings/{booking}/cancel"), json!({ "reason": "spite" })),
            ("DELETE", format!("/v1/bookings/{booking}"), json!({})),
            ("GET", format!("/v1/bookings/{}", self.hold), json!({})),
            ("DELETE", format!("/v1/holds/{}", self.hold), json!({})),
            ("GET", format!("/v1/conversations/{conversation}"), json!({})),
            ("GET", format!("/v1/conversations/{conversation}/messages"), json!({})),
            ("POST", format!("/v1/conversations/{conversation}/messages"), message),
            ("POST", format!("/v1/conversations/{conversation}/read"), json!({ "seq": 1 })),
            ("PUT", theirs.clone(), json!({ "content": "spoilt" })),
            ("DELETE", theirs.clone(), json!({})),
            ("PUT", format!("{theirs}/reactions/%F0%9F%91%8D"), json!({})),
            ("DELETE", format!("{theirs}/reactions/%F0%9F%91%8D"), json!({})),
            ("PUT", chat.clone(), json!({ "title": "mine now" })),
            ("GET", format!("{chat}/members"), json!({})),
            ("POST", format!("{chat}/members"), json!({ "userIds": [self.seeker.id] })),
            ("PUT", member.clone(), json!({ "role": "owner" })),
            ("DELETE", member, json!({})),
            ("GET", format!("/v1/conversations/{conversation}/mute"), json!({})),
            ("PUT", format!("/v1/conversations/{conversation}/mute"), json!({})),
            ("DELETE", format!("/v1/conversations/{conversation}/mute"), json!({})),
            ("GET", format!("/v1/conversations/{conversation}/export"), json!({})),
            ("POST", "/v1/notifications/read".into(), json!({ "upTo": self.notification })),
            (
                "POST",
                "/v1/notifications/read".into(),
                json!({ "notificationId": self.notification }),
            ),
            ("DELETE", format!("/v1/notifications/devices/{}", self.device), json!({})),
            ("DELETE", format!("/v1/auth/sessions/{}", self.seeker.session_id), json!({})),
        ]
    }

    /// What everybody sees and only its owner (or an administrator) changes.
    fn kept(&self) -> Vec<(&'static str, String, Value)> {
        let practice = format!("/v1/practitioners/{}", self.practice.id);
        let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 5 });
        let block = json!({ "startsAt": self.practice.slot(1), "endsAt": self.practice.slot(2) });
        let address = json!({ "name": "x", "url": "https://calendar.invalid/x.ics" });
        vec![
            ("PUT", practice.clone(), json!({ "bio": "mine now" })),
            ("PUT", format!("{practice}/availability"), json!({ "timeZone": "UTC" })),
            ("PUT", format!("{practice}/services/{}", self.practice.service_id), offer),
            ("GET", format!("{practice}/schedule"), json!({})),
            ("GET", format!("{practice}/blocks"), json!({})),
            ("POST", format!("{practice}/blocks"), block),
            ("DELETE", format!("{practice}/blocks/{}", self.block), json!({})),
            ("GET", format!("{practice}/external-calendars"), json!({})),
            ("POST", format!("{practice}/external-calendars"), address),
            ("POST", format!("{practice}/calendar-feed"), json!({})),
            ("DELETE", format!("{practice}/calendar-feed"), json!({})),
        ]
    }
}

#[tokio::test]
async fn the_things_of_others_can_be_neither_seen_nor_changed() {
    let town = Town::build().await;
    let before = rows::contents(&town.hub.database_url).await;
    let others = [("a seeker", &town.stranger), ("a practitioner", &town.rival.person)];
    for (name, who) in others {
        for (method, path, body) in town.hidden() {
            let answer = town.ask(who, method, &path, &body).await;
            assert_eq!(answer.status, 404, "{name}: {method} {path}: {:#}", answer.body);
            answer.refused(404, "not_found");
        }
        for (method, path, body) in town.kept() {
            let answer = town.ask(who, method, &path, &body).await;
            assert_eq!(answer.status, 403, "{name}: {method} {path}: {:#}", answer.body);
            answer.refused(403, "forbidden");
        }
    }
    let body = json!({ "holdId": town.hold });
    let stolen = town.ask(&town.stranger, "POST", "/v1/bookings", &body).await;
    stolen.refused(404, "not_found");
    assert_eq!(rows::contents(&town.hub.database_url).await, before);

    // The negative control: the same requests by those whose things they are.
    let refused = |answer: &Answer| answer.status == 404 || answer.status == 403;
    for (method, path, body) in town.hidden().into_iter().filter(|(m, ..)| *m == "GET") {
        let answer = town.ask(&town.seeker, method, &path, &body).await;
        assert_eq!(refused(&answer), path.contains(&town.hold), "{path}: {:#}", answer.body);
    }
    for (method, path, body) in town.kept() {
        let answer = town.ask(&town.practice.person, method, &path, &body).await;
        assert!(answer.status.is_success(), "{method} {path}: {:#}", answer.body);
    }
    town.hub.stop().await;
}

#[tokio::test]
async fn lists_hold_only_what_is_the_callers() {
    let town = Town::build().await;
    let hub = &town.hub;
    for who in [&town.stranger, &town.rival.person] {
        for path in ["/v1/bookings", "/v1/conversations", "/v1/notifications/devices"] {
            assert_eq!(who.get(hub, path).await.data(200), json!([]), "{path}");
        }
        let inbox = who.get(hub, "/v1/notifications").await.data(200);
        assert_eq!(inbox, json!({ "notifications": [], "unread": 0, "nextCursor": null }));
        let sessions = who.get(hub, "/v1/auth/sessions").await.data(200);
        let ids: Vec<_> = sessions.as_array().unwrap().iter().map(id_of).collect();
        assert_eq!(ids, std::slice::from_ref(&who.session_id));
    }
    // The control: the two whose booking it is see it, and the seeker is not told the commission.
    let mine = town.seeker.get(hub, "/v1/bookings").await.data(200);
    assert_eq!((id_of(&mine[0]), mine.as_array().unwrap().len()), (town.booking.clone(), 1));
    assert!(mine[0].get("commissionAmount").is_none());
    let theirs = town.practice.person.get(hub, "/v1/bookings").await.data(200);
    assert_eq!(id_of(&theirs[0]), town.booking);
    assert!(theirs[0]["commissionAmount"]["amount"].is_i64());
    town.hub.stop().await;
}

#[tokio::test]
async fn each_role_has_its_own_doings() {
    let town = Town::build().await;
    let hub = &town.hub;
    let before = rows::contents(&hub.database_url).await;
    let wish = town.rival.wish(town.rival.slot(5));
    for who in [&town.rival.person, &town.practice.person, &town.admin] {
        for path in ["/v1/holds", "/v1/bookings"] {
            who.post(hub, path, wish.clone()).await.refused(403, "forbidden");
        }
    }
    let confirm = format!("/v1/bookings/{}/confirm", town.booking);
    town.seeker.post(hub, &confirm, json!({})).await.refused(403, "forbidden");
    let decline = format!("/v1/bookings/{}/decline", town.booking);
    town.seeker.post(hub, &decline, json!({})).await.refused(403, "forbidden");
    let service = json!({ "name": "Mine", "durationMinutes": 30 });
    for who in [&town.seeker, &town.practice.person] {
        who.post(hub, "/v1/services", service.clone()).await.refused(403, "forbidden");
    }
    let practice = json!({ "availability": { "timeZone": "UTC" } });
    for who in [&town.seeker, &town.admin] {
        who.post(hub, "/v1/practitioners", practice.clone()).await.refused(403, "forbidden");
    }
    let second = town.rival.person.post(hub, "/v1/practitioners", practice).await;
    second.refused(409, "already_exists");
    let admin = json!({
        "email": "root@example.in", "password": "correct horse", "firstName": "R",
        "lastName": "T", "userType": "admin",
    });
    hub.post("/v1/auth/register", admin).await.names("userType");
    assert_eq!(rows::contents(&hub.database_url).await, before);
    town.practice.person.post(hub, &confirm, json!({})).await.data(200);
    town.hub.stop().await;
}

#[tokio::test]
async fn an_administrator_sees_bookings_but_no_conversations() {
    let town = Town::build().await;
    let (hub, admin) = (&town.hub, &town.admin);
    let path = format!("/v1/bookings/{}", town.booking);
    assert_eq!(id_of(&admin.get(hub, &path).await.data(200)), town.booking);
    let events = admin.get(hub, &format!("{path}/events")).await.data(200);
    assert_eq!(events.as_array().unwrap().len(), 1);
    let all = admin.get(hub, "/v1/bookings").await;
    assert_eq!(
        (id_of(&all.data(200)[0]), &all.body["meta"]["pagination"]["total"]),
        (town.booking.clone(), &json!(1))
    );
    let blocks = format!("/v1/practitioners/{}/blocks", town.practice.id);
    assert_eq!(id_of(&admin.get(hub, &blocks).await.data(200)[0]), town.block);

    let before = rows::contents(&hub.database_url).await;
    for (method, path, body) in town.hidden() {
        if path.contains("/bookings/") && !path.contains(&town.hold) {
            continue;
        }
        let answer = town.ask(admin, method, &path, &body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {:#}", answer.body);
    }
    assert_eq!(admin.get(hub, "/v1/conversations").await.data(200), json!([]));
    let practice = format!("/v1/practitioners/{}", town.practice.id);
    admin.put(hub, &practice, json!({ "bio": "x" })).await.refused(403, "forbidden");
    assert_eq!(rows::contents(&hub.database_url).await, before);

    // What an administrator may mend.
    admin.post(hub, &format!("{path}/confirm"), json!({})).await.data(200);
    let actor = format!(
        "SELECT actor_id FROM booking_events WHERE booking_id = '{}' \
        ORDER BY version DESC LIMIT 1",
        town.booking
    );
    assert_eq!(rows::column(&hub.database_url, &actor).await, std::slice::from_ref(&admin.id));
    town.hub.stop().await;
}

#[tokio::test]
async fn sockets_keep_the_same_walls() {
    let town = Town::build().await;
    let before = rows::contents(&town.hub.database_url).await;
    for who in [&town.stranger, &town.rival.person, &town.admin] {
        let mut socket = Socket::open(&town.hub, who).await;
        for channel in [
            format!("user:{}", town.seeker.id),
            format!("conversation:{}", town.conversation),
            format!("presence:{}", town.seeker.id),
        ] {
            let data = json!({ "channel": channel });
            socket.refused("subscribe", data, "not_found").await;
            let resumed = socket.ok("resume", json!({ "channels": { &channel: 0 } })).await;
            assert_eq!(resumed["channels"][&channel]["error"]["code"], "not_found", "{resumed}");
        }
        let conversation = &town.conversation;
        let text = json!({
            "conversationId": conversation, "clientId": Uuid::new_v4(), "type": "text",
            "content": "let me in",
        });
        let of = |seq: i64| json!({ "conversationId": conversation, "seq": seq });
        for (op, data) in [
            ("message:send", text),
            ("message:history", json!({ "conversationId": conversation, "limit": 10 })),
            ("message:received", of(1)),
            ("message:read", of(1)),
            (
                "message:edit",
                json!({ "conversationId": conversation, "messageId": town.message,
                    "content": "spoilt" }),
            ),
            (
                "message:delete",
                json!({ "conversationId": conversation, "messageId": town.message }),
            ),
            (
                "message:react",
                json!({ "conversationId": conversation, "messageId": town.message,
                    "emoji": "👍" }),
            ),
            ("typing:start", json!({ "conversationId": conversation })),
            ("typing:stop", json!({ "conversationId": conversation })),
            ("hold:release", json!({ "holdId": town.hold })),
            ("notification:read", json!({ "notificationId": town.notification })),
        ] {
            socket.refused(op, data, "not_found").await;
        }
        if who.id != town.admin.id {
            let data = json!({ "bookingId": town.booking });
            socket.refused("booking:cancel", data, "not_found").await;
        }
        socket.close().await;
    }
    assert_eq!(rows::contents(&town.hub.database_url).await, before);
    town.hub.stop().await;
}
