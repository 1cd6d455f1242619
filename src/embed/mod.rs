//! From text to vectors: the [`Encoder`] trait, and the [`Embedder`] that queues and batches in front of it.
//!
//! An encoder is synchronous and owns its thread (and its GPU). Async code talks to it through an
//! [`Embedder`]: a bounded queue with a deadline. A full queue is an error at once, never a wait: the
//! request is then a miss, and goes on.

pub mod device;
pub mod minilm;

use crate::vector::UnitVector;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Turns texts into vectors. Synchronous: it owns the thread it runs on.
pub trait Encoder: Send + 'static {
    /// What makes its vectors comparable: model, revision, pooling. Part of every scope, so that vectors of
    /// different encoders never meet.
    fn id(&self) -> &str;

    /// One [`Embedding`] for each text, in order.
    fn encode(&mut self, batch: &[String]) -> Result<Vec<Embedding>, Error>;
}

/// Where a text points.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The direction.
    pub vector: UnitVector,
    /// The model has not read all of the text: it was too long, or holds characters that the model does not
    /// know. The vector speaks for the rest only, and such a text must never be served a semantic hit.
    pub partial: bool,
}

/// Why there is no vector.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It is longer than any text that the model could read to its end.
    #[error("the text is too long to be embedded")]
    TooLong,
    /// Too many wait already.
    #[error("the embedding queue is full")]
    Busy,
    /// It did not come in time.
    #[error("no embedding within {0:?}")]
    Deadline(Duration),
    /// The encoder's thread has ended.
    #[error("the encoder has stopped")]
    Stopped,
    /// The model could not be loaded.
    #[error("the embedding model could not be loaded: {0}")]
    Load(String),
    /// The model failed on this text.
    #[error("the embedding model failed: {0}")]
    Model(String),
}

/// Beyond this a text has more word pieces than the model reads, and its vector would speak only for its
/// beginning. So it is not worth the half second that it takes.
const MAX_TEXT_BYTES: usize = 2048;

/// How the embedder queues.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many texts may wait. More are refused at once.
    pub queue: usize,
    /// The most texts in one run of the model.
    pub max_batch: usize,
    /// How long a request waits for its vector.
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue: 16, max_batch: 4, deadline: Duration::from_millis(500) }
    }
}

/// A handle to an encoder on its own thread. Cheap to clone.
#[derive(Clone)]
pub struct Embedder {
    jobs: SyncSender<Job>,
    deadline: Duration,
    id: Arc<str>,
}

struct Job {
    text: String,
    reply: oneshot::Sender<Result<Embedding, Error>>,
}

impl Embedder {
    /// Gives `encoder` a thread and a queue. The thread ends with the last handle.
    pub fn spawn(encoder: impl Encoder, config: Config) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(config.queue.max(1));
        let id = encoder.id().into();
        let max_batch = config.max_batch.max(1);
        std::thread::Builder::new()
            .name("embed".to_owned())
            .spawn(move || run(encoder, &queue, max_batch))?;
        Ok(Self { jobs, deadline: config.deadline, id })
    }

    /// The encoder's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The vector of `text`, or the reason why there is none in time.
    pub async fn embed(&self, text: &str) -> Result<Embedding, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TooLong);
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { text: text.to_owned(), reply }).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Deadline(self.deadline)),
        }
    }
}

/// Batches form while the last one runs: what has queued up meanwhile is taken together, and nobody waits
/// for a batch to fill.
fn run(mut encoder: impl Encoder, queue: &Receiver<Job>, max_batch: usize) {
    while let Ok(first) = queue.recv() {
        let waiting = std::iter::from_fn(|| queue.try_recv().ok()).take(max_batch - 1);
        // Whoever has given up (deadline met, client gone) is not worth the work.
        let jobs: Vec<Job> =
            std::iter::once(first).chain(waiting).filter(|job| !job.reply.is_closed()).collect();
        if !jobs.is_empty() {
            run_batch(&mut encoder, jobs);
        }
    }
}

fn run_batch(encoder: &mut impl Encoder, jobs: Vec<Job>) {
    let (texts, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.text, job.reply)).unzip();
    // A panic below us costs one batch, not the lane.
    let encoded = catch_unwind(AssertUnwindSafe(|| encoder.encode(&texts)));
    match encoded.unwrap_or_else(|_| Err(Error::Model("the model panicked".to_owned()))) {
        Ok(embeddings) => {
            for (reply, embedding) in replies.into_iter().zip(embeddings) {
                let _ = reply.send(Ok(embedding));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    /// Waits for a nod before each batch, and notes how large it was.
    struct Slow {
        nods: Receiver<()>,
        sizes: Sender<usize>,
    }

    impl Encoder for Slow {
        fn id(&self) -> &'static str {
            "slow"
        }

        fn encode(&mut self, batch: &[String]) -> Result<Vec<Embedding>, Error> {
            self.sizes.send(batch.len()).unwrap();
            self.nods.recv().map_err(|_| Error::Model("told to fail".to_owned()))?;
            let vector = UnitVector::new(vec![1.0]).unwrap();
            Ok(vec![Embedding { vector, partial: false }; batch.len()])
        }
    }

    fn slow(config: Config) -> (Embedder, SyncSender<()>, Receiver<usize>) {
        let (nod, nods) = sync_channel(16);
        #[expect(clippy::disallowed_methods, reason = "a test's channel, and it must not block the encoder")]
        let (sizes, seen) = std::sync::mpsc::channel();
        (Embedder::spawn(Slow { nods, sizes }, config).unwrap(), nod, seen)
    }

    #[tokio::test]
    async fn what_queues_up_while_one_runs_is_taken_together() {
        let (embedder, nod, seen) = slow(Config { max_batch: 3, ..Config::default() });
        let asking: Vec<_> = (0..5)
            .map(|_| {
                let embedder = embedder.clone();
                tokio::spawn(async move { embedder.embed("x").await })
            })
            .collect();
        // All five are queued before the first batch is let go: asking does not wait.
        tokio::task::yield_now().await;
        (0..5).for_each(|_| nod.send(()).unwrap());
        for asked in asking {
            assert!(asked.await.unwrap().is_ok());
        }
        let sizes: Vec<usize> = seen.try_iter().collect();
        assert_eq!(sizes.iter().sum::<usize>(), 5, "{sizes:?}");
        assert!(sizes.len() < 5 && sizes.iter().all(|size| *size <= 3), "{sizes:?}");
    }

    #[tokio::test]
    async fn a_full_queue_and_a_long_text_are_refused_at_once() {
        let (embedder, _nod, seen) =
            slow(Config { queue: 1, deadline: Duration::from_millis(300), ..Config::default() });
        assert!(matches!(embedder.embed(&"x".repeat(MAX_TEXT_BYTES + 1)).await, Err(Error::TooLong)));
        // One is being encoded, one waits, and the next finds no place.
        let first = tokio::spawn({
            let embedder = embedder.clone();
            async move { embedder.embed("a").await }
        });
        tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
        assert!(matches!(embedder.embed("b").await, Err(Error::Deadline(_))));
        assert!(matches!(embedder.embed("c").await, Err(Error::Busy)));
        assert!(matches!(first.await.unwrap(), Err(Error::Deadline(_))));
    }

    #[tokio::test]
    async fn a_failing_model_is_an_error_and_no_end() {
        let (embedder, nod, _seen) = slow(Config::default());
        drop(nod);
        assert!(matches!(embedder.embed("a").await, Err(Error::Model(_))));
        assert!(matches!(embedder.embed("b").await, Err(Error::Model(_))));
    }
}
