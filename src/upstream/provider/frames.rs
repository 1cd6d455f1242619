//! The frames of a stream, as they arrive.

use super::failure::Report;
use super::{Error, Kind};
use crate::chat::{Chunk, Event, Form, Protocol, Raw};
use crate::secret::Secret;
use crate::wire::Decoder;
use crate::wire::frames::{Frame, Frames as Framing};
use reqwest::Response;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The most chunks that are kept while there is nothing in them that a client would see.
const MAX_EARLY_CHUNKS: usize = 64;

/// The most bytes of them.
const MAX_EARLY_BYTES: usize = 1 << 20;

/// Reads one stream.
pub(super) struct Frames {
    name: Arc<str>,
    protocol: Protocol,
    /// How long the next bytes may take.
    pub(super) patience: Duration,
    response: Response,
    /// What must never be repeated from what it says.
    secrets: Arc<[Secret]>,
    bytes: Framing,
    decoder: Decoder,
    ready: VecDeque<Result<Chunk, Error>>,
    /// Something was said: from now on, a fault is a cut.
    begun: bool,
    over: bool,
}

impl Frames {
    pub(super) fn new(
        name: &Arc<str>,
        protocol: Protocol,
        patience: Duration,
        response: Response,
        secrets: Arc<[Secret]>,
    ) -> Self {
        Self {
            name: Arc::clone(name),
            protocol,
            patience,
            response,
            secrets,
            bytes: Framing::new(protocol),
            decoder: Decoder::new(protocol),
            ready: VecDeque::new(),
            begun: false,
            over: false,
        }
    }

    /// All chunks up to the first in which something is said: up to there another upstream may be asked. A
    /// provider that says nothing for too long is taken at its word.
    pub(super) async fn beginning(&mut self) -> Result<Vec<Chunk>, Error> {
        let (mut early, mut bytes) = (Vec::new(), 0);
        while early.len() < MAX_EARLY_CHUNKS && bytes < MAX_EARLY_BYTES {
            let chunk = self.next().await.unwrap_or_else(|| {
                let message = "the stream ended before it began";
                Err(Error::new(Kind::BadResponse, &self.name, message))
            })?;
            let said = says_something(&chunk);
            bytes += chunk.raw.as_ref().map_or(0, |raw| raw.bytes.len());
            early.push(chunk);
            if said {
                break;
            }
        }
        self.begun = true;
        Ok(early)
    }

    pub(super) async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        while self.ready.is_empty() && !self.over {
            self.read().await;
        }
        self.ready.pop_front()
    }

    async fn read(&mut self) {
        match timeout(self.patience, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => match self.bytes.push(&bytes) {
                Ok(frames) => frames.into_iter().for_each(|frame| self.take(frame)),
                Err(error) => self.fail(Kind::BadResponse, &error.to_string()),
            },
            Ok(Ok(None)) => self.end(),
            Ok(Err(_)) => self.fail(self.cut(), "the stream broke off"),
            Err(_) => self.fail(Kind::Timeout, "the stream stood still for too long"),
        }
    }

    fn take(&mut self, frame: Frame) {
        if self.over {
            return;
        }
        match self.decoder.frame(&frame.payload) {
            Ok(events) => {
                // After the terminal event nothing more is wanted: let the connection go.
                self.over = self.decoder.ended();
                let raw = Raw { protocol: self.protocol, form: Form::Frame, bytes: frame.bytes };
                self.push(Chunk { raw: Some(raw), events });
            }
            Err(error) => match Report::in_reply(&frame.payload) {
                Some(report) => self.fail_with(&report),
                None => self.fail(self.cut(), &error.message),
            },
        }
    }

    /// The provider tells why the answer ends here.
    fn fail_with(&mut self, report: &Report) {
        let error = report.error(&self.name, self.response.headers(), &self.secrets);
        let kind = if error.kind == Kind::BadResponse { self.cut() } else { error.kind };
        self.ready.push_back(Err(Error { kind, ..error }));
        self.over = true;
    }

    fn push(&mut self, chunk: Chunk) {
        self.begun |= says_something(&chunk);
        self.ready.push_back(Ok(chunk));
    }

    fn end(&mut self) {
        if let Some(frame) = self.bytes.finish() {
            self.take(frame);
        }
        if !self.over {
            match self.decoder.finish() {
                Some(events) => self.push(events.into()),
                None => self.fail(self.cut(), "the stream ended before the answer was complete"),
            }
        }
        self.over = true;
    }

    /// A cut before the first words is no cut for the client.
    fn cut(&self) -> Kind {
        if self.begun { Kind::Cut } else { Kind::BadResponse }
    }

    fn fail(&mut self, kind: Kind, message: &str) {
        self.ready.push_back(Err(Error::new(kind, &self.name, message)));
        self.over = true;
    }
}

fn says_something(chunk: &Chunk) -> bool {
    chunk.events.iter().any(Event::is_substance)
}
