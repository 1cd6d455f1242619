use crate::chat::{
    Block, Choice, Citation, Event, Finish, Protocol, Reply, Request, Signature, ToolCall, Usage, fold,
    unfold,
};
use crate::wire::anthropic::{Decoder, Encoder, decode_request, encode_request, error_body};
use crate::wire::{Dropped, Error, Failure, sse};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

fn encoder() -> Encoder {
    Encoder::new(&Request::default())
}

fn decode_stream(bytes: &[u8]) -> Result<Vec<Event>, Error> {
    let (mut frames, mut decoder) = (sse::Decoder::default(), Decoder::default());
    let mut events = Vec::new();
    for frame in frames.push(bytes).unwrap() {
        events.extend(decoder.frame(&frame.data)?);
    }
    events.extend(decoder.finish().into_iter().flatten());
    Ok(events)
}

fn streamed(events: &[Event]) -> Vec<u8> {
    let mut encoder = encoder();
    events.iter().flat_map(|event| encoder.event(event)).collect()
}

fn there_and_back(reply: &Reply) {
    let whole = Decoder::default().whole(&encoder().whole(reply)).unwrap();
    assert_eq!(fold(&whole).as_ref(), Ok(reply), "whole");
    let stream = decode_stream(&streamed(&unfold(reply))).unwrap();
    assert_eq!(fold(&stream).as_ref(), Ok(reply), "stream");
}

fn reply(blocks: Vec<Block>, finish: Option<Finish>) -> Reply {
    let usage = Usage { input: 9, output: 4, cached_input: 3, cache_write: 1, reasoning: 2 };
    let choices = vec![Choice { blocks, logprobs: Vec::new(), finish }];
    Reply { id: "msg_1".into(), model: "m".into(), created: 0, choices, usage: Some(usage) }
}

fn call(id: &str, arguments: &str) -> Block {
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    })
}

fn any_signature() -> impl Strategy<Value = Signature> {
    let by = prop_oneof![Just(Protocol::Anthropic), Just(Protocol::Gemini), Just(Protocol::OpenAiResponses)];
    (by, "[A-Za-z0-9+/=]{1,9}").prop_map(|(by, data)| Signature { by, data })
}

fn any_citation() -> impl Strategy<Value = Citation> {
    ("[a-z]{1,8}", prop::option::of("[a-z]{1,8}")).prop_map(|(url, title)| Citation {
        raw: json!({ "type": "web_search_result_location", "url": url, "title": title, "cited_text": "q" }),
        url: Some(url),
        title,
        quote: Some("q".into()),
        by: Protocol::Anthropic,
    })
}

fn any_block() -> impl Strategy<Value = Block> {
    let sealed = || prop::option::of(any_signature());
    let text = ("\\PC{1,30}", prop::collection::vec(any_citation(), 0..2), sealed())
        .prop_map(|(text, citations, signature)| Block::Text { text, citations, signature });
    let thought = ("\\PC{1,9}", sealed()).prop_map(|(text, signature)| Block::Reasoning { text, signature });
    let wordless =
        any_signature().prop_map(|seal| Block::Reasoning { text: String::new(), signature: Some(seal) });
    let arguments =
        prop_oneof![Just("{}"), Just("{\"x\":[1,{}]}"), Just("\"s\""), Just("[]"), Just("{\"cut")];
    let call =
        ("[a-z]{1,8}", "\\PC{0,8}", arguments, sealed()).prop_map(|(id, name, arguments, signature)| {
            Block::ToolCall(ToolCall {
                id,
                name,
                arguments: arguments.into(),
                signature,
                ..ToolCall::default()
            })
        });
    prop_oneof![text, thought, wordless, any_signature().prop_map(Block::Redacted), call]
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(blocks in prop::collection::vec(any_block(), 0..6), cut in any::<bool>()) {
        there_and_back(&reply(blocks, Some(if cut { Finish::Length } else { Finish::ToolCalls })));
    }

    #[test]
    fn never_panics(payload in "\\PC{0,60}", kind in 0usize..9) {
        let kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
            "message_delta", "message_stop", "ping", "error", "new"];
        let mut decoder = Decoder::default();
        let _ = decoder.frame(payload.as_bytes());
        for field in ["message", "content_block", "delta", "usage", "index"] {
            let _ = decoder.frame(json!({ "type": kinds[kind], field: payload }).to_string().as_bytes());
            let _ = decoder.frame(json!({ "type": kinds[kind], field: { "type": payload } }).to_string().as_bytes());
        }
        let _ = decoder.whole(payload.as_bytes());
        let _ = decoder.finish();
    }
}

#[test]
fn every_end_comes_back() {
    use Finish::{Length, Other, Refusal, Stop, StopSequence, ToolCalls};
    let other = |name: &str| Other(name.into());
    let ends =
        [Stop, StopSequence("4".into()), Length, ToolCalls, Refusal, other("pause_turn"), other("new")];
    for end in ends.into_iter().map(Some).chain([None]) {
        there_and_back(&reply(vec![Block::text("Grüße 😀")], end));
    }
    there_and_back(&reply(vec![], Some(Stop)));
}

