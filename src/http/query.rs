//! Reading the query of a request. What does not fit names its parameter.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::domain::input;
use crate::domain::refusal::Refusal;

/// The parameters of a query. Unknown ones are refused by `deny_unknown_fields` on every `T`.
/// (actix's own extractor does not know which one was wrong.)
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(req.query_string()).map(Self).map_err(ApiError::from))
    }
}

/// The query of what takes no parameters: one that is there is a mistake, and not overlooked.
pub struct NoQuery;

impl FromRequest for NoQuery {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = parse::<super::body::Nothing>(req.query_string());
        ready(read.map(|_| Self).map_err(ApiError::from))
    }
}

/// Reads `text`, the part of a URL after the question mark.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    // As in bodies: PostgreSQL keeps no NUL.
    if let Some((name, _)) =
        pairs.clone().find(|(name, value)| format!("{name}{value}").contains('\0'))
    {
        return Err(Refusal::field(name.replace('\0', ""), "must not contain NUL"));
    }
    let query = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(query).map_err(|e| {
        let path = e.path().to_string();
        input::problem("query", &path, &e.into_inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Wanted {
        #[serde(rename = "serviceId")]
        _service_id: Uuid,
        #[serde(rename = "limit")]
        _limit: Option<i64>,
        #[serde(default, rename = "series")]
        _series: bool,
    }

    fn field(query: &str) -> String {
        match parse::<Wanted>(query).unwrap_err() {
            Refusal::Validation(p) => p[0].field.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_parameter_is_named() {
        let id = "serviceId=01a21428-03df-7771-80d7-84b394edcad6";
        assert!(parse::<Wanted>(&format!("{id}&limit=5&series=true")).is_ok());
        assert_eq!(field(""), "serviceId");
        assert_eq!(field("serviceId=zz"), "serviceId");
        assert_eq!(field(&format!("{id}&limit=x")), "limit");
        assert_eq!(field(&format!("{id}&limit=")), "limit");
        assert_eq!(field(&format!("{id}&limit=99999999999999999999")), "limit");
        assert_eq!(field(&format!("{id}&series=maybe")), "series");
        assert_eq!(field(&format!("{id}&limit=1&limit=2")), "limit");
        assert_eq!(field(&format!("{id}&more=1")), "more");
        assert_eq!(field(&format!("{id}&limit=%00")), "limit");
        assert_eq!(field(&format!("{id}&a%00b=1")), "ab");
    }
}
