//! What one protocol says and another cannot: an error that names it, or a note that it was left behind.

use super::{Dropped, Error};
use crate::chat::{Part, Protocol, Request, Tool};
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
