//! [`Embedder`]: the queue in front of an encoder, and the threads behind it.
//!
//! One bounded queue feeds all threads. Batches form while others run: whoever is free takes its share of what
//! has queued up meanwhile, and nobody waits for a batch to fill. A full queue is an error at once, never a wait.

use super::{Embedding, Encoder, Error, Text};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Beyond this a text has more word pieces than the model reads, and its vector would speak only for its
/// beginning. So it is not worth the time that it takes.
const MAX_TEXT_BYTES: usize = 2048;

/// How the embedder queues.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many texts may wait. More are refused at once: under a load that is too much, a short queue is what
    /// keeps the wait short.
    pub queue: usize,
    /// The most texts in one run of the model.
    pub max_batch: usize,
    /// How long a request waits for its vector.
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue: 256, max_batch: 64, deadline: Duration::from_millis(500) }
    }
}

/// Knows the vectors of some texts. It is asked on the way of a request, so it must be quick.
pub type Knows = Arc<dyn Fn(&Text) -> Option<Embedding> + Send + Sync>;

/// A handle to encoders on threads of their own. Cheap to clone; the threads end with the last one.
#[derive(Clone)]
pub struct Embedder {
    queue: Arc<Handle>,
    deadline: Duration,
    id: Arc<str>,
    knows: Option<Knows>,
}

struct Job {
    text: Text,
    reply: oneshot::Sender<Result<Embedding, Error>>,
}

/// What handles and threads share.
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    capacity: usize,
    threads: usize,
}

struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The handles' side of the queue: closes it when the last of them goes.
struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.more.notify_all();
    }
}

impl Embedder {
    /// Gives `encoder` a thread and a queue.
    pub fn spawn(encoder: impl Encoder, config: Config) -> std::io::Result<Self> {
        Self::spawn_all(vec![encoder], config)
    }

    /// Gives each of `encoders` a thread, and all of them one queue. They must be the same model; there must be
    /// one at least.
    pub fn spawn_all<E: Encoder>(encoders: Vec<E>, config: Config) -> std::io::Result<Self> {
        let id = encoders.first().map_or("", Encoder::id).into();
        let waiting = Mutex::new(Waiting { jobs: VecDeque::new(), closed: false });
        let (capacity, threads) = (config.queue.max(1), encoders.len());
        let queue = Arc::new(Queue { waiting, more: Condvar::new(), capacity, threads });
        // Made first: where a thread cannot be started, those that were end with it.
        let handle = Arc::new(Handle(Arc::clone(&queue)));
        for (at, encoder) in encoders.into_iter().enumerate() {
            let (queue, max_batch) = (Arc::clone(&queue), config.max_batch.max(1));
            std::thread::Builder::new()
                .name(format!("embed-{at}"))
                .spawn(move || run(encoder, &queue, max_batch))?;
        }
        Ok(Self { queue: handle, deadline: config.deadline, id, knows: None })
    }

    /// The same, and what `knows` knows is not encoded again.
    #[must_use]
    pub fn knowing(self, knows: Knows) -> Self {
        Self { knows: Some(knows), ..self }
    }

    /// The encoder's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The vector of `text`, or the reason why there is none in time.
    pub async fn embed(&self, text: impl Into<Text>) -> Result<Embedding, Error> {
        let text = text.into();
        if text.words.len() > MAX_TEXT_BYTES {
            return Err(Error::TooLong);
        }
        if let Some(known) = self.knows.as_ref().and_then(|knows| knows(&text)) {
            return Ok(known);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.0.push(Job { text, reply })?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Deadline(self.deadline)),
        }
    }
}

impl Queue {
    fn push(&self, job: Job) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= self.capacity {
            return Err(Error::Busy);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.more.notify_one();
        Ok(())
    }

