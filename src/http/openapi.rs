//! The API's description, from the handlers' own annotations. `tests/it/openapi.rs` holds it
//! against the route table.

use actix_web::http::StatusCode;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::body::JSON;
use super::error;
use super::openapi_forms::{self as forms, FAILURE};
use super::{
    archive, attachments, auth, blocks, bookings, calendars, catalogue, conversations,
    external_calendars, groups, holidays, invites, messages, next_available, notifications,
    operations, practitioners, preferences, rebooking, reviews, safety, sessions, users, waitlist,
    ws,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Klear Karma Hub", description = "Bookings, chat, live availability, push."),
    paths(
        operations::healthz, operations::readyz, operations::openapi,
        auth::register, auth::login, auth::refresh, auth::logout,
        auth::sessions, auth::revoke_all, auth::revoke_session,
        users::profile, users::update_profile,
        catalogue::list, catalogue::create,
        practitioners::list, practitioners::create, practitioners::show, practitioners::update,
        practitioners::offers, practitioners::put_offer,
        calendars::slots, calendars::put_schedule, calendars::show_schedule,
        next_available::of_one, next_available::of_many,
        blocks::list, blocks::create, blocks::delete, holidays::list,
        bookings::hold, bookings::release, bookings::list, bookings::create, bookings::show,
        bookings::delete, bookings::confirm, bookings::decline, bookings::cancel, bookings::events,
        bookings::extend, bookings::holds, rebooking::change, rebooking::series,
        waitlist::join, waitlist::list, waitlist::leave,
        sessions::start, sessions::end, sessions::no_show,
        reviews::list, reviews::own, reviews::create, reviews::update, reviews::remove,
        invites::invite, invites::practice, invites::open_practice, invites::close_practice,
        invites::own, invites::open_own, invites::close_own,
        external_calendars::list, external_calendars::add, external_calendars::put,
        external_calendars::remove, external_calendars::refresh,
        conversations::list, conversations::create, conversations::show, conversations::history,
        conversations::send, conversations::read,
        messages::edit, messages::delete, messages::react, messages::unreact,
        groups::retitle, groups::members, groups::add, groups::set_role, groups::remove,
        groups::settings, groups::set_settings,
        attachments::upload, attachments::show, attachments::thumbnail,
        archive::search, archive::export, safety::muted, safety::mute, safety::unmute,
        safety::block, safety::unblock, safety::blocks,
        safety::report, safety::reports, safety::show_report, safety::resolve,
        notifications::list, notifications::read, notifications::vapid_public_key,
        notifications::devices, notifications::register, notifications::forget,
        preferences::show, preferences::update,
        ws::upgrade,
    ),
    modifiers(&Common)
)]
struct Api;

/// POSTs that are carried out once per `Idempotency-Key`: those whose handlers take a `Once`.
const ONCE: &[&str] = &[
    "/v1/services",
    "/v1/practitioners",
    "/v1/practitioners/{id}/blocks",
    "/v1/practitioners/{id}/external-calendars",
    "/v1/holds",
    "/v1/bookings",
    "/v1/bookings/series",
    "/v1/waitlist",
    "/v1/reviews",
    "/v1/reports",
    "/v1/conversations",
    "/v1/conversations/{id}/messages",
    "/v1/notifications/devices",
];

/// What takes `If-Match`.
const GUARDED: &[(&str, &str)] = &[
    ("put", "/v1/practitioners/{id}"),
    ("put", "/v1/practitioners/{id}/availability"),
    ("put", "/v1/bookings/{id}"),
    ("delete", "/v1/bookings/{id}"),
    ("post", "/v1/bookings/{id}/confirm"),
    ("post", "/v1/bookings/{id}/decline"),
    ("post", "/v1/bookings/{id}/cancel"),
    ("post", "/v1/bookings/{id}/start"),
    ("post", "/v1/bookings/{id}/end"),
    ("post", "/v1/bookings/{id}/no-show"),
];

