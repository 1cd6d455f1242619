//! Tools, and which of them are to be called.

use super::HERE;
use super::fields::{required, take, take_list};
use super::schema::json_schema;
use crate::chat::{Request, Tool, ToolChoice};
use crate::wire::foreign::{at_home, inexpressible, opaque_tool};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// The functions of all tools, one after the other; what else is in a tool stays as it is.
pub(super) fn decode_tools(tools: Vec<Value>) -> Result<Vec<Tool>, Error> {
    let mut decoded = Vec::new();
    for (at, tool) in tools.into_iter().enumerate() {
        let mut fields = Fields::of(tool, &format!("tools[{at}]"))?;
        let name = fields.name("functionDeclarations");
        for (of, function) in take_list(&mut fields, "functionDeclarations")?.into_iter().enumerate() {
            decoded.push(decode_function(Fields::of(function, &format!("{name}[{of}]"))?)?);
        }
        if !fields.map.is_empty() {
            decoded.push(Tool::Opaque(Value::Object(fields.map)));
        }
    }
    Ok(decoded)
}

fn decode_function(mut fields: Fields) -> Result<Tool, Error> {
    let subset: Option<Value> = take(&mut fields, "parameters")?;
    let schema: Option<Value> = take(&mut fields, "parametersJsonSchema")?;
    Ok(Tool::Function {
        name: required(&mut fields, "name")?,
        description: take(&mut fields, "description")?,
        parameters: schema.or(subset.map(json_schema)),
        strict: None,
        extra: fields.map,
    })
}

/// Neighbouring functions share one tool.
pub(super) fn encode_tools(request: &Request, dropped: &mut Dropped) -> Result<Vec<Value>, Error> {
    let mut tools: Vec<Value> = Vec::new();
    let mut functions: Vec<Value> = Vec::new();
    for (at, tool) in request.tools.iter().enumerate() {
        if let Some(function) = encode_function(request, at, tool, dropped) {
            functions.push(function);
        } else {
            tools.extend(declared(&mut functions));
            tools.push(opaque_tool(request, HERE, at)?);
        }
    }
    tools.extend(declared(&mut functions));
    Ok(tools)
}

fn declared(functions: &mut Vec<Value>) -> Option<Value> {
    let functions = std::mem::take(functions);
    (!functions.is_empty()).then(|| json!({ "functionDeclarations": functions }))
}

fn encode_function(request: &Request, at: usize, tool: &Tool, dropped: &mut Dropped) -> Option<Value> {
    let Tool::Function { name, description, parameters, strict, extra } = tool else { return None };
    let mut function = Body::default();
    if at_home(request, HERE) {
        function.0.clone_from(extra);
    } else {
        dropped.extend(extra.keys().map(|field| format!("tools[{at}].{field}")));
    }
    if strict.is_some() {
        dropped.push(format!("tools[{at}].strict"));
    }
    function.set("name", Some(name));
    function.set("description", description.as_ref());
    // `parameters` takes a few keywords only, and fails at the others.
    function.set("parametersJsonSchema", parameters.as_ref());
    Some(function.value())
}

/// The choice in a `toolConfig`, taken out.
pub(super) fn decode_tool_config(config: &mut Fields) -> Result<Option<ToolChoice>, Error> {
    let Some(choice) = take::<Value>(config, "functionCallingConfig")? else { return Ok(None) };
    let whole = choice.clone();
    let mut fields = Fields::of(choice, &config.name("functionCallingConfig"))?;
    let mode: Option<String> = take(&mut fields, "mode")?;
    let mut names: Vec<String> = take(&mut fields, "allowedFunctionNames")?.unwrap_or_default();
    let known = match (mode.as_deref(), names.len()) {
        (Some("AUTO"), 0) => ToolChoice::Auto,
        (Some("NONE"), 0) => ToolChoice::None,
        (Some("ANY"), 0) => ToolChoice::Required,
        (Some("ANY"), 1) => names.pop().map_or(ToolChoice::Required, ToolChoice::Function),
        _ => return Ok(Some(ToolChoice::Opaque(whole))),
    };
    Ok(Some(if fields.map.is_empty() { known } else { ToolChoice::Opaque(whole) }))
}

/// The fields of a `toolConfig`.
pub(super) fn encode_tool_config(request: &Request) -> Result<Map<String, Value>, Error> {
    let Some(choice) = &request.tool_choice else { return Ok(Map::new()) };
    let mode = match choice {
        ToolChoice::Auto => json!({ "mode": "AUTO" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Function(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
        ToolChoice::Opaque(value) if at_home(request, HERE) => value.clone(),
        ToolChoice::Opaque(_) => return Err(inexpressible(HERE, "tool_choice", "this choice")),
    };
    let mut config = Body::default();
    config.set("functionCallingConfig", Some(mode));
    Ok(config.0)
}
