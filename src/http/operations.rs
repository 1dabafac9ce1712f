//! What operators ask: is the process alive, can it serve, what does its API look like.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde_json::json;
use utoipa_swagger_ui::SwaggerUi;

use super::envelope::Reply;
use super::error::ApiResult;
use super::openapi;
use crate::domain::refusal::Refusal;
use crate::models::pool::Pool;

/// How long `/readyz` waits for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the hub takes new work; false once it is told to stop.
#[derive(Debug, Clone)]
pub struct Readiness(pub Arc<AtomicBool>);

impl Readiness {
    /// Whether new work is taken.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200)))]
pub async fn healthz() -> ApiResult<Reply> {
    Reply::ok(json!({ "status": "alive" }))
}

/// The hub can serve: the database answers and the hub is not stopping. Migrations ran before the
/// hub listened; a lost Redis does not make a node unready, it heals from PostgreSQL.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200), (status = 503)))]
pub async fn readyz(pool: web::Data<Pool>, ready: web::Data<Readiness>) -> ApiResult<Reply> {
    let refused = || Refusal::Overloaded(Duration::from_secs(1));
    if !ready.is_ready() {
        return Err(refused().into());
    }
    match tokio::time::timeout(PATIENCE, pool.ping()).await {
        Ok(Ok(())) => Reply::ok(json!({ "status": "ready" })),
        Ok(Err(_)) | Err(_) => Err(refused().into()),
    }
}

/// The description of the API (OpenAPI 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200)))]
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
