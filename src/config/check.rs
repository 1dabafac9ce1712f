//! Values that have a form of their own.

use reqwest::Url;
use tracing_subscriber::EnvFilter;

use super::env::ConfigError;

/// Origins as browsers send them (RFC 6454 section 6.2): scheme, host, and a port that is not the
/// scheme's own. Any other spelling would never be met.
pub(super) fn origins(list: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let allowed = "origins as browsers send them, such as https://app.example.in or \
                   http://localhost:3000, by commas: no path, no slash at the end, lower case";
    match list.iter().all(|origin| is_origin(origin)) {
        true => Ok(list),
        false => Err(ConfigError::new("ALLOWED_ORIGINS", allowed)),
    }
}

fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.scheme() {
        "http" | "https" => url.origin().ascii_serialization() == text,
        // Apps in a web view have schemes of their own, such as capacitor://localhost.
        scheme => text
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])),
    }
}

/// The address of a service that the operator names: http or https, with nothing after the host.
pub(super) fn endpoint(name: &str, text: Option<String>) -> Result<Option<String>, ConfigError> {
    let is_good = |text: &String| {
        let url = Url::parse(text).ok();
        url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none()
        })
    };
    if text.as_ref().is_none_or(is_good) {
        return Ok(text.map(|text| text.trim_end_matches('/').to_owned()));
    }
    Err(ConfigError::new(name, "a URL such as https://minio.example.in:9000, without a path"))
}

/// Directives of tracing: `info` unless given. A single word that is no level would be taken for
/// the name of a module, and everything else would fall silent.
pub(super) fn log_level(text: Option<String>) -> Result<String, ConfigError> {
    let Some(text) = text else { return Ok("info".to_owned()) };
    let text = text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    // What stands alone has to be a level, not the name of a module, which the filter would take.
    let is_meant = |word: &str| match word.rsplit_once('=') {
        None => is_level(word),
        Some((name, level)) => !name.is_empty() && is_level(level),
    };
    if !text.split(',').all(is_meant) || EnvFilter::try_new(&text).is_err() {
        let allowed = "off, error, warn, info, debug or trace, or directives such as \
                       info,hub::actors=debug";
        return Err(ConfigError::new("LOG_LEVEL", allowed));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "https://app.example.in",
            "http://localhost:3000",
            "https://[::1]:8443",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdef",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "foo",
            "bar.example",
            "*",
            "null",
            "https://",
            "https://app.example.in/",
            "https://app.example.in/path",
            "https://App.example.in",
            "https://app.example.in:443",
            "http://app.example.in:80",
            "https://user@app.example.in",
            "capacitor://localhost/",
            "capacitor://",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn a_level_is_one_that_there_is() {
        for good in ["info", "WARN", "off", "hub=debug", "info,hub::actors=trace", "warn, hub=info"]
        {
            assert!(log_level(Some(good.to_owned())).is_ok(), "{good}");
        }
        for bad in ["inof", "hub", "info,debgu", "hub=debgu", "hub=", "=", "info debug"] {
            assert!(log_level(Some(bad.to_owned())).is_err(), "{bad}");
        }
    }
}
