//! The bound: how much of what is served in other words may be wrong, and what keeps it there.
//!
//! The cache's score says how sure it is. Here it is found out on the user's own traffic what that is worth,
//! and how low the score may be so that the share of wrong answers stays below [`Config::max_wrong`].
//!
//! ```text
//! nominee ─▶ bin of its score ─▶ open? ─▶ served ─▶ sometimes asked upstream all the same ─┐
//!                                  │ no                                                     ▼
//!                                  └──▶ asked upstream ─▶ fresh answer ─▶ same as the nominee's? ─▶ label
//!                       labels of the ground, and of all (`labels`) ─▶ what is believed of each bin (`belief`)
//!                       ─▶ the lowest bin that the account of the ground has room for (`ledger`)
//! ```
//!
//! Everything here is counting and arithmetic: no I/O, and no clock but the number of requests.

mod belief;
mod bins;
mod chance;
mod ground;
mod labels;
mod ledger;
mod report;
mod same;
#[cfg(test)]
mod simulation;
mod snapshot;
mod tuning;

pub use labels::Label;
pub use ledger::Estimate;
pub use report::{Evidence, GroundReport, Report};
pub use same::{Equivalence, Reading, by_cosine, compare};
pub use snapshot::{Snapshot, Unsound};

use super::Score;
use crate::store::EntryId;
use belief::{Belief, believe};
use ground::Ground;
use labels::Labels;
use report::Counts;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much may be wrong, and how that is found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The share of requests that may be served a wrong answer; the requests are those that are looked up in
    /// other words.
    pub max_wrong: f64,
    /// The share of hits that are asked upstream all the same, to see whether they were right.
    pub check_share: f64,
    /// Who tells whether two answers say the same.
    pub answer_judge: AnswerJudge,
    /// The model that [`AnswerJudge::Llm`] asks; without one nobody is asked.
    pub answer_judge_model: Option<String>,
    /// Begins the numbers by which hits are picked; `None` begins anywhere.
    pub seed: Option<u64>,
}

/// Who tells whether two answers say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerJudge {
    /// Their words, and where those do not tell their vectors.
    #[default]
    Text,
    /// Their words, and where those do not tell a model.
    Llm,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_wrong: 0.01,
            check_share: 0.05,
            answer_judge: AnswerJudge::Text,
            answer_judge_model: None,
            seed: None,
        }
    }
}

/// The most grounds that are known at once. Beyond, those that were not asked for longest are forgotten; the
/// pool remembers what they taught.
const MOST_GROUNDS: usize = 4096;

/// Exact hits are checked so many times less often: they only show how much two answers to one question differ.
const EXACT_CHECKS: f64 = 0.2;

/// Where answers are trusted alike: a digest of tenant and project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroundId([u8; 16]);

