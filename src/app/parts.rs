//! The parts, each made from its configuration. Those that may be missing say so in a [`Component`].

use super::Error;
use super::encoder::load_encoder;
use super::reembed::reembed;
use crate::cache;
use crate::cache::judge;
use crate::chat::Usage;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, SentenceModel};
use crate::device;
use crate::embed::Embedder;
use crate::intent::{self, Book};
use crate::models::{self, Installed};
use crate::server::{self, BackedUp, Component};
use crate::store::embedded::upkeep::Copied;
use crate::store::embedded::{Embedded, Recovery, Space, Tuning};
use crate::store::guarded::{self, Guarded};
use crate::store::memory::Memory;
use crate::store::{Room, Store};
use crate::upstream::chain::{Chain, Known, Link, Ward};
use crate::upstream::local::{Local, Status};
use crate::upstream::prices::{Prices, Source, Table};
use crate::upstream::provider::{self, Provider};
use crate::upstream::queue::{Gate, Gated};
use crate::upstream::route::{Mirrored, Router, Routes};
use crate::upstream::strategy::Facts;
use crate::upstream::{Origin, Upstream};
use futures_util::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often is written down which answers have been given again.
const NOTE_EVERY: Duration = Duration::from_mins(1);
/// Every how many times expired answers are removed as well. They are never served, however long they lie there.
const SWEEP_EVERY: u32 = 10;

/// What the key in an `[[upstream]]` itself is called, beside those in `[[profile]]`s.
const OWN_KEY: &str = "default";

/// Where answers are kept.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) store: Arc<dyn Store>,
    /// The same store, for what only it can do; `None` where answers are kept in memory.
    embedded: Option<Arc<Guarded<Embedded>>>,
    place: String,
}

impl Kept {
    fn in_memory(room: Room) -> Self {
        Self { store: Arc::new(Memory::new(room)), embedded: None, place: "memory".to_owned() }
    }

    fn on_disk(place: String, embedded: Embedded, deadline: Duration) -> Self {
        let guard = guarded::Config { deadline, ..guarded::Config::default() };
        let guarded = Arc::new(Guarded::new(embedded, guard));
        let store = Arc::clone(&guarded) as Arc<dyn Store>;
        Self { store, embedded: Some(guarded), place }
    }

    /// Its files, and what writes them elsewhere.
    pub(super) fn files(&self) -> Option<server::Files> {
        let embedded = Arc::clone(self.embedded.as_ref()?);
        let folder = PathBuf::from(&self.place);
        let backup = {
            let folder = folder.clone();
            move || -> BoxFuture<'static, _> { Box::pin(back_up(Arc::clone(&embedded), folder.clone())) }
        };
        Some(server::Files { folder, backup: Arc::new(backup) })
    }

    /// Compares by the vectors of `embedder` from now on.
    pub(super) fn speak(&self, embedder: &Embedder) {
        if let Some(embedded) = &self.embedded {
            embedded.inner().set_space(Space::of(&judge::space(embedder.id())));
        }
    }

    /// Embeds anew what other models have embedded; then nothing, until it is dropped.
    pub(super) async fn renew(&self, embedder: Option<&Embedder>) {
        if let (Some(embedded), Some(embedder)) = (&self.embedded, embedder) {
            reembed(embedded.inner(), embedder).await;
        }
        std::future::pending::<()>().await;
    }

    /// What was found when the store was opened.
    pub(super) fn recovery(&self) -> Option<Recovery> {
        self.embedded.as_ref().and_then(|embedded| embedded.inner().recovery())
    }

    /// Opens the store anew whenever it has failed, and writes it anew when its files are too large, until it is
    /// dropped.
    pub(super) async fn tend(&self) {
        match &self.embedded {
            Some(embedded) => drop(tokio::join!(embedded.inner().heal(), embedded.inner().stay_small())),
            None => std::future::pending().await,
        }
    }

    pub(super) fn describe(&self) -> Component {
        if let Some(why) = self.embedded.as_ref().and_then(|embedded| embedded.inner().why_away()) {
            return Component::failed(&self.place, format!("{why}; it is opened as soon as that works"));
        }
        let recovery = self.recovery();
        let aside = recovery.as_ref().and_then(|recovery| recovery.set_aside.as_ref());
        let aside =
            aside.map_or(String::new(), |aside| format!("; set aside as damaged: {}", aside.path.display()));
        let entries = self.store.counters().entries;
        Component { state: format!("ready, {entries} answers{aside}"), ..Component::ready(&self.place) }
    }

