//! Answers whose time is over, and when they are given all the same.
//!
//! Only an answer to the very same question is ever given late: what other words may ask is uncertain enough.

use super::flight::Begun;
use super::keep::Asked;
use super::recall::{Company, Found};
use super::recent::Given;
use super::record::failures;
use super::voice::Voice;
use super::{Caller, Pipeline, Source};
use crate::cache::{Cache, Freshness, Late, Miss};
use crate::chat::{Reply, Request};
use crate::upstream::{self, Call};
use std::sync::Arc;

impl Pipeline {
    /// The answer whose time is over, where it will do; while it is asked afresh, where that is configured.
    pub(super) async fn expired(
        &self,
        caller: &Caller,
        request: &Request,
        asked: &Asked,
        told: &Call,
        company: &mut Company,
    ) -> Found {
        let Some(hit) = self.cache.late(&asked.query, &asked.terms, Late::AtOnce).await else {
            // It is asked afresh, and takes the old one's place; where it is being asked, this is that answer.
            let vector = if company.join() { None } else { self.vector(asked, company).await.ok() };
            return Found::nothing(Miss::Expired, vector);
        };
        let due = matches!(hit.freshness, Freshness::Over(by) if asked.terms.revalidates(by));
        if due && !caller.memory.only_if_cached {
            self.refresh(caller, request, asked, told);
        }
        // It may be said to be wrong; but that its time is over is no fault of the one who decided.
        let given = Some(Given { key: Cache::key(&asked.query), trial: None });
        Found { answer: Ok(Source::exact(hit)), vector: None, given, nominee: None }
    }

    /// What memory has for a question that nobody answers since those in `failed` did not. Where the request is
    /// at fault, or nobody is configured for it, that is what there is to say.
    pub(super) async fn late_on_error(
        &self,
        asked: Option<&Asked>,
        failed: &[upstream::Error],
    ) -> Option<(Source, Arc<Reply>)> {
        if !failed.iter().any(|error| error.kind.is_outage()) {
            return None;
        }
        let Asked { query, terms, read: _ } = asked?;
        let hit = self.cache.late(query, terms, Late::OnError).await?;
        if let Freshness::Over(by) = hit.freshness {
            let seconds = by.as_secs();
            tracing::warn!(seconds, "nobody answers: an answer is given whose time is over");
        }
        Some(Source::exact(hit))
    }
}

/// Those who failed, where nobody gives the answer that was asked for. A stand-in's is somebody else's: one that
/// memory has of the one who was asked is better.
pub(super) fn unanswered(
    begun: &Result<Arc<Begun>, upstream::Error>,
    voice: &Voice,
) -> Option<Vec<upstream::Error>> {
    match begun {
        Ok(begun) => (!voice.gave(begun)).then(|| begun.failed.clone()),
        Err(error) => Some(failures(error)),
    }
}
