//! Requests: JSON to [`Request`] and back, without loss.

use super::message::{decode_message, encode_message};
use crate::chat::{Delivery, Protocol, Request, ResponseFormat, Role, Sampling, Thinking, Tool, ToolChoice};
use crate::wire::foreign::{at_home, inexpressible, leave_extra, opaque_tool};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// Understands a request's body.
pub fn decode_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let model = fields.model()?;
    let messages = fields.filled_list("messages")?;
    let messages = messages.into_iter().enumerate().map(|(at, message)| decode_message(at, message));
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    Ok(Request {
        model,
        messages: messages.collect::<Result<_, _>>()?,
        tools: tools.into_iter().map(decode_tool).collect(),
        tool_choice: fields.take("tool_choice")?.map(decode_tool_choice),
        parallel_tools: fields.take("parallel_tool_calls")?,
        response_format: fields.take("response_format")?.map(decode_response_format),
        thinking: decode_thinking(&mut fields)?,
        sampling: decode_sampling(&mut fields),
        delivery: Delivery {
            stream: fields.take("stream")?.unwrap_or_default(),
            options: fields.take("stream_options")?.unwrap_or_default(),
        },
        extra: fields.map,
        ..Request::default()
    })
}

fn decode_thinking(fields: &mut Fields) -> Result<Option<Thinking>, Error> {
    let effort: Option<String> = fields.take("reasoning_effort")?;
    Ok(effort.map(|effort| Thinking { effort: Some(effort), ..Thinking::default() }))
}

/// The sampling fields that OpenAI's protocols share. Other servers know other values for some of them (a
/// `top_k` of -1, for one): those stay what they are.
pub(in crate::wire) fn decode_sampling(fields: &mut Fields) -> Sampling {
    let stop = match fields.take_if("stop") {
        Some(one) => vec![one],
        None => fields.take_if("stop").unwrap_or_default(),
    };
    Sampling {
        temperature: fields.take_if("temperature"),
        top_p: fields.take_if("top_p"),
        top_k: fields.take_if("top_k"),
        max_tokens: fields.take_if("max_tokens"),
        max_completion_tokens: fields.take_if("max_completion_tokens"),
        seed: fields.take_if("seed"),
        stop,
        n: fields.take_if("n"),
        presence_penalty: fields.take_if("presence_penalty"),
        frequency_penalty: fields.take_if("frequency_penalty"),
        logprobs: fields.take_if("logprobs"),
        top_logprobs: fields.take_if("top_logprobs"),
    }
}

/// `{"type": "function", "function": {…}}`; anything else stays as it is.
fn decode_tool(tool: Value) -> Tool {
    let function = tool.get("function").and_then(Value::as_object).filter(|_| tool["type"] == "function");
    let named = function.and_then(|function| Some((function.get("name")?.as_str()?, function)));
    let Some((name, function)) = named else { return Tool::Opaque(tool) };
    let beside = |known: &'static [&str], of: &Map<String, Value>| {
        let unknown = of.iter().filter(|(field, _)| !known.contains(&field.as_str()));
        unknown.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>()
    };
    let outer = tool.as_object().map(|tool| beside(&["type", "function"], tool)).unwrap_or_default();
    let mut extra = beside(&["name", "description", "parameters", "strict"], function);
    if !outer.is_empty() {
        // Beside the function, not in it; told apart by a name that no provider uses.
        extra.insert(OUTER.to_owned(), Value::Object(outer));
    }
    Tool::Function {
        name: name.to_owned(),
        description: function.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: function.get("parameters").filter(|value| !value.is_null()).cloned(),
        strict: function.get("strict").and_then(Value::as_bool),
        extra,
    }
}

/// Where a tool's fields beside its `function` are kept.
const OUTER: &str = "weir:beside";

fn encode_tool(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Value, Error> {
    let Tool::Function { name, description, parameters, strict, extra } = &request.tools[at] else {
        return opaque_tool(request, Protocol::OpenAiChat, at);
    };
    let mut function = Body::default();
    function.set("name", Some(name));
    function.set("description", description.as_ref());
    function.set("parameters", parameters.as_ref());
    function.set("strict", *strict);
    let mut tool = Body::default();
    tool.set("type", Some("function"));
    if at_home(request, Protocol::OpenAiChat) {
        for (field, value) in extra {
            match value.as_object().filter(|_| field == OUTER) {
                Some(outer) => tool.0.extend(outer.clone()),
                None => function.set(field, Some(value)),
            }
        }
    } else {
        let outer = extra.get(OUTER).and_then(Value::as_object).into_iter().flatten();
        let names = outer.chain(extra).map(|(field, _)| field).filter(|field| *field != OUTER);
        dropped.extend(names.map(|field| format!("tools[{at}].{field}")));
    }
    tool.set("function", Some(function.value()));
    Ok(tool.value())
}

fn decode_tool_choice(choice: Value) -> ToolChoice {
    match (choice.as_str(), choice.pointer("/function/name").and_then(Value::as_str)) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (_, Some(name)) if choice["type"] == "function" => ToolChoice::Function(name.to_owned()),
        _ => ToolChoice::Opaque(choice),
    }
}

