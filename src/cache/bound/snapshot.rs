//! What outlives a restart, as a value: whoever keeps it decides how.

use super::belief::believe;
use super::ground::Ground;
use super::labels::Labels;
use super::ledger::Ledger;
use super::tuning::HEARSAY;
use super::{Bound, GroundId, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The most grounds that are kept: those asked last.
const MOST_KEPT: usize = 1024;

/// All that was learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which judge gave the scores. Those of another one mean something else.
    judge: String,
    pool: Labels,
    grounds: Vec<Kept>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    id: GroundId,
    labels: Labels,
    ledger: Ledger,
}

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds counts that no counting leads to")]
pub struct Unsound;

impl Snapshot {
    fn is_sound(&self) -> bool {
        let sound = |kept: &Kept| kept.labels.is_sound() && kept.ledger.is_sound();
        self.pool.is_sound() && self.grounds.len() <= MOST_KEPT && self.grounds.iter().all(sound)
    }
}

impl Bound {
    /// What was learned up to now from the scores of `judge`.
    pub fn snapshot(&self, judge: &str) -> Snapshot {
        let state = self.lock();
        let mut grounds: Vec<(&GroundId, &Ground)> = state.grounds.iter().collect();
        grounds.sort_unstable_by_key(|(_, ground)| std::cmp::Reverse(ground.used));
        grounds.truncate(MOST_KEPT);
        let kept = |(id, ground): (&GroundId, &Ground)| Kept {
            id: *id,
            labels: ground.labels,
            ledger: ground.ledger,
        };
        // The one asked longest ago comes first, so that the order survives.
        let grounds = grounds.into_iter().rev().map(kept).collect();
        Snapshot { judge: judge.to_owned(), pool: state.pool, grounds }
    }

    /// Goes on from what was learned before. Of another judge only a little of the pool is taken over. It takes a
    /// fraction of a millisecond for each ground.
    pub fn restore(&self, snapshot: Snapshot, judge: &str) -> Result<(), Unsound> {
        if !snapshot.is_sound() {
            return Err(Unsound);
        }
        let Snapshot { judge: of, pool, grounds } = snapshot;
        let mut state = State::default();
        if of == judge {
            state.pool = pool;
            for Kept { id, labels, ledger } in grounds {
                let belief = Arc::new(believe(&labels, &pool.of_others(&labels)));
                state.requests += 1;
                let mut ground = Ground::known(&labels, ledger, &belief);
                ground.used = state.requests;
                state.grounds.insert(id, ground);
            }
        } else {
            state.pool = pool.faded(HEARSAY);
        }
        let newcomer = believe(&Labels::default(), &state.pool.of_others(&Labels::default()));
        state.newcomer = Some(Arc::new(newcomer));
        *self.lock() = state;
        Ok(())
    }

    /// How much has happened since the start: a snapshot is worth keeping where this has changed.
    pub fn events(&self) -> u64 {
        self.lock().requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Score;
    use crate::cache::bound::{Config, Label};
    use crate::store::EntryId;

    fn learned() -> (Bound, GroundId) {
        let (bound, ground) = (Bound::new(Config::default()), GroundId::of("t", "p"));
        for at in 0..400 {
            let score = Score::new((at % 12) as f32 * 0.6).unwrap();
            let served = bound.decide(ground, Some(score));
            let trial = bound.trial(ground, EntryId([1; 32]), EntryId([2; 32]), score, served);
            let label = if at % 12 < 3 { Label::Different } else { Label::Same };
            bound.learn(&trial, label);
        }
        (bound, ground)
    }

    fn json(snapshot: &Snapshot) -> Snapshot {
        serde_json::from_str(&serde_json::to_string(snapshot).unwrap()).unwrap()
    }

    #[test]
    fn what_was_learned_survives() {
        let (bound, ground) = learned();
        let again = Bound::new(Config::default());
        again.restore(json(&bound.snapshot("judge 1")), "judge 1").unwrap();
        assert_eq!(again.snapshot("judge 1"), bound.snapshot("judge 1"));
        let (old, new) = (bound.report_of(ground).unwrap(), again.report_of(ground).unwrap());
        assert_eq!((old.requests, old.labels, old.served), (new.requests, new.labels, new.served));
        assert!((old.expected.mean - new.expected.mean).abs() < 0.01);
    }

    #[test]
    fn of_another_judge_only_a_little_is_believed() {
        let (bound, ground) = learned();
        let again = Bound::new(Config::default());
        again.restore(bound.snapshot("judge 1"), "judge 2").unwrap();
        assert_eq!(again.report_of(ground).map(|report| report.requests), None);
        let kept = again.snapshot("judge 2").pool.total();
        assert!(kept > 0.0 && kept < bound.snapshot("judge 1").pool.total() / 3.0, "{kept}");
    }

    #[test]
    fn what_no_counting_leads_to_is_refused() {
        let (bound, _) = learned();
        for damage in [f32::NAN, -1.0, 1e9, f32::INFINITY] {
            let mut snapshot = bound.snapshot("j");
            snapshot.grounds[0].ledger.requests = damage;
            assert_eq!(Bound::new(Config::default()).restore(snapshot, "j"), Err(Unsound));
            let mut snapshot = bound.snapshot("j");
            snapshot.pool.bins[3].same = damage;
            assert_eq!(Bound::new(Config::default()).restore(snapshot, "j"), Err(Unsound));
        }
    }
}
