//! What the tour prints: numbered steps, and under each what was sent and what came back.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::Wrong;

/// Where durations stand, in characters from the left.
const DURATIONS: usize = 104;
/// The longest JSON that is printed.
const LONGEST: usize = 150;

/// Prints. A failed write is kept for [`Screen::finish`].
pub struct Screen<'a> {
    to: &'a mut dyn Write,
    colour: bool,
    steps: u32,
    failed: Option<io::Error>,
}

impl<'a> Screen<'a> {
    pub fn new(to: &'a mut dyn Write, colour: bool) -> Self {
        Self { to, colour, steps: 0, failed: None }
    }

    /// How many steps were printed.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The beginning of a part.
    pub fn heading(&mut self, text: &str) {
        let text = self.painted("1", text);
        self.line(&format!("\n{text}"));
    }

    /// The beginning of a step.
    pub fn step(&mut self, what: &str) {
        self.steps += 1;
        let number = self.painted("1;34", &format!("{:>2}.", self.steps));
        self.line(&format!("\n {number} {what}"));
    }

    /// What is sent.
    pub fn out(&mut self, text: &str) {
        let text = self.painted("2", text);
        self.line(&format!("      → {text}"));
    }

    /// The answer.
    pub fn back(&mut self, text: &str, took: Duration) {
        self.timed(&format!("      ← {text}"), took);
    }

    /// What appears on the socket of `who`, so long after it was caused.
    pub fn appears(&mut self, who: &str, text: &str, after: Duration) {
        let who = self.painted("36", who);
        self.timed(&format!("      ◆ {who}: {text}"), after);
    }

    /// A remark.
    pub fn note(&mut self, text: &str) {
        let text = self.painted("2", text);
        self.line(&format!("      {text}"));
    }

    /// Tells whether everything could be printed.
    pub fn finish(&mut self) -> Result<(), Wrong> {
        match self.failed.take() {
            Some(e) => Err(e.into()),
            None => Ok(()),
        }
    }

    fn timed(&mut self, text: &str, took: Duration) {
        let escapes = text.matches('\u{1b}').count() * 4;
        let took = format!("{:.1} ms", took.as_secs_f64() * 1_000.0);
        let width = DURATIONS.max(text.chars().count()) + escapes;
        let took = self.painted("33", &took);
        self.line(&format!("{text:<width$}  {took}"));
    }

    fn line(&mut self, text: &str) {
        if let Err(e) = writeln!(self.to, "{text}").and_then(|()| self.to.flush()) {
            self.failed.get_or_insert(e);
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// JSON for people: ids cut to their last characters, secrets hidden, the end cut off.
pub fn in_short(value: &Value) -> String {
    let text = shown("", value).to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// An id for people. Ids of one moment begin alike.
pub fn id(id: impl Display) -> String {
    let id = id.to_string();
    format!("…{}", id.get(id.len().saturating_sub(6)..).unwrap_or_default())
}

fn shown(key: &str, value: &Value) -> Value {
    match value {
        Value::String(_) if matches!(key, "password" | "token" | "auth" | "p256dh") => {
            Value::from("***")
        }
        Value::String(text) if Uuid::try_parse(text).is_ok() => Value::from(id(text)),
        Value::String(text) => Value::from(channel(text).unwrap_or_else(|| text.clone())),
        Value::Array(items) => items.iter().map(|item| shown(key, item)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect()
        }
        other => other.clone(),
    }
}

/// A channel for people.
pub fn channel(text: &str) -> Option<String> {
    let (kind, key) = text.split_once(':')?;
    Uuid::try_parse(key).ok().map(|key| format!("{kind}:{}", id(key)))
}
