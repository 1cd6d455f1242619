//! [`Board`]: every key and every model that is asked with it.

use super::unit::Unit;
use super::{Cooldown, Latency, Moment, Outcome, Reason, Rules, Scope, Verdict};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The most models that are known of one key: clients name them. Of more, the one that was asked longest ago and is
/// in no trouble is forgotten.
const MAX_MODELS: usize = 256;

/// A key of the board, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub usize);

/// The right to ask one unit once; and the duty to tell how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "tell how it went"]
pub struct Ticket {
    key: KeyId,
    model: Arc<str>,
    began: Moment,
    of_key: bool,
    of_unit: bool,
}

impl Ticket {
    /// Whether it finds out for all others.
    pub fn is_probe(&self) -> bool {
        self.of_key || self.of_unit
    }

    /// The key and the model that it is for.
    pub fn unit(&self) -> (KeyId, Arc<str>) {
        (self.key, Arc::clone(&self.model))
    }
}

/// Why a unit may not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody has switched it off.
    Disabled,
    /// It is left alone.
    Cooling {
        /// When it is worth to look again.
        until: Moment,
        /// Why.
        reason: Reason,
    },
}

/// The state of all keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    pub(super) keys: Vec<Key>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    pub(super) disabled: bool,
    pub(super) cooldown: Cooldown,
    pub(super) units: HashMap<Box<str>, Unit>,
}

/// How one key is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub name: Arc<str>,
    /// `ready`, `cooling`, `disabled`; or `slow`, where any model of it is.
    pub state: &'static str,
    /// Why it is left alone, whatever model is asked for.
    pub reason: Option<&'static str>,
    /// For how long still.
    pub retry_after_ms: Option<u64>,
    /// The models that were asked for.
    pub models: Vec<UnitReport>,
}

/// How one model is with one key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnitReport {
    /// Its name.
    pub model: Box<str>,
    /// `ready`, `slow` or `cooling`.
    pub state: &'static str,
    /// Why it is left alone.
    pub reason: Option<&'static str>,
    /// For how long still.
    pub retry_after_ms: Option<u64>,
    /// How often it failed in a row.
    pub failures: u32,
    /// The share of calls of late that failed.
    pub error_share: f64,
    /// How long its first words take as a rule, in milliseconds.
    pub usual_ms: Option<u64>,
    /// How long they take of late.
    pub lately_ms: Option<u64>,
    /// What 19 of 20 were below.
    pub p95_ms: Option<u64>,
}

