//! JSON that is written down already.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Json as SqlJson, Jsonb};
use serde::Serialize;

/// A JSON text: written once, then stored and sent as it is. A tree of it would be built, read and
/// thrown away for each of these.
#[derive(Debug, Clone, AsExpression)]
#[diesel(sql_type = Jsonb)]
#[diesel(sql_type = SqlJson)]
pub struct Json(Arc<str>);

impl Json {
    /// The JSON of `value`. What has none, such as a map whose keys are no strings, is `null`: what
    /// the hub writes always has one.
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ToSql<Jsonb, Pg> for Json {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // The binary form of jsonb is a version, which is 1, and the text.
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<SqlJson, Pg> for Json {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}
