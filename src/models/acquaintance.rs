//! Who knows whom, as conditions of SQL: one rule for all queries that ask.

/// Whether the users `a` and `b`, expressions of SQL, share a conversation or a booking. A time that
/// was only held is none.
pub(super) fn share_something(a: &str, b: &str) -> String {
    let booked = |seeker: &str, practitioner: &str| {
        format!(
            "EXISTS (SELECT 1 FROM bookings b JOIN practitioners p ON p.id = b.practitioner_id
                      WHERE b.seeker_id = {seeker} AND p.user_id = {practitioner}
                        AND b.status NOT IN ('held', 'released', 'lapsed'))"
        )
    };
    format!(
        "(EXISTS (SELECT 1 FROM conversation_members mine
                    JOIN conversation_members theirs USING (conversation_id)
                   WHERE mine.user_id = {a} AND theirs.user_id = {b})
          OR {} OR {})",
        booked(a, b),
        booked(b, a)
    )
}

/// Whether one of the users `a` and `b`, expressions of SQL, blocks the other.
pub(super) fn one_blocks_the_other(a: &str, b: &str) -> String {
    let blocks = |blocker: &str, blocked: &str| {
        format!(
            "EXISTS (SELECT 1 FROM user_blocks k
                      WHERE k.blocker_id = {blocker} AND k.blocked_id = {blocked})"
        )
    };
    format!("({} OR {})", blocks(a, b), blocks(b, a))
}

/// Whether the users `a` and `b`, expressions of SQL, know each other: they share something, and
/// neither blocks the other.
pub(super) fn acquainted(a: &str, b: &str) -> String {
    format!("(NOT {} AND {})", one_blocks_the_other(a, b), share_something(a, b))
}
