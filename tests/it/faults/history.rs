//! What the devices of a run did and saw, and whether the hub kept its promises to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::view::{Made, View};

/// The name of a channel, as on the wire.
pub type Channel = Arc<str>;

/// One line of a device's history.
#[derive(Debug, Clone)]
pub enum Line {
    /// A connection begins, at this node.
    Opened { node: usize },
    /// The hub has agreed to tell everything of the channel after this seq.
    From { channel: Channel, since: i64 },
    /// A durable event came; `id` is the message's, nil where an event has none.
    Saw { channel: Channel, seq: i64, id: Uuid },
    /// A message was sent, or sent again.
    Sent { channel: Channel, client_id: Uuid },
    /// The hub said that it has it.
    Acked { channel: Channel, client_id: Uuid, seq: i64, id: Uuid },
    /// The hub said that it has made this change of a message.
    Changed { channel: Channel, id: Uuid, op: &'static str },
    /// The channel is not the device's any more: nothing is to be told of it.
    Ended { channel: Channel },
    /// The connection is over; with the hub's code, if it said goodbye.
    Closed { code: Option<u16> },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { node } => write!(f, "opened at node {node}"),
            Self::From { since, .. } => write!(f, "from {since}"),
            Self::Saw { seq, id, .. } => write!(f, "saw {seq} {id}"),
            Self::Sent { client_id, .. } => write!(f, "sent {client_id}"),
            Self::Acked { client_id, seq, id, .. } => {
                write!(f, "acknowledged {client_id} as {seq} {id}")
            }
            Self::Changed { id, op, .. } => write!(f, "acknowledged {op} of {id}"),
            Self::Ended { .. } => f.write_str("not a member"),
            Self::Closed { code } => write!(f, "closed {}", code.unwrap_or(1006)),
        }
    }
}

impl Line {
    fn is_about(&self, about: &str) -> bool {
        match self {
            Self::Opened { .. } | Self::Closed { .. } => true,
            Self::From { channel, .. }
            | Self::Saw { channel, .. }
            | Self::Sent { channel, .. }
            | Self::Acked { channel, .. }
            | Self::Changed { channel, .. }
            | Self::Ended { channel } => **channel == *about,
        }
    }
}

/// Everything that one device did and saw, in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub device: String,
    pub user: Uuid,
    pub lines: Vec<Line>,
    /// What it was told of messages in the end.
    pub view: View,
    /// What it made of messages.
    pub made: BTreeMap<(Channel, Uuid), Made>,
}

impl History {
    /// A violation in what is known of a message, with the lines about that.
    pub fn about(&self, channel: &str, message: Uuid, kind: Kind, text: &str) -> Violation {
        let names = |line: &&Line| match line {
            Line::Saw { id, .. } | Line::Acked { id, .. } | Line::Changed { id, .. } => {
                *id == message
            }
            _ => false,
        };
        let mut lines: Vec<String> =
            self.lines.iter().rev().filter(names).take(CONTEXT).map(ToString::to_string).collect();
        lines.reverse();
        Violation { kind, device: self.device.clone(), text: format!("{channel}: {text}"), lines }
    }
}

/// A durable event as the database has it; `id` is the message's that is new or changed.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub seq: i64,
    pub id: Uuid,
    pub client_id: Uuid,
}

/// What the database has, in the order of seq.
pub type Stored = BTreeMap<Channel, Vec<Row>>;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged, and not stored, or stored as something else.
    LostAck,
    /// Stored, and not seen by a device that was told later ones, or that waited to the end.
    Loss,
    /// Seen twice.
    Repeat,
    /// Seen after a later one, or acknowledged out of the order in which it was sent.
    Disorder,
    /// The seqs of the database are not 1, 2, 3, …
    NotDense,
    /// One message is stored twice.
    Twice,
    /// Sent, and neither acknowledged nor refused for good, in a long quiet time.
    Unanswered,
    /// A message is known otherwise than it is in the end.
    State,
    /// What was counted does not add up.
    Unbalanced,
    /// Seen or stored, and nobody sent it, or it differs from what is stored.
    Foreign,
}

