//! Messages and their parts.

use crate::chat::{Media, MediaSource, Message, Part, Protocol, Request, Role, Signature, ToolCall};
use crate::wire::foreign::{at_home, inexpressible, opaque_part};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

const HERE: Protocol = Protocol::OpenAiChat;

/// Whose seals the `format` of a `reasoning_details` entry names, as OpenRouter writes them.
const FORMATS: [(&str, Protocol); 4] = [
    ("anthropic-claude-v1", Protocol::Anthropic),
    ("google-gemini-v1", Protocol::Gemini),
    ("openai-responses-v1", Protocol::OpenAiResponses),
    ("unknown", Protocol::OpenAiChat),
];

pub(super) fn decode_message(at: usize, message: Value) -> Result<Message, Error> {
    if has_unknown_role(&message) {
        // It is no question, whoever speaks.
        return Ok(Message { parts: vec![Part::Opaque(message)], ..Message::empty(Role::Tool) });
    }
    let mut fields = Fields::of(message, &format!("messages[{at}]"))?;
    let role: Role = fields.required("role")?;
    let mut parts = Vec::new();
    if role == Role::Assistant {
        decode_thoughts(&mut fields, &mut parts)?;
    }
    parts.extend(decode_content(&mut fields)?);
    if let Some(refusal) = fields.take::<String>("refusal")? {
        parts.push(Part::Refusal(refusal));
    }
    let calls: Vec<Value> = fields.take("tool_calls")?.unwrap_or_default();
    for call in calls {
        parts.push(decode_tool_call(call));
    }
    Ok(Message {
        tool_call_id: fields.take("tool_call_id")?,
        parts,
        extra: fields.map,
        ..Message::empty(role)
    })
}

/// A role of the provider's own, or one of old: `function`.
fn has_unknown_role(message: &Value) -> bool {
    let role = message.get("role").filter(|role| role.is_string());
    role.is_some_and(|role| Role::deserialize(role).is_err())
}

/// What the assistant thought: with seals in `reasoning_details`, without in `reasoning_content`.
fn decode_thoughts(fields: &mut Fields, parts: &mut Vec<Part>) -> Result<(), Error> {
    let text: Option<String> = fields.take("reasoning_content")?;
    let details: Vec<Value> = fields.take("reasoning_details")?.unwrap_or_default();
    if details.is_empty() {
        let thought = |text| Part::Reasoning { text, signature: None, redacted: false };
        parts.extend(text.map(thought));
    }
    for detail in details {
        parts.push(decode_detail(&detail).unwrap_or(Part::Opaque(detail)));
    }
    Ok(())
}

/// One entry of `reasoning_details`.
pub(super) fn decode_detail(detail: &Value) -> Option<Part> {
    let text = |field: &str| detail.get(field).and_then(Value::as_str).map(str::to_owned);
    let format = detail.get("format").and_then(Value::as_str).unwrap_or("unknown");
    let (_, by) = *FORMATS.iter().find(|(name, _)| *name == format)?;
    let seal = |data: String| Signature::from_tagged(by, &data);
    match detail.get("type")?.as_str()? {
        "reasoning.text" => Some(Part::Reasoning {
            text: text("text").unwrap_or_default(),
            signature: text("signature").map(seal),
            redacted: false,
        }),
        "reasoning.encrypted" => {
            let signature = Some(seal(text("data")?));
            Some(Part::Reasoning { text: String::new(), signature, redacted: true })
        }
        _ => None,
    }
}

/// Undoes [`decode_detail`].
pub(super) fn encode_detail(text: &str, signature: Option<&Signature>, redacted: bool, at: usize) -> Value {
    let format = signature.and_then(|seal| FORMATS.iter().find(|(_, by)| *by == seal.by));
    let (format, by) = format.copied().unwrap_or(("unknown", HERE));
    let seal = signature.map(|seal| seal.tagged(by));
    if redacted {
        return json!({ "type": "reasoning.encrypted", "data": seal, "format": format, "index": at });
    }
    let mut detail = Body::default();
    detail.set("type", Some("reasoning.text"));
    detail.set("text", Some(text));
    detail.set("signature", seal);
    detail.set("format", Some(format));
    detail.set("index", Some(at));
    detail.value()
}

