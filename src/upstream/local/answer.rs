//! One answer in the making: what it has read, what it has said, and whether it goes on.

use super::ask::Ask;
use super::calls::{Calls, Heard};
use super::draw::Draw;
use super::form::Keeper;
use super::likelihood;
use super::model::{Run, Sequence};
use super::stop::{Characters, Scanned, StopScanner};
use super::template::Template;
use super::thoughts::Thoughts;
use super::tokenizer::Tokenizer;
use super::voice::Voice;
use crate::chat::{Finish, Usage};
use serde_json::Value;

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
    /// Whether one call of a tool is enough.
    one_call: bool,
    /// How many tokens were spent thinking.
    thought: u64,
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
        let (draw, likelihoods, one_call) = (ask.draw(), ask.likelihoods(), ask.one_call);
        let begin = prompt.len();
        Self {
            voice,
            sequence,
            prompt: begin,
            ids: prompt,
            limit,
            draw,
            text,
            form,
            likelihoods,
            one_call,
            thought: 0,
        }
    }

    /// Listens for calls of tools and for thoughts, where the model was taught to write them.
    pub(super) fn listen(&mut self, template: &Template, tokenizer: &Tokenizer, ask: &Ask) {
        self.text.calls = ask.calls(template.calls);
        if template.thinks && self.form.is_none() {
            let last = &self.ids[self.ids.len().saturating_sub(8)..];
            let end: Vec<u8> = last.iter().flat_map(|id| tokenizer.bytes(*id)).copied().collect();
            self.text.thoughts = Some(Thoughts::after(&end));
        }
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
            return self.end(Self::complete);
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
        let (heard, stopped) = self.text.add(bytes);
        self.thought += u64::from(self.text.thoughts.as_ref().is_some_and(Thoughts::is_inside));
        let told = self.likelihoods.map(|others| likelihood::told(token, expected, others, tokenizer));
        self.say(heard, told);
        if let Some(stop) = stopped {
            return self.finish(Finish::StopSequence(stop));
        }
        if self.one_call && self.voice.has_called() {
            return self.complete();
        }
        if self.form.as_ref().is_some_and(Keeper::is_complete) {
            return self.end(Self::complete);
        }
        if self.written() >= self.limit {
            return self.end(|answer| answer.finish(Finish::Length));
        }
        true
    }

    /// Ends an answer that is whole. One that was brought to an end for want of room did not end by itself.
    fn complete(&mut self) -> bool {
        let Some(form) = &mut self.form else {
            let called = self.voice.has_called();
            return self.finish(if called { Finish::ToolCalls } else { Finish::Stop });
        };
        let reason = if form.hurried { Finish::Length } else { Finish::Stop };
        match form.call() {
            Some(call) => {
                self.voice.call(call);
                self.finish(if reason == Finish::Stop { Finish::ToolCalls } else { reason })
            }
            None => self.finish(reason),
        }
    }

    /// Ends an answer that may not say a word.
    pub(super) fn finish_if_silent(&mut self) -> bool {
        self.limit == 0 && !self.finish(Finish::Length)
    }

    /// Says what was held back, and ends the answer as `how` does, or by a stop string in what was held back.
    fn end(&mut self, how: impl FnOnce(&mut Self) -> bool) -> bool {
        let (heard, stopped) = std::mem::take(&mut self.text).rest();
        self.say(heard, None);
        match stopped {
            Some(stop) => self.finish(Finish::StopSequence(stop)),
            None => how(self),
        }
    }

    /// Says all that was heard in a token, and what is to be told of it.
    fn say(&mut self, heard: Vec<Heard>, mut told: Option<Value>) {
        for one in heard {
            match one {
                Heard::Text(text) => self.voice.say(text, told.take()),
                Heard::Thought(text) => self.voice.think(text),
                Heard::Call(call) => self.voice.call(call),
            }
        }
        if told.is_some() {
            self.voice.say(String::new(), told);
        }
    }

    fn finish(&mut self, reason: Finish) -> bool {
        let (input, output) = (self.prompt as u64, self.written() as u64);
        self.voice.finish(reason, Usage { input, output, reasoning: self.thought, ..Usage::default() });
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
    thoughts: Option<Thoughts>,
    calls: Option<Calls>,
    stops: StopScanner,
}

