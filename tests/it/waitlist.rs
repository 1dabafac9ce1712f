//! The waiting list: what becomes free is held for the first who waits, then for the next.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::{Person, Practice, Socket, TestHub, postgres, rows};

struct Scene {
    hub: TestHub,
    practice: Practice,
    holder: Person,
    booking: String,
}

impl Scene {
    /// Slot 9 is booked; slots around it are, too, so that whoever wants to come then has to wait.
    async fn set() -> Self {
        let hub = TestHub::start().await;
        let practice = hub.practice().await;
        let holder = hub.seeker().await;
        let booking = holder.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await;
        let id = booking.data(201)["id"].as_str().unwrap().to_owned();
        Self { hub, practice, holder, booking: format!("/v1/bookings/{id}") }
    }

    async fn join(&self, who: &Person) -> String {
        let entry = who.post(&self.hub, "/v1/waitlist", self.entry(9, 10)).await.data(201);
        entry["id"].as_str().unwrap().to_owned()
    }

    fn entry(&self, from: i64, to: i64) -> Value {
        json!({ "practitionerId": self.practice.id, "serviceId": self.practice.service_id,
            "from": self.practice.slot(from), "to": self.practice.slot(to) })
    }

    async fn entries(&self, who: &Person) -> Value {
        who.get(&self.hub, "/v1/waitlist").await.data(200)
    }

    async fn book(&self, who: &Person) -> crate::support::Answer {
        who.post(&self.hub, "/v1/bookings", self.practice.wish(self.practice.slot(9))).await
    }
}

#[tokio::test]
async fn the_first_who_waits_gets_the_slot_then_the_next() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (first, second, passer_by) = (hub.seeker().await, hub.seeker().await, hub.seeker().await);
    scene.join(&first).await;
    scene.join(&second).await;
    let mut socket = Socket::open(hub, &first).await;
    scene.holder.delete(hub, &scene.booking).await.data(200);
    let told = socket.event("notification:new").await;
    assert_eq!(told["data"]["kind"], "waitlist_offer");
    scene.book(&passer_by).await.refused(409, "slot_taken");
    scene.book(&second).await.refused(409, "slot_taken");
    let offered = scene.entries(&first).await[0].clone();
    assert_eq!(offered["status"], "offered");
    let held = first.get(hub, "/v1/holds").await.data(200);
    assert_eq!(
        (held[0]["id"].clone(), held[0]["startsAt"].clone()),
        (offered["holdId"].clone(), json!(scene.practice.slot(9)))
    );
    // Given back, it is the next one's, who books it.
    let path = format!("/v1/holds/{}", offered["holdId"].as_str().unwrap());
    first.delete(hub, &path).await.data(200);
    assert_eq!(scene.entries(&first).await[0]["status"], "missed");
    scene.book(&passer_by).await.refused(409, "slot_taken");
    let offered = scene.entries(&second).await[0].clone();
    second.post(hub, "/v1/bookings", json!({ "holdId": offered["holdId"] })).await.data(201);
    assert_eq!(scene.entries(&second).await[0]["status"], "booked");
}

/// An offer that nobody takes runs out and goes on, whoever touches the calendar next.
#[tokio::test]
async fn an_offer_that_runs_out_is_the_next_ones() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (first, second, passer_by) = (hub.seeker().await, hub.seeker().await, hub.seeker().await);
    scene.join(&first).await;
    scene.join(&second).await;
    scene.holder.delete(hub, &scene.booking).await.data(200);
    let over =
        "UPDATE bookings SET hold_expires_at = now() - interval '1 second' WHERE status = 'held'";
    assert_eq!(rows::run(&hub.database_url, over).await, 1);
    // The other node reads the calendar as it now is; a passer-by's booking there only flips the
    // hold, and the slot goes to who waits.
    let node = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let wish = scene.practice.wish(scene.practice.slot(9));
    passer_by.post(&node, "/v1/bookings", wish).await.refused(409, "slot_taken");
    assert_eq!(scene.entries(&first).await[0]["status"], "missed");
    assert_eq!(scene.entries(&second).await[0]["status"], "offered");
}

#[tokio::test]
async fn who_leaves_the_list_is_passed_over() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (first, second) = (hub.seeker().await, hub.seeker().await);
    let entry = scene.join(&first).await;
    scene.join(&second).await;
    second.delete(hub, &format!("/v1/waitlist/{entry}")).await.refused(404, "not_found");
    first.delete(hub, &format!("/v1/waitlist/{entry}")).await.data(200);
    scene
        .practice
        .person
        .post(hub, &format!("{}/decline", scene.booking), json!({}))
        .await
        .data(200);
    assert_eq!(scene.entries(&first).await[0]["status"], "left");
    assert_eq!(scene.entries(&second).await[0]["status"], "offered");
}

#[tokio::test]
async fn only_what_is_taken_is_waited_for() {
    let scene = Scene::set().await;
    let (hub, who) = (&scene.hub, scene.hub.seeker().await);
    let join = async |body| who.post(hub, "/v1/waitlist", body).await;
    join(scene.entry(9, 12)).await.names("from");
    join(scene.entry(10, 9)).await.names("to");
    join(scene.entry(-200, -199)).await.names("to");
    join(scene.entry(9, 9 + 24 * 40)).await.names("to");
    let mut nowhere = scene.entry(9, 10);
    nowhere["serviceId"] = json!(who.id);
    join(nowhere).await.refused(404, "not_found");
    scene
        .practice
        .person
        .post(hub, "/v1/waitlist", scene.entry(9, 10))
        .await
        .refused(403, "forbidden");
    for _ in 0..20 {
        join(scene.entry(9, 10)).await.data(201);
    }
    join(scene.entry(9, 10)).await.names("from");
    assert_eq!(rows::count(&hub.database_url, "waitlist").await, 20);
}

