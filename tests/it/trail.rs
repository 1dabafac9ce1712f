//! Every booking can be rebuilt from its events alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hub::models::bookings;
use serde_json::{Map, Value, json};

use crate::support::{Person, Practice, TestHub, postgres, rows};

/// What the events of each booking add up to.
async fn rebuilt(url: &str) -> BTreeMap<String, Map<String, Value>> {
    let sql = "SELECT booking_id, data, to_status FROM booking_events ORDER BY booking_id, version";
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for row in rows::rows(url, sql).await {
        let [id, data, to_status] = row.try_into().unwrap();
        let booking = all.entry(id.unwrap()).or_default();
        let Value::Object(changes) = serde_json::from_str(&data.unwrap()).unwrap() else {
            panic!()
        };
        booking.extend(changes);
        assert_eq!(booking["status"].as_str(), to_status.as_deref());
    }
    for booking in all.values_mut() {
        booking.retain(|_, value| !value.is_null());
    }
    all
}

/// Bookings that went every way that one can go.
struct Fates {
    hub: TestHub,
    practice: Practice,
    seeker: Person,
    other: Person,
    /// Those whose time the test moved behind the hub's back.
    moved: Vec<String>,
}

fn id(data: &Value) -> String {
    data["id"].as_str().unwrap().to_owned()
}

impl Fates {
    async fn start() -> Self {
        let hub = TestHub::start_with(|c| c.booking.hold_ttl = Duration::from_secs(1)).await;
        let practice = hub.practice_with(json!({ "capacity": 3 })).await;
        let (seeker, other) = (hub.seeker().await, hub.seeker().await);
        Self { hub, practice, seeker, other, moved: Vec::new() }
    }

    async fn book(&self, slot: i64) -> String {
        let wish = self.practice.wish(self.practice.slot(slot));
        id(&self.seeker.post(&self.hub, "/v1/bookings", wish).await.data(201))
    }

    async fn hold(&self, who: &Person, slot: i64) -> String {
        let mut wish = self.practice.wish(self.practice.slot(slot));
        wish["seats"] = json!(2);
        id(&who.post(&self.hub, "/v1/holds", wish).await.data(201))
    }

    async fn act(&self, who: &Person, id: &str, what: &str, body: Value) {
        who.post(&self.hub, &format!("/v1/bookings/{id}/{what}"), body).await.data(200);
    }

    async fn change(&self) {
        let me = &self.practice.person;
        let moved = self.book(1).await;
        self.act(me, &moved, "confirm", json!({})).await;
        let to = json!({ "startsAt": self.practice.slot(2), "reason": "why not" });
        self.seeker.put(&self.hub, &format!("/v1/bookings/{moved}"), to).await.data(200);
        let declined = self.book(3).await;
        self.act(me, &declined, "decline", json!({ "reason": "ill" })).await;
        let edited = self.book(4).await;
        let notes = json!({ "notes": "hm" });
        self.seeker.put(&self.hub, &format!("/v1/bookings/{edited}"), notes).await.data(200);
        self.act(&self.seeker, &edited, "cancel", json!({ "reason": "rain" })).await;
    }

    async fn hold_and_repeat(&self) {
        let (hub, seeker, other) = (&self.hub, &self.seeker, &self.other);
        let booked = self.hold(seeker, 5).await;
        seeker.post(hub, &format!("/v1/holds/{booked}/extend"), json!({})).await.data(200);
        let body = json!({ "holdId": booked, "notes": "a" });
        seeker.post(hub, "/v1/bookings", body).await.data(201);
        let released = self.hold(other, 6).await;
        other.delete(hub, &format!("/v1/holds/{released}")).await.data(200);
        self.hold(other, 7).await; // lapses
        let mut series = self.practice.wish(self.practice.slot(8));
        series["count"] = json!(3);
        other.post(hub, "/v1/bookings/series", series).await.data(201);
    }

    /// One that took place, one that was missed, one that nobody answered.
    async fn let_time_pass(&mut self) {
        let me = self.practice.person.clone();
        for (slot, fate) in [(9, "held"), (10, "missed"), (11, "expired")] {
            let id = self.book(slot).await;
            if fate != "expired" {
                self.act(&me, &id, "confirm", json!({})).await;
            }
            let sql = format!(
                "UPDATE bookings SET scheduled_at = now() - interval '1 minute',
                    ends_at = now() + interval '1 hour', occupied_until = now() + interval '1 hour',
                    occupied_from = now() - interval '1 minute' WHERE id = '{id}'"
            );
            assert_eq!(rows::run(&self.hub.database_url, &sql).await, 1);
            match fate {
                "held" => {
                    self.act(&me, &id, "start", json!({})).await;
                    self.act(&me, &id, "end", json!({ "notes": "all well" })).await;
                }
                "missed" => self.act(&me, &id, "no-show", json!({})).await,
                _ => {}
            }
            self.moved.push(id);
        }
        let over = "bookings WHERE status = 'held' OR status = 'pending' AND scheduled_at < now()";
        let path = format!("/v1/practitioners/{}/blocks", self.practice.id);
        // Any change of the calendar ends what is over.
        while rows::count(&self.hub.database_url, over).await > 0 {
            let (from, to) = (self.practice.slot(90), self.practice.slot(91));
            let body = json!({ "startsAt": from, "endsAt": to });
            me.post(&self.hub, &path, body).await.data(201);
        }
    }
}

#[tokio::test]
async fn bookings_are_what_their_events_say() {
    let mut fates = Fates::start().await;
    fates.change().await;
    fates.hold_and_repeat().await;
    fates.let_time_pass().await;
    let url = &fates.hub.database_url;
    let all = rebuilt(url).await;
    let mut conn = postgres::connect(url).await;
    let mut seen = BTreeSet::new();
    assert_eq!(all.len(), rows::count(url, "bookings").await);
    for (id, mut events) in all {
        let row = bookings::find(&mut conn, id.parse().unwrap()).await.unwrap().unwrap();
        seen.insert(row.status.clone());
        let Value::Object(mut stored) = json!(row) else { panic!() };
        stored.retain(|_, value| !value.is_null());
        if fates.moved.contains(&id) {
            for field in ["scheduledAt", "endsAt", "occupiedFrom", "occupiedUntil"] {
                assert!(stored.remove(field).is_some() && events.remove(field).is_some());
            }
        }
        assert_eq!(events, stored, "{id}");
    }
    let ends = [
        "cancelled",
        "completed",
        "declined",
        "expired",
        "lapsed",
        "no_show",
        "pending",
        "released",
        "rescheduled",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ends);
}

#[tokio::test]
async fn the_trail_is_append_only_and_shows_no_data() {
    let fates = Fates::start().await;
    let booking = fates.book(1).await;
    let (client, connection) =
        tokio_postgres::connect(&fates.hub.database_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for column in ["data = '{}'", "reason = 'x'", "to_status = 'confirmed'"] {
        let sql = format!("UPDATE booking_events SET {column}");
        let refused = client.simple_query(&sql).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("append-only"));
    }
    let path = format!("/v1/bookings/{booking}/events");
    let shown = fates.seeker.get(&fates.hub, &path).await.data(200);
    assert_eq!((shown[0]["action"].as_str(), shown[0].get("data")), (Some("book"), None));
}
