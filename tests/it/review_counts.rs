//! Rating, number of reviews and of sessions of a practice: exact, whatever happens at once, and
//! over the migration that brought the exact numbers.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Person, Practice, TestHub, postgres, rows};

/// Practices whose numbers are not those of a recount.
const WRONG: &str = "SELECT count(*) FROM practitioners p,
    LATERAL (SELECT count(*) n, coalesce(sum(rating), 0) s FROM reviews r
              WHERE r.reviewee_id = p.user_id AND r.removed_at IS NULL) r
    WHERE (p.review_count, p.rating_sum, p.rating) IS DISTINCT FROM
          (r.n, r.s, CASE r.n WHEN 0 THEN 0 ELSE round(r.s::numeric / r.n, 2) END)";
const WRONG_SESSIONS: &str = "SELECT count(*) FROM practitioners p WHERE p.total_sessions <>
    (SELECT count(*) FROM bookings b WHERE b.practitioner_id = p.id AND b.status = 'completed')";

/// A number below `bound`: the same ones in every run (a linear congruential generator; Knuth's
/// constants).
fn draw(seed: &mut u64, bound: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % bound
}

/// One seeker with bookings whose time has come, who does at random what can be done with them,
/// now over one node, now over the other.
struct Client<'a> {
    nodes: [&'a TestHub; 2],
    seeker: Person,
    bookings: Vec<(&'a Practice, String)>,
    reviews: Vec<Option<String>>,
    seed: u64,
}

impl Client<'_> {
    async fn act(&mut self) -> (&'static str, u16) {
        let which = draw(&mut self.seed, self.bookings.len());
        let node = self.nodes[draw(&mut self.seed, 2)];
        let stars = 1 + draw(&mut self.seed, 5);
        let (practice, booking) = &self.bookings[which];
        let review = self.reviews[which].clone().map(|id| format!("/v1/reviews/{id}"));
        match (draw(&mut self.seed, 10), review) {
            (0..3, _) => {
                let path = format!("/v1/bookings/{booking}");
                let step = ["start", "end"][draw(&mut self.seed, 2)];
                let body = json!({});
                let answer = practice.person.post(node, &format!("{path}/{step}"), body).await;
                (step, answer.status.as_u16())
            }
            (3..6, _) | (_, None) => {
                let body = json!({ "bookingId": booking, "rating": stars });
                let answer = self.seeker.post(node, "/v1/reviews", body).await;
                if answer.status == 201 {
                    let id = answer.body["data"]["id"].as_str().unwrap();
                    self.reviews[which] = Some(id.to_owned());
                }
                ("create", answer.status.as_u16())
            }
            (6..9, Some(path)) => {
                // Twice at once, so that changes of one review meet.
                let change = |stars| json!({ "rating": stars });
                let (a, b) = tokio::join!(
                    self.seeker.put(self.nodes[0], &path, change(stars)),
                    self.seeker.put(self.nodes[1], &path, change(6 - stars)),
                );
                assert_eq!(a.status, b.status);
                ("edit", a.status.as_u16())
            }
            (_, Some(path)) => {
                let (a, b) = tokio::join!(
                    self.seeker.delete(self.nodes[0], &path),
                    self.seeker.delete(self.nodes[1], &path),
                );
                let won = [&a, &b].iter().filter(|a| a.status == 200).count();
                assert!(won <= 1, "one review was taken away twice");
                ("delete", if won == 1 { 200 } else { a.status.as_u16() })
            }
        }
    }
}

#[tokio::test]
async fn a_recount_after_random_operations_agrees() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let instant = json!({ "instantConfirm": true });
    let practices = [hub.practice_with(instant.clone()).await, hub.practice_with(instant).await];
    let mut clients = Vec::new();
    for n in 0..8_u32 {
        let seeker = hub.seeker().await;
        let mut bookings = Vec::new();
        for k in 0..4_u32 {
            let (practice, slot) = (&practices[usize::try_from((n + k) % 2).unwrap()], n * 4 + k);
            let id = hub.agreed(practice, &seeker, i64::from(slot)).await;
            hub.begins_in(&id, -86_400 * i64::from(slot + 1)).await;
            bookings.push((practice, id));
        }
        let (reviews, seed) = (vec![None; bookings.len()], u64::from(n) + 1);
        clients.push(Client { nodes: [&hub, &other], seeker, bookings, reviews, seed });
    }
    let runs = clients.iter_mut().map(async |client| {
        let mut done = Vec::new();
        for _ in 0..60 {
            done.push(client.act().await);
        }
        done
    });
    let done: Vec<(&str, u16)> = join_all(runs).await.into_iter().flatten().collect();
    for (what, status) in &done {
        assert!(*status < 500, "{what}: {status}");
    }
    // Every kind of operation went through more than once.
    for what in ["start", "end", "create", "edit", "delete"] {
        let good = done.iter().filter(|(w, s)| *w == what && *s < 300).count();
        assert!(good > 2, "{what}: {good}");
    }
    assert_eq!(hub.number(WRONG).await, 0);
    assert_eq!(hub.number(WRONG_SESSIONS).await, 0);
    let shown = hub.get(&format!("/v1/practitioners/{}", practices[0].id)).await.data(200);
    assert!(shown["reviewCount"].as_i64() > Some(0) && shown["rating"].as_f64() >= Some(1.0));

    // An account that goes takes its reviews along: no code of the hub sees that.
    hub.execute(&format!("DELETE FROM users WHERE id = '{}'", clients[0].seeker.id)).await;
    assert_eq!(hub.number(WRONG).await, 0);
}

