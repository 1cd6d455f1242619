//! A whole reply is a folded stream; a stream is an unfolded reply.
//!
//! The law: `fold(unfold(r)) == r` for every reply.

use super::{Event, Finish, ToolCall, Usage};
use serde::{Deserialize, Serialize};

/// A complete answer, free of any protocol: what the cache keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The provider's id of it.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// When, in Unix seconds.
    pub created: u64,
    /// The answers, in the order of their index.
    pub choices: Vec<Choice>,
    /// What it cost, where the provider said.
    pub usage: Option<Usage>,
}

/// One of the answers in a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is said.
    pub text: String,
    /// What was thought before.
    pub reasoning: String,
    /// Why it is not said.
    pub refusal: String,
    /// The tools to be called.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ends.
    pub finish: Option<Finish>,
}

impl Reply {
    /// A reply of one plain text, complete.
    pub fn text(model: impl Into<String>, text: impl Into<String>) -> Self {
        let choice = Choice { text: text.into(), finish: Some(Finish::Stop), ..Choice::default() };
        Self { model: model.into(), choices: vec![choice], ..Self::default() }
    }
}

/// Why a stream of events is not a whole reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// It ended before [`Event::End`].
    #[error("the stream was cut before its end")]
    Cut,
    /// It names a choice or a tool call far outside of what anyone asks for.
    #[error("index {0} is out of range")]
    IndexOutOfRange(u32),
    /// It is longer than we keep.
    #[error("the reply is longer than {MAX_REPLY_BYTES} bytes")]
    TooLong,
    /// It holds something that a [`Reply`] has no word for.
    #[error("the field `{0}` cannot be kept")]
    Opaque(String),
}

/// The most choices, and the most tool calls in a choice. An index beyond is a fault or an attack.
const MAX_INDEX: u32 = 128;

/// The most text in a reply, all its parts together.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Folds events into a reply, one by one.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    reply: Reply,
    bytes: usize,
    fault: Option<Incomplete>,
    ended: bool,
}

impl Folder {
    /// Takes one event in.
    pub fn push(&mut self, event: &Event) {
        if let Err(fault) = self.take(event) {
            self.fault.get_or_insert(fault);
        }
    }

    /// Whether [`Event::End`] was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What has been folded up to now, complete or not.
    pub fn so_far(&self) -> &Reply {
        &self.reply
    }

    /// The reply, if it is complete and nothing was lost in folding.
    pub fn finish(self) -> Result<Reply, Incomplete> {
        match self.fault {
            Some(fault) => Err(fault),
            None if !self.ended => Err(Incomplete::Cut),
            None => Ok(self.reply),
        }
    }

    fn take(&mut self, event: &Event) -> Result<(), Incomplete> {
        self.bytes += text_in(event).len();
        if self.bytes > MAX_REPLY_BYTES {
            return Err(Incomplete::TooLong);
        }
        match event {
            Event::Start { id, model, created } => {
                (self.reply.id, self.reply.model) = (id.clone(), model.clone());
                self.reply.created = *created;
            }
            Event::Text { choice, text } => self.choice(*choice)?.text.push_str(text),
            Event::Reasoning { choice, text } => self.choice(*choice)?.reasoning.push_str(text),
            Event::Refusal { choice, text } => self.choice(*choice)?.refusal.push_str(text),
            Event::ToolCall { choice, index, id, name, arguments } => {
                let call = grown(&mut self.choice(*choice)?.tool_calls, *index)?;
                call.id.push_str(id.as_deref().unwrap_or_default());
                call.name.push_str(name.as_deref().unwrap_or_default());
                call.arguments.push_str(arguments);
            }
            Event::Opaque { field } => return Err(Incomplete::Opaque(field.clone())),
            Event::Finish { choice, reason } => self.choice(*choice)?.finish = Some(reason.clone()),
            Event::Usage(usage) => self.reply.usage = Some(*usage),
            Event::End => self.ended = true,
        }
        Ok(())
    }

    fn choice(&mut self, index: u32) -> Result<&mut Choice, Incomplete> {
        grown(&mut self.reply.choices, index)
    }
}

fn text_in(event: &Event) -> &str {
    match event {
        Event::Text { text, .. } | Event::Reasoning { text, .. } | Event::Refusal { text, .. } => text,
        Event::ToolCall { arguments, .. } => arguments,
        Event::Start { .. } | Event::Opaque { .. } | Event::Finish { .. } | Event::Usage(_) | Event::End => {
            ""
        }
    }
}

