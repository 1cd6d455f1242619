//! "This answer is wrong": it goes, and so do those that are wrong for the same reason.

use super::filter::{Likeness, cosine};
use super::row::said;
use super::{Fault, Keeper, Row};
use crate::store::{Entry, Seen, Walk};
use serde::Serialize;
use std::ops::ControlFlow;

/// From which cosine on a question of the same scope is kin.
const KIN: f32 = 0.9;
/// The most kin that are told one by one; all of them go.
const MOST_TOLD: usize = 100;

/// What went because an answer was wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Wrong {
    /// How many entries were removed, with the wrong one.
    pub removed: u64,
    /// How many kin stay because they are pinned: someone stands up for them.
    pub spared: u64,
    /// What was removed: the wrong one first, then some of its kin.
    pub entries: Vec<Row>,
}

impl Keeper<'_> {
    /// Removes the entry of that id, pinned or not, and its kin: those of the same scope that give the same answer, or
    /// answer a question much like it.
    pub async fn wrong(&self, id: &str) -> Result<Wrong, Fault> {
        let wrong = self.find(id).await?;
        let (scope, answer, now) = (wrong.scope, said(&wrong.entry.reply), self.cache.clock.now());
        let mut kin = Vec::new();
        let mut told = Wrong::default();
        let walk = Walk { scope: Some(scope), ..Walk::default() };
        let all = self.each(walk, |seen| {
            let Seen { entry, .. } = &seen;
            if entry.id == wrong.entry.id || !is_kin(&wrong.entry, &answer, entry) {
                return ControlFlow::Continue(());
            }
            if entry.pinned {
                told.spared += 1;
                return ControlFlow::Continue(());
            }
            kin.push(entry.id);
            if told.entries.len() < MOST_TOLD {
                told.entries.push(Row::new(&seen, Likeness::default(), now));
            }
            ControlFlow::Continue(())
        });
        // Its kin are looked for first: whatever fails, the wrong one itself is what must go.
        let found = all.await;
        told.removed += u64::from(self.cache.store.remove(&scope, &wrong.entry.id).await?);
        told.entries.insert(0, Row::new(&wrong, Likeness::default(), now));
        found?;
        for id in kin {
            told.removed += u64::from(self.cache.store.remove(&scope, &id).await?);
        }
        Ok(told)
    }
}

fn is_kin(wrong: &Entry, answer: &str, other: &Entry) -> bool {
    let near = match (&wrong.vector, &other.vector) {
        (Some(wrong), Some(other)) => cosine(wrong, other).is_some_and(|cosine| cosine >= KIN),
        _ => false,
    };
    near || said(&other.reply) == answer
}
