//! The hub's two clocks: the wall's, and one that never goes back.

/// The time, cut to what PostgreSQL keeps (microseconds), so that a stored instant reads back equal.
pub fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Time since this process first asked: it never goes back, and is one for all sockets.
pub fn uptime() -> std::time::Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
