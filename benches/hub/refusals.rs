//! Ten thousand requests for one slot: one winner, and how fast the others hear that it is taken.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::request;
use super::load::{Until, run as load};
use super::world::{World, slot};
use super::{Setup, median, ms};

#[derive(Args)]
pub struct Options {
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 128)]
    connections: usize,
    /// Requests for each slot.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Slots, one after the other, after one that does not count.
    #[arg(long, default_value_t = 7)]
    slots: usize,
    #[arg(long, default_value_t = 200)]
    seekers: usize,
}

/// Runs it; whether 10,000 refusals per second came, 99 of 100 within 50 ms.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let world = World::start(1, options.seekers, setup).await;
    let (mut rates, mut p99s) = (Vec::new(), Vec::new());
    let before = world.processor();
    for n in 0..=options.slots {
        let body = json!({ "practitionerId": world.practitioners[0],
            "serviceId": world.service_id, "startsAt": slot(n) })
        .to_string();
        let requests: Vec<Vec<u8>> = world
            .tokens
            .iter()
            .map(|token| request("POST", "/v1/bookings", token, &body))
            .collect();
        let until = Until::Requests(options.requests);
        let next = |n: usize| requests[n % requests.len()].clone();
        let outcome = load(world.address, options.connections, until, None, next).await;
        println!("slot {n}: {}", outcome.summary());
        assert_eq!((outcome.of(201), outcome.of(409)), (1, options.requests - 1));
        if n > 0 {
            rates.push(outcome.rate(outcome.of(409)));
            p99s.push(outcome.quantile(0.99).as_secs_f64());
        }
    }
    assert_eq!(world.number("SELECT count(*) FROM bookings").await as usize, options.slots + 1);
    let all = options.requests * (options.slots + 1);
    println!("{}", world.processor().since(before, all));
    let (rate, p99) = (median(rates), Duration::from_secs_f64(median(p99s)));
    println!("median: {rate:.0} refusals/s (goal 10000), p99 {} (goal 50 ms)", ms(p99));
    world.stop(setup.keep).await;
    rate >= 10_000.0 && p99 <= Duration::from_millis(50)
}
