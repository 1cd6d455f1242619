//! The golden fixtures: for every protocol and case a client's request, and a provider's reply whole and as a
//! stream. Whole and stream must mean the same, however the bytes are split, and what we write we must read.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use weir::chat::{Block, Event, Folder, Protocol, Reply, Request, unfold};
use weir::wire::frames::Frames;
use weir::wire::{Decoder, Dropped, Encoder, Target, decode_request, encode_request};

/// One folder of fixtures.
pub(crate) struct Case {
    pub(crate) protocol: Protocol,
    pub(crate) name: String,
    folder: PathBuf,
}

impl Case {
    pub(crate) fn of(protocol: Protocol, name: &str) -> Option<Self> {
        let folder = root().join(protocol.name()).join(name);
        folder.is_dir().then(|| Self { protocol, name: name.to_owned(), folder })
    }

    fn label(&self) -> String {
        format!("{}/{}", self.protocol.name(), self.name)
    }

    pub(crate) fn read(&self, file: &str) -> Option<Bytes> {
        fs::read(self.folder.join(file)).ok().map(Bytes::from)
    }

    pub(crate) fn request(&self) -> Request {
        let body = self.read("request.json").unwrap_or_else(|| panic!("{}: no request", self.label()));
        decode_request(self.protocol, &body, &target(self.protocol, false))
            .unwrap_or_else(|error| panic!("{}: {error}", self.label()))
    }

    /// What the provider's whole reply means.
    pub(crate) fn whole(&self) -> Reply {
        let body = self.read("response.json").unwrap_or_else(|| panic!("{}: no response", self.label()));
        let events = Decoder::new(self.protocol).whole(&body);
        folded(&events.unwrap_or_else(|error| panic!("{}: {error}", self.label())))
    }

    fn stream(&self) -> Bytes {
        self.read("stream.txt").unwrap_or_else(|| panic!("{}: no stream", self.label()))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        let folders = fs::read_dir(root().join(protocol.name()));
        for folder in folders.into_iter().flatten() {
            let folder = folder.unwrap().path();
            if folder.is_dir() {
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                cases.push(Case { protocol, name, folder });
            }
        }
    }
    cases.sort_by_key(Case::label);
    cases
}

/// What a request's path says, where the protocol says it there.
pub(crate) fn target(protocol: Protocol, stream: bool) -> Target {
    match protocol {
        Protocol::Gemini => {
            Target { model: Some("gemini-2.5-flash".into()), stream: Some(stream), sse: true }
        }
        _ => Target::default(),
    }
}

/// The reply that `events` fold into, without what differs between two tellings of it.
fn folded(events: &[Event]) -> Reply {
    let mut folder = Folder::default();
    events.iter().for_each(|event| folder.push(event));
    let (reply, _) = folder.finish_lossy().expect("complete");
    Reply { id: String::new(), created: 0, ..reply }
}

pub(crate) fn events_in(protocol: Protocol, pieces: &[&[u8]]) -> Option<Vec<Event>> {
    let (mut frames, mut decoder, mut events) = (Frames::new(protocol), Decoder::new(protocol), Vec::new());
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(frames.push(piece).ok()?);
    }
    all.extend(frames.finish());
    for frame in all {
        if !decoder.ended() {
            events.extend(decoder.frame(&frame.payload).ok()?);
        }
    }
    if !decoder.ended() {
        events.extend(decoder.finish()?);
    }
    Some(events)
}

fn replies() -> Vec<Case> {
    cases().into_iter().filter(|case| !matches!(case.name.as_str(), "error" | "failed")).collect()
}

#[test]
fn a_whole_reply_and_its_stream_mean_the_same() {
    for case in replies() {
        let stream = case.stream();
        let events = events_in(case.protocol, &[&stream]).unwrap_or_else(|| panic!("{}: cut", case.label()));
        assert_eq!(folded(&events), case.whole(), "{}", case.label());
    }
}

#[test]
fn a_stream_means_the_same_however_it_is_split() {
    for case in replies() {
        let stream = case.stream();
        let whole = events_in(case.protocol, &[&stream]);
        // Each split decodes the whole stream again; a prime step keeps long ones short, and hits every place
        // within a frame in the end.
        let step = stream.len().div_ceil(400).max(1);
        for at in (0..=stream.len()).step_by(step) {
            let split = events_in(case.protocol, &[&stream[..at], &stream[at..]]);
            assert_eq!(split, whole, "{} split at {at}", case.label());
        }
        let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events_in(case.protocol, &bytewise), whole, "{} byte by byte", case.label());
    }
}

#[test]
fn a_stream_that_is_cut_is_never_complete() {
    for case in replies() {
        let stream = case.stream();
        let full = events_in(case.protocol, &[&stream]).expect("complete");
        let full = folded(&full);
        for at in (0..stream.len()).step_by(stream.len().div_ceil(100).max(1)) {
            // Cut after the last word, only the usage or the end mark is lost.
            if let Some(events) = events_in(case.protocol, &[&stream[..at]]) {
                let reply = folded(&events);
                assert_eq!(reply.choices, full.choices, "{} cut at {at}", case.label());
            }
        }
    }
}

