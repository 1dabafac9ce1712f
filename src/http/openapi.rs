//! The API's description, from the handlers' own annotations. `tests/it/openapi.rs` holds it
//! against the route table.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::error;
use super::{
    auth, blocks, bookings, calendars, catalogue, conversations, external_calendars, holidays,
    invites, next_available, notifications, operations, practitioners, preferences, rebooking,
    reviews, sessions, users, waitlist, ws,
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
        notifications::list, notifications::read, notifications::vapid_public_key,
        notifications::devices, notifications::register, notifications::forget,
        preferences::show, preferences::update,
        ws::upgrade,
    ),
    modifiers(&Common)
)]
struct Api;

/// What all operations share: the bearer token and the form of errors.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let errors = ResponseBuilder::new().description(error_table()).build();
                operation
                    .responses
                    .responses
                    .entry("default".to_owned())
                    .or_insert(RefOr::T(errors));
            }
        }
    }
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
