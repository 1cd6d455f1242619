//! [`Link`]: an upstream of a chain, with all its keys.

use super::super::{Origin, Upstream};
use super::is_local;
use crate::chat::{Request, matches};
use std::sync::Arc;

/// An upstream, and the models it is asked for.
#[derive(Clone)]
pub struct Link {
    pub(super) name: Arc<str>,
    /// In the order in which they are tried. Never empty.
    pub(super) profiles: Vec<Profile>,
    models: Vec<String>,
    /// How many tokens its models read, by patterns of their names; the first that matches counts.
    windows: Vec<(String, u64)>,
    pub(super) rotation: Rotation,
    /// It has a place in the order; otherwise only a plan asks it, or who names the local model.
    pub(super) in_order: bool,
    pub(super) family: Option<&'static str>,
    /// It looks after itself: a chain, or the model in this process.
    pub(super) exempt: bool,
}

/// One key of an upstream.
#[derive(Clone)]
pub(super) struct Profile {
    /// What it is called: as the upstream, with the profile's own name behind a colon where there are several.
    pub(super) name: Arc<str>,
    pub(super) upstream: Arc<dyn Upstream>,
}

/// Which of its keys an upstream is asked with first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// The first that may be.
    #[default]
    Order,
    /// One after the other; a conversation stays with the one it has.
    RoundRobin,
}

impl Rotation {
    /// Each by its name.
    pub const ALL: [(&'static str, Self); 2] = [("order", Self::Order), ("round_robin", Self::RoundRobin)];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::RoundRobin => "round_robin",
        }
    }
}

impl Link {
    /// `models` are patterns in which `*` stands for anything.
    pub fn new(upstream: Arc<dyn Upstream>, models: Vec<String>) -> Self {
        let name: Arc<str> = upstream.name().into();
        let exempt = upstream.origin(&Request::default()) == Origin::Local;
        let profiles = vec![Profile { name: Arc::clone(&name), upstream }];
        Self {
            name,
            profiles,
            models,
            windows: Vec::new(),
            rotation: Rotation::default(),
            in_order: true,
            family: None,
            exempt,
        }
    }

    /// A chain within a chain: it looks after its own.
    pub fn nested(chain: Arc<dyn Upstream>, models: Vec<String>) -> Self {
        Self { exempt: true, ..Self::new(chain, models) }
    }

    /// The same upstream with several keys: `profiles` by their own names, in order.
    #[must_use]
    pub fn with_profiles(self, profiles: Vec<(String, Arc<dyn Upstream>)>, rotation: Rotation) -> Self {
        let name = |own: &str| format!("{}:{own}", self.name).into();
        let profiles: Vec<Profile> =
            profiles.into_iter().map(|(own, upstream)| Profile { name: name(&own), upstream }).collect();
        if profiles.is_empty() {
            return self;
        }
        Self { profiles, rotation, ..self }
    }

    /// Whether it has a place in the order; otherwise only a plan asks it, or who names the local model.
    #[must_use]
    pub fn in_order(self, in_order: bool) -> Self {
        Self { in_order, ..self }
    }

    /// What sort of provider it is, for those who are told of its failures.
    #[must_use]
    pub fn of_family(self, family: &'static str) -> Self {
        Self { family: Some(family), ..self }
    }

    /// How many tokens its models read.
    #[must_use]
    pub fn with_windows(self, windows: Vec<(String, u64)>) -> Self {
        Self { windows, ..self }
    }

    /// What kind of voice it has.
    pub(super) fn origin(&self, request: &Request) -> Origin {
        self.profiles.first().map_or(Origin::Provider, |profile| profile.upstream.origin(request))
    }

    /// Whether it is asked for `request` where no plan says who is: it has its place in the order, or is the local model
    /// and the one that is meant by name.
    pub(super) fn is_asked_for(&self, request: &Request) -> bool {
        let is_meant = || is_local(&request.model) && self.origin(request) == Origin::Local;
        (self.in_order || is_meant()) && self.serves(request)
    }

    /// The local model stands in for any other; nobody else stands in for it.
    pub(super) fn serves(&self, request: &Request) -> bool {
        match self.origin(request) {
            Origin::Local => true,
            Origin::Provider if is_local(&request.model) => false,
            Origin::Provider => self.models.iter().any(|pattern| matches(pattern, &request.model)),
        }
    }

    /// How many tokens `model` reads here, where that is known.
    pub(super) fn window(&self, model: &str) -> Option<u64> {
        self.windows.iter().find(|(pattern, _)| matches(pattern, model)).map(|(_, tokens)| *tokens)
    }
}
