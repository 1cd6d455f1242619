//! Replies, both ways.

use super::{read_stream, seal, streamed};
use crate::chat::{
    Block, Choice, Chunk, Citation, Event, Finish, Form, Protocol, Raw, Reply, Request, Signature, ToolCall,
    Usage, fold,
};
use crate::wire::gemini::{Decoder, Encoder};
use crate::wire::{self, Failure, sse};
use serde_json::{Value, json};

fn call(id: &str, arguments: &str, signature: Option<Signature>) -> Block {
    let (id, name, arguments) = (id.into(), "f".into(), arguments.into());
    Block::ToolCall(ToolCall { id, name, arguments, signature, ..ToolCall::default() })
}

fn source(raw: Value) -> Citation {
    let fields = raw.get("web").unwrap_or(&raw);
    let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
    Citation { url: text("uri"), title: text("title"), quote: None, by: Protocol::Gemini, raw }
}

fn choice(blocks: Vec<Block>, finish: Finish) -> Choice {
    Choice { blocks, logprobs: Vec::new(), finish: Some(finish) }
}

/// A reply with everything that can be said here.
fn reply() -> Reply {
    let citations = vec![
        source(json!({"web": {"uri": "u", "title": "t"}, "groundingMetadata": {"webSearchQueries": ["q"]}})),
        source(json!({"web": {"uri": "v"}})),
        source(json!({"startIndex": 1, "endIndex": 2, "uri": "w", "license": "MIT"})),
    ];
    let token = |token: &str, others: Value| json!({"token": token, "logprob": -0.5, "bytes": null, "token_id": 7, "top_logprobs": others});
    let other = json!({"token": "b", "logprob": -1.5, "bytes": null});
    let sealed =
        |text: &str, by| Block::Text { text: text.into(), citations: vec![], signature: Some(seal(by)) };
    let thought = |text: &str, signature| Block::Reasoning { text: text.into(), signature };
    Reply {
        id: "resp-1".into(),
        model: "gemini-2.5-flash".into(),
        created: 1_763_112_600,
        choices: vec![
            Choice {
                logprobs: vec![token("a", json!([other])), token("c", json!([]))],
                ..choice(
                    vec![
                        thought("hm", Some(seal(Protocol::Gemini))),
                        thought("so", None),
                        sealed("Grüße 😀", Protocol::Gemini),
                        sealed("x", Protocol::Anthropic),
                        Block::Text {
                            text: "cited".into(),
                            citations,
                            signature: Some(seal(Protocol::Gemini)),
                        },
                    ],
                    Finish::Stop,
                )
            },
            choice(
                vec![
                    call("a", r#"{"x":1,"y":{"z":[]}}"#, Some(seal(Protocol::Gemini))),
                    call("b", "{}", None),
                    Block::text("then"),
                    call("c", "{}", Some(seal(Protocol::Anthropic))),
                ],
                Finish::ToolCalls,
            ),
            choice(
                vec![
                    Block::text("x"),
                    thought("", Some(seal(Protocol::Gemini))),
                    Block::Redacted(seal(Protocol::Anthropic)),
                    thought("", Some(seal(Protocol::Gemini))),
                ],
                Finish::Other("MALFORMED_FUNCTION_CALL".into()),
            ),
            choice(vec![], Finish::ContentFilter),
            choice(vec![Block::text("cut")], Finish::Length),
        ],
        usage: Some(Usage { input: 9, output: 7, cached_input: 4, cache_write: 0, reasoning: 3 }),
    }
}

#[test]
fn decoding_undoes_encoding_of_a_whole_reply() {
    let whole = Encoder::default().whole(&reply());
    assert_eq!(fold(&Decoder::default().whole(&whole).unwrap()), Ok(reply()));
}

#[test]
fn decoding_undoes_encoding_of_a_stream() {
    assert_eq!(fold(&read_stream(&streamed(&reply(), true))), Ok(reply()));
}

#[test]
fn a_stream_may_be_a_list_and_a_failure_closes_it() {
    let list = streamed(&reply(), false);
    assert_eq!(fold(&Decoder::default().whole(&list).unwrap()), Ok(reply()));
    let mut empty = Encoder::new(&Request::default(), false);
    assert_eq!(empty.event(&Event::End), b"[]");
    let failure = Failure {
        status: 503,
        kind: "server_error",
        code: "c".into(),
        message: "gone".into(),
        param: None,
        request_id: "r".into(),
        retry_after_ms: None,
    };
    let mut encoder = Encoder::new(&Request::default(), false);
    let mut bytes = encoder.event(&Event::Text { choice: 0, text: "a".into() });
    bytes.extend(encoder.failure(&failure));
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(list[1]["error"]["status"], "UNAVAILABLE");
    assert!(Decoder::default().whole(&bytes).is_err());
    let mut encoder = Encoder::new(&Request::default(), true);
    assert!(encoder.failure(&failure).starts_with(b"data: {\"error\":"));
}

#[test]
fn fragments_of_calls_become_whole_calls_and_usage_stands_in_the_last_frame() {
    let fragment = |index, id: Option<&str>, arguments: &str| Event::ToolCall {
        choice: 0,
        index,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: arguments.into(),
    };
    let usage = Usage { input: 2, output: 5, reasoning: 1, ..Usage::default() };
    let mut encoder = Encoder::new(&Request::default(), true);
    let mut say = |event: Event| String::from_utf8(encoder.event(&event)).unwrap();
    assert_eq!(say(fragment(0, Some("a"), "{\"x\"")), "");
    assert_eq!(say(fragment(1, Some("b"), "")), "");
    assert_eq!(say(fragment(0, None, ":1}")), "");
    assert_eq!(say(fragment(1, None, "{\"cut")), "");
    // Some providers say no words beside each fragment.
    assert_eq!(say(Event::Text { choice: 0, text: String::new() }), "");
    assert_eq!(say(Event::Finish { choice: 0, reason: Finish::ToolCalls }), "");
    assert_eq!(say(Event::Usage(usage)), "");
    let last = say(Event::End);
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    let wanted = json!([
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
        {"functionCall": {"id": "b", "name": "f", "args": {"arguments": "{\"cut"}}}]);
    assert_eq!(last["candidates"][0]["content"]["parts"], wanted);
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    let wanted = json!({"promptTokenCount": 2, "candidatesTokenCount": 4, "thoughtsTokenCount": 1, "totalTokenCount": 7});
    assert_eq!(last["usageMetadata"], wanted);
}

#[test]
fn what_google_says_stands_in_a_list_as_it_came() {
    let mut request = Request::default();
    request.received.protocol = Protocol::Gemini;
    let mut encoder = wire::Encoder::new(&request, &wire::Target::default());
    let picture = r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"eA=="}}]}}],"x":1.50}"#;
    let text = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
    let mut list = Vec::new();
    for payload in [picture, text] {
        let bytes = sse::frame(payload.as_bytes()).into();
        let raw = Some(Raw { protocol: Protocol::Gemini, form: Form::Frame, bytes });
        let events = Decoder::default().frame(payload.as_bytes()).unwrap();
        list.extend(encoder.chunk(&Chunk { raw, events }));
    }
    list.extend(encoder.chunk(&vec![Event::End].into()));
    assert_eq!(String::from_utf8(list).unwrap(), format!("[{picture},\n{text}]"));
}

