//! Which upstreams a request goes to: [`Routes`] choose, and the chain behind them asks.
//!
//! A route is for certain requests ([`When`]), or for those that name it as their model: an alias. The first that
//! matches decides; where none does, the chain's own order holds. Its members are upstreams, each for a
//! model of its own if need be, and other routes; a [`strategy`](super::strategy) puts them in order. The
//! [`Plan`] that comes of it is made once for a request, before memory is looked at: who would answer is part
//! of what is remembered.

mod plan;
mod router;
mod when;

pub use plan::{Plan, Step};
pub use router::{Mirrored, Router};
pub use when::{BadPattern, When, Words};

use super::chain::Hedge;
use super::strategy::{Facts, Strategy};
use super::{Call, is_local};
use crate::chat::{Request, Usage};
use plan::Planner;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use when::Asked;

/// The most steps a plan may have, counted before who is reached twice is left out.
pub const MAX_STEPS: usize = 256;

/// How long an answer is taken to be where the request sets no limit.
const USUAL_ANSWER_TOKENS: u64 = 512;

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it is called. A request that names it as its model takes it.
    pub name: Arc<str>,
    /// Which other requests take it; without any condition, none.
    pub when: When,
    /// How its members are put in order.
    pub strategy: Strategy,
    /// Who is asked.
    pub members: Vec<Member>,
    /// Which conversations stay with whom they began.
    pub sticky: Sticky,
    /// Whoever takes longer for the first words comes after those who do not.
    pub max_latency: Option<Duration>,
    /// When a second one is asked beside the first; `None` is whatever the chain does.
    pub hedge: Option<Hedge>,
    /// Who is asked beside.
    pub mirror: Option<Mirror>,
    /// Who is asked when all members have failed, and only of the route that a request has taken.
    pub last: Option<Arc<str>>,
}

impl Route {
    /// Whether it asks the upstream `name` itself, and not through another route.
    pub fn leads_to(&self, name: &str) -> bool {
        let asked = self.members.iter().filter_map(|member| match &member.to {
            Target::Upstream(step) => Some(&step.upstream),
            Target::Route(_) => None,
        });
        asked
            .chain(&self.last)
            .chain(self.mirror.as_ref().map(|mirror| &mirror.to.upstream))
            .any(|known| **known == *name)
    }
}

/// A member of a route.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub to: Target,
    /// Its share.
    pub weight: u32,
}

/// Who is a member.
#[derive(Clone, Debug)]
pub enum Target {
    /// An upstream.
    Upstream(Step),
    /// The route at this place.
    Route(usize),
}

/// Which conversations stay with whom they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// All of them; one without a name is known by how it began.
    Always,
    /// Those that the client has a name for.
    #[default]
    Named,
    /// None.
    Never,
}

/// Who is asked beside, for a sample of the requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Who.
    pub to: Step,
    /// How many requests in a hundred.
    pub percentage: f64,
}

/// Why routes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They lead back to where they began.
    #[error("leads back to itself: {}", .0.join(" → "))]
    Cycle(Vec<String>),
    /// There would be too many to ask.
    #[error("leads to more than {MAX_STEPS} upstreams, the routes within it counted")]
    TooMany(String),
}

impl Error {
    /// The route at fault.
    pub fn route(&self) -> &str {
        match self {
            Self::Cycle(names) => names.first().map_or("", String::as_str),
            Self::TooMany(name) => name,
        }
    }
}

/// What is known about an upstream that may be asked for a model, and for so much.
pub type Known = Arc<dyn Fn(&str, &str, Option<&Usage>) -> Facts + Send + Sync>;

/// All routes, and how many requests each has had.
pub struct Routes {
    list: Vec<Route>,
    turns: Vec<AtomicU64>,
    known: Known,
    /// What the local model is called.
    local: Option<Arc<str>>,
    /// Whether anyone asks what a request costs.
    weighs_costs: bool,
}

