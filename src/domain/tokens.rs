//! Rotation of refresh tokens: each is good for one use; a second use betrays a copy.

use jiff::Timestamp;

/// What is stored of a refresh token and of its family (the session).
#[derive(Debug, Clone, Copy)]
pub struct StoredToken {
    /// When it was exchanged, if it was.
    pub used_at: Option<Timestamp>,
    /// Until when it can be exchanged.
    pub expires_at: Timestamp,
    /// Whether the whole family is revoked.
    pub session_revoked: bool,
}

/// What to do with a refresh token that somebody presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Mark it used and issue its successor.
    Issue,
    /// It was used before: revoke the whole family, since one of the two holders is a thief.
    RevokeFamily,
    /// Refuse it; nothing else is to be done.
    Refuse,
}

/// Decides about a presented refresh token at `now` (RFC 9700, section 4.14.2).
pub fn decide(token: StoredToken, now: Timestamp) -> Rotation {
    if token.session_revoked {
        Rotation::Refuse
    } else if token.used_at.is_some() {
        Rotation::RevokeFamily
    } else if token.expires_at <= now {
        Rotation::Refuse
    } else {
        Rotation::Issue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_good_once() {
        let now = Timestamp::from_second(1_000).unwrap();
        let fresh = StoredToken {
            used_at: None,
            expires_at: Timestamp::from_second(1_001).unwrap(),
            session_revoked: false,
        };
        assert_eq!(decide(fresh, now), Rotation::Issue);
        assert_eq!(decide(StoredToken { expires_at: now, ..fresh }, now), Rotation::Refuse);
        let used = StoredToken { used_at: Some(now), ..fresh };
        assert_eq!(decide(used, now), Rotation::RevokeFamily);
        // Reuse is a theft even when the copy is used after it expired.
        assert_eq!(decide(StoredToken { expires_at: now, ..used }, now), Rotation::RevokeFamily);
        assert_eq!(decide(StoredToken { session_revoked: true, ..used }, now), Rotation::Refuse);
    }
}
