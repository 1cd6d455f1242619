//! The thread that the model lives on: it loads, warms up, and answers what comes, several requests together.

use super::answer::Answer;
use super::ask::Ask;
use super::beginnings::Beginnings;
use super::fault::Fault;
use super::form::Keeper;
use super::model::{MAX_CONTEXT, Model, Run};
use super::prompt::{fit, fit_whole};
use super::voice::Voice;
use super::{Config, Status, TooLong};
use crate::chat::{Chunk, Event};
use crate::clock::Clock;
use crate::device::DeviceChoice;
use crate::upstream::{Error, Kind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// A request that waits for its turn.
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) chunks: mpsc::Sender<Result<Chunk, Error>>,
    /// How many messages there was no room for; said before the first words.
    pub(super) left_out: Arc<AtomicUsize>,
}

/// What there is to do for a job.
struct Task {
    prompt: Vec<u32>,
    /// How many messages are not in it.
    left_out: usize,
    /// How many tokens the answer may have.
    limit: usize,
    /// What keeps it to its form.
    form: Option<Keeper>,
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
        let (mut first, mut device) = (None, self.config.device);
        loop {
            let began = Instant::now();
            let model = match unpanicked(|| self.load(device)) {
                Ok(model) => model,
                // Whatever a card has to do with it, the processor has not.
                Err(fault) if cfg!(feature = "cuda") && device != DeviceChoice::Cpu => {
                    tracing::warn!(%fault, "the local model is loaded for the processor");
                    device = DeviceChoice::Cpu;
                    continue;
                }
                Err(fault) => {
                    status.send_replace(Status::Failed(fault.with_advice()));
                    return;
                }
            };
            let load_ms = began.elapsed().as_millis() as u64;
            status.send_replace(Status::Ready { load_ms, on: model.network.place() });
            let mut desk = Desk {
                worker: self,
                model,
                beginnings: Beginnings::default(),
                answers: Vec::new(),
                failed: None,
            };
            first.take().into_iter().for_each(|job| desk.begin(job));
            match desk.serve(jobs) {
                Ended::Closed => return,
                Ended::Idle => drop(desk),
                Ended::Failed(why) => {
                    tracing::warn!(why, "the card failed: the local model goes on without it");
                    device = DeviceChoice::Cpu;
                    continue;
                }
            }
            tracing::info!("nobody has asked the local model for a while: its memory is freed");
            match jobs.recv() {
                Ok(job) => first = Some(job),
                Err(_) => return,
            }
        }
    }

    /// Loads the model, and lets it say a few words to nobody: the first tokens touch every weight.
    fn load(&self, device: DeviceChoice) -> Result<Model, Fault> {
        let mut model = Model::load(&self.config.file, self.context(), device)?;
        let mut sequence = model.network.sequence();
        for ids in [&[0; 8][..], &[0]] {
            model.network.step(&mut [Run { sequence: &mut sequence, ids, wants_next: true }])?.for_each(drop);
        }
        Ok(model)
    }

    fn context(&self) -> usize {
        self.config.context.min(MAX_CONTEXT)
    }

    /// What there is to do for what is asked.
    fn read(&self, model: &Model, ask: &Ask) -> Result<Task, Failure> {
        let context = self.context();
        let wanted = ask.sampling.answer_limit().unwrap_or(self.config.max_tokens) as usize;
        // A quarter of the context is kept for the answer, where it may become that long.
        let room = context.saturating_sub(wanted.clamp(1, (context / 4).max(1)));
        let fitted = match self.config.too_long {
            TooLong::Trim => fit(ask.conversation(), room, &model.template, &model.tokenizer)?,
            TooLong::Refuse => fit_whole(ask.conversation(), room, &model.template, &model.tokenizer)?
                .map(|prompt| (prompt, 0)),
        };
        let fitted = fitted.filter(|(prompt, _)| !prompt.is_empty());
        let (prompt, left_out) = fitted.ok_or(Failure::TooLong { room })?;
        let limit = wanted.min(context - prompt.len());
        let form = ask.form.as_ref().map(|form| form.keeper(model.tokenizer.vocabulary()));
        match form.as_ref().map(Keeper::least).filter(|least| *least > limit) {
            Some(least) => Err(Failure::TooShort { limit, least }),
            None => Ok(Task { prompt, left_out, limit, form }),
        }
    }

    fn start(&self) -> Event {
        Event::Start {
            id: format!("local-{:016x}", rand::random::<u64>()),
            model: self.model_name.to_string(),
            created: self.clock.now().as_secs(),
        }
    }
}

/// The model, and the answers in the making.
struct Desk<'a> {
    worker: &'a Worker,
    model: Model,
    beginnings: Beginnings,
    answers: Vec<Answer>,
    /// Why the card has failed, if it has.
    failed: Option<String>,
}

/// Why a desk is left.
enum Ended {
    /// Nobody can ask any more.
    Closed,
    /// Nobody has asked for long.
    Idle,
    /// The card has failed, and will again: why.
    Failed(String),
}

