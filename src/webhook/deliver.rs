//! [`Webhooks`]: a queue for each receiver, and a task that empties it.

use super::damper::Damper;
use super::{Config, Event, Report, Topic};
use crate::clock::Clock;
use crate::upstream::provider::Service;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// The most events that wait for one receiver.
const QUEUE: usize = 256;
/// The longest pause before it is told again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Tells receivers of events. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    hooks: Arc<[Hook]>,
    clock: Arc<dyn Clock>,
    epoch: Instant,
    closing: Arc<watch::Sender<bool>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

struct Hook {
    config: Arc<Config>,
    inner: Mutex<Inner>,
    counts: Arc<Counts>,
}

struct Inner {
    damper: Damper,
    /// `None` when it is closed.
    queue: Option<mpsc::Sender<Message>>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    damped: AtomicU64,
}

/// What is sent, as often as need be under the same name.
struct Message {
    id: String,
    topic: Topic,
    body: String,
}

impl Message {
    fn new(event: &Event, clock: &dyn Clock, repeated: u64) -> Self {
        let id = format!("msg_{:032x}", rand::random::<u128>());
        Self { id, topic: event.topic, body: event.body(clock.now(), repeated) }
    }
}

impl Webhooks {
    /// A task for each receiver. Must be called within a tokio runtime.
    pub fn spawn(configs: Vec<Config>, clock: &Arc<dyn Clock>) -> Self {
        let (closing, closed) = watch::channel(false);
        let mut tasks = Vec::with_capacity(configs.len());
        let hooks = configs.into_iter().map(|config| {
            let (queue, messages) = mpsc::channel(QUEUE);
            let (config, counts) = (Arc::new(config), Arc::new(Counts::default()));
            let receiver = Receiver {
                service: Service::outward(config.url.expose()),
                config: Arc::clone(&config),
                counts: Arc::clone(&counts),
                clock: Arc::clone(clock),
                closed: closed.clone(),
            };
            tasks.push(tokio::spawn(receiver.deliver(messages)));
            let inner = Inner { damper: Damper::default(), queue: Some(queue) };
            Hook { config, inner: Mutex::new(inner), counts }
        });
        Self {
            hooks: hooks.collect(),
            clock: Arc::clone(clock),
            epoch: Instant::now(),
            closing: Arc::new(closing),
            tasks: Arc::new(Mutex::new(tasks)),
        }
    }

    /// Whether anyone is to be told of anything.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Leaves `event` for everyone who wants it. Never waits.
    pub fn tell(&self, event: &Event) {
        let wants = |hook: &&Hook| event.topic == Topic::Test || hook.config.topics.contains(&event.topic);
        for hook in self.hooks.iter().filter(wants) {
            hook.leave(event, self.epoch.elapsed(), self.clock.as_ref());
        }
    }

    /// What has become of the events of each.
    pub fn reports(&self) -> Vec<Report> {
        self.hooks.iter().map(Hook::report).collect()
    }

    /// Takes no more, and gives what waits one more chance, all together for so long.
    pub async fn close(&self, patience: Duration) {
        self.hooks.iter().for_each(|hook| hook.lock().queue = None);
        let _ = self.closing.send(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let stops: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        if timeout(patience, futures_util::future::join_all(tasks)).await.is_err() {
            tracing::warn!("some webhooks were not told of everything before the end");
            stops.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

impl Hook {
    fn leave(&self, event: &Event, now: Duration, clock: &dyn Clock) {
        let mut inner = self.lock();
        let Some(queue) = inner.queue.clone() else { return };
        let Some(repeated) = inner.damper.hear(now, &event.subject, self.config.quiet) else {
            self.counts.damped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        drop(inner);
        if queue.try_send(Message::new(event, clock, repeated)).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self) -> Report {
        let Counts { sent, failed, dropped, damped } = &*self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            name: self.config.name.clone(),
            sent: read(sent),
            failed: read(failed),
            dropped: read(dropped),
            damped: read(damped),
        }
    }

    /// It is whole between any two lines.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever is told, by one task.
struct Receiver {
    service: Service,
    config: Arc<Config>,
    counts: Arc<Counts>,
    clock: Arc<dyn Clock>,
    closed: watch::Receiver<bool>,
}

impl Receiver {
    async fn deliver(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let told = self.tell(&message).await;
            let counter = if told { &self.counts.sent } else { &self.counts.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it was taken in the end.
    async fn tell(&mut self, message: &Message) -> bool {
        let (webhook, event) = (self.config.name.as_str(), message.topic.name());
        let mut nth = 0;
        loop {
            let closing = *self.closed.borrow();
            let why = match attempt(&self.service, &self.config, message, self.clock.as_ref()).await {
                Ok(()) => return true,
                Err(why) => why,
            };
            if nth >= self.config.retries || closing {
                tracing::warn!(webhook, event, why, tries = nth + 1, "a webhook was not told");
                return false;
            }
            nth += 1;
            tracing::debug!(webhook, event, why, "a webhook will be told again");
            let pause = self.pause(nth);
            // At the end there is one more chance, at once.
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.closed.changed() => {}
            }
        }
    }

    /// Drawn from the second half of a time that doubles, so that many do not come back together.
    fn pause(&self, nth: u32) -> Duration {
        let longest = self.config.backoff.saturating_mul(2_u32.saturating_pow(nth - 1)).min(LONGEST_PAUSE);
        longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

/// The time in the signature is that of this try: receivers refuse what is old.
async fn attempt(
    service: &Service,
    config: &Config,
    message: &Message,
    clock: &dyn Clock,
) -> Result<(), String> {
    let Message { id, topic: _, body } = message;
    let seconds = clock.now().as_secs();
    let headers = [
        ("webhook-id".to_owned(), id.clone()),
        ("webhook-timestamp".to_owned(), seconds.to_string()),
        ("webhook-signature".to_owned(), config.key.sign(id, seconds, body)),
    ];
    service.tell(config.url.expose(), &headers, body.clone(), config.timeout).await
}

/// Sends a test event, once, and says how long the receiver took, or why it did not take it.
pub async fn try_out(config: &Config, clock: &dyn Clock) -> Result<Duration, String> {
    let service = Service::outward(config.url.expose());
    let message = Message::new(&Event::test(&config.name), clock, 0);
    let began = Instant::now();
    attempt(&service, config, &message, clock).await.map(|()| began.elapsed())
}
