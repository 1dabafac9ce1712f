//! What operators ask: is the process alive, can it serve, what does its API look like.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_swagger_ui::SwaggerUi;

use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::openapi;
use crate::bus::Bus;
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::models::migrations;
use crate::models::pool::Pool;

/// How long `/readyz` waits for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the hub takes new work: not before everything is loaded, and not once it is told to stop.
#[derive(Clone)]
pub struct Readiness {
    stage: Arc<AtomicU8>,
    bus: Bus,
}

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

impl Readiness {
    /// Of a hub that is starting, and reaches other nodes over `bus`.
    pub fn new(bus: Bus) -> Self {
        Self { stage: Arc::new(AtomicU8::new(STARTING)), bus }
    }

    /// New work is welcome.
    pub fn open(&self) {
        self.stage.store(SERVING, Ordering::Release);
    }

    /// New work is not welcome any more.
    pub fn close(&self) {
        self.stage.store(STOPPING, Ordering::Release);
    }

    /// Refuses new work when there should be none.
    pub fn admit(&self) -> Result<(), Refusal> {
        let not_ready = match self.stage.load(Ordering::Acquire) {
            SERVING => return Ok(()),
            STARTING => "starting",
            _ => "stopping",
        };
        Err(Refusal::Unavailable { not_ready: vec![not_ready] })
    }
}

/// That the process is there.
#[derive(Serialize, ToSchema)]
pub struct AliveView {
    status: &'static str,
}

/// That the hub can serve.
#[derive(Serialize, ToSchema)]
pub struct ReadyView {
    status: &'static str,
    /// `none`, `connected` or `lost`.
    bus: &'static str,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, body = Envelope<AliveView>)))]
pub async fn healthz() -> ApiResult<Reply> {
    Reply::ok(AliveView { status: "alive" })
}

/// Whether the hub can serve.
///
/// 503 while it starts or stops, the database does not answer, or a migration is missing; the
/// details name which of `starting`, `stopping`, `database`, `migrations`. A lost Redis (`bus`:
/// `lost`) does not make a node unready: it goes on alone and heals from PostgreSQL, and since all
/// nodes lose it together, a balancer would be left with none.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, body = Envelope<ReadyView>)))]
pub async fn readyz(pool: web::Data<Pool>, ready: web::Data<Readiness>) -> ApiResult<Reply> {
    ready.admit()?;
    let missing = match tokio::time::timeout(PATIENCE, missing_migrations(&pool)).await {
        Ok(Ok(0)) => {
            return Reply::ok(ReadyView { status: "ready", bus: ready.bus.state() });
        }
        Ok(Ok(_)) => "migrations",
        Ok(Err(e)) => {
            tracing::warn!(cause = e.cause(), "the database does not answer");
            "database"
        }
        Err(_) => "database",
    };
    Err(Refusal::Unavailable { not_ready: vec![missing] }.into())
}

async fn missing_migrations(pool: &Pool) -> Result<usize, Error> {
    let mut conn = pool.get().await?;
    Ok(migrations::missing(&mut conn).await?)
}

/// The description of the API (OpenAPI 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, body = Object)))]
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok().json(openapi::document())
}

/// Swagger UI at `/docs/`.
pub fn docs() -> SwaggerUi {
    SwaggerUi::new("/docs/{_:.*}").config(utoipa_swagger_ui::Config::from("/openapi.json"))
}

/// Any other path.
pub async fn no_such_route() -> ApiResult<Reply> {
    Err(Refusal::NoSuchRoute.into())
}
