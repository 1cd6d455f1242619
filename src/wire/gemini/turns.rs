//! Contents: messages to JSON. Neighbours that speak in the same role here become one content.

use super::{HERE, seal};
use crate::chat::{Media, MediaSource, Message, Part, Request, Role, Signature, ToolCall};
use crate::wire::foreign::{at_home, inexpressible, opaque_part};
use crate::wire::json::Body;
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// Where a file may lie that is named by its URL: with Google, or on YouTube.
const GOOGLES: [&str; 6] = [
    "https://generativelanguage.googleapis.com/",
    "gs://",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://m.youtube.com/",
    "https://youtu.be/",
];

/// What stands beside a function call or result in its part; anything else that nobody knows stands inside.
const BESIDE: [&str; 4] = ["videoMetadata", "mediaResolution", "partMetadata", "thought"];

/// In the names of models that want no call sealed, and were never told of [`seal::NONE`].
const OLDER: [&str; 3] = ["gemini-1", "gemini-2", "gemma"];

/// One turn.
struct Content {
    role: &'static str,
    /// Who spoke last in it.
    last: Role,
    parts: Vec<Value>,
    extra: Map<String, Value>,
}

impl Content {
    fn value(self) -> Value {
        let mut content = Body(self.extra);
        content.set("role", Some(self.role));
        content.set("parts", Some(self.parts));
        content.value()
    }
}

/// The `systemInstruction` and the `contents`.
pub(super) fn encode_messages(
    request: &Request,
    dropped: &mut Dropped,
) -> Result<(Option<Value>, Vec<Value>), Error> {
    let home = at_home(request, HERE);
    let mut instructions: Option<Body> = None;
    let mut said = Vec::new();
    let mut contents: Vec<Content> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        if matches!(message.role, Role::System | Role::Developer) {
            let extra = own_extra(request, at, dropped);
            instructions.get_or_insert_default().0.extend(extra);
            said.extend(encode_instructions(request, at, dropped)?);
            if !contents.is_empty() {
                dropped.push(format!("messages[{at}].position"));
            }
            continue;
        }
        let content = encode_content(request, at, dropped)?;
        match contents.last_mut().filter(|before| joins(before, &content, home)) {
            Some(before) => {
                before.parts.extend(content.parts);
                before.last = content.last;
            }
            // Google takes no turn in which nothing is said.
            None if content.parts.is_empty() && (!home || !message.parts.is_empty()) => {}
            None => contents.push(content),
        }
    }
    if contents.is_empty() {
        return Err(inexpressible(HERE, "messages", "a conversation in which nobody says anything"));
    }
    if said.is_empty() && !home {
        instructions = None;
    }
    if let Some(instructions) = &mut instructions {
        instructions.set("parts", Some(said));
    }
    Ok((instructions.map(Body::value), contents.into_iter().map(Content::value).collect()))
}

/// Whether two turns are one. Those of a client of ours stay as they are, unless they were one before.
fn joins(before: &Content, content: &Content, home: bool) -> bool {
    let apart = home && before.last == content.last && content.last != Role::Tool;
    before.role == content.role && !apart && content.extra.is_empty()
}

fn own_extra(request: &Request, at: usize, dropped: &mut Dropped) -> Map<String, Value> {
    let extra = &request.messages[at].extra;
    if at_home(request, HERE) {
        return extra.clone();
    }
    dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
    Map::new()
}

