//! Requests, both ways.

use super::{decoded, encoded, seal, target};
use crate::chat::{Message, Part, Protocol, Request, Role, Tool, ToolChoice};
use crate::wire::gemini::{decode_request, encode_request, path};
use crate::wire::{self, Dropped, Target};
use bytes::Bytes;
use serde_json::{Value, json};

const RICH: &str = r#"{
    "system_instruction": {"role": "system", "parts": [{"text": "be brief"}, {"text": "be kind"}]},
    "contents": [
        {"role": "user", "parts": [
            {"text": "what is this?"},
            {"inlineData": {"mimeType": "image/png", "data": "eA=="}},
            {"inline_data": {"mime_type": "audio/wav", "data": "eA=="}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 1}},
            {"inlineData": {"mimeType": "application/pdf", "data": "eA==", "displayName": "a.pdf"}},
            {"hologram": {"x": 1}}]},
        {"role": "user", "parts": [{"text": "well?"}]},
        {"role": "model", "parts": [
            {"text": "hm", "thought": true, "thoughtSignature": "c2Vh"},
            {"text": "I look", "thoughtSignature": "bA=="},
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"functionCall": {"name": "f", "args": {"a": 1, "b": {"c": [true]}}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "f", "args": {}}},
            {"functionCall": {"id": "own", "name": "g"}, "partMetadata": {"x": 1}}]},
        {"role": "function", "parts": [
            {"functionResponse": {"name": "f", "response": {"result": "42"}}},
            {"functionResponse": {"name": "f", "response": {"error": "boom"}}},
            {"functionResponse": {"id": "own", "name": "g", "response": {"rows": [1, 2]}, "scheduling": "SILENT",
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "eA=="}}]}},
            {"text": "go on"}]}
    ],
    "tools": [
        {"functionDeclarations": [
            {"name": "f", "description": "d", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}},
            {"name": "g", "parametersJsonSchema": {"type": "object", "additionalProperties": false}, "behavior": "BLOCKING"}]},
        {"googleSearch": {}}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}, "retrievalConfig": {"languageCode": "de"}},
    "generationConfig": {"temperature": 0.5, "topP": 0.5, "topK": 40.0, "max_output_tokens": "7", "stopSequences": ["a"],
        "candidateCount": 1, "seed": -3, "presencePenalty": 0.5, "frequencyPenalty": -0.5,
        "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
        "responseLogprobs": true, "logprobs": 2, "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": true, "thinkingLevel": "LOW"}},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "cachedContent": "cachedContents/x", "labels": {"a": "b"}
}"#;

#[test]
fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
    let request = decoded(RICH);
    let mut dropped = Dropped::new();
    let body = encoded(&request, &mut dropped);
    assert_eq!(dropped, Dropped::new());
    assert_eq!(body["safetySettings"][0]["threshold"], "BLOCK_NONE");
    assert_eq!(body["generationConfig"]["mediaResolution"], "MEDIA_RESOLUTION_LOW");
    assert_eq!(body["toolConfig"]["retrievalConfig"]["languageCode"], "de");
    assert_eq!(body["contents"].as_array().unwrap().len(), 4, "turns stay as they are");
    let again = wire::decode_request(Protocol::Gemini, &body.to_string().into(), &target()).unwrap();
    assert_eq!(Request { received: request.received.clone(), ..again }, request);
    assert_eq!(path(&request), "models/gemini-2.5-flash:streamGenerateContent?alt=sse");
}

