//! Durable bookings per second over the hub, beside single rows per second by pgbench into the same
//! table of the same PostgreSQL, in turns.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::request;
use super::load::{Outcome, Until, run as load};
use super::pgbench::{Load, rows_per_second};
use super::world::{World, slot};
use super::{Setup, median};

#[derive(Args)]
pub struct Options {
    /// Connections to the hub, each with one request under way: as many as `messages` has sockets.
    #[arg(long, default_value_t = 512)]
    connections: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Turns of each side, after one that does not count.
    #[arg(long, default_value_t = 4)]
    turns: usize,
    #[arg(long, default_value_t = 200)]
    practitioners: usize,
    #[arg(long, default_value_t = 400)]
    seekers: usize,
    /// Clients of pgbench.
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// Runs it; whether the hub booked at least as much as pgbench inserted.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let world = World::start(options.practitioners, options.seekers, setup).await;
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        let row = world.sql.query_one(&format!("SHOW {name}"), &[]).await.unwrap();
        println!("{name} = {}", row.get::<_, String>(0));
    }
    let pgbench = Load {
        script: "booking.sql",
        rows: "SELECT count(*) FROM bookings WHERE scheduled_at >= '2030-01-01'",
        variables: &[
            ("practices", options.practitioners.to_string()),
            ("seekers", options.seekers.to_string()),
            ("service", world.service_id.to_string()),
        ],
        clients: options.clients,
        seconds: options.seconds,
    };
    let (mut booked, mut inserted, mut ratios) = (0, Vec::new(), Vec::new());
    let mut over_hub = Vec::new();
    for turn in 0..=options.turns {
        world.sql.batch_execute("CHECKPOINT").await.unwrap();
        // As autovacuum does within a minute: plans made for an empty table do not count.
        world.sql.batch_execute("ANALYZE bookings, booking_events, user_channels").await.unwrap();
        let before = world.processor();
        let hub = over_the_hub(&world, options, booked).await;
        let for_hub = world.processor().since(before, hub.requests());
        booked += hub.requests();
        assert_eq!(hub.of(201), hub.requests(), "free slots were refused: {}", hub.summary());
        world.sql.batch_execute("CHECKPOINT").await.unwrap();
        let rows = rows_per_second(&world, &pgbench).await;
        let rate = hub.rate(hub.of(201));
        println!("turn {turn}: hub {}", hub.summary());
        println!("        {for_hub}");
        println!("        pgbench {rows:.0} rows/s; ratio {:.2}", rate / rows);
        if turn > 0 {
            over_hub.push(rate);
            inserted.push(rows);
            ratios.push(rate / rows);
        }
    }
    let stored =
        world.number("SELECT count(*) FROM bookings WHERE scheduled_at < '2030-01-01'").await;
    assert_eq!(usize::try_from(stored).unwrap(), booked, "an answer 201 without a row");
    println!("{booked} answers 201, {stored} rows");
    let ratio = median(ratios);
    println!(
        "median: hub {:.0} bookings/s, pgbench {:.0} rows/s, ratio hub/pgbench {ratio:.2} (goal 1.00)",
        median(over_hub),
        median(inserted)
    );
    world.stop(setup.keep).await;
    ratio >= 1.0
}

/// Books free slots, the practitioners in turn, from the `from`th slot on.
async fn over_the_hub(world: &World, options: &Options, from: usize) -> Outcome {
    let until = Until::Time(Duration::from_secs(options.seconds));
    load(world.address, options.connections, until, None, |n| {
        let n = from + n;
        let practice = world.practitioners[n % world.practitioners.len()];
        let body = json!({ "practitionerId": practice, "serviceId": world.service_id,
            "startsAt": slot(n / world.practitioners.len()) });
        // Neighbours in time are different people.
        let token = &world.tokens[n * 7 % world.tokens.len()];
        request("POST", "/v1/bookings", token, &body.to_string())
    })
    .await
}
