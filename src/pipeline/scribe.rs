//! Writes down what was asked, how it was decided and what was answered: only where someone wants it.

use super::voice::Voice;
use super::{Caller, Checked, Ended, Learned, Outcome};
use crate::chat::{Chunk, Folder, Protocol, Reply, Request};
use crate::upstream::Origin;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// Is told what is worth writing down.
#[derive(Clone)]
pub struct Scribe {
    /// Whether requests of a project are written down.
    pub wants: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Takes a note. It is called on the request's own task, so it must be quick.
    pub write: Arc<dyn Fn(Note) + Send + Sync>,
}

/// What is worth writing down.
pub enum Note {
    /// A request, when it has ended.
    Asked(Box<Record>),
    /// A hit that was asked upstream all the same.
    Checked(Box<Checked>),
    /// Something was learned from an answer.
    Learned(Learned),
    /// What somebody said about an answer.
    Said {
        /// Whose request it was.
        tenant: Arc<str>,
        /// Its name.
        request_id: String,
        /// Whether the answer was right.
        correct: bool,
    },
}

/// A request, and what became of it.
pub struct Record {
    /// When it came.
    pub arrived: Instant,
    /// Who asked, and what was wanted of the cache.
    pub caller: Caller,
    /// The protocol it came in.
    pub protocol: Protocol,
    /// What it said.
    pub body: Bytes,
    /// Headers that say something to the provider.
    pub headers: Vec<(String, String)>,
    /// Whose answer was wanted.
    pub voice: Option<Wanted>,
    /// How it went.
    pub outcome: Outcome,
    /// The answer, where it was given whole.
    pub reply: Option<Reply>,
}

/// Whose answer was wanted.
pub struct Wanted {
    /// A provider's, or the local model's.
    pub origin: Origin,
    /// Of which model.
    pub model: Arc<str>,
    /// The upstream, where its answers are kept apart.
    pub arm: Option<Arc<str>>,
}

/// What is known of a request while it is answered.
pub(super) struct Minutes {
    scribe: Scribe,
    arrived: Instant,
    caller: Caller,
    protocol: Protocol,
    body: Bytes,
    headers: Vec<(String, String)>,
    voice: Option<Voice>,
    folder: Folder,
}

impl Minutes {
    /// `None` where nobody wants it written down, or it came over no wire.
    pub(super) fn begin(
        scribe: Option<&Scribe>,
        arrived: Instant,
        caller: &Caller,
        request: &Request,
    ) -> Option<Box<Self>> {
        let scribe = scribe.filter(|scribe| (scribe.wants)(&caller.project))?;
        let received = Some(&request.received).filter(|received| !received.body.is_empty())?;
        Some(Box::new(Self {
            scribe: scribe.clone(),
            arrived,
            caller: caller.clone(),
            protocol: received.protocol,
            body: received.body.clone(),
            headers: received.headers.clone(),
            voice: None,
            folder: Folder::default(),
        }))
    }

    pub(super) fn voiced(&mut self, voice: Voice) {
        self.voice = Some(voice);
    }

    pub(super) fn see(&mut self, chunk: &Chunk) {
        chunk.events.iter().for_each(|event| self.folder.push(event));
    }

    pub(super) fn end(self, outcome: &Outcome) {
        let Self { scribe, arrived, caller, protocol, body, headers, voice, folder } = self;
        let whole = outcome.ended == Ended::Complete;
        let reply = whole.then(|| folder.finish_lossy().ok()).flatten().map(|(reply, _)| reply);
        let voice = voice.map(|Voice { origin, model, arm }| Wanted { origin, model, arm });
        let outcome = outcome.clone();
        let record = Record { arrived, caller, protocol, body, headers, voice, outcome, reply };
        (scribe.write)(Note::Asked(Box::new(record)));
    }
}
