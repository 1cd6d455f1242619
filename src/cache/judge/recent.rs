//! [`Recent`]: questions that were taken apart of late.

use super::Question;
use super::question::{WordId, word_id};
use crate::store::EntryId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many words are kept, about: some 250 bytes each.
const MOST_WORDS: usize = 131_072;

/// An entry, and a digest of its text.
type Name = (EntryId, WordId);

/// The questions of entries that were compared of late, so that they need not be taken apart again. Two
/// generations: when the young one is full, the old one goes.
#[derive(Default)]
pub struct Recent {
    kept: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Name, Arc<Question>>,
    old: HashMap<Name, Arc<Question>>,
    /// How many words the young ones have.
    words: usize,
}

impl Generations {
    fn put(&mut self, id: Name, question: Arc<Question>) {
        if self.words >= MOST_WORDS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.words = 0;
        }
        self.words += question.size();
        self.young.insert(id, question);
    }
}

impl Recent {
    /// The question of the entry with this id, whose text is `text`.
    pub fn question(&self, id: &EntryId, text: &str) -> Arc<Question> {
        // An entry that was brought from elsewhere may bear any id.
        let name = (*id, word_id(text));
        if let Some(known) = self.find(&name) {
            return known;
        }
        // Taken apart outside of the lock: it takes some microseconds.
        let question = Arc::new(Question::new(text));
        self.keep(name, Arc::clone(&question));
        question
    }

    fn find(&self, id: &Name) -> Option<Arc<Question>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(young) = kept.young.get(id) {
            return Some(Arc::clone(young));
        }
        let old = kept.old.remove(id)?;
        kept.put(*id, Arc::clone(&old));
        Some(old)
    }

    fn keep(&self, id: Name, question: Arc<Question>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(id, question);
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
        for n in 1..MOST_WORDS {
            recent.question(&id(n), "another one");
            assert!(Arc::ptr_eq(&recent.question(&id(0), "the first"), &first));
        }
        assert!(!Arc::ptr_eq(&recent.question(&id(0), "another text"), &first));
        let kept = recent.kept.lock().unwrap();
        let words: usize = kept.young.values().chain(kept.old.values()).map(|question| question.size()).sum();
        assert!(words <= MOST_WORDS + 8, "{words}");
    }
}
