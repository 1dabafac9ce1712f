//! The waiting list when time opens that no booking kept: hours, blocked times, calendars elsewhere.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Node, Person, Practice, Socket, TestHub, postgres, rows, sabotage};

struct Scene {
    hub: TestHub,
    practice: Practice,
}

impl Scene {
    /// A practice that is open from ten to twelve, every day.
    async fn set() -> Self {
        let hub = TestHub::start().await;
        let practice = hub.practice().await;
        let scene = Self { hub, practice };
        scene.open("10:00", "12:00").await;
        scene
    }

    fn path(&self, tail: &str) -> String {
        format!("/v1/practitioners/{}/{tail}", self.practice.id)
    }

    async fn open(&self, start: &str, end: &str) {
        open(&self.hub, &self.practice, start, end).await;
        self.looked().await;
    }

    /// Waits until what opened was offered.
    async fn looked(&self) {
        looked(&self.hub.database_url, Duration::from_secs(20)).await;
    }

    async fn wait_for(&self, who: &Person, from: i64, to: i64) {
        who.post(&self.hub, "/v1/waitlist", entry(&self.practice, from, to)).await.data(201);
    }

    /// What became of the only entry of `who`.
    async fn status(&self, who: &Person) -> String {
        let entries = who.get(&self.hub, "/v1/waitlist").await.data(200);
        entries[0]["status"].as_str().unwrap().to_owned()
    }

    /// Where the holds of `who` begin.
    async fn held(&self, who: &Person) -> Vec<Timestamp> {
        let holds = who.get(&self.hub, "/v1/holds").await.data(200);
        let start = |hold: &Value| hold["startsAt"].as_str().unwrap().parse().unwrap();
        holds.as_array().unwrap().iter().map(start).collect()
    }

    fn slots(&self, slots: &[i64]) -> Vec<Timestamp> {
        slots.iter().map(|slot| self.practice.slot(*slot)).collect()
    }
}

fn entry(practice: &Practice, from: i64, to: i64) -> Value {
    json!({ "practitionerId": practice.id, "serviceId": practice.service_id,
        "from": practice.slot(from), "to": practice.slot(to) })
}

async fn open(hub: &TestHub, practice: &Practice, start: &str, end: &str) {
    let weekly: Value =
        (1..=7).map(|day| json!({ "weekday": day, "start": start, "end": end })).collect();
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let body = json!({ "timeZone": "Asia/Kolkata", "weekly": weekly });
    practice.person.put(hub, &path, body).await.data(200);
}

async fn looked(url: &str, within: Duration) {
    let waiting = async {
        while rows::count(url, "waitlist_looks").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, waiting).await.expect("what opened is offered");
}

#[tokio::test]
async fn new_hours_are_offered_to_who_waits_for_them() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (first, second, any) = (hub.seeker().await, hub.seeker().await, hub.seeker().await);
    // Of two of one seeker one is offered.
    scene.wait_for(&first, 14, 15).await;
    scene.wait_for(&first, 14, 17).await;
    scene.wait_for(&second, 14, 15).await;
    scene.wait_for(&any, 13, 20).await;

    // Hours that do not cover it, or not all of it.
    for (start, end) in [("09:00", "12:00"), ("10:00", "13:30"), ("14:30", "15:15")] {
        scene.open(start, end).await;
        for who in [&first, &second, &any] {
            assert_eq!(scene.held(who).await, []);
        }
    }
    let mut socket = Socket::open(hub, &first).await;
    scene.open("10:00", "16:00").await;
    assert_eq!(socket.event("notification:new").await["data"]["kind"], "waitlist_offer");
    assert_eq!(scene.held(&first).await, scene.slots(&[14]));
    assert_eq!(
        (scene.held(&second).await, scene.status(&second).await),
        (vec![], "waiting".into())
    );
    // Who takes anything gets the first that is left.
    assert_eq!(scene.held(&any).await, scene.slots(&[13]));
    assert_eq!(scene.status(&any).await, "offered");
    let passer_by = hub.seeker().await;
    let wish = scene.practice.wish(scene.practice.slot(14));
    passer_by.post(hub, "/v1/bookings", wish).await.refused(409, "slot_taken");

    // Given back, it goes on like any other.
    let holds = first.get(hub, "/v1/holds").await.data(200);
    let path = format!("/v1/holds/{}", holds[0]["id"].as_str().unwrap());
    first.delete(hub, &path).await.data(200);
    assert_eq!((scene.held(&first).await, scene.held(&second).await), (vec![], scene.slots(&[14])));
    assert_eq!(scene.status(&second).await, "offered");
}

