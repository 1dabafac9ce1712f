//! Where pushes go: Web Push subscriptions and FCM registrations.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;
use uuid::Uuid;

use super::Conn;
use super::schema::devices;

/// A registered device.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = devices, check_for_backend(diesel::pg::Pg))]
pub struct Device {
    pub id: Uuid,
    pub kind: String,
    pub address: String,
    pub p256dh: Option<String>,
    pub auth: Option<String>,
    pub label: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    pub created_at: Timestamp,
}

/// A device that is to be registered.
#[derive(Insertable)]
#[diesel(table_name = devices)]
pub struct NewDevice<'a> {
    pub id: Uuid,
    pub user_id: Uuid,
    /// `web_push` or `fcm`.
    pub kind: &'a str,
    pub address: &'a str,
    pub p256dh: Option<&'a str>,
    pub auth: Option<&'a str>,
    pub label: Option<&'a str>,
}

/// Registers a device. An address that is known already (another login in the same browser, a
/// rotated key) now belongs to this user with these keys: the old row goes, and its waiting
/// deliveries with it, so that no one gets another account's pushes.
pub async fn register(conn: &mut Conn, new: &NewDevice<'_>) -> QueryResult<()> {
    diesel::delete(devices::table.filter(devices::address.eq(new.address))).execute(conn).await?;
    diesel::insert_into(devices::table).values(new).execute(conn).await?;
    Ok(())
}

/// The devices of a user, newest first.
pub async fn list(conn: &mut Conn, user_id: Uuid) -> QueryResult<Vec<Device>> {
    devices::table
        .filter(devices::user_id.eq(user_id))
        .order(devices::id.desc())
        .select(Device::as_select())
        .load(conn)
        .await
}

/// Forgets the oldest devices of a user beyond `keep`.
pub async fn forget_beyond(conn: &mut Conn, user_id: Uuid, keep: i64) -> QueryResult<usize> {
    let kept = devices::table
        .filter(devices::user_id.eq(user_id))
        .order(devices::id.desc())
        .limit(keep)
        .select(devices::id)
        .load::<Uuid>(conn)
        .await?;
    diesel::delete(
        devices::table.filter(devices::user_id.eq(user_id)).filter(devices::id.ne_all(kept)),
    )
    .execute(conn)
    .await
}

/// Forgets a device of a user; false if the user has none such.
pub async fn remove(conn: &mut Conn, user_id: Uuid, id: Uuid) -> QueryResult<bool> {
    let rows = diesel::delete(devices::table.find(id).filter(devices::user_id.eq(user_id)))
        .execute(conn)
        .await?;
    Ok(rows > 0)
}

/// Forgets a device whose push service says that it is gone.
pub async fn forget(conn: &mut Conn, id: Uuid) -> QueryResult<()> {
    diesel::delete(devices::table.find(id)).execute(conn).await?;
    Ok(())
}
