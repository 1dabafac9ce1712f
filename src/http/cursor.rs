//! Keyset cursors: where a page of a list ended, so that the next one begins after it whatever came
//! or went meanwhile. Opaque to clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::refusal::Refusal;
use crate::models::Part;
use crate::models::messages::Range;
use crate::services::Page;

/// Directions of a cursor of messages: to older ones, to newer ones.
const BACK: u8 = 0;
const ON: u8 = 1;

/// The cursor after the thing that came into being at `at` with `id`.
pub fn write(at: Timestamp, id: Uuid) -> String {
    let mut bytes = at.as_microsecond().to_be_bytes().to_vec();
    bytes.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor back; refuses what `write` did not write, naming `cursor`.
pub fn read(text: &str) -> Result<(Timestamp, Uuid), Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .as_deref()
        .and_then(parts)
        .ok_or_else(|| Refusal::field("cursor", "must be the nextCursor of the page before"))
}

/// Which part of a list a request wants: what comes after its cursor, or a page by its number.
pub fn part(cursor: Option<&str>, number: Option<i64>, page: Page) -> Result<Part, Refusal> {
    match (cursor, number) {
        (Some(_), Some(_)) => Err(Refusal::field("cursor", "comes without page")),
        (Some(text), None) => read(text).map(|(at, id)| Part::After(at, id)),
        (None, _) => Ok(Part::Offset(page.offset())),
    }
}

/// The cursor after the message at the end of a part that was read in the direction of `range`.
pub fn write_message(range: Range) -> String {
    let (direction, seq) = match range {
        Range::Before(seq) => (BACK, seq),
        Range::After(seq) => (ON, seq),
    };
    URL_SAFE_NO_PAD.encode([&[direction], seq.to_be_bytes().as_slice()].concat())
}

/// Reads such a cursor back; refuses what `write_message` did not write, naming `cursor`.
pub fn read_message(text: &str) -> Result<Range, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let range = bytes.as_deref().and_then(|bytes| {
        let (direction, seq) = bytes.split_first()?;
        let seq = i64::from_be_bytes(seq.try_into().ok()?);
        match *direction {
            BACK => Some(Range::Before(seq)),
            ON => Some(Range::After(seq)),
            _ => None,
        }
    });
    range.ok_or_else(|| Refusal::field("cursor", "must be the nextCursor of the page before"))
}

/// The cursor that leads to what comes after `rows`; none at the end. A part that is full may be
/// the last: its cursor then leads to an empty one.
pub fn after<T>(rows: &[T], limit: i64, key: impl Fn(&T) -> (Timestamp, Uuid)) -> Option<String> {
    let is_full = i64::try_from(rows.len()).is_ok_and(|n| n == limit);
    let (at, id) = key(rows.last().filter(|_| is_full)?);
    Some(write(at, id))
}

fn parts(bytes: &[u8]) -> Option<(Timestamp, Uuid)> {
    let (at, id) = bytes.split_first_chunk()?;
    let at = Timestamp::from_microsecond(i64::from_be_bytes(*at)).ok()?;
    Some((at, Uuid::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(micros in -1_000_000_000_000_000..4_000_000_000_000_000_i64, id: u128) {
            let (at, id) = (Timestamp::from_microsecond(micros).unwrap(), Uuid::from_u128(id));
            prop_assert_eq!(read(&write(at, id)), Ok((at, id)));
        }

        #[test]
        fn nothing_else_is_taken(text in ".{0,31}") {
            prop_assert!(read(&text).is_err());
        }
    }

    #[test]
    fn not_even_what_looks_like_one() {
        let beyond = [i64::MAX.to_be_bytes().as_slice(), &[0; 16]].concat();
        for bytes in [beyond.as_slice(), &[0; 23], &[0; 25]] {
            assert!(read(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }
    }
}
