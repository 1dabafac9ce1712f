//! Forms of the API's description that no type of ours stands for: the envelope around nothing and
//! around an error, and files.

use serde_json::json;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{
    Content, KnownFormat, Object, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
};

use super::error;
use crate::domain::attachment::FileType;

/// The name of [`failure`] among the schemas.
pub const FAILURE: &str = "Failure";

fn envelope(success: bool, key: &str, content: impl Into<RefOr<Schema>>) -> Object {
    let flag = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([json!(success)]));
    ObjectBuilder::new()
        .property("success", flag)
        .required("success")
        .property(key, content)
        .required(key)
        .property("meta", Ref::from_schema_name("Meta"))
        .required("meta")
        .build()
}

/// The envelope of every error.
pub fn failure() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let codes = error::codes();
    let code = text()
        .description(Some("For programs; new ones can come."))
        .enum_values(Some(codes.iter().map(error::code)));
    let error = ObjectBuilder::new()
        .property("code", code)
        .required("code")
        .property("message", text().description(Some("For people.")))
        .required("message")
        .property(
            "details",
            ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(
                "By code. Of `validation_failed`: a list of `{field, problem}`.",
            )),
        );
    Schema::Object(envelope(false, "error", error))
}

/// An error as an answer.
pub fn failed() -> Content {
    Content::new(Some(Ref::from_schema_name(FAILURE)))
}

/// An answer that says nothing but that it was done.
pub fn nothing() -> RefOr<Content> {
    let empty = ObjectBuilder::new().schema_type(Type::Object);
    Content::new(Some(Schema::Object(envelope(true, "data", empty)))).into()
}

/// A file.
pub fn file() -> RefOr<Content> {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    Content::new(Some(ObjectBuilder::new().schema_type(Type::String).format(Some(binary)))).into()
}

/// The media types of files that can be sent.
pub fn file_types() -> impl Iterator<Item = &'static str> {
    FileType::ALL.into_iter().map(FileType::media_type)
}
