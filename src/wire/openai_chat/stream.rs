//! Events to the frames of a stream, and a reply to a body.

use super::DONE;
use super::message::{encode_detail, encode_tool_call};
use super::reply::{encode_usage, finish_name};
use crate::chat::{Block, Choice, Citation, Event, Protocol, Reply, Request, Signature, Usage};
use crate::wire::{Failure, json::Body, sse};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Writes one reply.
#[derive(Debug, Default)]
pub struct Encoder {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    /// The choices that have spoken, and what of them is still to be told.
    choices: BTreeMap<u32, Spoken>,
    usage: Option<Usage>,
}

/// How far a choice has come.
#[derive(Debug, Default)]
struct Spoken {
    /// The last tool call: the one that a seal belongs to.
    call: Option<u32>,
    /// How many sealed thoughts it had.
    thoughts: usize,
    /// Its thought at present, which a seal may follow.
    thinking: bool,
}

impl Encoder {
    /// Writes the reply to `request`.
    pub fn new(request: &Request) -> Self {
        Self { include_usage: request.delivery.include_usage(), ..Self::default() }
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
                Vec::new()
            }
            Event::Text { choice, text } => self.delta(*choice, json!({ "content": text })),
            Event::Reasoning { choice, text } => {
                let bytes = self.delta(*choice, json!({ "reasoning_content": text }));
                self.spoken(*choice).thinking = true;
                bytes
            }
            Event::Redacted { choice, signature } => self.detail(*choice, signature, true),
            Event::Refusal { choice, text } => self.delta(*choice, json!({ "refusal": text })),
            Event::ToolCall { choice, index, id, name, arguments } => {
                let delta = tool_delta(*index, id.as_deref(), name.as_deref(), arguments);
                let bytes = self.delta(*choice, delta);
                self.spoken(*choice).call = Some(*index);
                bytes
            }
            Event::Signature { choice, signature } => self.seal(*choice, signature),
            Event::Citation { choice, citation } => {
                self.delta(*choice, json!({ "annotations": [annotation(citation)] }))
            }
            Event::Logprobs { choice, tokens } => {
                let logprobs = json!({ "content": tokens, "refusal": null });
                self.frame(
                    &json!([{ "index": choice, "delta": {}, "logprobs": logprobs, "finish_reason": null }]),
                    None,
                )
            }
            Event::Finish { choice, reason } => {
                let finish = finish_name(reason);
                self.frame(
                    &json!([{ "index": choice, "delta": {}, "logprobs": null, "finish_reason": finish }]),
                    None,
                )
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            // There is no word for these here.
            Event::Opaque { .. } | Event::Break { .. } => Vec::new(),
            Event::End => self.end(),
        }
    }

    /// A provider's own frame, as the client asked for it.
    pub fn verbatim(&self, frame: &Bytes) -> Bytes {
        if self.include_usage { frame.clone() } else { without_usage(frame) }
    }

    fn spoken(&mut self, choice: u32) -> &mut Spoken {
        self.choices.entry(choice).or_default()
    }

    fn delta(&mut self, choice: u32, mut delta: Value) -> Vec<u8> {
        if !self.choices.contains_key(&choice) {
            delta["role"] = json!("assistant");
        }
        let spoken = self.spoken(choice);
        (spoken.call, spoken.thinking) = (None, false);
        self.frame(
            &json!([{ "index": choice, "delta": delta, "logprobs": null, "finish_reason": null }]),
            None,
        )
    }

    /// The seal of what was said last. Words have no place for one here.
    fn seal(&mut self, choice: u32, signature: &Signature) -> Vec<u8> {
        let spoken = self.spoken(choice);
        match (spoken.call, spoken.thinking) {
            (Some(index), _) => {
                let seal = json!({ "google": { "thought_signature": signature.tagged(Protocol::Gemini) } });
                self.delta(choice, json!({ "tool_calls": [{ "index": index, "function": { "arguments": "" }, "extra_content": seal }] }))
            }
            _ => self.detail(choice, signature, false),
        }
    }

    fn detail(&mut self, choice: u32, signature: &Signature, redacted: bool) -> Vec<u8> {
        let at = self.choices.get(&choice).map_or(0, |spoken| spoken.thoughts);
        let bytes = self.delta(
            choice,
            json!({ "reasoning_details": [encode_detail("", Some(signature), redacted, at)] }),
        );
        self.spoken(choice).thoughts += 1;
        bytes
    }

    fn end(&mut self) -> Vec<u8> {
        let usage = self.usage.filter(|_| self.include_usage);
        let mut bytes = usage.map(|usage| self.frame(&json!([]), Some(&usage))).unwrap_or_default();
        bytes.extend(sse::frame(DONE));
        bytes
    }

    fn frame(&self, choices: &Value, usage: Option<&Usage>) -> Vec<u8> {
        let mut body = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            body["usage"] = usage.map_or(Value::Null, encode_usage);
        }
        sse::frame(body.to_string().as_bytes())
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        let Reply { id, model, created, choices, usage } = reply;
        let choices: Vec<Value> =
            choices.iter().enumerate().map(|(index, choice)| encode_choice(index, choice)).collect();
        let body = json!({
            "id": id, "object": "chat.completion", "created": created, "model": model,
            "choices": choices, "usage": usage.as_ref().map(encode_usage),
        });
        body.to_string().into_bytes()
    }

    /// The bytes that tell of a failure in the middle of a stream, in the way that SDKs raise.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        sse::frame(error_body(failure).to_string().as_bytes())
    }
}