fn encode_tool_choice(request: &Request, choice: &ToolChoice) -> Result<Value, Error> {
    Ok(match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Function(name) => json!({ "type": "function", "function": { "name": name } }),
        ToolChoice::Opaque(value) if at_home(request, Protocol::OpenAiChat) => value.clone(),
        ToolChoice::Opaque(_) => {
            return Err(inexpressible(Protocol::OpenAiChat, "tool_choice", "this choice"));
        }
    })
}

/// `{"type": "json_schema", "json_schema": {…}}` and its kin: OpenAI's responses, and others after them, have
/// the schema beside the type. What holds a field that nobody knows stays as it is: two requests that differ
/// in it must not be taken for one.
pub(in crate::wire) fn decode_response_format(format: Value) -> ResponseFormat {
    known_format(&format).unwrap_or(ResponseFormat::Opaque(format))
}

fn known_format(format: &Value) -> Option<ResponseFormat> {
    let mut fields = given(format)?;
    match fields.remove("type")?.as_str()? {
        "text" if fields.is_empty() => Some(ResponseFormat::Text),
        "json_object" if fields.is_empty() => Some(ResponseFormat::Json),
        "json_object" => known_schema(fields),
        "json_schema" => match fields.remove("json_schema") {
            Some(inner) if fields.is_empty() => known_schema(given(&inner)?),
            Some(_) => None,
            None => known_schema(fields),
        },
        _ => None,
    }
}

fn known_schema(mut fields: Map<String, Value>) -> Option<ResponseFormat> {
    let mut text = |field: &str| match fields.remove(field) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    };
    let (name, description) = (text("name")?, text("description")?);
    let strict = match fields.remove("strict") {
        None => None,
        Some(strict) => Some(strict.as_bool()?),
    };
    let schema = fields.remove("schema")?;
    fields.is_empty().then_some(ResponseFormat::Schema { name, description, schema, strict })
}

/// The fields that say something: null means absent.
fn given(object: &Value) -> Option<Map<String, Value>> {
    let mut fields = object.as_object()?.clone();
    fields.retain(|_, value| !value.is_null());
    Some(fields)
}

fn encode_response_format(request: &Request, format: &ResponseFormat) -> Result<Value, Error> {
    Ok(match format {
        ResponseFormat::Text => json!({ "type": "text" }),
        ResponseFormat::Json => json!({ "type": "json_object" }),
        ResponseFormat::Schema { name, description, schema, strict } => {
            let mut inner = Body::default();
            // OpenAI insists on a name; others have none.
            inner.set("name", Some(name.as_deref().unwrap_or("answer")));
            inner.set("description", description.as_ref());
            inner.set("schema", Some(schema));
            inner.set("strict", *strict);
            json!({ "type": "json_schema", "json_schema": inner.value() })
        }
        ResponseFormat::Opaque(value) if at_home(request, Protocol::OpenAiChat) => value.clone(),
        ResponseFormat::Opaque(_) => {
            return Err(inexpressible(Protocol::OpenAiChat, "response_format", "this format"));
        }
    })
}

/// Writes a request's body. Decoding it again gives the same request.
pub fn encode_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let Request {
        model,
        messages: _,
        tools,
        tool_choice,
        parallel_tools,
        response_format,
        thinking,
        sampling,
        delivery,
        extra,
        received: _,
    } = request;
    let mut body = Body::default();
    if at_home(request, Protocol::OpenAiChat) {
        body.0.clone_from(extra);
    } else {
        leave_extra(request, Protocol::OpenAiChat, dropped)?;
    }
    body.set("model", Some(model));
    body.set("messages", Some(encode_messages(request, dropped)?));
    let tools =
        (0..tools.len()).map(|at| encode_tool(request, at, dropped)).collect::<Result<Vec<_>, _>>()?;
    body.set("tools", (!tools.is_empty()).then_some(tools));
    let choice = tool_choice.as_ref().map(|choice| encode_tool_choice(request, choice)).transpose()?;
    body.set("tool_choice", choice);
    body.set("parallel_tool_calls", *parallel_tools);
    let format =
        response_format.as_ref().map(|format| encode_response_format(request, format)).transpose()?;
    body.set("response_format", format);
    body.set("reasoning_effort", thinking.as_ref().and_then(effort));
    body.set("stream", delivery.stream.then_some(true));
    body.set("stream_options", (!delivery.options.is_empty()).then_some(&delivery.options));
    encode_sampling(sampling, &mut body);
    Ok(body.0)
}

