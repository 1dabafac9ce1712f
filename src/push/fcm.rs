//! Firebase Cloud Messaging, HTTP v1.
//!
//! The crate `fcm` named on the design card (0.9) posts to the legacy endpoint
//! `fcm.googleapis.com/fcm/send`, which Google shut down in 2024: it can deliver nothing, and is
//! therefore not used. The request is small enough to be ours.
//! <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gcp_auth::Token;
use jiff::Timestamp;
use reqwest::Url;
use secrecy::SecretString;
use serde::Serialize;

use super::fcm_answer::{Answer, read};
use super::google_token::AccessTokens;
use super::message::{PushMessage, Urgency};
use super::subscription::FcmToken;
use super::{Outcome, SetupError, http};
use crate::outbound::{self, EndpointPolicy};

/// Google's service.
const BASE_URL: &str = "https://fcm.googleapis.com";

/// What the FCM sender needs.
#[derive(Debug, Clone)]
pub struct FcmConfig {
    /// The service account's JSON key file, whole. Its `token_uri` is where access tokens are
    /// fetched; its `project_id` the project unless `project` says otherwise.
    pub service_account_json: SecretString,
    pub project: Option<String>,
    /// `None`: `https://fcm.googleapis.com`. For tests and gateways; http is taken too.
    pub base_url: Option<String>,
    /// For one whole request, and separately for fetching an access token. 10 s is a good start.
    pub timeout: Duration,
}

/// Sends to apps. One per process: it keeps connections and the access token.
#[derive(Debug)]
pub struct Fcm {
    client: reqwest::Client,
    url: Url,
    tokens: AccessTokens,
}

impl Fcm {
    /// # Errors
    /// See [`SetupError`]; nothing is sent to Google yet, so a revoked key shows only when sending.
    pub fn new(config: FcmConfig) -> Result<Self, SetupError> {
        let FcmConfig { service_account_json, project, base_url, timeout } = config;
        let (tokens, own_project) = AccessTokens::new(service_account_json, timeout)?;
        let project = project.or(own_project).ok_or(SetupError::FcmProject)?;
        let url = send_url(base_url.as_deref().unwrap_or(BASE_URL), &project)?;
        // Where it goes is the operator's word.
        let client =
            outbound::client(timeout, EndpointPolicy::Any).map_err(|_| SetupError::HttpClient)?;
        Ok(Self { client, url, tokens })
    }

    /// Refuses a project or a base URL that can not be one, also where there are no credentials and
    /// so nothing is sent.
    pub fn check(project: Option<&str>, base_url: Option<&str>) -> Result<(), SetupError> {
        send_url(base_url.unwrap_or(BASE_URL), project.unwrap_or("project")).map(|_| ())
    }

    /// One attempt, or two where the first was refused for its access token; see [`Outcome`].
    pub async fn send(&self, token: &FcmToken, message: &PushMessage) -> Outcome {
        let Ok(body) = message.fitted_body() else { return Outcome::TooLarge };
        let request = Request::new(token, message, &body, Timestamp::now());
        let Ok(access) = self.tokens.get().await else { return no_token() };
        let first = self.attempt(&request, &access).await;
        let Answer::AccessTokenRefused = first else { return first.into_outcome() };
        self.tokens.forget(&access).await;
        let Ok(access) = self.tokens.get().await else { return no_token() };
        self.attempt(&request, &access).await.into_outcome()
    }

    async fn attempt(&self, request: &Request<'_>, access: &Arc<Token>) -> Answer {
        let sent =
            self.client.post(self.url.clone()).bearer_auth(access.as_str()).json(request).send();
        match sent.await {
            Ok(response) => {
                let status = response.status().as_u16();
                let after = http::retry_after(response.headers(), Timestamp::now());
                read(status, after, &http::bounded_body(response).await)
            }
            Err(error) => Answer::Final(http::no_answer(&error)),
        }
    }
}

fn no_token() -> Outcome {
    Outcome::retry("no access token for FCM")
}

fn send_url(base: &str, project: &str) -> Result<Url, SetupError> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    if project.is_empty() || !project.bytes().all(is_plain) {
        return Err(SetupError::FcmProject);
    }
    let url = format!("{}/v1/projects/{project}/messages:send", base.trim_end_matches('/'));
    Url::parse(&url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(SetupError::FcmBaseUrl)
}

#[derive(Serialize)]
struct Request<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    token: &'a str,
    notification: Notification<'a>,
    data: BTreeMap<&'a str, &'a str>,
    android: Android<'a>,
    apns: Apns,
    webpush: WebPush<'a>,
}

#[derive(Serialize)]
struct Notification<'a> {
    title: &'a str,
    body: &'a str,
}

/// Without a `collapse_key`: a device that is offline keeps messages under at most four of them,
/// so one per message would lose the rest. The `tag` replaces on the device instead.
#[derive(Serialize)]
struct Android<'a> {
    ttl: String,
    priority: &'static str,
    notification: Tag<'a>,
}

#[derive(Serialize)]
struct Tag<'a> {
    tag: &'a str,
}

#[derive(Serialize)]
struct Apns {
    headers: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct WebPush<'a> {
    headers: BTreeMap<&'static str, String>,
    notification: Tag<'a>,
}

impl<'a> Request<'a> {
    fn new(token: &'a FcmToken, message: &'a PushMessage, body: &'a str, now: Timestamp) -> Self {
        let id = message.id.as_str();
        let ttl = message.ttl();
        let topic = message.topic().into_owned();
        let mut data: BTreeMap<&str, &str> =
            message.data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        data.insert("id", id);
        let soon = matches!(message.urgency, Urgency::Normal | Urgency::High);
        let apns = BTreeMap::from([
            ("apns-collapse-id", topic.clone()),
            ("apns-expiration", apns_expiration(ttl, now)),
            ("apns-priority", if soon { "10" } else { "5" }.to_owned()),
        ]);
        let webpush = BTreeMap::from([
            ("TTL", ttl.to_string()),
            ("Topic", topic),
            ("Urgency", message.urgency.as_str().to_owned()),
        ]);
        let priority = if message.urgency == Urgency::High { "HIGH" } else { "NORMAL" };
        Self {
            message: Message {
                token: token.expose(),
                notification: Notification { title: &message.title, body },
                data,
                android: Android {
                    ttl: format!("{ttl}s"),
                    priority,
                    notification: Tag { tag: id },
                },
                apns: Apns { headers: apns },
                webpush: WebPush { headers: webpush, notification: Tag { tag: id } },
            },
        }
    }
}

/// Apple wants the moment, in seconds since 1970, where the others want a span; 0 is now or never.
fn apns_expiration(ttl: u32, now: Timestamp) -> String {
    if ttl == 0 { "0".to_owned() } else { (now.as_second() + i64::from(ttl)).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_built_from_base_and_project() {
        let url = send_url("http://127.0.0.1:9/fake/", "demo-1").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:9/fake/v1/projects/demo-1/messages:send");
        assert!(matches!(send_url(BASE_URL, "../x"), Err(SetupError::FcmProject)));
        assert!(matches!(send_url(BASE_URL, ""), Err(SetupError::FcmProject)));
        assert!(matches!(send_url("ftp://x", "p"), Err(SetupError::FcmBaseUrl)));
        assert!(matches!(send_url("nowhere", "p"), Err(SetupError::FcmBaseUrl)));
    }
}
