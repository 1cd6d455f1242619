//! Laws and examples.

use super::*;
use crate::chat::{
    Block, Choice, Citation, Event, Finish, Folder, Message, Part, Reply, Request, Role, Sampling, Thinking,
    ToolCall, Usage, fold, unfold,
};
use crate::wire::{Dropped, Failure, Target, decisive_field, openai_chat, sse};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

const RICH: &str = r#"{
    "model": "gpt-5", "instructions": "be brief", "temperature": 0.5, "top_p": 0.5, "max_output_tokens": 70,
    "stream": true, "stream_options": {"include_obfuscation": false}, "top_logprobs": 2,
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true,
               "defer_loading": true},
              {"type": "web_search", "search_context_size": "low"}],
    "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
    "reasoning": {"effort": "low", "summary": "detailed"},
    "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "s", "strict": true, "schema": {"type": "object"}}},
    "store": false, "truncation": "auto", "metadata": {"a": "b"}, "future_field": {"deep": [1, 2.5]},
    "input": [
        {"type": "message", "role": "developer", "content": "think of the children"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "what is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,eA==", "detail": "low"},
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="},
            {"type": "input_file", "file_url": "https://x/a.pdf"},
            {"type": "input_file", "file_data": "eA=="},
            {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
            {"type": "hologram", "x": 1}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "phase": "commentary", "content": [
            {"type": "output_text", "text": "look", "annotations": [{"type": "url_citation", "url": "u"}]},
            {"type": "refusal", "refusal": "no"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAB"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1}", "namespace": "n"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": "https://x/y.png"}]},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "x"},
        {"type": "message", "role": "assistant", "content": "first"},
        {"type": "message", "role": "assistant", "content": "second"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "user", "content": "go on"}
    ]
}"#;

fn decoded(body: &str) -> Request {
    crate::wire::decode_request(HERE, &Bytes::from(body.to_owned()), &Target::default()).unwrap()
}

fn encoded(request: &Request) -> Value {
    Value::Object(encode_request(request, &mut Dropped::new()).unwrap())
}

/// The same request, as if it had come in another protocol.
fn abroad(mut request: Request) -> Request {
    request.received.protocol = Protocol::OpenAiChat;
    request
}

#[test]
fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
    let request = decoded(RICH);
    let mut sent: Value = serde_json::from_str(RICH).unwrap();
    let forwarded = encoded(&request);
    // The order in `include` says nothing.
    sent["include"].as_array_mut().unwrap().reverse();
    assert_eq!(forwarded, sent);
    assert_eq!(
        decoded(&forwarded.to_string()),
        Request { received: decoded(&forwarded.to_string()).received, ..request }
    );
}

#[test]
fn a_turn_of_an_assistant_is_one_message() {
    let request = decoded(RICH);
    let turns: Vec<(Role, Vec<&str>)> = request
        .messages
        .iter()
        .map(|message| (message.role, message.parts.iter().map(Part::kind).collect()))
        .collect();
    assert_eq!(turns[0], (Role::System, vec!["text"]));
    let turn = ["reasoning", "text", "refusal", "reasoning", "tool_call", "tool_call", "web_search_call"];
    assert_eq!(turns[3], (Role::Assistant, turn.to_vec()));
    assert_eq!(turns[4..6], [(Role::Tool, vec!["text"]), (Role::Tool, vec!["image"])]);
    assert_eq!(turns[6], (Role::Tool, vec!["custom_tool_call_output"]));
    assert_eq!(turns[7], (Role::Assistant, vec!["text"]));
    assert_eq!(turns[8], (Role::Assistant, vec!["text", "item_reference"]));
    assert_eq!(request.messages[5].tool_call_id.as_deref(), Some("c2"));
}

#[test]
fn what_only_names_an_item_is_not_kept() {
    let named = r#"{"model":"m","user":null,"input":[{"role":"user","content":"q"},
        {"type":"reasoning","id":"rs_1","status":"completed","summary":[],"encrypted_content":"e"},
        {"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[
            {"type":"output_text","text":"a","annotations":[],"logprobs":[]}]},
        {"type":"function_call","id":"fc_1","status":"completed","call_id":"c","name":"f","arguments":"{}"}]}"#;
    let request = decoded(named);
    assert_eq!(request.messages.len(), 2);
    assert!(request.messages.iter().all(|message| message.extra.is_empty()));
    assert!(request.extra.is_empty());
    let seal = Signature { by: HERE, data: "e".into() };
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
    let thought = Part::Reasoning { text: String::new(), signature: Some(seal), redacted: true };
    assert_eq!(request.messages[1].parts, [thought, Part::text("a"), Part::ToolCall(call)]);
}