fn decode_content(fields: &mut Fields) -> Result<Vec<Part>, Error> {
    match fields.take::<Value>("content")? {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => Ok(parts.into_iter().map(decode_part).collect()),
        Some(_) => Err(Error::at(fields.name("content"), "content must be a string or a list of parts")),
    }
}

fn decode_part(part: Value) -> Part {
    decode_known_part(&part).unwrap_or(Part::Opaque(part))
}

fn decode_known_part(part: &Value) -> Option<Part> {
    let kind = part.get("type")?.as_str()?;
    let beside = |known: &[&str], of: &Value| {
        let fields = of.as_object().into_iter().flatten();
        let unknown = fields.filter(|(field, _)| !known.contains(&field.as_str()));
        unknown.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>()
    };
    let mut extra = beside(&["type", kind], part);
    match kind {
        "text" => Some(Part::Text { text: part["text"].as_str()?.to_owned(), extra }),
        "image_url" => {
            extra.extend(beside(&["url"], &part["image_url"]));
            Some(Part::Image(Media { extra, ..Media::at(part["image_url"]["url"].as_str()?) }))
        }
        "input_audio" => {
            let (data, format) =
                (part["input_audio"]["data"].as_str()?, part["input_audio"]["format"].as_str()?);
            let source = MediaSource::Data(data.to_owned());
            Some(Part::Audio(Media {
                source,
                media_type: Some(format!("audio/{format}")),
                name: None,
                extra,
            }))
        }
        "file" => {
            let file = &part["file"];
            let text = |field: &str| file.get(field).and_then(Value::as_str);
            let media = match (text("file_data"), text("file_id")) {
                (Some(data), _) => Media::at(data),
                (None, Some(id)) => Media { source: MediaSource::Id(id.to_owned()), ..Media::at("") },
                (None, None) => return None,
            };
            Some(Part::File(Media { name: text("filename").map(str::to_owned), extra, ..media }))
        }
        "refusal" => Some(Part::Refusal(part["refusal"].as_str()?.to_owned())),
        "thinking" => thought_in(part).map(|text| Part::Reasoning { text, signature: None, redacted: false }),
        _ => None,
    }
}

/// A thought in a content, as Mistral's models write it: `{"type": "thinking", "thinking": [{"type": "text", …}]}`.
pub(super) fn thought_in(part: &Value) -> Option<String> {
    let fields = part.as_object().filter(|_| part["type"] == "thinking")?;
    if !fields.keys().all(|field| matches!(field.as_str(), "type" | "thinking" | "closed")) {
        return None;
    }
    match fields.get("thinking")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(pieces) => pieces.iter().map(|piece| piece.get("text")?.as_str()).collect(),
        _ => None,
    }
}

fn decode_tool_call(call: Value) -> Part {
    let function = call.get("type").is_none_or(|kind| kind == "function");
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (id, name, arguments) = (text("/id"), text("/function/name"), text("/function/arguments"));
    let (true, Some(id), Some(name), Some(arguments)) = (function, id, name, arguments) else {
        return Part::Opaque(call);
    };
    let signature = google_seal(&call);
    let known = |field: &str| {
        matches!(field, "id" | "type" | "function") || (field == "extra_content" && signature.is_some())
    };
    let unknown = call.as_object().into_iter().flatten().filter(|(field, _)| !known(field));
    let extra = unknown.map(|(field, value)| (field.clone(), value.clone())).collect();
    Part::ToolCall(ToolCall { id, name, arguments, signature, extra })
}

