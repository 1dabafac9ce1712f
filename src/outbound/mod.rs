//! The port for requests whose address a user named: where they may go, and the client that goes
//! there. Push endpoints and calendars to be imported are such addresses; a hub that asked wherever
//! it is told would be a way into the operator's network (SSRF).

mod address;
mod feed;

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;

use self::address::{NotPublic, PublicResolver, is_public};
pub use self::feed::{Conditions, FeedReader, FeedUrl, MAX_FEED_BYTES, Read};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where addresses that users name may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointPolicy {
    /// https only, and only addresses of the public internet: checked on a literal address when
    /// it is parsed, and on every address a name resolves to when a connection is made.
    PublicHttps,
    /// That, and literal addresses of this machine, http too: for the demo on loopback.
    OrLoopback,
    /// Anything, http too: for tests.
    Any,
}

impl EndpointPolicy {
    /// The problem with `url` as far as it shows without asking the DNS.
    pub fn problem(self, url: &Url) -> Option<&'static str> {
        let literal = || {
            let host = url.host_str()?;
            host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()
        };
        match self {
            Self::OrLoopback if literal().is_some_and(|ip| ip.is_loopback()) => {
                Self::Any.problem(url)
            }
            Self::Any => (!matches!(url.scheme(), "http" | "https")).then_some("must be a URL"),
            Self::PublicHttps | Self::OrLoopback if url.scheme() != "https" => {
                Some("must be an https URL")
            }
            Self::PublicHttps | Self::OrLoopback => literal()
                .is_some_and(|ip| !is_public(ip))
                .then_some("must not be a private or reserved address"),
        }
    }
}

/// A client that follows no redirects and uses no proxy of the environment (through one, the
/// addresses would be chosen out of our sight). `timeout` bounds one request from name
/// resolution to the end of the answer. With `PublicHttps` it speaks https to public addresses
/// and nothing else, except that a literal address in the URL is the caller's to check; with
/// `OrLoopback` so is that names go by https.
pub fn client(timeout: Duration, policy: EndpointPolicy) -> reqwest::Result<reqwest::Client> {
    // reqwest takes the process's provider and panics without one; installed already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent("klear-karma-hub")
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(8);
    if policy != EndpointPolicy::Any {
        builder = builder.dns_resolver(Arc::new(PublicResolver));
    }
    builder.https_only(policy == EndpointPolicy::PublicHttps).build()
}

/// Why a request got no answer. An error's own text is not used: it contains the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The name resolves to no public address; nothing was sent.
    NotPublic,
    NotBuilt,
    Timeout,
    /// Also a name that is not found, and TLS that fails.
    NoConnection,
    /// The connection ended before the answer did.
    Broken,
}

impl NoAnswer {
    /// Which of them `error` is.
    pub fn of(error: &reqwest::Error) -> Self {
        if has_cause::<NotPublic>(error) {
            Self::NotPublic
        } else if error.is_builder() {
            Self::NotBuilt
        } else if error.is_timeout() {
            Self::Timeout
        } else if error.is_connect() {
            Self::NoConnection
        } else {
            Self::Broken
        }
    }

    /// The reason in words that hold nothing of the address.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotPublic => "the name resolves to no public address",
            Self::NotBuilt => "the request could not be built",
            Self::Timeout => "timeout",
            Self::NoConnection => "no connection",
            Self::Broken => "the connection ended before the answer",
        }
    }
}

fn has_cause<E: Error + 'static>(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}
