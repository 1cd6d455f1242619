//! The items of a conversation, read.

use super::{HERE, call_seal};
use crate::chat::{Media, MediaSource, Message, Part, Role, Signature, ToolCall};
use crate::wire::Error;
use crate::wire::json::{Fields, is_empty, kind_of};
use serde_json::{Map, Value};

/// Fields of an item that only name it.
const LABELS: [&str; 3] = ["type", "id", "status"];

/// Reads `input`: a string, or a list of items. A request that leans on what the provider keeps may be
/// without.
pub(super) fn decode_input(
    fields: &mut Fields,
    stateful: bool,
    messages: &mut Vec<Message>,
) -> Result<(), Error> {
    match fields.take::<Value>("input")? {
        Some(Value::String(text)) => messages.push(Message::text(Role::User, text)),
        Some(Value::Array(items)) if !items.is_empty() => {
            for (at, item) in items.into_iter().enumerate() {
                decode_item(&format!("input[{at}]"), item, messages)?;
            }
        }
        None | Some(Value::Array(_)) if stateful => {}
        None => return Err(Error::at("input", "`input` is required")),
        Some(Value::Array(_)) => return Err(Error::at("input", "`input` must not be empty")),
        Some(other) => {
            let message = format!("`input` must be a string or a list of items, not {}", kind_of(&other));
            return Err(Error::at("input", message));
        }
    }
    Ok(())
}

fn decode_item(path: &str, item: Value, messages: &mut Vec<Message>) -> Result<(), Error> {
    match item.get("type").and_then(Value::as_str) {
        None | Some("message") if !is_odd(&item) => decode_message(Fields::of(item, path)?, messages),
        Some("function_call") => {
            let call = decode_call(&item, Fields::of(item.clone(), path)?)?;
            turn(messages).parts.push(Part::ToolCall(call));
            Ok(())
        }
        Some("function_call_output") if item["call_id"].is_string() => {
            messages.push(decode_result(Fields::of(item, path)?)?);
            Ok(())
        }
        Some("reasoning") => {
            let thought = decode_thought(&item);
            turn(messages).parts.push(thought);
            Ok(())
        }
        kind => {
            let answers = kind.is_some_and(|kind| kind.ends_with("_output") || kind.ends_with("_response"));
            let part = Part::Opaque(item);
            if answers {
                messages.push(Message { parts: vec![part], ..Message::empty(Role::Tool) });
            } else {
                turn(messages).parts.push(part);
            }
            Ok(())
        }
    }
}

/// Whether an assistant's message holds something that could be taken for an item of its own.
fn is_odd(item: &Value) -> bool {
    let content = item.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    item["role"] == "assistant" && !content.iter().all(is_content)
}

/// Whether it stands in a message, not beside it.
pub(super) fn is_content(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    kind == "refusal" || kind.starts_with("output_") || kind.starts_with("input_")
}

/// The assistant's message that its next item belongs to.
fn turn(messages: &mut Vec<Message>) -> &mut Message {
    let at = match messages.last() {
        Some(last) if last.role == Role::Assistant => messages.len() - 1,
        _ => {
            messages.push(Message::empty(Role::Assistant));
            messages.len() - 1
        }
    };
    &mut messages[at]
}

fn decode_message(mut fields: Fields, messages: &mut Vec<Message>) -> Result<(), Error> {
    let role = decode_role(&mut fields)?;
    LABELS.iter().for_each(|label| drop(fields.map.shift_remove(*label)));
    let parts = decode_content(&mut fields, "content")?;
    let said = |part: &Part| match part {
        Part::Reasoning { .. } | Part::ToolCall(_) => false,
        Part::Opaque(value) => is_content(value),
        _ => true,
    };
    match messages.last_mut() {
        // Thoughts and calls before an assistant's words belong to the same turn.
        Some(last)
            if role == Role::Assistant
                && last.role == role
                && last.extra.is_empty()
                && !last.parts.iter().any(said) =>
        {
            last.parts.extend(parts);
            last.extra = fields.map;
        }
        _ => messages.push(Message { parts, extra: fields.map, ..Message::empty(role) }),
    }
    Ok(())
}

fn decode_role(fields: &mut Fields) -> Result<Role, Error> {
    let role: String = fields.required("role")?;
    match role.as_str() {
        "system" => Ok(Role::System),
        "developer" => Ok(Role::Developer),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        _ => Err(Error::at(fields.name("role"), "role must be one of system, developer, user, assistant")),
    }
}

