//! The items of a conversation, written.

use super::HERE;
use super::input::is_content;
use crate::chat::{Media, MediaSource, Message, Part, Protocol, Request, Role, Signature, ToolCall};
use crate::wire::foreign::{at_home, inexpressible, opaque_part};
use crate::wire::json::{Body, is_empty};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// The instructions to the model, where the conversation begins with nothing but words of that kind.
pub(super) fn instructions(request: &Request) -> Option<&str> {
    let Message { role: Role::System, parts, extra, .. } = request.messages.first()? else { return None };
    match parts.as_slice() {
        [Part::Text { text, extra: beside }] if extra.is_empty() && beside.is_empty() => Some(text),
        _ => None,
    }
}

/// The conversation as items, without its [`instructions`].
pub(super) fn encode_input(request: &Request, dropped: &mut Dropped) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for at in usize::from(instructions(request).is_some())..request.messages.len() {
        encode_message(request, at, &mut items, dropped)?;
    }
    Ok(items)
}

fn encode_message(
    request: &Request,
    at: usize,
    items: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let Message { role, parts, tool_call_id: _, tool_name: _, failed, extra } = &request.messages[at];
    if *failed {
        dropped.push(format!("messages[{at}].is_error"));
    }
    if !at_home(request, HERE) {
        dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
    }
    match role {
        Role::Assistant => encode_turn(request, at, items, dropped),
        Role::Tool => encode_result(request, at, items, dropped),
        Role::System | Role::Developer | Role::User => {
            let content = parts.iter().map(|part| encode_part(request, at, part, dropped));
            let content = content.collect::<Result<Vec<_>, _>>()?;
            items.push(message_item(request, at, content));
            Ok(())
        }
    }
}

fn message_item(request: &Request, at: usize, content: Vec<Value>) -> Value {
    let mut item = Body::default();
    item.set("type", Some("message"));
    item.set("role", Some(request.messages[at].role));
    item.set("content", Some(joined(content)));
    if at_home(request, HERE) {
        item.0.extend(request.messages[at].extra.clone());
    }
    item.value()
}

/// Plain words stand alone; anything else is a list.
fn joined(mut content: Vec<Value>) -> Value {
    let plain = |part: &Value| {
        let mut fields = part.as_object().into_iter().flatten();
        part.get("text").is_some()
            && fields.all(|(field, value)| matches!(field.as_str(), "type" | "text") || is_empty(value))
    };
    match content.as_slice() {
        [only] if plain(only) => content[0]["text"].take(),
        _ => Value::Array(content),
    }
}

/// An assistant's turn: its words in messages, its thoughts and calls beside them.
fn encode_turn(
    request: &Request,
    at: usize,
    items: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let Message { parts, extra, .. } = &request.messages[at];
    let mut content = Vec::new();
    let mut spoken = false;
    for part in parts {
        let item = match part {
            Part::Reasoning { text, signature, .. } => {
                encode_thought(request, at, text, signature.as_ref(), dropped)
            }
            Part::ToolCall(call) => Some(encode_call(request, at, call, dropped)),
            Part::Opaque(value) if !is_content(value) => Some(opaque_part(request, HERE, at, part)?),
            words => {
                content.push(encode_part(request, at, words, dropped)?);
                continue;
            }
        };
        if !content.is_empty() {
            spoken = true;
            items.push(message_item(request, at, std::mem::take(&mut content)));
        }
        items.extend(item);
    }
    let bare = !spoken && (parts.is_empty() || (at_home(request, HERE) && !extra.is_empty()));
    if !content.is_empty() || bare {
        items.push(message_item(request, at, content));
    }
    Ok(())
}

/// A thought that this protocol's makers did not seal means nothing to them: it is left behind, unless they
/// keep it themselves.
fn encode_thought(
    request: &Request,
    at: usize,
    text: &str,
    signature: Option<&Signature>,
    dropped: &mut Dropped,
) -> Option<Value> {
    let ours = signature.is_some_and(|signature| signature.by == HERE);
    if !ours && (signature.is_some() || !at_home(request, HERE)) {
        dropped.push(format!("messages[{at}].reasoning"));
        return None;
    }
    let summary: &[Value] = &[json!({ "type": "summary_text", "text": text })];
    let mut item = Body::default();
    item.set("type", Some("reasoning"));
    item.set("summary", Some(if text.is_empty() { &[] } else { summary }));
    item.set("encrypted_content", signature.map(|signature| signature.tagged(HERE)));
    Some(item.value())
}

fn encode_call(request: &Request, at: usize, call: &ToolCall, dropped: &mut Dropped) -> Value {
    let ToolCall { id, name, arguments, signature, extra } = call;
    let mut item = Body::default();
    item.set("type", Some("function_call"));
    item.set("call_id", Some(id));
    item.set("name", Some(name));
    item.set("arguments", Some(arguments));
    // A seal of somebody else's; a strict server would stumble over the field.
    dropped.extend(signature.is_some().then(|| format!("messages[{at}].tool_calls.signature")));
    match at_home(request, HERE) {
        true => item.0.extend(extra.clone()),
        false => dropped.extend(extra.keys().map(|field| format!("messages[{at}].tool_calls.{field}"))),
    }
    item.value()
}

