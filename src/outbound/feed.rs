//! Reading a calendar from where a user said that it is.

use std::fmt;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use reqwest::{StatusCode, Url};

use super::{EndpointPolicy, NoAnswer, client};

/// The most of a feed that is read. A busy person's whole history has some hundred KiB.
pub const MAX_FEED_BYTES: usize = 4 * 1024 * 1024;
/// The longest address taken, in bytes.
const MAX_URL_BYTES: usize = 2048;
/// One request, from name resolution to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// All requests of one reading.
const PATIENCE: Duration = Duration::from_secs(30);
/// Redirects followed; each one is checked like the address itself.
const MAX_HOPS: usize = 3;
/// A validator longer than this is not kept: the next reading is a full one.
const MAX_VALIDATOR_BYTES: usize = 200;

/// Where a calendar is. Often a capability (who knows it can read the calendar): `Debug` hides it.
#[derive(Clone)]
pub struct FeedUrl(Url);

impl fmt::Debug for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedUrl(…)")
    }
}

impl FeedUrl {
    /// Takes an address as calendar apps hand it out; `webcal:` means https. Refuses one over 2,048
    /// bytes, that `policy` refuses, or with a user name or password in it.
    pub fn parse(text: &str, policy: EndpointPolicy) -> Result<Self, &'static str> {
        if text.len() > MAX_URL_BYTES {
            return Err("must have at most 2048 characters");
        }
        let lower = text.get(..9).unwrap_or_default().to_ascii_lowercase();
        let https = match (lower.starts_with("webcal://"), text.get("webcal".len()..)) {
            (true, Some(rest)) => format!("https{rest}"),
            _ => text.to_owned(),
        };
        let mut url = Url::parse(https.trim()).map_err(|_| "must be a URL")?;
        if let Some(problem) = policy.problem(&url) {
            return Err(problem);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or password");
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The whole address, for storage. Secret.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host, which may be shown.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

/// What the last full reading was answered with (RFC 9110 §8.8). Empty: read in full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= MAX_VALIDATOR_BYTES).then(|| value.to_owned())
        };
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }
}

/// What came of a reading.
#[derive(Debug)]
pub enum Read {
    /// The feed as it is now, and what to ask with the next time.
    Fresh { text: String, conditions: Conditions },
    /// It is what it was.
    Unchanged,
    /// It could not be read. The reason holds nothing of the address or the answer.
    Failed(String),
}

fn failed(reason: impl Into<String>) -> Read {
    Read::Failed(reason.into())
}

/// Reads feeds. One per process: it keeps the connections.
#[derive(Debug)]
pub struct FeedReader {
    client: reqwest::Client,
    policy: EndpointPolicy,
}

impl FeedReader {
    /// # Errors
    /// No system root certificates.
    pub fn new(policy: EndpointPolicy) -> reqwest::Result<Self> {
        Ok(Self { client: client(TIMEOUT, policy)?, policy })
    }

    /// Reads the feed at `url` once, in no more than 30 s.
    pub async fn read(&self, url: &FeedUrl, known: &Conditions) -> Read {
        match tokio::time::timeout(PATIENCE, self.follow(url.0.clone(), known)).await {
            Ok(read) => read,
            Err(_) => failed("timeout"),
        }
    }

    async fn follow(&self, mut url: Url, known: &Conditions) -> Read {
        for _ in 0..=MAX_HOPS {
            let response = match self.ask(&url, known).await {
                Ok(response) => response,
                Err(error) => return failed(NoAnswer::of(&error).words()),
            };
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED && *known != Conditions::default() {
                return Read::Unchanged;
            }
            if status.is_success() {
                return whole(response).await;
            }
            let to = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            let Some(to) = to else {
                return failed(format!("the address answers with status {}", status.as_u16()));
            };
            match to.to_str().ok().and_then(|to| url.join(to).ok()) {
                Some(next) if self.policy.problem(&next).is_none() => url = next,
                _ => return failed("the address redirects to where the hub does not go"),
            }
        }
        failed("the address redirects too often")
    }

    async fn ask(&self, url: &Url, known: &Conditions) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.get(url.clone()).header(ACCEPT, "text/calendar, */*;q=0.5");
        let conditions = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
        for (name, value) in conditions {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.send().await
    }
}

/// The answer's body, unless it is larger than [`MAX_FEED_BYTES`].
async fn whole(mut response: reqwest::Response) -> Read {
    let too_large = || failed(format!("it is larger than {} MiB", MAX_FEED_BYTES >> 20));
    let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    if announced > MAX_FEED_BYTES {
        return too_large();
    }
    let conditions = Conditions::of(response.headers());
    let mut body = Vec::with_capacity(announced);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_FEED_BYTES => return too_large(),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            // iCalendar is UTF-8; what is not does not touch the times.
            Ok(None) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Read::Fresh { text, conditions };
            }
            Err(error) => return failed(NoAnswer::of(&error).words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_calendar_apps_hand_out() {
        let parse = |text| FeedUrl::parse(text, EndpointPolicy::PublicHttps);
        let url = parse("webcal://calendar.example.net/x.ics?token=s#top").unwrap();
        assert_eq!(url.as_str(), "https://calendar.example.net/x.ics?token=s");
        assert_eq!(url.host(), "calendar.example.net");
        assert_eq!(format!("{url:?}"), "FeedUrl(…)");
        for bad in [
            "",
            "x.ics",
            "http://calendar.example.net/x.ics",
            "ftp://calendar.example.net/x.ics",
            "file:///etc/passwd",
            "https://10.0.0.1/x.ics",
            "https://[::1]/x.ics",
            "https://169.254.169.254/latest/meta-data",
            "https://user:secret@calendar.example.net/x.ics",
            "नमस्ते",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("https://example.net/{}", "x".repeat(2048))).is_err());
        assert!(FeedUrl::parse("http://127.0.0.1:1/x", EndpointPolicy::Any).is_ok());
    }
}