/// A broken promise, with the lines that show it.
#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    pub device: String,
    pub text: String,
    pub lines: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: {}: {}", self.kind, self.device, self.text)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Lines shown before the one that is wrong.
const CONTEXT: usize = 8;

/// Holds all histories against what is stored. Nothing found means that every promise was kept.
pub fn check(histories: &[History], stored: &Stored) -> Vec<Violation> {
    let mut found = check_stored(stored);
    let ids: HashMap<(&str, i64), Uuid> = stored
        .iter()
        .flat_map(|(channel, rows)| rows.iter().map(move |r| ((&**channel, r.seq), r.id)))
        .collect();
    let clients: HashMap<(&str, Uuid), Row> = stored
        .iter()
        .flat_map(|(channel, rows)| rows.iter().map(move |r| ((&**channel, r.client_id), *r)))
        .collect();
    let mut sent = BTreeSet::new();
    for history in histories {
        found.extend(check_seen(history, stored, &ids));
        found.extend(check_acks(history, &clients, &mut sent));
    }
    for ((channel, client_id), row) in clients {
        if !client_id.is_nil() && !sent.contains(&client_id) {
            let text = format!("{channel} has {}, which nobody sent", row.seq);
            found.push(Violation {
                kind: Kind::Foreign,
                device: "database".to_owned(),
                text,
                lines: Vec::new(),
            });
        }
    }
    found
}

/// How many durable events were seen.
pub fn deliveries(histories: &[History]) -> usize {
    let lines = histories.iter().flat_map(|h| &h.lines);
    lines.filter(|line| matches!(line, Line::Saw { .. })).count()
}

fn check_stored(stored: &Stored) -> Vec<Violation> {
    let mut found = Vec::new();
    for (channel, rows) in stored {
        let mut add = |kind, text| {
            let device = format!("database, {channel}");
            found.push(Violation { kind, device, text, lines: Vec::new() });
        };
        for (expected, row) in (1..).zip(rows) {
            if row.seq != expected {
                add(Kind::NotDense, format!("{} where {expected} should be", row.seq));
                break;
            }
        }
        let mut known = BTreeSet::new();
        for row in rows.iter().filter(|row| !row.client_id.is_nil()) {
            if !known.insert(row.client_id) {
                add(Kind::Twice, format!("{} is stored again as {}", row.client_id, row.seq));
            }
        }
    }
    found
}

/// What one device saw: each event once, in order, the same that is stored, and all of them.
fn check_seen(
    history: &History,
    stored: &Stored,
    ids: &HashMap<(&str, i64), Uuid>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for (n, line) in history.lines.iter().enumerate() {
        match line {
            Line::From { channel, since } => {
                last.insert(channel, *since);
                ended.remove(&**channel);
            }
            Line::Ended { channel } => {
                ended.insert(channel);
            }
            Line::Saw { channel, seq, id } => {
                let mut add = |kind, text: String| {
                    found.push(violation(history, n, channel, kind, &text));
                };
                let open = last.get(&**channel).filter(|_| !ended.contains(&**channel));
                match open.copied() {
                    None => add(Kind::Foreign, format!("{seq} of a channel that is not open")),
                    Some(seen) if *seq == seen + 1 => {}
                    Some(seen) if *seq > seen => {
                        add(Kind::Loss, format!("{seq} follows {seen}"));
                    }
                    Some(_) if was_seen(history, n, channel, *seq) => {
                        add(Kind::Repeat, format!("{seq} comes again"));
                    }
                    Some(seen) => add(Kind::Disorder, format!("{seq} comes after {seen}")),
                }
                if ids.get(&(&**channel, *seq)) != Some(id) {
                    add(Kind::Foreign, format!("{seq} is {id}, which is not what is stored"));
                }
                let newest = last.entry(channel).or_default();
                *newest = (*newest).max(*seq);
            }
            _ => {}
        }
    }
    for (channel, seen) in last {
        let head = stored.get(channel).map_or(0, |rows| rows.last().map_or(0, |row| row.seq));
        if seen < head {
            let text = format!("the last one seen is {seen}, the last one stored {head}");
            found.push(violation(history, history.lines.len() - 1, channel, Kind::Loss, &text));
        }
    }
    found
}

