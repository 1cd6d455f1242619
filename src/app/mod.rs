//! Assembly: the only place where concrete types meet. Configuration in, running sidecar out.
//!
//! Whatever an answer can do without (MiniLM, the local model, a damaged store) may be missing: it is said
//! loudly, and the rest starts. Only what the user must know about first stops the start.

mod banner;
mod encoder;
mod learned;
mod naming;
mod parts;
mod reembed;
mod remembered;
mod rules;
mod state_file;
mod study;

pub use banner::Banner;
pub use encoder::{LoadedEncoder, load_encoder};
pub use naming::load_namer;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::embed::Embedder;
use crate::intent::{Live, RuleSet};
use crate::journal::{self, Head, Journal};
use crate::limits::Limiter;
use crate::pipeline::{
    CheckObserver, Checked, Flights, Learner, Namer, Note, Outcome, Pipeline, RecentAnswers, Refresher,
    Scribe, Teach, Trails,
};
use crate::secret::Secret;
use crate::server::{self, Providers, Server, StatusReport};
use crate::telemetry::{Anchor, ChainReport, Metrics, SemanticReport, WebhookReport, scribe};
use crate::upstream::chain::Ward;
use crate::upstream::{self, provider};
use crate::webhook::{Event, Topic, Webhooks};
use crate::{cache, intent, store};
use learned::Learned;
use parts::{Gates, Kept, Lane, LocalModel, Mirrors};
use remembered::Remembered;
use rules::Ruling;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long the last answers get to be written down.
const WRITE_DOWN_DEADLINE: Duration = Duration::from_secs(10);

