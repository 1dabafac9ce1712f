//! The floors of the building: who may know whom, and what is forbidden where.
//!
//! Reads the sources as text; comments and string literals are taken out first, tests as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up, and what each may know besides itself.
const FLOORS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // Everybody but `domain` may count and ask the time; both know nobody.
    ("counters", &[]),
    ("clock", &[]),
    ("bus", &["domain", "counters", "clock"]),
    ("outbound", &["domain"]),
    ("push", &["domain", "outbound"]),
    ("postgres", &["domain"]),
    ("storage", &[]),
    ("models", &["domain", "counters", "clock"]),
    ("error", &["domain", "models"]),
    ("actors", &["domain", "models", "error", "bus", "counters", "clock"]),
    (
        "services",
        &[
            "domain", "models", "error", "actors", "bus", "push", "outbound", "storage",
            "counters", "clock",
        ],
    ),
    (
        "http",
        &["domain", "models", "error", "actors", "services", "bus", "push", "counters", "clock"],
    ),
    (
        "jobs",
        &[
            "domain", "models", "error", "actors", "services", "bus", "push", "outbound",
            "counters", "clock",
        ],
    ),
    ("config", &["domain"]),
    (
        "app",
        &[
            "domain", "models", "error", "actors", "services", "http", "jobs", "config", "bus",
            "push", "postgres", "outbound", "storage", "counters", "clock",
        ],
    ),
];

/// What `domain` must not touch: clocks, threads, the environment, files, randomness.
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "now_v7",
    "new_v4",
    "tokio",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "rand::",
    "async fn",
    "TimeZone::system",
];

/// The code of a file: without comments, texts and what is compiled for tests only.
fn code_of(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut code = String::new();
    for line in source.lines() {
        let mut in_text = false;
        let mut previous = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '"' && previous != '\\' && previous != '\'' {
                in_text = !in_text;
            } else if !in_text && c == '/' && chars.peek() == Some(&'/') {
                break;
            } else if !in_text {
                code.push(c);
            }
            previous = c;
        }
        code.push('\n');
    }
    code
}

/// The modules that `code` names by `crate::`, also in groups such as `crate::{a, b::c}`.
fn known_floors(code: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in group.char_indices() {
                if start && depth == 0 && !c.is_whitespace() {
                    known.insert(word(&group[i..]));
                    start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ => {}
                }
            }
        } else {
            known.insert(word(rest));
        }
    }
    known.retain(|name| !name.is_empty());
    known
}

/// Everything wrong with one file; `path` is relative to `src`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut found = Vec::new();
    let top = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| *floor == top) {
        for floor in known_floors(&code) {
            if floor != top && !allowed.contains(&floor.as_str()) {
                found.push(format!("{path}: {top} looks at {floor}"));
            }
        }
    } else if !matches!(path, "main.rs" | "lib.rs") {
        found.push(format!("{path}: say in FLOORS where {top} stands"));
    }
    if top == "domain" {
        let impure = IMPURE.iter().filter(|word| code.contains(**word));
        found.extend(impure.map(|word| format!("{path}: domain uses {word}")));
    }
    if code.contains("actix_web_actors") && path != "actors/session.rs" {
        found.push(format!("{path}: only actors/session.rs knows actix_web_actors"));
    }
    if code.contains("web::Query") {
        found.push(format!("{path}: http/query.rs reads queries: actix's names no parameter"));
    }
    for word in ["do_send", "unbounded"] {
        if code.contains(word) {
            found.push(format!("{path}: {word}: every queue has a bound"));
        }
    }
    let lines = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().count();
    let counted = !path.ends_with("models/schema.rs") && !path.ends_with("tests.rs");
    if counted && lines > 400 {
        found.push(format!("{path}: {lines} lines without its tests"));
    }
    found
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn no_floor_looks_up() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 90, "only {} files were found", files.len());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        found.extend(violations(&path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_checker_sees_what_it_is_to_see() {
    let long = "fn f() {}\n".repeat(401);
    for (path, source, word) in [
        ("domain/a.rs", "use crate::models::Conn;", "looks at models"),
        ("models/a.rs", "fn f() { crate::actors::now(); }", "looks at actors"),
        ("models/a.rs", "use crate::{domain::money, services::{auth, chat}};", "looks at services"),
        ("actors/a.rs", "use crate::{\n    models,\n    http::body,\n};", "looks at http"),
        ("services/a.rs", "pub(crate) use crate::http;", "looks at http"),
        ("services/a.rs", "use crate::config::Config;", "looks at config"),
        ("jobs/a.rs", "use crate::http::error;", "looks at http"),
        ("push/a.rs", "use crate::models;", "looks at models"),
        ("config/a.rs", "use crate::app::Hub;", "looks at app"),
        ("graphql/a.rs", "", "where graphql stands"),
        (
            "domain/a.rs",
            "use std::time::{Duration}; fn f() { Timestamp::now(); }",
            "Timestamp::now",
        ),
        ("domain/a.rs", "use std::time::{Duration, SystemTime};", "SystemTime"),
        ("domain/a.rs", "use tokio::sync::Mutex;", "tokio"),
        ("domain/a.rs", "use rand::Rng;", "rand::"),
        ("domain/a.rs", "use std::env;", "std::env"),
        ("http/ws.rs", "use actix_web_actors::ws;", "actix_web_actors"),
        ("http/a.rs", "query: web::Query<ListQuery>", "names no parameter"),
        ("actors/a.rs", "addr.do_send(x);", "do_send"),
        ("actors/a.rs", "let (a, b) = mpsc::unbounded_channel();", "unbounded"),
        ("http/a.rs", &long, "401 lines"),
    ] {
        let found = violations(path, source);
        assert!(found.iter().any(|v| v.contains(word)), "{path} {word}: {found:?}");
    }
}

#[test]
fn the_checker_lets_pass_what_is_right() {
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(500));
    for (path, source) in [
        ("domain/a.rs", "use super::time;\nuse crate::domain::money; // crate::models"),
        ("domain/a.rs", "/// Timestamp::now is not for us\nfn f(now: Timestamp) {}"),
        ("models/a.rs", "fn f() -> &'static str { \"crate::http\" }"),
        ("services/a.rs", "use crate::{actors::now, domain::{chat, money}};"),
        ("app/mod.rs", "use crate::{http, jobs, services, postgres};"),
        ("actors/session.rs", "use actix_web_actors::ws;"),
        ("http/a.rs", &tested),
    ] {
        assert_eq!(violations(path, source), [""; 0], "{path}");
    }
}
