//! Reading variables, and saying which one is wrong and what is allowed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

/// A variable has a value that is not allowed. The value is not shown: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is not valid: it must be {allowed}")]
pub struct ConfigError {
    /// Name of the variable.
    pub variable: String,
    /// What it may be.
    pub allowed: String,
}

impl ConfigError {
    /// `variable` must be `allowed`.
    pub fn new(variable: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { variable: variable.into(), allowed: allowed.into() }
    }
}

/// Variables and their values. An empty value counts as not set.
#[derive(Clone, Default)]
pub struct Env {
    values: BTreeMap<String, String>,
    /// The names in the file: nobody else's business, so each must be one of the hub's.
    in_file: BTreeSet<String>,
    /// The names that were asked for.
    known: RefCell<BTreeSet<String>>,
}

impl Env {
    /// The process's variables, and below them those of `file`, in the form of `.env` files.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut env = Self::default();
        if let Some(path) = file {
            let wrong = |_| ConfigError::new("HUB_CONFIG", "a readable file of lines NAME=value");
            for pair in dotenvy::from_path_iter(path).map_err(wrong)? {
                let (name, value) = pair.map_err(wrong)?;
                env.in_file.insert(name.clone());
                env.values.insert(name, value);
            }
        }
        // A variable that is not Unicode is none of ours.
        env.values.extend(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        Ok(env)
    }

    /// Refuses a name in the file that nobody has asked for: it is misspelt, and what it was to
    /// change stays as it was.
    pub(super) fn refuse_unknown(&self) -> Result<(), ConfigError> {
        let known = self.known.borrow();
        let Some(name) = self.in_file.iter().find(|name| !known.contains(*name)) else {
            return Ok(());
        };
        let alike = |known: &&String| known.starts_with(name.as_str()) || name.starts_with(*known);
        let meant = known.iter().find(alike).map(|known| format!(", such as {known}"));
        let meant = meant.unwrap_or_default();
        let allowed = format!("the name of a setting, as everything in the file must be{meant}");
        Err(ConfigError::new(name.clone(), allowed))
    }

    /// Variables given one by one, for tests.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let values = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { values, ..Self::default() }
    }

    /// A text, if it is set.
    pub fn text(&self, name: &str) -> Option<String> {
        self.known.borrow_mut().insert(name.to_owned());
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A secret, if it is set.
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        self.text(name).map(Into::into)
    }

    /// A list by commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(ToOwned::to_owned).collect()
    }

    /// Anything that can be parsed.
    pub fn parse<T: FromStr>(
        &self,
        name: &str,
        default: &str,
        allowed: &str,
    ) -> Result<T, ConfigError> {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        text.parse().map_err(|_| ConfigError::new(name, allowed))
    }

    /// A number within bounds.
    pub fn number<T>(
        &self,
        name: &str,
        default: T,
        allowed: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let wrong = || {
            ConfigError::new(
                name,
                format!("a number from {} to {}", allowed.start(), allowed.end()),
            )
        };
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|n| allowed.contains(n)).ok_or_else(wrong)
    }

    /// So many seconds.
    pub fn seconds(
        &self,
        name: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        self.number(name, default, allowed).map(Duration::from_secs)
    }

    /// One of some words.
    pub fn choice(
        &self,
        name: &str,
        default: &str,
        allowed: &[&str],
    ) -> Result<String, ConfigError> {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        if allowed.contains(&text.as_str()) {
            Ok(text)
        } else {
            Err(ConfigError::new(name, allowed.join(" or ")))
        }
    }
}
