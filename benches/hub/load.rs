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

/// What many clients do together, each the next thing as soon as its last is done; or, with a rate,
/// at the times when a steady rate has them due, from which latency then counts: a slow answer is not
/// made up for by fewer questions.
pub struct Pace {
    until: Until,
    rate: Option<f64>,
    began: Instant,
    next: Cell<usize>,
    outcome: RefCell<Outcome>,
}

impl Pace {
    /// Begins now.
    pub fn new(until: Until, rate: Option<f64>) -> Self {
        let (next, outcome) = (Cell::new(0), RefCell::new(Outcome::default()));
        Self { until, rate, began: Instant::now(), next, outcome }
    }

    /// The number of the next thing; none when it is over.
    pub fn next(&self) -> Option<usize> {
        let n = self.next.get();
        let over = match self.until {
            Until::Requests(all) => n >= all,
            Until::Time(all) => match self.rate {
                Some(rate) => n as f64 >= all.as_secs_f64() * rate,
                None => self.began.elapsed() >= all,
            },
        };
        self.next.set(n + 1);
        (!over).then_some(n)
    }

    /// Waits until the `n`th thing is due; from when its latency counts.
    pub async fn due(&self, n: usize) -> Instant {
        let Some(rate) = self.rate else { return Instant::now() };
        let due = self.began + Duration::from_secs_f64(n as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        due
    }

    /// What was due then was answered with `status`.
    pub fn done(&self, due: Instant, status: u16) {
        let mut outcome = self.outcome.borrow_mut();
        *outcome.statuses.entry(status).or_default() += 1;
        outcome.latencies.push(due.elapsed());
    }

    /// What came of it, when all clients are through.
    pub fn outcome(self) -> Outcome {
        let mut outcome = self.outcome.into_inner();
        outcome.took = self.began.elapsed();
        outcome.latencies.sort_unstable();
        outcome
    }
}

/// Sends requests over `connections` at once, the `n`th as `make` makes it.
pub async fn run(
    address: SocketAddr,
    connections: usize,
    until: Until,
    rate: Option<f64>,
    make: impl Fn(usize) -> Vec<u8>,
) -> Outcome {
    let clients = join_all((0..connections).map(|_| Client::connect(address))).await;
    let pace = Pace::new(until, rate);
    join_all(clients.into_iter().map(async |mut client| {
        while let Some(n) = pace.next() {
            let request = make(n);
            let due = pace.due(n).await;
            pace.done(due, client.send(&request).await.status);
        }
    }))
    .await;
    pace.outcome()
}