impl Board {
    /// A board of these keys, all well.
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { keys: names.into_iter().map(|name| Key { name, ..Key::default() }).collect() }
    }

    /// Another key, which is well.
    pub fn admit(&mut self, name: Arc<str>) {
        self.keys.push(Key { name, ..Key::default() });
    }

    /// Asks for the right to ask `model` with `key`; `alone` where there is nobody else.
    pub fn ask(
        &mut self,
        key: KeyId,
        model: &Arc<str>,
        now: Moment,
        rules: &Rules,
        alone: bool,
    ) -> Result<Ticket, Refused> {
        self.may_ask(key, model, now, rules, alone)?;
        let Some(key_state) = self.keys.get_mut(key.0) else { return Err(Refused::Disabled) };
        key_state.make_room_for(model);
        let of_key = key_state.cooldown.ask(now, rules, alone) == Verdict::Probe;
        let unit = key_state.units.entry(Box::from(&**model)).or_default();
        let of_unit = unit.ask(now, rules, alone) == Verdict::Probe;
        Ok(Ticket { key, model: Arc::clone(model), began: now, of_key, of_unit })
    }

    /// Whether `model` may be asked with `key`, without asking.
    pub fn may_ask(
        &self,
        key: KeyId,
        model: &str,
        now: Moment,
        rules: &Rules,
        alone: bool,
    ) -> Result<(), Refused> {
        let key = self.keys.get(key.0).filter(|key| !key.disabled).ok_or(Refused::Disabled)?;
        let unit = key.units.get(model).map(|unit| unit.cooldown.verdict(now, rules, alone));
        match (key.cooldown.verdict(now, rules, alone), unit) {
            (Verdict::Wait { until, reason }, Some(Verdict::Wait { until: later, .. })) => {
                Err(Refused::Cooling { until: until.max(later), reason })
            }
            (Verdict::Wait { until, reason }, _) | (_, Some(Verdict::Wait { until, reason })) => {
                Err(Refused::Cooling { until, reason })
            }
            _ => Ok(()),
        }
    }

    /// Whether others come first: it is slow, or whoever asks it would find out whether it is well.
    pub fn is_second_choice(&self, key: KeyId, model: &str, now: Moment, rules: &Rules) -> bool {
        let unit = self.keys.get(key.0).and_then(|key| key.units.get(model));
        unit.is_some_and(|unit| unit.is_second_choice(now, rules))
    }

    /// How a call went that had a ticket.
    pub fn record(&mut self, ticket: Ticket, now: Moment, outcome: Outcome, rules: &Rules) {
        let Ticket { key, model, began, of_key, of_unit } = ticket;
        let Some(key) = self.keys.get_mut(key.0) else { return };
        let times = (began, now);
        match outcome {
            Outcome::Failed(reason, wait) if reason.scope() == Scope::Key => {
                key.cooldown.failed(times, of_key, (reason, wait), rules);
                key.record_of(&model, times, of_unit, Outcome::Unknown, rules);
            }
            Outcome::Failed(reason, _) if reason.scope() == Scope::Request => {
                key.told(times, of_key, Outcome::Alive, rules);
                key.record_of(&model, times, of_unit, Outcome::Alive, rules);
            }
            outcome => {
                key.told(times, of_key, outcome, rules);
                key.record_of(&model, times, of_unit, outcome, rules);
            }
        }
    }

    /// The answer that a ticket was for broke off after it had begun.
    pub fn cut(&mut self, key: KeyId, model: &str, now: Moment, rules: &Rules) {
        let Some(key) = self.keys.get_mut(key.0) else { return };
        key.record_of(model, (now, now), false, Outcome::Stumbled(Reason::BadResponse), rules);
    }

    /// Why `key` and, apart from that, `model` with it are left alone, and until when.
    pub fn trouble(&self, key: KeyId, model: &str) -> [Option<(Reason, Moment)>; 2] {
        let Some(key) = self.keys.get(key.0) else { return [None; 2] };
        [key.cooldown.cooling(), key.units.get(model).and_then(|unit| unit.cooldown.cooling())]
    }

    /// How long `model` takes with `key`.
    pub fn latency(&self, key: KeyId, model: &str) -> Option<&Latency> {
        Some(self.keys.get(key.0)?.units.get(model)?.latency())
    }

    /// The same, of replies that come whole or of streams.
    pub fn latency_of(&self, key: KeyId, model: &str, whole: bool) -> Option<&Latency> {
        let unit = self.keys.get(key.0)?.units.get(model)?;
        Some(if whole { &unit.replies } else { &unit.streams })
    }

    /// Switches a key off, or on again.
    pub fn set_disabled(&mut self, key: KeyId, disabled: bool) {
        if let Some(key) = self.keys.get_mut(key.0) {
            key.disabled = disabled;
        }
    }

    /// Forgets all trouble with a key, and how slow it was.
    pub fn reset(&mut self, key: KeyId) {
        if let Some(key) = self.keys.get_mut(key.0) {
            (key.cooldown, key.units) = (Cooldown::default(), HashMap::new());
        }
    }

    /// How every key is.
    pub fn reports(&self, now: Moment) -> Vec<Report> {
        self.keys.iter().map(|key| key.report(now)).collect()
    }
}

impl Key {
    fn record_of(
        &mut self,
        model: &str,
        times: (Moment, Moment),
        probe: bool,
        outcome: Outcome,
        rules: &Rules,
    ) {
        if let Some(unit) = self.units.get_mut(model) {
            unit.record(times, probe, outcome, rules);
        }
    }

    /// What a call says about the key: a model that fails was asked with one that is taken.
    fn told(&mut self, times: (Moment, Moment), probe: bool, outcome: Outcome, rules: &Rules) {
        match outcome {
            Outcome::Failed(reason, _) | Outcome::Stumbled(reason) if !says_who_is_there(reason) => {
                if probe {
                    self.cooldown.abandoned(times.0);
                }
            }
            Outcome::Unknown | Outcome::Overtaken { .. } => {
                if probe {
                    self.cooldown.abandoned(times.0);
                }
            }
            _ => self.cooldown.succeeded(times, probe, rules),
        }
    }

    fn make_room_for(&mut self, model: &str) {
        if self.units.len() < MAX_MODELS || self.units.contains_key(model) {
            return;
        }
        let oldest = self.units.iter().min_by_key(|(_, unit)| (!unit.is_plain(), unit.used));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.units.remove(&name);
        }
    }

    fn report(&self, now: Moment) -> Report {
        let mut models: Vec<UnitReport> =
            self.units.iter().map(|(model, unit)| unit_report(model, unit, now)).collect();
        models.sort_by(|one, other| one.model.cmp(&other.model));
        let cooling = self.cooldown.cooling();
        let state = match cooling {
            _ if self.disabled => "disabled",
            Some(_) => "cooling",
            None if models.iter().any(|unit| unit.state == "slow") => "slow",
            None => "ready",
        };
        let (reason, retry_after_ms) = told(cooling, now);
        Report { name: Arc::clone(&self.name), state, reason, retry_after_ms, models }
    }
}

/// Whether the key was looked at before this happened.
fn says_who_is_there(reason: Reason) -> bool {
    matches!(reason, Reason::RateLimit | Reason::ModelNotFound | Reason::Overloaded)
}

