//! Roles and what they may do: section 6.1 of the architecture document as one table.
//!
//! A permission's text (`booking:read:owner`) is what the `permissions` claim of a token carries.
//! The hub decides by the table, never by the claim, so that an old token gains nothing.

use std::fmt;

/// What an account is, claim `userType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Books sessions.
    Seeker,
    /// Offers sessions.
    Practitioner,
    /// Runs the platform.
    Admin,
}

impl Role {
    /// The word in tokens, JSON and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seeker => "seeker",
            Self::Practitioner => "practitioner",
            Self::Admin => "admin",
        }
    }

    /// Reads the word back; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Seeker, Self::Practitioner, Self::Admin].into_iter().find(|r| r.as_str() == word)
    }

    /// The permissions as the token carries them.
    pub fn permissions(self) -> Vec<String> {
        table(self).iter().map(ToString::to_string).collect()
    }
}

/// What can be done, as `resource:action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hold a slot or book it.
    BookingCreate,
    /// See a booking, its events.
    BookingRead,
    /// Change a booking: confirm, decline, cancel.
    BookingUpdate,
    /// Rate a completed session.
    ReviewCreate,
    /// Change a review.
    ReviewUpdate,
    /// Take a review away.
    ReviewDelete,
    /// Change one's own account and practice.
    ProfileUpdate,
    /// Change weekly hours, overrides, blocked times and services.
    AvailabilityUpdate,
    /// Open a conversation.
    ConversationCreate,
    /// Read and write in a conversation.
    ConversationUse,
    /// Open a practice (become listed).
    PracticeCreate,
    /// Change the platform's catalogue of services.
    CatalogueUpdate,
    /// See what users reported, with its evidence, and resolve it.
    ReportHandle,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Self::BookingCreate => "booking:create",
            Self::BookingRead => "booking:read",
            Self::BookingUpdate => "booking:update",
            Self::ReviewCreate => "review:create",
            Self::ReviewUpdate => "review:update",
            Self::ReviewDelete => "review:delete",
            Self::ProfileUpdate => "profile:update",
            Self::AvailabilityUpdate => "availability:update",
            Self::ConversationCreate => "conversation:create",
            Self::ConversationUse => "conversation:use",
            Self::PracticeCreate => "practice:create",
            Self::CatalogueUpdate => "catalogue:update",
            Self::ReportHandle => "report:handle",
        }
    }
}

/// How the caller must stand to the thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Any caller of the role.
    None,
    /// The caller's own: their profile, the booking they made, the conversation they are in.
    Owner,
    /// The booking is with the caller's practice.
    Practitioner,
}

/// One line of a role.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    action: Action,
    condition: Condition,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action.text())?;
        match self.condition {
            Condition::None => Ok(()),
            Condition::Owner => f.write_str(":owner"),
            Condition::Practitioner => f.write_str(":practitioner"),
        }
    }
}

const fn line(action: Action, condition: Condition) -> Permission {
    Permission { action, condition }
}

const SEEKER: &[Permission] = &[
    line(Action::BookingCreate, Condition::None),
    line(Action::BookingRead, Condition::Owner),
    line(Action::BookingUpdate, Condition::Owner),
    line(Action::ReviewCreate, Condition::None),
    line(Action::ReviewUpdate, Condition::Owner),
    line(Action::ReviewDelete, Condition::Owner),
    line(Action::ProfileUpdate, Condition::Owner),
    line(Action::ConversationCreate, Condition::None),
    line(Action::ConversationUse, Condition::Owner),
];

const PRACTITIONER: &[Permission] = &[
    line(Action::BookingRead, Condition::Practitioner),
    line(Action::BookingUpdate, Condition::Practitioner),
    line(Action::AvailabilityUpdate, Condition::Owner),
    line(Action::ProfileUpdate, Condition::Owner),
    line(Action::PracticeCreate, Condition::None),
    line(Action::ConversationCreate, Condition::None),
    line(Action::ConversationUse, Condition::Owner),
];

/// An administrator sees and mends bookings and practices; private conversations are not theirs.
const ADMIN: &[Permission] = &[
    line(Action::BookingRead, Condition::None),
    line(Action::BookingUpdate, Condition::None),
    line(Action::AvailabilityUpdate, Condition::None),
    line(Action::ProfileUpdate, Condition::Owner),
    line(Action::CatalogueUpdate, Condition::None),
    line(Action::ReportHandle, Condition::None),
    line(Action::ReviewDelete, Condition::None),
    line(Action::ConversationCreate, Condition::None),
    line(Action::ConversationUse, Condition::Owner),
];

fn table(role: Role) -> &'static [Permission] {
    match role {
        Role::Seeker => SEEKER,
        Role::Practitioner => PRACTITIONER,
        Role::Admin => ADMIN,
    }
}

/// How the caller stands to the thing at hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relation {
    /// It is the caller's own.
    pub owner: bool,
    /// It is with the caller's practice.
    pub practitioner: bool,
}

/// Whether `role`, standing as `relation` to the thing, may do `action`.
pub fn allows(role: Role, action: Action, relation: Relation) -> bool {
    table(role).iter().any(|p| {
        p.action == action
            && match p.condition {
                Condition::None => true,
                Condition::Owner => relation.owner,
                Condition::Practitioner => relation.practitioner,
            }
    })
}

/// Whether `role` may open a conversation with somebody of role `other`. A marketplace: a seeker
/// may write to any practitioner, an administrator to anybody; all others need to share a booking
/// or a conversation. Answering needs nothing: a conversation that is there is open to both.
pub fn may_write_to(role: Role, other: Role, acquainted: bool) -> bool {
    match (role, other) {
        (Role::Admin, _) | (Role::Seeker, Role::Practitioner) => true,
        (Role::Seeker | Role::Practitioner, _) => acquainted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_section_6_1_holds() {
        let own = Relation { owner: true, practitioner: false };
        let practice = Relation { owner: false, practitioner: true };
        let none = Relation::default();
        assert!(allows(Role::Seeker, Action::BookingCreate, none));
        assert!(allows(Role::Seeker, Action::BookingRead, own));
        assert!(!allows(Role::Seeker, Action::BookingRead, none));
        assert!(!allows(Role::Seeker, Action::AvailabilityUpdate, own));
        assert!(allows(Role::Practitioner, Action::BookingUpdate, practice));
        assert!(!allows(Role::Practitioner, Action::BookingUpdate, own));
        assert!(!allows(Role::Practitioner, Action::BookingCreate, none));
        assert!(!allows(Role::Admin, Action::ConversationUse, none));
    }

    #[test]
    fn practitioners_are_written_to_and_do_not_write_to_strangers() {
        use Role::{Admin, Practitioner, Seeker};
        assert!(may_write_to(Seeker, Practitioner, false) && may_write_to(Admin, Seeker, false));
        for (from, to) in [
            (Practitioner, Seeker),
            (Seeker, Seeker),
            (Practitioner, Practitioner),
            (Seeker, Admin),
            (Practitioner, Admin),
        ] {
            assert!(!may_write_to(from, to, false) && may_write_to(from, to, true));
        }
    }

    #[test]
    fn permissions_read_as_resource_action_condition() {
        assert!(Role::Seeker.permissions().contains(&"booking:read:owner".to_owned()));
        assert!(
            Role::Practitioner.permissions().contains(&"booking:update:practitioner".to_owned())
        );
    }
}
