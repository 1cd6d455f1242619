use crate::chat::{Message, Part, Protocol, Request, Role, Signature, Thinking, ToolChoice};
use crate::wire::anthropic::{decode_request, encode_request};
use crate::wire::{Dropped, Error, Target};
use bytes::Bytes;
use serde_json::{Value, json};

const RICH: &str = r#"{
    "model": "claude", "max_tokens": 7, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "stream": true,
    "stop_sequences": ["a", "b"], "metadata": {"user_id": "u"}, "future_field": {"deep": [1, 2.5]},
    "system": [{"type": "text", "text": "be brief"},
               {"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true,
               "cache_control": {"type": "ephemeral"}},
              {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
    "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}, "new": 1},
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "what is this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}, "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "eA=="}, "title": "t"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "context": "c",
             "citations": {"enabled": true}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
            {"type": "search_result", "source": "s", "title": "t", "content": []}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "red"},
            {"type": "text", "text": "so", "citations": [{"type": "char_location", "cited_text": "x"}]},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}, "cache_control": {"type": "ephemeral"}},
            {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "42", "cache_control": {"type": "ephemeral"}},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [
                {"type": "text", "text": "no"}, {"type": "text", "text": "way"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}]},
            {"type": "tool_result", "tool_use_id": "t3"},
            {"type": "text", "text": "go on"}], "beside": 1},
        {"role": "user", "content": "please"},
        {"role": "assistant", "content": "ok", "beside": 2},
        {"role": "user", "content": "thanks"}
    ]
}"#;

fn decoded(body: &str) -> Request {
    let body = Bytes::copy_from_slice(body.as_bytes());
    crate::wire::decode_request(Protocol::Anthropic, &body, &Target::default()).unwrap()
}

fn from_openai(body: &Value) -> Request {
    let body = Bytes::from(body.to_string());
    crate::wire::decode_request(Protocol::OpenAiChat, &body, &Target::default()).unwrap()
}

fn encoded(request: &Request) -> (Value, Dropped) {
    let mut dropped = Dropped::new();
    (Value::Object(encode_request(request, &mut dropped).unwrap()), dropped)
}

fn refused(request: &Request) -> Error {
    encode_request(request, &mut Dropped::new()).unwrap_err()
}

#[test]
fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
    let request = decoded(RICH);
    let (body, dropped) = encoded(&request);
    assert_eq!(body, serde_json::from_str::<Value>(RICH).unwrap());
    assert_eq!(dropped, [""; 0]);
    let again = decode_request(body.to_string().as_bytes()).unwrap();
    assert_eq!(Request { received: request.received.clone(), ..again }, request);
}

#[test]
fn results_of_tools_are_messages_of_their_own() {
    use Role::{Assistant, System, Tool, User};
    let request = decoded(RICH);
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [System, User, Assistant, Tool, Tool, Tool, User, User, Assistant, User]);
    assert_eq!(request.messages[4].tool_call_id.as_deref(), Some("t2"));
    assert!(request.messages[4].failed && !request.messages[3].failed);
    assert_eq!(request.parallel_tools, Some(false));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert_eq!(request.thinking.unwrap().budget, Some(2048));
}