fn unit_report(model: &str, unit: &Unit, now: Moment) -> UnitReport {
    let cooling = unit.cooldown.cooling();
    let (reason, retry_after_ms) = told(cooling, now);
    let state = match cooling {
        Some(_) => "cooling",
        None if unit.is_slow() => "slow",
        None => "ready",
    };
    let millis = |time: Option<Duration>| time.map(super::millis);
    let latency = unit.latency();
    UnitReport {
        model: model.into(),
        state,
        reason,
        retry_after_ms,
        failures: unit.cooldown.failures(),
        error_share: unit.breaker.share(),
        usual_ms: millis(latency.usual()),
        lately_ms: millis(latency.lately()),
        p95_ms: millis(latency.quantile(0.95)),
    }
}

fn told(cooling: Option<(Reason, Moment)>, now: Moment) -> (Option<&'static str>, Option<u64>) {
    let left = cooling.map(|(_, until)| super::millis(until.since(now)));
    (cooling.map(|(reason, _)| reason.name()), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId(0);
    const OTHER_KEY: KeyId = KeyId(1);

    fn board() -> Board {
        Board::new(["p:a".into(), "p:b".into()])
    }

    fn ask(board: &mut Board, key: KeyId, model: &str, now: u64) -> Result<Ticket, Refused> {
        board.ask(key, &model.into(), Moment(now), &Rules::default(), false)
    }

    fn fail(board: &mut Board, key: KeyId, model: &str, now: u64, reason: Reason) {
        let ticket = ask(board, key, model, now).unwrap();
        board.record(ticket, Moment(now), Outcome::Failed(reason, None), &Rules::default());
    }

    #[test]
    fn a_limited_model_says_nothing_about_the_others_and_a_refused_key_does() {
        let mut board = board();
        fail(&mut board, KEY, "m", 0, Reason::RateLimit);
        assert!(matches!(ask(&mut board, KEY, "m", 1), Err(Refused::Cooling { .. })));
        assert!(ask(&mut board, KEY, "n", 1).is_ok());
        assert!(ask(&mut board, OTHER_KEY, "m", 1).is_ok());
        fail(&mut board, KEY, "n", 2, Reason::Billing);
        let refused = ask(&mut board, KEY, "n", 3).unwrap_err();
        assert_eq!(refused, Refused::Cooling { until: Moment(600_002), reason: Reason::Billing });
        assert!(ask(&mut board, KEY, "unheard-of", 3).is_err(), "whatever is asked for");
        assert!(ask(&mut board, OTHER_KEY, "n", 3).is_ok());
    }

    #[test]
    fn a_key_that_is_found_well_again_is_asked_for_every_model() {
        let mut board = board();
        fail(&mut board, KEY, "m", 0, Reason::Auth);
        let probe = ask(&mut board, KEY, "n", 30_000).unwrap();
        assert!(probe.is_probe());
        assert!(ask(&mut board, KEY, "m", 30_001).is_err(), "one finds out");
        board.record(probe, Moment(30_100), Outcome::Failed(Reason::RateLimit, None), &Rules::default());
        assert!(ask(&mut board, KEY, "m", 30_200).is_ok(), "it was taken, and that model is limited");
        assert!(ask(&mut board, KEY, "n", 30_200).is_err());
    }

    #[test]
    fn who_is_switched_off_is_not_asked_until_switched_on() {
        let mut board = board();
        board.set_disabled(KEY, true);
        assert_eq!(ask(&mut board, KEY, "m", 0), Err(Refused::Disabled));
        assert_eq!(board.reports(Moment(0))[0].state, "disabled");
        board.set_disabled(KEY, false);
        fail(&mut board, KEY, "m", 0, Reason::ServerError);
        assert_eq!(board.reports(Moment(0))[0].models[0].retry_after_ms, Some(30_000));
        board.reset(KEY);
        assert!(ask(&mut board, KEY, "m", 1).is_ok());
    }

    #[test]
    fn a_conversation_that_is_too_long_says_that_the_model_is_well() {
        let mut board = board();
        fail(&mut board, KEY, "m", 0, Reason::ContextOverflow);
        assert!(ask(&mut board, KEY, "m", 1).is_ok());
    }

    #[test]
    fn names_of_models_are_not_kept_without_end() {
        let mut board = board();
        fail(&mut board, KEY, "in trouble", 0, Reason::RateLimit);
        for nth in 0..1000 {
            let _ = ask(&mut board, KEY, &format!("m{nth}"), nth + 1);
        }
        assert_eq!(board.keys[0].units.len(), MAX_MODELS);
        assert!(ask(&mut board, KEY, "in trouble", 2000).is_err(), "that one is remembered");
    }

    #[test]
    fn who_cuts_half_of_its_answers_is_left_alone() {
        let mut board = board();
        let rules = Rules::default();
        for nth in 0..10 {
            let ticket = ask(&mut board, KEY, "m", nth).unwrap();
            board.record(
                ticket,
                Moment(nth),
                Outcome::Answered { took: Duration::from_millis(5), whole: false },
                &rules,
            );
            board.cut(KEY, "m", Moment(nth), &rules);
            if ask(&mut board, KEY, "m", nth).is_err() {
                return assert_eq!(nth, 4, "ten calls or cuts are enough to tell");
            }
        }
        panic!("it was never left alone");
    }
}
