//! A whole reply is a folded stream; a stream is an unfolded reply.
//!
//! The law: `fold(unfold(r)) == r` for every reply.

use super::{Citation, Event, Finish, Signature, ToolCall, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// What is said, in order. No block is empty.
    pub blocks: Vec<Block>,
    /// How likely the tokens were, in the form of OpenAI's `logprobs.content`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Value>,
    /// Why it ends.
    pub finish: Option<Finish>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Words.
    Text {
        /// The words.
        text: String,
        /// Where they come from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Citation>,
        /// What seals the thought behind them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// A thought.
    Reasoning {
        /// The thought.
        text: String,
        /// What seals it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// A thought that is withheld.
    Redacted(Signature),
    /// Why it is not said.
    Refusal(String),
    /// A tool to be called.
    ToolCall(ToolCall),
}

impl Block {
    /// A block of plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), citations: Vec::new(), signature: None }
    }
}

impl Choice {
    /// A complete answer of plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { blocks: vec![Block::text(text)], logprobs: Vec::new(), finish: Some(Finish::Stop) }
    }

    /// All its words.
    pub fn said(&self) -> String {
        self.joined(|block| if let Block::Text { text, .. } = block { Some(text) } else { None })
    }

    /// All its thoughts.
    pub fn thought(&self) -> String {
        self.joined(|block| if let Block::Reasoning { text, .. } = block { Some(text) } else { None })
    }

    /// Why it is not said; empty where it is.
    pub fn refusal(&self) -> String {
        self.joined(|block| if let Block::Refusal(text) = block { Some(text) } else { None })
    }

    /// The tools to be called.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.blocks
            .iter()
            .filter_map(|block| if let Block::ToolCall(call) = block { Some(call) } else { None })
    }

    fn joined<'a>(&'a self, pick: impl Fn(&'a Block) -> Option<&'a String>) -> String {
        self.blocks.iter().filter_map(pick).map(String::as_str).collect()
    }
}

impl Reply {
    /// A reply of one plain text, complete.
    pub fn text(model: impl Into<String>, text: impl Into<String>) -> Self {
        Self { model: model.into(), choices: vec![Choice::text(text)], ..Self::default() }
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

/// What an event weighs beside its words, so that a flood of small ones has an end too.
const EVENT_BYTES: usize = 16;

/// Folds events into a reply, one by one.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    reply: Reply,
    /// For each choice, whether the next words begin a new block.
    breaks: Vec<bool>,
    bytes: usize,
    fault: Option<Incomplete>,
    /// The first field that a [`Reply`] has no word for.
    lost: Option<String>,
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
        match self.finish_lossy()? {
            (reply, None) => Ok(reply),
            (_, Some(field)) => Err(Incomplete::Opaque(field)),
        }
    }

    /// The reply, if it is complete; what it has no word for is left out, and named.
    pub fn finish_lossy(self) -> Result<(Reply, Option<String>), Incomplete> {
        match self.fault {
            Some(fault) => Err(fault),
            None if !self.ended => Err(Incomplete::Cut),
            None => Ok((self.reply, self.lost)),
        }
    }

    fn take(&mut self, event: &Event) -> Result<(), Incomplete> {
        self.bytes += weight(event);
        if self.bytes > MAX_REPLY_BYTES {
            return Err(Incomplete::TooLong);
        }
        match event {
            Event::Start { id, model, created } => {
                (self.reply.id, self.reply.model) = (id.clone(), model.clone());
                self.reply.created = *created;
            }
            Event::Text { choice, text } if text.is_empty() => drop(self.choice(*choice)?),
            Event::Text { choice, text } => self.text(*choice)?.push_str(text),
            Event::Reasoning { choice, text } if text.is_empty() => drop(self.choice(*choice)?),
            Event::Reasoning { choice, text } => self.reasoning(*choice)?.push_str(text),
            Event::Redacted { choice, signature } => {
                self.choice(*choice)?.blocks.push(Block::Redacted(signature.clone()));
            }
            Event::Refusal { choice, text } if text.is_empty() => drop(self.choice(*choice)?),
            Event::Refusal { choice, text } => self.refusal(*choice)?.push_str(text),
            Event::ToolCall { choice, index, id, name, arguments } => {
                let call = self.call(*choice, *index)?;
                if call.id.is_empty() {
                    call.id.push_str(id.as_deref().unwrap_or_default());
                }
                call.name.push_str(name.as_deref().unwrap_or_default());
                call.arguments.push_str(arguments);
            }
            Event::Signature { choice, signature } => self.seal(*choice, signature)?,
            Event::Citation { choice, citation } => self.cite(*choice, citation)?,
            Event::Logprobs { choice, tokens } => self.choice(*choice)?.logprobs.extend_from_slice(tokens),
            Event::Break { choice } => *grown(&mut self.breaks, *choice)? = true,
            Event::Opaque { field } => {
                self.lost.get_or_insert_with(|| field.clone());
            }
            Event::Finish { choice, reason } => self.choice(*choice)?.finish = Some(reason.clone()),
            Event::Usage(usage) => self.reply.usage = Some(*usage),
            Event::End => self.ended = true,
        }
        Ok(())
    }

