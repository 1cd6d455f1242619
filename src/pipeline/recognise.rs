//! Rules that are learned from examples: the question is read by the encoder once, and what the cache compares later is
//! what was read here. Where they are not sure, a model may be asked, if the operator wants that.

use super::Pipeline;
use super::namer::Named;
use super::vector::vector_of;
use crate::cache::Miss;
use crate::cache::judge::Question;
use crate::intent::{Circumstances, Mind, Read, RuleSet, Tried};
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

    /// What a model says to `text`, where one is to be asked and some rule may be meant. Without an encoder nobody knows
    /// the likeliest; with one that has not learned yet, nobody knows what is none of them.
    pub(super) async fn named<'r>(
        &self,
        rules: &'r RuleSet,
        who: (&Arc<str>, &str),
        text: &str,
        around: &Circumstances<'_>,
        learned: Option<(&Mind, &Read)>,
    ) -> Named<'r> {
        let Some(namer) = &self.namer else { return Named::default() };
        match learned {
            Some((mind, _)) if !mind.is_trained() => return Named::default(),
            None if self.embedder.is_some() => return Named::default(),
            _ => {}
        }
        namer.choose(rules, who, text, around, learned).await
    }

    /// What the rules say to `text`, and why, with all who are asked on a request's way.
    pub async fn try_rules(&self, who: (&Arc<str>, &str), text: &str, around: &Circumstances<'_>) -> Tried {
        let rules = self.rules.rules(who.0, who.1);
        let learned = self.recognise(text).await;
        let learned = learned.as_ref().map(|(mind, read)| (mind.as_ref(), read.as_ref()));
        let by_words = rules.by_words(who.1, text, around);
        let by_examples =
            || learned.and_then(|(mind, read)| rules.by_examples(mind, who.1, text, around, read));
        let Named { verdict, told } = match by_words.or_else(by_examples) {
            None => self.named(&rules, who, text, around, learned).await,
            Some(_) => Named::default(),
        };
        Tried { model: told, ..rules.explain(who.1, text, around, learned, verdict) }
    }

    /// What has been learned, and what the encoder makes of `text`.
    pub async fn recognise(&self, text: &str) -> Option<(Arc<Mind>, Arc<Read>)> {
        let mind = self.rules.mind()?;
        Some((mind, self.read(text).await.ok()?))
    }
}
