//! What the fuzzer draws from: ids that exist, bodies that fit, and everything else.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Person, Practice, TestHub};

/// Somebody of each role, and one of each thing.
pub struct World {
    pub hub: TestHub,
    practice: Practice,
    pub people: Vec<Person>,
    /// Ids that exist, of all kinds.
    pub ids: Vec<String>,
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl World {
    /// Everybody and everything, over the API.
    pub async fn build() -> Self {
        let hub =
            TestHub::start_with(|c| c.http.trusted_proxies = vec![[127, 0, 0, 1].into()]).await;
        let (practice, seeker, admin) =
            (hub.practice().await, hub.seeker().await, hub.admin().await);
        let wish = |n| practice.wish(practice.slot(n));
        let booking = seeker.post(&hub, "/v1/bookings", wish(10)).await.data(201);
        let hold = seeker.post(&hub, "/v1/holds", wish(12)).await.data(201);
        let open = json!({ "userId": practice.person.id });
        let conversation = seeker.post(&hub, "/v1/conversations", open).await.data(201);
        let inbox = practice.person.get(&hub, "/v1/notifications").await.data(200);
        let ids = vec![
            practice.id.clone(),
            practice.service_id.clone(),
            id_of(&booking),
            id_of(&hold),
            id_of(&conversation),
            id_of(&inbox["notifications"][0]),
            seeker.id.clone(),
            practice.person.id.clone(),
        ];
        let people = vec![seeker, practice.person.clone(), admin];
        Self { hub, practice, people, ids }
    }

    fn chat_bodies(&self) -> Vec<Value> {
        vec![
            json!({ "kind": "group", "title": "t", "memberIds": [self.ids[7]] }),
            json!({ "title": "t" }),
            json!({ "userIds": [self.ids[7]] }),
            json!({ "role": "admin" }),
            json!({ "readReceipts": true }),
            json!({ "content": "c" }),
            json!({ "clientId": Uuid::new_v4(), "type": "booking", "bookingId": self.ids[2] }),
        ]
    }

    /// Bodies that fit some route, to be spoilt.
    pub fn valid_bodies(&self) -> Vec<Value> {
        let slot = self.practice.slot(20);
        let weekly = json!([{ "weekday": 1, "start": "09:00", "end": "17:00" }]);
        let price = json!({ "amount": 100, "currency": "INR" });
        let hours = json!({ "timeZone": "Asia/Kolkata", "weekly": weekly,
            "overrides": [{ "date": "2027-01-01", "windows": [{ "start": "09:00", "end": "10:00" }] }],
            "travel": [{ "from": "2027-02-01", "to": "2027-02-03", "timeZone": "Pacific/Apia" }],
            "holidays": { "country": "IN", "region": "TN", "except": ["2027-01-26"] } });
        let weekly_lunch = json!({ "every": "week", "interval": 1, "until": "2027-12-31" });
        let others = vec![
            json!({ "email": "f@example.in", "password": "long enough", "firstName": "F",
                "lastName": "Z", "phone": "+919812345678", "userType": "seeker" }),
            json!({ "email": "f@example.in", "password": "long enough" }),
            json!({ "refreshToken": "x" }),
            json!({ "firstName": "F", "gender": "x", "dateOfBirth": "1990-01-01" }),
            json!({ "name": "S", "description": "d", "durationMinutes": 60, "basePrice": price }),
            json!({ "bio": "b", "experienceYears": 3, "hourlyRate": price, "languages": ["en"],
                "specializations": ["reiki"], "certifications": [{ "name": "c" }] }),
            json!({ "bio": "b", "availability": hours }),
            hours,
            json!({ "price": price, "durationMinutes": 60, "bufferBeforeMinutes": 5,
                "incrementMinutes": 30, "slotGrid": "window", "instantConfirm": true,
                "horizon": { "kind": "range", "from": "2027-01-01", "to": "2027-12-31" },
                "otherDurations": [{ "durationMinutes": 90, "price": price }],
                "maxPerDay": 5, "maxPerWeek": 20 }),
            json!({ "price": price, "durationMinutes": 60, "horizon": { "kind": "rollingWindow",
                "days": 5, "businessDays": true } }),
            json!({ "timeZone": "Asia/Kolkata", "limits": { "perDay": 3, "perWeek": 9 } }),
            json!({ "practitionerId": self.ids[0], "serviceId": self.ids[1], "startsAt": slot,
                "durationMinutes": 60 }),
            json!({ "startsAt": slot, "endsAt": self.practice.slot(21), "reason": "r" }),
            json!({ "startsAt": slot, "endsAt": self.practice.slot(21),
                "recurrence": weekly_lunch }),
            json!({ "startsAt": slot, "endsAt": self.practice.slot(21), "recurrence":
                { "every": "month", "weekdays": [1], "nth": -1, "until": "2027-12-31" } }),
            self.practice.wish(slot),
            json!({ "holdId": self.ids[3], "notes": "n" }),
            json!({ "reason": "r", "version": 1 }),
            json!({ "name": "n", "url": "https://calendar.invalid/x.ics" }),
            json!({ "userId": self.ids[7] }),
            json!({ "clientId": Uuid::new_v4(), "type": "text", "content": "c" }),
            json!({ "clientId": Uuid::new_v4(), "content": "c", "replyTo": self.ids[0] }),
            json!({ "clientId": Uuid::new_v4(), "type": "image", "content": "c",
                "attachments": [self.ids[0]] }),
            json!({ "until": "2027-01-01T00:00:00Z" }),
            json!({ "userId": self.ids[7], "reason": "spam", "details": "d" }),
            json!({ "outcome": "upheld", "note": "n" }),
            json!({ "seq": 1 }),
            json!({ "notificationId": self.ids[5] }),
            json!({ "upTo": self.ids[5] }),
            json!({ "bookingId": self.ids[2], "rating": 5, "comment": "c", "isAnonymous": true }),
            json!({ "rating": 4, "comment": "c" }),
            json!({ "push": { "booking": true, "message": false }, "reminders":
                { "dayBefore": true, "hourBefore": false }, "quietHours":
                { "from": "22:00", "to": "07:00", "timeZone": "Asia/Kolkata" } }),
            json!({ "fcm": { "token": "t".repeat(100) }, "label": "l" }),
            json!({ "webPush": { "endpoint": "https://push.example.net/x",
                "expirationTime": null, "keys": { "p256dh": "x", "auth": "y" } } }),
            json!({}),
        ];
        [others, self.chat_bodies()].concat()
    }

    pub fn valid_commands(&self) -> Vec<(&'static str, Value)> {
        let (hold, conversation) = (&self.ids[3], &self.ids[4]);
        let of = |seq: i64| json!({ "conversationId": conversation, "seq": seq });
        vec![
            ("auth", json!({ "token": self.people[0].token })),
            ("subscribe", json!({ "channel": format!("calendar:{}", self.ids[0]), "since": 0 })),
            ("subscribe", json!({ "channel": format!("conversation:{conversation}") })),
            ("resume", json!({ "channels": { (format!("user:{}", self.ids[6])): 0 } })),
            ("unsubscribe", json!({ "channel": format!("calendar:{}", self.ids[0]) })),
            ("ping", json!({})),
            (
                "message:send",
                json!({ "conversationId": conversation, "type": "text",
                "clientId": Uuid::new_v4(), "content": "c" }),
            ),
            ("message:received", of(1)),
            ("message:read", of(1)),
            ("message:history", json!({ "conversationId": conversation, "before": 9, "limit": 5 })),
            ("typing:start", json!({ "conversationId": conversation })),
            ("typing:stop", json!({ "conversationId": conversation })),
            ("presence:set", json!({ "state": "away" })),
            (
                "availability:get",
                json!({ "practitionerId": self.ids[0],
                "serviceId": self.ids[1], "from": "2027-01-01", "to": "2027-01-05" }),
            ),
            ("hold:create", self.practice.wish(self.practice.slot(22))),
            ("hold:release", json!({ "holdId": hold })),
            ("booking:create", json!({ "holdId": hold })),
            ("booking:cancel", json!({ "bookingId": self.ids[2], "reason": "r" })),
            ("notification:read", json!({ "notificationId": self.ids[5] })),
            ("notification:received", json!({ "upTo": self.ids[5] })),
            (
                "message:edit",
                json!({ "conversationId": conversation, "messageId": self.ids[2], "content": "c" }),
            ),
            ("message:delete", json!({ "conversationId": conversation, "messageId": self.ids[2] })),
            (
                "message:react",
                json!({ "conversationId": conversation, "messageId": self.ids[2],
                "emoji": "👍", "remove": true }),
            ),
            ("", json!({})),
        ]
    }

    /// Any text, with those that mean something among them.
    pub fn texts(&self) -> BoxedStrategy<String> {
        let known = [
            "",
            " ",
            "\0",
            "a\0b",
            "2027-01-01",
            "-009999-01-01",
            "9999-12-31T23:59:59.999999999Z",
            "-009999-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "2027-03-28T01:30:00+14:00",
            "24:00",
            "25:61",
            "Asia/Kolkata",
            "Pacific/Apia",
            "user:",
            "calendar:x",
            "INR",
            "practitioner",
            "held",
            "NaN",
            "'; --",
            "%",
            "\u{202e}\u{feff}",
            "🪷",
            "\\u0000",
            "00000000-0000-0000-0000-000000000000",
        ];
        let mut pool: Vec<String> = known.iter().map(|s| (*s).to_owned()).collect();
        pool.extend(self.ids.clone());
        pool.extend(["x".repeat(300), "क".repeat(9_000)]);
        prop_oneof![
            4 => proptest::sample::select(pool),
            1 => ".{0,40}",
            1 => proptest::collection::vec(any::<char>(), 0..30).prop_map(String::from_iter),
        ]
        .boxed()
    }

    fn leaves(&self) -> BoxedStrategy<Value> {
        let edges = vec![0, -1, 1, 1_440, 1_441, i64::MAX, i64::MIN, i64::from(i32::MAX) + 1];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            proptest::sample::select(edges).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!(u64::MAX)),
            self.texts().prop_map(Value::from),
        ]
        .boxed()
    }

    pub fn trees(&self, keys: Vec<String>) -> BoxedStrategy<Value> {
        let key = prop_oneof![4 => proptest::sample::select(keys), 1 => self.texts()];
        self.leaves()
            .prop_recursive(4, 24, 6, move |inner| {
                prop_oneof![
                    proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                    proptest::collection::btree_map(key.clone(), inner, 0..6)
                        .prop_map(|map| Value::Object(map.into_iter().collect())),
                ]
            })
            .boxed()
    }

    /// Trees, and bodies that fit with up to two places spoilt.
    pub fn bodies(&self, valid: Vec<Value>) -> BoxedStrategy<Value> {
        let mut keys = BTreeSet::from(["x".to_owned()]);
        valid.iter().for_each(|body| keys_of(body, &mut keys));
        let tree = self.trees(keys.into_iter().collect());
        let places = proptest::collection::vec((any::<usize>(), tree.clone()), 0..3);
        let spoilt = (proptest::sample::select(valid), places).prop_map(|(mut body, places)| {
            for (place, value) in places {
                spoil(&mut body, place, value);
            }
            body
        });
        prop_oneof![1 => tree, 4 => spoilt].boxed()
    }
}

fn keys_of(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                keys.insert(key.clone());
                keys_of(inner, keys);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| keys_of(inner, keys)),
        _ => {}
    }
}

fn size_of(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(size_of).sum(),
        Value::Array(list) => list.iter().map(size_of).sum(),
        _ => 0,
    }
}

/// Replaces the `place`th part of `body` (modulo its size) by `value`.
fn spoil(body: &mut Value, place: usize, value: Value) {
    let mut left = place % size_of(body);
    let mut at = body;
    while left > 0 {
        left -= 1;
        let mut parts: Vec<&mut Value> = match at {
            Value::Object(map) => map.values_mut().collect(),
            Value::Array(list) => list.iter_mut().collect(),
            _ => break,
        };
        let mut which = 0;
        while which + 1 < parts.len() && left >= size_of(parts[which]) {
            left -= size_of(parts[which]);
            which += 1;
        }
        at = parts.swap_remove(which);
    }
    *at = value;
}
