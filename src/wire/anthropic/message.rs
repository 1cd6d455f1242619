//! Messages and their blocks, from JSON.

use super::{HERE, seal_in};
use crate::chat::{Media, MediaSource, Message, Part, Role, Signature, ToolCall};
use crate::wire::Error;
use crate::wire::json::{Fields, kind_of};
use serde_json::{Map, Value};

/// Where a message's fields beside its content are kept, if its first part is the result of a tool: that
/// one's `extra` holds the fields of the result.
pub(super) const OUTER: &str = "weir:beside";

/// The instructions in `system`: a text or a list of blocks.
pub(super) fn decode_system(system: Value) -> Result<Message, Error> {
    let blocks = blocks_of(system, "system")?;
    Ok(Message { parts: blocks.into_iter().map(decode_part).collect(), ..Message::empty(Role::System) })
}

/// One message here is several in the hub where it holds the results of tools.
pub(super) fn decode_message(at: usize, message: Value, into: &mut Vec<Message>) -> Result<(), Error> {
    let mut fields = Fields::of(message, &format!("messages[{at}]"))?;
    let role = decode_role(&mut fields)?;
    let content = fields.name("content");
    let blocks = blocks_of(fields.required("content")?, &content)?;
    let first = into.len();
    for (index, block) in blocks.into_iter().enumerate() {
        if role == Role::User && block["type"] == "tool_result" {
            into.push(decode_result(block, &format!("{content}[{index}]"))?);
            continue;
        }
        if into.len() == first || into.last().is_some_and(|message| message.role != role) {
            into.push(Message::empty(role));
        }
        if let Some(message) = into.last_mut() {
            add_part(message, block);
        }
    }
    if into.len() == first {
        into.push(Message::empty(role));
    }
    keep_beside(&mut into[first], fields.map);
    Ok(())
}

fn keep_beside(message: &mut Message, beside: Map<String, Value>) {
    match message.role {
        Role::Tool if !beside.is_empty() => {
            message.extra.insert(OUTER.to_owned(), Value::Object(beside));
        }
        Role::Tool => {}
        _ => message.extra = beside,
    }
}

fn decode_role(fields: &mut Fields) -> Result<Role, Error> {
    let role: String = fields.required("role")?;
    match role.as_str() {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        _ => Err(Error::at(fields.name("role"), "role must be one of user, assistant")),
    }
}

/// A content's blocks; a text is one.
fn blocks_of(content: Value, field: &str) -> Result<Vec<Value>, Error> {
    match content {
        Value::String(text) => Ok(vec![serde_json::json!({ "type": "text", "text": text })]),
        Value::Array(blocks) => match blocks.iter().position(|block| !block.is_object()) {
            None => Ok(blocks),
            Some(at) => {
                let field = format!("{field}[{at}]");
                let message = format!("`{field}` must be an object, not {}", kind_of(&blocks[at]));
                Err(Error::at(field, message))
            }
        },
        _ => Err(Error::at(field, format!("`{field}` must be a string or a list of blocks"))),
    }
}

fn decode_result(block: Value, path: &str) -> Result<Message, Error> {
    let mut fields = Fields::of(block, path)?;
    fields.map.shift_remove("type");
    let content = fields.name("content");
    let blocks = fields.take::<Value>("content")?.map(|value| blocks_of(value, &content));
    let parts = blocks.transpose()?.unwrap_or_default().into_iter().map(decode_part).collect();
    Ok(Message {
        parts,
        tool_call_id: Some(fields.required("tool_use_id")?),
        failed: fields.take("is_error")?.unwrap_or_default(),
        extra: without_nulls(&fields.map, &[]),
        ..Message::empty(Role::Tool)
    })
}

/// Adds a block; one that is the seal of a call is put where it belongs.
fn add_part(message: &mut Message, block: Value) {
    let seal = block.get("data").and_then(Value::as_str).filter(|_| block["type"] == "redacted_thinking");
    match (seal.and_then(seal_in), message.parts.last_mut()) {
        (Some(signature), Some(Part::ToolCall(call))) => call.signature = Some(signature),
        (Some(signature), _) => {
            let (text, signature) = (String::new(), Some(signature));
            message.parts.push(Part::Reasoning { text, signature, redacted: false });
        }
        (None, _) => message.parts.push(decode_part(block)),
    }
}

fn decode_part(block: Value) -> Part {
    block.as_object().and_then(known_part).unwrap_or(Part::Opaque(block))
}

fn known_part(block: &Map<String, Value>) -> Option<Part> {
    let text = |field: &str| block.get(field).and_then(Value::as_str).map(str::to_owned);
    match block.get("type")?.as_str()? {
        "text" => Some(Part::Text { text: text("text")?, extra: without_nulls(block, &["type", "text"]) }),
        "image" => {
            let extra = without_nulls(block, &["type", "source"]);
            Some(Part::Image(Media { extra, ..decode_source(block.get("source")?)? }))
        }
        "document" => {
            let (name, extra) = (text("title"), without_nulls(block, &["type", "source", "title"]));
            Some(Part::File(Media { name, extra, ..decode_source(block.get("source")?)? }))
        }
        "tool_use" => Some(Part::ToolCall(ToolCall {
            id: text("id")?,
            name: text("name")?,
            arguments: block.get("input").filter(|input| input.is_object())?.to_string(),
            signature: None,
            extra: without_nulls(block, &["type", "id", "name", "input"]),
        })),
        "thinking" if without_nulls(block, &["type", "thinking", "signature"]).is_empty() => {
            let seal = text("signature").filter(|seal| !seal.is_empty());
            Some(Part::Reasoning {
                text: text("thinking")?,
                signature: seal.map(|seal| Signature::from_tagged(HERE, &seal)),
                redacted: false,
            })
        }
        "redacted_thinking" if without_nulls(block, &["type", "data"]).is_empty() => {
            let signature = Some(Signature::from_tagged(HERE, &text("data")?));
            Some(Part::Reasoning { text: String::new(), signature, redacted: true })
        }
        _ => None,
    }
}

/// Where a picture or a document is. A source with more to it than we know is left as it is, with its block.
fn decode_source(source: &Value) -> Option<Media> {
    let source = source.as_object()?;
    let text = |field: &str| source.get(field).and_then(Value::as_str).map(str::to_owned);
    let (known, media): (&[&str], Media) = match source.get("type")?.as_str()? {
        "base64" => (&["media_type", "data"], here(MediaSource::Data(text("data")?), text("media_type"))),
        "text" => (&["media_type", "data"], here(MediaSource::Text(text("data")?), text("media_type"))),
        "url" => (&["url"], Media::at(&text("url")?)),
        "file" => (&["file_id"], here(MediaSource::Id(text("file_id")?), None)),
        _ => return None,
    };
    let unknown = source.keys().any(|field| field != "type" && !known.contains(&field.as_str()));
    (!unknown).then_some(media)
}

fn here(source: MediaSource, media_type: Option<String>) -> Media {
    Media { source, media_type, name: None, extra: Map::new() }
}

/// All fields but these; null means absent.
pub(super) fn without_nulls(fields: &Map<String, Value>, known: &[&str]) -> Map<String, Value> {
    let unknown = fields.iter().filter(|(field, value)| !known.contains(&field.as_str()) && !value.is_null());
    unknown.map(|(field, value)| (field.clone(), value.clone())).collect()
}
