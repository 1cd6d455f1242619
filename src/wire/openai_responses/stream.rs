//! Events to the frames of a stream, and a reply to a body.

use super::HERE;
use super::item::{Content, Item, Said, annotation, summary};
use super::request::encode_settings;
use super::response::encode_usage;
use super::said::instructions;
use crate::chat::{Citation, Event, Finish, Reply, Request, Signature, ToolCall, Usage, unfold};
use crate::wire::{Dropped, Failure, sse};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

/// Writes one reply.
///
/// What was said is kept up to the end, for this protocol repeats it when a part, its item and the response
/// are done; nothing waits for that.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What a response repeats of its request.
    echo: Map<String, Value>,
    id: String,
    model: String,
    created: u64,
    begun: bool,
    /// The number of the next frame.
    sequence: u64,
    items: Vec<Item>,
    /// Whether the next words begin a new block.
    fresh: bool,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

impl Encoder {
    /// Writes the reply to `request`.
    pub fn new(request: &Request) -> Self {
        Self { echo: echo(request), ..Self::default() }
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
                self.begin(&mut out);
            }
            Event::Text { choice: 0, text } => self.words(false, text, &mut out),
            Event::Refusal { choice: 0, text } => self.words(true, text, &mut out),
            Event::Reasoning { choice: 0, text } => self.think(text, &mut out),
            Event::Redacted { choice: 0, signature } => self.withheld(signature, &mut out),
            Event::Signature { choice: 0, signature } => self.seal(signature, &mut out),
            Event::ToolCall { choice: 0, index, id, name, arguments } => {
                let at = self.call(*index, id.as_deref(), name.as_deref(), &mut out);
                self.argue(at, arguments, &mut out);
            }
            Event::Citation { choice: 0, citation } => self.cite(citation, &mut out),
            Event::Logprobs { choice: 0, tokens } => self.likelihoods(tokens, &mut out),
            Event::Break { choice: 0 } => self.fresh = true,
            Event::Finish { choice: 0, reason } => {
                self.finish = Some(reason.clone());
                self.close_all(&mut out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(&mut out),
            // There is one choice here, and no word for what is opaque.
            _ => {}
        }
        out
    }