/// Pictures and the like that a tool has given follow its results, as a user's: a tool says nothing but words
/// here.
fn encode_messages(request: &Request, dropped: &mut Dropped) -> Result<Vec<Value>, Error> {
    let (mut messages, mut shown) = (Vec::new(), Vec::new());
    for at in 0..request.messages.len() {
        messages.push(encode_message(request, at, &mut shown, dropped)?);
        let more = request.messages.get(at + 1).is_some_and(|next| next.role == Role::Tool);
        if !more && !shown.is_empty() {
            messages.push(json!({ "role": "user", "content": std::mem::take(&mut shown) }));
        }
    }
    Ok(messages)
}

/// How much to think, in OpenAI's words; a budget in tokens is rounded to one of them.
fn effort(thinking: &Thinking) -> Option<&str> {
    let from_budget = thinking.budget.map(|budget| match budget {
        0 => "none",
        1..=2_048 => "low",
        2_049..=8_192 => "medium",
        _ => "high",
    });
    thinking.effort.as_deref().or(from_budget)
}

fn encode_sampling(sampling: &Sampling, body: &mut Body) {
    let Sampling {
        temperature,
        top_p,
        top_k,
        max_tokens,
        max_completion_tokens,
        seed,
        stop,
        n,
        presence_penalty,
        frequency_penalty,
        logprobs,
        top_logprobs,
    } = sampling;
    body.set("temperature", *temperature);
    body.set("top_p", *top_p);
    body.set("top_k", *top_k);
    body.set("max_tokens", *max_tokens);
    body.set("max_completion_tokens", *max_completion_tokens);
    body.set("seed", *seed);
    body.set("stop", (!stop.is_empty()).then_some(stop));
    body.set("n", *n);
    body.set("presence_penalty", *presence_penalty);
    body.set("frequency_penalty", *frequency_penalty);
    body.set("logprobs", *logprobs);
    body.set("top_logprobs", *top_logprobs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Media, Message, Part};

    fn encoded(request: &Request) -> Vec<u8> {
        let body = encode_request(request, &mut Dropped::new()).unwrap();
        Value::Object(body).to_string().into_bytes()
    }

    #[test]
    fn a_part_that_only_calls_itself_a_text_stays_what_it_is() {
        let content = r#"[{"type":"text","text":{"url":"x"}}]"#;
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let written = encoded(&decode_request(body.as_bytes()).unwrap());
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["messages"][0]["content"].to_string(), content);
    }

    const RICH: &str = r#"{
        "model": "gpt-4o", "temperature": 0, "top_p": 0.5, "max_completion_tokens": 7, "seed": -3, "n": 2,
        "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true, "x": 1},
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "logprobs": true, "top_logprobs": 2,
        "tools": [{"type": "function", "cache_control": {"x": 1},
                   "function": {"name": "f", "description": "d", "parameters": {}, "strict": true, "new": 1}},
                  {"type": "custom", "custom": {"name": "c"}}],
        "tool_choice": "auto", "parallel_tool_calls": false, "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "user": "u", "future_field": {"deep": [1, 2.5]},
        "messages": [
            {"role": "system", "content": "be brief", "name": "boss"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA==", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}, "cache_control": {}},
                {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "hologram", "x": 1}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}, "more": 1}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": "", "refusal": "no", "reasoning_content": "hm"},
            {"role": "user", "content": "go on"}
        ]
    }"#;

    #[test]
    fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
        let sent: Value = serde_json::from_str(RICH).unwrap();
        let request = decode_request(RICH.as_bytes()).unwrap();
        let mut forwarded: Value = serde_json::from_slice(&encoded(&request)).unwrap();
        assert_eq!(forwarded["temperature"], json!(0.0), "0 and 0.0 are the same number");
        forwarded["temperature"] = json!(0);
        assert_eq!(forwarded, sent);
        assert_eq!(decode_request(&encoded(&request)).unwrap(), request);
    }

    #[test]
    fn what_only_the_provider_may_understand_stays_what_it_is() {
        let sent = json!({
            "model": "m", "top_k": -1, "max_tokens": -1, "stop": [7], "n": 1.5,
            "messages": [
                {"role": "function", "name": "f", "content": "42"},
                {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f"}}]},
                {"role": "user", "content": "q"},
            ],
        });
        let request = decode_request(sent.to_string().as_bytes()).unwrap();
        assert_eq!(request.sampling, Sampling::default());
        let forwarded: Value = serde_json::from_slice(&encoded(&request)).unwrap();
        assert_eq!(forwarded, sent);
        for at in [0, 1] {
            let mut asked = Request { messages: vec![request.messages[at].clone()], ..Request::default() };
            asked.received.protocol = Protocol::Gemini;
            let error = encode_request(&asked, &mut Dropped::new()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("messages[0]"));
        }
        assert!(
            decode_request(br#"{"model":"m","messages":[{"role":"function"}]}"#)
                .unwrap()
                .question()
                .is_none()
        );
    }

    #[test]
    fn both_forms_of_stop_and_content_are_understood() {
        let body = br#"{"model":"m","stop":"x","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#;
        let request = decode_request(body).unwrap();
        assert_eq!(request.sampling.stop, ["x"]);
        assert_eq!(request.messages[0], Message::text(Role::User, "hi"));
    }

    #[test]
    fn a_form_of_the_answer_is_known_in_full_or_stays_as_it_is() {
        let schema = json!({"type": "object"});
        let known = ResponseFormat::Schema {
            name: None,
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        };
        for format in [
            json!({"type": "json_schema", "json_schema": {"name": null, "schema": schema, "strict": true}}),
            json!({"type": "json_object", "schema": schema, "strict": true}),
            json!({"type": "json_schema", "schema": schema, "strict": true}),
        ] {
            assert_eq!(decode_response_format(format.clone()), known, "{format}");
        }
        for format in [
            json!({"type": "json_object", "future": 1}),
            json!({"type": "json_schema", "json_schema": {"schema": schema, "future": 1}}),
            json!({"type": "json_schema", "json_schema": {"schema": schema}, "schema": schema}),
            json!({"type": "json_schema", "json_schema": {"schema": schema, "strict": "yes"}}),
            json!({"type": "json_schema"}),
            json!("json"),
        ] {
            assert_eq!(decode_response_format(format.clone()), ResponseFormat::Opaque(format));
        }
        let plain = json!({"type": "json_object", "schema": null});
        assert_eq!(decode_response_format(plain), ResponseFormat::Json);
    }

    #[test]
    fn what_is_not_at_home_here_is_left_behind_or_refused_by_name() {
        let mut request = decode_request(RICH.as_bytes()).unwrap();
        request.received.protocol = Protocol::Anthropic;
        let error = encode_request(&request, &mut Dropped::new()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("messages[1]"));
        assert!(error.message.contains("hologram"), "{error}");
        request.messages[1].parts.pop();
        let error = encode_request(&request, &mut Dropped::new()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("tools[1]"));
        request.tools.pop();
        let mut dropped = Dropped::new();
        let body = encode_request(&request, &mut dropped).unwrap();
        assert_eq!(
            dropped,
            [
                "user",
                "future_field",
                "messages[0].name",
                "messages[1].content.cache_control",
                "messages[1].content.cache_control",
                "messages[2].tool_calls.more",
                "tools[0].cache_control",
                "tools[0].new",
            ]
        );
        assert!(!body.contains_key("future_field"));
    }

    #[test]
    fn what_a_tool_shows_follows_its_words_as_a_user_s() {
        let picture = || Part::Image(Media::at("data:image/png;base64,eA=="));
        let result =
            |id: &str, parts| Message { parts, tool_call_id: Some(id.into()), ..Message::empty(Role::Tool) };
        let mut request = Request {
            messages: vec![
                result("c1", vec![Part::text("seen"), picture()]),
                result("c2", vec![picture()]),
                Message::text(Role::User, "and?"),
            ],
            ..Request::default()
        };
        request.received.protocol = Protocol::Anthropic;
        let body = encode_request(&request, &mut Dropped::new()).unwrap();
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}});
        let from = |id: &str| json!({"type": "text", "text": format!("From the result of {id}:")});
        let wanted = json!([
            {"role": "tool", "tool_call_id": "c1", "content": "seen"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "user", "content": [from("c1"), image, from("c2"), image]},
            {"role": "user", "content": "and?"},
        ]);
        assert_eq!(body["messages"], wanted);
        for role in [Role::System, Role::Developer, Role::Assistant] {
            request.messages = vec![Message { parts: vec![picture()], ..Message::empty(role) }];
            let error = encode_request(&request, &mut Dropped::new()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("messages[0]"));
        }
    }

    #[test]
    fn thoughts_and_their_seals_come_back() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a",
            "reasoning_details":[{"type":"reasoning.text","text":"hm","signature":"s","format":"anthropic-claude-v1","index":0},
                                 {"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1","index":1}]}]}"#;
        let request = decode_request(body).unwrap();
        let kinds: Vec<&str> = request.messages[1].parts.iter().map(Part::kind).collect();
        assert_eq!(kinds, ["reasoning", "reasoning", "text"]);
        assert_eq!(decode_request(&encoded(&request)).unwrap(), request);
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
            (r#"{"model":"m","messages":[{"role":5,"content":"s3cret"}]}"#, Some("messages[0].role")),
            (r#"{"model":"m","messages":[{"role":"user","content":5}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","stream":"s3cret","messages":[{"role":"user"}]}"#, Some("stream")),
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