impl Text {
    fn new(stops: Vec<String>) -> Self {
        Self { stops: StopScanner::new(stops), ..Self::default() }
    }

    /// What is heard once `bytes` are added, and the stop string that was met.
    fn add(&mut self, bytes: &[u8]) -> (Vec<Heard>, Option<String>) {
        let text = self.characters.push(bytes);
        let heard = match &mut self.thoughts {
            Some(thoughts) => thoughts.push(&text),
            None => vec![Heard::Text(text)],
        };
        let heard = self.called(heard);
        self.scan(heard)
    }

    /// The same, with calls told from the other text.
    fn called(&mut self, heard: Vec<Heard>) -> Vec<Heard> {
        let Some(calls) = &mut self.calls else { return heard };
        let one = |one: Heard| match one {
            Heard::Text(text) => calls.push(&text),
            other => vec![other],
        };
        heard.into_iter().flat_map(one).collect()
    }

    /// What was held back, when no more comes.
    fn rest(mut self) -> (Vec<Heard>, Option<String>) {
        let held: Vec<Heard> = self.thoughts.as_mut().map(Thoughts::finish).into_iter().collect();
        let mut held = self.called(held);
        held.extend(self.calls.as_mut().map(Calls::finish).unwrap_or_default());
        let (mut heard, stopped) = self.scan(held);
        if stopped.is_none() {
            heard.push(Heard::Text(self.stops.release()));
        }
        (heard, stopped)
    }

