//! Replies: a provider's JSON, whole or line by line, to [`Event`]s.

use super::catalog::from_rfc3339;
use crate::chat::{Event, Finish, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
use serde_json::{Map, Value};

/// There is one answer to a request.
const CHOICE: u32 = 0;

/// Fields that say nothing about the answer.
const ENVELOPE: [&str; 9] = [
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "context",
    "remote_model",
    "remote_host",
    "done",
    "role",
];

/// Reads one reply of either path, line by line or whole.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    calls: u32,
}

impl Decoder {
    /// The events in one line of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(payload) else {
            return Err(Error::new("the reply is not a JSON object"));
        };
        if body.get("error").is_some_and(|error| !is_empty(error)) {
            return Err(Error::new("the reply holds an error"));
        }
        let mut events = Vec::new();
        self.start(&mut body, &mut events);
        if let Some(Value::Object(message)) = body.remove("message") {
            self.said(message, "content", &mut events);
        } else {
            let (response, thinking) = (body.remove("response"), body.remove("thinking"));
            let fields = [("response", response), ("thinking", thinking)];
            let said = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
            self.said(said.collect(), "response", &mut events);
        }
        if let Some(Value::Array(tokens)) = body.remove("logprobs").filter(|tokens| !is_empty(tokens)) {
            events.push(Event::Logprobs { choice: CHOICE, tokens });
        }
        let done = body.get("done").and_then(Value::as_bool).unwrap_or_default();
        self.close(&mut body, done, &mut events);
        for (field, value) in &body {
            if !ENVELOPE.contains(&field.as_str()) && !is_empty(value) {
                events.push(Event::Opaque { field: field.clone() });
            }
        }
        if done {
            self.ended = true;
            events.push(Event::End);
        }
        Ok(events)
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = self.frame(body)?;
        let said = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
        if !said.contains_key("message") && !said.contains_key("response") {
            return Err(Error::at("message", "the reply holds no message"));
        }
        if !self.ended {
            self.ended = true;
            events.push(Event::End);
        }
        Ok(events)
    }

    /// Whether the terminal line was read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// At the end of the bytes: without `done` it was cut.
    pub fn finish(&mut self) -> Option<Vec<Event>> {
        self.ended.then(Vec::new)
    }

    fn start(&mut self, body: &mut Map<String, Value>, events: &mut Vec<Event>) {
        let (model, created) = (body.remove("model"), body.remove("created_at"));
        if !std::mem::replace(&mut self.started, true) {
            let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
            let created = text(created).and_then(|text| from_rfc3339(&text)).unwrap_or_default();
            events.push(Event::Start { id: String::new(), model: text(model).unwrap_or_default(), created });
            // It makes the choice exist, though nothing may ever be said.
            events.push(Event::Text { choice: CHOICE, text: String::new() });
        }
    }

    fn said(&mut self, mut said: Map<String, Value>, content: &str, events: &mut Vec<Event>) {
        let mut text = |field: &str| match said.remove(field) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let (thought, words) = (text("thinking"), text(content));
        events.extend(thought.map(|text| Event::Reasoning { choice: CHOICE, text }));
        events.extend(words.map(|text| Event::Text { choice: CHOICE, text }));
        if let Some(Value::Array(calls)) = said.remove("tool_calls") {
            for call in calls {
                self.call(&call, events);
            }
        }
        let unknown = said.iter().filter(|(field, value)| *field != "role" && !is_empty(value));
        events.extend(unknown.map(|(field, _)| Event::Opaque { field: field.clone() }));
    }

    /// Calls come whole here.
    fn call(&mut self, call: &Value, events: &mut Vec<Event>) {
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(object) => object.to_string(),
        };
        let id = call.get("id").and_then(Value::as_str).map(str::to_owned);
        events.push(Event::ToolCall {
            choice: CHOICE,
            index: self.calls,
            // Older versions give none, and a client must be able to answer each call of each turn.
            id: Some(id.unwrap_or_else(|| format!("call_{:016x}", rand::random::<u64>()))),
            name: Some(function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()),
            arguments,
        });
        self.calls += 1;
    }

    fn close(&self, body: &mut Map<String, Value>, done: bool, events: &mut Vec<Event>) {
        let reason = body.remove("done_reason");
        let count = |value: Option<Value>| value.and_then(|value| value.as_u64());
        let (input, output) = (count(body.remove("prompt_eval_count")), count(body.remove("eval_count")));
        if !done {
            return;
        }
        let reason = match reason.as_ref().and_then(Value::as_str) {
            None | Some("stop") if self.calls > 0 => Finish::ToolCalls,
            None | Some("stop") => Finish::Stop,
            Some("length") => Finish::Length,
            Some(other) => Finish::Other(other.to_owned()),
        };
        events.push(Event::Finish { choice: CHOICE, reason });
        // Neither is told where the prompt was cached whole, or nothing was said.
        if input.is_some() || output.is_some() {
            let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
            events.push(Event::Usage(Usage { input, output, ..Usage::default() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Block, Choice, Protocol, Reply, Request, ToolCall, fold, unfold};
    use crate::wire::ollama::Encoder;
    use serde_json::json;

    fn encoder(protocol: Protocol) -> Encoder {
        let mut request = Request { model: "m".into(), ..Request::default() };
        request.received.protocol = protocol;
        Encoder::new(&request)
    }

    fn rich(protocol: Protocol) -> Reply {
        let call = |id: &str| {
            let (id, name, arguments) = (id.to_owned(), format!("f_{id}"), "{\"x\":[1,2]}".to_owned());
            Block::ToolCall(ToolCall { id, name, arguments, ..ToolCall::default() })
        };
        let mut blocks =
            vec![Block::Reasoning { text: "hm".into(), signature: None }, Block::text("Grüße 😀")];
        let mut finish = Finish::Length;
        if protocol == Protocol::OllamaChat {
            blocks.extend([call("a"), call("b")]);
            finish = Finish::ToolCalls;
        }
        let logprobs = vec![json!({"token": "a", "logprob": -0.5})];
        Reply {
            id: String::new(),
            model: "llama3.2".into(),
            created: 1_741_570_283,
            choices: vec![Choice { blocks, logprobs, finish: Some(finish) }],
            usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
        }
    }

    #[test]
    fn decoding_undoes_encoding_whole_and_streamed() {
        for protocol in [Protocol::OllamaChat, Protocol::OllamaGenerate] {
            let reply = rich(protocol);
            let events = Decoder::default().whole(&encoder(protocol).whole(&reply)).unwrap();
            assert_eq!(fold(&events), Ok(reply.clone()));
            let mut encoder = encoder(protocol);
            let bytes: Vec<u8> = unfold(&reply).iter().flat_map(|event| encoder.event(event)).collect();
            let mut decoder = Decoder::default();
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let events: Vec<Event> = lines.flat_map(|line| decoder.frame(line).unwrap()).collect();
            assert!(decoder.ended());
            assert_eq!(fold(&events), Ok(reply));
        }
    }

    #[test]
    fn an_error_is_an_error_wherever_it_comes() {
        let mut decoder = Decoder::default();
        decoder.frame(br#"{"model":"m","message":{"content":"a"},"done":false}"#).unwrap();
        assert!(decoder.frame(br#"{"error":"out of memory"}"#).is_err());
        assert_eq!(decoder.finish(), None);
        assert!(Decoder::default().whole(br#"{"done":true}"#).is_err());
    }
}
