//! The API's description against what is served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hub::domain::attachment::FileType;
use hub::domain::booking::Status;
use hub::http::{ROUTES, openapi};
use serde_json::{Value, json};

use crate::support::TestHub;
use crate::support::hub::answer;

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

/// What the specification (3.1.0) requires and a generator easily forgets. PyPI's
/// `openapi-spec-validator` says the same of the whole.
#[test]
fn the_description_is_valid() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    for needed in ["/info/title", "/info/version", "/paths", "/components/schemas"] {
        assert!(document.pointer(needed).is_some(), "{needed} is missing");
    }
    assert!(document.pointer("/info/license").is_none(), "it would have to have a name");
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{what}: there is another {id}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let known =
                status == "default" || status.parse().is_ok_and(|n| (100..600).contains(&n));
            assert!(known, "{what}: {status} is no status");
            let description = response["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{what}: {status} has no description");
        }
        let mut names = BTreeSet::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, place) = (parameter["name"].as_str().unwrap(), &parameter["in"]);
            assert!(names.insert((name, place.to_string())), "{what}: {name} is there twice");
            assert!(
                ["path", "query", "header"].contains(&place.as_str().unwrap()),
                "{what} {name}"
            );
            assert!(parameter["schema"].is_object(), "{what}: {name} has no schema");
            assert!(place != "path" || parameter["required"] == true, "{what}: {name}");
        }
        for security in operation["security"].as_array().into_iter().flatten() {
            for scheme in security.as_object().unwrap().keys() {
                let pointer = format!("/components/securitySchemes/{scheme}");
                assert!(document.pointer(&pointer).is_some(), "{what}: {scheme}");
            }
        }
        if let Some(body) = operation.get("requestBody") {
            assert!(!body["content"].as_object().unwrap().is_empty(), "{what}");
        }
    }
}

/// Schemas go by the names of their types: of two with one name only one would be described.
#[test]
fn no_two_schemas_have_one_name() {
    let mut seen = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for part in source.split("#[derive(").skip(1) {
                let (derived, rest) = part.split_once(")]").unwrap();
                if !derived.contains("ToSchema") {
                    continue;
                }
                let named = rest.split(['\n', '{', '(', ';', ':', '<']).find_map(|line| {
                    let line = line.trim().trim_start_matches("pub ");
                    line.strip_prefix("struct ").or_else(|| line.strip_prefix("enum "))
                });
                let name = named.unwrap().trim().to_owned();
                let other = seen.insert(name.clone(), path.clone());
                assert_eq!(other, None, "there is another {name} in {}", path.display());
            }
        }
    }
    assert!(seen.len() > 80, "{}", seen.len());
}

/// What an answer is read by: the data and, when there are none, why.
#[test]
fn every_answer_has_a_schema() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            // Switching protocols, and what is there already, have no body; no socket is opened
            // for other reasons than the default tells.
            if status.starts_with('2') || status == "default" {
                let content = response["content"].as_object();
                let content = content.unwrap_or_else(|| panic!("{what} {status}: {response}"));
                let described = content.values().all(|kind| kind["schema"].is_object());
                assert!(described && !content.is_empty(), "{what} {status}: {response}");
            }
        }
        let failed = &responses["default"]["content"]["application/json"]["schema"];
        assert_eq!(failed["$ref"], "#/components/schemas/Failure", "{what}");
    }
    let schemas = &document["components"]["schemas"];
    let codes = &schemas["Failure"]["properties"]["error"]["properties"]["code"]["enum"];
    assert!(codes.as_array().unwrap().contains(&json!("too_many_holds")), "{codes}");
}

#[test]
fn the_states_of_bookings_are_described() {
    let document = document();
    let described = &document["components"]["schemas"]["BookingStatus"]["enum"];
    let described: BTreeSet<&str> =
        described.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let of_holds = ["held", "released", "lapsed"];
    let all = Status::ALL.into_iter().map(Status::as_str);
    assert_eq!(described, all.filter(|word| !of_holds.contains(word)).collect());
}

#[test]
fn files_are_described_by_their_types() {
    let document = document();
    let upload = &document["paths"]["/v1/conversations/{id}/attachments"]["post"];
    let content = upload["requestBody"]["content"].as_object().unwrap();
    assert_eq!(content.len(), FileType::ALL.len());
    for kind in FileType::ALL {
        let schema = &content[kind.media_type()]["schema"];
        assert_eq!(schema, &json!({ "type": "string", "format": "binary" }));
    }
    let thumbnail = &document["paths"]["/v1/attachments/{id}/thumbnail"]["get"]["responses"]["200"];
    assert_eq!(thumbnail["content"]["image/jpeg"]["schema"]["format"], "binary");
}

fn takes_header(operation: &Value, name: &str) -> bool {
    let parameters = operation["parameters"].as_array();
    parameters.into_iter().flatten().any(|p| p["in"] == "header" && p["name"] == name)
}

/// The headers of the description against what the handlers do with nonsense in them.
#[tokio::test]
async fn the_headers_that_are_read_are_described() {
    let hub = TestHub::start().await;
    let mut read = 0;
    for (method, path, operation) in operations(&document()) {
        if method == "get" {
            continue;
        }
        // One may log its caller out.
        let person = hub.seeker().await;
        let parts = path.split('/').map(|part| match part.starts_with('{') {
            true => uuid::Uuid::now_v7().to_string(),
            false => part.to_owned(),
        });
        let url = parts.collect::<Vec<_>>().join("/");
        let body = match path.rsplit('/').next() {
            Some("availability") => json!({ "timeZone": "Asia/Kolkata" }),
            Some("external-calendars") => {
                json!({ "name": "x", "url": "https://calendar.example.com/x.ics" })
            }
            _ => json!({}),
        };
        let too_long = "x".repeat(101);
        for (name, value) in [("Idempotency-Key", too_long.as_str()), ("If-Match", "nonsense")] {
            let request = hub.request(method.to_uppercase().parse().unwrap(), &url);
            let request = request.bearer_auth(&person.token).header(name, value).json(&body);
            let details = answer(request).await.body["error"]["details"].clone();
            let named = details.as_array().is_some_and(|d| d.iter().any(|p| p["field"] == name));
            assert_eq!(named, takes_header(&operation, name), "{method} {path}: {name} {details}");
            read += usize::from(named);
        }
    }
    assert!(read >= 20, "only {read} were found");
    hub.stop().await;
}

#[test]
fn a_conversation_that_was_there_is_described() {
    let document = document();
    let responses = &document["paths"]["/v1/conversations"]["post"]["responses"];
    assert!(responses["200"].is_object() && responses["201"].is_object());
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

/// The names that `domain/slots/refusal.rs` gives to rules, all but that of a taken time.
#[test]
fn the_rules_of_slots_are_documented() {
    let source = include_str!("../../src/domain/slots/refusal.rs");
    let body = source.split("fn rule(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let rules: Vec<&str> = body.split('"').skip(1).step_by(2).filter(|r| *r != "taken").collect();
    assert!(rules.len() >= 7 && rules.contains(&"grid"), "{rules:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = std::fs::read_to_string(&path).unwrap();
    for rule in rules {
        assert!(page.contains(&format!("\n| `{rule}` |")), "{rule} is not in docs/errors.md");
    }
}
