//! Sessions that are agreed, near or over. The API books neither the past nor the next minutes, so
//! bookings are moved there in the database, with their reminders.

use serde_json::{Value, json};

use super::{Person, Practice, TestHub, rows};

/// Moves the bookings `which` and their reminders to come so that the sessions begin so many seconds from
/// now, one second after the other.
pub async fn begins_in(url: &str, which: &str, seconds: i64) {
    let moved = format!(
        "WITH new AS (
           SELECT id AS moving, now() + make_interval(secs => {seconds} - 1)
                  + make_interval(secs => row_number() OVER (ORDER BY id)) AS start
             FROM bookings WHERE {which}),
         moved AS (
           UPDATE bookings SET scheduled_at = start, ends_at = start + interval '1 hour',
                  occupied_from = start, occupied_until = start + interval '1 hour'
             FROM new WHERE id = moving RETURNING id, scheduled_at),
         reminded AS (
           UPDATE reminders r SET due_at = m.scheduled_at - make_interval(mins => r.lead_minutes)
             FROM moved m WHERE r.booking_id = m.id AND r.state = 'waiting')
         SELECT id FROM moved"
    );
    assert_ne!(rows::rows(url, &moved).await.len(), 0, "{which}");
}

impl TestHub {
    /// The id of a confirmed booking of the practice's `slot`th slot.
    pub async fn agreed(&self, practice: &Practice, seeker: &Person, slot: i64) -> String {
        let wish = practice.wish(practice.slot(slot));
        let booking = seeker.post(self, "/v1/bookings", wish).await.data(201);
        let id = booking["id"].as_str().unwrap().to_owned();
        if booking["status"] == "pending" {
            let path = format!("/v1/bookings/{id}/confirm");
            practice.person.post(self, &path, json!({})).await.data(200);
        }
        id
    }

    /// Moves a booking and its reminders so that its session begins so many seconds from now (ago,
    /// when negative).
    pub async fn begins_in(&self, booking: &str, seconds: i64) {
        begins_in(&self.database_url, &format!("id = '{booking}'"), seconds).await;
    }

    /// Takes `step` with a booking as the practitioner.
    pub async fn step(&self, practice: &Practice, booking: &str, step: &str) -> Value {
        let path = format!("/v1/bookings/{booking}/{step}");
        practice.person.post(self, &path, json!({})).await.data(200)
    }

    /// The id of a booking whose session took place: of `slot`, as many days ago.
    pub async fn completed(&self, practice: &Practice, seeker: &Person, slot: i64) -> String {
        let id = self.agreed(practice, seeker, slot).await;
        self.begins_in(&id, -86_400 * (slot + 1)).await;
        self.step(practice, &id, "start").await;
        self.step(practice, &id, "end").await;
        id
    }
}