/// Where Google's compatible endpoint puts the seal of the thought behind a call.
pub(super) fn google_seal(call: &Value) -> Option<Signature> {
    let seal = call.pointer("/extra_content/google/thought_signature")?.as_str()?;
    Some(Signature::from_tagged(Protocol::Gemini, seal))
}

/// Writes a message. What a tool shows beside its words goes into `shown`.
pub(super) fn encode_message(
    request: &Request,
    at: usize,
    shown: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<Value, Error> {
    let Message { role, parts, tool_call_id, tool_name: _, failed, extra } = &request.messages[at];
    if let ([Part::Opaque(message)], true) = (parts.as_slice(), at_home(request, HERE))
        && has_unknown_role(message)
    {
        return Ok(message.clone());
    }
    let mut body = Body::default();
    if at_home(request, HERE) {
        body.0.clone_from(extra);
    } else {
        dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
    }
    if *failed {
        dropped.push(format!("messages[{at}].is_error"));
    }
    body.set("role", Some(role));
    let (mut content, mut calls, mut details, mut refusal) = (Vec::new(), Vec::new(), Vec::new(), None);
    let mut thoughts = String::new();
    let before = shown.len();
    for part in parts {
        note_left(request, at, part, dropped);
        match part {
            Part::Image(_) | Part::Audio(_) | Part::File(_) if !at_home(request, HERE) => {
                let media = encode_part(request, at, part)?;
                match role {
                    // A document in plain text is words by now.
                    _ if media["type"] == "text" => content.push(media),
                    Role::User => content.push(media),
                    Role::Tool => shown.push(media),
                    _ => return Err(out_of_place(at, part)),
                }
            }
            Part::Reasoning { text, signature, redacted } => {
                thoughts.push_str(text);
                details.push((text, signature.as_ref(), *redacted));
            }
            Part::ToolCall(call) if at_home(request, HERE) => calls.push(encode_tool_call(call)),
            Part::ToolCall(call) => {
                calls.push(encode_tool_call(&ToolCall { extra: Map::new(), ..call.clone() }));
            }
            Part::Opaque(call)
                if at_home(request, HERE)
                    && ["custom", "function"].iter().any(|kind| call.get(kind).is_some()) =>
            {
                calls.push(call.clone());
            }
            Part::Refusal(text) if *role == Role::Assistant => refusal = Some(text),
            other => content.push(encode_part(request, at, other)?),
        }
    }
    if shown.len() > before {
        let id = tool_call_id.as_deref().unwrap_or("the tool");
        let label = json!({ "type": "text", "text": format!("From the result of {id}:") });
        shown.insert(before, label);
    }
    body.set("content", Some(joined(content)));
    if *role == Role::Tool && !at_home(request, HERE) && body.0["content"].is_null() {
        body.set("content", Some(""));
    }
    let sealed = details.iter().any(|(_, signature, _)| signature.is_some());
    if sealed {
        let details = details.iter().enumerate();
        let details =
            details.map(|(at, (text, signature, redacted))| encode_detail(text, *signature, *redacted, at));
        body.set("reasoning_details", Some(details.collect::<Vec<_>>()));
    } else {
        body.set("reasoning_content", (!thoughts.is_empty()).then_some(thoughts));
    }
    body.set("refusal", refusal);
    body.set("tool_calls", (!calls.is_empty()).then_some(calls));
    body.set("tool_call_id", tool_call_id.as_ref());
    Ok(body.value())
}

/// Only a user shows pictures, sounds and documents here.
fn out_of_place(at: usize, part: &Part) -> Error {
    let what = format!("a part of type `{}` that is not a user's or a tool's", part.kind());
    inexpressible(HERE, format!("messages[{at}]"), &what)
}

/// Notes the fields beside a part that nobody but the request's own protocol knows.
fn note_left(request: &Request, at: usize, part: &Part, dropped: &mut Dropped) {
    let (place, extra) = match part {
        Part::Text { extra, .. } => ("content", extra),
        Part::Image(media) | Part::Audio(media) | Part::File(media) => ("content", &media.extra),
        Part::ToolCall(call) => ("tool_calls", &call.extra),
        Part::Reasoning { .. } | Part::Refusal(_) | Part::Opaque(_) => return,
    };
    if !at_home(request, HERE) {
        // How closely a picture is looked at is known to this protocol from whichever it comes.
        let left = extra.keys().filter(|field| *field != "detail");
        dropped.extend(left.map(|field| format!("messages[{at}].{place}.{field}")));
    }
}

/// Plain words stand alone; anything else is a list.
fn joined(mut content: Vec<Value>) -> Value {
    // A part of the client's own may call itself a text and hold none.
    let plain =
        |part: &Value| part.as_object().is_some_and(|part| part.len() == 2) && part["text"].is_string();
    match content.as_slice() {
        [] => Value::Null,
        [only] if plain(only) => content[0]["text"].take(),
        _ => Value::Array(content),
    }
}

fn encode_part(request: &Request, at: usize, part: &Part) -> Result<Value, Error> {
    let home = at_home(request, HERE);
    let mut body = Body::default();
    let mut beside = |extra: &Map<String, Value>, inner: &[&str]| {
        let outer = extra.iter().filter(|(field, _)| home && !inner.contains(&field.as_str()));
        body.0.extend(outer.map(|(field, value)| (field.clone(), value.clone())));
    };
    let field = || format!("messages[{at}]");
    match part {
        Part::Text { text, extra } => {
            beside(extra, &[]);
            body.set("type", Some("text"));
            body.set("text", Some(text));
        }
        Part::Image(media) => {
            let url = media.url().ok_or_else(|| inexpressible(HERE, field(), "an image by file id"))?;
            beside(&media.extra, &["detail"]);
            let mut image = Body::default();
            image.set("url", Some(url));
            image.set("detail", media.extra.get("detail"));
            body.set("type", Some("image_url"));
            body.set("image_url", Some(image.value()));
        }
        Part::Audio(media) => {
            let MediaSource::Data(data) = &media.source else {
                return Err(inexpressible(HERE, field(), "audio that is not in the request"));
            };
            beside(&media.extra, &[]);
            let kind = media.media_type.as_deref().unwrap_or("audio/wav");
            let format = kind.strip_prefix("audio/").unwrap_or(kind);
            body.set("type", Some("input_audio"));
            body.set("input_audio", Some(json!({ "data": data, "format": format })));
        }
        Part::File(media) => {
            if let MediaSource::Text(text) = &media.source {
                return Ok(json!({ "type": "text", "text": text }));
            }
            beside(&media.extra, &[]);
            body.set("type", Some("file"));
            body.set(
                "file",
                Some(encode_file(media).ok_or_else(|| inexpressible(HERE, field(), "a file by URL"))?),
            );
        }
        Part::Refusal(text) => return Ok(json!({ "type": "refusal", "refusal": text })),
        other => return opaque_part(request, HERE, at, other),
    }
    Ok(body.value())
}

fn encode_file(media: &Media) -> Option<Value> {
    let mut file = Body::default();
    file.set("filename", media.name.as_ref());
    match &media.source {
        MediaSource::Id(id) => file.set("file_id", Some(id)),
        MediaSource::Data(_) => file.set("file_data", media.url()),
        MediaSource::Url(_) | MediaSource::Text(_) => return None,
    }
    Some(file.value())
}

pub(super) fn encode_tool_call(call: &ToolCall) -> Value {
    let ToolCall { id, name, arguments, signature, extra } = call;
    let mut body = Body(extra.clone());
    body.set("id", Some(id));
    body.set("type", Some("function"));
    body.set("function", Some(json!({ "name": name, "arguments": arguments })));
    if let Some(signature) = signature {
        let seal = signature.tagged(Protocol::Gemini);
        body.set("extra_content", Some(json!({ "google": { "thought_signature": seal } })));
    }
    body.value()
}
