//! Messages and their blocks, to JSON.

use super::message::{OUTER, without_nulls};
use super::{HERE, block::text_block};
use crate::chat::{Media, MediaSource, Message, Part, Request, Role, Signature, ToolCall};
use crate::wire::foreign::{at_home, inexpressible, opaque_part};
use crate::wire::json::Body;
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// What a user is made to say where the conversation does not begin with one.
const OPENING: &str = "(The conversation begins.)";

/// The beginnings of pictures in base64, for those that come without a type.
const PICTURES: [(&str, &str); 4] =
    [("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// The beginning of a PDF in base64.
const PDF: &str = "JVBERi";

/// The conversation as it is written here.
pub(super) struct Turns {
    /// The blocks of `system`.
    pub(super) system: Vec<Value>,
    /// The `messages`.
    pub(super) messages: Vec<Value>,
}

/// A message that others may still be put together with.
struct Turn {
    role: &'static str,
    /// The last message in it.
    last: Role,
    blocks: Vec<Value>,
    extra: Map<String, Value>,
}

/// Writes the conversation. Roles alternate and a user begins, unless the request came in this protocol: then
/// its messages stay as they were.
pub(super) fn encode_messages(request: &Request, dropped: &mut Dropped) -> Result<Turns, Error> {
    let home = at_home(request, HERE);
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn>::new());
    for (at, message) in request.messages.iter().enumerate() {
        let (blocks, extra) = encode_message(request, at, dropped)?;
        let instructs = matches!(message.role, Role::System | Role::Developer);
        if instructs && (turns.is_empty() || !home) {
            if !turns.is_empty() {
                dropped.push(format!("messages[{at}].position"));
            }
            system.extend(blocks);
            continue;
        }
        // A message that says nothing is refused.
        if blocks.is_empty() && (!home || !message.parts.is_empty()) {
            continue;
        }
        add_turn(&mut turns, home, message.role, blocks, extra);
    }
    if !home && turns.first().is_none_or(|turn| turn.role != "user") {
        dropped.push("messages[0].position".to_owned());
        let blocks = vec![text_block(OPENING)];
        turns.insert(0, Turn { role: "user", last: Role::User, blocks, extra: Map::new() });
    }
    Ok(Turns { system, messages: turns.into_iter().map(Turn::value).collect() })
}

fn add_turn(turns: &mut Vec<Turn>, home: bool, role: Role, blocks: Vec<Value>, extra: Map<String, Value>) {
    let name = match role {
        Role::Assistant => "assistant",
        Role::System | Role::Developer => "system",
        Role::User | Role::Tool => "user",
    };
    let together = |turn: &&mut Turn| {
        let one_decoded = (turn.last == Role::Tool || role == Role::Tool) && extra.is_empty();
        turn.role == name && (!home || one_decoded)
    };
    match turns.last_mut().filter(together) {
        // Results come first, or they are refused.
        Some(turn) if role == Role::Tool && !home => {
            let is_result = |block: &&Value| block["type"] == "tool_result";
            let results = turn.blocks.iter().take_while(is_result).count();
            turn.blocks.splice(results..results, blocks);
            turn.last = role;
        }
        Some(turn) => {
            turn.blocks.extend(blocks);
            turn.last = role;
        }
        None => turns.push(Turn { role: name, last: role, blocks, extra }),
    }
}

impl Turn {
    fn value(self) -> Value {
        let mut body = Body(self.extra);
        body.set("role", Some(self.role));
        body.set("content", Some(joined(self.blocks)));
        body.value()
    }
}

/// Plain words stand alone; anything else is a list.
pub(super) fn joined(mut blocks: Vec<Value>) -> Value {
    let plain = |block: &Value| {
        block["type"] == "text"
            && block["text"].is_string()
            && block.as_object().is_some_and(|block| block.len() == 2)
    };
    match blocks.as_slice() {
        [only] if plain(only) => blocks[0]["text"].take(),
        _ => Value::Array(blocks),
    }
}

/// The blocks of a message, and the fields beside them.
fn encode_message(
    request: &Request,
    at: usize,
    dropped: &mut Dropped,
) -> Result<(Vec<Value>, Map<String, Value>), Error> {
    let Message { role, parts, tool_call_id, tool_name: _, failed, extra } = &request.messages[at];
    let mut blocks = Vec::new();
    for part in parts {
        encode_part(request, at, part, &mut blocks, dropped)?;
    }
    let extra = beside(request, extra, &format!("messages[{at}]"), dropped);
    if *role != Role::Tool {
        return Ok((blocks, extra));
    }
    let id = tool_call_id.as_deref().ok_or_else(|| {
        inexpressible(HERE, format!("messages[{at}].tool_call_id"), "a result without the id of its call")
    })?;
    let outer = extra.get(OUTER).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut result = Body(without_nulls(&extra, &[OUTER]));
    result.set("type", Some("tool_result"));
    result.set("tool_use_id", Some(fit_id(request, id)));
    result.set("content", (!blocks.is_empty()).then(|| joined(blocks)));
    result.set("is_error", failed.then_some(true));
    Ok((vec![result.value()], outer))
}

/// Fields that only their own protocol knows.
fn beside(
    request: &Request,
    extra: &Map<String, Value>,
    path: &str,
    dropped: &mut Dropped,
) -> Map<String, Value> {
    if at_home(request, HERE) {
        return extra.clone();
    }
    dropped.extend(extra.keys().map(|field| format!("{path}.{field}")));
    Map::new()
}

fn encode_part(
    request: &Request,
    at: usize,
    part: &Part,
    blocks: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let home = at_home(request, HERE);
    let path = format!("messages[{at}]");
    let role = request.messages[at].role;
    if matches!(role, Role::System | Role::Developer) && !matches!(part, Part::Text { .. } | Part::Opaque(_))
    {
        return Err(inexpressible(HERE, path, &format!("instructions of type `{}`", part.kind())));
    }
    match part {
        // Blank words are refused. Empty ones say nothing; for others it is noted.
        Part::Text { text, .. } if !home && text.trim().is_empty() => {
            if !text.is_empty() {
                dropped.push(format!("{path}.content"));
            }
        }
        Part::Text { text, extra } => {
            let mut body = Body(beside(request, extra, &path, dropped));
            body.set("type", Some("text"));
            body.set("text", Some(text));
            blocks.push(body.value());
        }
        Part::Image(media) => blocks.push(encode_media(request, &path, "image", media, dropped)?),
        Part::File(media) => {
            let kind = media.media_type.as_deref().unwrap_or_default();
            let kind = if !home && kind.starts_with("image/") { "image" } else { "document" };
            blocks.push(encode_media(request, &path, kind, media, dropped)?);
        }
        Part::Audio(_) => return Err(inexpressible(HERE, path, "audio")),
        Part::Reasoning { text, signature, redacted } => {
            match signature.as_ref().filter(|seal| seal.by == HERE) {
                Some(seal) => blocks.push(thought_block(text, seal, *redacted)),
                // A thought that it did not seal is refused.
                None => dropped.push(format!("{path}.reasoning")),
            }
        }
        Part::Refusal(text) => blocks.push(text_block(text)),
        Part::ToolCall(call) => blocks.push(encode_call(request, &path, call, dropped)?),
        Part::Opaque(_) => blocks.push(opaque_part(request, HERE, at, part)?),
    }
    Ok(())
}

fn thought_block(text: &str, seal: &Signature, redacted: bool) -> Value {
    match redacted {
        true => json!({ "type": "redacted_thinking", "data": seal.data }),
        false => json!({ "type": "thinking", "thinking": text, "signature": seal.data }),
    }
}

fn encode_call(
    request: &Request,
    path: &str,
    call: &ToolCall,
    dropped: &mut Dropped,
) -> Result<Value, Error> {
    let ToolCall { id, name, arguments, signature, extra } = call;
    if signature.is_some() {
        dropped.push(format!("{path}.signature"));
    }
    let input = match arguments.trim() {
        "" => Ok(Map::new()),
        text => serde_json::from_str(text),
    };
    let input: Map<String, Value> = input.map_err(|_| {
        inexpressible(HERE, format!("{path}.tool_calls"), "a call whose arguments are not a JSON object")
    })?;
    let mut body = Body(beside(request, extra, path, dropped));
    body.set("type", Some("tool_use"));
    body.set("id", Some(fit_id(request, id)));
    body.set("name", Some(name));
    body.set("input", Some(input));
    Ok(body.value())
}

/// An id of a call: others allow characters that are refused here.
fn fit_id(request: &Request, id: &str) -> String {
    if at_home(request, HERE) {
        return id.to_owned();
    }
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let id: String = id.chars().map(fit).collect();
    if id.is_empty() { "call".to_owned() } else { id }
}

fn encode_media(
    request: &Request,
    path: &str,
    kind: &str,
    media: &Media,
    dropped: &mut Dropped,
) -> Result<Value, Error> {
    let home = at_home(request, HERE);
    let source = encode_source(home, kind, media).ok_or_else(|| {
        let what = media.media_type.as_deref().unwrap_or("unknown");
        inexpressible(HERE, path, &format!("this {kind} (of type `{what}`, or by its maker's id)"))
    })?;
    let mut body = Body(beside(request, &media.extra, path, dropped));
    body.set("type", Some(kind));
    body.set("source", Some(source));
    body.set("title", media.name.as_ref().filter(|_| kind == "document"));
    Ok(body.value())
}

/// Where it is; `None` if that cannot be said. An id means something only to whoever gave it out.
fn encode_source(home: bool, kind: &str, media: &Media) -> Option<Value> {
    let named = if home { media.media_type.as_deref() } else { media.registered_type() };
    match &media.source {
        MediaSource::Url(url) => Some(json!({ "type": "url", "url": url })),
        MediaSource::Id(id) => home.then(|| json!({ "type": "file", "file_id": id })),
        MediaSource::Text(text) => {
            Some(json!({ "type": "text", "media_type": named.unwrap_or("text/plain"), "data": text }))
        }
        MediaSource::Data(data) => {
            let media_type =
                named.or_else(|| recognised(kind, data)).filter(|name| home || taken(kind, name))?;
            Some(json!({ "type": "base64", "media_type": media_type, "data": data }))
        }
    }
}

fn taken(kind: &str, media_type: &str) -> bool {
    match kind {
        "image" => PICTURES.iter().any(|(_, taken)| *taken == media_type),
        _ => media_type == "application/pdf",
    }
}

fn recognised(kind: &str, data: &str) -> Option<&'static str> {
    let picture = PICTURES.iter().find(|(start, _)| kind == "image" && data.starts_with(start));
    let pdf = (kind == "document" && data.starts_with(PDF)).then_some("application/pdf");
    picture.map(|(_, media_type)| *media_type).or(pdf)
}