impl Desk<'_> {
    /// Works until there is nothing to do, and nothing to be waited for.
    fn serve(&mut self, jobs: &Receiver<Job>) -> Ended {
        loop {
            if let Some(ended) = self.take(jobs) {
                return ended;
            }
            self.step();
            if let Some(why) = self.failed.take() {
                return Ended::Failed(why);
            }
        }
    }

    /// Takes what waits, as long as there is room; waits itself where there is nothing else to do, unless that is
    /// the end.
    fn take(&mut self, jobs: &Receiver<Job>) -> Option<Ended> {
        while self.answers.len() < self.model.network.pace().together {
            if self.answers.is_empty() {
                match next(jobs, self.worker.config.idle_unload) {
                    Ok(job) => self.begin(job),
                    Err(RecvTimeoutError::Timeout) => return Some(Ended::Idle),
                    Err(RecvTimeoutError::Disconnected) => return Some(Ended::Closed),
                }
                continue;
            }
            match jobs.try_recv() {
                Ok(job) => self.begin(job),
                // What has been begun is brought to an end in any case.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
        None
    }

    fn begin(&mut self, job: Job) {
        let mut voice = Voice::new(&self.worker.name, job.chunks, self.worker.start());
        // Whoever has given up (deadline met, client gone) is not worth the work.
        if !voice.is_heard() {
            return;
        }
        match unpanicked(|| self.worker.read(&self.model, &job.ask)) {
            Ok(Task { prompt, left_out, limit, form }) => {
                job.left_out.store(left_out, Ordering::Relaxed);
                let known = self.beginnings.of(&prompt);
                let sequence = known.unwrap_or_else(|| self.model.network.sequence());
                let mut answer = Answer::new(voice, &job.ask, (prompt, limit), sequence, form);
                answer.listen(&self.model.template, &self.model.tokenizer, &job.ask);
                if !answer.finish_if_silent() {
                    self.answers.push(answer);
                }
            }
            Err(failure) => voice.fail(failure.kind(), failure.to_string()),
        }
    }

    /// Reads the next tokens of every answer. A failure costs the answers, not the model: nothing that was left
    /// half done outlives them, but on a card.
    fn step(&mut self) {
        self.answers.retain(|answer| answer.voice.is_heard());
        let worked = unpanicked(|| self.go_on());
        if let Err(fault) = worked {
            self.failed = (self.model.network.place() != "cpu").then(|| fault.to_string());
            for mut answer in self.answers.drain(..) {
                answer.voice.fail(Kind::Server, fault.to_string());
            }
        }
    }

    fn go_on(&mut self) -> Result<(), Fault> {
        let Self { model, answers, beginnings, .. } = self;
        let unread: Vec<usize> = answers.iter().map(Answer::unread).collect();
        let shares = shares(&unread, model.network.pace().step);
        let asking: Vec<bool> =
            answers.iter().zip(&shares).map(|(answer, share)| answer.unread() == *share).collect();
        let mut runs: Vec<Run<'_>> =
            answers.iter_mut().zip(&shares).map(|(answer, share)| answer.run(*share)).collect();
        let Model { tokenizer, network, .. } = model;
        let mut expected = network.step(&mut runs)?;
        drop(runs);
        let mut asking = asking.into_iter();
        answers.retain_mut(|answer| {
            if !asking.next().unwrap_or(false) {
                return true;
            }
            if answer.at_prompt() {
                beginnings.keep(&answer.ids, &answer.sequence);
            }
            let more = expected.next().is_some_and(|expected| answer.go_on(expected, tokenizer));
            if !more {
                beginnings.keep(&answer.ids, &answer.sequence);
            }
            more
        });
        Ok(())
    }
}

/// The next job, where one comes within `idle`; zero is however long it takes.
fn next(jobs: &Receiver<Job>, idle: Duration) -> Result<Job, RecvTimeoutError> {
    if idle.is_zero() {
        return jobs.recv().map_err(|_| RecvTimeoutError::Disconnected);
    }
    jobs.recv_timeout(idle)
}

/// How many tokens each answer reads in a step, where it has so many to read: each at least one, and the others go
/// to those who have the fewest first, so that a short prompt never waits for a long one. `most` is read in all.
fn shares(unread: &[usize], most: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = unread.iter().map(|unread| (*unread).min(1)).collect();
    let mut left = most.saturating_sub(shares.iter().sum());
    let mut order: Vec<usize> = (0..unread.len()).collect();
    order.sort_by_key(|at| unread[*at]);
    for at in order {
        let more = (unread[at] - shares[at]).min(left);
        shares[at] += more;
        left -= more;
    }
    shares
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("this does not fit: the local model reads {room} tokens")]
    TooLong { room: usize },
    #[error("an answer of this form takes {least} tokens at least, and {limit} may be written")]
    TooShort { limit: usize, least: usize },
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Failure {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLong { .. } => Kind::ContextOverflow,
            Self::TooShort { .. } => Kind::BadRequest,
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
    fn everyone_reads_in_every_step_and_the_shortest_prompt_first() {
        assert_eq!(shares(&[1, 1, 1], 64), [1, 1, 1]);
        assert_eq!(shares(&[500], 64), [64]);
        assert_eq!(shares(&[500, 1, 20], 64), [64 - 21, 1, 20]);
        assert_eq!(shares(&[500, 500], 64), [64 - 1, 1]);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let failed: Result<(), Fault> = unpanicked(|| panic!("on purpose"));
        assert!(matches!(failed, Err(Fault::Panic)));
    }
}