/// A provider's frame without what it says of usage only because we asked.
pub(in crate::wire) fn without_usage(frame: &Bytes) -> Bytes {
    if find(frame, b"\"usage\"").is_none() {
        return frame.clone();
    }
    // In valid JSON these bytes stand nowhere but for a field: inside of a text, quotes are escaped.
    for empty in [&b",\"usage\":null"[..], b", \"usage\": null"] {
        if let Some(at) = find(frame, empty) {
            return [&frame[..at], &frame[at + empty.len()..]].concat().into();
        }
    }
    let payload = frame.strip_prefix(b"data: ").unwrap_or(frame);
    match serde_json::from_slice::<Value>(payload) {
        Ok(body) if body["choices"].as_array().is_some_and(Vec::is_empty) => Bytes::new(),
        _ => frame.clone(),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn encode_choice(index: usize, choice: &Choice) -> Value {
    let (text, refusal) = (choice.said(), choice.refusal());
    let calls: Vec<Value> = choice.tool_calls().map(encode_tool_call).collect();
    let silent = text.is_empty() && (!calls.is_empty() || !refusal.is_empty());
    let mut message = Body::default();
    message.set("role", Some("assistant"));
    message.set("content", Some((!silent).then_some(text)));
    message.set("refusal", Some((!refusal.is_empty()).then_some(refusal)));
    encode_thoughts(choice, &mut message);
    let sources: Vec<Value> = citations(choice).map(annotation).collect();
    message.set("annotations", (!sources.is_empty()).then_some(sources));
    message.set("tool_calls", (!calls.is_empty()).then_some(calls));
    let logprobs =
        (!choice.logprobs.is_empty()).then(|| json!({ "content": choice.logprobs, "refusal": null }));
    json!({
        "index": index, "message": message.value(), "logprobs": logprobs,
        "finish_reason": choice.finish.as_ref().map(finish_name),
    })
}

fn encode_thoughts(choice: &Choice, message: &mut Body) {
    let thoughts: Vec<(&str, Option<&Signature>, bool)> = choice
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Reasoning { text, signature } => Some((text.as_str(), signature.as_ref(), false)),
            Block::Redacted(signature) => Some(("", Some(signature), true)),
            _ => None,
        })
        .collect();
    let thought = choice.thought();
    message.set("reasoning_content", (!thought.is_empty()).then_some(thought));
    if thoughts.iter().any(|(_, signature, _)| signature.is_some()) {
        let details = thoughts.iter().enumerate();
        let details = details.map(|(at, (text, seal, redacted))| encode_detail(text, *seal, *redacted, at));
        message.set("reasoning_details", Some(details.collect::<Vec<_>>()));
    }
}

fn citations(choice: &Choice) -> impl Iterator<Item = &Citation> {
    choice.blocks.iter().flat_map(|block| match block {
        Block::Text { citations, .. } => citations.as_slice(),
        _ => &[],
    })
}

fn annotation(citation: &Citation) -> Value {
    if citation.by == Protocol::OpenAiChat {
        return citation.raw.clone();
    }
    let Citation { url, title, quote, by: _, raw: _ } = citation;
    json!({ "type": "url_citation", "url_citation": {
        "url": url.as_deref().unwrap_or_default(), "title": title.as_deref().unwrap_or_default(),
        "content": quote, "start_index": 0, "end_index": 0,
    } })
}

fn tool_delta(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    let mut call = json!({ "index": index, "function": { "arguments": arguments } });
    if let Some(id) = id {
        call["id"] = json!(id);
        call["type"] = json!("function");
    }
    if let Some(name) = name {
        call["function"]["name"] = json!(name);
    }
    json!({ "tool_calls": [call] })
}

/// An error as the OpenAI SDKs understand it, in a body or in a stream.
pub fn error_body(failure: &Failure) -> Value {
    let Failure { status: _, kind, code, message, param, request_id: _, retry_after_ms: _ } = failure;
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_that_was_not_asked_for_is_taken_out() {
        let plain = Encoder::default();
        let frame = |payload: &str| Bytes::from(sse::frame(payload.as_bytes()));
        let cases = [
            (
                r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#,
                Some(r#"{"choices":[{"delta":{"content":"a"}}]}"#),
            ),
            (r#"{"choices": [], "usage": null}"#, Some(r#"{"choices": []}"#)),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, None),
            (
                r#"{"choices":[{"delta":{"content":"say \"usage\":null"}}]}"#,
                Some(r#"{"choices":[{"delta":{"content":"say \"usage\":null"}}]}"#),
            ),
            (
                r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#,
                Some(r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#),
            ),
        ];
        for (sent, told) in cases {
            assert_eq!(plain.verbatim(&frame(sent)), told.map(frame).unwrap_or_default(), "{sent}");
            let asked = Encoder { include_usage: true, ..Encoder::default() };
            assert_eq!(asked.verbatim(&frame(sent)), frame(sent));
        }
    }
}
