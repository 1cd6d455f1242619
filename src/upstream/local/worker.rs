//! The thread that the model lives on: it loads, warms up, and answers one request after the other.

use super::ask::Ask;
use super::fault::Fault;
use super::generate::generate;
use super::model::{MAX_CONTEXT, Model};
use super::prompt::fit;
use super::voice::Voice;
use super::{Config, Status};
use crate::chat::{Chunk, Event};
use crate::clock::Clock;
use crate::upstream::{Error, Kind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// A request that waits for its turn.
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) chunks: mpsc::Sender<Result<Chunk, Error>>,
}

/// What the thread needs beside its queue.
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) model_name: Arc<str>,
}

impl Worker {
    /// Serves `jobs` until nobody can send any more.
    pub(super) fn run(&self, jobs: &Receiver<Job>, status: &watch::Sender<Status>) {
        let began = Instant::now();
        let model = match unpanicked(|| self.load()) {
            Ok(model) => model,
            Err(fault) => {
                status.send_replace(Status::Failed(format!("{fault}; run `weir models fetch`")));
                return;
            }
        };
        status.send_replace(Status::Ready { load_ms: began.elapsed().as_millis() as u64 });
        while let Ok(job) = jobs.recv() {
            self.serve(&model, job);
        }
    }

    /// Loads the model, and lets it say a few words to nobody: the first tokens touch every weight.
    fn load(&self) -> Result<Model, Fault> {
        let model = Model::load(&self.config.file)?;
        let mut sequence = model.sequence();
        sequence.read(&[0; 8])?;
        sequence.read(&[0])?;
        Ok(model)
    }

    fn serve(&self, model: &Model, job: Job) {
        let mut voice = Voice::new(&self.name, job.chunks, self.start());
        // Whoever has given up (deadline met, client gone) is not worth the work.
        if !voice.is_heard() {
            return;
        }
        if let Err(failure) = unpanicked(|| self.answer(model, &job.ask, &mut voice)) {
            voice.fail(failure.kind(), failure.to_string());
        }
    }

    fn answer(&self, model: &Model, ask: &Ask, voice: &mut Voice) -> Result<(), Failure> {
        let context = self.config.context.min(MAX_CONTEXT);
        let wanted = ask.sampling.answer_limit().unwrap_or(self.config.max_tokens) as usize;
        // A quarter of the context is kept for the answer, where it may become that long.
        let room = context.saturating_sub(wanted.clamp(1, (context / 4).max(1)));
        let prompt = fit(&ask.turns, room, &model.template, &model.tokenizer)?;
        let prompt = prompt.ok_or(Failure::TooLong { room })?;
        let limit = wanted.min(context - prompt.len());
        Ok(generate(model, &prompt, limit, ask, voice)?)
    }

    fn start(&self) -> Event {
        Event::Start {
            id: format!("local-{:016x}", rand::random::<u64>()),
            model: self.model_name.to_string(),
            created: self.clock.now().as_secs(),
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the last message does not fit: the local model reads {room} tokens")]
    TooLong { room: usize },
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Failure {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLong { .. } => Kind::ContextOverflow,
            Self::Fault(_) => Kind::Server,
        }
    }
}

/// A panic below us costs one answer, not the model: nothing it may have left half done outlives `work`.
fn unpanicked<T, E: From<Fault>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::Panic.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let failed: Result<(), Fault> = unpanicked(|| panic!("on purpose"));
        assert!(matches!(failed, Err(Fault::Panic)));
    }
}
