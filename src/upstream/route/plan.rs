//! Who is asked for one request, in order: a [`Plan`], made of the routes by their strategies.

use super::{Member, Route, Sticky, Target};
use crate::chat::{Protocol, Request};
use crate::upstream::Origin;
use crate::upstream::chain::Hedge;
use crate::upstream::strategy::{Facts, Strategy, arrange, is_drawn};
use crate::wire::splice::splice;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who is asked, decided once for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The route that decided it.
    pub route: Arc<str>,
    /// Who is asked, in order.
    pub steps: Vec<Step>,
    /// The upstream whose answers are kept apart from the others', where they are compared with each other.
    pub arm: Option<Arc<str>>,
    /// When a second one is asked beside the first; `None` is whatever the chain does.
    pub hedge: Option<Hedge>,
    /// Who is asked beside, and whose answer nobody sees.
    pub mirror: Option<Step>,
    /// What kind of voice the first of them has.
    pub origin: Origin,
}

/// An upstream, and what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The upstream.
    pub upstream: Arc<str>,
    /// The model it is asked for; `None` is the one that the client named.
    pub model: Option<Arc<str>>,
}

impl Step {
    /// An upstream, asked for whatever model the client named.
    pub fn to(upstream: &Arc<str>) -> Self {
        Self { upstream: Arc::clone(upstream), model: None }
    }

    /// `request`, as this step asks it.
    pub fn request<'r>(&self, request: &'r Request) -> Cow<'r, Request> {
        match &self.model {
            Some(model) if **model != *request.model => Cow::Owned(renamed(request, model)),
            _ => Cow::Borrowed(request),
        }
    }
}

/// `request` for another model: in its body too, which a provider of the same protocol gets as it came.
fn renamed(request: &Request, model: &str) -> Request {
    let mut renamed = Request { model: model.to_owned(), ..request.clone() };
    let received = &mut renamed.received;
    // Gemini has it in the path.
    if !received.body.is_empty() && received.protocol != Protocol::Gemini {
        // What was decoded is an object; and if it were none, it would be written anew.
        received.body = splice(&received.body, &[("model", Some(model.into()))]).unwrap_or_default();
    }
    renamed
}

/// Makes plans for one request.
pub(super) struct Planner<'r, K> {
    pub(super) routes: &'r [Route],
    /// How many requests each route has had.
    pub(super) turns: &'r [AtomicU64],
    /// What is known about an upstream.
    pub(super) known: K,
    /// What the local model is called.
    pub(super) local: Option<&'r Arc<str>>,
    /// The conversation, and whether the client has a name for it.
    pub(super) session: Option<(u64, bool)>,
}

/// What became of a route, or of a member of it.
struct Branch {
    steps: Vec<Step>,
    arm: Option<Arc<str>>,
    facts: Facts,
    /// The routes through which its first step is reached. Only their turns are over: a route whose turns
    /// passed while it was not asked would lose its shares.
    through: Vec<usize>,
}

impl<K: Fn(&Step) -> Facts> Planner<'_, K> {
    /// The plan of the route at this place.
    pub(super) fn plan(&self, at: usize) -> Plan {
        let route = &self.routes[at];
        let turn = self.turns[at].fetch_add(1, Ordering::Relaxed);
        let Branch { mut steps, arm, through, .. } = self.branch(at, turn);
        for nested in through.iter().filter(|nested| **nested != at) {
            self.turns[*nested].fetch_add(1, Ordering::Relaxed);
        }
        steps.extend(route.last.iter().map(Step::to));
        once_each(&mut steps);
        let mirror = route.mirror.as_ref().filter(|mirror| is_drawn(turn, mirror.percentage));
        let mirror = mirror.map(|mirror| mirror.to.clone());
        let origin = self.origin(steps.first());
        Plan { route: Arc::clone(&route.name), steps, arm, hedge: route.hedge, mirror, origin }
    }

    fn origin(&self, step: Option<&Step>) -> Origin {
        let is_local = step.is_some_and(|step| self.local == Some(&step.upstream));
        if is_local { Origin::Local } else { Origin::Provider }
    }

    fn branch(&self, at: usize, turn: u64) -> Branch {
        let route = &self.routes[at];
        let mut members: Vec<Branch> = route.members.iter().map(|member| self.member(member)).collect();
        let facts: Vec<Facts> = members.iter().map(|member| under(route, member.facts)).collect();
        let order = arrange(&route.strategy, &facts, turn, self.session_for(route));
        let first = order.first().map(|first| &mut members[*first]);
        let (arm, mut through) = first
            .map(|first| (first.arm_under(&route.strategy), std::mem::take(&mut first.through)))
            .unwrap_or_default();
        through.push(at);
        let facts = summary(&facts, order.first().copied());
        let steps = order.iter().flat_map(|place| std::mem::take(&mut members[*place].steps)).collect();
        Branch { steps, arm, facts, through }
    }

    fn member(&self, Member { to, weight }: &Member) -> Branch {
        let mut branch = match to {
            Target::Route(at) => self.branch(*at, self.turns[*at].load(Ordering::Relaxed)),
            Target::Upstream(step) => Branch {
                steps: vec![step.clone()],
                arm: None,
                facts: (self.known)(step),
                through: Vec::new(),
            },
        };
        branch.facts.weight = *weight;
        branch
    }

    fn session_for(&self, route: &Route) -> Option<u64> {
        let (session, named) = self.session?;
        let stays = match route.sticky {
            Sticky::Always => true,
            Sticky::Named => named,
            Sticky::Never => false,
        };
        stays.then_some(session)
    }
}

impl Branch {
    /// Whose answers are kept apart, where this is the first choice of a route with `strategy`.
    fn arm_under(&self, strategy: &Strategy) -> Option<Arc<str>> {
        let compared = matches!(strategy, Strategy::Canary { .. } | Strategy::Ab { .. });
        let asked_first = || self.steps.first().map(|step| Arc::clone(&step.upstream));
        self.arm.clone().or_else(|| asked_first().filter(|_| compared))
    }
}

/// What a member is like in `route`.
fn under(route: &Route, facts: Facts) -> Facts {
    let slow = matches!((facts.latency, route.max_latency), (Some(takes), Some(most)) if takes > most);
    Facts { slow, ..facts }
}

/// What a route is like as a member of another: like whom it would ask first, and there as long as anyone is.
fn summary(facts: &[Facts], first: Option<usize>) -> Facts {
    let of_first = first.map_or_else(Facts::default, |first| facts[first]);
    Facts {
        available: facts.iter().any(|facts| facts.available),
        in_flight: facts.iter().map(|facts| facts.in_flight).sum(),
        ..of_first
    }
}

/// Who is reached on two ways is asked once, where it comes first.
fn once_each(steps: &mut Vec<Step>) {
    let mut seen = HashSet::new();
    steps.retain(|step| seen.insert(step.clone()));
}

impl Plan {
    /// The model that answers when nothing fails, where `asked` is the one that the client named.
    pub fn model<'a>(&'a self, asked: &'a str) -> &'a str {
        self.steps.first().and_then(|step| step.model.as_deref()).unwrap_or(asked)
    }
}