    /// The body that says a whole reply: the response that its stream would end with.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        let mut told = Self { echo: self.echo.clone(), ..Self::default() };
        unfold(reply).iter().for_each(|event| drop(told.event(event)));
        told.response(told.status()).to_string().into_bytes()
    }

    /// The bytes that tell of a failure in the middle of a stream.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        let Failure { status: _, kind: _, code, message, param, request_id: _, retry_after_ms: _ } = failure;
        let mut out = Vec::new();
        self.frame("error", json!({ "code": code, "message": message, "param": param }), &mut out);
        out
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.id.is_empty() {
            self.id = format!("resp_{:032x}", rand::random::<u128>());
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress");
            self.frame(kind, json!({ "response": response }), out);
        }
    }

    /// Begins an item. What was said before it is over, but for calls that are not yet whole: their
    /// fragments may come in turns.
    fn open(&mut self, said: Said, out: &mut Vec<u8>) -> usize {
        self.begin(out);
        for at in 0..self.items.len() {
            let whole = match &self.items[at].said {
                Said::Call { call, .. } => serde_json::from_str::<IgnoredAny>(&call.arguments).is_ok(),
                Said::Message(_) | Said::Thought { .. } => true,
            };
            if whole {
                self.close(at, "completed", out);
            }
        }
        let at = self.items.len();
        // OpenAI takes back no id of an item that is longer than 64.
        let stem: String = self.id.strip_prefix("resp_").unwrap_or(&self.id).chars().take(48).collect();
        let id = format!("{}_{stem}_{at}", said.prefix());
        self.items.push(Item { id, said, status: "in_progress" });
        self.fresh = false;
        let item = self.items[at].value();
        self.frame("response.output_item.added", json!({ "output_index": at, "item": item }), out);
        at
    }

    /// The item that is being said.
    fn current(&self) -> Option<usize> {
        let at = self.items.len().checked_sub(1)?;
        self.items[at].is_open().then_some(at)
    }

    fn words(&mut self, refusal: bool, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return self.begin(out);
        }
        let (at, part) = self.content(refusal, out);
        if let Some(content) = self.content_mut(at, part) {
            content.text.push_str(text);
        }
        let (kind, delta) = match refusal {
            true => ("response.refusal.delta", json!({ "delta": text })),
            false => ("response.output_text.delta", json!({ "delta": text, "logprobs": [] })),
        };
        self.part_frame(kind, at, part, delta, out);
    }

    /// The part of a message that is being said, or a new one.
    fn content(&mut self, refusal: bool, out: &mut Vec<u8>) -> (usize, usize) {
        let current = self.current().filter(|at| matches!(self.items[*at].said, Said::Message(_)));
        let at = match current {
            Some(at) => at,
            None => self.open(Said::Message(Vec::new()), out),
        };
        let fresh = std::mem::take(&mut self.fresh);
        let Said::Message(parts) = &mut self.items[at].said else { return (at, 0) };
        let part = parts.len();
        if !fresh && parts.last().is_some_and(|last| last.refusal == refusal) {
            return (at, part - 1);
        }
        let content = Content { refusal, ..Content::default() };
        let value = content.value();
        parts.push(content);
        if let Some(before) = part.checked_sub(1) {
            self.close_part(at, before, out);
        }
        self.part_frame("response.content_part.added", at, part, json!({ "part": value }), out);
        (at, part)
    }

    fn content_mut(&mut self, at: usize, part: usize) -> Option<&mut Content> {
        match &mut self.items.get_mut(at)?.said {
            Said::Message(parts) => parts.get_mut(part),
            _ => None,
        }
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return self.begin(out);
        }
        let open = |at: &usize| matches!(self.items[*at].said, Said::Thought { seal: None, .. });
        let current = self.current().filter(|_| !self.fresh).filter(open);
        let at = current.unwrap_or_else(|| {
            let at = self.open(Said::Thought { text: String::new(), seal: None }, out);
            let part = json!({ "part": summary("") });
            self.summary_frame("response.reasoning_summary_part.added", at, part, out);
            at
        });
        if let Said::Thought { text: thought, .. } = &mut self.items[at].said {
            thought.push_str(text);
        }
        self.summary_frame("response.reasoning_summary_text.delta", at, json!({ "delta": text }), out);
    }

    /// A thought of which only the seal is shown.
    fn withheld(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        let seal = Some(signature.tagged(HERE));
        let at = self.open(Said::Thought { text: String::new(), seal: None }, out);
        if let Said::Thought { seal: slot, .. } = &mut self.items[at].said {
            *slot = seal;
        }
        self.close(at, "completed", out);
    }

    /// The seal of what was said last. Words have no place for one here: theirs is a thought of its own.
    fn seal(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        let current = self.current().filter(|_| !self.fresh);
        match current.map(|at| (at, &mut self.items[at].said)) {
            Some((at, Said::Thought { seal, .. })) => {
                *seal = Some(signature.tagged(HERE));
                self.close(at, "completed", out);
            }
            Some((at, Said::Call { call, .. })) => {
                call.signature = Some(signature.clone());
                self.close(at, "completed", out);
            }
            Some((_, Said::Message(_))) | None => self.withheld(signature, out),
        }
    }

    /// The item of a call; a new one where it was not heard of yet.
    fn call(&mut self, index: u32, id: Option<&str>, name: Option<&str>, out: &mut Vec<u8>) -> usize {
        let is_it = |item: &Item| matches!(item.said, Said::Call { index: known, .. } if known == index);
        if let Some(at) = self.items.iter().position(is_it) {
            self.fresh = false;
            return at;
        }
        let id = id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{index}"), str::to_owned);
        let name = name.unwrap_or_default().to_owned();
        self.open(Said::Call { index, call: ToolCall { id, name, ..ToolCall::default() } }, out)
    }

    fn argue(&mut self, at: usize, arguments: &str, out: &mut Vec<u8>) {
        if let Said::Call { call, .. } = &mut self.items[at].said {
            call.arguments.push_str(arguments);
        }
        if !arguments.is_empty() {
            let delta = json!({ "delta": arguments });
            self.item_frame("response.function_call_arguments.delta", at, delta, out);
        }
    }

    fn cite(&mut self, citation: &Citation, out: &mut Vec<u8>) {
        let (at, part) = self.content(false, out);
        let Some(content) = self.content_mut(at, part) else { return };
        let index = content.annotations.len();
        let annotation = annotation(citation);
        content.annotations.push(annotation.clone());
        let body = json!({ "annotation_index": index, "annotation": annotation });
        self.part_frame("response.output_text.annotation.added", at, part, body, out);
    }

    /// Likelihoods stand beside words, so they go with a delta that adds none. Where the words are over, the
    /// complete response tells them.
    fn likelihoods(&mut self, tokens: &[Value], out: &mut Vec<u8>) {
        let texts = self.items.iter_mut().enumerate().rev().filter_map(|(at, item)| {
            let open = item.is_open();
            let Said::Message(parts) = &mut item.said else { return None };
            let newest = parts.len();
            let mut parts = parts.iter_mut().enumerate().rev();
            let (part, content) = parts.find(|(_, part)| !part.refusal)?;
            Some((at, part, content, open && part + 1 == newest))
        });
        let mut texts = texts;
        let Some((at, part, content, open)) = texts.next() else { return };
        content.logprobs.extend_from_slice(tokens);
        if open {
            let delta = json!({ "delta": "", "logprobs": tokens });
            self.part_frame("response.output_text.delta", at, part, delta, out);
        }
    }

    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if self.items.is_empty() {
            // Clients look for the first message.
            self.content(false, out);
        }
        let status = self.status();
        (0..self.items.len()).for_each(|at| self.close(at, status, out));
    }

    fn close(&mut self, at: usize, status: &'static str, out: &mut Vec<u8>) {
        if !self.items[at].is_open() {
            return;
        }
        match &self.items[at].said {
            Said::Message(parts) => {
                if let Some(last) = parts.len().checked_sub(1) {
                    self.close_part(at, last, out);
                }
            }
            Said::Thought { text, .. } if text.is_empty() => {}
            Said::Thought { text, .. } => {
                let (text, part) = (json!({ "text": text }), json!({ "part": summary(text) }));
                self.summary_frame("response.reasoning_summary_text.done", at, text, out);
                self.summary_frame("response.reasoning_summary_part.done", at, part, out);
            }
            Said::Call { call, .. } => {
                let done = json!({ "name": call.name, "arguments": call.arguments });
                self.item_frame("response.function_call_arguments.done", at, done, out);
            }
        }
        self.items[at].status = status;
        let item = self.items[at].value();
        self.frame("response.output_item.done", json!({ "output_index": at, "item": item }), out);
    }

    fn close_part(&mut self, at: usize, part: usize, out: &mut Vec<u8>) {
        let Some(content) = self.content_mut(at, part) else { return };
        let value = content.value();
        let (kind, done) = match content.refusal {
            true => ("response.refusal.done", json!({ "refusal": content.text })),
            false => {
                ("response.output_text.done", json!({ "text": content.text, "logprobs": content.logprobs }))
            }
        };
        self.part_frame(kind, at, part, done, out);
        self.part_frame("response.content_part.done", at, part, json!({ "part": value }), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close_all(out);
        let status = self.status();
        let response = self.response(status);
        self.frame(&format!("response.{status}"), json!({ "response": response }), out);
    }

    fn status(&self) -> &'static str {
        match self.finish {
            Some(Finish::Length | Finish::ContentFilter | Finish::Other(_)) => "incomplete",
            _ => "completed",
        }
    }

    fn response(&self, status: &str) -> Value {
        let reason = match &self.finish {
            Some(Finish::Length) => Some("max_output_tokens"),
            Some(Finish::ContentFilter) => Some("content_filter"),
            Some(Finish::Other(name)) => Some(name.as_str()),
            _ => None,
        };
        let mut response = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "error": null, "incomplete_details": reason.map(|reason| json!({ "reason": reason })),
            "model": self.model,
        });
        if let Value::Object(response) = &mut response {
            response.extend(self.echo.clone());
        }
        response["output"] = self.items.iter().map(Item::value).collect();
        response["usage"] = self.usage.as_ref().map_or(Value::Null, encode_usage);
        response
    }

    fn part_frame(&mut self, kind: &str, at: usize, part: usize, mut body: Value, out: &mut Vec<u8>) {
        body["content_index"] = json!(part);
        self.item_frame(kind, at, body, out);
    }

    /// A thought is one paragraph here.
    fn summary_frame(&mut self, kind: &str, at: usize, mut body: Value, out: &mut Vec<u8>) {
        body["summary_index"] = json!(0);
        self.item_frame(kind, at, body, out);
    }

    fn item_frame(&mut self, kind: &str, at: usize, mut body: Value, out: &mut Vec<u8>) {
        body["item_id"] = json!(self.items[at].id);
        body["output_index"] = json!(at);
        self.frame(kind, body, out);
    }

    fn frame(&mut self, kind: &str, mut body: Value, out: &mut Vec<u8>) {
        body["type"] = json!(kind);
        body["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        out.extend(sse::named_frame(kind.as_bytes(), body.to_string().as_bytes()));
    }
}

/// What a response repeats of its request, and what the SDKs expect of it beside.
fn echo(request: &Request) -> Map<String, Value> {
    // What cannot be said was refused when the request was read, or is said by the request's own bytes.
    let mut given = encode_settings(request, &mut Dropped::new()).unwrap_or_default();
    let mut echo = Map::new();
    let defaults = json!({
        "background": false, "instructions": instructions(request), "max_output_tokens": null,
        "max_tool_calls": null, "metadata": {}, "parallel_tool_calls": true, "previous_response_id": null,
        "prompt_cache_key": null, "reasoning": { "effort": null, "summary": null },
        "safety_identifier": null, "temperature": null, "text": { "format": { "type": "text" } },
        "tool_choice": "auto", "tools": [], "top_logprobs": null, "top_p": null, "truncation": "disabled",
        "user": null,
    });
    for (field, default) in defaults.as_object().into_iter().flatten() {
        let value = given.remove(field).unwrap_or_else(|| default.clone());
        echo.insert(field.clone(), value);
    }
    // Nothing that we write is kept by a provider under this id.
    echo.insert("store".to_owned(), json!(false));
    echo
}
