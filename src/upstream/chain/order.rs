//! In which order those who may be asked are asked.

use super::link::{Profile, Rotation};
use super::ward::is_meant;
use super::{Chain, Rung};
use crate::chat::Request;
use crate::upstream::health::KeyId;
use crate::upstream::route::{Plan, Step};
use crate::upstream::{Call, Session};
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Somebody who may be asked: an upstream, with one of its keys.
#[derive(Clone)]
pub(super) struct Candidate<'c> {
    pub(super) rung: &'c Rung,
    pub(super) profile: &'c Profile,
    /// Nobody looks after one that has none.
    pub(super) key: Option<KeyId>,
    /// What it is asked, and for which model.
    pub(super) request: Asked<'c>,
    pub(super) model: Arc<str>,
}

/// A request as it came, or for another model.
#[derive(Clone)]
pub(super) enum Asked<'c> {
    AsItCame(&'c Request),
    Renamed(Arc<Request>),
}

impl Deref for Asked<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        match self {
            Self::AsItCame(request) => request,
            Self::Renamed(request) => request,
        }
    }
}

/// An upstream, and what it is asked.
struct Turn<'c> {
    rung: &'c Rung,
    request: Asked<'c>,
    model: Arc<str>,
}

impl Chain {
    /// Everyone who serves `request`, in order: upstream by upstream, each with all its keys, and those who are slow
    /// behind those who are not.
    pub(super) fn candidates<'c>(&'c self, request: &'c Request, call: &Call) -> Vec<Candidate<'c>> {
        let turns = match &call.plan {
            Some(plan) => self.planned(plan, request),
            None => self.as_written(request),
        };
        let all = turns.iter().flat_map(|turn| self.profiles(turn, call.session));
        let is_without = |candidate: &Candidate<'_>| {
            call.without.as_deref().is_some_and(|name| is_meant(name, &candidate.profile.name))
        };
        let all = all.filter(|candidate| !is_without(candidate));
        let (second, mut first): (Vec<_>, Vec<_>) =
            all.partition(|candidate| self.is_second_choice(candidate));
        // Whoever is slow still comes before the one in this process, who stands in for those who fail.
        let stand_in = first.iter().position(|candidate| candidate.key.is_none()).unwrap_or(first.len());
        first.splice(stand_in..stand_in, second);
        first
    }

    fn as_written<'c>(&'c self, request: &'c Request) -> Vec<Turn<'c>> {
        let model: Arc<str> = request.model.as_str().into();
        let serving = self.rungs.iter().filter(|rung| rung.link.is_asked_for(request));
        let turn = |rung| Turn { rung, request: Asked::AsItCame(request), model: Arc::clone(&model) };
        serving.map(turn).collect()
    }

    /// Whoever is asked for a model of its own was chosen for it; the others must serve the one that was named.
    fn planned<'c>(&'c self, plan: &Plan, request: &'c Request) -> Vec<Turn<'c>> {
        let turn = |step: &Step| {
            let rung = self.rungs.iter().find(|rung| rung.link.name == step.upstream)?;
            if step.model.is_none() && !rung.link.serves(request) {
                return None;
            }
            let request = match step.request(request) {
                Cow::Borrowed(request) => Asked::AsItCame(request),
                Cow::Owned(renamed) => Asked::Renamed(Arc::new(renamed)),
            };
            Some(Turn { rung, model: request.model.as_str().into(), request })
        };
        plan.steps.iter().filter_map(turn).collect()
    }

    fn is_second_choice(&self, candidate: &Candidate<'_>) -> bool {
        candidate.key.is_some_and(|key| self.ward.is_second_choice(key, &candidate.model))
    }

    /// The keys of an upstream, the one whose turn it is first.
    fn profiles<'c>(&self, turn: &Turn<'c>, session: Option<Session>) -> Vec<Candidate<'c>> {
        let Turn { rung, request, model } = turn;
        let rung: &'c Rung = rung;
        let profiles = &rung.link.profiles;
        let nth = match (rung.link.rotation, session) {
            _ if profiles.len() < 2 => 0,
            (Rotation::Order, _) => 0,
            // A conversation stays with its key: what the provider remembers of it belongs to that.
            (Rotation::RoundRobin, Some(Session(session))) => session,
            (Rotation::RoundRobin, None) => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let first = usize::try_from(nth % profiles.len().max(1) as u64).unwrap_or_default();
        let indexes = (first..profiles.len()).chain(0..first);
        indexes
            .map(|at| Candidate {
                rung,
                profile: &profiles[at],
                key: rung.keys.get(at).copied(),
                request: request.clone(),
                model: Arc::clone(model),
            })
            .collect()
    }
}