    fn scan(&mut self, heard: Vec<Heard>) -> (Vec<Heard>, Option<String>) {
        let mut said = Vec::new();
        for one in heard {
            match one {
                Heard::Text(text) => {
                    let Scanned { text, stopped } = self.stops.push(&text);
                    said.push(Heard::Text(text));
                    if stopped.is_some() {
                        return (said, stopped);
                    }
                }
                // What is no text stands between what is in front of it and what comes after.
                other => said.extend([Heard::Text(self.stops.release()), other]),
            }
        }
        (said, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::Style;
    use super::super::engine;
    use super::super::tokenizer::tests::toy;
    use super::*;
    use crate::chat::{Event, Message, Request, Role, Sampling, Tool, ToolChoice};

    /// The events of an answer by a model that writes `text` to someone who has `tools`, letter by letter.
    fn answered(text: &str, request: &Request, style: Option<Style>) -> Vec<Event> {
        let tokenizer = toy();
        let (chunks, mut heard) = tokio::sync::mpsc::channel(1_000);
        let start = Event::Start { id: String::new(), model: String::new(), created: 0 };
        let ask = Ask::new(request).unwrap();
        let sequence = Sequence::Own(engine::Sequence::of_len(1));
        let voice = Voice::new(&"local".into(), chunks, start);
        let mut answer = Answer::new(voice, &ask, (vec![2], 500), sequence, None);
        answer.text.calls = ask.calls(style);
        answer.text.thoughts = Some(Thoughts::after(b""));
        // The second token ends an answer; then come the bytes.
        let tokens = text.bytes().map(|byte| 2 + usize::from(byte)).chain([1]);
        for token in tokens {
            let mut expected = vec![0.0; 259];
            expected[token] = 9.0;
            if !answer.go_on(&expected, &tokenizer) {
                break;
            }
        }
        drop(answer);
        std::iter::from_fn(|| heard.blocking_recv()).flat_map(|chunk| chunk.unwrap().events).collect()
    }

    fn said(events: &[Event]) -> String {
        let text =
            |event: &Event| if let Event::Text { text, .. } = event { text.clone() } else { String::new() };
        events.iter().map(text).collect()
    }

    fn called(events: &[Event]) -> Vec<(u32, &str, &str)> {
        fn call(event: &Event) -> Option<(u32, &str, &str)> {
            match event {
                Event::ToolCall { index, id: Some(_), name: Some(name), arguments, .. } => {
                    Some((*index, name.as_str(), arguments.as_str()))
                }
                _ => None,
            }
        }
        events.iter().filter_map(call).collect()
    }

    fn finish(events: &[Event]) -> &Finish {
        events
            .iter()
            .find_map(|event| if let Event::Finish { reason, .. } = event { Some(reason) } else { None })
            .unwrap()
    }

    fn asking() -> Request {
        let sky = Tool::Function {
            name: "sky".to_owned(),
            description: None,
            parameters: None,
            strict: None,
            extra: serde_json::Map::new(),
        };
        Request {
            messages: vec![Message::text(Role::User, "hi")],
            tools: vec![sky],
            sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
            ..Request::default()
        }
    }

    const CALLS: &str = "Look: <tool_call>{\"name\": \"sky\", \"arguments\": {\"at\": 1}}</tool_call>\n\
                         <tool_call>{\"name\": \"sky\"}</tool_call>";

    #[test]
    fn tools_are_called_by_a_model_that_need_not() {
        let events = answered(CALLS, &asking(), Some(Style::Tagged));
        assert_eq!(said(&events), "Look: ");
        assert_eq!(called(&events), [(0, "sky", r#"{"at":1}"#), (1, "sky", "{}")]);
        assert_eq!(finish(&events), &Finish::ToolCalls);
        let bare = answered(r#"{"name": "sky", "parameters": {}}"#, &asking(), Some(Style::Bare));
        assert_eq!(
            (said(&bare), called(&bare), finish(&bare)),
            (String::new(), vec![(0, "sky", "{}")], &Finish::ToolCalls)
        );
    }

    #[test]
    fn one_call_is_enough_where_that_is_said() {
        let events =
            answered(CALLS, &Request { parallel_tools: Some(false), ..asking() }, Some(Style::Tagged));
        assert_eq!(called(&events).len(), 1);
        assert_eq!(finish(&events), &Finish::ToolCalls);
    }

    #[test]
    fn what_is_no_call_is_said() {
        let malformed = "<tool_call>{\"name\": \"sun\"}</tool_call>";
        let none = Request { tool_choice: Some(ToolChoice::None), ..asking() };
        let without = Request { tools: Vec::new(), ..asking() };
        for (text, request, style) in [
            (malformed, &asking(), Some(Style::Tagged)),
            (CALLS, &asking(), None),
            (CALLS, &none, Some(Style::Tagged)),
            (CALLS, &without, Some(Style::Tagged)),
        ] {
            let events = answered(text, request, style);
            assert_eq!(
                (said(&events).as_str(), called(&events), finish(&events)),
                (text, vec![], &Finish::Stop)
            );
        }
    }

    #[test]
    fn a_thought_is_told_apart_and_counted() {
        let thought = "<think>I call <tool_call>x</tool_call>.</think>";
        let events = answered(&format!("{thought}\n\n{CALLS}"), &asking(), Some(Style::Tagged));
        let thoughts =
            |event: &Event| if let Event::Reasoning { text, .. } = event { Some(text.clone()) } else { None };
        assert_eq!(
            events.iter().filter_map(thoughts).collect::<String>(),
            "I call <tool_call>x</tool_call>."
        );
        assert_eq!((said(&events).as_str(), called(&events).len()), ("Look: ", 2));
        let usage =
            events.iter().find_map(|event| if let Event::Usage(usage) = event { Some(usage) } else { None });
        // All but what begins it, and the byte that ends it.
        assert_eq!(usage.unwrap().reasoning as usize, thought.len() - "<think>".len());
    }

    #[test]
    fn a_stop_string_before_a_call_ends_the_answer() {
        let mut request = asking();
        request.sampling.stop = vec!["ok:".to_owned()];
        let events = answered(CALLS, &request, Some(Style::Tagged));
        assert_eq!(
            (said(&events).as_str(), called(&events), finish(&events)),
            ("Lo", vec![], &Finish::StopSequence("ok:".into()))
        );
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut text = Text::new(vec!["END".to_owned()]);
        let heard = |text: &str| (vec![Heard::Text(text.to_owned())], None);
        assert_eq!(text.add(b"the EN"), heard("the "));
        assert_eq!(text.add("é".as_bytes().get(..1).unwrap()), heard(""));
        assert_eq!(text.rest(), heard("EN"));
    }
}
