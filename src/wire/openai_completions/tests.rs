//! Laws and examples.

use super::*;
use crate::chat::{
    Block, Choice, Delivery, Event, Finish, Message, Part, Reply, Request, Role, Tool, Usage, fold, unfold,
};
use crate::wire::{Dropped, Failure, Target, openai_chat, sse};
use bytes::Bytes;
use serde_json::{Value, json};

const RICH: &str = r#"{
    "model": "gpt-3.5-turbo-instruct", "prompt": "Once upon", "suffix": "the end", "echo": true, "best_of": 3,
    "max_tokens": 7, "temperature": 0.5, "top_p": 0.5, "n": 2, "stream": true,
    "stream_options": {"include_usage": true}, "logprobs": 2, "stop": ["a"], "seed": 3,
    "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {"50256": -100}, "user": "u"
}"#;

fn decoded(body: &str) -> Request {
    crate::wire::decode_request(HERE, &Bytes::from(body.to_owned()), &Target::default()).unwrap()
}

#[test]
fn nothing_is_lost_between_two_sides_of_the_same_protocol() {
    let request = decoded(RICH);
    assert_eq!(request.messages, [Message::text(Role::User, "Once upon")]);
    assert_eq!((request.sampling.logprobs, request.sampling.top_logprobs), (Some(true), Some(2)));
    let sent: Value = serde_json::from_str(RICH).unwrap();
    let forwarded = Value::Object(encode_request(&request, &mut Dropped::new()).unwrap());
    assert_eq!(forwarded, sent);
}