    /// Writes down what was hit, and removes what has expired, from time to time, until it is dropped.
    pub(super) async fn sweep(&self, clock: &dyn Clock) {
        let Some(embedded) = &self.embedded else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(NOTE_EVERY);
        for nth in (0..SWEEP_EVERY).cycle() {
            ticks.tick().await;
            if embedded.inner().why_away().is_some() {
                continue;
            }
            if let Err(error) = embedded.inner().note_hits().await {
                tracing::warn!(%error, "which answers were given again could not be written down");
            }
            if nth > 0 {
                continue;
            }
            match embedded.inner().sweep(clock.now()).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed answers whose time is over"),
                Err(error) => tracing::warn!(%error, "expired answers could not be removed"),
            }
        }
    }

    pub(super) async fn close(&self) {
        let Some(embedded) = &self.embedded else { return };
        if let Err(error) = embedded.inner().close().await {
            tracing::warn!(%error, "the store was not closed cleanly; the next start will check it");
        }
    }
}

/// Writes the store to a new folder beside it.
async fn back_up(embedded: Arc<Guarded<Embedded>>, store: PathBuf) -> Result<BackedUp, String> {
    let mut folder = store.into_os_string();
    folder.push(format!(".backup-{}", SystemClock.now().0));
    let folder = PathBuf::from(folder);
    let copied = embedded.inner().backup(folder.clone()).await.map_err(|error| error.to_string())?;
    let Copied { entries, left_out, before, after } = copied;
    Ok(BackedUp { folder, entries, left_out, before, after })
}

/// Opens the store. One that is damaged is set aside, and one that cannot be opened for now is waited for behind the
/// start, so that only a newer format stops it.
pub(super) async fn store(config: &Config) -> Result<Kept, Error> {
    match config.store.clone() {
        config::Store::Memory(room) => Ok(Kept::in_memory(room)),
        config::Store::Embedded(embedded) => {
            let place = embedded.path.display().to_string();
            let embedded = blocking(move || Embedded::open_or_wait(embedded, Tuning::default())).await??;
            if let Some(why) = embedded.why_away() {
                tracing::error!(%why, "there is NO STORE: nothing is remembered until it can be opened, which is tried by itself");
            }
            Ok(Kept::on_disk(place, embedded, config.store_deadline))
        }
    }
}

/// The semantic lane, or why it is off.
pub(super) struct Lane {
    pub(super) embedder: Option<Embedder>,
    pub(super) component: Component,
    pub(super) device: String,
}

/// Loads the encoder. Without it there are no semantic hits, and everything else works.
pub(super) async fn lane(config: &Config) -> Result<Lane, Error> {
    let name = match &config.encoder.model {
        SentenceModel::Named(name) => name.clone(),
        SentenceModel::Folder(folder) => folder.display().to_string(),
    };
    if config.cache.semantic == cache::Semantic::Off {
        let component = Component::idle(&name, "off (cache.semantic)");
        return Ok(Lane { embedder: None, component, device: device::pick(config.encoder.device).1 });
    }
    let (wanted, folder) = (config.encoder.clone(), config.models_dir.clone());
    match blocking(move || load_encoder(&wanted, &folder)).await? {
        Ok(loaded) => {
            let component = Component::ready(loaded.describe());
            let device = loaded.device.clone();
            let embedder = loaded.spawn(config.embed).map_err(Error::Thread)?;
            Ok(Lane { embedder: Some(embedder), component, device })
        }
        Err(why) => {
            tracing::error!(%why, "the semantic lane is OFF: only exact questions are answered from memory");
            let device = device::pick(config.encoder.device).1;
            Ok(Lane { embedder: None, component: Component::failed(&name, why), device })
        }
    }
}

/// What the local model is called where there is none.
pub(super) const NO_LOCAL_MODEL: &str = "none";

/// The local model, as the chain and `/status` know it.
#[derive(Clone)]
pub(super) struct LocalModel {
    name: String,
    model: String,
    /// `None`: its file is missing or damaged.
    local: Result<Arc<Local>, String>,
}

impl LocalModel {
    /// Waits until it is ready or has failed.
    pub(super) async fn settled(&self) {
        if let Ok(local) = &self.local {
            local.settled().await;
        }
    }

