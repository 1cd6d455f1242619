//! Contents: JSON to messages. The result of a tool call is a message of its own.

use super::fields::{get, required, take, take_list, take_object};
use super::seal;
use crate::chat::{Media, MediaSource, Message, Part, Role, ToolCall};
use crate::wire::Error;
use crate::wire::json::Fields;
use serde_json::{Map, Value};

/// What a part may hold that there is a word for.
const KNOWN: [&str; 5] = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];

/// What may stand beside it.
const SEAL: &str = seal::FIELD;

/// The calls of a conversation. Ids are optional here, and everywhere else they are not.
#[derive(Default)]
struct Calls {
    /// How many ids were made.
    made: u32,
    /// Names and ids of the calls whose results did not come yet.
    open: Vec<(String, String)>,
}

impl Calls {
    fn new_id(&mut self) -> String {
        self.made += 1;
        format!("call_{}", self.made - 1)
    }

    fn call(&mut self, name: &str, id: Option<String>) -> String {
        let id = id.unwrap_or_else(|| self.new_id());
        self.open.push((name.to_owned(), id.clone()));
        id
    }

    /// The call that a result belongs to: by id, or else the oldest open one of that name.
    fn answered(&mut self, name: &str, id: Option<String>) -> String {
        let at = match &id {
            Some(id) => self.open.iter().position(|(_, open)| open == id),
            None => self.open.iter().position(|(open, _)| open == name),
        };
        let known = at.map(|at| self.open.remove(at).1);
        id.or(known).unwrap_or_else(|| self.new_id())
    }
}

/// One part of a content.
enum Said {
    Part(Part),
    /// The result of a call.
    Result(Message),
}

/// The `systemInstruction`.
pub(super) fn decode_instructions(mut fields: Fields) -> Result<Message, Error> {
    // It says `system` or `user` or nothing; all mean the same.
    fields.map.shift_remove("role");
    let mut messages = decode_parts(fields, Role::System, &mut Calls::default())?;
    match messages.iter().all(|message| message.role == Role::System) {
        true => Ok(messages.remove(0)),
        false => {
            Err(Error::at("systemInstruction", "`systemInstruction` must not hold results of functions"))
        }
    }
}

/// The `contents`.
pub(super) fn decode_contents(contents: Vec<Value>) -> Result<Vec<Message>, Error> {
    let mut calls = Calls::default();
    let mut messages = Vec::new();
    for (at, content) in contents.into_iter().enumerate() {
        let mut fields = Fields::of(content, &format!("contents[{at}]"))?;
        let role: Option<String> = take(&mut fields, "role")?;
        let role = match role.as_deref() {
            None | Some("" | "user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some(_) => {
                return Err(Error::at(fields.name("role"), "role must be one of user, model, function"));
            }
        };
        messages.extend(decode_parts(fields, role, &mut calls)?);
    }
    Ok(messages)
}

/// At least one message: what its parts say, and each result on its own.
fn decode_parts(mut fields: Fields, role: Role, calls: &mut Calls) -> Result<Vec<Message>, Error> {
    let name = fields.name("parts");
    let mut messages: Vec<Message> = Vec::new();
    for (at, part) in take_list(&mut fields, "parts")?.into_iter().enumerate() {
        match decode_part(part, &format!("{name}[{at}]"), calls)? {
            Said::Result(message) => messages.push(message),
            Said::Part(part) => match messages.last_mut().filter(|message| message.role == role) {
                Some(message) => message.parts.push(part),
                None => messages.push(Message { parts: vec![part], ..Message::empty(role) }),
            },
        }
    }
    if messages.is_empty() {
        messages.push(Message::empty(role));
    }
    messages[0].extra.extend(fields.map);
    Ok(messages)
}

fn decode_part(part: Value, path: &str, calls: &mut Calls) -> Result<Said, Error> {
    let kind = part.as_object().and_then(|part| KNOWN.into_iter().find(|kind| get(part, kind).is_some()));
    match kind {
        Some("text") => decode_text(part, path),
        Some("functionCall") => decode_call(Fields::of(part, path)?, calls),
        Some("functionResponse") => decode_result(Fields::of(part, path)?, calls),
        Some(media) => decode_media(Fields::of(part, path)?, media),
        // A seal without anything else closes the text before it.
        None if part.as_object().is_some_and(|part| part.len() == 1 && get(part, SEAL).is_some()) => {
            decode_text(part, path)
        }
        None if part.is_object() => Ok(Said::Part(Part::Opaque(part))),
        None => Err(Fields::of(part, path).err().unwrap_or_else(|| Error::at(path, "it is no part"))),
    }
}

