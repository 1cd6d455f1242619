//! The local model: a small LLM in this process, so that there is always an answer.
//!
//! ```text
//! Request ─ask─▶ Ask ─queue─▶ worker: prompt ─▶ tokenizer ─▶ model ⇄ answers ─▶ stop ─▶ voice ─▶ Chunks
//! ```
//!
//! It lives on a thread of its own, which loads it, warms it up, and answers several requests together: each step
//! reads the next token of every answer, so that all share what is loaded of the weights. Others wait in a bounded
//! queue. Dropping an answer's stream ends the work on it at the next token. What was read lately is remembered,
//! so a system prompt that comes again is not read again. Where nobody has asked for long, the weights are freed,
//! and read again for the next who asks.
//!
//! The llama, qwen2, qwen3, gemma3 and phi3 families run on an `engine` and `kernels` of our own; candle runs the
//! llamas that they cannot cut up.
//!
//! What it does not do, because it is small:
//! - A conversation that is too long loses its oldest turns, except what the system says, and that is told. If not even the last
//!   message fits, or nothing is to be left out, that is a `context_overflow`.
//! - Tools that may be called, and need not, are told to models only whose template knows of tools and writes calls
//!   in a known way; others are not told of them. Where one must be called, it is, by any model.
//! - Of JSON schemas it keeps to the common keywords, and refuses those it cannot obey.
//! - It reads text only and gives one answer: other parts, and `n` other than 1, are a `bad_request`.

mod about;
mod answer;
mod ask;
mod beginnings;
mod calls;
mod cut;
mod draw;
mod engine;
mod fault;
mod form;
mod gguf;
mod grammar;
mod kernels;
mod likelihood;
mod loops;
mod model;
mod probe;
mod prompt;
mod requantise;
mod sentencepiece;
mod sentences;
mod stop;
mod template;
mod thoughts;
mod tokenizer;
mod voice;
mod worker;

pub use about::About;
pub use fault::Fault;
pub use gguf::Flaw;
pub use probe::Probe;
pub use prompt::{Piece, Turn};
pub use template::Template;
pub use tokenizer::{Metadata, Tokenizer};

use crate::chat::{Chunk, Request};
use crate::clock::Clock;
use crate::device::DeviceChoice;
use crate::upstream::{Call, Chunks, Error, Kind, Load, Opened, Origin, Upstream};
use ask::Ask;
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use worker::{Job, Worker};

/// How long the first words may take, with everyone who waits in front. Whoever asks may give up earlier.
const FIRST_CHUNK_DEADLINE: Duration = Duration::from_mins(2);

/// Which model runs in this process, and within which bounds.
#[derive(Clone, Debug)]
pub struct Config {
    /// The GGUF file.
    pub file: PathBuf,
    /// Where it runs.
    pub device: DeviceChoice,
    /// How many requests may wait for it.
    pub queue: usize,
    /// The most tokens of a conversation and its answer together.
    pub context: usize,
    /// The most tokens of an answer, where the request names no limit.
    pub max_tokens: u32,
    /// What becomes of a conversation that is too long.
    pub too_long: TooLong,
    /// How long nobody asks for anything until the memory is freed; zero is never.
    pub idle_unload: Duration,
}

/// What becomes of a conversation that is too long for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// It loses its oldest turns.
    Trim,
    /// It is refused.
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            device: DeviceChoice::Auto,
            queue: 16,
            context: 2048,
            max_tokens: 512,
            too_long: TooLong::Trim,
            idle_unload: Duration::ZERO,
        }
    }
}

/// How far the model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being read and warmed up. Requests may queue already.
    Loading,
    /// It answers.
    Ready {
        /// How long loading and warming up took.
        load_ms: u64,
        /// Where it runs: `cpu` or `cuda:0`.
        on: &'static str,
    },
    /// It will not answer, and why.
    Failed(String),
}

/// A handle to the model's thread. The thread ends with it.
pub struct Local {
    jobs: SyncSender<Job>,
    status: watch::Receiver<Status>,
    name: Arc<str>,
    model: Arc<str>,
    /// The most chunks of one answer.
    longest_answer: usize,
}

