//! What the hub counts, for `/metrics`. The lowest floor of all: everybody may count here, and it
//! knows nobody. Each function is one event; names and help texts are together at the end.
//!
//! Counters are those of the process and begin at nothing with it, as Prometheus expects. Labels
//! come from fixed sets, so that no user can make the hub remember more.

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Borders of the histogram of transactions, in seconds.
const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];
/// Borders of the histogram of jobs in a transaction.
const JOBS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A socket opened.
pub fn socket_opened() {
    ALL.sockets.increment(1.0);
}

/// A socket is gone.
pub fn socket_closed() {
    ALL.sockets.decrement(1.0);
}

/// An event was put into the queues of so many sockets.
pub fn delivered(is_durable: bool, sockets: usize) {
    let counter = if is_durable { &ALL.durable } else { &ALL.ephemeral };
    counter.increment(whole(sockets));
}

/// So many events were read from PostgreSQL for a socket that missed them.
pub fn caught_up(events: usize) {
    ALL.catch_ups.increment(1);
    ALL.replayed.increment(whole(events));
}

/// An event that is not kept was dropped for a slow socket.
pub fn ephemeral_dropped() {
    ALL.dropped.increment(1);
}

/// A socket that did not read was closed with 4001.
pub fn slow_consumer_closed() {
    ALL.slow.increment(1);
}

/// The bus was full, and an envelope was dropped.
pub fn bus_dropped() {
    ALL.bus_dropped.increment(1);
}

/// So many jobs were committed as one transaction, or failed as one.
pub fn committed(jobs: usize, took: Duration) {
    ALL.batch.record(u32::try_from(jobs).map_or(f64::MAX, f64::from));
    ALL.commit.record(took.as_secs_f64());
}

/// A message was asked to be sent. At rest accepted = stored + repeated + refused.
pub fn message_accepted() {
    ALL.accepted.increment(1);
}

/// A message is committed, now or by an earlier request with the same client id.
pub fn message_stored(is_fresh: bool) {
    let counter = if is_fresh { &ALL.stored } else { &ALL.repeated };
    counter.increment(1);
}

/// A message was refused, or nobody knows whether it was stored.
pub fn message_refused() {
    ALL.refused.increment(1);
}

/// A request was answered. `route` is the pattern of its path.
pub fn request(method: &str, route: &str, status: u16) {
    // A client may make up methods.
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE"].into_iter().find(|known| *known == method);
    let labels = [
        ("method", known.unwrap_or("other").to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    counter!(REQUESTS, &labels).increment(1);
}

/// The pool of database connections as it is now.
pub fn pool(open: usize, waiting: usize) {
    let number = |n: usize| u32::try_from(n).map_or(f64::MAX, f64::from);
    ALL.pool_open.set(number(open));
    ALL.pool_waiting.set(number(waiting));
}

/// How many pushes about messages are in `state`, over all nodes.
pub fn pushes(state: &'static str, count: i64) {
    gauge!(PUSHES, "state" => state).set(i32::try_from(count).map_or(f64::MAX, f64::from));
}

/// Everything counted so far, in the text format of Prometheus.
pub fn render() -> String {
    RECORDER.as_ref().map(PrometheusHandle::render).unwrap_or_default()
}

/// Lets histograms take in what they were given, which they otherwise keep until they are read.
pub fn tidy() {
    if let Some(recorder) = RECORDER.as_ref() {
        recorder.run_upkeep();
    }
}

fn whole(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

const REQUESTS: &str = "hub_http_requests_total";
const PUSHES: &str = "hub_message_pushes";

/// Takes what is counted; none when the process already has another recorder.
static RECORDER: LazyLock<Option<PrometheusHandle>> = LazyLock::new(|| {
    let builder = PrometheusBuilder::new();
    let with_buckets = builder
        .set_buckets_for_metric(Matcher::Full("hub_commit_seconds".to_owned()), SECONDS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full("hub_commit_jobs".to_owned()), JOBS));
    let recorder = with_buckets.ok()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok()?;
    describe();
    Some(handle)
});

struct All {
    sockets: Gauge,
    durable: Counter,
    ephemeral: Counter,
    replayed: Counter,
    catch_ups: Counter,
    dropped: Counter,
    slow: Counter,
    bus_dropped: Counter,
    batch: Histogram,
    commit: Histogram,
    accepted: Counter,
    stored: Counter,
    repeated: Counter,
    refused: Counter,
    pool_open: Gauge,
    pool_waiting: Gauge,
}

static ALL: LazyLock<All> = LazyLock::new(|| {
    // What is registered before there is a recorder counts for nothing.
    LazyLock::force(&RECORDER);
    let message = |stage: &'static str| counter!("hub_messages_total", "stage" => stage);
    let delivered = |kind: &'static str| counter!("hub_deliveries_total", "kind" => kind);
    All {
        sockets: gauge!("hub_sockets"),
        durable: delivered("durable"),
        ephemeral: delivered("ephemeral"),
        replayed: delivered("replayed"),
        catch_ups: counter!("hub_catch_ups_total"),
        dropped: counter!("hub_ephemeral_dropped_total"),
        slow: counter!("hub_slow_consumers_total"),
        bus_dropped: counter!("hub_bus_dropped_total"),
        batch: histogram!("hub_commit_jobs"),
        commit: histogram!("hub_commit_seconds"),
        accepted: message("accepted"),
        stored: message("stored"),
        repeated: message("repeated"),
        refused: message("refused"),
        pool_open: gauge!("hub_database_connections"),
        pool_waiting: gauge!("hub_database_waiting"),
    }
});

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("hub_sockets", "Open WebSockets.");
    describe_counter!("hub_deliveries_total", "Events put into the queues of sockets.");
    describe_counter!("hub_catch_ups_total", "Reads for sockets that missed something.");
    describe_counter!("hub_ephemeral_dropped_total", "Events dropped for slow sockets.");
    describe_counter!("hub_slow_consumers_total", "Sockets closed with 4001.");
    describe_counter!("hub_bus_dropped_total", "Envelopes dropped since the bus was full.");
    describe_histogram!("hub_commit_jobs", "Jobs in one transaction.");
    describe_histogram!("hub_commit_seconds", "How long a transaction took.");
    describe_counter!("hub_messages_total", "Messages: accepted = stored + repeated + refused.");
    describe_gauge!("hub_database_connections", "Connections to PostgreSQL.");
    describe_gauge!("hub_database_waiting", "Who waits for a connection.");
    describe_counter!(REQUESTS, "Requests answered.");
    describe_gauge!(PUSHES, "Pushes about messages in the outbox, over all nodes.");
}
