//! Reviews: what one consists of, and how long it can be changed.

use jiff::{SignedDuration, Timestamp};

use super::refusal::{Problems, Refusal};
use super::time::shifted;

/// Days in which its author can change a review.
pub const EDIT_DAYS: i64 = 30;
/// Characters of a comment.
pub const MAX_COMMENT: usize = 2_000;

/// Checks what is there of a review; each wrong field is named.
pub fn check(rating: Option<i32>, comment: Option<&str>) -> Result<(), Refusal> {
    let mut problems = Problems::default();
    let stars = rating.is_none_or(|r| (1..=5).contains(&r));
    problems.require(stars, "rating", "must be 1 to 5");
    problems.length("comment", comment.unwrap_or_default(), 0, MAX_COMMENT);
    problems.into_result()
}

/// Whether a review of `written_at` can still be changed at `now`; `EditClosed` otherwise. What
/// many have read by then is not to become something else; it can still be removed.
pub fn may_edit(written_at: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now < shifted(written_at, SignedDuration::from_hours(EDIT_DAYS * 24)) {
        Ok(())
    } else {
        Err(Refusal::EditClosed { days: EDIT_DAYS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_can_be_changed_for_thirty_days_to_the_second() {
        let written = Timestamp::from_second(1_000).unwrap();
        let last = written + SignedDuration::from_secs(30 * 86_400 - 1);
        assert_eq!(may_edit(written, written), Ok(()));
        assert_eq!(may_edit(written, last), Ok(()));
        let closed = Err(Refusal::EditClosed { days: 30 });
        assert_eq!(may_edit(written, last + SignedDuration::from_secs(1)), closed);
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(check(None, None), Ok(()));
        assert!((1..=5).all(|stars| check(Some(stars), Some("")).is_ok()));
        for stars in [i32::MIN, 0, 6] {
            let Err(Refusal::Validation(fields)) = check(Some(stars), Some(&"x".repeat(2_001)))
            else {
                panic!("{stars} is taken")
            };
            let names: Vec<&str> = fields.iter().map(|f| f.field.as_str()).collect();
            assert_eq!(names, ["rating", "comment"]);
        }
    }
}
