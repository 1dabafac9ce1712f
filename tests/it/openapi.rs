//! The API's description against what is served.

use std::collections::BTreeSet;
use std::path::Path;

use hub::http::{ROUTES, openapi};
use serde_json::Value;

use crate::support::TestHub;

fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

/// Every operation as (method, path, its description).
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "post", "put", "delete", "patch"].contains(&method.as_str()) {
                found.push((method.clone(), path.clone(), operation.clone()));
            }
        }
    }
    found
}

#[test]
fn what_is_described_is_what_is_routed() {
    let described: BTreeSet<(String, String)> =
        operations(&document()).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routed: BTreeSet<(String, String)> =
        ROUTES.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect();
    let missing: Vec<_> = routed.difference(&described).collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    let gone: Vec<_> = described.difference(&routed).collect();
    assert!(gone.is_empty(), "described but not routed: {gone:?}");
    assert_eq!(ROUTES.len(), routed.len(), "a route is there twice");
}

#[test]
fn every_operation_says_what_it_is_and_what_comes_back() {
    for (method, path, operation) in operations(&document()) {
        let what = format!("{method} {path}");
        assert!(!operation["tags"].as_array().unwrap().is_empty(), "{what} has no tag");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(summary.len() > 5, "{what} has no summary");
        let responses = operation["responses"].as_object().unwrap();
        let good = responses.keys().any(|status| status.starts_with('2') || status == "101");
        assert!(good, "{what} never succeeds: {responses:?}");
        assert!(responses.contains_key("default"), "{what} does not describe its errors");
        let described: Vec<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        let named: Vec<&str> =
            path.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect();
        assert_eq!(described, named, "{what}: the parameters of the path");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let mut followed = 0;
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} is not there");
        followed += 1;
    }
    assert!(followed > 20);
}

#[tokio::test]
async fn the_description_and_its_pages_are_served() {
    let hub = TestHub::start().await;
    let served = hub.get("/openapi.json").await;
    assert_eq!(served.body, document());
    let page = hub.request(reqwest::Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger-ui"));
    hub.stop().await;
}

#[test]
fn the_table_of_errors_is_the_codes() {
    let table = openapi::errors_markdown();
    let codes: BTreeSet<&str> =
        table.lines().skip(2).filter_map(|line| line.split('`').nth(1)).collect();
    assert_eq!(codes.len(), table.lines().count() - 2, "a code is there twice: {table}");
    for promised in [
        "validation_failed",
        "unauthenticated",
        "forbidden",
        "not_found",
        "slot_taken",
        "slot_unavailable",
        "hold_expired",
        "invalid_transition",
        "idempotency_conflict",
        "idempotency_in_flight",
        "rate_limited",
        "payload_too_large",
        "overloaded",
        "unsupported_version",
    ] {
        assert!(codes.contains(promised), "{promised} is promised by the contract");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    match std::fs::read_to_string(&path) {
        Ok(page) => assert!(page.contains(&table), "run: hub openapi --errors > docs/errors.md"),
        Err(e) => eprintln!("SKIPPED: docs/errors.md is not compared: {e}"),
    }
}
