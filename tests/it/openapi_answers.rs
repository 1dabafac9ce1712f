//! Real answers against the schemas that describe them: nothing is there that is not described, and
//! nothing is missing that is required.

use std::collections::{BTreeMap, BTreeSet};

use hub::http::openapi;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, Practice, TestHub};

/// A schema with what it refers to and is put together from.
#[derive(Default)]
struct Flat {
    types: BTreeSet<String>,
    properties: BTreeMap<String, Value>,
    required: BTreeSet<String>,
    /// The schema of properties without a name of their own.
    others: Option<Value>,
}

struct Description(Value);

impl Description {
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(pointer) => self.0.pointer(pointer.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }

    fn flat(&self, schema: &Value, into: &mut Flat) {
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.flat(part, into);
        }
        let listed = match &schema["type"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => all.iter().map(|t| t.as_str().unwrap().to_owned()).collect(),
            _ => Vec::new(),
        };
        into.types.extend(listed);
        let properties = schema["properties"].as_object().into_iter().flatten();
        into.properties.extend(properties.map(|(name, schema)| (name.clone(), schema.clone())));
        let required = schema["required"].as_array().into_iter().flatten();
        into.required.extend(required.map(|name| name.as_str().unwrap().to_owned()));
        if schema["additionalProperties"].is_object() {
            into.others = Some(schema["additionalProperties"].clone());
        }
    }

    /// What is wrong with `value`, by its path.
    fn problems(&self, schema: &Value, value: &Value, path: &str) -> Vec<String> {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let all: Vec<_> = choices.iter().map(|one| self.problems(one, value, path)).collect();
            let fits = all.iter().any(Vec::is_empty);
            return if fits { Vec::new() } else { all.into_iter().flatten().collect() };
        }
        if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            return vec![format!("{path} is {value}, none of {}", schema["enum"])];
        }
        let mut flat = Flat::default();
        self.flat(schema, &mut flat);
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let whole = kind == "integer" && flat.types.contains("number");
        if !flat.types.is_empty() && !flat.types.contains(kind) && !whole {
            return vec![format!("{path} is {value}, and should be {:?}", flat.types)];
        }
        match value {
            Value::Array(items) if schema["items"].is_object() => {
                let each = items.iter().enumerate();
                each.flat_map(|(i, v)| self.problems(&schema["items"], v, &format!("{path}[{i}]")))
                    .collect()
            }
            Value::Object(fields) => self.in_object(&flat, fields, path),
            _ => Vec::new(),
        }
    }

    fn in_object(
        &self,
        flat: &Flat,
        fields: &serde_json::Map<String, Value>,
        path: &str,
    ) -> Vec<String> {
        let missing = flat.required.iter().filter(|name| !fields.contains_key(*name));
        let mut problems: Vec<_> =
            missing.map(|name| format!("{path}.{name} is missing")).collect();
        // An object of which nothing is described may be anything.
        let free = flat.properties.is_empty() && flat.others.is_none();
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match flat.properties.get(name).or(flat.others.as_ref()) {
                Some(schema) => problems.extend(self.problems(schema, value, &path)),
                None if free => {}
                None => problems.push(format!("{path} is not described")),
            }
        }
        problems
    }
}

/// Asks, and holds the answer against its description.
struct Reader {
    hub: TestHub,
    description: Description,
    wrong: Vec<String>,
    asked: BTreeSet<String>,
}

impl Reader {
    /// Asks for a method and a route, with `ids` in place of its names in braces.
    async fn ask(&mut self, who: &Person, what: &str, ids: &[&str], body: Value) -> Value {
        let (method, route) = what.split_once(' ').unwrap();
        let (route, query) = route.split_once('?').unwrap_or((route, ""));
        let mut ids = ids.iter();
        let parts = route.split('/').map(|part| match part.starts_with('{') {
            true => (*ids.next().unwrap()).to_owned(),
            false => part.to_owned(),
        });
        let path = format!("{}?{query}", parts.collect::<Vec<_>>().join("/"));
        let sent = (method != "GET").then_some(&body);
        let verb: Method = method.parse().unwrap();
        let answer = self.hub.call(verb, path.trim_end_matches('?'), Some(&who.token), sent).await;
        let responses =
            &self.description.0["paths"][route][method.to_lowercase().as_str()]["responses"];
        let described = match responses.get(answer.status.as_str()) {
            Some(response) => response,
            None => &responses["default"],
        };
        let schema = &described["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{what} {} is not described", answer.status);
        let name = format!("{what} {}", answer.status.as_u16());
        self.wrong.extend(self.description.problems(schema, &answer.body, &name));
        self.asked.insert(name);
        answer.body["data"].clone()
    }

    async fn get(&mut self, who: &Person, route: &str, ids: &[&str]) -> Value {
        self.ask(who, &format!("GET {route}"), ids, json!(null)).await
    }

    async fn post(&mut self, who: &Person, route: &str, ids: &[&str], body: Value) -> Value {
        self.ask(who, &format!("POST {route}"), ids, body).await
    }
}

fn id(data: &Value) -> String {
    data["id"].as_str().unwrap_or_else(|| panic!("no id in {data:#}")).to_owned()
}

/// Whoever asks.
struct People {
    practice: Practice,
    seeker: Person,
    admin: Person,
    /// A session that took place.
    done: String,
}

