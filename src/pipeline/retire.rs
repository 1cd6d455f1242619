//! When a rule comes or changes, what the cache keeps of questions that it answers now is removed: asked in the same
//! words it would never be given again, but asked in others it would.

use super::Pipeline;
use crate::cache::judge::Question;
use crate::cache::keeper::Answered;
use crate::intent::{Known, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Changes come in groups: files that are saved one after the other, names that are pushed.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);
/// By then answers are kept that had been asked for before the rules changed.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

impl Pipeline {
    /// Looks after the cache whenever rules change, until it is dropped. `since` are the rules that it was looked after
    /// for before; `done` is told of those that it has been looked after for since.
    pub async fn tend(&self, mut since: Known, done: impl AsyncFn(&Known)) {
        let mut changes = self.rules.changes();
        loop {
            changes.borrow_and_update();
            let now = self.rules.known();
            if now.is_new_to(&since) {
                self.retire(&since).await;
                let Err(_) = timeout(AGAIN_AFTER, changes.changed()).await else {
                    sleep(SETTLES_WITHIN).await;
                    continue;
                };
                self.retire(&since).await;
            }
            let now = now.after(&since);
            if now != since {
                done(&now).await;
                since = now;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            sleep(SETTLES_WITHIN).await;
        }
    }

    /// Removes what is kept of questions that rules answer which were not `known`. How many entries that were.
    pub async fn retire(&self, known: &Known) -> u64 {
        let (rules, known, mind) = (self.rules.clone(), known.clone(), self.rules.mind());
        let is_over = move |Answered { tenant, project, text, vector }: Answered<'_>| {
            let read = mind.as_ref().and_then(|mind| {
                let canonical = Question::new(text).to_embed()?.to_owned();
                Some((Arc::clone(mind), Read { text: canonical, vector: vector?.clone() }))
            });
            let learned = read.as_ref().map(|(mind, read)| (mind.as_ref(), read));
            rules.rules(tenant, project).now_answers(&known, project, text, learned)
        };
        match self.cache.retire(Arc::new(is_over)).await {
            Ok(removed) => {
                if removed > 0 {
                    tracing::info!(removed, "removed answers to questions that rules answer now");
                }
                removed
            }
            Err(error) => {
                tracing::warn!(%error, "answers to questions that rules answer now could not be removed");
                0
            }
        }
    }
}
