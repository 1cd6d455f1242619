//! Requests: JSON to [`Request`] and back, without loss.

use crate::chat::{Delivery, Message, Part, Request, Role, Sampling, ToolCall};
use crate::wire::Error;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The longest name of a model. It is repeated in logs and errors.
const MAX_MODEL_BYTES: usize = 256;

/// Understands a request's body.
pub fn decode_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let model: String = fields.required("model")?;
    if model.len() > MAX_MODEL_BYTES {
        return Err(Error::at("model", format!("`model` is longer than {MAX_MODEL_BYTES} bytes")));
    }
    let messages: Vec<Value> = fields.required("messages")?;
    if messages.is_empty() {
        return Err(Error::at("messages", "messages must hold at least one message"));
    }
    let messages = messages.into_iter().enumerate().map(|(at, message)| decode_message(at, message));
    Ok(Request {
        model,
        messages: messages.collect::<Result<_, _>>()?,
        tools: fields.take("tools")?.unwrap_or_default(),
        tool_choice: fields.take("tool_choice")?,
        response_format: fields.take("response_format")?,
        sampling: decode_sampling(&mut fields)?,
        delivery: Delivery {
            stream: fields.take("stream")?.unwrap_or_default(),
            options: fields.take("stream_options")?.unwrap_or_default(),
        },
        extra: fields.map,
    })
}

fn decode_sampling(fields: &mut Fields) -> Result<Sampling, Error> {
    let stop = match fields.take::<Value>("stop")? {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(several) => typed(several, || "stop".to_owned())?,
    };
    Ok(Sampling {
        temperature: fields.take("temperature")?,
        top_p: fields.take("top_p")?,
        max_tokens: fields.take("max_tokens")?,
        max_completion_tokens: fields.take("max_completion_tokens")?,
        seed: fields.take("seed")?,
        stop,
        n: fields.take("n")?,
    })
}

fn decode_message(at: usize, message: Value) -> Result<Message, Error> {
    let path = format!("messages[{at}].");
    let Value::Object(map) = message else {
        return Err(Error::at(format!("messages[{at}]"), "a message must be an object"));
    };
    let mut fields = Fields { map, path };
    let role = decode_role(&mut fields)?;
    let calls: Vec<Value> = fields.take("tool_calls")?.unwrap_or_default();
    let calls = calls.iter().map(|call| decode_tool_call(&fields.path, call));
    Ok(Message {
        role,
        tool_calls: calls.collect::<Result<_, _>>()?,
        parts: decode_content(&mut fields)?,
        tool_call_id: fields.take("tool_call_id")?,
        extra: fields.map,
    })
}

fn decode_role(fields: &mut Fields) -> Result<Role, Error> {
    let role: String = fields.required("role")?;
    serde_json::from_value(Value::String(role)).map_err(|_| {
        Error::at(fields.name("role"), "role must be one of system, developer, user, assistant, tool")
    })
}

fn decode_content(fields: &mut Fields) -> Result<Vec<Part>, Error> {
    match fields.take::<Value>("content")? {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => Ok(parts.into_iter().map(decode_part).collect()),
        Some(_) => Err(Error::at(fields.name("content"), "content must be a string or a list of parts")),
    }
}

fn decode_part(part: Value) -> Part {
    let is_text = part.get("type").is_some_and(|kind| kind == "text") && part["text"].is_string();
    match part {
        Value::Object(mut extra) if is_text => {
            extra.remove("type");
            let text = extra.remove("text").and_then(|text| text.as_str().map(str::to_owned));
            Part::Text { text: text.unwrap_or_default(), extra }
        }
        other => Part::Opaque(other),
    }
}

fn decode_tool_call(path: &str, call: &Value) -> Result<ToolCall, Error> {
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (id, name, arguments) = (text("/id"), text("/function/name"), text("/function/arguments"));
    match (id, name, arguments) {
        (Some(id), Some(name), Some(arguments)) => Ok(ToolCall { id, name, arguments }),
        _ => Err(Error::at(
            format!("{path}tool_calls"),
            "a tool call needs id, function.name and function.arguments, all strings",
        )),
    }
}

/// Writes a request's body. Decoding it again gives the same request.
pub fn encode_request(request: &Request) -> Vec<u8> {
    let Request { model, messages, tools, tool_choice, response_format, sampling, delivery, extra } = request;
    let mut body = Body(extra.clone());
    body.set("model", Some(model));
    body.set("messages", Some(messages.iter().map(encode_message).collect::<Vec<_>>()));
    body.set("tools", (!tools.is_empty()).then_some(tools));
    body.set("tool_choice", tool_choice.as_ref());
    body.set("response_format", response_format.as_ref());
    body.set("stream", delivery.stream.then_some(true));
    body.set("stream_options", (!delivery.options.is_empty()).then_some(&delivery.options));
    let Sampling { temperature, top_p, max_tokens, max_completion_tokens, seed, stop, n } = sampling;
    body.set("temperature", *temperature);
    body.set("top_p", *top_p);
    body.set("max_tokens", *max_tokens);
    body.set("max_completion_tokens", *max_completion_tokens);
    body.set("seed", *seed);
    body.set("stop", (!stop.is_empty()).then_some(stop));
    body.set("n", *n);
    Value::Object(body.0).to_string().into_bytes()
}