/// Instructions are words.
fn encode_instructions(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Vec<Value>, Error> {
    let parts = &request.messages[at].parts;
    match parts.iter().find(|part| part.as_text().is_none()).filter(|_| !at_home(request, HERE)) {
        Some(part) => {
            let what = format!("a part of type `{}` among the instructions", part.kind());
            Err(inexpressible(HERE, format!("messages[{at}]"), &what))
        }
        None => encode_parts(request, at, dropped),
    }
}

fn encode_content(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Content, Error> {
    let last = request.messages[at].role;
    let extra = own_extra(request, at, dropped);
    Ok(match last {
        Role::Tool => {
            let parts = vec![encode_result(request, at, &extra, dropped)?];
            Content { role: "user", last, parts, extra: Map::new() }
        }
        Role::Assistant => Content { role: "model", last, parts: encode_parts(request, at, dropped)?, extra },
        _ => Content { role: "user", last, parts: encode_parts(request, at, dropped)?, extra },
    })
}

fn encode_parts(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Vec<Value>, Error> {
    let mut parts = Vec::new();
    for part in &request.messages[at].parts {
        parts.extend(encode_part(request, at, part, dropped)?);
    }
    Ok(parts)
}

/// `None` where it says nothing.
fn encode_part(
    request: &Request,
    at: usize,
    part: &Part,
    dropped: &mut Dropped,
) -> Result<Option<Value>, Error> {
    let home = at_home(request, HERE);
    let mut body = Body::default();
    match part {
        Part::Text { text, extra } => {
            // Google refuses a text without words.
            if text.is_empty() && !home {
                return Ok(None);
            }
            beside(&mut body, extra, at, home, dropped);
            if seal::has_foreign_seal(&body.0) {
                body.0.shift_remove(seal::FIELD);
                dropped.push(format!("messages[{at}].signature"));
            }
            body.set("text", Some(text));
        }
        Part::Reasoning { text, signature, redacted: _ } => {
            let own = own_seal(signature.as_ref(), at, dropped);
            // The seal was all that there was.
            if text.is_empty() && own.is_none() && (signature.is_some() || !home) {
                return Ok(None);
            }
            body.set("text", Some(text));
            body.set("thought", Some(true));
            body.set("thoughtSignature", own);
        }
        Part::Image(media) | Part::Audio(media) | Part::File(media) => {
            beside(&mut body, &media.extra, at, home, dropped);
            encode_media(request, at, media, &mut body, dropped)?;
        }
        Part::Refusal(text) => body.set("text", Some(text)),
        Part::ToolCall(call) => encode_call(request, at, call, &mut body, dropped)?,
        Part::Opaque(_) => return opaque_part(request, HERE, at, part).map(Some),
    }
    Ok(Some(body.value()))
}

/// What nobody knows, where it is at home.
fn beside(body: &mut Body, extra: &Map<String, Value>, at: usize, home: bool, dropped: &mut Dropped) {
    if home {
        body.0.extend(extra.clone());
    } else {
        dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
    }
}

/// A seal is shown to its maker only: Google fails a request with one that it does not know.
fn own_seal<'a>(signature: Option<&'a Signature>, at: usize, dropped: &mut Dropped) -> Option<&'a str> {
    let signature = signature?;
    if signature.by != HERE {
        dropped.push(format!("messages[{at}].signature"));
        return None;
    }
    Some(&signature.data)
}

fn encode_media(
    request: &Request,
    at: usize,
    media: &Media,
    body: &mut Body,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let home = at_home(request, HERE);
    let Media { source, media_type, name, extra: _ } = media;
    let media_type = if home { media_type.as_deref() } else { media.registered_type() };
    let refused = |what: &str| Err(inexpressible(HERE, format!("messages[{at}]"), what));
    let mut inner = Body::default();
    let kind = match source {
        MediaSource::Text(text) => {
            body.set("text", Some(text));
            return Ok(());
        }
        MediaSource::Data(_) if media_type.is_none() && !home => {
            return refused("a file without a MIME type");
        }
        MediaSource::Url(url) if !home && !GOOGLES.iter().any(|place| url.starts_with(place)) => {
            return refused("a file that lies elsewhere, by its URL,");
        }
        MediaSource::Id(_) => return refused("a file by its id"),
        MediaSource::Data(data) => {
            inner.set("mimeType", media_type);
            inner.set("data", Some(data));
            "inlineData"
        }
        MediaSource::Url(url) => {
            inner.set("mimeType", media_type);
            inner.set("fileUri", Some(url));
            "fileData"
        }
    };
    match home {
        true => inner.set("displayName", name.as_ref()),
        // Some of Google's endpoints take no names.
        false => dropped.extend(name.as_ref().map(|_| format!("messages[{at}].filename"))),
    }
    body.set(kind, Some(inner.value()));
    Ok(())
}

fn encode_call(
    request: &Request,
    at: usize,
    call: &ToolCall,
    body: &mut Body,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let ToolCall { id, name, arguments, signature, extra } = call;
    let mut inner = Body::default();
    sort_extra(body, &mut inner, extra, at, at_home(request, HERE), dropped);
    inner.set("id", (!id.is_empty()).then_some(id));
    inner.set("name", Some(name));
    let Some(arguments) = arguments_object(arguments) else {
        let field = format!("messages[{at}].tool_calls");
        return Err(inexpressible(HERE, field, "a call whose arguments are no JSON object"));
    };
    inner.set("args", Some(arguments));
    body.set("functionCall", Some(inner.value()));
    let seal = own_seal(signature.as_ref(), at, dropped);
    body.set(seal::FIELD, seal.or_else(|| needs_seal(request, at, call).then_some(seal::NONE)));
    Ok(())
}

/// Newer models want the first call of a turn sealed. One that was made elsewhere has no seal of theirs.
fn needs_seal(request: &Request, at: usize, call: &ToolCall) -> bool {
    let same_turn = request.messages[..at].iter().rev().take_while(|before| before.role == Role::Assistant);
    let first = request.messages[at].tool_calls().next().is_some_and(|first| std::ptr::eq(first, call));
    let first = first && same_turn.flat_map(Message::tool_calls).next().is_none();
    first && !OLDER.iter().any(|older| request.model.contains(older))
}

/// Whether a call is not sealed that newer models want sealed.
pub(in crate::wire) fn lacks_seal(request: &Request) -> bool {
    let unsealed = |at: usize, call: &ToolCall| call.signature.is_none() && needs_seal(request, at, call);
    (0..request.messages.len()).any(|at| request.messages[at].tool_calls().any(|call| unsealed(at, call)))
}

/// The arguments of a call as the object that they are here. None at all are an empty one.
pub(super) fn arguments_object(arguments: &str) -> Option<Map<String, Value>> {
    match arguments.trim().is_empty() {
        true => Some(Map::new()),
        false => serde_json::from_str(arguments).ok(),
    }
}

fn sort_extra(
    body: &mut Body,
    inner: &mut Body,
    extra: &Map<String, Value>,
    at: usize,
    home: bool,
    dropped: &mut Dropped,
) {
    let sorted = |outer: bool| {
        let sorted = extra.iter().filter(move |(field, _)| BESIDE.contains(&field.as_str()) == outer);
        sorted.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>()
    };
    beside(body, &sorted(true), at, home, dropped);
    beside(inner, &sorted(false), at, home, dropped);
}

/// A result is an object here: words that are one are said as such, and others in a field of one.
fn encode_result(
    request: &Request,
    at: usize,
    extra: &Map<String, Value>,
    dropped: &mut Dropped,
) -> Result<Value, Error> {
    let Message { parts, tool_call_id, failed, .. } = &request.messages[at];
    let Some(name) = tool_name(request, at) else {
        let what = "the result of a call that is not in the conversation";
        return Err(inexpressible(HERE, format!("messages[{at}].tool_call_id"), what));
    };
    let text = request.messages[at].plain_text();
    let object = serde_json::from_str::<Map<String, Value>>(&text).ok();
    let response = match (object, failed) {
        (Some(object), false) => Value::Object(object),
        (Some(object), true) => json!({ "error": object }),
        (None, false) => json!({ "result": text }),
        (None, true) => json!({ "error": text }),
    };
    let mut shown = Vec::new();
    for part in parts {
        match part {
            Part::Text { extra, .. } => {
                dropped.extend(extra.keys().map(|field| format!("messages[{at}].{field}")));
            }
            other => shown.extend(encode_part(request, at, other, dropped)?),
        }
    }
    let (mut body, mut result) = (Body::default(), Body::default());
    sort_extra(&mut body, &mut result, extra, at, true, dropped);
    result.set("id", tool_call_id.as_ref().filter(|id| !id.is_empty()));
    result.set("name", Some(name));
    result.set("response", Some(response));
    result.set("parts", (!shown.is_empty()).then_some(shown));
    body.set("functionResponse", Some(result.value()));
    Ok(body.value())
}

/// The function that a result is of. Ids come again in long conversations, so the nearest call counts.
fn tool_name(request: &Request, at: usize) -> Option<&str> {
    let Message { tool_call_id, tool_name, .. } = &request.messages[at];
    let called = || {
        let id = tool_call_id.as_deref()?;
        let earlier = request.messages[..at].iter().rev();
        earlier.flat_map(Message::tool_calls).find(|call| call.id == id).map(|call| call.name.as_str())
    };
    tool_name.as_deref().or_else(called)
}