#[tokio::test]
async fn what_is_unblocked_is_offered() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (slot, practice) = (|n| scene.practice.slot(n), &scene.practice);
    let block = json!({ "startsAt": slot(10), "endsAt": slot(12) });
    let block = practice.person.post(hub, &scene.path("blocks"), block).await.data(201);
    let event = |n| slot(n).strftime("%Y%m%dT%H%M%SZ").to_string();
    let file = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:{}\r\nDTEND:{}\r\n\
         END:VEVENT\r\nEND:VCALENDAR\r\n",
        event(11),
        event(12)
    );
    let elsewhere = scene.path("external-calendars");
    let request = hub.request(Method::POST, &format!("{elsewhere}?name=File"));
    let request = request.bearer_auth(&practice.person.token);
    let file = answer(request.header("content-type", "text/calendar").body(file)).await.data(201);
    let (early, late) = (hub.seeker().await, hub.seeker().await);
    scene.wait_for(&early, 10, 12).await;
    scene.wait_for(&late, 11, 12).await;

    let gone = format!("{}/{}", scene.path("blocks"), block["id"].as_str().unwrap());
    practice.person.delete(hub, &gone).await.data(200);
    scene.looked().await;
    assert_eq!((scene.held(&early).await, scene.held(&late).await), (scene.slots(&[10]), vec![]));

    let gone = format!("{elsewhere}/{}", file["id"].as_str().unwrap());
    practice.person.delete(hub, &gone).await.data(200);
    scene.looked().await;
    assert_eq!(scene.held(&late).await, scene.slots(&[11]));
    assert_eq!(scene.status(&late).await, "offered");
}

#[tokio::test]
async fn an_offer_that_changes_is_offered_and_nobody_who_may_not_book() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    let (left, blocked, waits) = (hub.seeker().await, hub.seeker().await, hub.seeker().await);
    // Eleven is the last start of an hour.
    for who in [&left, &blocked, &waits] {
        let mut half = entry(&scene.practice, 11, 12);
        half["from"] = json!(scene.practice.slot(11) + SignedDuration::from_mins(30));
        who.post(hub, "/v1/waitlist", half).await.data(201);
    }
    let entries = left.get(hub, "/v1/waitlist").await.data(200);
    let path = format!("/v1/waitlist/{}", entries[0]["id"].as_str().unwrap());
    left.delete(hub, &path).await.data(200);
    let path = format!("/v1/users/{}/block", scene.practice.person.id);
    blocked.post(hub, &path, json!({})).await.data(200);

    let offer = json!({ "price": { "amount": 100, "currency": "INR" }, "durationMinutes": 30,
        "incrementMinutes": 30 });
    let path = scene.path(&format!("services/{}", scene.practice.service_id));
    scene.practice.person.put(hub, &path, offer).await.data(200);
    scene.looked().await;
    assert_eq!((scene.held(&left).await, scene.held(&blocked).await), (vec![], vec![]));
    let held = waits.get(hub, "/v1/holds").await.data(200);
    assert_eq!(held[0]["totalAmount"]["amount"], 100);
    assert_eq!(scene.status(&waits).await, "offered");
}

/// The change is committed and its node gone before it could offer anything: the sweep of another
/// one does.
#[tokio::test]
async fn what_a_killed_node_opened_is_offered_by_another() {
    let url = postgres::migrated();
    let node = Node::start(&url).await;
    let (practice, seeker) = (node.practice().await, node.seeker().await);
    open(&node, &practice, "10:00", "12:00").await;
    seeker.post(&node, "/v1/waitlist", entry(&practice, 14, 15)).await.data(201);
    // Whoever wants to hold anything waits for so long.
    sabotage::slow_insert(&url, 14_000).await;
    open(&node, &practice, "10:00", "16:00").await;
    node.kill().await;
    rows::run(&url, "DROP TRIGGER linger ON bookings").await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    rows::rows(&url, terminate).await;
    assert_eq!(rows::count(&url, "waitlist_looks").await, 1);
    assert_eq!(rows::count(&url, "bookings").await, 0);

    let other = TestHub::start_over(url.clone(), |_| {}).await;
    looked(&url, Duration::from_secs(60)).await;
    let held = seeker.get(&other, "/v1/holds").await.data(200);
    assert_eq!(held[0]["startsAt"], json!(practice.slot(14)));
    other.stop().await;
}

