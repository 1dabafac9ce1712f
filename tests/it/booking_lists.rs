//! Lists of bookings: of a stretch of time, in either order, and who booked.

use serde_json::{Value, json};

use crate::support::{Person, TestHub};

async fn ids(hub: &TestHub, who: &Person, query: &str) -> Vec<String> {
    let data = who.get(hub, &format!("/v1/bookings?{query}")).await.data(200);
    data.as_array().unwrap().iter().map(|b| b["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_stretch_of_time_is_listed_in_either_order() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let mut booked = Vec::new();
    for n in 0..5 {
        let wish = practice.wish(practice.slot(n));
        let made = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
        booked.push(made["id"].as_str().unwrap().to_owned());
    }
    let backwards: Vec<String> = booked.iter().rev().cloned().collect();
    assert_eq!(ids(&hub, &seeker, "").await, backwards);
    assert_eq!(ids(&hub, &seeker, "order=desc").await, backwards);
    assert_eq!(ids(&hub, &seeker, "order=asc").await, booked);
    // From an instant on, up to another that is not included.
    let span = format!("from={}&to={}", practice.slot(1), practice.slot(3));
    assert_eq!(ids(&hub, &seeker, &format!("{span}&order=asc")).await, booked[1..3]);
    let from = format!("from={}", practice.slot(3));
    assert_eq!(ids(&hub, &practice.person, &format!("{from}&order=asc")).await, booked[3..]);
    // A cursor goes on in its order.
    let mut seen = Vec::new();
    let mut query = "order=asc&limit=2".to_owned();
    loop {
        let answer = seeker.get(&hub, &format!("/v1/bookings?{query}")).await;
        let data = answer.data(200);
        seen.extend(data.as_array().unwrap().iter().map(|b| b["id"].clone()));
        let Some(next) = answer.body["meta"]["pagination"]["nextCursor"].as_str() else { break };
        query = format!("order=asc&limit=2&cursor={next}");
    }
    assert_eq!(seen, booked);
    for (query, field) in [("from=2027-01-01", "from"), ("to=x", "to"), ("order=up", "order")] {
        seeker.get(&hub, &format!("/v1/bookings?{query}")).await.names(field);
    }
    hub.stop().await;
}

#[tokio::test]
async fn practitioners_read_who_booked() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(3));
    let made = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    assert_eq!(made.get("seeker"), None);
    let path = format!("/v1/bookings/{}", made["id"].as_str().unwrap());
    let profile = seeker.get(&hub, "/v1/users/profile").await.data(200);
    let name = json!({ "firstName": profile["firstName"], "lastName": profile["lastName"] });
    for who in [&practice.person, &hub.admin().await] {
        let listed = who.get(&hub, "/v1/bookings").await.data(200);
        assert_eq!(listed[0]["seeker"], name);
        assert_eq!(who.get(&hub, &path).await.data(200)["seeker"], name);
    }
    // Seekers know who they are.
    for seen in [
        seeker.get(&hub, "/v1/bookings").await.data(200)[0].clone(),
        seeker.get(&hub, &path).await.data(200),
    ] {
        assert_eq!(seen.get("seeker"), None::<&Value>);
    }
    hub.stop().await;
}
