//! The laws that hold for any bytes whatever, shared by the targets.

use bytes::Bytes;
use serde_json::Value;
use weir::cache::identity::{Asker, Client, Query, Reading, Settings};
use weir::chat::{Folder, Protocol, Request, unfold};
use weir::wire::frames::Frames;
use weir::wire::{Decoder, Dropped, Encoder, Failure, Target, decode_request, encode_request, error_body};

fn target(protocol: Protocol) -> Target {
    match protocol {
        Protocol::Gemini => Target { model: Some("m".into()), stream: Some(true), sse: true },
        _ => Target::default(),
    }
}

/// Whatever decodes as a request can be written in every protocol or is refused by name, never panics, and
/// what is written in its own is read again and then stays the same.
pub fn request(protocol: Protocol, body: &[u8]) {
    let Ok(request) = decode_request(protocol, &Bytes::copy_from_slice(body), &target(protocol)) else { return };
    let asker = Asker { tenant: "t", project: "p", origin: "provider", ..Asker::default() };
    for client in Client::ALL.map(|(_, client)| client) {
        let settings = Settings { client, tools: true, ..Settings::default() };
        let _ = Query::new(&asker, &settings, &request, Reading::of(client, &request));
    }
    for other in Protocol::ALL {
        let _ = encode_request(other, &request, &mut Dropped::new());
    }
    let Some(once) = again(protocol, &request) else { return };
    let twice = again(protocol, &once).expect("what was written once is written again");
    assert_eq!(Request { received: once.received.clone(), ..twice }, once);
}

fn again(protocol: Protocol, request: &Request) -> Option<Request> {
    let body = encode_request(protocol, request, &mut Dropped::new()).ok()?;
    let body = Bytes::from(Value::Object(body).to_string());
    Some(decode_request(protocol, &body, &target(protocol)).expect("what we write, we read"))
}

/// Any bytes are events, an error, or nothing yet, however they are split; and whatever folds into a reply can
/// be told in every protocol.
pub fn reply(protocol: Protocol, bytes: &[u8]) {
    let _ = Decoder::new(protocol).whole(bytes);
    let mut frames = Frames::new(protocol);
    let (mut decoder, mut folder) = (Decoder::new(protocol), Folder::default());
    let mut all = frames.push(bytes).unwrap_or_default();
    all.extend(frames.finish());
    let mut events = Vec::new();
    for frame in &all {
        match decoder.frame(&frame.payload) {
            Ok(more) => events.extend(more),
            Err(_) => break,
        }
    }
    events.extend(decoder.finish().unwrap_or_default());
    events.iter().for_each(|event| folder.push(event));
    tell(&events);
    if let Ok((reply, _)) = folder.finish_lossy() {
        tell(&unfold(&reply));
        for other in Protocol::ALL {
            let _ = encoder(other).whole(&reply);
        }
    }
}

fn encoder(protocol: Protocol) -> Encoder {
    let mut request = Request { model: "m".into(), ..Request::default() };
    (request.received.protocol, request.delivery.stream) = (protocol, true);
    Encoder::new(&request, &target(protocol))
}

fn tell(events: &[weir::chat::Event]) {
    for other in Protocol::ALL {
        let mut encoder = encoder(other);
        events.iter().for_each(|event| drop(encoder.event(event)));
        let failure = Failure {
            status: 500,
            kind: "api_error",
            code: "x".into(),
            message: "x".into(),
            param: None,
            request_id: "r".into(),
            retry_after_ms: None,
        };
        drop(encoder.failure(&failure));
        drop(error_body(other, &failure));
    }
}

/// What says that it is a model is described or refused, whatever it says of itself. The fuzzer's own limit of memory
/// holds what that takes.
pub fn gguf(file: &[u8]) {
    let _ = weir::upstream::local::About::of(&mut std::io::Cursor::new(file));
}