fn encode_result(
    request: &Request,
    at: usize,
    items: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let Message { parts, tool_call_id, tool_name, extra, .. } = &request.messages[at];
    let home = at_home(request, HERE);
    let Some(call_id) = tool_call_id else {
        for part in parts {
            if !matches!(part, Part::Opaque(_)) {
                let what = "a tool's result without the id of its call";
                return Err(inexpressible(HERE, format!("messages[{at}].tool_call_id"), what));
            }
            items.push(opaque_part(request, HERE, at, part)?);
        }
        return Ok(());
    };
    let content = parts.iter().map(|part| encode_part(request, at, part, dropped));
    let output = match joined(content.collect::<Result<Vec<_>, _>>()?) {
        Value::Array(parts) if parts.is_empty() && !home => json!(""),
        output => output,
    };
    let mut item = Body::default();
    item.set("type", Some("function_call_output"));
    item.set("call_id", Some(call_id));
    item.set("output", Some(output));
    if home {
        item.set("name", tool_name.as_ref());
        item.0.extend(extra.clone());
    }
    items.push(item.value());
    Ok(())
}

fn encode_part(request: &Request, at: usize, part: &Part, dropped: &mut Dropped) -> Result<Value, Error> {
    let home = at_home(request, HERE);
    let assistant = request.messages[at].role == Role::Assistant;
    let mut body = Body::default();
    let mut beside = |extra: &Map<String, Value>| {
        let kept = |field: &str| home || field == "detail";
        let left = extra.keys().filter(|field| !kept(field));
        dropped.extend(left.map(|field| format!("messages[{at}].{field}")));
        let kept = extra.iter().filter(|(field, _)| kept(field));
        kept.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>()
    };
    match part {
        Part::Text { text, extra } => {
            body.set("type", Some(if assistant { "output_text" } else { "input_text" }));
            body.set("text", Some(text));
            body.set("annotations", assistant.then_some([""; 0]));
            body.0.extend(beside(extra));
        }
        Part::Refusal(text) => return Ok(json!({ "type": "refusal", "refusal": text })),
        Part::Image(_) | Part::Audio(_) | Part::File(_) if assistant && !home => {
            let what = format!("a part of type `{}` in an assistant's message", part.kind());
            return Err(inexpressible(HERE, format!("messages[{at}]"), &what));
        }
        Part::Image(media) => {
            body.set("type", Some("input_image"));
            encode_source(request, at, media, "image_url", &mut body)?;
            body.0.extend(beside(&media.extra));
        }
        Part::Audio(media) => {
            let MediaSource::Data(data) = &media.source else {
                return Err(inexpressible(
                    HERE,
                    format!("messages[{at}]"),
                    "audio that is not in the request",
                ));
            };
            let kind = media.media_type.as_deref().unwrap_or("audio/wav");
            let format = kind.strip_prefix("audio/").unwrap_or(kind);
            body.set("type", Some("input_audio"));
            body.set("input_audio", Some(json!({ "data": data, "format": format })));
            body.0.extend(beside(&media.extra));
        }
        Part::File(media) => {
            if let MediaSource::Text(text) = &media.source {
                return Ok(json!({ "type": "input_text", "text": text }));
            }
            body.set("type", Some("input_file"));
            body.set("filename", media.name.as_ref());
            encode_source(request, at, media, "file_url", &mut body)?;
            body.0.extend(beside(&media.extra));
        }
        other => return opaque_part(request, HERE, at, other),
    }
    Ok(body.value())
}

/// Where a picture or a file is. The id of a file means something to OpenAI only.
fn encode_source(
    request: &Request,
    at: usize,
    media: &Media,
    url_field: &str,
    body: &mut Body,
) -> Result<(), Error> {
    match (&media.source, &media.media_type) {
        (MediaSource::Url(url), _) => body.set(url_field, Some(url)),
        (MediaSource::Data(data), None) if url_field == "file_url" => body.set("file_data", Some(data)),
        (MediaSource::Data(_), _) if url_field == "file_url" => body.set("file_data", media.url()),
        (MediaSource::Data(_), _) => body.set(url_field, media.url()),
        (MediaSource::Id(id), _) if at_home(request, HERE) || at_home(request, Protocol::OpenAiChat) => {
            body.set("file_id", Some(id));
        }
        (MediaSource::Id(_) | MediaSource::Text(_), _) => {
            let what = "a file kept by another provider";
            return Err(inexpressible(HERE, format!("messages[{at}]"), what));
        }
    }
    Ok(())
}
