//! Rules that are learned from examples: the question is read by the encoder once, and what the cache compares later is
//! what was read here.

use super::Pipeline;
use super::vector::vector_of;
use crate::cache::Miss;
use crate::cache::judge::Question;
use crate::intent::{Mind, Read};
use std::sync::Arc;

/// What the encoder made of a question, or why it made nothing of it.
pub(super) type Reading = Result<Arc<Read>, Miss>;

impl Pipeline {
    /// What the encoder makes of `text`. Where it makes nothing of all of it in time, learned rules are not asked, and
    /// the request goes on.
    pub(super) async fn read(&self, text: &str) -> Reading {
        let embedder = self.embedder.as_ref().ok_or(Miss::SemanticOff)?;
        if let Some(known) = self.rules.recall(text) {
            return Ok(known);
        }
        let question = Question::new(text);
        let canonical = question.to_embed().ok_or(Miss::TooLong)?;
        let vector = vector_of(embedder.embed(canonical).await)?;
        let read = Arc::new(Read { text: canonical.to_owned(), vector });
        self.rules.remember(text, Arc::clone(&read));
        Ok(read)
    }

    /// What has been learned, and what the encoder makes of `text`.
    pub async fn recognise(&self, text: &str) -> Option<(Arc<Mind>, Arc<Read>)> {
        let mind = self.rules.mind()?;
        Some((mind, self.read(text).await.ok()?))
    }
}
