//! The life of a booking: which step is allowed from which state, and by whom.
//!
//! ```text
//! held ──> released | lapsed                      (a hold that became nothing)
//! held ──> pending | confirmed                    (booked)
//! pending ──> confirmed | declined | cancelled | expired (not answered before its time)
//! confirmed ──> in_session | no_show | cancelled
//! in_session ──> completed
//! ```

use jiff::{SignedDuration, Timestamp};

use super::access::{self, Action, Relation, Role};
use super::refusal::Refusal;
use super::time::shifted;

/// The states of a row in `bookings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Kept for one seeker for a short while.
    Held,
    /// A hold that its owner gave back.
    Released,
    /// A hold that ran out.
    Lapsed,
    /// Waits for the practitioner.
    Pending,
    /// Agreed.
    Confirmed,
    /// Refused by the practitioner.
    Declined,
    /// Nobody answered in time.
    Expired,
    /// The session is running.
    InSession,
    /// The session took place.
    Completed,
    /// The seeker did not come.
    NoShow,
    /// Called off by either side.
    Cancelled,
}

impl Status {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Held,
        Self::Released,
        Self::Lapsed,
        Self::Pending,
        Self::Confirmed,
        Self::Declined,
        Self::Expired,
        Self::InSession,
        Self::Completed,
        Self::NoShow,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Released => "released",
            Self::Lapsed => "lapsed",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::InSession => "in_session",
            Self::Completed => "completed",
            Self::NoShow => "no_show",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word back; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the row is one of the sessions that limits per day and week count: those that stand
    /// or took place, see `domain::limits`.
    pub fn counts(self) -> bool {
        self.blocks() || matches!(self, Self::Completed | Self::NoShow)
    }

    /// Whether the row keeps others out of its time. The exclusion constraint's `WHERE` lists the
    /// same states.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Held | Self::Pending | Self::Confirmed | Self::InSession)
    }
}

/// A step that somebody wants to take with a booking that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The owner gives a hold back.
    Release,
    /// The practitioner agrees.
    Confirm,
    /// The practitioner refuses.
    Decline,
    /// Either side calls it off.
    Cancel,
    /// The practitioner begins the session.
    Start,
    /// The practitioner ends the session.
    End,
    /// The practitioner waited in vain.
    NoShow,
}

/// How long before its time a session may begin.
const EARLY_START: SignedDuration = SignedDuration::from_mins(15);

impl Step {
    /// The word in the audit trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Confirm => "confirm",
            Self::Decline => "decline",
            Self::Cancel => "cancel",
            Self::Start => "start",
            Self::End => "end",
            Self::NoShow => "no_show",
        }
    }

    fn target(self) -> Status {
        match self {
            Self::Release => Status::Released,
            Self::Confirm => Status::Confirmed,
            Self::Decline => Status::Declined,
            Self::Cancel => Status::Cancelled,
            Self::Start => Status::InSession,
            Self::End => Status::Completed,
            Self::NoShow => Status::NoShow,
        }
    }

    /// Whether the clock allows the step: what has begun is neither confirmed nor cancelled, and a
    /// session is started or missed at its time.
    fn is_timely(self, starts_at: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Release | Self::Decline | Self::End => true,
            Self::Confirm | Self::Cancel => now < starts_at,
            Self::Start => shifted(starts_at, -EARLY_START) <= now,
            Self::NoShow => starts_at <= now,
        }
    }

    fn is_allowed_from(self, status: Status) -> bool {
        match self {
            Self::Release => status == Status::Held,
            Self::Confirm | Self::Decline => status == Status::Pending,
            Self::Cancel => matches!(status, Status::Pending | Status::Confirmed),
            Self::Start | Self::NoShow => status == Status::Confirmed,
            Self::End => status == Status::InSession,
        }
    }
}

/// What a decision needs to know of the booking.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its state now.
    pub status: Status,
    /// Its version now.
    pub version: i64,
    /// When the session begins.
    pub starts_at: Timestamp,
}

