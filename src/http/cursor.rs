//! Keyset cursors: where a page of a list ended, so that the next one begins after it whatever came
//! or went meanwhile. Opaque to clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::refusal::Refusal;

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
