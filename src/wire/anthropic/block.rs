//! What whole replies, streams and requests write alike.

use super::{HERE, seal_data};
use crate::chat::{Block, Choice, Citation, Finish, Reply, Signature, ToolCall, Usage};
use crate::wire::Failure;
use serde_json::{Value, json};

/// A block of plain words.
pub(super) fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// The body that says a whole reply. It has one answer, so it says the first.
pub(super) fn encode_whole(reply: &Reply) -> Value {
    let Reply { id, model, created: _, choices, usage } = reply;
    let empty = Choice::default();
    let choice = choices.first().unwrap_or(&empty);
    let content: Vec<Value> = choice.blocks.iter().flat_map(encode_block).collect();
    let refused = choice.blocks.iter().any(|block| matches!(block, Block::Refusal(_)));
    let (reason, sequence) = stop_reason(choice.finish.as_ref(), refused, choice.tool_calls().count() > 0);
    json!({
        "id": reply_id(id), "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reason, "stop_sequence": sequence,
        "usage": encode_usage(&usage.unwrap_or_default()),
    })
}

/// The reply's id, or a new one.
pub(super) fn reply_id(id: &str) -> String {
    if id.is_empty() { format!("msg_{:032x}", rand::random::<u128>()) } else { id.to_owned() }
}

/// The call's id, or a new one: it must differ from those of earlier turns.
pub(super) fn call_id(id: &str) -> String {
    if id.is_empty() { format!("toolu_{:032x}", rand::random::<u128>()) } else { id.to_owned() }
}

fn encode_block(block: &Block) -> Vec<Value> {
    let (block, seal) = match block {
        Block::Text { text, citations, signature } => {
            let mut block = text_block(text);
            if !citations.is_empty() {
                block["citations"] = citations.iter().map(encode_citation).collect();
            }
            (block, signature.as_ref())
        }
        Block::Reasoning { text, signature } => {
            let seal = signature.as_ref().map(|seal| seal.tagged(HERE)).unwrap_or_default();
            (json!({ "type": "thinking", "thinking": text, "signature": seal }), None)
        }
        Block::Redacted(seal) => (redacted_block(seal), None),
        Block::Refusal(text) => (text_block(text), None),
        Block::ToolCall(ToolCall { id, name, arguments, signature, extra: _ }) => {
            let input = encode_input(arguments);
            (
                json!({ "type": "tool_use", "id": call_id(id), "name": name, "input": input }),
                signature.as_ref(),
            )
        }
    };
    let seal = seal.map(seal_block);
    [Some(block), seal].into_iter().flatten().collect()
}

/// A withheld thought.
pub(super) fn redacted_block(seal: &Signature) -> Value {
    json!({ "type": "redacted_thinking", "data": seal.tagged(HERE) })
}

/// The seal of the block before it, which has no place for one.
pub(super) fn seal_block(seal: &Signature) -> Value {
    json!({ "type": "redacted_thinking", "data": seal_data(seal) })
}

/// Arguments as an input. What is no JSON (a call that was cut) is told as the text it is.
fn encode_input(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        _ if arguments.trim().is_empty() => json!({}),
        Ok(Value::String(_)) | Err(_) => Value::String(arguments.to_owned()),
        Ok(input) => input,
    }
}

/// Undoes [`encode_input`].
pub(super) fn decode_input(input: &Value) -> String {
    match input {
        Value::Null => "{}".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A source. One from elsewhere becomes a find on the web, or a place in a document if it has no address.
pub(super) fn encode_citation(citation: &Citation) -> Value {
    let Citation { url, title, quote, by, raw } = citation;
    let quote = quote.as_deref().unwrap_or_default();
    match url {
        _ if *by == HERE => raw.clone(),
        Some(url) => json!({
            "type": "web_search_result_location", "url": url, "title": title,
            "encrypted_index": "", "cited_text": quote,
        }),
        None => json!({
            "type": "char_location", "cited_text": quote, "document_index": 0, "document_title": title,
            "start_char_index": 0, "end_char_index": 0,
        }),
    }
}

/// Undoes [`encode_citation`].
pub(super) fn decode_citation(raw: Value) -> Citation {
    let text = |field: &str| raw.get(field).and_then(Value::as_str).map(str::to_owned);
    Citation {
        url: text("url").or_else(|| text("source")),
        title: text("title").or_else(|| text("document_title")),
        quote: text("cited_text"),
        by: HERE,
        raw,
    }
}

/// Tokens counted. Those from and for the cache stand beside the others.
pub(super) fn encode_usage(usage: &Usage) -> Value {
    let Usage { input, output, cached_input, cache_write, reasoning } = usage;
    let fresh = input.saturating_sub(*cached_input).saturating_sub(*cache_write);
    let mut body = json!({
        "input_tokens": fresh, "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cached_input, "output_tokens": output,
    });
    if *reasoning > 0 {
        body["output_tokens_details"] = json!({ "thinking_tokens": reasoning });
    }
    body
}

/// Why an answer ends: `stop_reason` and `stop_sequence`.
pub(super) fn stop_reason(finish: Option<&Finish>, refused: bool, calls: bool) -> (Value, Value) {
    let reason = match finish {
        None => return (Value::Null, Value::Null),
        Some(Finish::StopSequence(sequence)) => return (json!("stop_sequence"), json!(sequence)),
        Some(Finish::Refusal | Finish::ContentFilter) => "refusal",
        Some(Finish::Stop) if refused => "refusal",
        // Some providers stop where they wait for tools; clients here call them only if told so.
        Some(Finish::Stop) if calls => "tool_use",
        Some(Finish::Stop) => "end_turn",
        Some(Finish::Length) => "max_tokens",
        Some(Finish::ToolCalls) => "tool_use",
        Some(Finish::Other(name)) if name.is_empty() => "end_turn",
        Some(Finish::Other(name)) => name,
    };
    (json!(reason), Value::Null)
}

/// Undoes [`stop_reason`].
pub(super) fn decode_finish(reason: &str, sequence: Option<&str>) -> Finish {
    match (reason, sequence) {
        ("stop_sequence", Some(sequence)) => Finish::StopSequence(sequence.to_owned()),
        ("end_turn" | "stop_sequence", _) => Finish::Stop,
        ("max_tokens", _) => Finish::Length,
        ("tool_use", _) => Finish::ToolCalls,
        ("refusal", _) => Finish::Refusal,
        (other, _) => Finish::Other(other.to_owned()),
    }
}

/// An error as Anthropic's SDKs understand it, in a body or in a stream.
pub fn error_body(failure: &Failure) -> Value {
    let Failure { status, kind: _, code: _, message, param: _, request_id, retry_after_ms: _ } = failure;
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": request_id })
}