fn encode_message(message: &Message) -> Value {
    let Message { role, parts, tool_calls, tool_call_id, extra } = message;
    let mut body = Body(extra.clone());
    body.set("role", Some(role));
    body.set("content", Some(encode_content(parts)));
    let calls = tool_calls.iter().map(encode_tool_call).collect::<Vec<_>>();
    body.set("tool_calls", (!calls.is_empty()).then_some(calls));
    body.set("tool_call_id", tool_call_id.as_ref());
    Value::Object(body.0)
}

fn encode_content(parts: &[Part]) -> Value {
    match parts {
        [] => Value::Null,
        [Part::Text { text, extra }] if extra.is_empty() => json!(text),
        several => several.iter().map(encode_part).collect(),
    }
}

fn encode_part(part: &Part) -> Value {
    match part {
        Part::Text { text, extra } => {
            let mut body = Body(extra.clone());
            body.set("type", Some("text"));
            body.set("text", Some(text));
            Value::Object(body.0)
        }
        Part::Opaque(value) => value.clone(),
    }
}

pub(super) fn encode_tool_call(call: &ToolCall) -> Value {
    let ToolCall { id, name, arguments } = call;
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// An object that is taken apart field by field; what is left is what nobody knew.
struct Fields {
    map: Map<String, Value>,
    /// Where it is, for error messages: empty, or `messages[2].`.
    path: String,
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Error> {
        // serde_json itself stops at 128 levels, so a deep body cannot exhaust the stack.
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, path: String::new() }),
            Ok(_) => Err(Error::new("the request body must be a JSON object")),
            Err(error) => Err(Error::new(format!("the request body is not valid JSON: {error}"))),
        }
    }

    fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// The field's value, taken out. Null means absent.
    fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, Error> {
        match self.map.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => typed(value, || self.name(field)).map(Some),
        }
    }

    fn required<T: DeserializeOwned>(&mut self, field: &str) -> Result<T, Error> {
        self.take(field)?
            .ok_or_else(|| Error::at(self.name(field), format!("`{}` is required", self.name(field))))
    }
}

fn typed<T: DeserializeOwned>(value: Value, name: impl Fn() -> String) -> Result<T, Error> {
    let kind = kind_of(&value);
    serde_json::from_value(value).map_err(|_| {
        // serde's own message would quote the value, and values do not belong into errors.
        Error::at(name(), format!("`{}` has a wrong type or value ({kind})", name()))
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An object that is put together field by field.
struct Body(Map<String, Value>);

impl Body {
    fn set(&mut self, field: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), json!(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: &str = r#"{
        "model": "gpt-4o", "temperature": 0, "top_p": 0.5, "max_completion_tokens": 7, "seed": -3, "n": 2,
        "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true, "x": 1},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto",
        "response_format": {"type": "json_object"}, "user": "u", "future_field": {"deep": [1, 2.5]},
        "messages": [
            {"role": "system", "content": "be brief", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "what is this?", "cache_control": {"type": "ephemeral"}},
                                          {"type": "image_url", "image_url": {"url": "data:,x"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "user", "content": "go on"}
        ]
    }"#;

    #[test]
    fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
        let sent: Value = serde_json::from_str(RICH).unwrap();
        let request = decode_request(RICH.as_bytes()).unwrap();
        let mut forwarded: Value = serde_json::from_slice(&encode_request(&request)).unwrap();
        assert_eq!(forwarded["temperature"], json!(0.0), "0 and 0.0 are the same number");
        forwarded["temperature"] = json!(0);
        assert_eq!(forwarded, sent);
        assert_eq!(decode_request(&encode_request(&request)).unwrap(), request);
    }

    #[test]
    fn both_forms_of_stop_and_content_are_understood() {
        let body = br#"{"model":"m","stop":"x","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#;
        let request = decode_request(body).unwrap();
        assert_eq!(request.sampling.stop, ["x"]);
        assert_eq!(request.messages[0], Message::text(Role::User, "hi"));
    }

    #[test]
    fn errors_name_the_field_and_never_quote_its_value() {
        let cases = [
            (r"[1]", None),
            (r#"{"model":"m","#, None),
            (r#"{"messages":[]}"#, Some("model")),
            (&format!(r#"{{"model":"{}"}}"#, "m".repeat(257)), Some("model")),
            (r#"{"model":"m","messages":[]}"#, Some("messages")),
            (r#"{"model":"m","messages":["s3cret"]}"#, Some("messages[0]")),
            (r#"{"model":"m","messages":[{"role":"s3cret","content":""}]}"#, Some("messages[0].role")),
            (r#"{"model":"m","messages":[{"role":"user","content":5}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","temperature":"s3cret","messages":[{"role":"user"}]}"#, Some("temperature")),
            (r#"{"model":"m","max_tokens":-1,"messages":[{"role":"user"}]}"#, Some("max_tokens")),
        ];
        for (body, field) in cases {
            let error = decode_request(body.as_bytes()).unwrap_err();
            assert_eq!(error.field.as_deref(), field, "{body}: {error}");
            assert!(!error.message.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn ten_thousand_levels_are_refused_not_followed() {
        let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(decode_request(deep.as_bytes()).is_err());
    }
}
