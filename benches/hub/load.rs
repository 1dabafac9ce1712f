//! Load from many connections at once, and what came of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::client::Client;
use super::ms;

/// When the load ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many requests.
    Requests(usize),
    /// After so long.
    Time(Duration),
}

/// What was measured.
#[derive(Default)]
pub struct Outcome {
    /// Answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Of every request; sorted.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Outcome {
    pub fn of(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    pub fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// So many things per second.
    pub fn rate(&self, things: usize) -> f64 {
        things as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the requests was not over.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[(last as f64 * share).ceil() as usize]
    }

    pub fn summary(&self) -> String {
        let statuses: Vec<String> =
            self.statuses.iter().map(|(s, n)| format!("{n} × {s}")).collect();
        format!(
            "{} in {:.2} s = {:.0}/s; p50 {}, p99 {}, longest {}",
            statuses.join(", "),
            self.took.as_secs_f64(),
            self.rate(self.requests()),
            ms(self.quantile(0.5)),
            ms(self.quantile(0.99)),
            ms(self.quantile(1.0)),
        )
    }
}

/// Sends requests over `connections` at once, each the next one of `make` as soon as its last is
/// answered; or, with a `rate`, at the times when a steady rate has them due, from which latency
/// then counts: a slow answer is not made up for by fewer questions.
pub async fn run(
    address: SocketAddr,
    connections: usize,
    until: Until,
    rate: Option<f64>,
    make: impl Fn(usize) -> Vec<u8>,
) -> Outcome {
    let clients = join_all((0..connections).map(|_| Client::connect(address))).await;
    let (next, outcome) = (Cell::new(0), RefCell::new(Outcome::default()));
    let began = Instant::now();
    let work = clients.into_iter().map(async |mut client| {
        loop {
            let n = next.get();
            let over = match until {
                Until::Requests(all) => n >= all,
                Until::Time(all) => match rate {
                    Some(rate) => n as f64 >= all.as_secs_f64() * rate,
                    None => began.elapsed() >= all,
                },
            };
            if over {
                break;
            }
            next.set(n + 1);
            let request = make(n);
            let due = match rate {
                Some(rate) => {
                    let due = began + Duration::from_secs_f64(n as f64 / rate);
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
                None => Instant::now(),
            };
            let status = client.send(&request).await.status;
            let mut outcome = outcome.borrow_mut();
            *outcome.statuses.entry(status).or_default() += 1;
            outcome.latencies.push(due.elapsed());
        }
    });
    join_all(work).await;
    let took = began.elapsed();
    let mut outcome = outcome.into_inner();
    outcome.took = took;
    outcome.latencies.sort_unstable();
    outcome
}