/// Makes one thing of each kind; returns a booking that was called off and a conversation.
async fn make(it: &mut Reader, all: &People) -> (String, String) {
    let People { practice, seeker, admin, done } = all;
    it.post(seeker, "/v1/reviews", &[], json!({ "bookingId": done, "rating": 5 })).await;
    it.post(seeker, "/v1/holds", &[], practice.wish(practice.slot(5))).await;
    it.post(seeker, "/v1/holds", &[], json!({ "seats": [] })).await;
    let wish = practice.wish(practice.slot(6));
    let booking = id(&it.post(seeker, "/v1/bookings", &[], wish.clone()).await);
    let mut wait = wish;
    wait.as_object_mut().unwrap().remove("startsAt");
    (wait["from"], wait["to"]) = (json!(practice.slot(6)), json!(practice.slot(7)));
    it.post(admin, "/v1/waitlist", &[], wait).await;
    let closed = json!({ "startsAt": practice.slot(8), "endsAt": practice.slot(9) });
    it.post(&practice.person, "/v1/practitioners/{id}/blocks", &[&practice.id], closed).await;
    let chat = json!({ "userId": practice.person.id });
    let chat = id(&it.post(seeker, "/v1/conversations", &[], chat).await);
    let said = json!({ "clientId": uuid::Uuid::now_v7(), "type": "text", "content": "Namaste" });
    it.post(seeker, "/v1/conversations/{id}/messages", &[&chat], said).await;
    let read = json!({ "seq": 1 });
    it.post(&practice.person, "/v1/conversations/{id}/read", &[&chat], read).await;
    for why in [json!({ "reason": "ill" }), json!({})] {
        it.post(seeker, "/v1/bookings/{id}/cancel", &[&booking], why).await;
    }
    (booking, chat)
}

const LISTS: &[&str] = &[
    "/v1/users/profile",
    "/v1/auth/sessions",
    "/v1/services",
    "/v1/practitioners",
    "/v1/holds",
    "/v1/bookings",
    "/v1/waitlist",
    "/v1/reviews",
    "/v1/conversations",
    "/v1/notifications",
    "/v1/notifications/preferences",
    "/v1/notifications/devices",
    "/v1/notifications/vapid-public-key",
    "/v1/blocks",
    "/v1/reports",
    "/v1/users/chat-settings",
    "/v1/holidays?country=IN&year=2026",
    "/healthz",
    "/readyz",
];

#[tokio::test]
async fn answers_are_what_is_described() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true, "maxPerDay": 20 })).await;
    let (seeker, admin) = (hub.seeker().await, hub.admin().await);
    let done = hub.completed(&practice, &seeker, 3).await;
    let all = People { practice, seeker, admin, done };
    let description = Description(serde_json::to_value(openapi::document()).unwrap());
    let mut it = Reader { hub, description, wrong: Vec::new(), asked: BTreeSet::new() };
    let (booking, chat) = make(&mut it, &all).await;
    let People { practice, seeker, admin, done } = &all;
    let me = &practice.person;
    for route in LISTS {
        for who in [seeker, me, admin] {
            it.get(who, route, &[]).await;
        }
    }
    let span = format!("from={}&to={}", practice.slot(8), practice.slot(12));
    let service = format!("serviceId={}", practice.service_id);
    let slots = format!("/availability?{service}&{span}");
    let next = format!("/next-available?{service}");
    for route in ["", "/services", "/schedule", "/blocks", "/external-calendars", "/reviews"] {
        it.get(me, &format!("/v1/practitioners/{{id}}{route}"), &[&practice.id]).await;
    }
    for route in [slots, next] {
        it.get(seeker, &format!("/v1/practitioners/{{id}}{route}"), &[&practice.id]).await;
    }
    for route in ["", "/messages", "/members", "/mute"] {
        it.get(seeker, &format!("/v1/conversations/{{id}}{route}"), &[&chat]).await;
    }
    for who in [seeker, me] {
        it.get(who, "/v1/bookings/{id}", &[done]).await;
        it.get(who, "/v1/bookings/{id}/events", &[&booking]).await;
    }
    it.get(me, "/v1/bookings/{id}", &[&practice.id]).await;
    assert!(it.wrong.is_empty(), "{:#?}", it.wrong);
    assert!(it.asked.len() > 35, "{:?}", it.asked);
    it.hub.stop().await;
}

/// The check itself finds what it is for.
#[test]
fn what_does_not_fit_is_found() {
    let description = Description(json!({ "components": { "schemas": {
        "Inner": { "type": "object", "properties": { "n": { "type": ["integer", "null"] } } },
    } } }));
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": { "type": "string" },
            "b": { "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/Inner" }] },
        },
    });
    let found = |value| description.problems(&schema, &value, "it").len();
    assert_eq!(found(json!({ "a": "x", "b": { "n": null } })), 0);
    assert_eq!(found(json!({ "a": "x", "b": null })), 0);
    assert_eq!(found(json!({ "b": null })), 1);
    assert_eq!(found(json!({ "a": 1 })), 1);
    assert_eq!(found(json!({ "a": "x", "c": 1 })), 1);
    assert!(found(json!({ "a": "x", "b": { "m": 1 } })) > 0);
}
