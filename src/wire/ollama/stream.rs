//! Events to the lines of a stream, and a reply to a body.

use super::GENERATE;
use super::catalog::rfc3339;
use crate::chat::{Block, Choice, Event, Finish, Reply, Request, ToolCall, Usage};
use crate::wire::Failure;
use serde_json::{Map, Value, json};

/// Writes one reply, for either path.
///
/// Tool calls are whole objects in this protocol, so the fragments of a call wait until it is complete. An
/// encoder has no clock: the durations that Ollama tells are zero.
#[derive(Debug, Default)]
pub struct Encoder {
    generate: bool,
    model: String,
    created: u64,
    /// Calls whose fragments have come up to now.
    calls: Vec<ToolCall>,
    logprobs: Vec<Value>,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

impl Encoder {
    /// Writes the reply to `request`.
    pub fn new(request: &Request) -> Self {
        let generate = request.received.protocol == GENERATE;
        Self { generate, model: request.model.clone(), ..Self::default() }
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        match event {
            Event::Start { model, created, .. } => {
                if !model.is_empty() {
                    self.model.clone_from(model);
                }
                self.created = *created;
                Vec::new()
            }
            Event::Text { text, .. } | Event::Refusal { text, .. } => self.words("content", text),
            Event::Reasoning { text, .. } => self.words("thinking", text),
            Event::ToolCall { index, id, name, arguments, .. } => {
                self.fragment(*index, id.as_deref(), name.as_deref(), arguments);
                Vec::new()
            }
            Event::Logprobs { tokens, .. } => {
                self.logprobs.extend_from_slice(tokens);
                Vec::new()
            }
            Event::Finish { reason, .. } => {
                self.finish = Some(reason.clone());
                self.waiting_calls()
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            Event::End => self.end(),
            // There is no word for these here.
            Event::Redacted { .. }
            | Event::Signature { .. }
            | Event::Citation { .. }
            | Event::Break { .. }
            | Event::Opaque { .. } => Vec::new(),
        }
    }

    fn words(&mut self, field: &str, text: &str) -> Vec<u8> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut bytes = self.waiting_calls();
        bytes.extend(self.line(&[(field, json!(text))]));
        bytes
    }

    fn fragment(&mut self, index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) {
        let at = index as usize;
        // A call so far off is a fault; the folder of the path refuses it as well.
        if at > 128 {
            return;
        }
        if self.calls.len() <= at {
            self.calls.resize(at + 1, ToolCall::default());
        }
        let call = &mut self.calls[at];
        call.id.push_str(id.unwrap_or_default());
        call.name.push_str(name.unwrap_or_default());
        call.arguments.push_str(arguments);
    }

    /// The calls that are complete now: something else is said. Their places stay, since later ones count on.
    fn waiting_calls(&mut self) -> Vec<u8> {
        let waiting = self.calls.iter_mut().filter(|call| !call.name.is_empty());
        let calls: Vec<Value> = waiting.map(|call| encode_call(&std::mem::take(call))).collect();
        if calls.is_empty() { Vec::new() } else { self.line(&[("tool_calls", Value::Array(calls))]) }
    }

    /// One line in which something is said.
    fn line(&mut self, said: &[(&str, Value)]) -> Vec<u8> {
        let mut body = self.body(said.iter().cloned(), false);
        if !self.logprobs.is_empty() {
            body.insert("logprobs".to_owned(), Value::Array(std::mem::take(&mut self.logprobs)));
        }
        terminated(&Value::Object(body))
    }

    fn end(&mut self) -> Vec<u8> {
        let mut bytes = self.waiting_calls();
        let mut body = self.body([], true);
        if !self.logprobs.is_empty() {
            body.insert("logprobs".to_owned(), Value::Array(std::mem::take(&mut self.logprobs)));
        }
        close(&mut body, self.finish.as_ref(), self.usage);
        bytes.extend(terminated(&Value::Object(body)));
        bytes
    }

