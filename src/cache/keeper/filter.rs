//! Which entries are meant.

use super::Fault;
use crate::clock::Millis;
use crate::store::{IdPrefix, Seen, Walk};
use crate::vector::UnitVector;
use std::time::Duration;

/// Which entries are meant: those for which everything holds that is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Its id begins so.
    pub id: Option<IdPrefix>,
    /// It is this tenant's.
    pub tenant: Option<String>,
    /// It is of this project.
    pub project: Option<String>,
    /// This model was asked.
    pub model: Option<String>,
    /// It has this label.
    pub tag: Option<String>,
    /// It was given longer ago.
    pub older_than: Option<Duration>,
    /// It was given since.
    pub younger_than: Option<Duration>,
    /// The question contains this, in capitals or not.
    pub contains: Option<String>,
    /// The question is like this one.
    pub near: Option<Near>,
    /// It is pinned, or not.
    pub pinned: Option<bool>,
}

/// What a question is to be like.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    /// Where the wanted one points.
    pub vector: UnitVector,
    /// The least cosine.
    pub least: f32,
}

impl Filter {
    /// The same, and its id begins so.
    pub fn with_id(self, digits: &str) -> Result<Self, Fault> {
        Ok(Self { id: Some(IdPrefix::new(digits).ok_or(Fault::NoId)?), ..self })
    }

    /// Whether it finds everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The walk on which all that it finds is met.
    pub(super) fn walk(&self) -> Walk {
        Walk { id: self.id.clone(), ..Walk::default() }
    }

    /// Whether it finds this entry, and then how alike it is.
    pub(super) fn finds(&self, seen: &Seen, now: Millis) -> Option<Likeness> {
        // The id is looked at on the walk.
        let Self { id: _, tenant, project, model, tag, older_than, younger_than, contains, near, pinned } =
            self;
        let entry = &seen.entry;
        let age = now.since(entry.created);
        let is = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        let found = is(tenant, &entry.about.tenant)
            && is(project, &entry.about.project)
            && is(model, &entry.about.model)
            && tag.as_ref().is_none_or(|tag| entry.about.tags.contains(tag))
            && older_than.is_none_or(|limit| age > limit)
            && younger_than.is_none_or(|limit| age < limit)
            && pinned.is_none_or(|pinned| pinned == entry.pinned)
            && contains.as_ref().is_none_or(|part| entry.text.to_lowercase().contains(&part.to_lowercase()));
        match near {
            _ if !found => None,
            None => Some(Likeness(None)),
            Some(Near { vector, least }) => {
                let cosine = cosine(vector, entry.vector.as_ref()?)?;
                (cosine >= *least).then_some(Likeness(Some(cosine)))
            }
        }
    }
}

/// How like the wanted question another is, where that was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likeness(pub(super) Option<f32>);

/// How alike two questions are, where that can be told.
pub(super) fn cosine(one: &UnitVector, other: &UnitVector) -> Option<f32> {
    (one.dimensions() == other.dimensions()).then(|| one.cosine(other))
}
