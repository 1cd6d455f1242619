//! What one protocol says and another cannot: an error that names it, or a note that it was left behind.

use super::{Dropped, Error, gemini};
use crate::chat::{Part, Protocol, Request, Signature, Thinking, Tool};
use serde_json::Value;

/// The error for something that `protocol` cannot say.
pub(super) fn inexpressible(protocol: Protocol, field: impl Into<String>, what: &str) -> Error {
    let field = field.into();
    let message = format!("`{field}`: {what} cannot be said to an upstream that speaks {}", protocol.name());
    Error::at(field, message)
}

/// Whether `request` came in `protocol`, so that its opaque values and its `extra` fields are at home in it.
pub(super) fn at_home(request: &Request, protocol: Protocol) -> bool {
    request.received.protocol == protocol
}

/// Whether the conversation holds a seal that a provider of the request's own protocol would fail on, as it
/// comes from another provider. Then the request cannot go out as it came: the codec leaves that one behind.
pub fn has_foreign_seal(request: &Request) -> bool {
    let home = request.received.protocol;
    if !matches!(home, Protocol::Anthropic | Protocol::Gemini | Protocol::OpenAiResponses) {
        // A chat takes everybody's, and Ollama knows none.
        return false;
    }
    let foreign = |seal: &Option<Signature>| seal.as_ref().is_some_and(|seal| seal.by != home);
    request.messages.iter().flat_map(|message| &message.parts).any(|part| match part {
        // A thought has to be sealed there.
        Part::Reasoning { signature: None, .. } => home == Protocol::Anthropic,
        Part::Reasoning { signature, .. } => foreign(signature),
        Part::ToolCall(call) => foreign(&call.signature),
        Part::Text { extra, .. } => home == Protocol::Gemini && gemini::has_foreign_seal(extra),
        _ => false,
    })
}

/// Whether a request wants the model to think, and leaves it to the model how much.
pub(super) fn thinks_freely(thinking: &Thinking) -> bool {
    let Thinking { effort, budget, shown, extra } = thinking;
    let free = |(field, value): (&String, &Value)| match field.as_str() {
        // Anthropic's.
        "type" => value == "adaptive" || value == "enabled",
        // Gemini's.
        "thinkingBudget" => value.as_i64() == Some(-1),
        _ => false,
    };
    effort.is_none() && budget.is_none() && (*shown == Some(true) || extra.iter().any(free))
}

/// Notes the fields that nobody but the request's own protocol knows. They are left behind: a provider of
/// another protocol would refuse them, and no codec knows what they mean.
pub(super) fn leave_extra(request: &Request, dropped: &mut Dropped) {
    dropped.extend(request.extra.keys().cloned());
}

/// An opaque part, where it is at home.
pub(super) fn opaque_part(
    request: &Request,
    protocol: Protocol,
    message: usize,
    part: &Part,
) -> Result<Value, Error> {
    match part {
        Part::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        other => {
            let what = format!("a part of type `{}`", other.kind());
            Err(inexpressible(protocol, format!("messages[{message}]"), &what))
        }
    }
}

/// An opaque tool, where it is at home.
pub(super) fn opaque_tool(request: &Request, protocol: Protocol, at: usize) -> Result<Value, Error> {
    match &request.tools[at] {
        Tool::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        Tool::Opaque(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
            let what = format!("a tool of type `{kind}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
        Tool::Function { name, .. } => {
            let what = format!("the function `{name}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
    }
}
