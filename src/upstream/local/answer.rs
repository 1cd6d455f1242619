//! One answer in the making: what it has read, what it has said, and whether it goes on.

use super::ask::Ask;
use super::draw::Draw;
use super::form::Keeper;
use super::likelihood;
use super::model::{Run, Sequence};
use super::stop::{Characters, Scanned, StopScanner};
use super::tokenizer::Tokenizer;
use super::voice::Voice;
use crate::chat::{Finish, Usage};

/// An answer in the making.
pub(super) struct Answer {
    pub(super) voice: Voice,
    pub(super) sequence: Sequence,
    /// The prompt, and what was drawn after it. What `sequence` has not read yet, it reads next.
    pub(super) ids: Vec<u32>,
    prompt: usize,
    limit: usize,
    draw: Draw,
    text: Text,
    /// Keeps it to its form, where it must have one.
    form: Option<Keeper>,
    /// How many other tokens' likelihoods are told beside each, where any are.
    likelihoods: Option<usize>,
}

impl Answer {
    /// An answer to `prompt` of at most `limit` tokens. `sequence` may have read a beginning of it, not all.
    pub(super) fn new(
        voice: Voice,
        ask: &Ask,
        (prompt, limit): (Vec<u32>, usize),
        sequence: Sequence,
        form: Option<Keeper>,
    ) -> Self {
        let text = Text::new(ask.sampling.stop.clone());
        let (draw, likelihoods) = (ask.draw(), ask.likelihoods());
        Self { voice, sequence, prompt: prompt.len(), ids: prompt, limit, draw, text, form, likelihoods }
    }

    /// How many tokens it has still to read before the next one is drawn.
    pub(super) fn unread(&self) -> usize {
        self.ids.len() - self.sequence.len()
    }

    /// Whether it is still at its prompt, or has just read it.
    pub(super) fn at_prompt(&self) -> bool {
        self.ids.len() == self.prompt
    }

    /// The next tokens to read, at most `most`.
    pub(super) fn run(&mut self, most: usize) -> Run<'_> {
        let begin = self.sequence.len();
        let end = self.ids.len().min(begin + most);
        let wants_next = end == self.ids.len();
        Run { sequence: &mut self.sequence, ids: &self.ids[begin..end], wants_next }
    }

    /// Goes on by a token, where `expected` says how much each is to be expected. Whether there is more to come.
    pub(super) fn go_on(&mut self, expected: &[f32], tokenizer: &Tokenizer) -> bool {
        let left = self.limit - self.written();
        let mask = self.form.as_mut().map(|form| form.mask(left));
        let token = self.draw.next(expected, mask.as_deref());
        if tokenizer.ends_answer(token) {
            self.say_rest();
            return self.complete();
        }
        self.ids.push(token);
        let begins = self.written() == 1;
        let bytes = match &mut self.form {
            Some(form) => form.take(token, tokenizer),
            None if begins && tokenizer.begins_with_space() => {
                let bytes = tokenizer.bytes(token);
                bytes.strip_prefix(b" ").unwrap_or(bytes)
            }
            None => tokenizer.bytes(token),
        };
        let Scanned { text, stopped } = self.text.add(bytes);
        let told = self.likelihoods.map(|others| likelihood::told(token, expected, others, tokenizer));
        self.voice.say(text, told);
        if stopped {
            return self.finish(Finish::Stop);
        }
        if self.form.as_ref().is_some_and(Keeper::is_complete) {
            self.say_rest();
            return self.complete();
        }
        if self.written() >= self.limit {
            self.say_rest();
            return self.finish(Finish::Length);
        }
        true
    }

    /// Ends an answer that is whole. One that was brought to an end for want of room did not end by itself.
    fn complete(&mut self) -> bool {
        let Some(form) = &mut self.form else { return self.finish(Finish::Stop) };
        let reason = if form.hurried { Finish::Length } else { Finish::Stop };
        match form.call() {
            Some((name, arguments)) => {
                self.voice.call(name, arguments);
                self.finish(if reason == Finish::Stop { Finish::ToolCalls } else { reason })
            }
            None => self.finish(reason),
        }
    }

    /// Ends an answer that may not say a word.
    pub(super) fn finish_if_silent(&mut self) -> bool {
        self.limit == 0 && !self.finish(Finish::Length)
    }

    fn say_rest(&mut self) {
        let rest = std::mem::take(&mut self.text).rest();
        self.voice.say(rest, None);
    }

    fn finish(&mut self, reason: Finish) -> bool {
        let (input, output) = (self.prompt as u64, self.written() as u64);
        self.voice.finish(reason, Usage { input, output, ..Usage::default() });
        false
    }

    fn written(&self) -> usize {
        self.ids.len() - self.prompt
    }
}

/// The answer's text on its way from tokens to the listener.
#[derive(Default)]
struct Text {
    characters: Characters,
    stops: StopScanner,
}

impl Text {
    fn new(stops: Vec<String>) -> Self {
        Self { characters: Characters::default(), stops: StopScanner::new(stops) }
    }

    fn add(&mut self, bytes: &[u8]) -> Scanned {
        self.stops.push(&self.characters.push(bytes))
    }

    /// What was held back, when no more comes.
    fn rest(self) -> String {
        self.stops.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut text = Text::new(vec!["END".to_owned()]);
        assert_eq!(text.add(b"the EN").text, "the ");
        assert_eq!(text.add("é".as_bytes().get(..1).unwrap()).text, "");
        assert_eq!(text.rest(), "EN");
    }
}
