//! The HTTP floor: routes, extractors, the envelope, the upgrade to WebSocket.

pub mod archive;
pub mod attachments;
pub mod auth;
pub mod blocks;
pub mod body;
pub mod bookings;
pub mod calendars;
pub mod caller;
pub mod catalogue;
pub mod conversations;
pub mod cors;
pub mod cursor;
pub mod envelope;
pub mod error;
pub mod external_calendars;
pub mod front;
pub mod groups;
pub mod holidays;
pub mod idempotency;
pub mod instant;
pub mod invites;
pub mod messages;
pub mod next_available;
pub mod notifications;
pub mod offer_rules;
pub mod openapi;
mod openapi_forms;
pub mod operations;
pub mod practitioners;
pub mod preferences;
pub mod query;
pub mod rebooking;
pub mod reviews;
pub mod safety;
pub mod sessions;
pub mod users;
pub mod waitlist;
pub mod ws;
pub mod ws_ops;

use actix_web::web;

/// Makes the route table and, from the same lines, a list of it for docs and tests.
macro_rules! routes {
    ($($path:literal => { $($method:ident $handler:path),+ $(,)? }),+ $(,)?) => {
        /// Every route as (method, path).
        pub const ROUTES: &[(&str, &str)] = &[$($((stringify!($method), $path),)+)+];

        fn register(config: &mut web::ServiceConfig) {
            $(config.service(web::resource($path)$(.route(web::$method().to($handler)))+);)+
        }
    };
}

routes! {
    "/healthz" => { get operations::healthz },
    "/readyz" => { get operations::readyz },
    "/openapi.json" => { get operations::openapi },

    "/v1/auth/register" => { post auth::register },
    "/v1/auth/login" => { post auth::login },
    "/v1/auth/refresh" => { post auth::refresh },
    "/v1/auth/logout" => { post auth::logout },
    "/v1/auth/sessions" => { get auth::sessions, delete auth::revoke_all },
    "/v1/auth/sessions/{id}" => { delete auth::revoke_session },

    "/v1/users/profile" => { get users::profile, put users::update_profile },
    "/v1/users/calendar-feed" => { post invites::open_own, delete invites::close_own },
    "/v1/users/calendar.ics" => { get invites::own },
    "/v1/users/chat-settings" => { get groups::settings, put groups::set_settings },

    "/v1/services" => { get catalogue::list, post catalogue::create },
    "/v1/practitioners" => { get practitioners::list, post practitioners::create },
    "/v1/practitioners/{id}" => { get practitioners::show, put practitioners::update },
    "/v1/practitioners/{id}/services" => { get practitioners::offers },
    "/v1/practitioners/{id}/services/{serviceId}" => { put practitioners::put_offer },
    "/v1/practitioners/{id}/availability" => { get calendars::slots, put calendars::put_schedule },
    "/v1/practitioners/{id}/schedule" => { get calendars::show_schedule },
    "/v1/practitioners/{id}/next-available" => { get next_available::of_one },
    "/v1/availability/next" => { get next_available::of_many },
    "/v1/practitioners/{id}/blocks" => { get blocks::list, post blocks::create },
    "/v1/practitioners/{id}/blocks/{blockId}" => { delete blocks::delete },
    "/v1/practitioners/{id}/calendar-feed" => {
        post invites::open_practice, delete invites::close_practice,
    },
    "/v1/practitioners/{id}/calendar.ics" => { get invites::practice },
    "/v1/practitioners/{id}/external-calendars" => {
        get external_calendars::list, post external_calendars::add,
    },
    "/v1/practitioners/{id}/external-calendars/{calendarId}" => {
        put external_calendars::put, delete external_calendars::remove,
    },
    "/v1/practitioners/{id}/external-calendars/{calendarId}/refresh" => {
        post external_calendars::refresh,
    },
    "/v1/holidays" => { get holidays::list },

    "/v1/holds" => { get bookings::holds, post bookings::hold },
    "/v1/holds/{id}" => { delete bookings::release },
    "/v1/holds/{id}/extend" => { post bookings::extend },
    "/v1/bookings" => { get bookings::list, post bookings::create },
    "/v1/bookings/series" => { post rebooking::series },
    "/v1/bookings/{id}" => { get bookings::show, put rebooking::change, delete bookings::delete },
    "/v1/bookings/{id}/confirm" => { post bookings::confirm },
    "/v1/bookings/{id}/decline" => { post bookings::decline },
    "/v1/bookings/{id}/cancel" => { post bookings::cancel },
    "/v1/bookings/{id}/start" => { post sessions::start },
    "/v1/bookings/{id}/end" => { post sessions::end },
    "/v1/bookings/{id}/no-show" => { post sessions::no_show },
    "/v1/bookings/{id}/events" => { get bookings::events },
    "/v1/waitlist" => { get waitlist::list, post waitlist::join },
    "/v1/waitlist/{id}" => { delete waitlist::leave },

    "/v1/practitioners/{id}/reviews" => { get reviews::list },
    "/v1/reviews" => { get reviews::own, post reviews::create },
    "/v1/reviews/{id}" => { put reviews::update, delete reviews::remove },
    "/v1/bookings/{id}/invite.ics" => { get invites::invite },

    "/v1/conversations" => { get conversations::list, post conversations::create },
    "/v1/conversations/search" => { get archive::search },
    "/v1/conversations/{id}" => { get conversations::show, put groups::retitle },
    "/v1/conversations/{id}/members" => { get groups::members, post groups::add },
    "/v1/conversations/{id}/members/{userId}" => { put groups::set_role, delete groups::remove },
    "/v1/conversations/{id}/messages" => { get conversations::history, post conversations::send },
    "/v1/conversations/{id}/messages/{messageId}" => { put messages::edit, delete messages::delete },
    "/v1/conversations/{id}/messages/{messageId}/reactions/{emoji}" => {
        put messages::react, delete messages::unreact,
    },
    "/v1/conversations/{id}/read" => { post conversations::read },
    "/v1/conversations/{id}/attachments" => { post attachments::upload },
    "/v1/conversations/{id}/mute" => {
        get safety::muted, put safety::mute, delete safety::unmute,
    },
    "/v1/conversations/{id}/export" => { get archive::export },
    "/v1/users/{id}/block" => { post safety::block, delete safety::unblock },
    "/v1/blocks" => { get safety::blocks },
    "/v1/reports" => { get safety::reports, post safety::report },
    "/v1/reports/{id}" => { get safety::show_report },
    "/v1/reports/{id}/resolve" => { post safety::resolve },
    "/v1/attachments/{id}" => { get attachments::show },
    "/v1/attachments/{id}/thumbnail" => { get attachments::thumbnail },

    "/v1/notifications" => { get notifications::list },
    "/v1/notifications/read" => { post notifications::read },
    "/v1/notifications/vapid-public-key" => { get notifications::vapid_public_key },
    "/v1/notifications/preferences" => { get preferences::show, put preferences::update },
    "/v1/notifications/devices" => { get notifications::devices, post notifications::register },
    "/v1/notifications/devices/{id}" => { delete notifications::forget },

    "/v1/ws" => { get ws::upgrade },
}

/// Registers everything that answers requests.
pub fn configure(config: &mut web::ServiceConfig) {
    body::configure(config);
    register(config);
    #[cfg(feature = "autobahn")]
    config.route("/echo", web::get().to(ws::echo));
    config.service(web::redirect("/docs", "/docs/"));
    config.service(operations::docs());
    config.default_service(web::to(operations::no_such_route));
}
