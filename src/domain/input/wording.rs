//! What serde and the standard library say of a value that does not fit, for people who know
//! neither of them nor Rust.

/// `said` in plain words; what is plain enough stays.
pub(super) fn plain(said: &str) -> String {
    let wanted = match said.rsplit_once(", expected ") {
        Some((found, wanted)) if found.starts_with("invalid ") => expected(wanted),
        Some((found, wanted)) if found.starts_with("unknown variant ") => {
            wanted.trim_start_matches("one of ").replace('`', "")
        }
        _ => {
            return of_text(said).map_or_else(|| said.to_owned(), |rule| format!("must be {rule}"));
        }
    };
    format!("must be {wanted}")
}

/// What a visitor expects.
fn expected(wanted: &str) -> String {
    let range = |min: &str, max: &str| format!("a whole number, {min} to {max}");
    match wanted {
        "u8" => range("0", "255"),
        "u16" => range("0", "65535"),
        "u32" => range("0", "4294967295"),
        "i16" => range("-32768", "32767"),
        "i32" => range("-2147483648", "2147483647"),
        "i64" | "u64" | "usize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "str" | "string or map" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        _ if wanted.starts_with("struct ") || wanted.starts_with("enum ") => "an object".to_owned(),
        _ if wanted.contains("UUID") => "a UUID".to_owned(),
        _ => wanted.to_owned(),
    }
}

/// What is said of a text that is read as something else, as in queries.
fn of_text(said: &str) -> Option<&'static str> {
    match said {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            Some("a whole number")
        }
        "number too large to fit in target type" => Some("a smaller number"),
        "number too small to fit in target type" => Some("a larger number"),
        "provided string was not `true` or `false`" => Some("true or false"),
        _ if said.starts_with("UUID parsing failed") => Some("a UUID"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Word {
        Day,
        Week,
    }

    #[derive(Debug, Deserialize)]
    struct Thing {
        #[serde(rename = "x")]
        _x: bool,
    }

    fn said<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> String {
        plain(&T::deserialize(value).unwrap_err().to_string())
    }

    #[test]
    fn no_word_of_rust_is_left() {
        assert_eq!(said::<u16>(json!(70_000)), "must be a whole number, 0 to 65535");
        assert_eq!(said::<i32>(json!("x")), "must be a whole number, -2147483648 to 2147483647");
        assert_eq!(said::<i64>(json!(1.5)), "must be a whole number");
        assert_eq!(said::<f64>(json!([])), "must be a number");
        assert_eq!(said::<String>(json!(5)), "must be text");
        assert_eq!(said::<bool>(json!("a, expected i32")), "must be true or false");
        assert_eq!(said::<Vec<i32>>(json!({})), "must be a list");
        assert_eq!(said::<Thing>(json!(5)), "must be an object");
        assert_eq!(said::<Uuid>(json!("zz")), "must be a UUID");
        assert_eq!(said::<Uuid>(json!(5)), "must be a UUID");
        assert_eq!(said::<Word>(json!("x")), "must be day or week");
        assert_eq!(said::<Word>(json!(5)), "must be text");
        let text = |error: std::num::ParseIntError| plain(&error.to_string());
        assert_eq!(text("x".parse::<u16>().unwrap_err()), "must be a whole number");
        assert_eq!(text("".parse::<u16>().unwrap_err()), "must be a whole number");
        assert_eq!(text("70000".parse::<u16>().unwrap_err()), "must be a smaller number");
        assert_eq!(text("-70000".parse::<i16>().unwrap_err()), "must be a larger number");
        assert_eq!(plain(&"x".parse::<bool>().unwrap_err().to_string()), "must be true or false");
        // What the hub says itself stays.
        assert_eq!(plain("must be an IANA time zone"), "must be an IANA time zone");
    }
}
