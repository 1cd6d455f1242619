//! Messages.

use super::CHAT;
use crate::chat::{Media, MediaSource, Message, Part, Request, Role, ToolCall};
use crate::wire::foreign::{at_home, inexpressible, opaque_part};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The calls of a conversation. Ids are optional here, and everywhere else they are not.
pub(super) struct Calls {
    /// The ids that the client gave.
    given: HashSet<String>,
    /// How many ids were made.
    made: u32,
    /// Ids and names of the calls whose results did not come yet.
    open: Vec<(String, String)>,
}

impl Calls {
    /// The calls that there will be in `messages`.
    pub(super) fn of(messages: &[Value]) -> Self {
        let calls = messages.iter().filter_map(|message| message.get("tool_calls")?.as_array()).flatten();
        let given = calls.filter_map(given_id).map(str::to_owned).collect();
        Self { given, made: 0, open: Vec::new() }
    }

    /// An id that no other call of the conversation has.
    fn new_id(&mut self) -> String {
        loop {
            let id = format!("call_{}", self.made);
            self.made += 1;
            if !self.given.contains(&id) {
                return id;
            }
        }
    }

    fn call(&mut self, name: &str, given: Option<&str>) -> String {
        let id = given.map_or_else(|| self.new_id(), str::to_owned);
        self.open.push((id.clone(), name.to_owned()));
        id
    }

    /// The call that a result belongs to: by id, or else the oldest open one of that name; without a name the
    /// oldest of all.
    fn answered(&mut self, id: Option<String>, name: Option<&str>) -> Option<String> {
        let at = self.open.iter().position(|(open, called)| match &id {
            Some(id) => id == open,
            None => name.is_none_or(|name| name == called),
        });
        let known = at.map(|at| self.open.remove(at).0);
        id.or(known)
    }
}

fn given_id(call: &Value) -> Option<&str> {
    call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// One message.
pub(super) fn decode_message(at: usize, message: Value, calls: &mut Calls) -> Result<Message, Error> {
    let mut fields = Fields::of(message, &format!("messages[{at}]"))?;
    let role = match fields.required::<String>("role")?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => {
            let message = "role must be one of system, user, assistant, tool";
            return Err(Error::at(fields.name("role"), message));
        }
    };
    let mut parts = Vec::new();
    let thought: Option<String> = fields.take("thinking")?;
    let thought = thought.filter(|text| !text.is_empty());
    parts.extend(thought.map(|text| Part::Reasoning { text, signature: None, redacted: false }));
    let content: Option<String> = fields.take("content")?;
    parts.extend(content.filter(|text| !text.is_empty()).map(Part::text));
    parts.extend(images(&mut fields)?);
    let made: Vec<Value> = fields.take("tool_calls")?.unwrap_or_default();
    for call in made {
        parts.push(decode_call(&fields, &call, calls)?);
    }
    let tool_name: Option<String> = fields.take("tool_name")?;
    let mut tool_call_id: Option<String> = fields.take("tool_call_id")?;
    if role == Role::Tool {
        tool_call_id = calls.answered(tool_call_id, tool_name.as_deref());
    }
    Ok(Message { parts, tool_call_id, tool_name, extra: fields.map, ..Message::empty(role) })
}

fn decode_call(fields: &Fields, call: &Value, calls: &mut Calls) -> Result<Part, Error> {
    let function = call.get("function").unwrap_or(&Value::Null);
    let (name, arguments) = (function.get("name").and_then(Value::as_str), function.get("arguments"));
    let Some(name) = name else {
        return Err(Error::at(fields.name("tool_calls"), "a tool call needs function.name, a string"));
    };
    let arguments = match arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        // Some clients write them as text, as elsewhere.
        Some(Value::String(text)) => text.clone(),
        Some(object) => object.to_string(),
    };
    let id = calls.call(name, given_id(call));
    Ok(Part::ToolCall(ToolCall { id, name: name.to_owned(), arguments, ..ToolCall::default() }))
}

/// The pictures beside a text, in base64.
pub(super) fn images(fields: &mut Fields) -> Result<Vec<Part>, Error> {
    let images: Vec<String> = fields.take("images")?.unwrap_or_default();
    let picture = |data: String| {
        let media_type = Some(sniffed(&data).to_owned());
        Part::Image(Media { source: MediaSource::Data(data), media_type, name: None, extra: Map::new() })
    };
    Ok(images.into_iter().map(picture).collect())
}

