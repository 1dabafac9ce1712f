//! Why a tour ends early.

use std::fmt;

/// Something else happened than the tour expects, in words for people.
#[derive(Debug)]
pub struct Wrong {
    what: String,
    advice: Option<&'static str>,
    step: Option<u32>,
}

impl Wrong {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), advice: None, step: None }
    }

    /// What to do about it.
    pub fn advise(self, advice: &'static str) -> Self {
        Self { advice: self.advice.or(Some(advice)), ..self }
    }

    /// In which step it happened.
    pub fn at(self, step: u32) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Whether the hub's answer mentions `word`.
    pub fn mentions(&self, word: &str) -> bool {
        self.what.contains(word)
    }
}

/// Refuses unless `holds`.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::new(what())) }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(f, "stopped in step {step}: ")?;
        }
        f.write_str(&self.what)?;
        match self.advice {
            Some(advice) => write!(f, "\nWhat to do: {advice}."),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Wrong {}

impl From<reqwest::Error> for Wrong {
    fn from(e: reqwest::Error) -> Self {
        // The outer error only names the URL; the innermost says what happened.
        let mut cause: &dyn std::error::Error = &e;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let url = e.url().map(ToString::to_string).unwrap_or_default();
        Self::new(format!("no answer from {url}: {cause}"))
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for Wrong {
    fn from(e: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::new(format!("socket: {e}"))
    }
}

impl From<std::io::Error> for Wrong {
    fn from(e: std::io::Error) -> Self {
        Self::new(e.to_string())
    }
}