/// Decides whether the caller may take `step` at `now`, and the state that it leads to.
///
/// Refuses with `NotFound` when the booking is not the caller's to see, `Forbidden` when it is but
/// the step is the other side's, and `InvalidTransition` when the state or the clock does not
/// allow it.
pub fn decide(
    facts: Facts,
    step: Step,
    role: Role,
    relation: Relation,
    now: Timestamp,
) -> Result<Status, Refusal> {
    if !access::allows(role, Action::BookingRead, relation) {
        return Err(Refusal::NotFound("booking"));
    }
    let sides_own = match step {
        Step::Release => relation.owner,
        Step::Confirm | Step::Decline | Step::Start | Step::End | Step::NoShow => {
            relation.practitioner || role == Role::Admin
        }
        Step::Cancel => true,
    };
    if !sides_own || !access::allows(role, Action::BookingUpdate, relation) {
        return Err(Refusal::Forbidden);
    }
    if !step.is_timely(facts.starts_at, now) || !step.is_allowed_from(facts.status) {
        return Err(Refusal::InvalidTransition {
            state: facts.status.as_str(),
            version: facts.version,
        });
    }
    Ok(step.target())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEKER: Relation = Relation { owner: true, practitioner: false };
    const PRACTICE: Relation = Relation { owner: false, practitioner: true };

    fn facts(status: Status) -> Facts {
        Facts { status, version: 3, starts_at: Timestamp::from_second(1_000).unwrap() }
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    fn before() -> Timestamp {
        Timestamp::from_second(999).unwrap()
    }

    #[test]
    fn words_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("bogus"), None);
    }

    /// The whole table: every step from every state, spelt out.
    #[test]
    fn only_the_listed_steps_are_allowed() {
        use Status::*;
        let allowed = [
            (Step::Release, Held, Released),
            (Step::Confirm, Pending, Confirmed),
            (Step::Decline, Pending, Declined),
            (Step::Cancel, Pending, Cancelled),
            (Step::Cancel, Confirmed, Cancelled),
            (Step::Start, Confirmed, InSession),
            (Step::End, InSession, Completed),
            (Step::NoShow, Confirmed, NoShow),
        ];
        let steps = [
            Step::Release,
            Step::Confirm,
            Step::Decline,
            Step::Cancel,
            Step::Start,
            Step::End,
            Step::NoShow,
        ];
        for step in steps {
            for status in Status::ALL {
                let (role, relation) = match step {
                    Step::Release | Step::Cancel => (Role::Seeker, SEEKER),
                    _ => (Role::Practitioner, PRACTICE),
                };
                let at = if step == Step::NoShow { start() } else { before() };
                let got = decide(facts(status), step, role, relation, at);
                match allowed.iter().find(|(s, from, _)| *s == step && *from == status) {
                    Some((_, _, to)) => assert_eq!(got, Ok(*to)),
                    None => assert_eq!(
                        got,
                        Err(Refusal::InvalidTransition { state: status.as_str(), version: 3 })
                    ),
                }
            }
        }
    }

    #[test]
    fn each_side_has_its_own_steps() {
        let pending = facts(Status::Pending);
        let go = |step, role, relation| decide(pending, step, role, relation, before());
        assert_eq!(go(Step::Confirm, Role::Seeker, SEEKER), Err(Refusal::Forbidden));
        assert_eq!(go(Step::Confirm, Role::Admin, Relation::default()), Ok(Status::Confirmed));
        assert_eq!(go(Step::Cancel, Role::Practitioner, PRACTICE), Ok(Status::Cancelled));
        let stranger = Relation::default();
        assert_eq!(go(Step::Cancel, Role::Seeker, stranger), Err(Refusal::NotFound("booking")));
        assert_eq!(
            go(Step::Cancel, Role::Practitioner, stranger),
            Err(Refusal::NotFound("booking"))
        );
    }

    #[test]
    fn a_session_starts_at_most_a_quarter_of_an_hour_early_and_is_missed_at_its_time() {
        let facts = Facts {
            starts_at: Timestamp::from_second(10_000).unwrap(),
            ..facts(Status::Confirmed)
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let go = |step, now| decide(facts, step, Role::Practitioner, PRACTICE, now).is_ok();
        assert!(
            !go(Step::Start, at(10_000 - 15 * 60 - 1)) && go(Step::Start, at(10_000 - 15 * 60))
        );
        assert!(!go(Step::NoShow, at(9_999)) && go(Step::NoShow, at(10_000)));
    }

    #[test]
    fn a_session_that_began_is_neither_confirmed_nor_cancelled() {
        let start = start();
        for (step, status) in [(Step::Cancel, Status::Confirmed), (Step::Confirm, Status::Pending)]
        {
            assert!(decide(facts(status), step, Role::Practitioner, PRACTICE, before()).is_ok());
            assert!(decide(facts(status), step, Role::Practitioner, PRACTICE, start).is_err());
        }
        // A request that was never answered can still be put away.
        assert!(
            decide(facts(Status::Pending), Step::Decline, Role::Practitioner, PRACTICE, start)
                .is_ok()
        );
    }
}
