//! [`Recent`]: questions that were taken apart of late.

use super::Question;
use super::question::MOST_BYTES;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many words are kept, about: some 250 bytes each.
const MOST_WORDS: usize = 131_072;

/// Stands for a text. Questions are judged by what is found under it, so nobody may be able to find two texts of one
/// name.
type Name = [u8; 32];

/// The questions that were compared of late, so that they need not be taken apart again: the same one is asked in many
/// scopes. Two generations: when the young one is full, the old one goes.
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
    fn put(&mut self, name: Name, question: Arc<Question>) {
        if self.words >= MOST_WORDS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.words = 0;
        }
        self.words += question.size();
        self.young.insert(name, question);
    }
}

impl Recent {
    /// `text`, taken apart.
    pub fn question(&self, text: &str) -> Arc<Question> {
        // What is too long to be taken apart takes no time, and finding its name would.
        if text.len() > MOST_BYTES {
            return Arc::new(Question::new(text));
        }
        let name: Name = Sha256::digest(text).into();
        if let Some(known) = self.find(&name) {
            return known;
        }
        // Taken apart outside of the lock: it takes some microseconds.
        let question = Arc::new(Question::new(text));
        self.keep(name, Arc::clone(&question));
        question
    }

    fn find(&self, name: &Name) -> Option<Arc<Question>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(young) = kept.young.get(name) {
            return Some(Arc::clone(young));
        }
        let old = kept.old.remove(name)?;
        kept.put(*name, Arc::clone(&old));
        Some(old)
    }

    fn keep(&self, name: Name, question: Arc<Question>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(name, question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let recent = Recent::default();
        let first = recent.question("the first");
        for n in 0..MOST_WORDS {
            recent.question(&format!("another {n}"));
            assert!(Arc::ptr_eq(&recent.question("the first"), &first));
        }
        assert_eq!(recent.question("another text").canonical(), "another text");
        let kept = recent.kept.lock().unwrap();
        let words: usize = kept.young.values().chain(kept.old.values()).map(|question| question.size()).sum();
        assert!(words <= MOST_WORDS + 8, "{words}");
    }

    #[test]
    fn what_is_too_long_takes_no_place() {
        let recent = Recent::default();
        assert_eq!(recent.question(&"long ".repeat(MOST_BYTES)).to_embed(), None);
        assert!(recent.kept.lock().unwrap().young.is_empty());
    }
}
