//! [`Ward`]: the health of everyone who may be asked, shared by all who ask.
//!
//! The rules are in [`health`](super::super::health), and pure; here they get a clock, a lock, and a bell for those who
//! wait.

use super::super::health::{
    Board, Budget, BudgetRules, KeyId, Latency, Moment, Outcome, Reason, Refused, Report, Rules, Snapshot,
    Ticket,
};
use crate::chat::Usage;
use crate::clock::Millis;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The moment at which a process begins: what was a week before has a moment, too.
const BEGINNING: Moment = Moment(30 * 24 * 3_600_000);

/// Who leaves after so long a silence has not simply changed his mind.
const SILENCE: Duration = Duration::from_secs(20);

/// The most models whose costs are counted apart, of each key: clients name them.
const MAX_PAID: usize = 256;
/// All others.
const ANY_MODEL: &str = "*";

/// What an upstream's model costs, where anybody knows: in US dollars.
pub type Pricing = Arc<dyn Fn(&str, &str, &Usage) -> Option<f64> + Send + Sync>;

/// Who may be asked now.
pub struct Ward {
    rules: Rules,
    budget: BudgetRules,
    began: Instant,
    state: Mutex<State>,
    /// Rings when somebody is well again.
    recovered: Notify,
    /// Is told who begins to be left alone, and who is well again.
    watcher: OnceLock<Watcher>,
    pricing: OnceLock<Pricing>,
}

/// A model, with a key of an upstream.
pub(super) struct Unit {
    pub(super) key: KeyId,
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
}

/// Is told of changes, on the task of whoever noticed: so it must be quick.
pub type Watcher = Arc<dyn Fn(&Change) + Send + Sync>;

/// Somebody begins to be left alone, or is well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub name: Arc<str>,
    /// The model; `None` where it is about all models of the key.
    pub model: Option<Arc<str>>,
    /// Why it is left alone, and for how long; `None`: it is well again.
    pub trouble: Option<(Reason, Duration)>,
}

#[derive(Default)]
struct State {
    board: Board,
    names: Vec<Arc<str>>,
    /// By key, as in `names`.
    budgets: Vec<Budget>,
    in_flight: Vec<usize>,
    spent: Vec<BTreeMap<Arc<str>, Spent>>,
    /// How much has happened, so that a snapshot is written only if something has.
    events: u64,
}

impl Ward {
    /// Nobody is known yet. Must be called within a tokio runtime.
    pub fn new(rules: Rules, budget: BudgetRules) -> Self {
        let state = Mutex::new(State::default());
        let (watcher, pricing) = (OnceLock::new(), OnceLock::new());
        Self { rules, budget, began: Instant::now(), state, recovered: Notify::new(), watcher, pricing }
    }

    /// What answers cost from now on.
    pub fn priced_by(&self, pricing: Pricing) {
        let _ = self.pricing.set(pricing);
    }