#[test]
fn every_frame_of_a_candidate_has_content() {
    let (mut frames, stream) = (sse::Decoder::default(), streamed(&reply(), true));
    let records = frames.push(&stream).unwrap();
    let records = records.iter().map(|frame| serde_json::from_slice::<Value>(&frame.data).unwrap());
    let candidates: Vec<Value> = records.map(|mut record| record["candidates"][0].take()).collect();
    for finished in [false, true] {
        assert!(candidates.iter().any(|candidate| candidate["finishReason"].is_string() == finished));
    }
    for candidate in candidates {
        assert_eq!(candidate["content"]["role"], "model", "{candidate}");
        assert!(!candidate["content"]["parts"].as_array().unwrap().is_empty(), "{candidate}");
    }
}

#[test]
fn a_stream_is_complete_where_the_bytes_end_once_every_candidate_has_finished() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.finish(), None, "cut before anything came");
    let mut decoder = Decoder::default();
    decoder
        .frame(br#"{"candidates":[{"content":{"parts":[{"text":"a"}]}},{"index":1,"finishReason":"STOP"}]}"#)
        .unwrap();
    let mut cut = Decoder::default();
    cut.frame(br#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#).unwrap();
    assert_eq!(cut.finish(), None, "cut");
    decoder.frame(br#"{"candidates":[{"finishReason":"STOP","index":0}]}"#).unwrap();
    let usage = decoder.frame(br#"{"usageMetadata":{"promptTokenCount":1}}"#).unwrap();
    assert_eq!(usage, [Event::Usage(Usage { input: 1, ..Usage::default() })]);
    assert_eq!(decoder.finish(), Some(vec![Event::End]));
    assert_eq!(decoder.finish(), Some(vec![]));
}

#[test]
fn every_reason_to_end_is_understood() {
    let cases = [
        ("STOP", Finish::Stop),
        ("MAX_TOKENS", Finish::Length),
        ("SAFETY", Finish::ContentFilter),
        ("RECITATION", Finish::ContentFilter),
        ("BLOCKLIST", Finish::ContentFilter),
        ("PROHIBITED_CONTENT", Finish::ContentFilter),
        ("SPII", Finish::ContentFilter),
        ("IMAGE_SAFETY", Finish::ContentFilter),
        ("LANGUAGE", Finish::Other("LANGUAGE".into())),
    ];
    for (name, reason) in cases {
        let body = json!({ "candidates": [{ "finishReason": name }] }).to_string();
        let events = Decoder::default().whole(body.as_bytes()).unwrap();
        assert!(events.contains(&Event::Finish { choice: 0, reason }), "{name}");
    }
    let told = [
        (Finish::StopSequence("x".into()), "STOP"),
        (Finish::Refusal, "SAFETY"),
        (Finish::Other("pause_turn".into()), "OTHER"),
    ];
    for (reason, name) in told {
        let reply = Reply { choices: vec![choice(vec![Block::text("a")], reason)], ..Reply::default() };
        let body: Value = serde_json::from_slice(&Encoder::default().whole(&reply)).unwrap();
        assert_eq!(body["candidates"][0]["finishReason"], name);
    }
}

#[test]
fn a_refusal_is_a_text_that_ends_for_safety() {
    let reply =
        Reply { choices: vec![choice(vec![Block::Refusal("no".into())], Finish::Stop)], ..Reply::default() };
    let wanted =
        Ok(Reply { choices: vec![choice(vec![Block::text("no")], Finish::ContentFilter)], ..reply.clone() });
    assert_eq!(fold(&Decoder::default().whole(&Encoder::default().whole(&reply)).unwrap()), wanted);
    assert_eq!(fold(&read_stream(&streamed(&reply, true))), wanted);
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let body =
        br#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}"#;
    let reply = fold(&Decoder::default().whole(body).unwrap()).unwrap();
    assert_eq!(reply.choices[0].refusal(), "the prompt was blocked: PROHIBITED_CONTENT");
    assert_eq!(reply.choices[0].finish, Some(Finish::ContentFilter));
}

#[test]
fn calls_without_ids_get_one_of_the_replys_own() {
    let body = br#"{"responseId":"r","candidates":[{"finishReason":"STOP","content":{"parts":[
        {"functionCall":{"name":"f"}},{"functionCall":{"name":"g","args":{"a":1}}}]}}]}"#;
    let reply = fold(&Decoder::default().whole(body).unwrap()).unwrap();
    let calls: Vec<_> =
        reply.choices[0].tool_calls().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("call_r_0", "{}"), ("call_r_1", "{\"a\":1}")]);
    assert_eq!(reply.choices[0].finish, Some(Finish::ToolCalls));
}