#[test]
fn calls_without_ids_get_them_and_results_find_their_calls() {
    let request = decoded(RICH);
    let calls: Vec<&str> =
        request.messages.iter().flat_map(Message::tool_calls).map(|call| call.id.as_str()).collect();
    assert_eq!(calls, ["call_0", "call_1", "own"]);
    let results: Vec<_> = request.messages.iter().filter(|message| message.role == Role::Tool).collect();
    let told =
        |at: usize| (results[at].tool_call_id.as_deref(), results[at].plain_text(), results[at].failed);
    assert_eq!(told(0), (Some("call_0"), "42".into(), false));
    assert_eq!(told(1), (Some("call_1"), "boom".into(), true));
    assert_eq!(told(2), (Some("own"), r#"{"rows":[1,2]}"#.into(), false));
    assert_eq!(results[2].parts[1].kind(), "image");
    assert_eq!(request.messages.last(), Some(&Message::text(Role::User, "go on")));
}

#[test]
fn a_request_is_understood_in_the_hubs_words() {
    let request = decoded(RICH);
    assert_eq!((request.model.as_str(), request.delivery.stream), ("gemini-2.5-flash", true));
    let kinds = |at: usize| request.messages[at].parts.iter().map(Part::kind).collect::<Vec<_>>();
    assert_eq!(kinds(1), ["text", "image", "audio", "file", "file", "unknown"]);
    assert_eq!(kinds(3), ["reasoning", "text", "unknown", "unknown", "tool_call", "tool_call", "tool_call"]);
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert_eq!(request.sampling.top_k, Some(40));
    assert_eq!(request.sampling.answer_limit(), Some(7));
    let Tool::Function { parameters, .. } = &request.tools[0] else { panic!("a function") };
    assert_eq!(parameters.as_ref().unwrap()["properties"]["a"]["type"], "integer");
}

#[test]
fn one_thing_alone_is_a_list_and_a_model_may_stand_in_the_body() {
    let body = br#"{"model":"models/gemini-x","contents":{"parts":{"text":"hi"}}}"#;
    let request = decode_request(body, &Target::default()).unwrap();
    assert_eq!(request.model, "gemini-x");
    assert_eq!(request.messages, [Message::text(Role::User, "hi")]);
    assert_eq!(path(&request), "models/gemini-x:generateContent");
}

const OPENAI: &str = r#"{
    "model": "gemini-2.5-pro", "stream": true, "stream_options": {"include_usage": true}, "user": "u", "n": 1,
    "stop": "END", "max_completion_tokens": 9, "reasoning_effort": "low", "parallel_tool_calls": true,
    "tools": [{"type": "function", "function": {"name": "now", "description": "d", "strict": true,
        "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}}],
    "tool_choice": "required",
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA==", "detail": "low"}}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{\"a\": 1}"},
             "extra_content": {"google": {"thought_signature": "c2ln"}}},
            {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "{\"x\": 1}"},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "go on"}]
}"#;

#[test]
fn a_request_from_elsewhere_is_said_in_full() {
    let body = Bytes::from_static(OPENAI.as_bytes());
    let request = wire::decode_request(Protocol::OpenAiChat, &body, &Target::default()).unwrap();
    let mut dropped = Dropped::new();
    let wanted = json!({
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "be kind"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "what?"}, {"inlineData": {"mimeType": "image/png", "data": "eA=="}}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "c1", "name": "now", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "c2", "name": "now", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "c1", "name": "now", "response": {"x": 1}}},
                {"functionResponse": {"id": "c2", "name": "now", "response": {"result": "noon"}}},
                {"text": "go on"}]}],
        "tools": [{"functionDeclarations": [{"name": "now", "description": "d",
            "parametersJsonSchema": {"type": "object", "properties": {}, "additionalProperties": false}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 9, "stopSequences": ["END"], "candidateCount": 1,
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 1024}},
    });
    assert_eq!(encoded(&request, &mut dropped), wanted);
    dropped.sort();
    assert_eq!(
        dropped,
        [
            "messages[1].detail",
            "messages[5].position",
            "parallel_tools",
            "response_format.name",
            "tools[0].strict",
            "user"
        ]
    );
}

