//! Every route without a good token.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::hub::answer;
use crate::support::{TestHub, rows};

/// Routes that everybody may ask. A new route belongs here or into `PROTECTED`.
const PUBLIC: &[(&str, &str)] = &[
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/openapi.json"),
    ("post", "/v1/auth/register"),
    ("post", "/v1/auth/login"),
    ("post", "/v1/auth/refresh"),
    ("get", "/v1/services"),
    ("get", "/v1/practitioners"),
    ("get", "/v1/practitioners/{id}"),
    ("get", "/v1/practitioners/{id}/services"),
    ("get", "/v1/practitioners/{id}/availability"),
    ("get", "/v1/holidays"),
    ("get", "/v1/practitioners/{id}/reviews"),
    ("get", "/v1/practitioners/{id}/next-available"),
    ("get", "/v1/availability/next"),
    ("get", "/v1/notifications/vapid-public-key"),
    // These two take the secret of the feed instead.
    ("get", "/v1/practitioners/{id}/calendar.ics"),
    ("get", "/v1/users/calendar.ics"),
    // A browser's token comes with the first frame.
    ("get", "/v1/ws"),
];

/// Routes that need a token.
const PROTECTED: &[(&str, &str)] = &[
    ("post", "/v1/auth/logout"),
    ("get", "/v1/auth/sessions"),
    ("delete", "/v1/auth/sessions"),
    ("delete", "/v1/auth/sessions/{id}"),
    ("get", "/v1/users/profile"),
    ("put", "/v1/users/profile"),
    ("post", "/v1/users/calendar-feed"),
    ("delete", "/v1/users/calendar-feed"),
    ("post", "/v1/services"),
    ("post", "/v1/practitioners"),
    ("put", "/v1/practitioners/{id}"),
    ("put", "/v1/practitioners/{id}/services/{serviceId}"),
    ("put", "/v1/practitioners/{id}/availability"),
    ("get", "/v1/practitioners/{id}/schedule"),
    ("get", "/v1/practitioners/{id}/blocks"),
    ("post", "/v1/practitioners/{id}/blocks"),
    ("delete", "/v1/practitioners/{id}/blocks/{blockId}"),
    ("get", "/v1/holds"),
    ("post", "/v1/practitioners/{id}/calendar-feed"),
    ("delete", "/v1/practitioners/{id}/calendar-feed"),
    ("get", "/v1/practitioners/{id}/external-calendars"),
    ("post", "/v1/practitioners/{id}/external-calendars"),
    ("put", "/v1/practitioners/{id}/external-calendars/{calendarId}"),
    ("delete", "/v1/practitioners/{id}/external-calendars/{calendarId}"),
    ("post", "/v1/practitioners/{id}/external-calendars/{calendarId}/refresh"),
    ("post", "/v1/holds"),
    ("delete", "/v1/holds/{id}"),
    ("post", "/v1/holds/{id}/extend"),
    ("post", "/v1/bookings/{id}/start"),
    ("post", "/v1/bookings/{id}/end"),
    ("post", "/v1/bookings/{id}/no-show"),
    ("get", "/v1/bookings"),
    ("post", "/v1/bookings"),
    ("get", "/v1/bookings/{id}"),
    ("post", "/v1/bookings/series"),
    ("put", "/v1/bookings/{id}"),
    ("delete", "/v1/bookings/{id}"),
    ("post", "/v1/bookings/{id}/confirm"),
    ("post", "/v1/bookings/{id}/decline"),
    ("post", "/v1/bookings/{id}/cancel"),
    ("get", "/v1/bookings/{id}/events"),
    ("get", "/v1/waitlist"),
    ("post", "/v1/waitlist"),
    ("delete", "/v1/waitlist/{id}"),
    ("get", "/v1/reviews"),
    ("post", "/v1/reviews"),
    ("put", "/v1/reviews/{id}"),
    ("delete", "/v1/reviews/{id}"),
    ("get", "/v1/bookings/{id}/invite.ics"),
    ("get", "/v1/conversations"),
    ("post", "/v1/conversations"),
    ("get", "/v1/conversations/{id}"),
    ("put", "/v1/conversations/{id}"),
    ("get", "/v1/conversations/{id}/members"),
    ("post", "/v1/conversations/{id}/members"),
    ("put", "/v1/conversations/{id}/members/{userId}"),
    ("delete", "/v1/conversations/{id}/members/{userId}"),
    ("put", "/v1/conversations/{id}/messages/{messageId}"),
    ("delete", "/v1/conversations/{id}/messages/{messageId}"),
    ("put", "/v1/conversations/{id}/messages/{messageId}/reactions/{emoji}"),
    ("delete", "/v1/conversations/{id}/messages/{messageId}/reactions/{emoji}"),
    ("get", "/v1/users/chat-settings"),
    ("put", "/v1/users/chat-settings"),
    ("get", "/v1/conversations/{id}/messages"),
    ("post", "/v1/conversations/{id}/messages"),
    ("post", "/v1/conversations/{id}/read"),
    ("post", "/v1/conversations/{id}/attachments"),
    ("get", "/v1/conversations/search"),
    ("get", "/v1/conversations/{id}/mute"),
    ("put", "/v1/conversations/{id}/mute"),
    ("delete", "/v1/conversations/{id}/mute"),
    ("get", "/v1/conversations/{id}/export"),
    ("post", "/v1/users/{id}/block"),
    ("delete", "/v1/users/{id}/block"),
    ("get", "/v1/blocks"),
    ("get", "/v1/reports"),
    ("post", "/v1/reports"),
    ("get", "/v1/reports/{id}"),
    ("post", "/v1/reports/{id}/resolve"),
    ("get", "/v1/attachments/{id}"),
    ("get", "/v1/attachments/{id}/thumbnail"),
    ("get", "/v1/notifications"),
    ("post", "/v1/notifications/read"),
    ("get", "/v1/notifications/preferences"),
    ("put", "/v1/notifications/preferences"),
    ("get", "/v1/notifications/devices"),
    ("post", "/v1/notifications/devices"),
    ("delete", "/v1/notifications/devices/{id}"),
];

