//! Why a start cannot be booked.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::limits::Limit;
use crate::domain::time::Interval;

/// Why a start cannot be booked. Tested in this order; the first reason is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotRefusal {
    /// At or before now.
    InPast,
    /// Sooner than the minimum notice allows.
    TooSoon { earliest: Timestamp },
    /// Not in `[from, until)`, the horizon's first instant and the instant after its last.
    OutsideHorizon { from: Timestamp, until: Timestamp },
    /// Not all of the appointment lies in one open window.
    OutsideHours,
    /// It would, if the practice were not closed for this holiday.
    Holiday { date: Date, name: &'static str },
    /// The appointment with its buffers would overlap this item with its own.
    Taken { key: u128, what: &'static str, occupied: Interval },
    /// No grid has this start.
    OffGrid,
    /// Its day or its week has as many sessions as are allowed.
    Limit(Limit),
}

impl SlotRefusal {
    /// The name of the rule: `in_past`, `notice`, `horizon`, `hours`, `holiday`, `taken`, `grid` or
    /// `limit`.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::InPast => "in_past",
            Self::TooSoon { .. } => "notice",
            Self::OutsideHorizon { .. } => "horizon",
            Self::OutsideHours => "hours",
            Self::Holiday { .. } => "holiday",
            Self::Taken { .. } => "taken",
            Self::OffGrid => "grid",
            Self::Limit(_) => "limit",
        }
    }
}

impl fmt::Display for SlotRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPast => f.write_str("not after now"),
            Self::TooSoon { earliest } => {
                write!(f, "before {earliest}, the earliest start that the minimum notice allows")
            }
            Self::OutsideHorizon { from, until } if *from > Timestamp::MIN => {
                write!(f, "only starts from {from} until before {until} can be booked")
            }
            Self::OutsideHorizon { until, .. } => {
                write!(f, "only starts before {until} can be booked so far")
            }
            Self::OutsideHours => f.write_str("does not fit into the open hours"),
            Self::Holiday { date, name } => write!(f, "closed on {date}, {name}"),
            Self::Taken { what, occupied, .. } => {
                write!(f, "with its buffers it meets {what} that occupies {occupied}")
            }
            Self::OffGrid => f.write_str("not one of the starts that are offered"),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

impl std::error::Error for SlotRefusal {}