    /// Waits for work, and takes this thread's share of it. `None` when there will be no more.
    fn take(&self, max_batch: usize) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        // Others are free, or will be soon: two halves side by side are done before one whole.
        let share = waiting.jobs.len().div_ceil(self.threads.max(1)).min(max_batch);
        Some(waiting.jobs.drain(..share).collect())
    }

    /// Held for as long as a job takes to move, so async threads may lock it too.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(mut encoder: impl Encoder, queue: &Queue, max_batch: usize) {
    while let Some(mut jobs) = queue.take(max_batch) {
        // Whoever has given up (deadline met, client gone) is not worth the work.
        jobs.retain(|job| !job.reply.is_closed());
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
    use crate::vector::UnitVector;
    use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

    /// Waits for a nod before each batch, and notes how large it was.
    struct Slow {
        nods: Arc<Mutex<Receiver<()>>>,
        sizes: Sender<usize>,
    }

    impl Encoder for Slow {
        fn id(&self) -> &'static str {
            "slow"
        }

        fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error> {
            self.sizes.send(batch.len()).unwrap();
            self.nods.lock().unwrap().recv().map_err(|_| Error::Model("told to fail".to_owned()))?;
            let vector = UnitVector::new(vec![1.0]).unwrap();
            Ok(vec![Embedding { vector, partial: false, pieces: None }; batch.len()])
        }
    }

    /// Nobody is given up because the machine is busy with other things.
    fn patient() -> Config {
        Config { deadline: Duration::from_mins(1), ..Config::default() }
    }

    fn slow(config: Config, threads: usize) -> (Embedder, SyncSender<()>, Receiver<usize>) {
        let (nod, nods) = sync_channel(64);
        let nods = Arc::new(Mutex::new(nods));
        #[expect(clippy::disallowed_methods, reason = "a test's channel, and it must not block the encoder")]
        let (sizes, seen) = std::sync::mpsc::channel();
        let encoders = (0..threads).map(|_| Slow { nods: Arc::clone(&nods), sizes: sizes.clone() }).collect();
        (Embedder::spawn_all(encoders, config).unwrap(), nod, seen)
    }

    fn ask(embedder: &Embedder, count: usize) -> Vec<tokio::task::JoinHandle<Result<Embedding, Error>>> {
        let ask = |_| {
            let embedder = embedder.clone();
            tokio::spawn(async move { embedder.embed("x").await })
        };
        (0..count).map(ask).collect()
    }

    #[tokio::test]
    async fn what_queues_up_while_one_runs_is_taken_together() {
        let (embedder, nod, seen) = slow(Config { max_batch: 3, ..patient() }, 1);
        let asking = ask(&embedder, 5);
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
    async fn several_threads_share_what_has_queued_up() {
        let (embedder, nod, seen) = slow(patient(), 2);
        let first = ask(&embedder, 2);
        let (first_sizes, seen) = tokio::task::spawn_blocking(move || {
            let sizes = [seen.recv().unwrap(), seen.recv().unwrap()];
            (sizes, seen)
        })
        .await
        .unwrap();
        assert_eq!(first_sizes, [1, 1], "two threads take one each");
        let rest = ask(&embedder, 8);
        tokio::task::yield_now().await;
        (0..10).for_each(|_| nod.send(()).unwrap());
        for asked in first.into_iter().chain(rest) {
            assert!(asked.await.unwrap().is_ok());
        }
        let sizes: Vec<usize> = seen.try_iter().collect();
        // Not always told first: it is told once the other one may take its share, too.
        assert!(sizes.contains(&4), "the first that is free takes half of eight: {sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 8, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_full_queue_and_a_long_text_are_refused_at_once() {
        let config = Config { queue: 1, deadline: Duration::from_millis(300), ..Config::default() };
        let (embedder, _nod, seen) = slow(config, 1);
        assert!(matches!(embedder.embed("x".repeat(MAX_TEXT_BYTES + 1)).await, Err(Error::TooLong)));
        // One is being encoded, one waits, and the next finds no place.
        let first = ask(&embedder, 1).remove(0);
        tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
        assert!(matches!(embedder.embed("b").await, Err(Error::Deadline(_))));
        assert!(matches!(embedder.embed("c").await, Err(Error::Busy)));
        assert!(matches!(first.await.unwrap(), Err(Error::Deadline(_))));
    }

    #[tokio::test]
    async fn what_is_known_is_not_encoded() {
        let (embedder, nod, _seen) = slow(patient(), 1);
        drop(nod);
        let vector = UnitVector::new(vec![1.0]).unwrap();
        let known = Embedding { vector, partial: false, pieces: None };
        let told = known.clone();
        let embedder = embedder.knowing(Arc::new(move |text| (text.words == "known").then(|| told.clone())));
        assert_eq!(embedder.embed("known").await.unwrap(), known);
        assert!(matches!(embedder.embed("new").await, Err(Error::Model(_))));
    }

    #[tokio::test]
    async fn a_failing_model_is_an_error_and_no_end() {
        let (embedder, nod, _seen) = slow(patient(), 1);
        drop(nod);
        assert!(matches!(embedder.embed("a").await, Err(Error::Model(_))));
        assert!(matches!(embedder.embed("b").await, Err(Error::Model(_))));
    }

    #[tokio::test]
    async fn the_threads_end_with_the_last_handle() {
        let (embedder, nod, seen) = slow(patient(), 2);
        drop(embedder);
        drop(nod);
        let ended = tokio::task::spawn_blocking(move || seen.recv().is_err());
        assert!(tokio::time::timeout(Duration::from_mins(1), ended).await.unwrap().unwrap());
    }
}
