//! Slot queries over 31 days of a calendar with 10,000 future bookings.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::{Client, request};
use super::load::{Outcome, Until, run as load};
use super::world::{World, slot};
use super::{Setup, ms};

#[derive(Args)]
pub struct Options {
    /// Connections, each with one query under way.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Seconds of each part.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Future bookings, spread over a year and a half.
    #[arg(long, default_value_t = 10_000)]
    bookings: usize,
    /// Queries per second at which the latency is measured.
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
    /// Bookings per second, meanwhile, of the same calendar: each changes what is asked about.
    #[arg(long, default_value_t = 20)]
    writes: usize,
}

/// Runs it; whether p99 was at most 10 ms at 1,000 queries/s.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let world = World::start(1, 50, setup).await;
    fill(&world, options.bookings).await;
    let mut client = Client::connect(world.address).await;
    let answer = client.send(&query(&world, 0)).await;
    let (bytes, slots) = (answer.body.len(), answer.data(200)["slots"].as_array().unwrap().len());
    println!(
        "{} future bookings; a query is answered with {slots} slots, {bytes} bytes",
        options.bookings
    );
    let seconds = Duration::from_secs(options.seconds);
    let queries = |rate: Option<f64>| {
        let world = &world;
        let until = Until::Time(seconds);
        load(world.address, options.connections, until, rate, move |n| query(world, n))
    };
    queries(None).await;
    let before = world.processor();
    let most = queries(None).await;
    println!("as many as it takes: {}", most.summary());
    println!("{}", world.processor().since(before, most.requests()));
    let steady = queries(Some(options.rate as f64)).await;
    println!("at {}/s: {}", options.rate, steady.summary());
    let until = Until::Time(seconds);
    let writes = load(world.address, 2, until, Some(options.writes as f64), |n| book(&world, n));
    let (busy, written) = tokio::join!(queries(Some(options.rate as f64)), writes);
    println!(
        "at {}/s, while {} bookings/s are made: {}",
        options.rate,
        options.writes,
        busy.summary()
    );
    println!("the bookings: {}", written.summary());
    let p99 = steady.quantile(0.99).max(busy.quantile(0.99));
    let all_answered = |o: &Outcome| o.of(200) == o.requests();
    assert!(all_answered(&most) && all_answered(&steady) && all_answered(&busy));
    println!(
        "{:.0} queries/s (goal 1000), p99 {} at {}/s (goal 10 ms)",
        most.rate(most.requests()),
        ms(p99),
        options.rate
    );
    world.stop(setup.keep).await;
    most.rate(most.requests()) >= 1_000.0 && p99 <= Duration::from_millis(10)
}

/// 31 days from one of the next two months' days on.
fn query(world: &World, n: usize) -> Vec<u8> {
    let from = slot(n % 60 * 24);
    let to = from + Duration::from_secs(31 * 86_400);
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={from}&to={to}&timeZone=Asia/Kolkata",
        world.practitioners[0], world.service_id
    );
    request("GET", &path, "", "")
}

/// Every 13th hour is left free by `fill`, and by these booked in turn.
fn book(world: &World, n: usize) -> Vec<u8> {
    let body = json!({ "practitionerId": world.practitioners[0], "serviceId": world.service_id,
        "startsAt": slot(n * 13) });
    request("POST", "/v1/bookings", &world.tokens[n % world.tokens.len()], &body.to_string())
}

/// Books `n` of the hours to come, about every fourth left free, past the hub: it would take time.
async fn fill(world: &World, n: usize) {
    let insert = format!(
        "INSERT INTO bookings (seeker_id, practitioner_id, service_id, scheduled_at, ends_at,
           duration_minutes, occupied_from, occupied_until, total_amount, commission_amount, status)
         SELECT (SELECT id FROM users WHERE email = 'seeker.1@example.in'), '{}', '{}', at,
           at + interval '1 hour', 60, at, at + interval '1 hour', 0, 0, 'confirmed'
           FROM (SELECT timestamptz '{}' + hour * interval '1 hour' AS at
                   FROM generate_series(0, 17000) hour
                  WHERE hour % 13 <> 0 AND hour % 7 <> 3 AND hour % 5 <> 2 LIMIT {n}) free",
        world.practitioners[0],
        world.service_id,
        slot(0)
    );
    let rows = world.sql.execute(&insert, &[]).await.unwrap();
    assert_eq!(usize::try_from(rows).unwrap(), n);
    world.sql.batch_execute("VACUUM ANALYZE bookings").await.unwrap();
}
