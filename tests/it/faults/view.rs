//! What a device knows of the messages of its conversations, and whether it is what the database has.
//!
//! A live event tells its message as the change left it, a replayed one as it is by now. So a device
//! that catches up may hear of a state before the change that made it, and for a moment of an older
//! one again; what is promised is the end: who has heard everything knows each message as it is. And
//! a change that was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::history::{Channel, History, Kind, Violation};

/// A message as an event tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub id: Uuid,
    content: Box<str>,
    edited_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    #[serde(default)]
    reactions: Vec<Reaction>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reaction {
    emoji: Box<str>,
    user_ids: Vec<Uuid>,
}

/// What can change about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub content: Box<str>,
    pub edited_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
    pub reactions: BTreeSet<(Box<str>, Uuid)>,
}

impl From<Told> for State {
    fn from(told: Told) -> Self {
        let given =
            |Reaction { emoji, user_ids }| user_ids.into_iter().map(move |id| (emoji.clone(), id));
        Self {
            content: told.content,
            edited_at: told.edited_at,
            deleted_at: told.deleted_at,
            reactions: told.reactions.into_iter().flat_map(given).collect(),
        }
    }
}

/// Messages by conversation: as a device was last told of them, or as they are stored.
pub type View = BTreeMap<Channel, HashMap<Uuid, State>>;

/// What a device did to a message, as far as the hub has acknowledged it.
#[derive(Debug, Clone, Default)]
pub struct Made {
    pub text: Option<Box<str>>,
    /// Taken away, or found to be.
    pub gone: bool,
    /// Emojis by whether they were given last, or taken back.
    pub reactions: BTreeMap<&'static str, bool>,
}

/// Holds what each device knows, and what was acknowledged to it, against what is stored.
pub fn check(histories: &[History], stored: &View) -> Vec<Violation> {
    let all = |history| known(history, stored).into_iter().chain(made(history, stored));
    histories.iter().flat_map(all).collect()
}

/// Messages that the device knows differently, or not at all.
fn known(history: &History, stored: &View) -> Vec<Violation> {
    let mut found = Vec::new();
    for (channel, known) in &history.view {
        for (id, state) in stored.get(channel).into_iter().flatten() {
            let seen = known.get(id);
            if seen != Some(state) {
                let text = format!("{id} is {state:?}, and known as {seen:?}");
                found.push(history.about(channel, *id, Kind::State, &text));
            }
        }
    }
    found
}

/// Changes that were acknowledged and are not there.
fn made(history: &History, stored: &View) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((channel, id), made) in &history.made {
        let state = stored.get(channel).and_then(|messages| messages.get(id));
        let holds = state.is_some_and(|state| match state.deleted_at {
            Some(_) => state.content.is_empty() && state.reactions.is_empty(),
            None => !made.gone && made.is_in(state, history.user),
        });
        if !holds {
            let text = format!("{id} is {state:?}, and {made:?} was acknowledged");
            found.push(history.about(channel, *id, Kind::LostAck, &text));
        }
    }
    found
}

impl Made {
    /// Whether a message that is still there has what `user` made of it.
    fn is_in(&self, state: &State, user: Uuid) -> bool {
        let has = |emoji: &str| state.reactions.contains(&(emoji.into(), user));
        self.text.as_ref().is_none_or(|text| *text == state.content)
            && self.reactions.iter().all(|(emoji, given)| has(emoji) == *given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: &str = "conversation:x";
    const ME: Uuid = Uuid::from_u128(1);
    const MESSAGE: Uuid = Uuid::from_u128(2);

    fn state(content: &str) -> State {
        let reactions = BTreeSet::from([("👍".into(), ME)]);
        State { content: content.into(), edited_at: None, deleted_at: None, reactions }
    }

    fn view(state: State) -> View {
        View::from([(CHANNEL.into(), HashMap::from([(MESSAGE, state)]))])
    }

    fn kinds(known: View, made: Option<Made>, stored: State) -> Vec<Kind> {
        let made = made.map(|made| ((CHANNEL.into(), MESSAGE), made)).into_iter().collect();
        let history = History { user: ME, view: known, made, ..History::default() };
        check(&[history], &view(stored)).into_iter().map(|v| v.kind).collect()
    }

    #[test]
    fn a_change_that_did_not_arrive_is_seen() {
        let is = || state("second");
        assert_eq!(kinds(view(is()), None, is()), []);
        let edited = State { edited_at: Some(Timestamp::UNIX_EPOCH), ..is() };
        let deleted = State { deleted_at: Some(Timestamp::UNIX_EPOCH), ..is() };
        let bare = State { reactions: BTreeSet::new(), ..is() };
        for lost in [state("first"), edited, deleted, bare] {
            assert_eq!(kinds(view(lost), None, is()), [Kind::State]);
        }
        let nothing = View::from([(CHANNEL.into(), HashMap::new())]);
        assert_eq!(kinds(nothing, None, is()), [Kind::State]);
    }

    #[test]
    fn an_acknowledged_change_that_is_not_there_is_seen() {
        let gone = State {
            content: "".into(),
            deleted_at: Some(Timestamp::UNIX_EPOCH),
            edited_at: None,
            reactions: BTreeSet::new(),
        };
        let edit = |text: &str| Made { text: Some(text.into()), ..Made::default() };
        let react = |emoji, given| Made { reactions: [(emoji, given)].into(), ..Made::default() };
        let delete = Made { gone: true, ..Made::default() };
        for (made, there, expected) in [
            (edit("second"), state("second"), vec![]),
            (edit("second"), gone.clone(), vec![]),
            (edit("second"), state("first"), vec![Kind::LostAck]),
            (react("👍", true), state("first"), vec![]),
            (react("🙏", true), state("first"), vec![Kind::LostAck]),
            (react("👍", false), state("first"), vec![Kind::LostAck]),
            (delete.clone(), gone, vec![]),
            (delete, state("first"), vec![Kind::LostAck]),
        ] {
            assert_eq!(kinds(View::new(), Some(made.clone()), there), expected, "{made:?}");
        }
    }
}
