//! Removing what something else answers now.

use super::STEP;
use crate::cache::Cache;
use crate::store::{Error, Walk};
use crate::vector::UnitVector;
use std::sync::Arc;

/// The most entries that are looked at. Behind them are the oldest, and fewest are asked for.
const MOST: usize = 1_000_000;

/// An answered question.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'e> {
    /// Whose it is.
    pub tenant: &'e str,
    /// The project it was asked in.
    pub project: &'e str,
    /// The question, as asked.
    pub text: &'e str,
    /// Where it points, if that is known.
    pub vector: Option<&'e UnitVector>,
}

/// Whether an answer has no use any more.
pub type IsOver = Arc<dyn Fn(Answered<'_>) -> bool + Send + Sync>;

impl Cache {
    /// Removes those entries of which `is_over` says so, of all tenants; never those that are pinned. It is asked on
    /// threads on which it may take its time. How many there were.
    pub async fn retire(&self, is_over: IsOver) -> Result<u64, Error> {
        self.keeper(None).written().await;
        let (mut walk, mut removed) = (Walk { most: STEP, ..Walk::default() }, 0);
        for _ in 0..MOST / STEP {
            let steps = self.store.walk(walk.clone()).await?;
            let is_over = Arc::clone(&is_over);
            let found = tokio::task::spawn_blocking(move || {
                let over = steps.seen.into_iter().filter(|seen| {
                    let (entry, about) = (&seen.entry, &seen.entry.about);
                    let (tenant, project) = (about.tenant.as_str(), about.project.as_str());
                    let (text, vector) = (entry.text.as_str(), entry.vector.as_ref());
                    !entry.pinned && is_over(Answered { tenant, project, text, vector })
                });
                over.map(|seen| (seen.scope, seen.entry.id)).collect::<Vec<_>>()
            });
            // What broke down says nothing about the rest.
            for (scope, id) in found.await.unwrap_or_default() {
                removed += u64::from(self.store.remove(&scope, &id).await?);
            }
            walk.after = steps.next;
            if walk.after.is_none() {
                break;
            }
        }
        Ok(removed)
    }
}
