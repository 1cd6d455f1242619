//! The upstream: answers chat completions at once, whole or streamed. What it takes by itself is the base line.

use crate::http::{Wire, find};
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// With the envelope an answer of about 1.2 kB.
const WORDS: &str = "You can do that on the account page, and it takes less than a minute. ";
const REPEATS: usize = 13;
/// Between two pieces of a stream: long enough to tell a relay that waits for the second from one that does not.
const STREAM_GAP: Duration = Duration::from_millis(1);
const STREAM_PIECES: usize = 3;
/// As a quick model writes: so many pieces, each so long after the one before.
pub(crate) const LONG_PIECES: usize = 50;
const LONG_GAP: Duration = Duration::from_millis(20);
/// The model that answers with a long stream.
pub(crate) const LONG_MODEL: &str = "long";

/// A running mock; it ends with the process.
pub(crate) struct Mock {
    address: SocketAddr,
}

impl Mock {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let answers = Arc::new(Answers::new());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                thread::spawn(move || serve(stream, &answers));
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers until the client leaves; a client that is gone is nobody's failure.
fn serve(stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut wire = Wire::over(stream)?;
    while let Some(request) = wire.receive()? {
        let answer = answers.to(request.body);
        send(&mut wire, answer)?;
    }
    Ok(())
}

fn send(wire: &mut Wire, answer: &Answer) -> io::Result<()> {
    for (nth, piece) in answer.pieces.iter().enumerate() {
        if nth > 0 {
            crate::load::sleep(answer.gap);
        }
        wire.send(piece)?;
    }
    Ok(())
}

/// The bytes of an answer, in the pieces they are written in.
struct Answer {
    pieces: Vec<Vec<u8>>,
    gap: Duration,
}

/// Every kind of answer.
struct Answers {
    whole: Answer,
    stream: Answer,
    long: Answer,
}

impl Answers {
    fn new() -> Self {
        Self {
            whole: Answer { pieces: vec![whole()], gap: Duration::ZERO },
            stream: Answer { pieces: stream(WORDS, STREAM_PIECES), gap: STREAM_GAP },
            long: Answer { pieces: stream(" word", LONG_PIECES), gap: LONG_GAP },
        }
    }

    fn to(&self, request: &[u8]) -> &Answer {
        let says = |wanted: &str| find(request, wanted.as_bytes()).is_some();
        if !says(r#""stream":true"#) {
            &self.whole
        } else if says(&format!(r#""model":"{LONG_MODEL}""#)) {
            &self.long
        } else {
            &self.stream
        }
    }
}

fn whole() -> Vec<u8> {
    let message = json!({ "role": "assistant", "content": WORDS.repeat(REPEATS) });
    let body = json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 200, "total_tokens": 212 },
    })
    .to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

fn stream(words: &str, pieces: usize) -> Vec<Vec<u8>> {
    let opening = [json!({ "role": "assistant", "content": "" }), json!({ "content": words })];
    let mut first =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    first.extend(chunk(&opening.map(|delta| event(&delta, &Value::Null)).concat()));

    let middle = chunk(&event(&json!({ "content": words }), &Value::Null));
    let end = event(&json!({}), &json!("stop")) + "data: [DONE]\n\n";
    let last = [chunk(&end), b"0\r\n\r\n".to_vec()].concat();

    let middles = std::iter::repeat_n(middle, pieces);
    std::iter::once(first).chain(middles).chain([last]).collect()
}

fn event(delta: &Value, finish_reason: &Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
    let chunk = json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m",
        "choices": [choice],
    });
    format!("data: {chunk}\n\n")
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into()
}