#[test]
fn every_route_is_known_to_be_public_or_protected() {
    let routes: BTreeSet<_> = hub::http::ROUTES.iter().copied().collect();
    let public: BTreeSet<_> = PUBLIC.iter().copied().collect();
    let protected: BTreeSet<_> = PROTECTED.iter().copied().collect();
    assert_eq!(public.intersection(&protected).next(), None);
    let listed: BTreeSet<_> = public.union(&protected).copied().collect();
    let missing: Vec<_> = routes.difference(&listed).collect();
    assert!(missing.is_empty(), "say of these whether they need a token: {missing:?}");
    let gone: Vec<_> = listed.difference(&routes).collect();
    assert!(gone.is_empty(), "there are no such routes: {gone:?}");
}

fn verb(method: &str) -> Method {
    Method::from_bytes(method.to_uppercase().as_bytes()).unwrap()
}

/// The path with an id that is nobody's in each place.
fn filled(pattern: &str) -> String {
    let mut path = String::new();
    for part in pattern.split('/').skip(1) {
        let id = Uuid::now_v7().to_string();
        path = format!("{path}/{}", if part.starts_with('{') { &id } else { part });
    }
    path
}

#[tokio::test]
async fn without_a_good_token_no_protected_route_answers() {
    let hub = TestHub::start().await;
    let gone = hub.seeker().await;
    gone.post(&hub, "/v1/auth/logout", json!({})).await.data(200);
    let before = rows::contents(&hub.database_url).await;
    let bad = [
        None,
        Some("Bearer nonsense".to_owned()),
        Some("Basic dXNlcjpwYXNz".to_owned()),
        Some("Bearer".to_owned()),
        Some(format!("Bearer {}", gone.token)),
        Some(gone.token.clone()),
    ];
    for (method, pattern) in PROTECTED {
        for authorization in &bad {
            let mut request = hub.request(verb(method), &filled(pattern));
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = answer(request).await;
            // A body that does not fit may be told first; what it asked for is not done.
            if answer.status == 422 && authorization.as_ref().is_some_and(|a| a.contains('.')) {
                answer.refused(422, "validation_failed");
                continue;
            }
            let what = format!("{method} {pattern} with {authorization:?}");
            assert_eq!(answer.status, 401, "{what}: {:#}", answer.body);
            answer.refused(401, "unauthenticated");
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
        }
    }
    assert_eq!(rows::contents(&hub.database_url).await, before);
    hub.stop().await;
}

#[tokio::test]
async fn public_routes_need_no_token() {
    let hub = TestHub::start().await;
    for (method, pattern) in PUBLIC.iter().filter(|(_, path)| *path != "/v1/ws") {
        let answer = hub.call(verb(method), &filled(pattern), None, None).await;
        assert_ne!(answer.status, 401, "{method} {pattern}: {:#}", answer.body);
        assert!(!answer.status.is_server_error(), "{method} {pattern}: {:#}", answer.body);
    }
    // Who shows a token believes to be somebody.
    let path = filled("/v1/practitioners/{id}/availability?serviceId=x");
    let bad = hub.call(Method::GET, &path, Some("nonsense"), None).await;
    assert!(bad.status == 401 || bad.status == 422, "{:#}", bad.body);
    hub.stop().await;
}
