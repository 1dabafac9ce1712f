//! `/metrics`, on a listener of its own: whoever may read how the hub does need not reach the API,
//! and the other way round.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::sync::Mutex;

use super::StartError;
use crate::counters;
use crate::models::ledger;
use crate::models::pool::Pool;

/// The pushes are counted by reading the outbox: not with every scrape.
const LEDGER_EVERY: Duration = Duration::from_secs(30);
/// Histograms are tidied up this often, whether anybody reads them or not.
const TIDY_EVERY: Duration = Duration::from_secs(5);

struct Metrics {
    pool: Pool,
    counted_at: Mutex<Option<Instant>>,
}

/// Starts to listen at `address`; returns the server's handle and where it listens.
pub(super) fn start(
    address: SocketAddr,
    pool: Pool,
) -> Result<(ServerHandle, SocketAddr), StartError> {
    let metrics = web::Data::new(Metrics { pool, counted_at: Mutex::default() });
    let server = HttpServer::new(move || {
        App::new().app_data(metrics.clone()).route("/metrics", web::get().to(show))
    })
    .workers(1)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(address)
    .map_err(|cause| StartError::Io { what: format!("METRICS_ADDR {address}"), cause })?;
    let address = server.addrs().first().copied().unwrap_or(address);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    Ok((handle, address))
}

/// Keeps what is counted small, for as long as the runtime lives.
pub(super) fn keep_tidy() {
    tokio::spawn(async {
        let mut every = tokio::time::interval(TIDY_EVERY);
        loop {
            every.tick().await;
            counters::tidy();
        }
    });
}

async fn show(metrics: web::Data<Metrics>) -> HttpResponse {
    let (open, waiting) = metrics.pool.usage();
    counters::pool(open, waiting);
    metrics.count_pushes().await;
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(counters::render())
}

impl Metrics {
    /// Without a database the numbers of the last time stay.
    async fn count_pushes(&self) {
        let mut counted_at = self.counted_at.lock().await;
        if counted_at.is_some_and(|at| at.elapsed() < LEDGER_EVERY) {
            return;
        }
        let Ok(mut conn) = self.pool.get().await else { return };
        match ledger::count(&mut conn).await {
            Ok(counts) => {
                for (state, count) in ledger::STATES.into_iter().zip(counts) {
                    counters::pushes(state, count);
                }
                *counted_at = Some(Instant::now());
            }
            Err(e) => tracing::warn!("pushes were not counted: {e}"),
        }
    }
}
