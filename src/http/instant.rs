//! Instants as clients write them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use utoipa::ToSchema;

/// An instant of a request: RFC 3339, with an offset or `Z`. Other forms of ISO 8601 (without
/// dashes or seconds, with a space or with annotations) are refused: apps that send them do not
/// all mean the same by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2027-03-01T09:30:00Z")]
pub struct Instant(pub Timestamp);

/// What an instant must be.
pub const RULE: &str =
    "must be an instant in RFC 3339, with an offset or Z, such as 2027-03-01T09:30:00Z";

/// The text is no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnInstant;

impl fmt::Display for NotAnInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RULE)
    }
}

impl FromStr for Instant {
    type Err = NotAnInstant;

    fn from_str(text: &str) -> Result<Self, NotAnInstant> {
        // The form here, the rest (is there such a day?) by jiff, which takes more forms than one.
        let parsed = text.parse().ok().filter(|_| has_the_form(text));
        parsed.map(Self).ok_or(NotAnInstant)
    }
}

/// Whether `text` is a `date-time` of RFC 3339 section 5.6, as far as form goes.
fn has_the_form(text: &str) -> bool {
    let fits = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'T' => byte.eq_ignore_ascii_case(&b'T'),
                wanted => byte == wanted,
            })
    };
    let Some((local, mut rest)) = text.split_at_checked(19) else { return false };
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        rest = fraction.get(digits..).filter(|_| digits > 0).unwrap_or_default();
    }
    let offset = match rest.strip_prefix(['+', '-']) {
        // jiff takes offsets of a day and more.
        Some(offset) => fits(offset, "00:00") && offset < "24:00",
        None => rest.eq_ignore_ascii_case("Z"),
    };
    fits(local, "0000-00-00T00:00:00") && offset
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Instant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant in RFC 3339, such as 2027-03-01T09:30:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Instant, E> {
                text.parse().map_err(E::custom)
            }
        }
        input.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_and_nothing_else() {
        for good in [
            "2027-03-28T03:00:00Z",
            "2027-03-28t03:00:00z",
            "2027-03-28T03:00:00.123456Z",
            "2027-03-28T08:30:00+05:30",
            "2027-03-28T03:00:00-00:00",
            "2027-03-28T03:00:00+23:59",
            "2028-02-29T00:00:00Z",
        ] {
            assert!(good.parse::<Instant>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "2027-03-28",
            "2027-03-28T03:00:00",
            "20270328T030000Z",
            "2027-03-28 03:00:00Z",
            "2027-03-28 03:00Z",
            "2027-03-28T03:00Z",
            "2027-03-28T03:00:00.Z",
            "2027-03-28T03:00:00,5Z",
            "2027-03-28T03:00:00+0530",
            "2027-03-28T03:00:00+05",
            "2027-03-28T03:00:00+24:00",
            "2027-03-28T03:00:00-25:00",
            "2027-03-28T03:00:00+05:60",
            "2027-03-28T03:00:00+05:30[Asia/Kolkata]",
            "2027-03-28T03:00:00Z[Asia/Kolkata]",
            "2027-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-03-28T24:00:00Z",
            "+002027-03-28T03:00:00Z",
            " 2027-03-28T03:00:00Z",
            "2027-03-28T03:00:00Z ",
            "२०२७-03-28T03:00:00Z",
        ] {
            assert_eq!(bad.parse::<Instant>(), Err(NotAnInstant), "{bad}");
        }
        assert_eq!(
            "2027-03-28T08:30:00+05:30".parse::<Instant>(),
            "2027-03-28T03:00:00Z".parse::<Instant>()
        );
    }
}
