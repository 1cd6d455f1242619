//! Folds an answer while it comes, and remembers it the moment it is whole.

use super::learn::Lesson;
use super::recognise::Reading;
use crate::cache::{Cache, NotKept, Query, Terms};
use crate::chat::{Chunk, Event, Folder};
use crate::vector::UnitVector;
use std::sync::Arc;

/// A question, and the terms it is asked on.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) query: Query,
    pub(super) terms: Terms,
    /// The question as the encoder has read it, where it has already.
    pub(super) read: Option<Reading>,
}

/// Remembers one answer.
pub(super) struct Keeper {
    cache: Arc<Cache>,
    asked: Asked,
    vector: Option<UnitVector>,
    folder: Folder,
    lesson: Option<Lesson>,
}

impl Keeper {
    pub(super) fn new(cache: &Arc<Cache>, asked: Asked, vector: Option<UnitVector>) -> Self {
        Self { cache: Arc::clone(cache), asked, vector, folder: Folder::default(), lesson: None }
    }

    /// The same, and something is learned from the answer.
    pub(super) fn teaching(self, lesson: Option<Lesson>) -> Self {
        Self { lesson, ..self }
    }

    pub(super) fn see(&mut self, chunk: &Chunk) {
        chunk.events.iter().for_each(|event| self.folder.push(event));
    }

    /// Remembers the answer that `by` has given; `None` where there are no words for all of it.
    pub(super) fn keep(self, by: &str) -> Option<Result<(), NotKept>> {
        let reply = self.folder.finish().ok()?;
        if let Some(lesson) = self.lesson {
            lesson.learn(&reply);
        }
        let Asked { query, terms, read: _ } = self.asked;
        Some(self.cache.remember(&query, &terms, self.vector, reply, by))
    }
}

/// Whether the answer is complete with `chunk`.
pub(super) fn is_last(chunk: &Chunk) -> bool {
    chunk.events.contains(&Event::End)
}