fn decode_content(fields: &mut Fields, field: &str) -> Result<Vec<Part>, Error> {
    match fields.take::<Value>(field)? {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => Ok(parts.into_iter().map(decode_part).collect()),
        Some(_) => Err(Error::at(fields.name(field), format!("{field} must be a string or a list of parts"))),
    }
}

fn decode_part(part: Value) -> Part {
    decode_known_part(&part).unwrap_or(Part::Opaque(part))
}

fn decode_known_part(part: &Value) -> Option<Part> {
    let kind = part.get("type")?.as_str()?;
    let text = |field: &str| part.get(field).and_then(Value::as_str);
    let beside = |known: &[&str]| {
        let fields = part.as_object().into_iter().flatten();
        let unknown = fields.filter(|(field, value)| {
            *field != "type" && !value.is_null() && !known.contains(&field.as_str())
        });
        unknown.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>()
    };
    match kind {
        "input_text" | "output_text" => {
            let mut extra = beside(&["text"]);
            // An answer that is shown again has these, mostly empty.
            extra.retain(|field, value| {
                !matches!(field.as_str(), "annotations" | "logprobs") || !is_empty(value)
            });
            Some(Part::Text { text: text("text")?.to_owned(), extra })
        }
        "refusal" => Some(Part::Refusal(text("refusal")?.to_owned())),
        "input_image" => {
            let media = match (text("image_url"), text("file_id")) {
                (Some(url), None) => located(url)?,
                (None, Some(id)) => Media { source: MediaSource::Id(id.to_owned()), ..Media::at("") },
                _ => return None,
            };
            Some(Part::Image(Media { extra: beside(&["image_url", "file_id"]), ..media }))
        }
        "input_audio" => {
            let audio = part.get("input_audio")?;
            let source = MediaSource::Data(audio["data"].as_str()?.to_owned());
            let media_type = Some(format!("audio/{}", audio["format"].as_str()?));
            Some(Part::Audio(Media { source, media_type, name: None, extra: beside(&["input_audio"]) }))
        }
        "input_file" => {
            let media = match (text("file_data"), text("file_url"), text("file_id")) {
                (Some(data), None, None) if data.starts_with("data:") => located(data)?,
                (Some(data), None, None) => {
                    Media { source: MediaSource::Data(data.to_owned()), ..Media::at("") }
                }
                (None, Some(url), None) => located(url)?,
                (None, None, Some(id)) => Media { source: MediaSource::Id(id.to_owned()), ..Media::at("") },
                _ => return None,
            };
            let extra = beside(&["file_data", "file_url", "file_id", "filename"]);
            Some(Part::File(Media { name: text("filename").map(str::to_owned), extra, ..media }))
        }
        _ => None,
    }
}

/// What is at `url`, unless that is a `data:` URL that is not in base64.
fn located(url: &str) -> Option<Media> {
    let media = Media::at(url);
    let kept = matches!(&media.source, MediaSource::Url(url) if url.starts_with("data:"));
    (!kept).then_some(media)
}

fn decode_call(item: &Value, mut fields: Fields) -> Result<ToolCall, Error> {
    let signature = call_seal(item);
    LABELS.iter().for_each(|label| drop(fields.map.shift_remove(*label)));
    if signature.is_some() {
        fields.map.shift_remove("extra_content");
    }
    Ok(ToolCall {
        id: fields.required("call_id")?,
        name: fields.required("name")?,
        arguments: fields.required("arguments")?,
        signature,
        extra: fields.map,
    })
}

fn decode_result(mut fields: Fields) -> Result<Message, Error> {
    LABELS.iter().for_each(|label| drop(fields.map.shift_remove(*label)));
    Ok(Message {
        parts: decode_content(&mut fields, "output")?,
        tool_call_id: fields.take("call_id")?,
        tool_name: fields.take("name")?,
        extra: fields.map,
        ..Message::empty(Role::Tool)
    })
}

fn decode_thought(item: &Value) -> Part {
    let texts = ["summary", "content"].into_iter().filter_map(|field| item.get(field)?.as_array());
    let texts = texts.flatten().filter_map(|part| part.get("text")?.as_str());
    let text = texts.collect::<Vec<_>>().join("\n\n");
    let seal = item.get("encrypted_content").and_then(Value::as_str).filter(|seal| !seal.is_empty());
    let signature = seal.map(|seal| Signature::from_tagged(HERE, seal));
    Part::Reasoning { redacted: text.is_empty() && signature.is_some(), text, signature }
}