fn grown<T: Default + Clone>(items: &mut Vec<T>, index: u32) -> Result<&mut T, Incomplete> {
    if index >= MAX_INDEX {
        return Err(Incomplete::IndexOutOfRange(index));
    }
    let at = index as usize;
    if items.len() <= at {
        items.resize(at + 1, T::default());
    }
    Ok(&mut items[at])
}

/// Folds a whole stream.
pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Reply, Incomplete> {
    let mut folder = Folder::default();
    events.into_iter().for_each(|event| folder.push(event));
    folder.finish()
}

/// The stream that folds into `reply`.
pub fn unfold(reply: &Reply) -> Vec<Event> {
    let Reply { id, model, created, choices, usage } = reply;
    let mut events = vec![Event::Start { id: id.clone(), model: model.clone(), created: *created }];
    for (choice, index) in choices.iter().zip(0..) {
        unfold_choice(choice, index, &mut events);
    }
    events.extend(usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn unfold_choice(choice: &Choice, index: u32, events: &mut Vec<Event>) {
    let Choice { text, reasoning, refusal, tool_calls, finish } = choice;
    let choice = index;
    // An empty text is still said: it is what makes the choice exist.
    if !reasoning.is_empty() {
        events.push(Event::Reasoning { choice, text: reasoning.clone() });
    }
    events.push(Event::Text { choice, text: text.clone() });
    if !refusal.is_empty() {
        events.push(Event::Refusal { choice, text: refusal.clone() });
    }
    for (call, index) in tool_calls.iter().zip(0..) {
        let ToolCall { id, name, arguments } = call.clone();
        events.push(Event::ToolCall { choice, index, id: Some(id), name: Some(name), arguments });
    }
    events.extend(finish.clone().map(|reason| Event::Finish { choice, reason }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_finish() -> impl Strategy<Value = Option<Finish>> {
        prop::option::of(prop_oneof![
            Just(Finish::Stop),
            Just(Finish::Length),
            Just(Finish::ToolCalls),
            Just(Finish::ContentFilter),
            "[a-z]{1,8}".prop_map(Finish::Other),
        ])
    }

    fn any_choice() -> impl Strategy<Value = Choice> {
        let call = ("\\PC{0,8}", "\\PC{0,8}", "\\PC{0,20}").prop_map(|(id, name, arguments)| ToolCall {
            id,
            name,
            arguments,
        });
        ("\\PC{0,30}", "\\PC{0,9}", "\\PC{0,9}", prop::collection::vec(call, 0..3), any_finish()).prop_map(
            |(text, reasoning, refusal, tool_calls, finish)| Choice {
                text,
                reasoning,
                refusal,
                tool_calls,
                finish,
            },
        )
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let usage = prop::option::of((0u64..9, 0u64..9).prop_map(|(input, output)| Usage {
            input,
            output,
            ..Usage::default()
        }));
        ("\\PC{0,8}", "\\PC{0,8}", any::<u64>(), prop::collection::vec(any_choice(), 0..4), usage)
            .prop_map(|(id, model, created, choices, usage)| Reply { id, model, created, choices, usage })
    }

    proptest! {
        #[test]
        fn folding_undoes_unfolding(reply in any_reply()) {
            prop_assert_eq!(fold(&unfold(&reply)), Ok(reply));
        }

        #[test]
        fn a_stream_cut_anywhere_is_no_reply(reply in any_reply(), at in 0usize..40) {
            let events = unfold(&reply);
            let at = at.min(events.len() - 1);
            prop_assert_eq!(fold(&events[..at]), Err(Incomplete::Cut));
        }
    }

    #[test]
    fn a_huge_index_is_refused_without_growing() {
        let events = [Event::Text { choice: u32::MAX, text: "x".into() }, Event::End];
        assert_eq!(fold(&events), Err(Incomplete::IndexOutOfRange(u32::MAX)));
    }

    #[test]
    fn what_cannot_be_kept_is_no_reply() {
        let events = [Event::Opaque { field: "audio".into() }, Event::End];
        assert_eq!(fold(&events), Err(Incomplete::Opaque("audio".into())));
    }
}