#[test]
fn one_prompt_at_a_time() {
    assert_eq!(decoded(r#"{"model":"m","prompt":["hi"]}"#).messages, [Message::text(Role::User, "hi")]);
    for prompt in [r#"["a","b"]"#, "[1,2]", "[[1,2],[3]]"] {
        let request = decoded(&format!(r#"{{"model":"m","prompt":{prompt}}}"#));
        let prompt: Value = serde_json::from_str(prompt).unwrap();
        assert_eq!(encode_request(&request, &mut Dropped::new()).unwrap()["prompt"], prompt);
        assert_eq!(request.messages[0].plain_text(), "", "memory has no answer to it");
    }
    for prompt in ["[]", "5", "null", r#"{"s3cret":1}"#] {
        let error = decode_request(format!(r#"{{"model":"m","prompt":{prompt}}}"#).as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("prompt"));
        assert!(!error.message.contains("s3cret"), "{error}");
    }
    let cases = [
        ("[]", None),
        (r#"{"prompt":"x"}"#, Some("model")),
        (r#"{"model":"m","prompt":"x","logprobs":true}"#, Some("logprobs")),
        (r#"{"model":"m","prompt":"x","stream":"s3cret"}"#, Some("stream")),
    ];
    for (body, field) in cases {
        let error = decode_request(body.as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), field, "{error}");
    }
    assert!(decode_request("[".repeat(10_000).as_bytes()).is_err());
}

#[test]
fn a_chat_of_one_text_is_a_prompt() {
    let chat = br#"{"model":"m","user":"u","reasoning_effort":"low","stop":"x","n":1,"logprobs":true,"top_logprobs":4,
        "max_completion_tokens":9,"response_format":{"type":"text"},"parallel_tool_calls":true,
        "messages":[{"role":"user","name":"ann","content":"hi"}]}"#;
    let mut dropped = Dropped::new();
    let request = openai_chat::decode_request(chat).unwrap();
    let body = Value::Object(encode_request(&request, &mut dropped).unwrap());
    let wanted = json!({"model": "m", "prompt": "hi", "max_tokens": 9, "stop": ["x"], "n": 1, "logprobs": 4});
    assert_eq!(body, wanted);
    assert_eq!(dropped, ["user", "parallel_tool_calls", "thinking", "messages[0].name"]);
    let unlimited = Request { messages: vec![Message::text(Role::User, "q")], ..Request::default() };
    let body = encode_request(&unlimited, &mut Dropped::new()).unwrap();
    assert_eq!(body["max_tokens"], 2_048, "no limit would mean sixteen");
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let user = || Message::text(Role::User, "q");
    let image = Part::Opaque(json!({"type": "image"}));
    let asked = |messages: Vec<Message>| Request { messages, ..Request::default() };
    let tool = Tool::Opaque(json!({}));
    let cases = [
        (asked(vec![Message::text(Role::System, "s"), user()]), "messages"),
        (asked(vec![Message::text(Role::System, "s")]), "messages"),
        (asked(vec![]), "messages"),
        (asked(vec![Message { parts: vec![image], ..user() }]), "messages"),
        (asked(vec![Message { parts: vec![Part::text("a"), Part::text("b")], ..user() }]), "messages"),
        (Request { tools: vec![tool], ..asked(vec![user()]) }, "tools"),
        (
            Request { tool_choice: Some(crate::chat::ToolChoice::Required), ..asked(vec![user()]) },
            "tool_choice",
        ),
        (
            Request { response_format: Some(crate::chat::ResponseFormat::Json), ..asked(vec![user()]) },
            "response_format",
        ),
    ];
    for (request, field) in cases {
        let error = encode_request(&request, &mut Dropped::new()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }
}

fn likelihood(token: &str, logprob: f64) -> Value {
    json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
}

fn reply() -> Reply {
    let token = |token: &str| {
        let mut entry = likelihood(token, -0.5);
        entry["top_logprobs"] = json!([likelihood(token, -0.5), likelihood("x", -2.0)]);
        entry
    };
    let choice = |text: &str, finish| Choice {
        logprobs: vec![token("Grü"), token("ße")],
        finish: Some(finish),
        ..Choice::text(text)
    };
    Reply {
        id: "cmpl-1".into(),
        model: "m".into(),
        created: 1_700_000_000,
        choices: vec![
            choice("Grüße", Finish::Stop),
            choice("b", Finish::Length),
            Choice { logprobs: Vec::new(), ..choice("", Finish::ContentFilter) },
        ]
        .into_iter()
        .map(|mut choice| {
            choice.blocks.retain(|block| *block != Block::text(""));
            choice
        })
        .collect(),
        usage: Some(Usage { input: 3, output: 4, cached_input: 1, cache_write: 1, reasoning: 2 }),
    }
}

fn encoder(include_usage: bool) -> Encoder {
    let options = json!({ "include_usage": include_usage }).as_object().cloned().unwrap();
    Encoder::new(&Request { delivery: Delivery { stream: true, options }, ..Request::default() })
}

fn stream_of(events: &[Event], include_usage: bool) -> Vec<u8> {
    let mut encoder = encoder(include_usage);
    events.iter().flat_map(|event| encoder.event(event)).collect()
}

#[test]
fn decoding_undoes_encoding() {
    let events = Decoder::default().whole(&encoder(true).whole(&reply())).unwrap();
    assert_eq!(fold(&events), Ok(reply()));
    let mut decoder = Decoder::default();
    let frames = sse::Decoder::default().push(&stream_of(&unfold(&reply()), true)).unwrap();
    let events: Vec<Event> = frames.iter().flat_map(|frame| decoder.frame(&frame.data).unwrap()).collect();
    assert_eq!(fold(&events), Ok(reply()));
    assert!(decoder.ended());
}

#[test]
fn usage_is_told_to_who_asks() {
    let told = |asked| String::from_utf8(stream_of(&unfold(&reply()), asked)).unwrap().contains("usage");
    assert_eq!((told(true), told(false)), (true, false));
}

#[test]
fn of_a_chats_answer_the_words_are_shown() {
    let blocks = vec![
        Block::Reasoning { text: "hm".into(), signature: None },
        Block::text("I would, "),
        Block::Refusal("but no".into()),
    ];
    let choice = Choice { blocks, logprobs: Vec::new(), finish: Some(Finish::Refusal) };
    let reply = Reply { choices: vec![choice], ..Reply::default() };
    let body: Value = serde_json::from_slice(&encoder(false).whole(&reply)).unwrap();
    let wanted = json!([{"text": "I would, but no", "index": 0, "logprobs": null, "finish_reason": "stop"}]);
    assert_eq!(body["choices"], wanted);
    let streamed = String::from_utf8(stream_of(&unfold(&reply), false)).unwrap();
    assert!(streamed.contains("but no") && !streamed.contains("hm"), "{streamed}");
}

#[test]
fn likelihoods_are_told_side_by_side() {
    let tokens = &reply().choices[0].logprobs;
    let mut offset = 4;
    let told = logprobs::encode(tokens, &mut offset);
    assert_eq!(told["tokens"], json!(["Grü", "ße"]));
    assert_eq!(told["text_offset"], json!([4, 7]));
    assert_eq!((told["top_logprobs"][1].clone(), offset), (json!({"ße": -0.5, "x": -2.0}), 9));
    assert_eq!(&logprobs::decode(&told), tokens);
    assert_eq!(logprobs::decode(&json!({"tokens": ["bytes:\\xe2"]}))[0]["bytes"], Value::Null);
    assert!(logprobs::decode(&json!("x")).is_empty());
}

#[test]
fn a_stream_without_done_is_complete_once_every_choice_has_finished() {
    let mut decoder = Decoder::default();
    decoder.frame(br#"{"choices":[{"index":0,"text":"a","finish_reason":""}]}"#).unwrap();
    assert_eq!(decoder.finish(), None, "cut");
    decoder.frame(br#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#).unwrap();
    assert_eq!(decoder.finish(), Some(vec![Event::End]));
    decoder.frame(b"[DONE]").unwrap();
    assert_eq!(decoder.finish(), Some(vec![]));
}

#[test]
fn what_has_no_word_here_makes_the_reply_opaque() {
    let body = br#"{"id":"x","choices":[{"index":0,"text":"a","reasoning":"hm","stop_reason":2,"finish_reason":"stop"}],
        "kv_transfer_params":{"a":1}}"#;
    let events = Decoder::default().whole(body).unwrap();
    let opaque: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
        .collect();
    assert_eq!(opaque, ["reasoning", "kv_transfer_params"]);
}

#[test]
fn an_error_in_the_body_is_an_error() {
    let bodies = [
        r#"{"error":{"message":"boom"}}"#,
        "<html>",
        r#"{"choices":[]}"#,
        r#"{"choices":[1]}"#,
        r#"{"choices":[{"index":5000000000}]}"#,
    ];
    assert!(bodies.iter().all(|body| Decoder::default().whole(body.as_bytes()).is_err()));
    let failure = Failure {
        status: 502,
        kind: "server_error",
        code: "upstream_failed".into(),
        message: "gone".into(),
        param: None,
        request_id: "r".into(),
        retry_after_ms: None,
    };
    let told = sse::Decoder::default().push(&encoder(false).failure(&failure)).unwrap();
    assert!(Decoder::default().frame(&told[0].data).is_err());
}

/// The bytes of a fixture.
fn fixture(case: &str, file: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/wire/openai_completions");
    std::fs::read(format!("{folder}/{case}/{file}")).unwrap()
}

#[test]
fn what_providers_send_means_the_same_whole_and_in_frames() {
    for case in ["text", "length", "stop", "n2", "logprobs", "content_filter"] {
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
