//! A server that publishes calendars, on loopback: what it answers is the test's to say, and it
//! remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// What is at a path.
#[derive(Debug, Clone)]
pub struct Page {
    pub status: u16,
    pub body: String,
    /// With one, a request that names it is answered 304.
    pub etag: Option<String>,
    pub location: Option<String>,
    /// Before the answer.
    pub delay: Duration,
}

impl Page {
    /// A calendar with an ETag.
    pub fn of(body: impl Into<String>) -> Self {
        let body = body.into();
        Self { etag: Some(format!("\"{}\"", body.len())), body, ..Self::status(200) }
    }

    pub fn status(status: u16) -> Self {
        Self { status, body: String::new(), etag: None, location: None, delay: Duration::ZERO }
    }

    pub fn redirect(location: impl Into<String>) -> Self {
        Self { location: Some(location.into()), ..Self::status(302) }
    }
}

/// A request as it came: its path with the query, its `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub if_none_match: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct Site {
    pages: Mutex<BTreeMap<String, Page>>,
    asked: Mutex<Vec<Asked>>,
    /// The paths of requests that were answered.
    answered: Mutex<Vec<String>>,
}

/// The running server.
pub struct FeedServer {
    origin: String,
    site: Arc<Site>,
    handle: ServerHandle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FeedServer {
    /// Listens on a free port of 127.0.0.1; every path is 404 until it is put.
    pub fn start() -> Self {
        let site = Arc::<Site>::default();
        let data = web::Data::from(site.clone());
        let server = HttpServer::new(move || {
            App::new().app_data(data.clone()).default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let origin = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { origin, site, handle }
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Puts a page at `path`.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.site.pages).insert(path.to_owned(), page);
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.site.asked).clone()
    }

    /// How often `path` was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|a| a.path.split('?').next() == Some(path)).count()
    }

    /// Waits until `path` was asked for `times` times.
    pub async fn waits_for(&self, path: &str, times: usize) {
        self.until(times, || self.count(path)).await;
    }

    /// Waits until `path` was answered `times` times.
    pub async fn has_answered(&self, path: &str, times: usize) {
        self.until(times, || lock(&self.site.answered).iter().filter(|p| *p == path).count()).await;
    }

    async fn until(&self, times: usize, count: impl Fn() -> usize) {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while count() < times {
            assert!(tokio::time::Instant::now() < until, "{} of {times} times", count());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

async fn answer(request: HttpRequest, site: web::Data<Site>) -> HttpResponse {
    let header = |name: &str| {
        request.headers().get(name).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned)
    };
    let if_none_match = header("if-none-match");
    lock(&site.asked).push(Asked {
        path: request.uri().to_string(),
        if_none_match: if_none_match.clone(),
        authorization: header("authorization"),
    });
    let page = lock(&site.pages).get(request.path()).cloned();
    let Page { status, body, etag, location, delay } = page.unwrap_or_else(|| Page::status(404));
    tokio::time::sleep(delay).await;
    lock(&site.answered).push(request.path().to_owned());
    let unchanged = etag.is_some() && etag == if_none_match;
    let status = if unchanged { 304 } else { status };
    let mut answer = HttpResponse::build(StatusCode::from_u16(status).unwrap());
    if let Some(etag) = etag {
        answer.insert_header(("etag", etag));
    }
    if let Some(location) = location {
        answer.insert_header(("location", location));
    }
    if unchanged { answer.finish() } else { answer.content_type("text/plain").body(body) }
}
