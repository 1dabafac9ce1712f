//! How fast the hub books, answers slot queries, refuses and stores messages, with a durable PostgreSQL
//! of its own that sees the same load from nobody else. load-tests/README.md says how to run and
//! read it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod bookings;
mod client;
mod fanout;
mod load;
mod messages;
mod pgbench;
mod refusals;
mod slots;
mod slow;
mod socket;
mod storm;
mod world;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// `cargo bench` says so.
    #[arg(long, global = true, hide = true)]
    bench: bool,
    #[command(flatten)]
    setup: Setup,
}

/// What is measured, where it is not the defaults.
#[derive(Args)]
pub struct Setup {
    /// A variable of the hub's environment.
    #[arg(long = "hub", global = true, value_name = "NAME=VALUE")]
    hub: Vec<String>,
    /// A setting of PostgreSQL, such as shared_preload_libraries=pg_stat_statements.
    #[arg(long = "postgres", global = true, value_name = "NAME=VALUE")]
    postgres: Vec<String>,
    /// Keep hub and PostgreSQL until Enter is pressed, to look into them.
    #[arg(long, global = true)]
    keep: bool,
}

#[derive(Subcommand)]
enum What {
    /// Durable bookings per second, beside single rows per second of pgbench into the same table.
    Bookings(bookings::Options),
    /// Durable chat messages per second, beside single rows per second of pgbench into the same table.
    Messages(messages::Options),
    /// Slot queries over 31 days of a calendar with 10,000 future bookings.
    Slots(slots::Options),
    /// Memory per idle socket and time per delivery, beside a server that only writes.
    Fanout(fanout::Options),
    /// Sockets that never read, and what others feel of them.
    Slow(slow::Options),
    /// Ten thousand requests for one slot.
    Refusals(refusals::Options),
    /// Clients that all come back at once.
    Storm(storm::Options),
}

/// The load is one thread: it shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Arguments { what, setup, .. } = Arguments::parse();
    let measured = async {
        match what {
            What::Bookings(options) => bookings::run(&options, &setup).await,
            What::Messages(options) => messages::run(&options, &setup).await,
            What::Slots(options) => slots::run(&options, &setup).await,
            What::Refusals(options) => refusals::run(&options, &setup).await,
            What::Storm(options) => storm::run(&options, &setup).await,
            What::Fanout(options) => fanout::run(&options, &setup).await,
            What::Slow(options) => slow::run(&options, &setup).await,
        }
    };
    tokio::select! {
        reached = measured => {
            println!("{}", if reached { "goal reached" } else { "GOAL NOT REACHED" });
        }
        // What runs is dropped, and ends.
        _ = tokio::signal::ctrl_c() => println!("ended early"),
    }
}

/// `duration` in milliseconds with two digits after the point.
fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// The middle one; of an even number the lower of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}