impl Routes {
    /// These routes, the first that matches first. `local` is what the local model is called.
    pub fn new(routes: Vec<Route>, known: Known, local: Option<Arc<str>>) -> Result<Self, Error> {
        verify(&routes)?;
        let turns = routes.iter().map(|_| AtomicU64::new(0)).collect();
        let weighs_costs = routes.iter().any(|route| route.strategy == Strategy::LowestCost);
        Ok(Self { list: routes, turns, known, local, weighs_costs })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.list.iter().map(|route| &route.name)
    }

    /// Who is asked for `request`; `None` where no route is for it.
    pub fn plan(&self, request: &Request, call: &Call) -> Option<Plan> {
        let asked = Asked::new(request, call);
        let at = self.chosen(&asked)?;
        let usage = self.weighs_costs.then(|| expected(&asked));
        let planner = Planner {
            routes: &self.list,
            turns: &self.turns,
            known: |step: &Step| {
                let model = step.model.as_deref().unwrap_or(&request.model);
                (self.known)(&step.upstream, model, usage.as_ref())
            },
            local: self.local.as_ref(),
            session: call.session.map(|session| (session.0, is_named(request, call))),
        };
        Some(planner.plan(at))
    }

    /// Whoever names a route means that one; whoever asks for the local model means that.
    fn chosen(&self, asked: &Asked<'_>) -> Option<usize> {
        let model = asked.request.model.as_str();
        let named = self.list.iter().position(|route| *route.name == *model);
        if named.is_some() || is_local(model) {
            return named;
        }
        self.list.iter().position(|route| !route.when.is_empty() && route.when.holds(asked))
    }
}

/// What a request is likely to use.
fn expected(asked: &Asked<'_>) -> Usage {
    let limit = asked.request.sampling.answer_limit().map(u64::from);
    let output = limit.map_or(USUAL_ANSWER_TOKENS, |limit| limit.min(USUAL_ANSWER_TOKENS));
    Usage { input: asked.tokens(), output, ..Usage::default() }
}

fn is_named(request: &Request, call: &Call) -> bool {
    call.envelope.session.is_some() || request.extra.contains_key("prompt_cache_key")
}

/// Refuses routes that have no end.
pub fn verify(routes: &[Route]) -> Result<(), Error> {
    let mut sizes = vec![None; routes.len()];
    (0..routes.len()).try_for_each(|at| size(routes, at, &mut sizes, &mut Vec::new()).map(|_| ()))
}