/// The device still waits for an acknowledgement.
pub fn unanswered(history: &History, waiting: usize) -> Violation {
    let last = history.lines.iter().rev().take(2 * CONTEXT);
    let mut lines: Vec<String> = last.map(ToString::to_string).collect();
    lines.reverse();
    let text = format!("{waiting} messages without an answer");
    Violation { kind: Kind::Unanswered, device: history.device.clone(), text, lines }
}

fn was_seen(history: &History, before: usize, about: &str, wanted: i64) -> bool {
    history.lines[..before].iter().any(|line| {
        matches!(line, Line::Saw { channel, seq, .. } if **channel == *about && *seq == wanted)
    })
}

/// What one device sent: what was acknowledged is stored under that seq, the same each time, and
/// after whatever had been acknowledged before it was sent.
fn check_acks(
    history: &History,
    clients: &HashMap<(&str, Uuid), Row>,
    sent: &mut BTreeSet<Uuid>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut floors: HashMap<Uuid, i64> = HashMap::new();
    for (n, line) in history.lines.iter().enumerate() {
        match line {
            Line::Sent { channel, client_id } => {
                sent.insert(*client_id);
                let floor = newest.get(&**channel).copied().unwrap_or(0);
                floors.entry(*client_id).or_insert(floor);
            }
            Line::Acked { channel, client_id, seq, id } => {
                let mut add = |kind, text: String| {
                    found.push(violation(history, n, channel, kind, &text));
                };
                match clients.get(&(&**channel, *client_id)) {
                    None => add(Kind::LostAck, format!("{client_id} is not stored")),
                    Some(row) if (row.seq, row.id) != (*seq, *id) => {
                        let stored = format!("{client_id} is stored as {} {}", row.seq, row.id);
                        add(Kind::LostAck, stored);
                    }
                    Some(_) => {}
                }
                match floors.get(client_id) {
                    None => add(Kind::Foreign, format!("{client_id} was not sent")),
                    Some(floor) if seq <= floor => {
                        add(Kind::Disorder, format!("{seq} was sent when {floor} was there"));
                    }
                    Some(_) => {}
                }
                let newest = newest.entry(channel).or_default();
                *newest = (*newest).max(*seq);
            }
            _ => {}
        }
    }
    found
}

