//! Pages of other origins (CORS, in the Fetch standard): what browsers let them do with the API.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::Condition;

use super::front::X_REQUEST_ID;
use super::ws::AllowedOrigins;

/// How long a browser may keep the answer to a preflight, in seconds. Most keep it two hours at most.
const KEPT: usize = 7_200;

/// Lets pages of `origins` call everything, with a bearer token but never with cookies: there are
/// none. A request of any other origin is answered without the headers, and so hidden from its page by
/// the browser. It stands outside of everything else, so that refusals, too, can be read.
pub fn cors(origins: &AllowedOrigins) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            X_REQUEST_ID,
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([X_REQUEST_ID, header::ETAG, header::RETRY_AFTER])
        .max_age(KEPT);
    let cors = origins.0.iter().fold(cors, |cors, origin| cors.allowed_origin(origin));
    Condition::new(!origins.0.is_empty(), cors)
}