/// However many wait for what does not open: who waits behind them is not forgotten.
#[tokio::test]
async fn who_waits_behind_many_is_offered_what_opens() {
    let scene = Scene::set().await;
    let hub = &scene.hub;
    for _ in 0..10 {
        let many = hub.seeker().await;
        for _ in 0..20 {
            scene.wait_for(&many, 1, 3).await;
        }
    }
    let behind = hub.seeker().await;
    scene.wait_for(&behind, 14, 15).await;
    scene.open("10:00", "16:00").await;
    assert_eq!(
        (scene.held(&behind).await, scene.status(&behind).await),
        (scene.slots(&[14]), "offered".into())
    );
    assert_eq!(rows::count(&hub.database_url, "waitlist WHERE status = 'waiting'").await, 200);
}

/// A calendar that can not be read again has old hours in its memory. What opened stays to be offered.
#[tokio::test]
async fn what_is_not_known_to_have_opened_is_offered_later() {
    let scene = Scene::set().await;
    let (hub, practice) = (&scene.hub, &scene.practice);
    let (url, seeker) = (&hub.database_url, hub.seeker().await);
    let block = json!({ "startsAt": practice.slot(10), "endsAt": practice.slot(11) });
    let block = practice.person.post(hub, &scene.path("blocks"), block).await.data(201);
    scene.wait_for(&seeker, 14, 15).await;
    // Another node opens time, of which this one does not hear; what is stored can not be read.
    let store = async |schedule: &str| {
        let sql = format!(
            "UPDATE practitioners SET availability = {schedule} WHERE id = '{}'",
            practice.id
        );
        rows::run(url, &sql).await;
    };
    let stored = format!("SELECT availability FROM practitioners WHERE id = '{}'", practice.id);
    let stored = rows::column(url, &stored).await.remove(0).replace("12:00", "16:00");
    store("'[]'").await;
    let gone = format!("{}/{}", scene.path("blocks"), block["id"].as_str().unwrap());
    practice.person.delete(hub, &gone).await.data(200);
    // Long enough for it to be looked for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rows::count(url, "waitlist_looks").await, 1);
    store(&format!("'{stored}'")).await;
    looked(url, Duration::from_secs(60)).await;
    assert_eq!(scene.held(&seeker).await, scene.slots(&[14]));
}

/// Two looks that read the same number must mean the same opening, also when the row was gone between.
#[tokio::test]
async fn no_two_openings_have_the_same_number() {
    let scene = Scene::set().await;
    let (url, seeker) = (&scene.hub.database_url, scene.hub.seeker().await);
    scene.wait_for(&seeker, 18, 19).await;
    for sql in [
        "CREATE TABLE seen (wanted bigint)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO seen VALUES (NEW.wanted); RETURN NULL; END $$",
        "CREATE TRIGGER see AFTER INSERT OR UPDATE ON waitlist_looks FOR EACH ROW EXECUTE FUNCTION see()",
    ] {
        rows::run(url, sql).await;
    }
    for end in ["13:00", "14:00", "15:00"] {
        scene.open("10:00", end).await;
    }
    let numbers = "SELECT count(DISTINCT wanted) FROM seen";
    assert_eq!(rows::number(url, numbers).await, 3);
    // Nor does one that was not offered yet keep its number.
    let again = "INSERT INTO waitlist_looks (practitioner_id) SELECT id FROM practitioners
        ON CONFLICT (practitioner_id) DO UPDATE SET wanted = EXCLUDED.wanted";
    for _ in 0..2 {
        rows::run(url, again).await;
    }
    assert!(rows::number(url, numbers).await >= 5);
}