    fn choice(&mut self, index: u32) -> Result<&mut Choice, Incomplete> {
        grown(&mut self.reply.choices, index)
    }

    /// The choice, and whether its next words begin a new block.
    fn open(&mut self, choice: u32) -> Result<(&mut Choice, bool), Incomplete> {
        let fresh = std::mem::take(grown(&mut self.breaks, choice)?);
        Ok((self.choice(choice)?, fresh))
    }

    fn text(&mut self, choice: u32) -> Result<&mut String, Incomplete> {
        let (choice, fresh) = self.open(choice)?;
        if fresh || !matches!(choice.blocks.last(), Some(Block::Text { .. })) {
            choice.blocks.push(Block::text(""));
        }
        match choice.blocks.last_mut() {
            Some(Block::Text { text, .. }) => Ok(text),
            _ => unreachable!("it was just pushed"),
        }
    }

    fn reasoning(&mut self, choice: u32) -> Result<&mut String, Incomplete> {
        let (choice, fresh) = self.open(choice)?;
        if fresh || !matches!(choice.blocks.last(), Some(Block::Reasoning { .. })) {
            choice.blocks.push(Block::Reasoning { text: String::new(), signature: None });
        }
        match choice.blocks.last_mut() {
            Some(Block::Reasoning { text, .. }) => Ok(text),
            _ => unreachable!("it was just pushed"),
        }
    }

    fn refusal(&mut self, choice: u32) -> Result<&mut String, Incomplete> {
        let (choice, fresh) = self.open(choice)?;
        if fresh || !matches!(choice.blocks.last(), Some(Block::Refusal(_))) {
            choice.blocks.push(Block::Refusal(String::new()));
        }
        match choice.blocks.last_mut() {
            Some(Block::Refusal(text)) => Ok(text),
            _ => unreachable!("it was just pushed"),
        }
    }

    fn call(&mut self, choice: u32, index: u32) -> Result<&mut ToolCall, Incomplete> {
        if index >= MAX_INDEX {
            return Err(Incomplete::IndexOutOfRange(index));
        }
        let (choice, _) = self.open(choice)?;
        let known = choice.tool_calls().count();
        let missing = (index as usize + 1).saturating_sub(known);
        choice.blocks.extend((0..missing).map(|_| Block::ToolCall(ToolCall::default())));
        let mut calls = choice.blocks.iter_mut().filter_map(|block| match block {
            Block::ToolCall(call) => Some(call),
            _ => None,
        });
        calls.nth(index as usize).ok_or(Incomplete::IndexOutOfRange(index))
    }

    fn seal(&mut self, choice: u32, signature: &Signature) -> Result<(), Incomplete> {
        let (choice, fresh) = self.open(choice)?;
        let last = choice.blocks.last_mut().filter(|_| !fresh);
        match last {
            Some(Block::Text { signature: slot, .. } | Block::Reasoning { signature: slot, .. }) => {
                *slot = Some(signature.clone());
            }
            Some(Block::ToolCall(call)) => call.signature = Some(signature.clone()),
            Some(Block::Redacted(_) | Block::Refusal(_)) | None => {
                let signature = Some(signature.clone());
                choice.blocks.push(Block::Reasoning { text: String::new(), signature });
            }
        }
        Ok(())
    }

    /// A source without words before it begins a text without words.
    fn cite(&mut self, choice: u32, citation: &Citation) -> Result<(), Incomplete> {
        self.text(choice)?;
        if let Some(Block::Text { citations, .. }) = self.choice(choice)?.blocks.last_mut() {
            citations.push(citation.clone());
        }
        Ok(())
    }
}