/// How many steps the route at this place has. `above` are the routes it is looked at from.
fn size(
    routes: &[Route],
    at: usize,
    sizes: &mut Vec<Option<usize>>,
    above: &mut Vec<usize>,
) -> Result<usize, Error> {
    if let Some(known) = sizes[at] {
        return Ok(known);
    }
    if let Some(start) = above.iter().position(|known| *known == at) {
        let round = above[start..].iter().chain([&at]);
        return Err(Error::Cycle(round.map(|at| routes[*at].name.to_string()).collect()));
    }
    above.push(at);
    let mut total = 0;
    for member in &routes[at].members {
        total += match member.to {
            Target::Upstream(_) => 1,
            Target::Route(within) => size(routes, within, sizes, above)?,
        };
        if total > MAX_STEPS {
            return Err(Error::TooMany(routes[at].name.to_string()));
        }
    }
    above.pop();
    sizes[at] = Some(total);
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};
    use crate::upstream::{Envelope, Origin, Session};

    fn step(text: &str) -> Step {
        let (upstream, model) =
            text.split_once('=').map_or((text, None), |(name, model)| (name, Some(model)));
        Step { upstream: upstream.into(), model: model.map(Into::into) }
    }

    fn to(text: &str) -> Member {
        Member { to: Target::Upstream(step(text)), weight: 1 }
    }

    fn through(at: usize) -> Member {
        Member { to: Target::Route(at), weight: 1 }
    }

    fn route(name: &str, strategy: Strategy, members: Vec<Member>) -> Route {
        let when = When::default();
        Route {
            name: name.into(),
            when,
            strategy,
            members,
            sticky: Sticky::default(),
            max_latency: None,
            hedge: None,
            mirror: None,
            last: None,
        }
    }

    fn routes(routes: Vec<Route>) -> Routes {
        Routes::new(routes, Arc::new(|_, _, _| Facts::default()), Some("local".into())).unwrap()
    }

    fn call() -> Call {
        Call::within(Duration::from_mins(1))
    }

    fn request(model: &str) -> Request {
        Request { model: model.into(), ..Request::default() }
    }

    fn order(plan: &Plan) -> Vec<String> {
        let told = |step: &Step| match &step.model {
            Some(model) => format!("{}={model}", step.upstream),
            None => step.upstream.to_string(),
        };
        plan.steps.iter().map(told).collect()
    }

    #[test]
    fn a_model_that_is_a_routes_name_takes_it_and_another_the_first_that_matches() {
        let for_models = |name: &str, models: &str, to: Member| Route {
            when: When { models: vec![models.into()], ..When::default() },
            ..route(name, Strategy::Failover, vec![to])
        };
        let routes = routes(vec![
            route("router.default", Strategy::Failover, vec![to("a=gpt-5"), to("b=claude")]),
            for_models("gpt", "gpt-*", to("c")),
            for_models("any-gpt", "*gpt*", to("d")),
        ]);
        let chosen = |model: &str| routes.plan(&request(model), &call()).map(|plan| plan.route.to_string());
        assert_eq!(chosen("router.default").as_deref(), Some("router.default"));
        assert_eq!(chosen("gpt-4o").as_deref(), Some("gpt"));
        assert_eq!(chosen("my-gpt").as_deref(), Some("any-gpt"));
        assert_eq!(chosen("claude"), None, "a route without a condition is for those who name it");
        assert_eq!(chosen("local/gpt"), None, "whoever wants the local model gets it");
        let plan = routes.plan(&request("router.default"), &call()).unwrap();
        assert_eq!(order(&plan), ["a=gpt-5", "b=claude"]);
        assert_eq!(plan.model("router.default"), "gpt-5");
    }

    #[test]
    fn a_route_within_a_route_is_spliced_in_and_nobody_is_asked_twice() {
        let routes = routes(vec![
            route("outer", Strategy::Failover, vec![to("a"), through(1), to("c")]),
            route("inner", Strategy::RoundRobin, vec![to("b"), to("c"), to("a")]),
        ]);
        let plan = routes.plan(&request("outer"), &call()).unwrap();
        assert_eq!(order(&plan), ["a", "b", "c"]);
    }

    #[test]
    fn a_route_within_a_route_has_its_turns_when_it_is_asked() {
        let routes = routes(vec![
            route("outer", Strategy::RoundRobin, vec![to("a"), through(1)]),
            route("inner", Strategy::RoundRobin, vec![to("b"), to("c")]),
        ]);
        let firsts = (0..8).map(|_| order(&routes.plan(&request("outer"), &call()).unwrap())[0].clone());
        assert_eq!(firsts.collect::<Vec<_>>(), ["a", "b", "a", "c", "a", "b", "a", "c"]);
    }

    #[test]
    fn the_last_resort_comes_after_all_members_of_all_routes_and_says_who_it_is() {
        let last = Some("local".into());
        let routes = routes(vec![
            Route { last: last.clone(), ..route("outer", Strategy::Failover, vec![through(1), to("c")]) },
            Route { last, ..route("inner", Strategy::Failover, vec![to("a")]) },
            route("home", Strategy::Failover, vec![to("local"), to("a")]),
        ]);
        let plan = |name: &str| routes.plan(&request(name), &call()).unwrap();
        assert_eq!(order(&plan("outer")), ["a", "c", "local"]);
        assert_eq!((plan("outer").origin, plan("home").origin), (Origin::Provider, Origin::Local));
    }

    #[test]
    fn a_step_asks_for_its_model_in_the_body_too() {
        let mut asked = request("router.default");
        asked.received.body = r#"{"model":"router.default","x":1.0}"#.into();
        let renamed = step("a=gpt-5").request(&asked).into_owned();
        assert_eq!(
            (renamed.model.as_str(), &renamed.received.body[..]),
            ("gpt-5", &br#"{"x":1.0,"model":"gpt-5"}"#[..])
        );
        assert!(matches!(step("a").request(&asked), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn answers_that_are_compared_are_kept_apart_and_others_are_not() {
        let ab = Strategy::Ab { percentage: 100.0 };
        let routes = routes(vec![
            route("ab", ab, vec![to("a=m"), to("b=m")]),
            route("around", Strategy::Failover, vec![through(0), to("c=m")]),
            route("same", Strategy::Failover, vec![to("a=m"), to("b=m"), to("c=n")]),
        ]);
        let plan = |name: &str| routes.plan(&request(name), &call()).unwrap();
        assert_eq!(plan("ab").arm.as_deref(), Some("b"));
        assert_eq!(plan("around").arm.as_deref(), Some("b"), "however deep");
        assert_eq!(plan("same").arm, None, "the same model, whoever runs it");
    }

    #[test]
    fn a_conversation_with_a_name_stays_and_others_take_turns() {
        let routes = |sticky| {
            let pair = vec![to("a"), to("b")];
            routes(vec![Route { sticky, ..route("r", Strategy::RoundRobin, pair) }])
        };
        let named = Call {
            session: Some(Session(7)),
            envelope: Arc::new(Envelope { session: Some("s".into()), ..Envelope::default() }),
            ..call()
        };
        let unnamed = Call { session: Some(Session(7)), ..call() };
        let stays = |sticky: Sticky, call: &Call| {
            let routes = routes(sticky);
            let first = |_| order(&routes.plan(&request("r"), call).unwrap())[0].clone();
            (0..6).map(first).collect::<std::collections::HashSet<_>>().len() == 1
        };
        assert!(stays(Sticky::Named, &named) && !stays(Sticky::Named, &unnamed));
        assert!(stays(Sticky::Always, &unnamed) && !stays(Sticky::Never, &named));
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let refused = |routes: Vec<Route>| {
            let known: Known = Arc::new(|_, _, _| Facts::default());
            Routes::new(routes, known, None).err().map(|error| error.to_string())
        };
        let fails = |name: &str, members| route(name, Strategy::Failover, members);
        assert_eq!(
            refused(vec![
                fails("x", vec![to("u")]),
                fails("a", vec![through(2)]),
                fails("b", vec![through(1)])
            ]),
            Some("leads back to itself: a → b → a".to_owned())
        );
        assert!(refused(vec![fails("a", vec![through(0)])]).is_some());
        let doubling = (0..20).map(|at| match at {
            0 => fails("r0", vec![to("u"), to("v")]),
            _ => fails(&format!("r{at}"), vec![through(at - 1), through(at - 1)]),
        });
        assert!(refused(doubling.collect()).unwrap().contains("more than 256"));
        assert_eq!(refused(vec![fails("a", vec![through(1), through(1)]), fails("b", vec![to("u")])]), None);
    }

    #[test]
    fn the_cheapest_is_chosen_for_the_request_at_hand() {
        let known: Known = Arc::new(|upstream, _, usage| {
            // One is cheap to read, the other cheap to write.
            let cost = usage.map(|usage| match upstream {
                "reader" => usage.input as f64 + 10.0 * usage.output as f64,
                _ => 10.0 * usage.input as f64 + usage.output as f64,
            });
            Facts { cost, ..Facts::default() }
        });
        let cheapest = Strategy::LowestCost;
        let routes =
            Routes::new(vec![route("r", cheapest, vec![to("reader"), to("writer")])], known, None).unwrap();
        let first = |words: usize| {
            let messages = vec![Message::text(Role::User, "word ".repeat(words))];
            let request = Request { messages, ..request("r") };
            order(&routes.plan(&request, &call()).unwrap())[0].clone()
        };
        assert_eq!((first(10), first(10_000)), ("writer".into(), "reader".into()));
    }
}
