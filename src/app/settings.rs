//! What the configuration says about the ports, made into what they need.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{StartError, keys};
use crate::bus::RedisBus;
use crate::config::{Config, ConfigError, PushConfig};
use crate::outbound::EndpointPolicy;
use crate::push::{Fcm, FcmConfig, Push, SetupError, VapidKeys, WebPush, WebPushConfig};
use crate::storage::{Place, Storage};

/// For one request to a push service, and for fetching an access token.
const PUSH_TIMEOUT: Duration = Duration::from_secs(15);

/// Refuses what a hub could not serve with, before anything is started or stored: what
/// `Config::from_env` can not see, since only those who use a value know it.
pub fn check(config: &Config) -> Result<(), StartError> {
    keys::check(config)?;
    place(config)?;
    if let Some(url) = &config.redis_url {
        let allowed = "a URL such as redis://localhost:6379";
        RedisBus::check(url.expose_secret()).map_err(|_| ConfigError::new("REDIS_URL", allowed))?;
    }
    let key = match &config.push.vapid_private_key {
        Some(key) => key.clone(),
        None => VapidKeys::generate().map_err(|e| keys::io("no VAPID key", e))?.private_key,
    };
    senders(config, &key).map(|_| ())
}

/// The push senders that are configured.
pub(super) fn push(config: &Config) -> Result<Push, StartError> {
    senders(config, &keys::vapid_private_key(config)?)
}

/// Where files of users lie.
fn place(config: &Config) -> Result<Place, StartError> {
    let storage = &config.storage;
    let default = || Place::Directory(config.database.data_dir.join("attachments"));
    let allowed = "file:///directory or s3://bucket/prefix";
    let parsed = storage.url.as_deref().map(Place::parse);
    let mut place = match parsed {
        None => default(),
        Some(place) => place.ok_or_else(|| ConfigError::new("STORAGE_URL", allowed))?,
    };
    if let Place::Bucket(bucket) = &mut place {
        bucket.region.clone_from(&storage.s3_region);
        bucket.endpoint.clone_from(&storage.s3_endpoint);
        let keys = storage.s3_access_key_id.clone().zip(storage.s3_secret_access_key.clone());
        bucket.keys = keys;
    }
    Ok(place)
}

/// The store of files, which was written to and read from.
pub(super) async fn storage(config: &Config) -> Result<Storage, StartError> {
    if config.redis_url.is_some() && config.storage.url.is_none() {
        tracing::warn!(
            "files of conversations lie in DATA_DIR, where other nodes do not find them: set \
             STORAGE_URL to a place that all nodes see"
        );
    }
    let storage = Storage::open(&place(config)?)?;
    storage.check().await?;
    Ok(storage)
}

/// Where pushes may go.
pub(super) fn endpoints(push: &PushConfig) -> EndpointPolicy {
    match (push.allow_private_endpoints, push.allow_loopback_endpoints) {
        (true, _) => EndpointPolicy::Any,
        (false, true) => EndpointPolicy::OrLoopback,
        (false, false) => EndpointPolicy::PublicHttps,
    }
}

/// Where calendars elsewhere may lie.
pub(super) fn feeds(allow_private: bool) -> EndpointPolicy {
    if allow_private { EndpointPolicy::Any } else { EndpointPolicy::PublicHttps }
}

fn senders(config: &Config, vapid: &SecretString) -> Result<Push, StartError> {
    let web_push = WebPush::new(WebPushConfig {
        vapid: VapidKeys::load(vapid)?,
        subject: config.push.vapid_subject.clone(),
        endpoints: endpoints(&config.push),
        timeout: PUSH_TIMEOUT,
    })?;
    let (project, base_url) = (config.push.fcm_project.clone(), config.push.fcm_base_url.clone());
    Fcm::check(project.as_deref(), base_url.as_deref())?;
    let fcm = match &config.push.fcm_credentials {
        Some(path) => {
            let json = std::fs::read_to_string(path).map_err(|_| {
                ConfigError::new("FCM_CREDENTIALS_FILE", "the path of a readable file")
            })?;
            let service_account_json = json.into();
            let config =
                FcmConfig { service_account_json, project, base_url, timeout: PUSH_TIMEOUT };
            Some(Fcm::new(config)?)
        }
        None => None,
    };
    Ok(Push::new(Some(web_push), fcm))
}

/// Where the setting stands that a push sender was set up with.
pub(super) fn variable_of(problem: &SetupError) -> &'static str {
    match problem {
        SetupError::VapidKey => "VAPID_PRIVATE_KEY",
        SetupError::VapidSubject => "VAPID_SUBJECT",
        SetupError::ServiceAccount(_) => "FCM_CREDENTIALS_FILE",
        SetupError::FcmProject => "FCM_PROJECT",
        SetupError::FcmBaseUrl => "FCM_BASE_URL",
        SetupError::HttpClient => "push",
    }
}

/// How long the first connection to a configured database may take.
const PROBE: Duration = Duration::from_secs(10);

/// Connects once, so that a wrong `DATABASE_URL` is told with its cause: diesel drops that.
pub(super) async fn probe(url: &SecretString) -> Result<(), StartError> {
    let connect = tokio_postgres::connect(url.expose_secret(), tokio_postgres::NoTls);
    match tokio::time::timeout(PROBE, connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => {
            let chain = std::iter::successors(Some(&e as &dyn std::error::Error), |e| e.source());
            let chain: Vec<String> = chain.map(ToString::to_string).collect();
            Err(StartError::Unreachable(chain.join(": ")))
        }
        Err(_) => Err(StartError::Unreachable(format!("no answer in {} s", PROBE.as_secs()))),
    }
}