#[test]
fn a_request_from_openai_says_the_same_here() {
    let (body, dropped) = encoded(&from_openai(&json!({
        "model": "m", "max_completion_tokens": 100, "n": 1, "stop": "END", "reasoning_effort": "high", "stream": true,
        "temperature": 0.5, "seed": 7, "user": "u", "parallel_tool_calls": false, "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": true}},
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"properties": {}}, "strict": false}},
                  {"type": "function", "function": {"name": "g"}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c.1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c.1", "content": "42"},
            {"role": "tool", "tool_call_id": "c2", "content": "43"},
            {"role": "user", "content": "so?"},
            {"role": "assistant", "content": "85"},
            {"role": "system", "content": "be silly"},
            {"role": "user", "content": "really?"},
            {"role": "user", "content": "hm?"}]
    })));
    assert_eq!(
        body,
        json!({
            "model": "m", "max_tokens": 16_484, "stop_sequences": ["END"], "stream": true,
            "thinking": {"type": "enabled", "budget_tokens": 16_384},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": false}}},
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
            "tools": [{"name": "f", "description": "d", "input_schema": {"properties": {}, "type": "object"}},
                      {"name": "g", "input_schema": {"type": "object", "properties": {}}}],
            "system": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"},
                       {"type": "text", "text": "be silly"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}},
                    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c_1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "g", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c_1", "content": "42"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "43"},
                    {"type": "text", "text": "so?"}]},
                {"role": "assistant", "content": "85"},
                {"role": "user", "content": [{"type": "text", "text": "really?"}, {"type": "text", "text": "hm?"}]}]
        })
    );
    assert_eq!(
        dropped,
        ["user", "messages[8].position", "temperature", "seed", "response_format.additionalProperties"]
    );
}

#[test]
fn what_is_missing_here_is_made_up_for() {
    let (body, dropped) = encoded(&from_openai(&json!({
        "model": "m", "temperature": 1.5, "frequency_penalty": 1, "presence_penalty": 1, "tool_choice": "required",
        "response_format": {"type": "json_object"}, "reasoning_effort": "low",
        "messages": [{"role": "assistant", "content": "hi", "name": "bot", "reasoning_content": "hm"}]
    })));
    assert_eq!(
        body,
        json!({
            "model": "m", "max_tokens": 4096, "temperature": 1.0, "tool_choice": {"type": "any"},
            "system": "Answer with a single JSON object and nothing else.",
            "messages": [{"role": "user", "content": "(The conversation begins.)"},
                         {"role": "assistant", "content": "hi"}]
        })
    );
    let noted = [
        "messages[0].reasoning",
        "messages[0].name",
        "messages[0].position",
        "thinking",
        "temperature",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
    ];
    assert_eq!(dropped, noted);
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let ask = |content: Value| json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
    let with = |field: &str, value: Value| {
        let mut body = ask(json!("q"));
        body[field] = value;
        body
    };
    let call = json!({ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{" } });
    let broken = json!([{ "role": "user", "content": "q" }, { "role": "assistant", "tool_calls": [call] }]);
    let cases = [
        (with("n", json!(2)), "n"),
        (with("logprobs", json!(true)), "logprobs"),
        (with("stop", json!(["\n"])), "stop"),
        (with("tools", json!([{ "type": "custom" }])), "tools[0]"),
        (with("tool_choice", json!({ "type": "x" })), "tool_choice"),
        (with("response_format", json!({ "type": "grammar" })), "response_format"),
        (with("messages", broken), "messages[1].tool_calls"),
        (
            ask(json!([{ "type": "input_audio", "input_audio": { "data": "x", "format": "wav" } }])),
            "messages[0]",
        ),
        (ask(json!([{ "type": "file", "file": { "file_id": "file-1" } }])), "messages[0]"),
        (
            ask(json!([{ "type": "image_url", "image_url": { "url": "data:image/tiff;base64,x" } }])),
            "messages[0]",
        ),
        (ask(json!([{ "type": "hologram" }])), "messages[0]"),
    ];
    for (body, field) in cases {
        assert_eq!(refused(&from_openai(&body)).field.as_deref(), Some(field), "{body}");
    }
}

#[test]
fn a_seal_finds_its_way_back() {
    let seal = |by| Some(Signature { by, data: "s".into() });
    let request = decoded(
        r#"{"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":[
            {"type":"thinking","thinking":"a","signature":""},
            {"type":"thinking","thinking":"b","signature":"s"},
            {"type":"thinking","thinking":"c","signature":"weir:gemini:s"},
            {"type":"tool_use","id":"1","name":"f","input":{}},
            {"type":"redacted_thinking","data":"seal:weir:gemini:s"},
            {"type":"redacted_thinking","data":"weir:openai_responses:s"}]}]}"#,
    );
    let thought =
        |text: &str, signature, redacted| Part::Reasoning { text: text.into(), signature, redacted };
    let parts = &request.messages[1].parts;
    assert_eq!(parts[0], thought("a", None, false));
    assert_eq!(parts[1], thought("b", seal(Protocol::Anthropic), false));
    assert_eq!(parts[2], thought("c", seal(Protocol::Gemini), false));
    assert_eq!(request.messages[1].tool_calls().next().unwrap().signature, seal(Protocol::Gemini));
    assert_eq!(parts[4], thought("", seal(Protocol::OpenAiResponses), true));
    let (body, dropped) = encoded(&request);
    let kinds: Vec<_> = body["messages"][1]["content"].as_array().unwrap().iter().collect();
    assert_eq!(kinds[0]["thinking"], "b");
    assert_eq!((kinds.len(), kinds[1]["type"].as_str()), (2, Some("tool_use")));
    let noted =
        ["reasoning", "reasoning", "signature", "reasoning"].map(|what| format!("messages[1].{what}"));
    assert_eq!(dropped, noted);
}

