//! Requests: JSON to [`Request`] and back, without loss.

use super::HERE;
use super::config::{decode_config, encode_config};
use super::fields::{take, take_list, take_object};
use super::message::{decode_contents, decode_instructions};
use super::path::bare;
use super::tools::{decode_tool_config, decode_tools, encode_tool_config, encode_tools};
use super::turns::encode_messages;
use crate::chat::{Delivery, Request};
use crate::wire::foreign::{at_home, leave_extra};
use crate::wire::json::{Body, Fields, checked_model};
use crate::wire::{Dropped, Error, Target};
use serde_json::{Map, Value};

/// Where the fields inside of these objects are kept that no codec knows.
pub(super) const CONFIG: &str = "generationConfig";
/// The same.
pub(super) const TOOL_CONFIG: &str = "toolConfig";

/// Understands a request's body; `target` names the model and the delivery, as the path does.
pub fn decode_request(body: &[u8], target: &Target) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let named: Option<String> = take(&mut fields, "model")?;
    let model = target.model.clone().or(named).unwrap_or_default();
    let mut messages = Vec::new();
    messages.extend(take_object(&mut fields, "systemInstruction")?.map(decode_instructions).transpose()?);
    let contents = take_list(&mut fields, "contents")?;
    if contents.is_empty() {
        return Err(Error::at("contents", "`contents` must not be empty"));
    }
    messages.extend(decode_contents(contents)?);
    let mut request = Request {
        model: checked_model(bare(&model).to_owned())?,
        messages,
        tools: decode_tools(take_list(&mut fields, "tools")?)?,
        delivery: Delivery { stream: target.stream.unwrap_or_default(), ..Delivery::default() },
        ..Request::default()
    };
    if let Some(mut config) = take_object(&mut fields, TOOL_CONFIG)? {
        request.tool_choice = decode_tool_config(&mut config)?;
        keep(&mut request.extra, TOOL_CONFIG, config);
    }
    if let Some(mut config) = take_object(&mut fields, CONFIG)? {
        decode_config(&mut config, &mut request)?;
        keep(&mut request.extra, CONFIG, config);
    }
    request.extra.extend(fields.map);
    Ok(request)
}

/// Understands the body of `:countTokens`: a request, or one with its instructions and tools in an object of its
/// own.
pub fn decode_count_request(body: &[u8], model: String) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let whole = take::<Value>(&mut fields, "generateContentRequest")?;
    let target = Target { model: Some(model), ..Target::default() };
    match whole {
        Some(whole) => decode_request(whole.to_string().as_bytes(), &target),
        None => decode_request(body, &target),
    }
}

fn keep(extra: &mut Map<String, Value>, field: &str, unknown: Fields) {
    if !unknown.map.is_empty() {
        extra.insert(field.to_owned(), Value::Object(unknown.map));
    }
}

/// Writes a request's body. Decoding it again gives the same request; the model and the delivery are said by
/// its [`path()`](super::path()).
pub fn encode_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let Request {
        model: _,
        messages: _,
        tools: _,
        tool_choice: _,
        parallel_tools,
        response_format: _,
        thinking: _,
        sampling: _,
        delivery,
        extra,
        received: _,
    } = request;
    let mut body = Body::default();
    if at_home(request, HERE) {
        body.0.clone_from(extra);
    } else {
        leave_extra(request, HERE, dropped)?;
    }
    // A stream always counts tokens here.
    let options = delivery.options.keys().filter(|option| *option != "include_usage");
    dropped.extend(options.map(|option| format!("stream_options.{option}")));
    if parallel_tools.is_some() {
        dropped.push("parallel_tools".to_owned());
    }
    let (instructions, contents) = encode_messages(request, dropped)?;
    body.set("systemInstruction", instructions);
    body.set("contents", Some(contents));
    let tools = encode_tools(request, dropped)?;
    body.set("tools", (!tools.is_empty()).then_some(tools));
    merge(&mut body, TOOL_CONFIG, encode_tool_config(request)?);
    merge(&mut body, CONFIG, encode_config(request, dropped)?);
    Ok(body.0)
}

/// Sets fields of an object that may hold others already, which no codec knows.
fn merge(body: &mut Body, field: &str, known: Map<String, Value>) {
    match body.0.get_mut(field) {
        Some(Value::Object(unknown)) => unknown.extend(known),
        _ if known.is_empty() => {}
        _ => body.set(field, Some(known)),
    }
}