/// Words: an answer's, which keep their seal beside them, or a thought's.
fn decode_text(part: Value, path: &str) -> Result<Said, Error> {
    let beside = |field: &str| !matches!(field, "text" | "thought" | SEAL | "thought_signature");
    let strange = part.as_object().is_some_and(|part| part.keys().any(|field| beside(field)));
    if strange && part.get("thought").and_then(Value::as_bool) == Some(true) {
        // A thought has no place for more.
        return Ok(Said::Part(Part::Opaque(part)));
    }
    let mut fields = Fields::of(part, path)?;
    let text: String = take(&mut fields, "text")?.unwrap_or_default();
    let thought: Option<bool> = take(&mut fields, "thought")?;
    let written: Option<String> = take(&mut fields, SEAL)?;
    if thought == Some(true) {
        let sealed = written.as_deref().map(seal::read);
        let redacted = sealed.as_ref().is_some_and(|(_, redacted)| *redacted);
        let signature = sealed.map(|(signature, _)| signature);
        return Ok(Said::Part(Part::Reasoning { text, signature, redacted }));
    }
    fields.map.extend(written.map(|written| (SEAL.to_owned(), Value::String(written))));
    Ok(Said::Part(Part::Text { text, extra: fields.map }))
}

fn decode_media(mut fields: Fields, kind: &str) -> Result<Said, Error> {
    let Some(mut inner) = take_object(&mut fields, kind)? else {
        return Ok(Said::Part(Part::Opaque(Value::Object(fields.map))));
    };
    let media_type: Option<String> = take(&mut inner, "mimeType")?;
    let source = match kind {
        "inlineData" => MediaSource::Data(required(&mut inner, "data")?),
        _ => Media::at(&required::<String>(&mut inner, "fileUri")?).source,
    };
    let name = take(&mut inner, "displayName")?;
    let mut extra = fields.map;
    extra.extend(inner.map);
    let family = media_type.as_deref().and_then(|kind| kind.split_once('/')).map(|(family, _)| family);
    let part = match family {
        Some("image") => Part::Image,
        Some("audio") => Part::Audio,
        _ => Part::File,
    };
    Ok(Said::Part(part(Media { source, media_type, name, extra })))
}

fn decode_call(mut fields: Fields, calls: &mut Calls) -> Result<Said, Error> {
    let signature: Option<String> = take(&mut fields, SEAL)?;
    let Some(mut call) = take_object(&mut fields, "functionCall")? else {
        return Ok(Said::Part(Part::Opaque(Value::Object(fields.map))));
    };
    let name: String = required(&mut call, "name")?;
    let id = take::<String>(&mut call, "id")?.filter(|id| !id.is_empty());
    let arguments: Map<String, Value> = take(&mut call, "args")?.unwrap_or_default();
    let mut extra = call.map;
    extra.extend(fields.map);
    Ok(Said::Part(Part::ToolCall(ToolCall {
        id: calls.call(&name, id),
        name,
        arguments: Value::Object(arguments).to_string(),
        signature: signature.map(|written| seal::read(&written).0),
        extra,
    })))
}

fn decode_result(mut fields: Fields, calls: &mut Calls) -> Result<Said, Error> {
    let Some(mut result) = take_object(&mut fields, "functionResponse")? else {
        return Ok(Said::Part(Part::Opaque(Value::Object(fields.map))));
    };
    let name: String = required(&mut result, "name")?;
    let id = take::<String>(&mut result, "id")?.filter(|id| !id.is_empty());
    let response: Map<String, Value> = take(&mut result, "response")?.unwrap_or_default();
    let (text, failed) = result_text(response);
    let mut parts = vec![Part::text(text)];
    let inner = result.name("parts");
    for (at, part) in take_list(&mut result, "parts")?.into_iter().enumerate() {
        match decode_part(part, &format!("{inner}[{at}]"), calls)? {
            Said::Part(part) => parts.push(part),
            Said::Result(_) => return Err(Error::at(inner, "a result must not hold another one")),
        }
    }
    let mut extra = result.map;
    extra.extend(fields.map);
    let tool_call_id = Some(calls.answered(&name, id));
    Ok(Said::Result(Message {
        parts,
        tool_call_id,
        tool_name: Some(name),
        failed,
        extra,
        ..Message::empty(Role::Tool)
    }))
}

/// The words of a result, and whether they tell of a failure. `{"result": "…"}` and `{"error": …}` are what
/// [`turns`](super::turns) makes of words; any other object is said as JSON.
fn result_text(response: Map<String, Value>) -> (String, bool) {
    let only = if response.len() == 1 { response.iter().next() } else { None };
    match only.map(|(field, value)| (field.as_str(), value)) {
        Some(("result", Value::String(text))) => (text.clone(), false),
        Some(("error", Value::String(text))) => (text.clone(), true),
        Some(("error", error @ Value::Object(_))) => (error.to_string(), true),
        _ => (Value::Object(response).to_string(), false),
    }
}