#[test]
fn a_string_is_a_users_message() {
    let request = decoded(r#"{"model":"m","input":"hi"}"#);
    assert_eq!(request.messages, [Message::text(Role::User, "hi")]);
}

#[test]
fn a_chat_is_said_in_items() {
    let chat = r#"{
        "model": "gpt-5", "max_tokens": 50, "n": 1, "seed": 7, "user": "u", "reasoning_effort": "high",
        "logprobs": true, "top_logprobs": 3, "stream": true, "stream_options": {"include_usage": true},
        "tools": [{"type": "function", "function": {"name": "w", "description": "weather", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "w"}}, "parallel_tool_calls": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": true}},
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA==", "detail": "low"}}]},
            {"role": "assistant", "content": "well", "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{\"p\":1}"}},
                {"id": "c2", "type": "function", "function": {"name": "w", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "tool", "tool_call_id": "c2", "content": "rain"},
            {"role": "user", "content": "and?"}]}"#;
    let request = openai_chat::decode_request(chat.as_bytes()).unwrap();
    let mut dropped = Dropped::new();
    let body = Value::Object(encode_request(&request, &mut dropped).unwrap());
    let wanted = json!({
        "model": "gpt-5", "instructions": "be brief",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,eA==", "detail": "low"}]},
            {"type": "message", "role": "assistant", "content": "well"},
            {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{\"p\":1}"},
            {"type": "function_call", "call_id": "c2", "name": "w", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
            {"type": "function_call_output", "call_id": "c2", "output": "rain"},
            {"type": "message", "role": "user", "content": "and?"}],
        "store": false,
        "tools": [{"type": "function", "name": "w", "description": "weather", "parameters": {"type": "object"}, "strict": false}],
        "tool_choice": {"type": "function", "name": "w"}, "parallel_tool_calls": true,
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": true}},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "high"}, "max_output_tokens": 50, "top_logprobs": 3, "stream": true,
    });
    assert_eq!(body, wanted);
    assert_eq!(dropped, ["messages[2].reasoning", "user", "seed"]);
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let request = || Request { messages: vec![Message::text(Role::User, "q")], ..Request::default() };
    let field = |change: &dyn Fn(&mut Request)| {
        let mut request = request();
        change(&mut request);
        encode_request(&request, &mut Dropped::new()).unwrap_err().field.unwrap()
    };
    assert_eq!(field(&|request| request.sampling.stop = vec!["x".into()]), "stop");
    assert_eq!(field(&|request| request.sampling.n = Some(2)), "n");
    let opaque = |request: &mut Request| request.messages[0].parts.push(Part::Opaque(json!({"type": "x"})));
    assert_eq!(field(&opaque), "messages[0]");
    assert_eq!(field(&|request| request.tools.push(crate::chat::Tool::Opaque(json!({})))), "tools[0]");
    let result = |request: &mut Request| request.messages.push(Message::text(Role::Tool, "42"));
    assert_eq!(field(&result), "messages[1].tool_call_id");
    let mut dropped = Dropped::new();
    let sampling =
        Sampling { top_k: Some(1), seed: Some(1), presence_penalty: Some(1.0), ..Sampling::default() };
    encode_request(&Request { sampling, ..request() }, &mut dropped).unwrap();
    assert_eq!(dropped, ["top_k", "seed", "presence_penalty"]);
}

#[test]
fn a_foreign_thought_stays_away_and_a_budget_becomes_an_effort() {
    let seal = |by| Some(Signature { by, data: "s".into() });
    let thought = |by| Part::Reasoning { text: "hm".into(), signature: seal(by), redacted: false };
    let parts = vec![thought(Protocol::Anthropic), thought(HERE), Part::text("a")];
    let request = Request {
        messages: vec![Message { parts, ..Message::empty(Role::Assistant) }],
        thinking: Some(Thinking { budget: Some(4_096), shown: Some(true), ..Thinking::default() }),
        ..Request::default()
    };
    let mut dropped = Dropped::new();
    let body = Value::Object(encode_request(&request, &mut dropped).unwrap());
    assert_eq!(dropped, ["messages[0].reasoning"]);
    assert_eq!(body["reasoning"], json!({"effort": "medium", "summary": "auto"}));
    assert_eq!(body["input"][0]["encrypted_content"], "s");
    assert_eq!(body["input"].as_array().unwrap().len(), 2);
}

#[test]
fn a_request_that_leans_on_its_provider_says_so() {
    let cases = [
        (r#"{"model":"m","input":"q","previous_response_id":"resp_1"}"#, Some("previous_response_id")),
        (r#"{"model":"m","conversation":{"id":"conv_1"}}"#, Some("conversation")),
        (r#"{"model":"m","prompt":{"id":"pmpt_1"}}"#, Some("prompt")),
        (r#"{"model":"m","input":"q","background":true}"#, Some("background")),
        (r#"{"model":"m","input":"q","background":false,"previous_response_id":null,"store":true}"#, None),
    ];
    for (body, field) in cases {
        assert_eq!(decisive_field(&decoded(body)), field, "{body}");
        assert_eq!(decisive_field(&abroad(decoded(body))), None);
    }
}

#[test]
fn errors_name_the_field_and_never_quote_its_value() {
    let cases = [
        ("[1]", None),
        (r#"{"input":"x"}"#, Some("model")),
        (r#"{"model":"m"}"#, Some("input")),
        (r#"{"model":"m","input":[]}"#, Some("input")),
        (r#"{"model":"m","input":5}"#, Some("input")),
        (r#"{"model":"m","input":["s3cret"]}"#, Some("input[0]")),
        (r#"{"model":"m","input":[{"role":"s3cret","content":""}]}"#, Some("input[0].role")),
        (r#"{"model":"m","input":[{"role":"user","content":{"s3cret":1}}]}"#, Some("input[0].content")),
        (r#"{"model":"m","input":[{"type":"function_call","call_id":"s3cret"}]}"#, Some("input[0].name")),
        (r#"{"model":"m","input":"q","instructions":["s3cret"]}"#, Some("instructions")),
        (r#"{"model":"m","input":"q","text":"s3cret"}"#, Some("text")),
        (r#"{"model":"m","input":"q","reasoning":{"effort":["s3cret"]}}"#, Some("reasoning.effort")),
        (r#"{"model":"m","input":"q","max_output_tokens":-1}"#, Some("max_output_tokens")),
        (r#"{"model":"m","input":"q","include":"s3cret"}"#, Some("include")),
    ];
    for (body, field) in cases {
        let error = decode_request(body.as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), field, "{body}: {error}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(decode_request(deep.as_bytes()).is_err());
}

fn call(id: &str, arguments: &str, seal: Option<&str>) -> Block {
    let (id, name, arguments) = (id.into(), format!("f{id}"), arguments.into());
    let signature = seal.map(|data| Signature { by: Protocol::Gemini, data: data.into() });
    Block::ToolCall(ToolCall { id, name, arguments, signature, ..ToolCall::default() })
}

fn reply() -> Reply {
    let seal = |by, data: &str| Signature { by, data: data.into() };
    let raw = json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 3});
    let citation = Citation { url: Some("u".into()), title: Some("t".into()), quote: None, by: HERE, raw };
    Reply {
        id: "resp_1".into(),
        model: "m".into(),
        created: 1_700_000_000,
        choices: vec![Choice {
            blocks: vec![
                Block::Reasoning { text: "hm\n\nso".into(), signature: Some(seal(HERE, "gA")) },
                Block::Reasoning { text: "or".into(), signature: None },
                Block::Reasoning { text: "no".into(), signature: Some(seal(Protocol::Anthropic, "x:y")) },
                Block::Redacted(seal(HERE, "gB")),
                Block::Redacted(seal(Protocol::Gemini, "gC")),
                Block::Text { text: "Grüße 😀".into(), citations: vec![citation], signature: None },
                Block::text("more"),
                Block::Refusal("no".into()),
                Block::Refusal("never".into()),
                call("a", "{\"x\":1}", Some("s1")),
                call("b", "{}", Some("s2")),
                call("c", "", None),
                Block::text("after"),
            ],
            logprobs: vec![json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []})],
            finish: Some(Finish::ToolCalls),
        }],
        usage: Some(Usage { input: 3, output: 4, cached_input: 1, cache_write: 1, reasoning: 2 }),
    }
}

fn stream_of(events: &[Event]) -> Vec<u8> {
    let mut encoder = Encoder::new(&decoded(RICH));
    events.iter().flat_map(|event| encoder.event(event)).collect()
}

fn frames(bytes: &[u8]) -> Vec<Value> {
    let frames = sse::Decoder::default().push(bytes).unwrap();
    let frames = frames.iter().map(|frame| {
        let value: Value = serde_json::from_slice(&frame.data).unwrap();
        assert_eq!(value["type"], String::from_utf8_lossy(&frame.name).as_ref());
        value
    });
    frames.collect()
}

fn read(bytes: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let frames = sse::Decoder::default().push(bytes).unwrap();
    let events = frames.iter().flat_map(|frame| decoder.frame(&frame.data).unwrap()).collect();
    assert!(decoder.ended());
    events
}

fn whole(reply: &Reply) -> Vec<u8> {
    Encoder::new(&Request::default()).whole(reply)
}

#[test]
fn decoding_undoes_encoding() {
    assert_eq!(fold(&Decoder::default().whole(&whole(&reply())).unwrap()), Ok(reply()));
    assert_eq!(fold(&read(&stream_of(&unfold(&reply())))), Ok(reply()));
}

#[test]
fn every_end_comes_back() {
    let finishes = [Finish::Stop, Finish::Length, Finish::ContentFilter, Finish::Other("steered".into())];
    for finish in finishes {
        let mut reply = Reply { id: "resp_2".into(), ..Reply::text("m", "x") };
        reply.choices[0].finish = Some(finish);
        assert_eq!(fold(&Decoder::default().whole(&whole(&reply)).unwrap()), Ok(reply.clone()));
        assert_eq!(fold(&read(&stream_of(&unfold(&reply)))), Ok(reply));
    }
}

/// A stream in which only the frames of these kinds are left.
fn only(bytes: &[u8], kept: impl Fn(&str) -> bool) -> Vec<u8> {
    let frames = sse::Decoder::default().push(bytes).unwrap();
    let kept = frames.iter().filter(|frame| kept(std::str::from_utf8(&frame.name).unwrap()));
    kept.flat_map(|frame| sse::named_frame(&frame.name, &frame.data)).collect()
}

#[test]
fn any_of_the_four_tellings_is_enough() {
    let mut told = reply();
    told.choices[0].logprobs.clear();
    let bytes = stream_of(&unfold(&told));
    let end = |kind: &str| kind == "response.completed";
    let started = |kind: &str| kind == "response.created" || end(kind);
    let kept: [&dyn Fn(&str) -> bool; 5] = [
        &end,
        &|kind| kind != "response.created",
        &|kind| started(kind) || kind == "response.output_item.done",
        &|kind| !kind.ends_with("delta"),
        &|kind| kind == "response.output_item.done" || !kind.ends_with("done"),
    ];
    for (at, kept) in kept.into_iter().enumerate() {
        let mut read = fold(&read(&only(&bytes, kept))).unwrap();
        (read.id, read.model, read.created) = (told.id.clone(), told.model.clone(), told.created);
        assert_eq!(read, told, "{at}");
    }
}

#[test]
fn a_complete_response_without_output_takes_nothing_back() {
    let bytes = String::from_utf8(stream_of(&unfold(&Reply::text("m", "hello")))).unwrap();
    let (before, last) = bytes.split_at(bytes.find("event: response.completed").unwrap());
    let mut last: Value = serde_json::from_str(last.split_once("data: ").unwrap().1).unwrap();
    last["response"]["output"] = json!([]);
    let bytes = [before.as_bytes(), &sse::frame(last.to_string().as_bytes())].concat();
    assert_eq!(fold(&read(&bytes)).unwrap().choices[0].said(), "hello");
}

#[test]
fn items_that_are_named_anew_every_time_are_told_once() {
    let item =
        |id: &str| json!({"type": "message", "id": id, "content": [{"type": "output_text", "text": "hi"}]});
    let sent = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "1"}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "item_id": "2", "delta": "hi"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item("3")}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": [item("4")]}}),
    ];
    let mut decoder = Decoder::default();
    let events: Vec<Event> =
        sent.iter().flat_map(|frame| decoder.frame(frame.to_string().as_bytes()).unwrap()).collect();
    assert_eq!(fold(&events).unwrap().choices[0].said(), "hi");
}

#[test]
fn calls_may_come_in_turns() {
    let fragment = |index, id: Option<&str>, arguments: &str| Event::ToolCall {
        choice: 0,
        index,
        id: id.map(str::to_owned),
        name: id.map(|id| format!("f{id}")),
        arguments: arguments.to_owned(),
    };
    let events = [
        Event::Start { id: "resp_3".into(), model: "m".into(), created: 1 },
        fragment(0, Some("a"), "{\"x\""),
        fragment(1, Some("b"), "{"),
        fragment(0, None, ":1}"),
        fragment(1, None, "}"),
        Event::Finish { choice: 0, reason: Finish::ToolCalls },
        Event::End,
    ];
    let bytes = stream_of(&events);
    assert_eq!(fold(&read(&bytes)), fold(&events));
    let kinds: Vec<(String, u64)> = frames(&bytes)
        .iter()
        .filter(|frame| frame["output_index"].is_u64())
        .map(|frame| (frame["type"].as_str().unwrap().to_owned(), frame["output_index"].as_u64().unwrap()))
        .collect();
    let (added, delta) = ("response.output_item.added", "response.function_call_arguments.delta");
    let begun: Vec<(&str, u64)> = kinds[..6].iter().map(|(kind, at)| (kind.as_str(), *at)).collect();
    assert_eq!(begun, [(added, 0), (delta, 0), (added, 1), (delta, 1), (delta, 0), (delta, 1)]);
}

#[test]
fn a_stream_is_framed_as_the_sdks_expect_it() {
    let reply = Reply { id: "resp_4".into(), created: 9, ..Reply::text("m", "hi") };
    let frames = frames(&stream_of(&unfold(&reply)));
    let kinds: Vec<&str> = frames
        .iter()
        .map(|frame| frame["type"].as_str().unwrap().strip_prefix("response.").unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let numbers: Vec<u64> = frames.iter().map(|frame| frame["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<u64>>());
    assert!(frames.iter().all(|frame| frame.get("error").is_none()), "an SDK would raise");
    let last = &frames[8]["response"];
    assert_eq!(last["output"][0]["id"], "msg_4_0");
    assert_eq!((&last["instructions"], &last["temperature"]), (&json!("be brief"), &json!(0.5)));
    assert_eq!(last["tools"].as_array().unwrap().len(), 2);
    assert_eq!((&last["text"]["verbosity"], &last["max_output_tokens"]), (&json!("low"), &json!(70)));
    assert_eq!((&last["error"], &last["usage"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_reply_without_an_id_gets_one_and_an_empty_one_a_message() {
    let body: Value = serde_json::from_slice(&whole(&Reply::text("m", ""))).unwrap();
    assert!(body["id"].as_str().unwrap().starts_with("resp_"), "{body}");
    let bytes: Vec<u8> = stream_of(&[Event::Finish { choice: 0, reason: Finish::Stop }, Event::End]);
    let last = frames(&bytes).pop().unwrap();
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "");
}

#[test]
fn a_source_is_shown_whatever_protocol_it_came_from() {
    let cite = |by, raw| {
        let citation = Citation { url: Some("u".into()), title: None, quote: Some("q".into()), by, raw };
        let said = Block::Text { text: "x".into(), citations: vec![citation], signature: None };
        let choice = Choice { blocks: vec![said], ..Choice::default() };
        let body: Value =
            serde_json::from_slice(&whole(&Reply { choices: vec![choice], ..Reply::default() })).unwrap();
        body["output"][0]["content"][0]["annotations"][0].clone()
    };
    let made = json!({"type": "url_citation", "url": "u", "title": "", "content": "q", "start_index": 0, "end_index": 0});
    assert_eq!(cite(Protocol::Anthropic, json!({"type": "char_location"})), made);
    let chat = json!({"type": "url_citation", "url_citation": {"url": "u", "start_index": 3}});
    assert_eq!(
        cite(Protocol::OpenAiChat, chat),
        json!({"type": "url_citation", "url": "u", "start_index": 3})
    );
}

#[test]
fn a_failure_is_told_in_words_and_never_in_content() {
    let frames = [
        (r#"{"type":"error","code":"rate_limit_exceeded","message":"s3cret"}"#, "rate_limit_exceeded"),
        (r#"{"type":"error","error":{"type":"server_error","message":"s3cret"}}"#, "server_error"),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"s3cret"}}}"#,
            "server_error",
        ),
        (r#"{"type":"response.failed","response":{}}"#, "failed"),
        (r#"{"type":"error","code":"s3cret and more","message":"x"}"#, "error"),
        (r#"{"error":{"message":"s3cret"}}"#, "error"),
        ("<html>s3cret", "JSON"),
    ];
    for (frame, name) in frames {
        let error = Decoder::default().frame(frame.as_bytes()).unwrap_err();
        assert!(error.message.contains(name) && !error.message.contains("s3cret"), "{error}");
    }
    let bodies = [
        r#"{"error":{"message":"boom","type":"invalid_request_error"}}"#,
        r#"{"status":"failed","output":[],"error":{"code":"server_error"}}"#,
        r#"{"status":"cancelled","output":[]}"#,
        "{}",
        "[]",
    ];
    assert!(bodies.iter().all(|body| Decoder::default().whole(body.as_bytes()).is_err()));
}

#[test]
fn a_cut_stream_is_no_reply() {
    let bytes = stream_of(&unfold(&reply()));
    let frames = sse::Decoder::default().push(&bytes).unwrap();
    let mut decoder = Decoder::default();
    for frame in &frames {
        assert_eq!(decoder.finish(), None);
        decoder.frame(&frame.data).unwrap();
    }
    assert_eq!(decoder.finish(), Some(vec![]));
    assert_eq!(decoder.frame(b"[DONE]"), Ok(vec![]));
}

fn opaque(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
        .collect()
}

#[test]
fn what_has_no_word_here_makes_the_reply_opaque() {
    let body = br#"{"id":"x","status":"completed","moderation":{"input":1},"output":[
        {"type":"web_search_call","id":"ws_1","status":"completed"},
        {"type":"message","phase":"commentary","content":[{"type":"output_audio","data":"x"}],"new":1},
        {"type":"message","phase":"final_answer","content":[]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{}","caller":{"type":"direct"}},
        {"type":"function_call","call_id":"d","name":"f","arguments":"{}","namespace":"n"}]}"#;
    let events = Decoder::default().whole(body).unwrap();
    assert_eq!(
        opaque(&events),
        ["web_search_call", "output_audio", "new", "phase", "namespace", "moderation"]
    );
    let frame = br#"{"type":"response.web_search_call.searching","output_index":0}"#;
    assert_eq!(opaque(&Decoder::default().frame(frame).unwrap()), ["response.web_search_call.searching"]);
    let queued = Decoder::default().whole(br#"{"status":"queued","output":[]}"#).unwrap();
    assert_eq!(opaque(&queued), ["status"]);
}

#[test]
fn a_failure_in_the_middle_is_an_event_of_its_own() {
    let mut encoder = Encoder::new(&Request::default());
    encoder.event(&Event::Start { id: "resp_5".into(), model: "m".into(), created: 1 });
    let failure = Failure {
        status: 502,
        kind: "server_error",
        code: "upstream_failed".into(),
        message: "gone".into(),
        param: None,
        request_id: "r".into(),
        retry_after_ms: None,
    };
    let told = frames(&encoder.failure(&failure)).remove(0);
    let wanted = json!({"type": "error", "code": "upstream_failed", "message": "gone", "param": null, "sequence_number": 2});
    assert_eq!(told, wanted);
    assert!(Decoder::default().frame(told.to_string().as_bytes()).is_err());
}

fn any_event() -> impl Strategy<Value = Event> {
    let seal = "[a-z]{1,3}".prop_map(|data| Signature { by: HERE, data });
    prop_oneof![
        "\\PC{0,4}".prop_map(|text| Event::Text { choice: 0, text }),
        "\\PC{0,4}".prop_map(|text| Event::Reasoning { choice: 0, text }),
        "\\PC{0,4}".prop_map(|text| Event::Refusal { choice: 0, text }),
        seal.clone().prop_map(|signature| Event::Redacted { choice: 0, signature }),
        Just(Event::Break { choice: 0 }),
        (0u32..3, "[a-z{}]{0,3}").prop_map(|(index, arguments)| Event::ToolCall {
            choice: 0,
            index,
            id: None,
            name: None,
            arguments
        }),
    ]
}

/// Calls are counted in the order in which they begin, and named with their first fragment.
fn ordered(mut events: Vec<Event>) -> Vec<Event> {
    let mut begun = Vec::new();
    for event in &mut events {
        let Event::ToolCall { index, id, name, .. } = event else { continue };
        if !begun.contains(index) {
            begun.push(*index);
            (*id, *name) = (Some(format!("c{index}")), Some("f".into()));
        }
        *index = begun.iter().position(|known| known == index).unwrap() as u32;
    }
    events
}

proptest! {
    #[test]
    fn a_stream_and_its_complete_response_mean_the_same(said in prop::collection::vec(any_event(), 0..12)) {
        let mut events = vec![Event::Start { id: "resp_6".into(), model: "m".into(), created: 1 }];
        events.extend(ordered(said));
        events.push(Event::Finish { choice: 0, reason: Finish::Length });
        events.push(Event::End);
        let bytes = stream_of(&events);
        let streamed = fold(&read(&bytes));
        prop_assert_eq!(&streamed, &fold(&read(&only(&bytes, |kind| kind == "response.incomplete"))));
        let mut said = fold(&events).unwrap();
        said.choices.truncate(1);
        prop_assert_eq!(streamed, Ok(said));
    }

    #[test]
    fn never_panics(body in "\\PC{0,40}", kind in 0usize..12, at in any::<u64>()) {
        let kinds = ["output_text.delta", "output_text.done", "output_item.added", "output_item.done",
            "content_part.done", "function_call_arguments.delta", "function_call_arguments.done",
            "reasoning_text.delta", "refusal.done", "completed", "output_text.annotation.added", "created"];
        let mut decoder = Decoder::default();
        let _ = decoder.frame(body.as_bytes());
        for value in [json!(body), json!({"type": body, "output": [body]}), json!([1]), json!(null)] {
            let frame = json!({"type": format!("response.{}", kinds[kind]), "output_index": at,
                "content_index": at, "delta": value, "item": value, "part": value, "response": value,
                "annotation": value, "logprobs": value, "text": value, "arguments": value});
            let mut folder = Folder::default();
            decoder.frame(frame.to_string().as_bytes()).unwrap_or_default().iter().for_each(|event| folder.push(event));
        }
    }
}

/// The bytes of a fixture.
fn fixture(case: &str, file: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/wire/openai_responses");
    std::fs::read(format!("{folder}/{case}/{file}")).unwrap()
}

#[test]
fn what_providers_send_means_the_same_whole_and_in_frames() {
    for case in [
        "text",
        "tools",
        "tools_interleaved",
        "tool_results",
        "image",
        "reasoning",
        "reasoning_sealed",
        "json_schema",
        "refusal",
        "incomplete",
        "logprobs",
        "usage_details",
    ] {
        decode_request(&fixture(case, "request.json")).unwrap();
        let whole = fold(&Decoder::default().whole(&fixture(case, "response.json")).unwrap());
        let mut decoder = Decoder::default();
        let frames = sse::Decoder::default().push(&fixture(case, "stream.txt")).unwrap();
        let events: Vec<Event> =
            frames.iter().flat_map(|frame| decoder.frame(&frame.data).unwrap()).collect();
        assert!(whole.is_ok(), "{case}");
        assert_eq!(fold(&events), whole, "{case}");
    }
}

#[test]
fn what_providers_send_when_they_fail_is_an_error() {
    for case in ["error", "failed"] {
        assert!(Decoder::default().whole(&fixture(case, "response.json")).is_err());
        let mut decoder = Decoder::default();
        let frames = sse::Decoder::default().push(&fixture(case, "stream.txt")).unwrap();
        assert!(frames.iter().any(|frame| decoder.frame(&frame.data).is_err()), "{case}");
    }
    let searched = Decoder::default().whole(&fixture("citations", "response.json")).unwrap();
    assert_eq!(opaque(&searched), ["web_search_call"]);
}
