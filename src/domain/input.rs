//! Reading what a client sends. What does not fit names its field, by its path as the client wrote
//! it. Unknown fields are refused by `deny_unknown_fields` on every type that is read.

mod objects;
mod wording;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::Refusal;

/// Reads a JSON object from the bytes of a body.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::field("body", "must be a JSON object"));
    }
    refuse_nul(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = objects::read(&mut json).map_err(|e| {
        let path = e.path().to_string();
        problem("body", &path, &e.into_inner().to_string())
    })?;
    json.end().map_err(|_| Refusal::field("body", "has something after the JSON"))?;
    Ok(value)
}

/// Reads JSON that was parsed already, by the same rules.
pub fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    nul_free("", &value)?;
    objects::read(value).map_err(|e| {
        let path = e.path().to_string();
        problem("body", &path, &e.into_inner().to_string())
    })
}

/// PostgreSQL keeps no text with NUL in it: such a text is refused here, for all fields at once.
fn refuse_nul(json: &[u8]) -> Result<(), Refusal> {
    // In JSON it can only stand as an escape. The cheap look finds `\\u0000` as well, which is
    // something else, so a hit is looked at closely.
    if !json.windows(6).any(|w| w == b"\\u0000") {
        return Ok(());
    }
    match serde_json::from_slice(json) {
        Ok(value) => nul_free("", &value),
        Err(_) => Ok(()),
    }
}

fn nul_free(path: &str, value: &Value) -> Result<(), Refusal> {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) if text.contains('\0') => {
            Err(Refusal::field(path, "must not contain NUL"))
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, v)| nul_free(&format!("{path}[{i}]"), v))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, v)| {
            let in_name = name.contains('\0').then(|| Refusal::field(path, "must not contain NUL"));
            in_name.map_or_else(|| nul_free(&below(name), v), Err)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// The refusal for what serde said about `path` in the `whole` (body or query), in plain words. An
/// unknown or missing field is named itself, not the object that it is (not) in.
pub fn problem(whole: &str, path: &str, said: &str) -> Refusal {
    let said = said.split(" at line ").next().unwrap_or(said);
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| said.strip_prefix(start)?.split('`').next());
    let root = path == "." || path == "?";
    match (named, root) {
        (Some(field), true) => Refusal::field(field, said),
        // The path of an unknown field ends with the field itself.
        (Some(field), false) if path.split('.').next_back() == Some(field) => {
            Refusal::field(path, said)
        }
        (Some(field), false) => Refusal::field(format!("{path}.{field}"), said),
        (None, true) => Refusal::field(whole, wording::plain(said)),
        (None, false) => Refusal::field(path, wording::plain(said)),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Inner,
        #[serde(default, rename = "more")]
        _more: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "count")]
        _count: i32,
    }

    fn field(json: &str) -> String {
        match parse::<Outer>(json.as_bytes()).unwrap_err() {
            Refusal::Validation(p) => p[0].field.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nul_is_refused_wherever_it_stands() {
        assert_eq!(field(r#"{"inner":{"count":1,"a":["x","\u0000"]}}"#), "inner.a[1]");
        // An escaped backslash before u0000 is no NUL.
        assert_eq!(field(r#"{"x":"\\u0000"}"#), "x");
        assert!(refuse_nul(br#"{"x":"\\u0000"}"#).is_ok());
    }

    #[test]
    fn a_list_is_no_object_however_deep() {
        assert_eq!(field(r#"{"inner":[1]}"#), "inner");
        assert_eq!(field(r#"{"inner":{"count":1},"more":[{"count":1},[1]]}"#), "more[1]");
        let value = serde_json::json!({ "inner": { "count": 1 }, "more": [[1]] });
        let refused = parse_value::<Outer>(value).unwrap_err();
        assert_eq!(refused, Refusal::field("more[0]", "must be an object"));
        assert!(parse::<Outer>(br#"{"inner":{"count":1},"more":[{"count":1}]}"#).is_ok());
        assert!(parse::<Outer>(br#"{"inner":{"count":1},"more":null}"#).is_ok());
    }

    #[test]
    fn the_field_is_named() {
        assert_eq!(field("{}"), "inner");
        assert_eq!(field(r#"{"inner":{}}"#), "inner.count");
        assert_eq!(field(r#"{"inner":{"count":"x"}}"#), "inner.count");
        assert_eq!(field(r#"{"inner":{"count":1,"more":2}}"#), "inner.more");
        assert_eq!(field(r#"{"inner":{"count":1},"x":2}"#), "x");
        assert_eq!(field("nonsense"), "body");
        assert_eq!(field(r#"[{"count":1}]"#), "body");
        assert_eq!(field(r#"{"inner":{"count":1}} trailing"#), "body");
    }
}
