//! How an answer reaches the one who asked.

use super::calls::Call;
use crate::chat::{Chunk, Event, Finish, Usage};
use crate::upstream::{Error, Kind};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Says an answer, as long as somebody listens.
pub(super) struct Voice {
    upstream: Arc<str>,
    chunks: mpsc::Sender<Result<Chunk, Error>>,
    /// Goes out with the first words.
    start: Option<Event>,
    /// How many tools it has called.
    calls: u32,
}

impl Voice {
    /// Speaks for `upstream` into `chunks`, beginning with `start`.
    pub(super) fn new(upstream: &Arc<str>, chunks: mpsc::Sender<Result<Chunk, Error>>, start: Event) -> Self {
        Self { upstream: Arc::clone(upstream), chunks, start: Some(start), calls: 0 }
    }

    /// Whether anybody still listens.
    pub(super) fn is_heard(&self) -> bool {
        !self.chunks.is_closed()
    }

    /// Says `text`, and what there is to tell of how likely it was.
    pub(super) fn say(&mut self, text: String, likelihood: Option<Value>) {
        let text = (!text.is_empty()).then_some(Event::Text { choice: 0, text });
        let told = likelihood.map(|told| Event::Logprobs { choice: 0, tokens: vec![told] });
        let events: Vec<Event> = text.into_iter().chain(told).collect();
        if !events.is_empty() {
            self.send(events);
        }
    }

    /// Thinks aloud.
    pub(super) fn think(&mut self, text: String) {
        if !text.is_empty() {
            self.send(vec![Event::Reasoning { choice: 0, text }]);
        }
    }

    /// Calls a tool, the next one.
    pub(super) fn call(&mut self, Call { name, arguments }: Call) {
        let id = Some(format!("call_{:016x}", rand::random::<u64>()));
        let (name, index) = (Some(name), self.calls);
        self.calls += 1;
        self.send(vec![Event::ToolCall { choice: 0, index, id, name, arguments }]);
    }

    /// Whether it has called a tool.
    pub(super) fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// The answer is complete.
    pub(super) fn finish(&mut self, reason: Finish, usage: Usage) {
        self.send(vec![Event::Finish { choice: 0, reason }, Event::Usage(usage), Event::End]);
    }

    /// There will be no answer, or no more of it. What fails after it has begun is a cut.
    pub(super) fn fail(&mut self, kind: Kind, message: String) {
        let kind = if self.start.is_some() { kind } else { Kind::Cut };
        self.put(Err(Error::new(kind, &self.upstream, message)));
    }

    fn send(&mut self, events: Vec<Event>) {
        let events: Vec<Event> = self.start.take().into_iter().chain(events).collect();
        self.put(Ok(events.into()));
    }

    /// The channel holds a whole answer, so this waits for nobody: a client that reads slowly delays no other.
    fn put(&self, item: Result<Chunk, Error>) {
        let _ = self.chunks.blocking_send(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> (Voice, mpsc::Receiver<Result<Chunk, Error>>) {
        let (chunks, heard) = mpsc::channel(8);
        let start = Event::Start { id: "x".to_owned(), model: "m".to_owned(), created: 0 };
        (Voice::new(&"local".into(), chunks, start), heard)
    }

    #[test]
    fn the_start_goes_out_with_the_first_words() {
        let (mut voice, mut heard) = voice();
        voice.say(String::new(), None);
        assert!(heard.try_recv().is_err());
        voice.say("a".to_owned(), None);
        voice.say("b".to_owned(), None);
        let lengths: Vec<usize> =
            [heard.try_recv(), heard.try_recv()].map(|item| item.unwrap().unwrap().events.len()).to_vec();
        assert_eq!(lengths, [2, 1]);
    }

    #[test]
    fn a_failure_is_a_cut_once_the_answer_has_begun() {
        let (mut voice, mut heard) = voice();
        voice.fail(Kind::Server, "no".to_owned());
        assert_eq!(heard.try_recv().unwrap().unwrap_err().kind, Kind::Server);
        voice.say("a".to_owned(), None);
        voice.fail(Kind::Server, "no".to_owned());
        assert!(heard.try_recv().unwrap().is_ok());
        assert_eq!(heard.try_recv().unwrap().unwrap_err().kind, Kind::Cut);
    }

    #[test]
    fn a_voice_knows_when_nobody_listens() {
        let (mut voice, heard) = voice();
        assert!(voice.is_heard());
        drop(heard);
        assert!(!voice.is_heard());
        voice.say("to nobody".to_owned(), None);
    }
}
