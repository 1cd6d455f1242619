//! In which order those who may be asked are asked.

use super::link::{Profile, Rotation};
use super::{Chain, Rung};
use crate::chat::Request;
use crate::upstream::health::KeyId;
use crate::upstream::{Call, Session};
use std::sync::atomic::Ordering;

/// Somebody who may be asked: an upstream, with one of its keys.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'c> {
    pub(super) rung: &'c Rung,
    pub(super) profile: &'c Profile,
    /// Nobody looks after one that has none.
    pub(super) key: Option<KeyId>,
}

impl Chain {
    /// Everyone who serves `request`, in order: upstream by upstream, each with all its keys, and those who are slow
    /// behind those who are not.
    pub(super) fn candidates<'c>(&'c self, request: &Request, call: &Call) -> Vec<Candidate<'c>> {
        // The one place where a strategy puts the rungs in another order than they were written in.
        let serving = self.rungs.iter().filter(|rung| rung.link.serves(request));
        let all = serving.flat_map(|rung| self.profiles(rung, call.session));
        let (second, mut first): (Vec<_>, Vec<_>) =
            all.partition(|candidate| self.is_second_choice(candidate, &request.model));
        // Whoever is slow still comes before the one in this process, who stands in for those who fail.
        let stand_in = first.iter().position(|candidate| candidate.key.is_none()).unwrap_or(first.len());
        first.splice(stand_in..stand_in, second);
        first
    }

    fn is_second_choice(&self, candidate: &Candidate<'_>, model: &str) -> bool {
        candidate.key.is_some_and(|key| self.ward.is_second_choice(key, model))
    }

    /// The keys of an upstream, the one whose turn it is first.
    fn profiles<'c>(&'c self, rung: &'c Rung, session: Option<Session>) -> Vec<Candidate<'c>> {
        let profiles = &rung.link.profiles;
        let turn = match (rung.link.rotation, session) {
            _ if profiles.len() < 2 => 0,
            (Rotation::Order, _) => 0,
            // A conversation stays with its key: what the provider remembers of it belongs to that.
            (Rotation::RoundRobin, Some(Session(session))) => session,
            (Rotation::RoundRobin, None) => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let first = usize::try_from(turn % profiles.len().max(1) as u64).unwrap_or_default();
        let indexes = (first..profiles.len()).chain(0..first);
        indexes
            .map(|at| Candidate { rung, profile: &profiles[at], key: rung.keys.get(at).copied() })
            .collect()
    }
}
