//! What answers teach, and when: what was found out then, at the moment at which it was.
//!
//! A replay compares answers itself, on the words that were written down. Those are not all the words that there
//! were: where a mail address stood, there are digits now, and two answers differ that did not, or could not be
//! told to. So where the journal says what came of the very comparison, that counts.

use super::events::{Name, Overview};
use crate::cache::bound::{Bound, Equivalence};
use crate::journal::row::{Said, Verdict};
use crate::journal::{self, Row};
use crate::pipeline::{Learned, Teach};
use crate::telemetry::verdict;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was learned from answers, by the requests that they answer.
type Waiting = Arc<Mutex<HashMap<Name, Vec<Learned>>>>;

/// What was learned, and counts from the moment on at which it did then.
#[derive(Default)]
pub(super) struct Lessons {
    waiting: Waiting,
    /// Requests that are being answered.
    open: HashSet<Name>,
    /// What is to be learned as soon as it is known: then, the last words came a moment before the request ended.
    due: HashMap<Name, Option<Verdict>>,
}

impl Lessons {
    /// Where the pipeline takes what it learns.
    pub(super) fn teach(&self) -> Teach {
        let waiting = Arc::clone(&self.waiting);
        Arc::new(move |_, learned| {
            let name = Name::of(&learned.tenant, &learned.request_id);
            lock(&waiting).entry(name).or_default().push(learned);
        })
    }

    /// A request is being answered, and ends later.
    pub(super) fn begun(&mut self, row: &Row) {
        self.open.insert(Name::of(&row.tenant, &row.id));
    }

    /// The journal says that something was learned now.
    pub(super) fn now(&mut self, bound: &Bound, line: journal::Learned) {
        let name = Name::of(&line.tenant, &line.id);
        if lock(&self.waiting).contains_key(&name) {
            self.apply(bound, name, line.verdict.as_ref());
        } else if self.open.contains(&name) {
            self.due.insert(name, line.verdict);
        }
    }

    /// A request has ended, and what its answer teaches is known. `as_then`: it was answered by whom it was then.
    pub(super) fn ended(&mut self, bound: &Bound, row: &Row, as_then: bool, overview: &Overview) {
        let name = Name::of(&row.tenant, &row.id);
        self.open.remove(&name);
        if let Some(verdict) = self.due.remove(&name) {
            self.apply(bound, name, verdict.as_ref());
        } else if overview.tells_when_learned(name) {
            // Its line comes later.
        } else if overview.tells_verdicts() && as_then {
            // Nothing was learned then: too many waited, or whoever was to be asked again had no time.
            lock(&self.waiting).remove(&name);
        } else {
            self.apply(bound, name, None);
        }
    }

    fn apply(&self, bound: &Bound, name: Name, then: Option<&Verdict>) {
        let lessons = lock(&self.waiting).remove(&name);
        for learned in lessons.into_iter().flatten() {
            match then.filter(|then| is_of(then, &verdict(&learned))) {
                Some(then) => Learned { said: said(then.said), ..learned }.teach(bound),
                None => learned.teach(bound),
            }
        }
    }
}

/// Whether both are verdicts on the same pair of answers.
fn is_of(then: &Verdict, now: &Verdict) -> bool {
    // Where something was taken out of the question, it has another name now, and so may what was known.
    let renamed = then.asked != now.asked;
    then.bin == now.bin && (then.known == now.known || renamed)
}

fn said(said: Said) -> Equivalence {
    match said {
        Said::Same => Equivalence::Same,
        Said::Different => Equivalence::Different,
        Said::Unclear => Equivalence::Unclear,
    }
}

/// Nothing in it is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_that_on_the_same_pair() {
        let of = |asked: &str, known: &str, bin: Option<usize>| Verdict {
            said: Said::Same,
            asked: asked.to_owned(),
            known: known.to_owned(),
            bin,
            served: false,
        };
        let then = of("a", "b", Some(3));
        assert!(is_of(&then, &Verdict { served: true, said: Said::Unclear, ..then.clone() }));
        assert!(is_of(&then, &of("a'", "b'", Some(3))), "both questions held a secret");
        for other in [of("a", "c", Some(3)), of("a", "b", Some(4)), of("a", "b", None)] {
            assert!(!is_of(&then, &other), "{other:?}");
        }
    }
}
