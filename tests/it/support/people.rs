//! Users and practices, in one line each.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::hub::{Answer, TestHub};

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery";

/// A user who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh_token: String,
    pub session_id: String,
}

impl Person {
    fn of(data: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            id: text(&data["user"]["id"]),
            email: text(&data["user"]["email"]),
            token: text(&data["accessToken"]),
            refresh_token: text(&data["refreshToken"]),
            session_id: text(&data["sessionId"]),
        }
    }

    /// GET as this user.
    pub async fn get(&self, hub: &TestHub, path: &str) -> Answer {
        hub.call(Method::GET, path, Some(&self.token), None).await
    }

    /// POST as this user.
    pub async fn post(&self, hub: &TestHub, path: &str, body: Value) -> Answer {
        hub.call(Method::POST, path, Some(&self.token), Some(&body)).await
    }

    /// PUT as this user.
    pub async fn put(&self, hub: &TestHub, path: &str, body: Value) -> Answer {
        hub.call(Method::PUT, path, Some(&self.token), Some(&body)).await
    }

    /// DELETE as this user.
    pub async fn delete(&self, hub: &TestHub, path: &str) -> Answer {
        hub.call(Method::DELETE, path, Some(&self.token), None).await
    }
}

/// A practice with one service: 60 minutes, open around the clock in Asia/Kolkata, every start on
/// the full hour (UTC half hours), no notice, 90 days ahead.
#[derive(Debug, Clone)]
pub struct Practice {
    pub id: String,
    pub service_id: String,
    pub person: Person,
}

impl Practice {
    /// The wish for the slot that begins at `start`.
    pub fn wish(&self, start: Timestamp) -> Value {
        json!({ "practitionerId": self.id, "serviceId": self.service_id, "startsAt": start })
    }

    /// The `n`th slot of the day after tomorrow.
    pub fn slot(&self, n: i64) -> Timestamp {
        let day = Timestamp::now().as_second().div_euclid(86_400) + 2;
        // Midnight in Kolkata is 18:30 UTC.
        let midnight = Timestamp::from_second(day * 86_400 - 19_800).unwrap();
        midnight + SignedDuration::from_hours(n)
    }
}

impl TestHub {
    /// Registers a user of `user_type`.
    pub async fn register(&self, user_type: &str) -> Person {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "email": format!("user{n}@example.in"), "password": PASSWORD,
            "firstName": format!("Name{n}"), "lastName": "Test", "userType": user_type,
        });
        Person::of(&self.post("/v1/auth/register", body).await.data(201))
    }

    /// Registers a seeker.
    pub async fn seeker(&self) -> Person {
        self.register("seeker").await
    }

    /// Logs a user in again, as a second device would.
    pub async fn login(&self, person: &Person) -> Person {
        let body = json!({ "email": person.email, "password": PASSWORD });
        Person::of(&self.post("/v1/auth/login", body).await.data(200))
    }

    /// Makes an administrator: there is no route for that.
    pub async fn admin(&self) -> Person {
        use diesel_async::RunQueryDsl;
        let person = self.seeker().await;
        let mut conn = super::postgres::connect(&self.database_url).await;
        diesel::sql_query("UPDATE users SET user_type = 'admin' WHERE id = $1::uuid")
            .bind::<diesel::sql_types::Text, _>(&person.id)
            .execute(&mut conn)
            .await
            .unwrap();
        self.login(&person).await
    }

    /// A practice whose service needs the practitioner's answer.
    pub async fn practice(&self) -> Practice {
        self.practice_with(json!({})).await
    }

    /// The same, with changes to how the service is offered.
    pub async fn practice_with(&self, changes: Value) -> Practice {
        let person = self.register("practitioner").await;
        let weekly: Vec<Value> = (1..=7)
            .map(|weekday| json!({ "weekday": weekday, "start": "00:00", "end": "24:00" }))
            .collect();
        let body = json!({ "availability": { "timeZone": "Asia/Kolkata", "weekly": weekly } });
        let practice = person.post(self, "/v1/practitioners", body).await.data(201);
        let id = practice["id"].as_str().unwrap().to_owned();
        let service_id = self.service().await;
        let mut offer = json!({
            "price": { "amount": 150_000, "currency": "INR" }, "durationMinutes": 60,
        });
        for (key, value) in changes.as_object().unwrap() {
            offer[key] = value.clone();
        }
        let path = format!("/v1/practitioners/{id}/services/{service_id}");
        person.put(self, &path, offer).await.data(200);
        Practice { id, service_id, person }
    }

    /// A service of the catalogue.
    pub async fn service(&self) -> String {
        let admin = self.admin().await;
        let body = json!({ "name": "Reiki", "durationMinutes": 60 });
        let service = admin.post(self, "/v1/services", body).await.data(201);
        service["id"].as_str().unwrap().to_owned()
    }
}