#[test]
fn what_says_nothing_is_not_sent() {
    let body = r#"{"model": "m", "messages": [{"role": "system", "content": ""}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": ""}, {"role": "user", "content": "b"}]}"#;
    let request = wire::decode_request(Protocol::OpenAiChat, &body.into(), &Target::default()).unwrap();
    let wanted = json!({"contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]});
    assert_eq!(encoded(&request, &mut Dropped::new()), wanted);
}

#[test]
fn what_cannot_be_said_here_is_refused_by_name() {
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let image = |url: &str| json!([{ "type": "image_url", "image_url": { "url": url } }]);
    let cases = [
        (user(image("https://example.com/a.png")), "messages[0]"),
        (user(json!([{ "type": "file", "file": { "file_id": "f" } }])), "messages[0]"),
        (json!([{ "role": "system", "content": "x" }]), "messages"),
        (json!([{ "role": "tool", "tool_call_id": "c", "content": "x" }]), "messages[0].tool_call_id"),
        (
            json!([{ "role": "assistant", "tool_calls": [{ "id": "c", "function": { "name": "f", "arguments": "[1]" } }] }]),
            "messages[0].tool_calls",
        ),
        (user(json!([{ "type": "hologram" }])), "messages[0]"),
    ];
    for (messages, field) in cases {
        let body = json!({ "model": "m", "messages": messages }).to_string();
        let request = wire::decode_request(Protocol::OpenAiChat, &body.into(), &Target::default()).unwrap();
        let error = encode_request(&request, &mut Dropped::new()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }
    let body = json!({ "model": "m", "messages": user(image("gs://bucket/a.png")) }).to_string();
    let request = wire::decode_request(Protocol::OpenAiChat, &body.into(), &Target::default()).unwrap();
    assert!(encode_request(&request, &mut Dropped::new()).is_ok());
}

#[test]
fn a_foreign_seal_stays_behind_and_an_own_one_goes_home() {
    let thought = |by| Part::Reasoning { text: "hm".into(), signature: Some(seal(by)), redacted: false };
    let mut request = decoded(r#"{"contents":[{"parts":[{"text":"a"}]}]}"#);
    request.messages.push(Message {
        parts: vec![thought(Protocol::Anthropic), thought(Protocol::Gemini)],
        ..Message::empty(Role::Assistant)
    });
    let mut dropped = Dropped::new();
    let parts = &encoded(&request, &mut dropped)["contents"][1]["parts"];
    let wanted =
        json!([{"text": "hm", "thought": true}, {"text": "hm", "thought": true, "thoughtSignature": "c2ln"}]);
    assert_eq!(parts, &wanted);
    assert_eq!(dropped, ["messages[1].signature"]);
}

#[test]
fn errors_name_the_field_and_never_quote_its_value() {
    let deep = format!("{{\"contents\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        ("[1]", None),
        (deep.as_str(), None),
        ("{}", Some("contents")),
        (r#"{"contents":[]}"#, Some("contents")),
        (r#"{"contents":["s3cret"]}"#, Some("contents[0]")),
        (r#"{"contents":[{"role":"s3cret","parts":[]}]}"#, Some("contents[0].role")),
        (r#"{"contents":[{"parts":["s3cret"]}]}"#, Some("contents[0].parts[0]")),
        (r#"{"contents":[{"parts":[{"text":["s3cret"]}]}]}"#, Some("contents[0].parts[0].text")),
        (r#"{"contents":[{"parts":[{"inlineData":"s3cret"}]}]}"#, Some("contents[0].parts[0].inlineData")),
        (r#"{"contents":[{"parts":[{"inlineData":{}}]}]}"#, Some("contents[0].parts[0].inlineData.data")),
        (
            r#"{"contents":[{"parts":[{"functionCall":{"args":1}}]}]}"#,
            Some("contents[0].parts[0].functionCall.name"),
        ),
        (
            r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":"s3cret"}}]}]}"#,
            Some("contents[0].parts[0].functionCall.args"),
        ),
        (r#"{"contents":[{"parts":[]}],"systemInstruction":"s3cret"}"#, Some("systemInstruction")),
        (r#"{"contents":[{"parts":[]}],"tools":["s3cret"]}"#, Some("tools[0]")),
        (
            r#"{"contents":[{"parts":[]}],"generationConfig":{"topK":"s3cret"}}"#,
            Some("generationConfig.topK"),
        ),
        (
            r#"{"contents":[{"parts":[]}],"generation_config":{"temperature":"s3cret"}}"#,
            Some("generationConfig.temperature"),
        ),
    ];
    for (body, field) in cases {
        let error = decode_request(body.as_bytes(), &target()).unwrap_err();
        assert_eq!(error.field.as_deref(), field, "{body:.99}: {error}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
    let error = decode_request(br#"{"contents":[{}]}"#, &Target::default()).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("model"));
}

fn from_openai(body: &Value) -> Request {
    wire::decode_request(Protocol::OpenAiChat, &body.to_string().into(), &Target::default()).unwrap()
}

#[test]
fn a_call_that_was_made_elsewhere_is_taken_without_a_seal() {
    let call = |id: &str| json!({ "id": id, "function": { "name": "f", "arguments": "{}" } });
    let ask = |model: &str| {
        let request = from_openai(&json!({ "model": model, "messages": [
            { "role": "user", "content": "q" },
            { "role": "assistant", "tool_calls": [call("a"), call("b")] },
            { "role": "tool", "tool_call_id": "a", "content": "1" },
            { "role": "tool", "tool_call_id": "b", "content": "2" },
        ] }));
        encoded(&request, &mut Dropped::new())["contents"][1]["parts"].take()
    };
    let parts = ask("gemini-3-pro-preview");
    assert_eq!(parts[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(parts[1]["thoughtSignature"], Value::Null, "only the first call of a turn has one");
    assert_eq!(ask("gemini-2.5-flash")[0]["thoughtSignature"], Value::Null);
}

#[test]
fn a_client_of_gemini_goes_on_after_calls_that_were_made_elsewhere() {
    let ask = |model: &str, seal: Option<&str>| {
        let mut call = json!({ "functionCall": { "id": "a", "name": "f", "args": {} } });
        if let Some(seal) = seal {
            call["thoughtSignature"] = json!(seal);
        }
        let other = json!({ "functionCall": { "id": "b", "name": "f", "args": {} } });
        let body = json!({ "contents": [
            { "role": "user", "parts": [{ "text": "q" }] },
            { "role": "model", "parts": [call] },
            { "role": "model", "parts": [other] },
            { "role": "user", "parts": [{ "functionResponse": { "id": "a", "name": "f", "response": {} } }] },
        ] });
        let target = Target { model: Some(model.into()), ..target() };
        let request = wire::decode_request(Protocol::Gemini, &body.to_string().into(), &target).unwrap();
        let contents = encoded(&request, &mut Dropped::new())["contents"].take();
        let seal = |at: usize| contents[at]["parts"][0]["thoughtSignature"].clone();
        (wire::wants_other_seals(&request), seal(1), seal(2))
    };
    let none = json!("skip_thought_signature_validator");
    assert_eq!(ask("gemini-3-pro", None), (true, none.clone(), Value::Null));
    assert_eq!(ask("gemini-3-pro", Some("c2ln")), (false, json!("c2ln"), Value::Null));
    assert_eq!(ask("gemini-3-pro", Some("d2VpcjphbnRocm9waWM6c2ln")), (true, none, Value::Null));
    assert_eq!(ask("gemini-2.5-pro", None), (false, Value::Null, Value::Null));
}

#[test]
fn whoever_wants_thoughts_is_shown_them_and_a_budget_fits_the_model() {
    let thinking = |protocol, body: Value| {
        let request = wire::decode_request(protocol, &body.to_string().into(), &Target::default()).unwrap();
        let mut dropped = Dropped::new();
        let config = encoded(&request, &mut dropped)["generationConfig"]["thinkingConfig"].take();
        dropped.retain(|field| field == "thinking.budget");
        (config, dropped.len())
    };
    let effort = |model: &str, effort: &str| {
        let messages = json!([{ "role": "user", "content": "q" }]);
        thinking(
            Protocol::OpenAiChat,
            json!({ "model": model, "messages": messages, "reasoning_effort": effort }),
        )
    };
    let shown = |budget: i64| json!({ "includeThoughts": true, "thinkingBudget": budget });
    assert_eq!(effort("gemini-2.5-flash", "low"), (shown(1_024), 0));
    assert_eq!(effort("gemini-2.5-flash", "none"), (json!({ "thinkingBudget": 0 }), 0));
    assert_eq!(effort("gemini-2.5-pro", "none"), (json!({ "thinkingBudget": 128 }), 1));
    let anthropic = |model: &str, thinking_field: Value| {
        let messages = json!([{ "role": "user", "content": "q" }]);
        thinking(
            Protocol::Anthropic,
            json!({ "model": model, "max_tokens": 9, "messages": messages, "thinking": thinking_field }),
        )
    };
    let enabled = |budget: u32| json!({ "type": "enabled", "budget_tokens": budget });
    assert_eq!(anthropic("gemini-2.5-flash", enabled(32_000)), (shown(24_576), 1));
    assert_eq!(anthropic("gemini-2.5-pro", enabled(32_000)), (shown(32_000), 0));
    assert_eq!(anthropic("gemini-2.5-pro", enabled(64_000)), (shown(32_768), 1));
    assert_eq!(anthropic("gemini-2.5-pro", json!({ "type": "adaptive" })), (shown(-1), 0));
    let hidden = json!({ "type": "enabled", "budget_tokens": 2_000, "display": "omitted" });
    assert_eq!(anthropic("gemini-2.5-pro", hidden).0["includeThoughts"], false);
    let ollama = json!({ "model": "gemini-2.5-flash", "messages": [{ "role": "user", "content": "q" }], "think": true });
    assert_eq!(thinking(Protocol::OllamaChat, ollama), (shown(-1), 0));
}