#[test]
fn results_come_first_and_late_instructions_stay_at_home() {
    let mut request = decoded(
        r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"q"},{"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"t"},{"type":"tool_result","tool_use_id":"1"}]}]}"#,
    );
    let (body, dropped) = encoded(&request);
    assert_eq!(body["messages"][1], json!({ "role": "system", "content": "s" }));
    assert_eq!(body["messages"][2]["content"][0]["type"], "text");
    assert!(dropped.is_empty());
    request.received.protocol = Protocol::Gemini;
    let (body, dropped) = encoded(&request);
    assert_eq!((body["system"].as_str(), dropped), (Some("s"), vec!["messages[1].position".to_owned()]));
    let content = &body["messages"][0]["content"];
    assert_eq!((content[0]["type"].as_str(), content[1]["text"].as_str()), (Some("tool_result"), Some("q")));
}

#[test]
fn thinking_leaves_room_for_the_answer() {
    let thinking = |budget| Some(Thinking { budget: Some(budget), ..Thinking::default() });
    let messages = vec![Message::text(Role::User, "q")];
    let mut request = Request { messages, thinking: thinking(100), ..Request::default() };
    assert_eq!(encoded(&request).0["thinking"]["budget_tokens"], 1024);
    assert_eq!(encoded(&request).0["max_tokens"], 4096);
    request.thinking = thinking(4096);
    assert_eq!(encoded(&request).0["max_tokens"], 8192);
    request.thinking = thinking(u32::MAX);
    assert_eq!(encoded(&request).0["max_tokens"], u32::MAX);
    (request.sampling.top_k, request.sampling.top_p) = (Some(1), Some(0.5));
    assert_eq!(encoded(&request).1, ["top_p", "top_k"]);
}