impl GroundId {
    /// The ground of a tenant's project.
    pub fn of(tenant: &str, project: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update(project);
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

/// The number of a request, by its name.
pub fn number_of(name: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    digest[..8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// What a nominee is tried for: enough to learn from how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Where it was nominated.
    pub ground: GroundId,
    /// What was asked.
    pub asked: EntryId,
    /// What was nominated.
    pub known: EntryId,
    /// What it tells about.
    pub about: About,
}

/// What a [`Trial`] tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// How much two answers to one question differ: it was the very same.
    Noise,
    /// How good the nominees of a bin are.
    Nominee {
        /// The bin.
        bin: usize,
        /// Whether it was served, or would have been.
        served: bool,
    },
}

impl Trial {
    /// Of an exact hit.
    pub fn of_repeat(ground: GroundId, id: EntryId) -> Self {
        Self { ground, asked: id, known: id, about: About::Noise }
    }
}

/// Keeps the error below the bound.
pub struct Bound {
    config: Config,
    state: Mutex<State>,
    seed: u64,
}

#[derive(Default)]
struct State {
    /// What was seen in all grounds.
    pool: Labels,
    /// What is believed in a ground of which nothing is known yet; `None` where it was never asked for.
    newcomer: Option<Arc<Belief>>,
    grounds: HashMap<GroundId, Ground>,
    requests: u64,
    counts: Counts,
}

impl Bound {
    /// One that has seen nothing.
    pub fn new(config: Config) -> Self {
        let seed = config.seed.unwrap_or_else(rand::random);
        Self { config, state: Mutex::default(), seed }
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A request was looked up. Whether its nominee, if it has one that could be served, is good enough.
    pub fn decide(&self, ground: GroundId, nominee: Option<Score>) -> bool {
        let mut state = self.lock();
        state.counts.requests += 1;
        let good = state.ground(ground).decide(nominee.map(bins::bin), self.config.max_wrong);
        state.counts.served += u64::from(good);
        good
    }

    /// What a nominee of that score is tried for.
    pub fn trial(
        &self,
        ground: GroundId,
        asked: EntryId,
        known: EntryId,
        score: Score,
        served: bool,
    ) -> Trial {
        let about = About::Nominee { bin: bins::bin(score), served };
        Trial { ground, asked, known, about }
    }

    /// Those of which it is known that their answers are not the ones to `asked`.
    pub fn refuted(&self, ground: GroundId, asked: EntryId) -> Vec<EntryId> {
        let state = self.lock();
        state.grounds.get(&ground).map_or_else(Vec::new, |ground| ground.refuted(asked))
    }

    /// Whether this hit is to be asked upstream all the same. `number` is that of the request: the same request
    /// is picked again when it is replayed.
    pub fn wants_check(&self, trial: &Trial, number: u64) -> bool {
        let share = match trial.about {
            About::Noise => EXACT_CHECKS * self.config.check_share,
            About::Nominee { .. } => {
                let state = self.lock();
                let ground = state.grounds.get(&trial.ground);
                ground.map_or(0.0, |ground| ground.check_share(self.config.check_share))
            }
        };
        self.draw(number) < share
    }

    /// What came of a trial.
    pub fn learn(&self, trial: &Trial, label: Label) {
        // Someone who calls a repeated answer wrong says nothing about how much two answers differ.
        if trial.about == About::Noise && matches!(label, Label::Right | Label::Wrong) {
            return;
        }
        let rethink = {
            let mut state = self.lock();
            let State { pool, counts, .. } = &mut *state;
            counts.count(trial, label);
            match trial.about {
                About::Noise => pool.repeat(label == Label::Same),
                About::Nominee { bin, .. } => pool.add(bin, label),
            }
            state.ground(trial.ground).learn(trial, label);
            state.rethink(trial.ground)
        };
        // Thinking takes a fraction of a millisecond, in which nobody should wait for the lock.
        if let Some((own, pool)) = rethink {
            let belief = Arc::new(believe(&own, &pool.of_others(&own)));
            let newcomer = Arc::new(believe(&Labels::default(), &pool.of_others(&Labels::default())));
            let mut state = self.lock();
            state.newcomer = Some(newcomer);
            if let Some(ground) = state.grounds.get_mut(&trial.ground) {
                ground.believe(&belief);
            }
        }
    }

    /// A number from zero to one, by SplitMix64: as good as random, and the same again from the same seed.
    fn draw(&self, number: u64) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nothing in it is left half-done by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ground(&mut self, id: GroundId) -> &mut Ground {
        self.requests += 1;
        let used = self.requests;
        if self.grounds.len() >= MOST_GROUNDS && !self.grounds.contains_key(&id) {
            self.forget_some();
        }
        let Self { pool, newcomer, grounds, .. } = self;
        let ground = grounds.entry(id).or_insert_with(|| {
            let belief = newcomer.get_or_insert_with(|| Arc::new(believe(&Labels::default(), pool)));
            Ground::new(belief)
        });
        ground.used = used;
        ground
    }

    /// Makes room: those that were not asked for longest, a sixteenth at a time.
    fn forget_some(&mut self) {
        let mut used: Vec<u64> = self.grounds.values().map(|ground| ground.used).collect();
        used.sort_unstable();
        let oldest = used.get(used.len() / 16).copied().unwrap_or_default();
        self.grounds.retain(|_, ground| ground.used > oldest);
    }

    /// What to think again about, if that is worth it.
    fn rethink(&self, id: GroundId) -> Option<(Labels, Labels)> {
        let ground = self.grounds.get(&id).filter(|ground| ground.is_behind())?;
        Some((ground.labels, self.pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> EntryId {
        EntryId([byte; 32])
    }

    fn score(log_odds: f32) -> Score {
        Score::new(log_odds).unwrap()
    }

    fn bound() -> Bound {
        Bound::new(Config { seed: Some(1), ..Config::default() })
    }

    #[test]
    fn grounds_are_told_apart_and_never_by_a_split_elsewhere() {
        let grounds = [("a", "b"), ("ab", ""), ("", "ab"), ("a", "c"), ("b", "b")];
        let ids: std::collections::BTreeSet<_> =
            grounds.iter().map(|(tenant, project)| GroundId::of(tenant, project)).collect();
        assert_eq!(ids.len(), grounds.len());
    }

    #[test]
    fn a_cold_ground_serves_what_is_the_same_question_and_not_a_guess() {
        let (bound, ground) = (bound(), GroundId::of("t", "p"));
        assert!(bound.decide(ground, Some(score(9.0))));
        assert!(!bound.decide(ground, Some(score(1.0))));
        assert!(!bound.decide(ground, None));
    }

    #[test]
    fn a_ground_that_is_warm_lends_to_a_cold_one_and_only_a_part() {
        let (bound, warm) = (bound(), GroundId::of("t", "warm"));
        let feed = |ground: GroundId, label: Label, times: usize| {
            for _ in 0..times {
                for at in [-1.2, 0.2, 1.2, 2.2, 3.2, 4.2, 5.5] {
                    let trial = bound.trial(ground, id(1), id(2), score(at), false);
                    bound.learn(&trial, label);
                }
            }
        };
        let opens = |ground: &str| {
            let ground = GroundId::of("t", ground);
            (0..300).filter(|at| bound.decide(ground, (at % 10 == 0).then(|| score(3.2)))).count()
        };
        let before = opens("before");
        feed(warm, Label::Same, 60);
        let (own, lent) = (opens("warm"), opens("after"));
        assert!(before < 3 && own > 25 && before < lent && lent < own, "{before} {lent} {own}");
        feed(GroundId::of("t", "bad"), Label::Different, 30);
        assert_eq!(opens("bad"), 0, "its own labels count for more than those of others");
    }

    #[test]
    fn grounds_are_bounded_and_the_oldest_go_first() {
        let bound = bound();
        for at in 0..MOST_GROUNDS + 10 {
            bound.decide(GroundId::of("t", &at.to_string()), None);
            bound.decide(GroundId::of("t", "kept"), None);
        }
        let state = bound.lock();
        assert!(state.grounds.len() <= MOST_GROUNDS);
        assert!(state.grounds.contains_key(&GroundId::of("t", "kept")));
        assert!(!state.grounds.contains_key(&GroundId::of("t", "0")));
    }

    #[test]
    fn what_was_refuted_is_not_nominated_again() {
        let (bound, ground) = (bound(), GroundId::of("t", "p"));
        let trial = bound.trial(ground, id(1), id(2), score(6.5), true);
        bound.learn(&trial, Label::Wrong);
        assert_eq!(bound.refuted(ground, id(1)), [id(2)]);
        assert_eq!(bound.refuted(ground, id(2)), []);
        assert_eq!(bound.refuted(GroundId::of("t2", "p"), id(1)), []);
    }

    #[test]
    fn a_repeat_that_someone_calls_wrong_is_no_noise() {
        let (bound, ground) = (bound(), GroundId::of("t", "p"));
        let before = bound.snapshot("j");
        bound.learn(&Trial::of_repeat(ground, id(1)), Label::Wrong);
        assert_eq!(bound.snapshot("j"), before);
    }

    #[test]
    fn hits_are_checked_as_often_as_was_asked_for() {
        let ground = GroundId::of("t", "p");
        let checked = |check_share: f64, about: About| {
            let bound = Bound::new(Config { check_share, seed: Some(7), ..Config::default() });
            bound.decide(ground, None);
            let trial = Trial { ground, asked: id(1), known: id(2), about };
            (0..10_000).filter(|number| bound.wants_check(&trial, *number)).count()
        };
        let nominee = About::Nominee { bin: 14, served: true };
        assert_eq!(checked(0.0, nominee), 0);
        assert!((4_500..5_500).contains(&checked(0.05, nominee)), "cold: ten times as often");
        assert!((80..120).contains(&checked(0.05, About::Noise)), "a fifth");
    }
}