/// With the lines of the channel that lead to the `n`th.
fn violation(history: &History, n: usize, channel: &str, kind: Kind, text: &str) -> Violation {
    let about = history.lines[..=n].iter().rev().filter(|line| line.is_about(channel));
    let mut lines: Vec<String> = about.take(CONTEXT).map(ToString::to_string).collect();
    lines.reverse();
    Violation { kind, device: history.device.clone(), text: format!("{channel}: {text}"), lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: &str = "conversation:x";

    fn id(n: i64) -> Uuid {
        Uuid::from_u128(u128::try_from(n).unwrap())
    }

    fn row(seq: i64) -> Row {
        Row { seq, id: id(seq), client_id: id(seq + 100) }
    }

    fn stored(seqs: &[i64]) -> Stored {
        Stored::from([(CHANNEL.into(), seqs.iter().copied().map(row).collect())])
    }

    fn from(since: i64) -> Line {
        Line::From { channel: CHANNEL.into(), since }
    }

    fn saw(seq: i64) -> Line {
        Line::Saw { channel: CHANNEL.into(), seq, id: id(seq) }
    }

    fn ended() -> Line {
        Line::Ended { channel: CHANNEL.into() }
    }

    fn sent(seq: i64) -> Line {
        Line::Sent { channel: CHANNEL.into(), client_id: id(seq + 100) }
    }

    fn acked(seq: i64) -> Line {
        Line::Acked { channel: CHANNEL.into(), client_id: id(seq + 100), seq, id: id(seq) }
    }

    /// Somebody sent all that is stored; `lines` are what another device saw.
    fn kinds(stored: &Stored, lines: Vec<Line>) -> Vec<Kind> {
        let all = stored.values().flatten().map(|row| sent(row.seq)).collect();
        let sender = History { lines: all, ..History::default() };
        let device = History { lines, ..History::default() };
        let found = check(&[sender, device], stored);
        let mut kinds: Vec<Kind> = found.iter().map(|v| v.kind).collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn a_history_without_fault_passes() {
        let again = Line::Closed { code: None };
        let lines =
            vec![from(0), saw(1), saw(2), again, from(2), saw(3), sent(4), acked(4), saw(4)];
        assert_eq!(kinds(&stored(&[1, 2, 3, 4]), lines), []);
        let lines = vec![from(0), saw(1), ended(), from(1), saw(2)];
        assert_eq!(kinds(&stored(&[1, 2]), lines), []);
        assert_eq!(kinds(&stored(&[]), vec![from(0)]), []);
    }

    #[test]
    fn each_broken_promise_is_seen() {
        let three = stored(&[1, 2, 3]);
        for (lines, expected) in [
            (vec![from(0), saw(1), saw(3)], Kind::Loss),
            (vec![from(0), saw(1), saw(2)], Kind::Loss),
            (vec![from(0)], Kind::Loss),
            (vec![from(0), saw(1), saw(2), saw(2), saw(3)], Kind::Repeat),
            (vec![from(0), saw(1), saw(2), from(2), saw(2), saw(3)], Kind::Repeat),
            (vec![saw(3)], Kind::Foreign),
            (vec![from(0), saw(1), saw(2), ended(), saw(3)], Kind::Foreign),
            (vec![from(0), saw(1), saw(2), ended()], Kind::Loss),
            (vec![sent(5), acked(5)], Kind::LostAck),
            (vec![acked(3)], Kind::Foreign),
            (vec![sent(3), acked(3), sent(2), acked(2)], Kind::Disorder),
        ] {
            assert_eq!(kinds(&three, lines.clone()), [expected], "{lines:?}");
        }
        // One that comes late is missed first.
        let late = vec![from(0), saw(2), saw(1), saw(3)];
        assert_eq!(kinds(&three, late), [Kind::Loss, Kind::Disorder]);
        let other = Line::Saw { channel: CHANNEL.into(), seq: 1, id: id(9) };
        assert_eq!(kinds(&stored(&[1]), vec![from(0), other]), [Kind::Foreign]);
        let other = Line::Acked { channel: CHANNEL.into(), client_id: id(101), seq: 1, id: id(9) };
        assert_eq!(kinds(&stored(&[1]), vec![sent(1), other]), [Kind::LostAck]);
        assert_eq!(kinds(&stored(&[1, 3]), vec![]), [Kind::NotDense]);
        let twice = vec![row(1), Row { seq: 2, ..row(1) }];
        assert_eq!(kinds(&Stored::from([(CHANNEL.into(), twice)]), vec![]), [Kind::Twice]);
        assert_eq!(check(&[], &stored(&[1]))[0].kind, Kind::Foreign);
    }

    #[test]
    fn a_violation_shows_the_lines_before_it() {
        let lines = vec![from(0), saw(1), saw(3)];
        let device = "phone".to_owned();
        let history = History { device, lines, ..History::default() };
        let found = check(&[history], &stored(&[1, 2, 3]));
        let shown = found[0].to_string();
        assert!(shown.contains("phone") && shown.contains("3 follows 1"), "{shown}");
        assert!(shown.contains("from 0") && shown.contains("saw 1"), "{shown}");
    }
}
