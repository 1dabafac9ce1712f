//! Constraint names as types: which rule of the schema a write broke.
//!
//! `tests/it/schema.rs` holds the names against `pg_constraint`, so that a renamed constraint is
//! noticed before it turns an answer into a fault.

use diesel::result::{DatabaseErrorKind, Error};

/// The constraints whose violation is an answer rather than a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// The e-mail address has an account.
    UserEmail,
    /// The user has a practice already.
    PracticeOfUser,
    /// The pair of users has a conversation already.
    DirectConversation,
    /// The address is registered already.
    DeviceAddress,
    /// A user that a row points to does not exist.
    MemberUser,
    /// A category that a row points to does not exist.
    ServiceCategory,
    /// The booking has a review already.
    ReviewOfBooking,
}

impl Violation {
    /// Every one, for the test that compares with the database.
    pub const ALL: [Self; 7] = [
        Self::UserEmail,
        Self::PracticeOfUser,
        Self::DirectConversation,
        Self::DeviceAddress,
        Self::MemberUser,
        Self::ServiceCategory,
        Self::ReviewOfBooking,
    ];

    /// The constraint's name in the schema.
    pub fn constraint(self) -> &'static str {
        match self {
            Self::UserEmail => "users_email_key",
            Self::PracticeOfUser => "practitioners_user_id_key",
            Self::DirectConversation => "conversations_direct_key_key",
            Self::DeviceAddress => "devices_address_key",
            Self::MemberUser => "conversation_members_user_id_fkey",
            Self::ServiceCategory => "services_category_id_fkey",
            Self::ReviewOfBooking => "reviews_booking_key",
        }
    }

    /// Which of them `error` is, if any.
    pub fn of(error: &Error) -> Option<Self> {
        let Error::DatabaseError(kind, info) = error else { return None };
        let constrained = matches!(
            kind,
            DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::ExclusionViolation
        );
        let name = info.constraint_name().filter(|_| constrained)?;
        Self::ALL.into_iter().find(|v| v.constraint() == name)
    }
}