/// The negative control: without what counts them, the recount disagrees.
#[tokio::test]
async fn the_recount_sees_a_review_that_was_not_counted() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let booking = hub.completed(&practice, &seeker, 0).await;
    hub.execute("ALTER TABLE reviews DISABLE TRIGGER reviews_counted").await;
    let body = json!({ "bookingId": booking, "rating": 5 });
    seeker.post(&hub, "/v1/reviews", body).await.data(201);
    assert_eq!(hub.number(WRONG).await, 1);
    hub.execute("UPDATE practitioners SET total_sessions = 0").await;
    assert_eq!(hub.number(WRONG_SESSIONS).await, 1);
}

/// A rating that is not the mean of the numbers beside it can not even be written by hand.
#[tokio::test]
async fn the_database_keeps_rating_and_numbers_together() {
    let hub = TestHub::start().await;
    hub.practice().await;
    let mut conn = postgres::connect(&hub.database_url).await;
    use diesel_async::RunQueryDsl;
    for set in ["rating = 5", "review_count = 1", "rating_sum = 1", "review_count = -1"] {
        let sql = format!("UPDATE practitioners SET {set}");
        let refused = diesel::sql_query(&sql).execute(&mut conn).await;
        assert!(refused.is_err(), "{set}");
    }
    let whole = "UPDATE practitioners SET review_count = 3, rating_sum = 14, rating = 4.67";
    assert_eq!(diesel::sql_query(whole).execute(&mut conn).await.unwrap(), 1);
}

const OURS: &str = "2026-11-25-000013_reviews_and_reminders";

#[tokio::test]
async fn the_migration_counts_what_is_there_and_keeps_the_first_of_several() {
    let url = postgres::empty();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut folders: Vec<_> =
        std::fs::read_dir("migrations").unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let up = |folder: &std::path::Path| std::fs::read_to_string(folder.join("up.sql")).unwrap();
    for folder in folders.iter().filter(|f| f.file_name().unwrap().to_str() < Some(OURS)) {
        client.batch_execute(&up(folder)).await.unwrap();
    }
    // Two practices, one with a wrong rating and no reviews; three bookings of the other, one of
    // which has three reviews, and one is confirmed and still to come.
    client.batch_execute(LEGACY).await.unwrap();
    client.batch_execute(&up(&std::path::Path::new("migrations").join(OURS))).await.unwrap();
    let numbers = "SELECT concat_ws(' ', review_count, rating_sum, rating, total_sessions)
                     FROM practitioners ORDER BY id";
    assert_eq!(rows::column(&url, numbers).await, ["0 0 0.00 7", "2 7 3.50 2"]);
    let kept = "SELECT concat_ws(' ', rating, comment) FROM reviews ORDER BY rating";
    assert_eq!(rows::column(&url, kept).await, ["3 first", "4"]);
    let reminders = "SELECT concat_ws(' ', count(*), count(DISTINCT user_id),
        bool_and(due_at = scheduled_at - make_interval(mins => lead_minutes)))
        FROM reminders JOIN bookings ON id = booking_id";
    assert_eq!(rows::column(&url, reminders).await, ["4 2 t"]);
    client.batch_execute(&down()).await.unwrap();
    assert_eq!(rows::count(&url, "reviews").await, 2);
    let again = client.batch_execute(&up(&std::path::Path::new("migrations").join(OURS))).await;
    again.unwrap();
    assert_eq!(rows::column(&url, numbers).await, ["0 0 0.00 7", "2 7 3.50 2"]);
}

fn down() -> String {
    std::fs::read_to_string(std::path::Path::new("migrations").join(OURS).join("down.sql")).unwrap()
}

const LEGACY: &str = "
INSERT INTO users (id, email, first_name, last_name, user_type)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, n || '@example.in', 'N', 'N',
       CASE WHEN n < 3 THEN 'practitioner' ELSE 'seeker' END FROM generate_series(1, 3) n;
INSERT INTO practitioners (id, user_id, availability, rating, total_sessions)
SELECT id, id, '{}', 1.23, CASE WHEN email LIKE '1%' THEN 7 ELSE 2 END
  FROM users WHERE user_type = 'practitioner';
INSERT INTO services (id, name, duration_minutes)
VALUES ('00000000-0000-0000-0000-000000000009', 'Reiki', 60);
INSERT INTO bookings (id, seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes,
    ends_at, occupied_from, occupied_until, total_amount, commission_amount, status)
SELECT ('00000000-0000-0000-0001-00000000000' || n)::uuid, '00000000-0000-0000-0000-000000000003',
    '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000009', t, 60,
    t + interval '1 hour', t, t + interval '1 hour', 0, 0,
    CASE n WHEN 3 THEN 'confirmed' ELSE 'completed' END
  FROM (SELECT n, now() + make_interval(days => n * 10 - 25) AS t FROM generate_series(1, 3) n) s;
INSERT INTO reviews (booking_id, reviewer_id, reviewee_id, rating, comment, created_at)
SELECT ('00000000-0000-0000-0001-00000000000' || b)::uuid, '00000000-0000-0000-0000-000000000003',
    '00000000-0000-0000-0000-000000000002', rating, comment, now() - make_interval(days => ago)
  FROM (VALUES (1, 3, 'first', 9), (1, 5, 'second', 8), (1, 1, 'third', 7), (2, 4, NULL, 6))
    AS r (b, rating, comment, ago);";