impl Local {
    /// Begins to load the model on a thread of its own, and returns at once. `name` is what the chain calls it.
    pub fn spawn(name: &str, config: Config, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(config.queue.max(1));
        let (progress, status) = watch::channel(Status::Loading);
        let model: Arc<str> = display_name(&config.file).into();
        // A chunk for each token, one for what is held back, and one for the end.
        let longest_answer = config.context.min(model::MAX_CONTEXT) + 2;
        let name: Arc<str> = name.into();
        let worker = Worker { name: Arc::clone(&name), config, clock, model_name: Arc::clone(&model) };
        std::thread::Builder::new()
            .name("local-model".to_owned())
            .spawn(move || worker.run(&queue, &progress))?;
        Ok(Self { jobs, status, name, model, longest_answer })
    }

    /// The model's name, as answers carry it: `smollm2-135m-instruct`.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How far the model is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the model is ready or has failed.
    pub async fn settled(&self) -> Status {
        let mut status = self.status.clone();
        // An error here says that the thread is gone; then what it said last stands.
        let _ = status.wait_for(|status| *status != Status::Loading).await;
        status.borrow().clone()
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }

    /// Why nothing comes from the thread.
    fn gone(&self) -> Error {
        match self.status() {
            Status::Failed(why) => self.error(Kind::Connection, why),
            _ => self.error(Kind::Server, "the local model has stopped; restart weir"),
        }
    }

    fn queue(&self, job: Job) -> Result<(), Error> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => self.error(Kind::Busy, "too many wait for the local model already"),
            TrySendError::Disconnected(_) => self.gone(),
        })
    }
}

#[async_trait]
impl Upstream for Local {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, _request: &Request) -> Origin {
        Origin::Local
    }

    async fn open(&self, request: &Request, _: &Call) -> Result<Opened, Error> {
        let ask = Ask::new(request).map_err(|why| self.error(Kind::BadRequest, why))?;
        let (chunks, mut heard) = mpsc::channel(self.longest_answer);
        let left_out = Arc::<AtomicUsize>::default();
        self.queue(Job { ask, chunks, left_out: Arc::clone(&left_out) })?;
        let first = tokio::time::timeout(FIRST_CHUNK_DEADLINE, heard.recv()).await.map_err(|_| {
            self.error(Kind::Timeout, format!("the local model said nothing within {FIRST_CHUNK_DEADLINE:?}"))
        })?;
        let first = first.ok_or_else(|| self.gone())??;
        let chunks = chunks_from(first, heard);
        Ok(Opened {
            by: Arc::clone(&self.name),
            model: request.model.as_str().into(),
            origin: Origin::Local,
            failed: Vec::new(),
            dropped: trimmed(left_out.load(Ordering::Relaxed)),
            headers: Vec::new(),
            load: Load::default(),
            chunks,
        })
    }
}

fn chunks_from(first: Chunk, heard: mpsc::Receiver<Result<Chunk, Error>>) -> Chunks {
    let others = stream::unfold(heard, async |mut heard| heard.recv().await.map(|chunk| (chunk, heard)));
    stream::iter([Ok(first)]).chain(others).boxed()
}

/// What is told of messages that there was no room for.
fn trimmed(messages: usize) -> Vec<String> {
    (messages > 0).then(|| format!("messages ({messages} oldest)")).into_iter().collect()
}

/// A file's name without its quantisation: `SmolLM2-135M-Instruct.Q4_1.gguf` is `smollm2-135m-instruct`.
fn display_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = match stem.rsplit_once('.') {
        Some((name, format)) if format.starts_with(['q', 'f', 'b', 'i']) => name,
        _ => &stem,
    };
    if name.is_empty() { "local".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_as_its_file() {
        let name = |file| display_name(Path::new(file));
        assert_eq!(name("models/x/SmolLM2-135M-Instruct.Q4_1.gguf"), "smollm2-135m-instruct");
        assert_eq!(name("Llama-3.2-1B.gguf"), "llama-3.2-1b");
        assert_eq!(name(""), "local");
    }
}