    /// Has `watcher` told of changes from now on. There is one, and it stays.
    pub fn watched_by(&self, watcher: Watcher) {
        let _ = self.watcher.set(watcher);
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The place of the key called `name`; it is the same for all who ask.
    pub(super) fn register(&self, name: &Arc<str>) -> KeyId {
        let now = self.now();
        let mut state = self.lock();
        if let Some(at) = state.names.iter().position(|known| known == name) {
            return KeyId(at);
        }
        state.names.push(Arc::clone(name));
        state.board.admit(Arc::clone(name));
        state.budgets.push(Budget::new(now, &self.budget));
        state.in_flight.push(0);
        state.spent.push(BTreeMap::new());
        KeyId(state.names.len() - 1)
    }

    /// Now, by the clock of this process.
    pub(super) fn now(&self) -> Moment {
        BEGINNING.plus(self.began.elapsed())
    }

    pub(super) fn ask(
        self: &Arc<Self>,
        key: KeyId,
        model: &Arc<str>,
        alone: bool,
    ) -> Result<Attempt, Refused> {
        let now = self.now();
        let mut state = self.lock();
        let ticket = state.board.ask(key, model, now, &self.rules, alone)?;
        if let Some(count) = state.in_flight.get_mut(key.0) {
            *count += 1;
        }
        drop(state);
        let (ward, busy) = (Arc::clone(self), Busy { ward: Arc::clone(self), key });
        Ok(Attempt { ward, key, began: Instant::now(), ticket: Some(ticket), busy: Some(busy) })
    }

    pub(super) fn may_ask(&self, key: KeyId, model: &str, alone: bool) -> Result<(), Refused> {
        self.lock().board.may_ask(key, model, self.now(), &self.rules, alone)
    }

    pub(super) fn is_second_choice(&self, key: KeyId, model: &str) -> bool {
        self.lock().board.is_second_choice(key, model, self.now(), &self.rules)
    }

    /// What is known of how long `model` takes with `key`.
    pub(super) fn latency<T>(&self, key: KeyId, model: &str, read: impl FnOnce(&Latency) -> T) -> Option<T> {
        self.lock().board.latency(key, model).map(read)
    }

    /// The same, of replies that come whole or of streams.
    pub(super) fn latency_of<T>(
        &self,
        key: KeyId,
        model: &str,
        whole: bool,
        read: impl FnOnce(&Latency) -> T,
    ) -> Option<T> {
        self.lock().board.latency_of(key, model, whole).map(read)
    }

    /// Whether nothing speaks against `model` with `key`: it is not left alone, not switched off, and not slow.
    pub(super) fn is_well(&self, key: KeyId, model: &str) -> bool {
        let now = self.now();
        let state = self.lock();
        state.board.trouble(key, model) == [None; 2]
            && state.board.may_ask(key, model, now, &self.rules, false).is_ok()
            && !state.board.is_second_choice(key, model, now, &self.rules)
    }

    /// An answer is over: it was counted to be so much.
    pub(super) fn spent(&self, unit: &Unit, usage: Option<Usage>) {
        let Unit { key, upstream, model } = unit;
        let cost = usage.and_then(|usage| self.pricing.get()?(upstream, model, &usage));
        let mut state = self.lock();
        let Some(models) = state.spent.get_mut(key.0) else { return };
        let known = models.len() < MAX_PAID || models.contains_key(model);
        let name = if known { Arc::clone(model) } else { ANY_MODEL.into() };
        models.entry(name).or_default().add(usage.unwrap_or_default(), cost);
    }

    /// How many calls `key` has in work.
    pub(super) fn in_flight(&self, key: KeyId) -> usize {
        self.lock().in_flight.get(key.0).copied().unwrap_or_default()
    }

    /// The first try of a request with this key.
    pub(super) fn first_try(&self, key: Option<KeyId>) {
        let (Some(key), now) = (key, self.now()) else { return };
        if let Some(budget) = self.lock().budgets.get_mut(key.0) {
            budget.earn(now, &self.budget);
        }
    }

    /// Whether there may be another one.
    pub(super) fn another_try(&self, key: KeyId) -> bool {
        let now = self.now();
        self.lock().budgets.get_mut(key.0).is_some_and(|budget| budget.spend(now, &self.budget))
    }

    fn record(&self, ticket: Ticket, outcome: Outcome) {
        let (now, probe) = (self.now(), ticket.is_probe());
        let (key, model) = ticket.unit();
        let changes = self.noticing((key, &model), now, |board| {
            board.record(ticket, now, outcome, &self.rules);
        });
        self.tell(&changes);
        // Whether it is well again or may now be looked at by somebody else: those who wait want to know.
        if probe && !matches!(outcome, Outcome::Failed(..)) {
            self.recovered.notify_waiters();
        }
    }

    pub(super) fn cut(&self, key: KeyId, model: &Arc<str>) {
        let now = self.now();
        let changes = self.noticing((key, model), now, |board| board.cut(key, model, now, &self.rules));
        self.tell(&changes);
    }

    /// What `change` changes about a unit and its key.
    fn noticing(
        &self,
        (key, model): (KeyId, &Arc<str>),
        now: Moment,
        change: impl FnOnce(&mut Board),
    ) -> Vec<Change> {
        let mut state = self.lock();
        let before = state.board.trouble(key, model);
        change(&mut state.board);
        state.events += 1;
        let after = state.board.trouble(key, model);
        if before.map(|trouble| trouble.is_some()) == after.map(|trouble| trouble.is_some()) {
            return Vec::new();
        }
        let Some(name) = state.names.get(key.0).map(Arc::clone) else { return Vec::new() };
        drop(state);
        let whom = [None, Some(Arc::clone(model))];
        let told = before.into_iter().zip(after).zip(whom);
        let changed = told.filter(|((before, after), _)| before.is_some() != after.is_some());
        let change = |((_, after), model): ((_, Option<(Reason, Moment)>), _)| Change {
            name: Arc::clone(&name),
            model,
            trouble: after.map(|(reason, until)| (reason, until.since(now))),
        };
        changed.map(change).collect()
    }

    fn tell(&self, changes: &[Change]) {
        if let Some(watcher) = self.watcher.get() {
            changes.iter().for_each(|change| watcher(change));
        }
    }

    /// Waits for so long, or until somebody is well again.
    pub(super) async fn wait(&self, time: Duration) {
        let recovered = self.recovered.notified();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = recovered => {}
        }
    }

    /// The places of the keys that `name` means: a key, or all keys of an upstream.
    fn meant(state: &State, name: &str) -> Vec<KeyId> {
        (0..state.names.len()).filter(|at| is_meant(name, &state.names[*at])).map(KeyId).collect()
    }

