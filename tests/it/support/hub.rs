//! A hub per test, in a thread of its own with its own actix system, over a database of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hub::app::{Database, Hub};
use hub::config::{Config, Env};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::postgres;

/// A running hub; stops when dropped.
pub struct TestHub {
    pub address: SocketAddr,
    /// Of its database, to look at what is stored.
    pub database_url: String,
    client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer of the REST API.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The data of an answer with this status; panics with the whole answer otherwise.
    #[track_caller]
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        assert_eq!(self.body["success"], true);
        self.body["data"].clone()
    }

    /// Asserts a refusal with this status and code, in the envelope.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let got = (self.status.as_u16(), self.body["error"]["code"].as_str());
        assert_eq!(got, (status, Some(code)), "{:#}", self.body);
        assert_eq!(self.body["success"], false);
        assert!(
            self.body["meta"]["requestId"].is_string() && self.body["error"]["message"].is_string()
        );
        self.body["error"].clone()
    }

    /// Asserts `validation_failed` that names `field`.
    #[track_caller]
    pub fn names(&self, field: &str) {
        let error = self.refused(422, "validation_failed");
        let fields = error["details"].as_array().unwrap();
        assert!(fields.iter().any(|f| f["field"] == field), "{error:#}");
    }
}

impl TestHub {
    /// A hub with the defaults of tests: cheap passwords, short times, private push endpoints.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with changes to its configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::start_over(postgres::migrated(), change).await
    }

    /// A hub over a database that is there already: a second node, or a restart.
    pub async fn start_over(
        database_url: String,
        change: impl FnOnce(&mut Config) + Send + 'static,
    ) -> Self {
        let (tell, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let url = database_url.clone();
        let thread = std::thread::spawn(move || {
            let runtime = Arc::new(std::sync::Mutex::new(Some(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap(),
            )));
            let system =
                actix::System::with_tokio_rt(move || runtime.lock().unwrap().take().unwrap());
            system.block_on(async move {
                let mut config = config(&url);
                change(&mut config);
                let database = Database::open(&config).await.unwrap();
                let hub = Hub::start(&config, &database).await.unwrap();
                tell.send(hub.address).unwrap();
                let _ = stopped.await;
                hub.stop().await;
            });
        });
        let address = address.await.expect("the hub starts");
        let mut hub = Self::at(address, database_url);
        (hub.stop, hub.thread) = (Some(stop), Some(thread));
        hub
    }

    /// A hub that runs elsewhere: somebody else starts and stops it.
    pub fn at(address: SocketAddr, database_url: String) -> Self {
        // The hub does so in its own process; there it may have been done already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            // Shorter than the hub keeps an idle connection.
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self { address, database_url, client, stop: None, thread: None }
    }

    /// Stops the hub and waits until it has.
    pub async fn stop(mut self) {
        self.stop.take();
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request that is not sent yet, for headers and odd bodies.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request, with `token` and a JSON body if they are given.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    /// GET without a token.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, None).await
    }

    /// POST without a token.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, None, Some(&body)).await
    }
}

/// Sends `request`; a body that is no JSON reads as null.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(json!(null)) }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        // The thread ends by itself; a test that failed does not wait for it.
        self.stop.take();
    }
}

fn config(database_url: &str) -> Config {
    let mut config = Config::from_env(&Env::of(&[
        ("HUB_LISTEN", "127.0.0.1:0"),
        ("DATABASE_URL", database_url),
        ("JWT_SECRET", "a secret of the tests, of more than 32 bytes"),
        ("HTTP_WORKERS", "2"),
        ("ACTOR_THREADS", "1"),
        ("DATABASE_POOL_SIZE", "8"),
        ("SHUTDOWN_SECONDS", "2"),
        ("DRAIN_WINDOW_SECONDS", "0"),
        ("PUSH_ALLOW_PRIVATE_ENDPOINTS", "true"),
        ("PUSH_WINDOW_SECONDS", "1"),
        ("STORAGE_URL", concat!("file://", env!("CARGO_TARGET_TMPDIR"), "/files")),
        // A key of the tests, made for them by `hub vapid`.
        ("VAPID_PRIVATE_KEY", VAPID),
    ]))
    .unwrap();
    config.auth.bcrypt_cost = 4;
    config
}

/// Any scalar of the curve is a private key.
const VAPID: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