/// What all operations share: names, headers, the bearer token and the form of errors.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        // Empty, since the package names none.
        document.info.license = None;
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.schemas.insert(FAILURE.to_owned(), forms::failure().into());
        for (path, item) in &mut document.paths.paths {
            let operations = [
                ("get", &mut item.get),
                ("post", &mut item.post),
                ("put", &mut item.put),
                ("delete", &mut item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    complete(method, path, operation);
                }
            }
        }
    }
}

/// Where files go and come from: they are of more types than an annotation can list.
fn describe_files(method: &str, path: &str, operation: &mut Operation) {
    if (method, path) == ("post", "/v1/conversations/{id}/attachments")
        && let Some(RefOr::T(body)) = &mut operation.request_body
    {
        body.content = forms::file_types().map(|kind| (kind.to_owned(), forms::file())).collect();
    }
    if let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") {
        match path {
            "/v1/attachments/{id}" => {
                let all = forms::file_types().map(|kind| (kind.to_owned(), forms::file()));
                answer.content = all.collect();
            }
            "/v1/attachments/{id}/thumbnail" => {
                answer.content.insert("image/jpeg".to_owned(), forms::file());
            }
            _ => {}
        }
    }
}

/// Adds to an operation what its annotations leave out.
fn complete(method: &str, path: &str, operation: &mut Operation) {
    operation.operation_id = Some(operation_id(method, path));
    describe_files(method, path, operation);
    if method == "post" && ONCE.contains(&path) {
        let what = "Makes it safe to repeat: the same key within 24 h is answered as the first \
                    time, and nothing is done again. 1 to 100 visible characters.";
        operation.parameters.get_or_insert_default().push(header("Idempotency-Key", what));
    }
    if GUARDED.contains(&(method, path)) {
        let what = "The `ETag` of the thing that was read; refused with `version_conflict` when \
                    it was changed meanwhile.";
        operation.parameters.get_or_insert_default().push(header("If-Match", what));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let status = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            let reason = status.and_then(|status| status.canonical_reason());
            response.description = reason.unwrap_or("An answer").to_owned();
        }
        if let RefOr::T(response) = response
            && response.content.is_empty()
            && status.starts_with('2')
        {
            response.content.insert(JSON.to_owned(), forms::nothing());
        }
    }
    let errors = ResponseBuilder::new().description(error_table());
    let errors = errors.content(JSON, forms::failed()).build();
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert(RefOr::T(errors));
}

/// Method and path as one word, such as `postBookingsByIdCancel`: handlers' names are not unique.
fn operation_id(method: &str, path: &str) -> String {
    let mut name = method.to_owned();
    for part in path.trim_start_matches("/v1").split('/') {
        if part.starts_with('{') {
            name.push_str("By");
        }
        for word in part.split(|c: char| !c.is_alphanumeric()) {
            let mut letters = word.chars();
            name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
            name.extend(letters);
        }
    }
    name
}

fn header(name: &str, description: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    parameter.build().into()
}

fn error_table() -> String {
    let codes: Vec<String> = error::codes()
        .iter()
        .map(|e| format!("`{}` {}", error::code(e), error::status(e).as_u16()))
        .collect();
    format!("`{{success: false, error: {{code, message, details?}}, meta}}`; {}", codes.join(", "))
}

/// The table of error codes as Markdown, for docs/errors.md.
pub fn errors_markdown() -> String {
    let mut table = "| code | status | retry | for people |\n|---|---|---|---|\n".to_owned();
    for e in error::codes() {
        let retry = if error::retry_after(&e).is_some() { "later" } else { "no" };
        let (status, message) = (error::status(&e).as_u16(), error::message(&e));
        table.push_str(&format!("| `{}` | {status} | {retry} | {message} |\n", error::code(&e)));
    }
    table
}

/// The description as a document.
pub fn document() -> Document {
    Api::openapi()
}