/// The watchers of the calendar never see the slot free: it goes from one to the other.
#[tokio::test]
async fn nobody_comes_in_between() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let waiting = hub.seeker().await;
    scene.join(&waiting).await;
    let passers: Vec<Person> = vec![hub.seeker().await, hub.seeker().await, hub.seeker().await];
    let attempts = async {
        let mut won = 0;
        for n in 0..30 {
            won += usize::from(scene.book(&passers[n % 3]).await.status == 201);
        }
        won
    };
    let free = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        scene.holder.delete(hub, &scene.booking).await.data(200);
    };
    let (won, ()) = tokio::join!(attempts, free);
    assert_eq!(won, 0);
    assert_eq!(scene.entries(&waiting).await[0]["status"], "offered");
}

/// A hold keeps others out, the request that it becomes does not: the slot is the next one's.
#[tokio::test]
async fn a_hold_that_becomes_a_request_which_keeps_nobody_out_goes_on_to_who_waits() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "pendingBlocks": false })).await;
    let holder = hub.seeker().await;
    let hold = holder.post(&hub, "/v1/holds", practice.wish(practice.slot(9))).await.data(201);
    let hold = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    let scene = Scene { hub, practice, holder, booking: hold };
    let hub = &scene.hub;
    let (first, second) = (hub.seeker().await, hub.seeker().await);
    scene.join(&first).await;
    scene.join(&first).await;
    scene.join(&second).await;
    scene.holder.delete(hub, &scene.booking).await.data(200);
    let of_first = async || {
        let entries = scene.entries(&first).await;
        [entries[1]["status"].clone(), entries[0]["status"].clone()]
    };
    assert_eq!(of_first().await, ["offered", "waiting"]);
    let offered = scene.entries(&first).await[1]["holdId"].clone();
    let booked = first.post(hub, "/v1/bookings", json!({ "holdId": offered })).await.data(201);
    assert_eq!(booked["status"], "pending");
    // Not to who has just booked it, and their entry is settled.
    assert_eq!(of_first().await, ["booked", "waiting"]);
    let entry = scene.entries(&second).await[0].clone();
    assert_eq!(entry["status"], "offered");
    let held = second.get(hub, "/v1/holds").await.data(200);
    assert_eq!(
        (&held[0]["id"], &held[0]["startsAt"]),
        (&entry["holdId"], &json!(scene.practice.slot(9)))
    );
}

/// What was offered gives way to what its owner books instead; the entry says what came of it.
#[tokio::test]
async fn an_offer_that_gives_way_is_settled() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "maxPerDay": 1, "incrementMinutes": 30 })).await;
    let holder = hub.seeker().await;
    // The same slot booked as one, or as the first of a series; another time over it, another time of
    // a day that is full.
    for (hour, minutes, count, status) in
        [(9, 0, 1, "booked"), (33, 0, 2, "booked"), (57, 30, 1, "missed"), (81, 120, 1, "missed")]
    {
        let slot = practice.slot(hour);
        let booked = holder.post(&hub, "/v1/bookings", practice.wish(slot)).await.data(201);
        let who = hub.seeker().await;
        let entry = json!({ "practitionerId": practice.id, "serviceId": practice.service_id,
            "from": slot, "to": practice.slot(hour + 1) });
        who.post(&hub, "/v1/waitlist", entry).await.data(201);
        let path = format!("/v1/bookings/{}", booked["id"].as_str().unwrap());
        holder.delete(&hub, &path).await.data(200);
        let entries = async || who.get(&hub, "/v1/waitlist").await.data(200);
        assert_eq!(entries().await[0]["status"], "offered");
        let start = slot + SignedDuration::from_mins(minutes);
        let mut wish = practice.wish(start);
        if count > 1 {
            wish["count"] = json!(count);
            who.post(&hub, "/v1/bookings/series", wish).await.data(201);
        } else {
            who.post(&hub, "/v1/bookings", wish).await.data(201);
        }
        assert_eq!(entries().await[0]["status"], status, "{count}, {minutes} minutes later");
    }
}

/// Time opens between the look at the slots, which finds none, and the entry.
#[tokio::test]
async fn who_joins_while_time_opens_is_offered_it() {
    let scene = Scene::set().await;
    let (hub, seeker) = (&scene.hub, scene.hub.seeker().await);
    let url = &hub.database_url;
    let waiting = async |wanted: i64| {
        let locks = "SELECT count(*) FROM pg_locks WHERE NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let waiting = async {
            while rows::number(url, locks).await < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("they wait");
    };
    let mut elsewhere = postgres::connect(url).await;
    elsewhere.batch_execute("BEGIN; LOCK TABLE waitlist IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let join = scene.join(&seeker);
    let open = async {
        waiting(1).await;
        let cancel = scene.holder.delete(hub, &scene.booking);
        let release = async {
            waiting(2).await;
            elsewhere.batch_execute("ROLLBACK").await.unwrap();
        };
        tokio::join!(cancel, release).0.data(200);
    };
    tokio::join!(join, open);
    let offered = async {
        while scene.entries(&seeker).await[0]["status"] != "offered" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), offered).await.expect("it is offered");
    assert_eq!(rows::count(url, "waitlist_looks").await, 0);
}
