//! `hub slots explain`, run as people run it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const RULES: [&str; 8] =
    ["in_past", "notice", "horizon", "hours", "taken", "grid", "limit", "range"];

fn cases() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../data/slot-cases.json")).unwrap();
    file["cases"].as_array().unwrap().clone()
}

/// Runs the binary with `input` on its stdin.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.args(["slots", "explain"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

fn answer(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_case_from_stdin_and_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let cases = cases();
    assert_eq!(cases.len(), 60);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let from_stdin = answer(&run(&["-"], &case.to_string()));
        assert_eq!(from_stdin, json!({ "slots": case["expected_slots_utc"] }), "{id}");

        std::fs::write(path, case.to_string()).unwrap();
        let why = answer(&run(&["--why", path], ""));
        assert_eq!(why["slots"], case["expected_slots_utc"], "{id}");
        let slots: BTreeSet<&str> =
            why["slots"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        for rejected in why["rejected"].as_array().unwrap() {
            assert!(!slots.contains(rejected["start"].as_str().unwrap()), "{id}: {rejected}");
            assert!(RULES.contains(&rejected["rule"].as_str().unwrap()), "{id}: {rejected}");
            assert!(!rejected["detail"].as_str().unwrap().is_empty(), "{id}: {rejected}");
        }
    }
}

fn monday() -> Value {
    json!({
        "timezone": "Asia/Kolkata", "weekly_hours": [{ "weekday": 1, "start": "09:00", "end": "13:00" }],
        "now": "2026-06-14T00:00:00Z", "range_start": "2026-06-14T18:30:00Z",
        "range_end": "2026-06-15T18:30:00Z", "duration_min": 60, "increment_min": 60,
        "existing_bookings": [{ "start": "2026-06-15T03:30:00Z", "end": "2026-06-15T04:30:00Z",
            "status": "confirmed" }]
    })
}

#[test]
fn why_tells_the_rule_of_each_start() {
    let mut case = monday();
    let rules = |case: &Value| -> Vec<String> {
        let why = answer(&run(&["--why", "-"], &case.to_string()));
        let rejected = why["rejected"].as_array().unwrap().iter();
        rejected.map(|r| r["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rules(&case), ["taken"]);
    case["limits"] = json!({ "service_per_day": 1 });
    assert_eq!(rules(&case), ["taken", "limit", "limit", "limit"]);
    // Of another service, it counts for the practitioner alone.
    case["existing_bookings"][0]["service"] = json!("other");
    assert_eq!(rules(&case), ["taken"]);
    case["limits"]["practitioner_per_week"] = json!(1);
    assert_eq!(rules(&case), ["taken", "limit", "limit", "limit"]);
    let why = answer(&run(&["--why", "-"], &case.to_string()));
    assert_eq!(
        why["rejected"][1]["detail"],
        "as many sessions of the practitioner as may begin in \
         2026-06-14T18:30:00Z/2026-06-21T18:30:00Z are there already: 1"
    );
}

#[test]
fn what_is_no_case_is_refused_by_field() {
    let refused = |arguments: &[&str], input: &str| {
        let output = run(arguments, input);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let mut case = monday();
    case["limits"] = json!({ "service_per_day": 0 });
    let said = refused(&["-"], &case.to_string());
    assert_eq!(said, "hub: limits.service_per_day: must be 1 to 1000\n");
    assert!(refused(&["-"], "").starts_with("hub: "));
    assert!(refused(&["/there/is/no/such/file"], "").contains("/there/is/no/such/file"));
}