/// And how long webhooks get to hear of what waits for them.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would answer the whole network, with anyone's keys.
    #[error(
        "server.listen is {0}, which others can reach, and no [[client]] is configured; add one with a key, or listen on 127.0.0.1"
    )]
    OpenToAll(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened, and must not be set aside.
    #[error("cannot open the store: {0}")]
    Store(#[from] store::Error),
    /// A provider cannot be set up as configured.
    #[error(transparent)]
    Provider(#[from] provider::SetupError),
    /// A rule file cannot be used.
    #[error(transparent)]
    Rules(#[from] intent::Error),
    /// The list of prices cannot be used.
    #[error("the prices in {} cannot be used: {reason}", file.display())]
    Prices {
        /// The list.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The routes have no end.
    #[error("a route {0}")]
    Routes(upstream::route::Error),
    /// Requests are to be written down, and cannot be.
    #[error(transparent)]
    Journal(#[from] journal::write::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A part broke down while it started.
    #[error("a part broke down while it started")]
    Panicked,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; is another weir running? choose another port with --listen",
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need more rights, choose another with --listen"
        }
        _ => "",
    }
}

/// A sidecar that is ready to run.
pub struct App {
    listener: TcpListener,
    server: Arc<Server>,
    kept: Kept,
    learned: Learned,
    remembered: Remembered<Ward>,
    spending: Remembered<Limiter>,
    rules: Ruling,
    webhooks: Webhooks,
    /// The encoder by which remembered questions are embedded anew where another one has embedded them.
    renews: Option<Embedder>,
    /// What requests are written down in, where they are.
    journal: Option<Journal>,
    banner: Banner,
}

impl App {
    /// Puts everything together.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let address = config.server.listen;
        if !address.ip().is_loopback() && config.server.clients.is_empty() {
            return Err(Error::OpenToAll(address));
        }
        // First of all: a second sidecar must not touch the first one's store.
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rules = Ruling::start(&config.rules, &config.data_dir)?;
        let local = parts::local(&config, &clock).await?;
        let (kept, lane) = tokio::try_join!(parts::store(&config), parts::lane(&config))?;
        if let Some(embedder) = &lane.embedder {
            kept.speak(embedder);
        }
        let prices = Arc::new(parts::prices(&config)?);
        let (chain, providers, gates) = parts::chain(&config, local.as_ref(), &prices)?;
        let order = chain.order().iter().map(ToString::to_string).collect();
        let ward = Arc::clone(chain.ward());
        let (upstream, mirrors) = parts::upstream(&config, chain, &prices)?;
        let models = parts::model_names(&config, local.as_ref());
        let webhooks = webhooks(&config, &ward, &clock);
        let facts = Facts { lane, local, order, gates, mirrors, webhooks: webhooks.clone() };
        let report = report(&facts, &kept, &rules.live, &clock);
        let bound = listener.local_addr().unwrap_or(address);
        let banner = Banner::new(&config, bound, &report(), kept.recovery().as_ref());
        let remembered = Remembered::open(&ward, &clock, &config.data_dir).await;
        let secrets = secrets(&config);
        let limiter = Limiter::new(config.limits);
        let spending = Remembered::open(&Arc::new(limiter.clone()), &clock, &config.data_dir).await;
        let metrics = Metrics::new(Arc::clone(&prices)).with_chain(chain_report(&ward));
        let metrics = match webhooks.is_empty() {
            true => metrics,
            false => metrics.with_webhooks(webhook_report(&webhooks)),
        };
        let mut cache_config = config.cache;
        // Which hits are picked to be checked is written down, so that a replay picks the same.
        let seed = *cache_config.bound.seed.get_or_insert_with(rand::random);
        let (journal, scribe) = journal(config.journal, secrets, seed, &clock)?;
        let renews = facts.lane.embedder.clone().filter(|_| config.encoder.reembed);
        // What is learned about answers outlives a restart where the answers do.
        let memory = matches!(config.store, config::Store::Embedded(_)).then_some(config.data_dir);
        let cache = Arc::new(cache::Cache::new(cache_config, Arc::clone(&kept.store), Arc::clone(&clock)));
        let learned = Learned::open(cache.bound(), memory).await;
        let learner = Learner::spawn(
            Arc::clone(&cache),
            facts.lane.embedder.clone(),
            Arc::clone(&upstream),
            check_observer(&metrics, scribe.clone()),
        );
        let learner = match scribe.clone() {
            Some(scribe) => learner.taught_by(teach(scribe)),
            None => learner,
        };
        let naming = Some(config.rules.naming).filter(|naming| !naming.model.is_empty());
        let namer = naming.map(|naming| Arc::new(Namer::new(naming, Arc::clone(&upstream))));
        let pipeline = Pipeline {
            limiter,
            rules: rules.live.clone(),
            cache,
            embedder: facts.lane.embedder,
            namer,
            upstream,
            flights: Flights::default(),
            recent: RecentAnswers::default(),
            scribe,
            trails: Trails::default(),
            learner,
            refresher: Refresher::default(),
            clock: Arc::clone(&clock),
            observer: observer(&metrics, &webhooks),
        };
        let metrics = with_parts(metrics, &pipeline, &kept, journal.as_ref());
        let files = kept.files();
        let report = with_journal(report, journal.clone());
        let providers = Providers::new(providers, config.passthrough_upstream.as_deref()).watched_by(&ward);
        let server = Server {
            config: config.server,
            pipeline,
            metrics,
            status: report,
            models,
            providers,
            files,
            clock,
        };
        let server = Arc::new(server);
        Ok(Self {
            listener,
            server,
            kept,
            learned,
            remembered,
            spending,
            rules,
            webhooks,
            renews,
            journal,
            banner,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What to tell whoever has started it.
    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// Serves until `stop` resolves; then lets running requests finish and writes everything down. A second
    /// signal ends that at once.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let learner = self.server.pipeline.learner.clone();
        let (cache, clock) = (Arc::clone(&self.server.pipeline.cache), Arc::clone(&self.server.clock));
        let (stopping, stopped) = oneshot::channel();
        let stop = async move {
            stop.await;
            let _ = stopping.send(());
        };
        let again = async move {
            let _ = stopped.await;
            stop_signal().await;
        };
        let server = Arc::clone(&self.server);
        let serving = async {
            tokio::select! {
                () = server::serve(self.listener, self.server, stop) => {}
                () = self.kept.sweep(clock.as_ref()) => {}
                () = self.kept.tend() => {}
                () = self.learned.keep() => {}
                () = self.remembered.keep() => {}
                () = self.spending.keep() => {}
                () = self.rules.watch() => {}
                () = self.rules.study(server.pipeline.embedder.as_ref()) => {}
                () = self.rules.tend(&server.pipeline) => {}
                () = self.kept.renew(self.renews.as_ref()) => {}
            }
            let written = async {
                learner.close().await;
                self.learned.write().await;
                self.remembered.write().await;
                self.spending.write().await;
                cache.drain().await;
                self.kept.close().await;
                if let Some(journal) = self.journal {
                    let _ = tokio::task::spawn_blocking(move || journal.close()).await;
                }
            };
            let all = async { tokio::join!(written, self.webhooks.close(LAST_WORD)) };
            match tokio::time::timeout(WRITE_DOWN_DEADLINE, all).await {
                Ok(_) => tracing::info!("stopped"),
                Err(_) => {
                    tracing::warn!("stopped; the store did not close in time, the next start checks it");
                }
            }
        };
        tokio::select! {
            () = serving => {}
            () = again => tracing::warn!("stopped at once: running requests were cut"),
        }
    }
}

/// What is known about the parts once they have been started.
struct Facts {
    lane: Lane,
    local: Option<LocalModel>,
    order: Vec<String>,
    gates: Gates,
    mirrors: Mirrors,
    webhooks: Webhooks,
}

fn observer(metrics: &Metrics, webhooks: &Webhooks) -> crate::pipeline::Observer {
    let (metrics, webhooks) = (metrics.clone(), webhooks.clone());
    Arc::new(move |outcome: &Outcome| {
        metrics.record(outcome);
        if !webhooks.is_empty() {
            Event::of_request(outcome).iter().for_each(|event| webhooks.tell(event));
        }
    })
}

/// Those who are told of events; of those who are left alone, too, where any of them wants that.
fn webhooks(config: &Config, ward: &Ward, clock: &Arc<dyn Clock>) -> Webhooks {
    let webhooks = Webhooks::spawn(config.webhooks.clone(), clock);
    if config.webhooks.iter().any(|hook| hook.topics.contains(&Topic::Breaker)) {
        let webhooks = webhooks.clone();
        ward.watched_by(Arc::new(move |change| webhooks.tell(&Event::of_change(change))));
    }
    webhooks
}

fn webhook_report(webhooks: &Webhooks) -> WebhookReport {
    let webhooks = webhooks.clone();
    Arc::new(move || webhooks.reports())
}

fn chain_report(ward: &Arc<Ward>) -> ChainReport {
    let ward = Arc::clone(ward);
    Arc::new(move || ward.reports())
}

fn semantic_report(pipeline: &Pipeline) -> SemanticReport {
    let (bound, learner) = (Arc::clone(pipeline.cache.bound()), pipeline.learner.clone());
    Arc::new(move || (bound.report(), learner.counts()))
}

fn check_observer(metrics: &Metrics, scribe: Option<Scribe>) -> CheckObserver {
    let metrics = metrics.clone();
    Arc::new(move |checked: &Checked| {
        metrics.check(checked);
        if let Some(scribe) = &scribe {
            (scribe.write)(Note::Checked(Box::new(checked.clone())));
        }
    })
}

/// Teaches the bound, and has that written down: a replay learns it at the same moment.
fn teach(scribe: Scribe) -> Teach {
    Arc::new(move |bound, learned| {
        learned.teach(bound);
        (scribe.write)(Note::Learned(learned));
    })
}

/// What must never be written down, wherever it is said.
fn secrets(config: &Config) -> Vec<Secret> {
    let own = config.upstreams.iter().filter_map(|upstream| upstream.api_key.clone());
    let profiles = config.upstreams.iter().flat_map(|upstream| upstream.profiles.iter().map(|(_, key)| key));
    let headers =
        config.upstreams.iter().flat_map(|upstream| upstream.headers.iter().map(|(_, value)| value));
    let shown = config.rules.secrets.iter().map(|(_, secret)| secret);
    let clients = config.server.clients.iter().map(|client| &client.key);
    own.chain(profiles.chain(headers).chain(shown).chain(clients).cloned()).collect()
}

/// The journal, where one is wanted, and who tells it.
fn journal(
    config: journal::Config,
    secrets: Vec<Secret>,
    seed: u64,
    clock: &Arc<dyn Clock>,
) -> Result<(Option<Journal>, Option<Scribe>), Error> {
    if !config.enabled {
        return Ok((None, None));
    }
    let anchor = Anchor::now(clock.as_ref());
    let head = Head::new(anchor.micros(tokio::time::Instant::now()), Some(seed));
    let journal = Journal::open(config, secrets, head)?;
    let scribe = scribe(&journal, anchor);
    Ok((Some(journal), Some(scribe)))
}

fn report(facts: &Facts, kept: &Kept, rules: &Live, clock: &Arc<dyn Clock>) -> StatusReport {
    let started = clock.now().0;
    let (device, encoder) = (facts.lane.device.clone(), facts.lane.component.clone());
    let (local, kept, chain) = (facts.local.clone(), kept.clone(), facts.order.clone());
    let (gates, mirrors, webhooks) =
        (facts.gates.clone(), Arc::clone(&facts.mirrors), facts.webhooks.clone());
    let rules = rules.clone();
    Arc::new(move || server::Status {
        version: env!("CARGO_PKG_VERSION"),
        started,
        device: device.clone(),
        encoder: encoder.clone(),
        local: LocalModel::describe(local.as_ref()),
        store: kept.describe(),
        rules: rules.count(),
        chain: chain.clone(),
        queues: gates.iter().map(|(name, gate)| (name.clone(), gate.report())).collect(),
        mirrored: mirrors(),
        webhooks: webhooks.reports(),
        journal: None,
    })
}

/// The same metrics, and those of the parts that are there.
fn with_parts(metrics: Metrics, pipeline: &Pipeline, kept: &Kept, journal: Option<&Journal>) -> Metrics {
    let store = Arc::clone(&kept.store);
    let metrics =
        metrics.with_semantic(semantic_report(pipeline)).with_store(Arc::new(move || store.counters()));
    let metrics = match journal.cloned() {
        Some(journal) => metrics.with_journal(Arc::new(move || journal.counts())),
        None => metrics,
    };
    match pipeline.namer.clone() {
        Some(namer) => metrics.with_namer(Arc::new(move || namer.counts())),
        None => metrics,
    }
}

/// The same report, and what became of the lines of the journal.
fn with_journal(report: StatusReport, journal: Option<Journal>) -> StatusReport {
    let written = move |journal: &Journal| server::Written {
        // Relative paths are those of this process.
        folder: std::path::absolute(journal.folder()).unwrap_or_else(|_| journal.folder().to_owned()),
        counts: journal.counts(),
    };
    Arc::new(move || server::Status { journal: journal.as_ref().map(written), ..report() })
}

/// Listens for signals to stop from now on; resolves at the first one. Must be called within a runtime.
pub fn stop_signal() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let mut signals = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::terminate()).ok(), signal(SignalKind::interrupt()).ok())
    };
    async move {
        #[cfg(unix)]
        if let (Some(terminate), Some(interrupt)) = (&mut signals.0, &mut signals.1) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Rule files, compiled, for `weir rules`.
pub fn load_rules(files: &[PathBuf], shipped: bool) -> Result<RuleSet, intent::Error> {
    parts::book(files, shipped)?.compile(&[])
}

/// What the models cost, for whoever counts afterwards.
pub fn prices(config: &Config) -> Result<Arc<upstream::prices::Prices>, Error> {
    Ok(Arc::new(parts::prices(config)?))
}
pub use study::read_all;
