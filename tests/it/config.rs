//! The configuration: what is read, what is allowed, what is documented.

use std::collections::BTreeSet;
use std::path::Path;

use hub::config::{Config, Env};

/// Variables that are read before or beside the configuration proper.
const BESIDE: &[&str] = &["HUB_CONFIG"];

/// Every variable that `src/config` reads: the first text given to one of `Env`'s readers.
fn read_by_the_code() -> BTreeSet<String> {
    let source = include_str!("../../src/config/mod.rs");
    let readers = [".text(", ".secret(", ".list(", ".parse(", ".number(", ".seconds(", ".choice("];
    let mut names: BTreeSet<String> = BESIDE.iter().map(|name| (*name).to_owned()).collect();
    for reader in readers {
        for rest in source.split(reader).skip(1) {
            let name: String = rest
                .trim_start()
                .strip_prefix('"')
                .unwrap_or_default()
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            names.extend(Some(name).filter(|n| !n.is_empty()));
        }
    }
    names
}

#[test]
fn the_reader_of_this_test_finds_the_variables() {
    let names = read_by_the_code();
    for name in ["HUB_LISTEN", "DATABASE_URL", "LOG_FORMAT", "FCM_BASE_URL", "TRUSTED_PROXIES"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    assert!(names.len() >= 27, "{names:?}");
}

#[test]
fn the_readme_lists_every_variable_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let Ok(readme) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: there is no README.md to compare the variables with");
        return;
    };
    let is_name =
        |text: &str| text.len() > 3 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let listed: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("| `")?.split('`').next())
        .filter(|name| is_name(name))
        .map(ToOwned::to_owned)
        .collect();
    let read = read_by_the_code();
    let missing: Vec<_> = read.difference(&listed).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
    let gone: Vec<_> = listed.difference(&read).collect();
    assert!(gone.is_empty(), "in README.md, read nowhere: {gone:?}");
}

#[test]
fn a_wrong_value_is_named_with_what_is_allowed_and_not_shown() {
    for (name, value, allowed) in [
        ("HUB_LISTEN", "8080x", "an address such as 0.0.0.0:8080"),
        ("METRICS_ADDR", "9464", "an address such as 127.0.0.1:9464"),
        ("HTTP_WORKERS", "0", "1 to 64"),
        ("HTTP_WORKERS", "65", "1 to 64"),
        ("HTTP_WORKERS", "many", "1 to 64"),
        ("ACTOR_THREADS", "33", "1 to 32"),
        ("ALLOWED_ORIGINS", "foo,bar", "no slash at the end"),
        ("ALLOWED_ORIGINS", "https://app.example.in/", "no slash at the end"),
        ("LOG_LEVEL", "inof", "off, error, warn, info, debug or trace"),
        ("TRUSTED_PROXIES", "10.0.0.1,balancer", "IP addresses, by commas"),
        ("SHUTDOWN_SECONDS", "0", "1 to 120"),
        ("DATABASE_POOL_SIZE", "1", "2 to 200"),
        ("DATABASE_POOL_WAIT_SECONDS", "61", "1 to 60"),
        ("JWT_SECRET", "31 bytes are one byte too few..", "at least 32 bytes"),
        ("ACCESS_TOKEN_TTL_SECONDS", "4", "5 to 86400"),
        ("REFRESH_TOKEN_TTL_SECONDS", "-1", "60 to 31536000"),
        ("CHAT_RETENTION_DAYS", "-1", "0 to 36500"),
        ("BCRYPT_COST", "9", "10 to 15"),
        ("HOLD_TTL_SECONDS", "901", "1 to 900"),
        ("COMMISSION_BPS", "10001", "0 to 10000"),
        ("CALENDAR_IMPORT_SECONDS", "59", "60 to 86400"),
        ("CALENDAR_ALLOW_PRIVATE_FEEDS", "yes", "true or false"),
        ("WS_HEARTBEAT_SECONDS", "0", "1 to 300"),
        ("WS_AUTH_TIMEOUT_SECONDS", "1.5", "1 to 60"),
        ("PRESENCE_GRACE_SECONDS", "121", "0 to 120"),
        ("PUSH_WINDOW_SECONDS", "301", "0 to 300"),
        ("PUSH_ALLOW_PRIVATE_ENDPOINTS", "yes", "true or false"),
        ("LOG_FORMAT", "xml", "text or json"),
    ] {
        let error = Config::from_env(&Env::of(&[(name, value)])).unwrap_err();
        assert_eq!(error.variable, name);
        assert!(error.allowed.contains(allowed), "{name}: {}", error.allowed);
        let said = error.to_string();
        assert!(said.contains(name) && !said.contains(&format!(" {value} ")), "{said}");
        if name == "JWT_SECRET" {
            assert!(!said.contains(value), "{said}");
        }
    }
}

#[test]
fn the_defaults_are_safe_to_start_with() {
    let config = Config::from_env(&Env::of(&[])).unwrap();
    assert!(config.http.listen.ip().is_loopback());
    assert_eq!(config.auth.bcrypt_cost, 12);
    assert!(config.http.trusted_proxies.is_empty() && config.http.allowed_origins.is_empty());
    assert!(!config.push.allow_private_endpoints && !config.import.allow_private);
    // An empty value counts as not set.
    let empty = Config::from_env(&Env::of(&[("JWT_SECRET", ""), ("HTTP_WORKERS", "")])).unwrap();
    assert!(empty.auth.jwt_secret.is_none());
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "HOLD_TTL_SECONDS=77\n# a comment\nCOMMISSION_BPS=1000\n").unwrap();
    let env = Env::load(Some(file.path())).unwrap();
    assert_eq!(Config::from_env(&env).unwrap().booking.hold_ttl.as_secs(), 77);
    std::fs::write(&file, "PATH=/nowhere\n").unwrap();
    let env = Env::load(Some(file.path())).unwrap();
    assert_ne!(env.text("PATH").unwrap(), "/nowhere");
    // Nobody but the hub reads the file, so a name that it does not know is misspelt.
    std::fs::write(&file, "HOLD_TTL_SECONDS=77\nHOLD_TTL_SECOND=5\n").unwrap();
    let env = Env::load(Some(file.path())).unwrap();
    let error = Config::from_env(&env).unwrap_err();
    assert_eq!(error.variable, "HOLD_TTL_SECOND");
    assert!(error.allowed.contains("HOLD_TTL_SECONDS"), "{error}");
    let missing = Env::load(Some(Path::new("/nowhere/at/all"))).err().unwrap();
    assert_eq!(missing.variable, "HUB_CONFIG");
}
