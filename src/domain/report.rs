//! Why somebody or something is reported.

use super::refusal::{Problems, Refusal};

/// Longest explanation, in characters; also of an administrator's note.
pub const MAX_DETAILS: usize = 2_000;

/// The reasons that can be given.
pub const REASONS: [&str; 7] =
    ["spam", "harassment", "threat", "sexual", "fraud", "health_claim", "other"];

/// How a report can end.
pub const OUTCOMES: [&str; 2] = ["upheld", "dismissed"];

/// Reads a reason and the words beside it; `other` needs some.
pub fn parse(reason: &str, details: &str) -> Result<&'static str, Refusal> {
    let found = REASONS.into_iter().find(|known| *known == reason);
    let mut problems = Problems::default();
    let problem = format!("must be one of {}", REASONS.join(", "));
    problems.require(found.is_some(), "reason", &problem);
    problems.length("details", details, usize::from(reason == "other"), MAX_DETAILS);
    problems.into_result()?;
    found.ok_or_else(|| Refusal::field("reason", problem))
}

/// Reads how a report ends, and the note to it.
pub fn parse_outcome(outcome: &str, note: Option<&str>) -> Result<&'static str, Refusal> {
    let found = OUTCOMES.into_iter().find(|known| *known == outcome);
    let mut problems = Problems::default();
    problems.require(found.is_some(), "outcome", "must be upheld or dismissed");
    problems.length("note", note.unwrap_or_default(), 0, MAX_DETAILS);
    problems.into_result()?;
    found.ok_or_else(|| Refusal::field("outcome", "must be upheld or dismissed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_that_there_is() {
        for reason in REASONS {
            assert_eq!(parse(reason, "because").unwrap(), reason);
        }
        assert!(parse("spam", "").is_ok() && parse("other", " ").is_err());
        assert!(parse("boring", "x").is_err());
        assert!(parse("spam", &"x".repeat(MAX_DETAILS + 1)).is_err());
        assert!(parse_outcome("open", None).is_err() && parse_outcome("upheld", None).is_ok());
    }
}