#[test]
fn what_has_no_word_here_is_said_in_the_nearest() {
    let reason = |blocks: Vec<Block>, finish| {
        let body: Value = serde_json::from_slice(&encoder().whole(&reply(blocks, Some(finish)))).unwrap();
        body["stop_reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(vec![Block::Refusal("no".into())], Finish::Stop), "refusal");
    assert_eq!(reason(vec![Block::text("a")], Finish::ContentFilter), "refusal");
    assert_eq!(reason(vec![call("a", "{}")], Finish::Stop), "tool_use");
    let refused = streamed(&unfold(&reply(vec![Block::Refusal("no".into())], Some(Finish::Stop))));
    let refused = fold(&decode_stream(&refused).unwrap()).unwrap();
    assert_eq!(refused.choices[0].said(), "no");
    assert_eq!(refused.choices[0].finish, Some(Finish::Refusal));
    let source =
        Citation { url: Some("u".into()), title: None, quote: None, by: Protocol::Gemini, raw: json!(1) };
    let cited = Block::Text { text: "a".into(), citations: vec![source], signature: None };
    let body: Value = serde_json::from_slice(&encoder().whole(&reply(vec![cited], None))).unwrap();
    assert_eq!(body["content"][0]["citations"][0]["url"], "u");
    let body: Value = serde_json::from_slice(&encoder().whole(&Reply::text("m", "a"))).unwrap();
    assert!(body["id"].as_str().unwrap().starts_with("msg_"));
}

fn named(bytes: &[u8]) -> Vec<(String, Value)> {
    let frames = sse::Decoder::default().push(bytes).unwrap();
    let named = frames
        .into_iter()
        .map(|frame| (String::from_utf8(frame.name).unwrap(), serde_json::from_slice(&frame.data).unwrap()));
    named.collect()
}

#[test]
fn the_order_of_a_stream_is_what_clients_expect() {
    let bytes = streamed(&unfold(&reply(vec![Block::text("a"), call("1", "{}")], Some(Finish::ToolCalls))));
    let frames = named(&bytes);
    assert!(frames.iter().all(|(name, body)| body["type"] == **name));
    let names: Vec<&str> = frames.iter().map(|(name, _)| name.as_str()).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    assert_eq!(
        names,
        [&["message_start"], &block[..], &block[..], &["message_delta", "message_stop"]].concat()
    );
    assert_eq!(frames[0].1["message"]["usage"]["input_tokens"], 0);
    assert_eq!(frames[4].1["content_block"], json!({"type":"tool_use","id":"1","name":"f","input":{}}));
    let usage = json!({"input_tokens":5,"cache_creation_input_tokens":1,"cache_read_input_tokens":3,
        "output_tokens":4,"output_tokens_details":{"thinking_tokens":2}});
    assert_eq!(frames[7].1["usage"], usage);
}

fn fragment(index: u32, id: Option<&str>, arguments: &str) -> Event {
    let (id, name) = (id.map(str::to_owned), id.map(|_| "f".to_owned()));
    Event::ToolCall { choice: 0, index, id, name, arguments: arguments.into() }
}

#[test]
fn calls_written_at_once_become_blocks_one_after_the_other() {
    let mut events = vec![
        fragment(0, Some("a"), ""),
        fragment(1, Some("b"), ""),
        fragment(2, Some("c"), "{"),
        fragment(0, None, "{\"x\":"),
        fragment(1, None, "{\"y\""),
        Event::Text { choice: 0, text: "so".into() },
        fragment(0, None, "1}"),
        fragment(2, None, "}"),
        fragment(1, None, ":2}"),
        fragment(3, Some("d"), "{\"never"),
    ];
    events.push(Event::Finish { choice: 0, reason: Finish::ToolCalls });
    events.push(Event::End);
    let reply = fold(&decode_stream(&streamed(&events)).unwrap()).unwrap();
    let mut said = reply.choices[0].blocks.clone();
    said.retain(|block| matches!(block, Block::ToolCall(_)));
    let calls = [call("a", "{\"x\":1}"), call("b", "{\"y\":2}"), call("c", "{}"), call("d", "{\"never")];
    assert_eq!(said, calls);
    assert_eq!(reply.choices[0].said(), "so");
}

#[test]
fn a_call_is_written_as_it_comes() {
    let mut encoder = encoder();
    let told = |bytes: Vec<u8>| named(&bytes).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    encoder.event(&fragment(0, Some("a"), ""));
    assert_eq!(told(encoder.event(&fragment(0, None, "{}"))), ["content_block_delta"]);
    let next = told(encoder.event(&fragment(1, Some("b"), "{")));
    assert_eq!(next, ["content_block_stop", "content_block_start", "content_block_delta"]);
    assert!(encoder.event(&fragment(0, None, "\n")).is_empty());
    let other = Event::Text { choice: 1, text: "x".into() };
    assert!(encoder.event(&other).is_empty());
}

#[test]
fn usage_adds_up_and_an_empty_input_is_an_empty_object() {
    let stream = b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"x\",\"usage\":{\"input_tokens\":1,\"cache_read_input_tokens\":2,\"cache_creation_input_tokens\":4,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n";
    let reply = fold(&decode_stream(stream).unwrap()).unwrap();
    assert_eq!(
        reply.usage,
        Some(Usage { input: 7, output: 9, cached_input: 2, cache_write: 4, reasoning: 0 })
    );
    assert_eq!(reply.choices[0].blocks, [call("a", "{}")]);
}

#[test]
fn a_stream_that_never_said_why_it_ends_was_cut() {
    let mut decoder = Decoder::default();
    decoder.frame(br#"{"type":"message_start","message":{}}"#).unwrap();
    decoder
        .frame(br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#)
        .unwrap();
    assert_eq!(decoder.frame(br#"{"type":"ping"}"#), Ok(vec![]));
    assert_eq!(decoder.finish(), None);
    decoder.frame(br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#).unwrap();
    assert_eq!(decoder.finish(), Some(vec![Event::End]));
    assert_eq!(decoder.frame(br#"{"type":"message_stop"}"#), Ok(vec![Event::End]));
    assert!(decoder.ended());
}

#[test]
fn what_has_no_word_in_the_hub_makes_the_reply_opaque() {
    let body = br#"{"type":"message","content":[{"type":"server_tool_use","id":"x","name":"web_search","input":{}},
        {"type":"text","text":"a","new":1},{"type":"tool_use","id":"a","name":"f","input":{},"caller":{"type":"code"}}],
        "stop_reason":"end_turn","container":{"id":"c"},"stop_details":null}"#;
    let events = Decoder::default().whole(body).unwrap();
    let opaque: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
        .collect();
    assert_eq!(opaque, ["server_tool_use", "new", "caller", "container"]);
}

#[test]
fn an_error_is_told_by_its_name_alone() {
    let message = |body: &[u8]| Decoder::default().frame(body).unwrap_err().message;
    let known = br#"{"type":"error","error":{"type":"overloaded_error","message":"s3cret"}}"#;
    assert_eq!(message(known), "the reply holds an error: overloaded_error");
    assert_eq!(message(br#"{"error":{"type":"a s3cret"}}"#), "the reply holds an error");
    assert_eq!(message(br#"{"type":"error"}"#), "the reply holds an error");
    assert!(Decoder::default().frame(b"<html>").is_err());
    assert!(Decoder::default().whole(b"{}").is_err());
    assert!(Decoder::default().whole(known).is_err());
}

#[test]
fn a_failure_has_the_name_that_its_status_calls_for() {
    let failure = |status| Failure {
        status,
        kind: "x",
        code: "y".into(),
        message: "sorry".into(),
        param: None,
        request_id: "req_1".into(),
        retry_after_ms: None,
    };
    let cases = [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ];
    for (status, name) in cases {
        let body = json!({"type":"error","error":{"type":name,"message":"sorry"},"request_id":"req_1"});
        assert_eq!(error_body(&failure(status)), body);
    }
    let bytes = encoder().failure(&failure(529));
    assert!(bytes.starts_with(b"event: error\ndata: {\"type\":\"error\""));
    assert!(decode_stream(&bytes).is_err());
}

#[test]
fn the_fixtures_mean_the_same_whole_and_in_pieces() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire/anthropic");
    let mut seen = 0;
    for case in fs::read_dir(root).unwrap().map(|case| case.unwrap().path()).filter(|case| case.is_dir()) {
        seen += 1;
        let read = |name: &str| fs::read(case.join(name)).unwrap();
        let mut request = decode_request(&read("request.json")).unwrap();
        request.received.protocol = Protocol::Anthropic;
        let mut dropped = Dropped::new();
        let body = Value::Object(encode_request(&request, &mut dropped).unwrap());
        let mut again = decode_request(body.to_string().as_bytes()).unwrap();
        again.received.protocol = Protocol::Anthropic;
        assert_eq!((again, dropped), (request, vec![]), "{}", case.display());
        let (whole, stream) =
            (Decoder::default().whole(&read("response.json")), decode_stream(&read("stream.txt")));
        if case.ends_with("error") {
            assert!(whole.is_err() && stream.is_err());
            continue;
        }
        let reply = fold(&whole.unwrap()).unwrap();
        assert_eq!(fold(&stream.unwrap()).as_ref(), Ok(&reply), "{}", case.display());
        there_and_back(&reply);
    }
    assert!(seen >= 10, "{seen}");
}
