//! Pages of other origins, as browsers ask for them.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::support::TestHub;
use crate::support::hub::answer;

const APP: &str = "https://app.klearkarma.com";

fn words(headers: &HeaderMap, name: &str) -> Vec<String> {
    let all = headers.get_all(name).iter().flat_map(|v| v.to_str().unwrap().split(','));
    all.map(|word| word.trim().to_ascii_lowercase()).collect()
}

fn preflight(hub: &TestHub, origin: &str) -> reqwest::RequestBuilder {
    hub.request(Method::OPTIONS, "/v1/bookings")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,idempotency-key,if-match",
        )
}

#[tokio::test]
async fn pages_of_the_listed_origins_may_call_the_api() {
    let hub = TestHub::start_with(|c| c.http.allowed_origins = vec![APP.to_owned()]).await;
    let asked = answer(preflight(&hub, APP)).await;
    assert_eq!(asked.status, 200);
    assert_eq!(asked.headers["access-control-allow-origin"], APP);
    assert!(words(&asked.headers, "access-control-allow-methods").contains(&"post".to_owned()));
    let taken = words(&asked.headers, "access-control-allow-headers");
    for name in ["authorization", "content-type", "idempotency-key", "if-match"] {
        assert!(taken.contains(&name.to_owned()), "{name} is not in {taken:?}");
    }
    assert_eq!(asked.headers.get("access-control-allow-credentials"), None);

    // Answers and refusals alike, and what is worth reading of their headers.
    let seeker = hub.seeker().await;
    for (path, status) in [("/v1/users/profile", 200), ("/v1/nothing", 404)] {
        let request = hub.request(Method::GET, path).bearer_auth(&seeker.token);
        let read = answer(request.header("origin", APP)).await;
        assert_eq!(read.status, status, "{path}");
        assert_eq!(read.headers["access-control-allow-origin"], APP, "{path}");
        let shown = words(&read.headers, "access-control-expose-headers");
        for name in ["x-request-id", "etag", "retry-after"] {
            assert!(shown.contains(&name.to_owned()), "{path}: {name} is not in {shown:?}");
        }
    }
    let wrong = hub.request(Method::POST, "/v1/auth/login").json(&json!({}));
    let wrong = answer(wrong.header("origin", APP)).await;
    wrong.names("email");
    assert_eq!(wrong.headers["access-control-allow-origin"], APP);
    hub.stop().await;
}

#[tokio::test]
async fn pages_of_others_may_not_and_nobodys_when_none_is_listed() {
    let hub = TestHub::start_with(|c| c.http.allowed_origins = vec![APP.to_owned()]).await;
    let none = TestHub::start().await;
    for (hub, origin) in [(&hub, "https://evil.example"), (&none, APP)] {
        let asked = answer(preflight(hub, origin)).await;
        assert!(asked.status.is_client_error(), "{}", asked.status);
        assert_eq!(asked.headers.get("access-control-allow-origin"), None);
        let read = hub.request(Method::GET, "/v1/services").header("origin", origin);
        let read = answer(read).await;
        assert_eq!(read.headers.get("access-control-allow-origin"), None);
    }
    none.stop().await;
    hub.stop().await;
}