fn weight(event: &Event) -> usize {
    EVENT_BYTES
        + match event {
            Event::Text { text, .. } | Event::Reasoning { text, .. } | Event::Refusal { text, .. } => {
                text.len()
            }
            Event::ToolCall { arguments, .. } => arguments.len(),
            Event::Signature { signature, .. } | Event::Redacted { signature, .. } => signature.data.len(),
            Event::Citation { citation, .. } => citation.raw.to_string().len(),
            // The likelihoods of a token take up some hundred bytes.
            Event::Logprobs { tokens, .. } => tokens.len() * 256,
            Event::Start { .. }
            | Event::Break { .. }
            | Event::Opaque { .. }
            | Event::Finish { .. }
            | Event::Usage(_)
            | Event::End => 0,
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

fn unfold_choice(said: &Choice, choice: u32, events: &mut Vec<Event>) {
    let Choice { blocks, logprobs, finish } = said;
    if blocks.is_empty() {
        // An empty text is still said: it is what makes the choice exist.
        events.push(Event::Text { choice, text: String::new() });
    }
    let mut calls = 0;
    let mut before = None;
    for block in blocks {
        let kind = std::mem::discriminant(block);
        // A seal alone would be taken for the seal of the block before it.
        let wordless = matches!(block, Block::Reasoning { text, .. } if text.is_empty());
        if before == Some(kind) || wordless {
            events.push(Event::Break { choice });
        }
        before = Some(kind);
        unfold_block(block, choice, &mut calls, events);
    }
    if !logprobs.is_empty() {
        events.push(Event::Logprobs { choice, tokens: logprobs.clone() });
    }
    events.extend(finish.clone().map(|reason| Event::Finish { choice, reason }));
}

fn unfold_block(block: &Block, choice: u32, calls: &mut u32, events: &mut Vec<Event>) {
    let seal = |signature: &Option<Signature>| {
        signature.clone().map(|signature| Event::Signature { choice, signature })
    };
    match block {
        Block::Text { text, citations, signature } => {
            events.push(Event::Text { choice, text: text.clone() });
            let cited = citations.iter().cloned();
            events.extend(cited.map(|citation| Event::Citation { choice, citation }));
            events.extend(seal(signature));
        }
        Block::Reasoning { text, signature } => {
            if !text.is_empty() {
                events.push(Event::Reasoning { choice, text: text.clone() });
            }
            events.extend(seal(signature));
        }
        Block::Redacted(signature) => events.push(Event::Redacted { choice, signature: signature.clone() }),
        Block::Refusal(text) => events.push(Event::Refusal { choice, text: text.clone() }),
        Block::ToolCall(ToolCall { id, name, arguments, signature, extra: _ }) => {
            let (id, name, arguments) = (Some(id.clone()), Some(name.clone()), arguments.clone());
            events.push(Event::ToolCall { choice, index: *calls, id, name, arguments });
            events.extend(seal(signature));
            *calls += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Protocol;
    use proptest::prelude::*;

    fn any_finish() -> impl Strategy<Value = Option<Finish>> {
        prop::option::of(prop_oneof![
            Just(Finish::Stop),
            "[a-z]{1,8}".prop_map(Finish::StopSequence),
            Just(Finish::Length),
            Just(Finish::ToolCalls),
            Just(Finish::ContentFilter),
            Just(Finish::Refusal),
            "[a-z]{1,8}".prop_map(Finish::Other),
        ])
    }

    fn any_signature() -> impl Strategy<Value = Signature> {
        ("[a-z]{1,8}", prop::sample::select(&Protocol::ALL[..])).prop_map(|(data, by)| Signature { by, data })
    }

    fn any_citation() -> impl Strategy<Value = Citation> {
        ("[a-z]{1,8}", prop::option::of("[a-z]{1,8}")).prop_map(|(url, title)| Citation {
            raw: serde_json::json!({ "url": url, "title": title }),
            url: Some(url),
            title,
            quote: None,
            by: Protocol::Anthropic,
        })
    }

    fn any_block() -> impl Strategy<Value = Block> {
        let sealed = || prop::option::of(any_signature());
        let text = ("\\PC{1,30}", prop::collection::vec(any_citation(), 0..2), sealed())
            .prop_map(|(text, citations, signature)| Block::Text { text, citations, signature });
        let thought =
            ("\\PC{1,9}", sealed()).prop_map(|(text, signature)| Block::Reasoning { text, signature });
        let wordless = any_signature()
            .prop_map(|signature| Block::Reasoning { text: String::new(), signature: Some(signature) });
        let call = ("\\PC{0,8}", "\\PC{0,8}", "\\PC{0,20}", sealed()).prop_map(
            |(id, name, arguments, signature)| {
                Block::ToolCall(ToolCall { id, name, arguments, signature, ..ToolCall::default() })
            },
        );
        prop_oneof![
            text,
            thought,
            wordless,
            any_signature().prop_map(Block::Redacted),
            "\\PC{1,9}".prop_map(Block::Refusal),
            call
        ]
    }

    fn any_choice() -> impl Strategy<Value = Choice> {
        let logprobs =
            prop::collection::vec("[a-z]{1,3}".prop_map(|token| serde_json::json!({ "token": token })), 0..3);
        (prop::collection::vec(any_block(), 0..5), logprobs, any_finish())
            .prop_map(|(blocks, logprobs, finish)| Choice { blocks, logprobs, finish })
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