#[test]
fn what_is_asked_survives_being_written_and_read() {
    for case in cases() {
        let request = case.request();
        let mut dropped = Dropped::new();
        let body = encode_request(case.protocol, &request, &mut dropped)
            .unwrap_or_else(|error| panic!("{}: {error}", case.label()));
        assert!(dropped.is_empty(), "{}: {dropped:?}", case.label());
        let body = Bytes::from(Value::Object(body).to_string());
        let target = target(case.protocol, request.delivery.stream);
        let mut again = decode_request(case.protocol, &body, &target).expect("what we write we read");
        again.received = request.received.clone();
        assert_eq!(again, request, "{}", case.label());
    }
}

#[test]
fn what_is_answered_survives_being_written_and_read() {
    for case in replies() {
        let (request, reply) = (case.request(), case.whole());
        let encoder = || Encoder::new(&request, &target(case.protocol, true));
        let whole = encoder().whole(&reply);
        let events = Decoder::new(case.protocol).whole(&whole);
        let read = events.unwrap_or_else(|error| panic!("{}: {error}", case.label()));
        assert_eq!(folded(&read), told(&request, &reply), "{} whole", case.label());
        let mut encoder = encoder();
        let stream: Vec<u8> = unfold(&reply).iter().flat_map(|event| encoder.event(event)).collect();
        let read = events_in(case.protocol, &[&stream]).unwrap_or_else(|| panic!("{}: cut", case.label()));
        let expected = told(&request, &reply);
        let read = folded(&read);
        assert_eq!(read.choices, expected.choices, "{} stream", case.label());
        if request.delivery.include_usage()
            || case.protocol != Protocol::OpenAiChat && case.protocol != Protocol::OpenAiCompletions
        {
            assert_eq!(read.usage, expected.usage, "{} stream", case.label());
        }
    }
}

/// What the client of `request` is told of `reply`: Gemini has no word for a refusal, only a reason to end.
fn told(request: &Request, reply: &Reply) -> Reply {
    let mut told = reply.clone();
    if request.received.protocol == Protocol::Gemini {
        for block in told.choices.iter_mut().flat_map(|choice| &mut choice.blocks) {
            if let Block::Refusal(text) = block {
                *block = Block::text(std::mem::take(text));
            }
        }
    }
    told
}

#[test]
fn an_error_is_no_reply() {
    for case in cases().into_iter().filter(|case| matches!(case.name.as_str(), "error" | "failed")) {
        let body = case.read("response.json").unwrap();
        assert!(Decoder::new(case.protocol).whole(&body).is_err(), "{}", case.label());
        assert!(Decoder::new(case.protocol).frame(&body).is_err(), "{}", case.label());
    }
}

/// The meaning of every fixture, to be looked at when it changes.
#[test]
fn the_meaning_of_every_fixture_is_known() {
    for case in replies() {
        let request = Request { received: weir::chat::Received::default(), ..case.request() };
        let meaning = format!("{request:#?}\n\n{:#?}\n", case.whole());
        insta::with_settings!({ snapshot_path => "../../fixtures/wire/meaning", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{}-{}", case.protocol.name(), case.name), meaning);
        });
    }
}

/// How often each file is broken. `WEIR_MUTATIONS` sets another number, for a longer run.
fn mutations() -> u32 {
    std::env::var("WEIR_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

/// `bytes` with a few things wrong: a byte changed, a stretch gone, doubled, or taken for another.
fn broken(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    const PIECES: [&[u8]; 8] =
        [b"null", b"{}", b"[]", b"-1", b"1e999", b"\"\"", b"\xff", b"18446744073709551616"];
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let end = random.random_range(at..=bytes.len().min(at + 40));
        match random.random_range(0..5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => drop(bytes.splice(at..end, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
        }
    }
    bytes
}

/// Whatever is done to the bytes, the codecs answer with a meaning or an error, and never panic.
#[test]
fn broken_bytes_are_an_error_or_something_else_but_never_a_panic() {
    let mut random = StdRng::seed_from_u64(7);
    for case in cases() {
        for file in ["request.json", "response.json", "stream.txt"] {
            let Some(bytes) = case.read(file) else { continue };
            for _ in 0..mutations() {
                let bytes = Bytes::from(broken(&bytes, &mut random));
                if let Ok(request) = decode_request(case.protocol, &bytes, &target(case.protocol, true)) {
                    for other in Protocol::ALL {
                        let _ = encode_request(other, &request, &mut Dropped::new());
                    }
                }
                let whole = Decoder::new(case.protocol).whole(&bytes).unwrap_or_default();
                let streamed = events_in(case.protocol, &[&bytes]).unwrap_or_default();
                for events in [whole, streamed] {
                    tell_everyone(&case, &events);
                }
            }
        }
    }
}

fn tell_everyone(case: &Case, events: &[Event]) {
    let mut folder = Folder::default();
    events.iter().for_each(|event| folder.push(event));
    let reply = folder.finish_lossy().ok().map(|(reply, _)| reply);
    for protocol in Protocol::ALL {
        let mut request = Request { model: case.name.clone(), ..Request::default() };
        (request.received.protocol, request.delivery.stream) = (protocol, true);
        let mut encoder = Encoder::new(&request, &target(protocol, true));
        events.iter().for_each(|event| drop(encoder.event(event)));
        drop(reply.as_ref().map(|reply| encoder.whole(reply)));
    }
}
