//! The ports to push services and to calendars elsewhere, as they are configured.

use super::{StartError, keys};
use crate::config::{Config, ConfigError};
use crate::outbound::EndpointPolicy;
use crate::push::{Fcm, FcmConfig, Push, VapidKeys, WebPush, WebPushConfig};

/// Where addresses that users name may lie.
pub(super) fn endpoint_policy(allow_private: bool) -> EndpointPolicy {
    if allow_private { EndpointPolicy::Any } else { EndpointPolicy::PublicHttps }
}

/// The senders that are configured.
pub(super) fn push(config: &Config) -> Result<Push, StartError> {
    let timeout = std::time::Duration::from_secs(15);
    let endpoints = endpoint_policy(config.push.allow_private_endpoints);
    let web_push = WebPush::new(WebPushConfig {
        vapid: VapidKeys::load(&keys::vapid_private_key(config)?)?,
        subject: config.push.vapid_subject.clone(),
        endpoints,
        timeout,
    })?;
    let fcm = match &config.push.fcm_credentials {
        Some(path) => {
            let json = std::fs::read_to_string(path).map_err(|_| {
                ConfigError::new("FCM_CREDENTIALS_FILE", "the path of a readable file")
            })?;
            Some(Fcm::new(FcmConfig {
                service_account_json: json.into(),
                project: config.push.fcm_project.clone(),
                base_url: config.push.fcm_base_url.clone(),
                timeout,
            })?)
        }
        None => None,
    };
    Ok(Push::new(Some(web_push), fcm))
}