    /// The body around what is said, in the shape of the path.
    fn body<'a>(&self, said: impl IntoIterator<Item = (&'a str, Value)>, done: bool) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(self.model));
        body.insert("created_at".to_owned(), json!(rfc3339(self.created)));
        let mut message = Map::new();
        if !self.generate {
            message.insert("role".to_owned(), json!("assistant"));
        }
        message.insert(if self.generate { "response" } else { "content" }.to_owned(), json!(""));
        for (field, value) in said {
            let field = if self.generate && field == "content" { "response" } else { field };
            message.insert(field.to_owned(), value);
        }
        match self.generate {
            true => body.extend(message),
            false => drop(body.insert("message".to_owned(), Value::Object(message))),
        }
        body.insert("done".to_owned(), json!(done));
        body
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        let Reply { id: _, model, created, choices, usage } = reply;
        let shape =
            Self { generate: self.generate, model: model.clone(), created: *created, ..Self::default() };
        let nothing = Choice::default();
        let choice = choices.first().unwrap_or(&nothing);
        let words: String = choice.blocks.iter().filter_map(spoken).collect();
        let (thought, calls) = (choice.thought(), choice.tool_calls().map(encode_call).collect::<Vec<_>>());
        let mut said = vec![("content", json!(words))];
        if !thought.is_empty() {
            said.push(("thinking", json!(thought)));
        }
        if !calls.is_empty() {
            said.push(("tool_calls", Value::Array(calls)));
        }
        let mut body = shape.body(said, true);
        if !choice.logprobs.is_empty() {
            body.insert("logprobs".to_owned(), json!(choice.logprobs));
        }
        close(&mut body, choice.finish.as_ref(), *usage);
        Value::Object(body).to_string().into_bytes()
    }

    /// The line that tells of a failure in the middle of a stream.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        terminated(&error_body(failure))
    }
}

fn terminated(line: &Value) -> Vec<u8> {
    let mut bytes = line.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn spoken(block: &Block) -> Option<&str> {
    match block {
        Block::Text { text, .. } | Block::Refusal(text) => Some(text),
        Block::Reasoning { .. } | Block::Redacted(_) | Block::ToolCall(_) => None,
    }
}

/// Arguments that are no object have no place here; none are what such a client can read.
fn encode_call(call: &ToolCall) -> Value {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap_or_default();
    json!({ "id": call.id, "function": { "name": call.name, "arguments": arguments } })
}

fn close(body: &mut Map<String, Value>, finish: Option<&Finish>, usage: Option<Usage>) {
    let reason = match finish {
        Some(Finish::Length) => "length",
        Some(Finish::Other(reason)) => reason,
        _ => "stop",
    };
    let usage = usage.unwrap_or_default();
    for (field, value) in [
        ("done_reason", json!(reason)),
        ("total_duration", json!(0)),
        ("load_duration", json!(0)),
        ("prompt_eval_count", json!(usage.input)),
        ("prompt_eval_duration", json!(0)),
        ("eval_count", json!(usage.output)),
        ("eval_duration", json!(0)),
    ] {
        body.insert(field.to_owned(), value);
    }
}

/// What a client is told that has had a model loaded or unloaded: that it is done.
pub fn load_reply(request: &Request, created_at: &str) -> Vec<u8> {
    let unload = request.extra.get("keep_alive").is_some_and(is_no_time);
    let reason = if unload { "unload" } else { "load" };
    let mut body =
        json!({ "model": request.model, "created_at": created_at, "done": true, "done_reason": reason });
    match request.received.protocol == GENERATE {
        true => body["response"] = json!(""),
        false => body["message"] = json!({ "role": "assistant", "content": "" }),
    }
    body.to_string().into_bytes()
}

/// Whether a time is none: a number of seconds, or text with a unit behind it.
fn is_no_time(time: &Value) -> bool {
    let number = match time {
        Value::String(text) => text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok(),
        other => other.as_f64(),
    };
    number == Some(0.0)
}

/// The vector of one text, as the older `/api/embeddings` gives it.
pub fn embedding_reply(vector: &[f32]) -> Value {
    json!({ "embedding": vector })
}

/// The vectors of some texts.
pub fn embed_reply(model: &str, vectors: &[Vec<f32>], tokens: u64) -> Value {
    json!({
        "model": model, "embeddings": vectors, "total_duration": 0, "load_duration": 0,
        "prompt_eval_count": tokens,
    })
}

/// An error as Ollama's clients understand it, in a body or in a stream.
pub fn error_body(failure: &Failure) -> Value {
    json!({ "error": failure.message })
}