/// The type of a picture by how its base64 begins; Ollama does not say it, and others want to know.
fn sniffed(base64: &str) -> &'static str {
    match base64 {
        data if data.starts_with("/9j/") => "image/jpeg",
        data if data.starts_with("R0lGOD") => "image/gif",
        data if data.starts_with("UklGR") => "image/webp",
        _ => "image/png",
    }
}

pub(super) fn encode_message(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Value, Error> {
    let Message { role, parts, tool_call_id, tool_name, failed, extra } = &request.messages[at];
    let home = request.received.protocol == CHAT || at_home(request, super::GENERATE);
    let mut body = Body::default();
    if home {
        body.0.clone_from(extra);
    } else {
        dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
    }
    if *failed {
        dropped.push(format!("messages[{at}].is_error"));
    }
    let role_name = match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    body.set("role", Some(role_name));
    let said = Said::of(request, at, parts, dropped)?;
    body.set("content", Some(said.words.join("\n")));
    body.set("thinking", (!said.thoughts.is_empty()).then_some(said.thoughts));
    body.set("images", (!said.images.is_empty()).then_some(said.images));
    body.set("tool_calls", (!said.calls.is_empty()).then_some(said.calls));
    if *role == Role::Tool {
        let called = || name_of(request, at, tool_call_id.as_deref()?);
        body.set("tool_name", tool_name.clone().or_else(called));
        body.set("tool_call_id", tool_call_id.as_ref());
    }
    Ok(body.value())
}

/// The name of the tool that was called under this id before.
fn name_of(request: &Request, before: usize, id: &str) -> Option<String> {
    let mut calls = request.messages[..before].iter().rev().flat_map(Message::tool_calls);
    calls.find(|call| call.id == id).map(|call| call.name.clone())
}

/// What a message says, sorted by where Ollama wants it.
#[derive(Default)]
struct Said {
    words: Vec<String>,
    thoughts: String,
    images: Vec<String>,
    calls: Vec<Value>,
}

impl Said {
    fn of(request: &Request, at: usize, parts: &[Part], dropped: &mut Dropped) -> Result<Self, Error> {
        let mut said = Self::default();
        for part in parts {
            said.take(request, at, part, dropped)?;
        }
        Ok(said)
    }

    fn take(
        &mut self,
        request: &Request,
        at: usize,
        part: &Part,
        dropped: &mut Dropped,
    ) -> Result<(), Error> {
        let field = || format!("messages[{at}]");
        match part {
            Part::Text { text, extra } => {
                dropped.extend(extra.keys().map(|field| format!("messages[{at}].content.{field}")));
                self.words.push(text.clone());
            }
            Part::Refusal(text) | Part::File(Media { source: MediaSource::Text(text), .. }) => {
                self.words.push(text.clone());
            }
            Part::Reasoning { text, signature, redacted: _ } => {
                dropped.extend(signature.as_ref().map(|_| format!("messages[{at}].signature")));
                self.thoughts.push_str(text);
            }
            Part::Image(Media { source: MediaSource::Data(data), .. }) => self.images.push(data.clone()),
            Part::Image(_) => {
                return Err(inexpressible(CHAT, field(), "an image that is not in the request"));
            }
            Part::File(_) => return Err(inexpressible(CHAT, field(), "a file that is no text")),
            Part::Audio(_) => return Err(inexpressible(CHAT, field(), "audio")),
            Part::ToolCall(call) => self.calls.push(encode_call(at, call, self.calls.len())?),
            Part::Opaque(_) => drop(opaque_part(request, CHAT, at, part)?),
        }
        Ok(())
    }
}

fn encode_call(at: usize, call: &ToolCall, index: usize) -> Result<Value, Error> {
    let arguments: Option<Map<String, Value>> = match call.arguments.trim() {
        "" => Some(Map::new()),
        text => serde_json::from_str(text).ok(),
    };
    let arguments = arguments.ok_or_else(|| {
        let what = format!("arguments of `{}` that are no JSON object", call.name);
        inexpressible(CHAT, format!("messages[{at}].tool_calls"), &what)
    })?;
    Ok(json!({ "id": call.id, "function": { "index": index, "name": call.name, "arguments": arguments } }))
}
