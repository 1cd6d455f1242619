//! [`Recent`]: questions that were taken apart of late.

use super::Question;
use crate::store::EntryId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are kept, about.
const MOST: usize = 8192;

/// The questions of entries that were compared of late, so that they need not be taken apart again. Two
/// generations: when the young one is full, the old one goes.
#[derive(Default)]
pub struct Recent {
    kept: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<EntryId, Arc<Question>>,
    old: HashMap<EntryId, Arc<Question>>,
}

impl Recent {
    /// The question of the entry with this id, whose text is `text`.
    pub fn question(&self, id: &EntryId, text: &str) -> Arc<Question> {
        if let Some(known) = self.find(id) {
            return known;
        }
        // Taken apart outside of the lock: it takes some microseconds.
        let question = Arc::new(Question::new(text));
        self.keep(*id, Arc::clone(&question));
        question
    }

    fn find(&self, id: &EntryId) -> Option<Arc<Question>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(young) = kept.young.get(id) {
            return Some(Arc::clone(young));
        }
        let old = kept.old.remove(id)?;
        kept.young.insert(*id, Arc::clone(&old));
        Some(old)
    }

    fn keep(&self, id: EntryId, question: Arc<Question>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.young.len() >= MOST / 2 {
            kept.old = std::mem::take(&mut kept.young);
        }
        kept.young.insert(id, question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let recent = Recent::default();
        let id = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            EntryId(id)
        };
        let first = recent.question(&id(0), "the first");
        for n in 1..2 * MOST {
            recent.question(&id(n), "another");
            assert!(Arc::ptr_eq(&recent.question(&id(0), "not looked at"), &first));
        }
        let kept = recent.kept.lock().unwrap();
        assert!(kept.young.len() + kept.old.len() <= MOST);
    }
}