#[test]
fn errors_name_the_field_and_never_quote_its_value() {
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let message = |message: &str| format!(r#"{{"model":"m","messages":[{message}]}}"#);
    let cases = [
        ("[1]".to_owned(), None),
        (deep, None),
        (r#"{"messages":[]}"#.to_owned(), Some("model")),
        (message(""), Some("messages")),
        (message(r#""s3cret""#), Some("messages[0]")),
        (message(r#"{"role":"s3cret","content":""}"#), Some("messages[0].role")),
        (message(r#"{"role":"user"}"#), Some("messages[0].content")),
        (message(r#"{"role":"user","content":5}"#), Some("messages[0].content")),
        (message(r#"{"role":"user","content":["s3cret"]}"#), Some("messages[0].content[0]")),
        (
            message(r#"{"role":"user","content":[{"type":"tool_result"}]}"#),
            Some("messages[0].content[0].tool_use_id"),
        ),
        (
            message(
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"s3cret","content":7}]}"#,
            ),
            Some("messages[0].content[0].content"),
        ),
        (r#"{"model":"m","system":5,"messages":[]}"#.to_owned(), Some("system")),
    ];
    for (body, field) in cases {
        let error = decode_request(body.as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), field, "{body:.99}: {error}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
    let cases = [
        ("max_tokens", "-1"),
        ("temperature", r#""s3cret""#),
        ("stop_sequences", r#""s3cret""#),
        ("tools", r#""s3cret""#),
        ("tool_choice", r#""s3cret""#),
        ("thinking", r#""s3cret""#),
        ("output_config", r#""s3cret""#),
        ("stream", r#""s3cret""#),
    ];
    for (field, value) in cases {
        let body =
            format!(r#"{{"model":"m","{field}":{value},"messages":[{{"role":"user","content":"q"}}]}}"#);
        let error = decode_request(body.as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_block_that_only_calls_itself_text_is_kept_as_it_came() {
    let body = json!({"model": "m", "max_tokens": 1, "messages": [
        {"role": "user", "content": [{"type": "text", "filetext": "2"}]},
    ]});
    let request = decoded(&body.to_string());
    let (again, _) = encoded(&request);
    assert_eq!(decoded(&again.to_string()), request, "{again}");
}

#[test]
fn a_number_keeps_every_digit() {
    let body = r#"{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "future": 3.833333333333333e+52}"#;
    let (again, _) = encoded(&decoded(body));
    assert_eq!(again["future"].to_string(), "3.833333333333333e+52");
}

#[test]
fn a_schema_from_elsewhere_is_closed_and_one_from_here_stays() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 1 } } });
    let tool = |strict: bool| json!({ "type": "function", "function": { "name": "f", "strict": strict, "parameters": schema } });
    let (body, dropped) = encoded(&from_openai(&json!({
        "model": "m", "messages": [{ "role": "user", "content": "q" }], "tools": [tool(true), tool(false)],
        "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": schema } },
    })));
    let closed = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "a": { "type": "integer", "description": "{\"minimum\":1}" } },
    });
    assert_eq!(body["output_config"]["format"]["schema"], closed);
    assert_eq!(body["tools"][0]["input_schema"], closed);
    assert_eq!(body["tools"][1]["input_schema"], schema, "it is not followed to the letter");
    assert_eq!(dropped, ["response_format.minimum", "tools[0].minimum"]);
    let own = json!({
        "model": "m", "max_tokens": 1, "messages": [{ "role": "user", "content": "q" }],
        "output_config": { "format": { "type": "json_schema", "schema": schema } },
    });
    assert_eq!(encoded(&decoded(&own.to_string())).0, own);
}

#[test]
fn of_temperature_and_top_p_the_temperature_stays() {
    let body = json!({
        "model": "m", "temperature": 0.5, "top_p": 0.5, "messages": [{ "role": "user", "content": "q" }],
    });
    let (sent, dropped) = encoded(&from_openai(&body));
    assert_eq!((&sent["temperature"], &sent["top_p"]), (&json!(0.5), &Value::Null));
    assert_eq!(dropped, ["top_p"]);
    let mut own = body;
    own["max_tokens"] = json!(1);
    assert_eq!(encoded(&decoded(&own.to_string())), (own, vec![]));
}

#[test]
fn a_jpeg_is_taken_under_every_name() {
    for name in ["image/jpg", "image/pjpeg", "image/jpeg"] {
        let picture =
            json!({ "type": "image_url", "image_url": { "url": format!("data:{name};base64,/9j/") } });
        let messages = json!([{ "role": "user", "content": [picture] }]);
        let (body, _) = encoded(&from_openai(&json!({ "model": "m", "messages": messages })));
        assert_eq!(body["messages"][0]["content"][0]["source"]["media_type"], "image/jpeg");
    }
}