    pub(super) fn describe(this: Option<&Self>) -> Component {
        let Some(Self { model, local, .. }) = this else {
            return Component::idle(NO_LOCAL_MODEL, "off (local.enabled, or nobody asks it)");
        };
        match local.as_ref().map(|local| local.status()) {
            Ok(Status::Ready { on: "cpu", .. }) => Component::ready(model),
            Ok(Status::Ready { on, .. }) => Component::ready(format!("{model} on {on}")),
            Ok(Status::Loading) => Component::idle(model, "loading"),
            Ok(Status::Failed(why)) => Component::failed(model, why),
            Err(why) => Component::failed(model, why.as_str()),
        }
    }
}

/// Starts the local model where anybody asks it. It loads on its own thread, while requests are answered.
pub(super) async fn local(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<LocalModel>, Error> {
    let Some(wanted) = config.local.clone().filter(|local| is_asked(config, &local.name)) else {
        return Ok(None);
    };
    let config::Local { name, model, config: mut bounds } = wanted;
    let (folder, id) = (config.models_dir.clone(), model.clone());
    let local = match blocking(move || verified(&folder, &id)).await? {
        Ok(file) => {
            bounds.file = file;
            Ok(Arc::new(Local::spawn(&name, bounds, Arc::clone(clock)).map_err(Error::Thread)?))
        }
        Err(why) => {
            tracing::error!(%why, "the local model is OFF: the chain ends with the last provider");
            Err(why)
        }
    };
    Ok(Some(LocalModel { name, model, local }))
}

/// The first file of a model whose files are all there and sound. A damaged model gives wrong answers
/// without a word, so every byte is checked.
fn verified(models_dir: &Path, id: &str) -> Result<PathBuf, String> {
    let installed = Installed::read(models_dir).map_err(|error| error.to_string())?;
    let model =
        installed.get(id).ok_or_else(|| format!("there is no model \"{id}\"; see `weir models list`"))?;
    models::verify(models_dir, model).map_err(|fault| fault.to_string())?;
    model
        .files
        .first()
        .map(|file| models::path(models_dir, file))
        .ok_or_else(|| format!("\"{id}\" has no files"))
}

/// What stands in front of each provider.
pub(super) type Gates = Vec<(String, Arc<Gate>)>;

/// Whether anyone asks the upstream `name`.
fn is_asked(config: &Config, name: &str) -> bool {
    let by_itself = || config.asks_local() && config.local.as_ref().is_some_and(|local| local.name == *name);
    config.chain.iter().any(|known| known == name)
        || config.routes.iter().any(|route| route.leads_to(name))
        || by_itself()
}

/// The chain, in the configured order and with whoever only routes ask behind it; and the providers in it.
pub(super) fn chain(
    config: &Config,
    local: Option<&LocalModel>,
    prices: &Arc<Prices>,
) -> Result<(Chain, Vec<Arc<Provider>>, Gates), Error> {
    let (mut links, mut providers, mut gates) = (Vec::new(), Vec::new(), Gates::new());
    let upstreams = config.upstreams.iter().map(|upstream| &upstream.name);
    let everyone = upstreams.chain(config.local.iter().map(|local| &local.name));
    let spare = everyone.filter(|name| !config.chain.contains(name) && is_asked(config, name));
    for name in config.chain.iter().chain(spare) {
        let in_order = config.chain.contains(name);
        if let Some(provider) = config.upstreams.iter().find(|upstream| upstream.name == *name) {
            let upstream = Arc::new(Provider::new(provider.clone())?);
            // Whoever would refuse everything is not asked; the paths of its API lead to it all the same.
            if provider.lacks_key() {
                tracing::warn!(upstream = %provider.name, "has no key, and is not asked; set its api_key");
            } else {
                links.push(link(provider, &upstream, &mut gates)?.in_order(in_order));
            }
            providers.push(upstream);
        } else if let Some(Ok(local)) = local.filter(|local| local.name == *name).map(|local| &local.local) {
            links.push(Link::new(Arc::clone(local) as Arc<dyn Upstream>, Vec::new()).in_order(in_order));
        }
    }
    let config::Chain { rules, config: effort, budget, .. } = config.failover.clone();
    let ward = Arc::new(Ward::new(rules, budget));
    let prices = Arc::clone(prices);
    ward.priced_by(Arc::new(move |upstream, model, usage| prices.cost(upstream, model, usage)));
    Ok((Chain::sharing("chain", links, effort, &ward), providers, gates))
}

/// A provider, with all its keys. Each key has a queue of its own: providers count by key.
fn link(config: &provider::Config, provider: &Arc<Provider>, gates: &mut Gates) -> Result<Link, Error> {
    let mut gated = |own: Option<&str>, upstream: Arc<dyn Upstream>| {
        let gated = Gated::new(upstream, config.limits.clone());
        let name = own.map_or_else(|| config.name.clone(), |own| format!("{}:{own}", config.name));
        gates.push((name, Arc::clone(gated.gate())));
        Arc::new(gated) as Arc<dyn Upstream>
    };
    let mut keys: Vec<(String, Arc<dyn Upstream>)> = Vec::new();
    if config.api_key.is_some() && !config.profiles.is_empty() {
        keys.push((OWN_KEY.to_owned(), gated(Some(OWN_KEY), Arc::clone(provider) as Arc<dyn Upstream>)));
    }
    for (name, key) in &config.profiles {
        keys.push((name.clone(), gated(Some(name), Arc::new(provider.with_key(key)?))));
    }
    let alone = match keys.first() {
        Some((_, first)) => Arc::clone(first),
        None => gated(None, Arc::clone(provider) as Arc<dyn Upstream>),
    };
    let link = Link::new(alone, config.models.clone()).with_windows(config.context_windows.clone());
    Ok(link.of_family(config.preset).with_profiles(keys, config.rotation))
}

/// The models that clients may want to see in a list.
pub(super) fn model_names(config: &Config, local: Option<&LocalModel>) -> Vec<String> {
    let routes = config.routes.iter().map(|route| route.name.to_string());
    let named =
        config.upstreams.iter().flat_map(|upstream| &upstream.models).filter(|model| !model.contains('*'));
    let local = local.map(|local| format!("{}/{}", Origin::Local.name(), local.model));
    let mut names: Vec<String> = named.cloned().chain(local).chain(routes).collect();
    names.sort();
    names.dedup();
    names
}

/// What each upstream's models cost.
pub(super) fn prices(config: &Config) -> Result<Prices, Error> {
    let list = if config.prices.list { Table::builtin() } else { Table::default() };
    let table = match &config.prices.file {
        Some(file) => list.updated_by(own_prices(file)?),
        None => list,
    };
    let table = Arc::new(table);
    let source = |upstream: &provider::Config| {
        let own = [upstream.name.as_str()].into_iter().chain(upstream.listed);
        let source = Source {
            fixed: upstream.price,
            names: upstream.model_names.clone(),
            listed_as: own.map(str::to_owned).collect(),
            table: Arc::clone(&table),
        };
        (upstream.name.as_str().into(), source)
    };
    Ok(Prices::new(config.upstreams.iter().map(source)))
}

fn own_prices(file: &Path) -> Result<Table, Error> {
    let failed = |reason: String| Error::Prices { file: file.to_owned(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    Table::parse(&text).map_err(|error| failed(error.to_string()))
}

/// Tells what became of mirrored requests, where any are mirrored.
pub(super) type Mirrors = Arc<dyn Fn() -> Option<Mirrored> + Send + Sync>;

/// The routes in front of the chain, where there are any.
pub(super) fn upstream(
    config: &Config,
    chain: Chain,
    prices: &Arc<Prices>,
) -> Result<(Arc<dyn Upstream>, Mirrors), Error> {
    let chain = Arc::new(chain);
    if config.routes.is_empty() {
        return Ok((chain, Arc::new(|| None)));
    }
    let asked = Arc::clone(&chain);
    let (local, prices) =
        (config.local.as_ref().map(|local| Arc::from(local.name.as_str())), Arc::clone(prices));
    let free = local.clone();
    let known = move |upstream: &str, model: &str, usage: Option<&Usage>| {
        let cost = usage.and_then(|usage| match free.as_deref() == Some(upstream) {
            true => Some(0.0),
            false => prices.cost(upstream, model, usage),
        });
        let Some(Known { latency, in_flight, available }) = asked.known(upstream, model) else {
            return Facts { available: false, ..Facts::default() };
        };
        Facts { cost, latency, in_flight, available, ..Facts::default() }
    };
    let routes = Routes::new(config.routes.clone(), Arc::new(known), local).map_err(Error::Routes)?;
    let router = Arc::new(Router::new(routes, chain));
    let counted = Arc::clone(&router);
    let mirrors = config.routes.iter().any(|route| route.mirror.is_some());
    Ok((router, Arc::new(move || mirrors.then(|| counted.mirrored()))))
}

/// All rule files, in order, behind those that come with weir.
pub(super) fn book(files: &[PathBuf], shipped: bool) -> Result<Book, intent::Error> {
    let mut book = if shipped { Book::shipped()? } else { Book::default() };
    files.iter().try_for_each(|file| book.read(file))?;
    Ok(book)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)
}
