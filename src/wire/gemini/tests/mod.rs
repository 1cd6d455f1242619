//! Laws and examples of the whole codec.

mod reply;
mod request;

use super::{Decoder, Encoder, encode_request};
use crate::chat::{Event, Protocol, Reply, Request, Signature, fold, unfold};
use crate::wire::{self, Dropped, Target, sse};
use bytes::Bytes;
use serde_json::Value;

fn target() -> Target {
    Target { model: Some("gemini-2.5-flash".into()), stream: Some(true), sse: true }
}

/// As it comes from a client of Gemini.
fn decoded(body: &str) -> Request {
    wire::decode_request(Protocol::Gemini, &Bytes::from(body.to_owned()), &target()).unwrap()
}

fn encoded(request: &Request, dropped: &mut Dropped) -> Value {
    Value::Object(encode_request(request, dropped).unwrap())
}

fn seal(by: Protocol) -> Signature {
    Signature { by, data: "c2ln".into() }
}

fn streamed(reply: &Reply, sse: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(&Request::default(), sse);
    unfold(reply).iter().flat_map(|event| encoder.event(event)).collect()
}

fn read_stream(bytes: &[u8]) -> Vec<Event> {
    let (mut frames, mut decoder) = (sse::Decoder::default(), Decoder::default());
    let mut events = Vec::new();
    for frame in frames.push(bytes).unwrap() {
        events.extend(decoder.frame(&frame.data).unwrap());
        assert!(!decoder.ended());
    }
    events.extend(decoder.finish().unwrap());
    events
}

/// The folder of each case that is answered.
fn fixtures() -> Vec<std::path::PathBuf> {
    let all = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire/gemini");
    let folders = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).collect()
}

#[test]
fn every_fixture_says_the_same_whole_and_streamed() {
    let folders = fixtures();
    assert!(folders.len() >= 12);
    for folder in folders {
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let request =
            wire::decode_request(Protocol::Gemini, &read("request.json").into(), &target()).unwrap();
        let body = encoded(&request, &mut Dropped::new());
        let again = wire::decode_request(Protocol::Gemini, &body.to_string().into(), &target()).unwrap();
        assert_eq!(Request { received: request.received.clone(), ..again }, request, "{}", folder.display());
        let whole = Decoder::default().whole(&read("response.json"));
        if folder.ends_with("error") {
            assert!(whole.is_err());
            continue;
        }
        let reply = fold(&whole.unwrap()).unwrap();
        assert_eq!(fold(&read_stream(&read("stream.txt"))), Ok(reply.clone()), "{}", folder.display());
        // A prompt that was blocked is a refusal, and those come back as text.
        if !folder.ends_with("blocked") {
            assert_eq!(fold(&read_stream(&streamed(&reply, true))), Ok(reply), "{}", folder.display());
        }
    }
}

#[test]
fn no_bytes_make_the_decoders_panic() {
    for folder in fixtures() {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let (request, reply) = (read("request.json"), read("response.json"));
        for odd in ["5", "null", "[]", "{}", "\"x\"", "-1.5e300"] {
            for at in request.match_indices(": ").map(|(at, _)| at + 2) {
                let end = request[at..].find([',', '\n']).map_or(request.len(), |end| at + end);
                let body = format!("{}{odd}{}", &request[..at], &request[end..]);
                if let Ok(request) = wire::decode_request(Protocol::Gemini, &body.into(), &target()) {
                    let _ = encode_request(&request, &mut Dropped::new());
                }
            }
            for at in reply.match_indices(": ").map(|(at, _)| at + 2) {
                let end = reply[at..].find([',', '\n']).map_or(reply.len(), |end| at + end);
                let body = format!("{}{odd}{}", &reply[..at], &reply[end..]);
                let events = Decoder::default().whole(body.as_bytes()).unwrap_or_default();
                let mut encoder = Encoder::new(&Request::default(), true);
                events.iter().for_each(|event| drop(encoder.event(event)));
                let _ = fold(&events);
            }
        }
    }
}