#[test]
fn what_has_no_word_here_makes_the_reply_opaque() {
    let body = br#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"eA=="}},{"executableCode":{"code":"1"}},
        {"text":5},{"functionCall":{"name":"f","willContinue":true}}],"new":1},"avgLogprobs":-0.1,"safetyRatings":[{}],
        "urlContextMetadata":{"urlMetadata":[1]},"groundingMetadata":{"webSearchQueries":["q"]}}],"future":{"x":1}}"#;
    let events = Decoder::default().whole(body).unwrap();
    let opaque: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
        .collect();
    let wanted = [
        "inlineData",
        "executableCode",
        "text",
        "willContinue",
        "new",
        "groundingMetadata",
        "urlContextMetadata",
        "future",
    ];
    assert_eq!(opaque, wanted);
}

#[test]
fn sources_that_are_repeated_count_once() {
    let frame = br#"{"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"webSearchQueries":["q"]}}]}"#;
    let mut decoder = Decoder::default();
    let first = decoder.frame(frame).unwrap();
    assert!(first.iter().any(|event| matches!(event, Event::Citation { .. })));
    assert_eq!(decoder.frame(frame).unwrap(), []);
}

#[test]
fn an_error_in_the_body_is_an_error_that_names_its_status() {
    let body = br#"{"error":{"code":429,"message":"s3cret","status":"RESOURCE_EXHAUSTED"}}"#;
    let error = Decoder::default().frame(body).unwrap_err();
    assert_eq!(error.message, "the reply holds an error: RESOURCE_EXHAUSTED");
    let odd = Decoder::default().frame(br#"{"error":{"status":"s3cret s3cret"}}"#).unwrap_err();
    assert_eq!(odd.message, "the reply holds an error");
    for body in ["", "[]", "[1]", "5", "{}", "<html>", r#"{"candidates":[5]}"#, r#"{"candidates":[]}"#] {
        assert!(Decoder::default().whole(body.as_bytes()).is_err(), "{body}");
    }
    for body in ["{}", r#"{"candidates":[]}"#, r#"{"candidates":[{"content":5}],"usageMetadata":5}"#] {
        assert!(Decoder::default().frame(body.as_bytes()).is_ok(), "{body}");
    }
}