    /// Whether `name` is a key, or an upstream.
    pub fn knows(&self, name: &str) -> bool {
        !Self::meant(&self.lock(), name).is_empty()
    }

    /// Switches `name` off, or on again: a key, or an upstream with all its keys. Whether there is such a one.
    pub fn set_disabled(&self, name: &str, disabled: bool) -> bool {
        self.change(name, |board, key| board.set_disabled(key, disabled))
    }

    /// Forgets all trouble with `name`, as above; with all, where there is no name.
    pub fn reset(&self, name: Option<&str>) -> bool {
        let Some(name) = name else {
            let mut state = self.lock();
            let all: Vec<KeyId> = (0..state.names.len()).map(KeyId).collect();
            all.into_iter().for_each(|key| state.board.reset(key));
            state.events += 1;
            drop(state);
            self.recovered.notify_waiters();
            return true;
        };
        self.change(name, Board::reset)
    }

    fn change(&self, name: &str, change: impl Fn(&mut Board, KeyId)) -> bool {
        let mut state = self.lock();
        let keys = Self::meant(&state, name);
        keys.iter().for_each(|key| change(&mut state.board, *key));
        state.events += 1;
        drop(state);
        self.recovered.notify_waiters();
        !keys.is_empty()
    }

    /// How everyone is, in the order of their names' coming.
    pub fn reports(&self) -> Vec<WardReport> {
        let now = self.now();
        let state = self.lock();
        let reports = state.board.reports(now).into_iter().zip(&state.in_flight).zip(&state.spent);
        let report = |((health, in_flight), spent): ((Report, &usize), &BTreeMap<Arc<str>, Spent>)| {
            WardReport { health, in_flight: *in_flight, spent: spent.clone() }
        };
        reports.map(report).collect()
    }

    /// How much has happened.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// What outlives a restart, where `wall` is the time of day.
    pub fn snapshot(&self, wall: Millis) -> Snapshot {
        self.lock().board.snapshot(self.now(), wall)
    }

    /// Goes on from a snapshot.
    pub fn restore(&self, snapshot: Snapshot, wall: Millis) {
        let now = self.now();
        self.lock().board.restore(snapshot, now, wall);
    }

    /// A panic cannot have left anything half done that matters.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `name` means the key called `key`: by its own name, or by its upstream's.
pub(super) fn is_meant(name: &str, key: &str) -> bool {
    key == name || key.split_once(':').is_some_and(|(of, _)| of == name)
}

/// How one key is, and what it has to do.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WardReport {
    /// Its health.
    #[serde(flatten)]
    pub health: Report,
    /// How many calls it has in work.
    pub in_flight: usize,
    /// What its answers took since the start, by model.
    pub spent: BTreeMap<Arc<str>, Spent>,
}

/// What answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Spent {
    /// How many there were.
    pub answers: u64,
    /// Tokens read, as the provider counts them.
    pub input_tokens: u64,
    /// Tokens written, likewise.
    pub output_tokens: u64,
    /// What they cost, as far as prices are known.
    pub cost_usd: f64,
}

impl Spent {
    fn add(&mut self, usage: Usage, cost: Option<f64>) {
        self.answers += 1;
        self.input_tokens += usage.input;
        self.output_tokens += usage.output;
        self.cost_usd += cost.unwrap_or_default();
    }
}

/// A call on its way; whoever drops it without a word has left.
pub(super) struct Attempt {
    ward: Arc<Ward>,
    key: KeyId,
    began: Instant,
    ticket: Option<Ticket>,
    busy: Option<Busy>,
}

impl Attempt {
    /// How it went.
    pub(super) fn ended(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    /// It was answered: the key has to do until what is given back is dropped. How long it `waited` for its turn is
    /// our own doing, and no slowness of the provider's.
    pub(super) fn answered(mut self, whole: bool, waited: Duration) -> Option<Busy> {
        self.tell(Outcome::Answered { took: self.began.elapsed().saturating_sub(waited), whole });
        self.busy.take()
    }

    /// Whether it finds out for all others.
    pub(super) fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_probe)
    }

    pub(super) fn key(&self) -> KeyId {
        self.key
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.ward.record(ticket, outcome);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Clients that leave one after the other say more than each of them does.
        let silent = self.began.elapsed() >= SILENCE;
        self.tell(if silent { Outcome::Stumbled(Reason::Timeout) } else { Outcome::Unknown });
    }
}

/// A key has to do as long as this lives.
pub(super) struct Busy {
    ward: Arc<Ward>,
    key: KeyId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(count) = self.ward.lock().in_flight.get_mut(self.key.0) {
            *count = count.saturating_sub(1);
        }
    }
}
