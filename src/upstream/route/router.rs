//! [`Router`]: the routes in front of the chain.

use super::{Plan, Routes, Step};
use crate::chat::{Event, Request};
use crate::upstream::{Call, Error, Opened, Origin, Priority, Upstream};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// The most mirrored requests under way; more are not mirrored.
const MAX_MIRRORED: usize = 32;
/// How long one may take.
const MIRROR_DEADLINE: Duration = Duration::from_mins(2);

/// Chooses by its routes, and has the chain ask.
pub struct Router {
    routes: Routes,
    chain: Arc<dyn Upstream>,
    slots: Arc<Semaphore>,
    mirrored: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// What became of mirrored requests, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mirrored {
    /// Answered in full.
    pub answered: u64,
    /// Not answered, or not in time.
    pub failed: u64,
    /// Not sent, since too many were under way.
    pub dropped: u64,
}

impl Router {
    /// These routes, in front of `chain`.
    pub fn new(routes: Routes, chain: Arc<dyn Upstream>) -> Self {
        Self { routes, chain, slots: Arc::new(Semaphore::new(MAX_MIRRORED)), mirrored: Arc::default() }
    }

    /// What became of mirrored requests.
    pub fn mirrored(&self) -> Mirrored {
        let Counts { answered, failed, dropped } = &*self.mirrored;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Mirrored { answered: read(answered), failed: read(failed), dropped: read(dropped) }
    }

    /// Asks someone else the same, in the background. What is asked for memory's sake alone is not.
    fn mirror(&self, request: &Request, call: &Call, plan: &Plan) {
        let Some(step) = plan.mirror.as_ref().filter(|_| call.priority == Priority::User) else { return };
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.mirrored.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (chain, counts) = (Arc::clone(&self.chain), Arc::clone(&self.mirrored));
        let (request, call) = (request.clone(), in_the_mirror(call, plan, step));
        tokio::spawn(async move {
            let _slot = slot;
            let answered = timeout_at(call.deadline, heard_out(chain.as_ref(), &request, &call)).await;
            let counter = if answered == Ok(true) { &counts.answered } else { &counts.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// The call that asks `step` alone, for nobody.
fn in_the_mirror(call: &Call, plan: &Plan, step: &Step) -> Call {
    let alone = Plan { steps: vec![step.clone()], arm: None, mirror: None, ..plan.clone() };
    Call {
        deadline: Instant::now() + MIRROR_DEADLINE,
        priority: Priority::Background,
        plan: Some(Arc::new(alone)),
        ..call.clone()
    }
}

/// Whether the answer comes, to its end.
async fn heard_out(chain: &dyn Upstream, request: &Request, call: &Call) -> bool {
    let Ok(mut opened) = chain.open(request, call).await else { return false };
    while let Some(Ok(chunk)) = opened.chunks.next().await {
        if chunk.events.contains(&Event::End) {
            return true;
        }
    }
    false
}

#[async_trait]
impl Upstream for Router {
    fn name(&self) -> &str {
        self.chain.name()
    }

    fn origin(&self, request: &Request) -> Origin {
        self.chain.origin(request)
    }

    fn choose(&self, request: &Request, call: Call) -> Call {
        if call.plan.is_some() {
            return call;
        }
        let plan = self.routes.plan(request, &call).map(Arc::new);
        Call { plan, ..call }
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        let call = self.choose(request, call.clone());
        if let Some(plan) = &call.plan {
            self.mirror(request, &call, plan);
        }
        self.chain.open(request, &call).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Member, Mirror, Route, Sticky, Target, When};
    use super::*;
    use crate::sim::{Scripted, Step as Play};
    use crate::upstream::Kind;
    use crate::upstream::chain::{Chain, Link};
    use crate::upstream::strategy::{Facts, Strategy};

    fn step(name: &str, model: Option<&str>) -> Step {
        Step { upstream: name.into(), model: model.map(Into::into) }
    }

    fn router(members: Vec<Step>, mirror: Option<Step>, upstreams: &[&Arc<Scripted>]) -> Router {
        let members =
            members.into_iter().map(|step| Member { to: Target::Upstream(step), weight: 1 }).collect();
        let route = Route {
            name: "r".into(),
            when: When::default(),
            strategy: Strategy::Failover,
            members,
            sticky: Sticky::Never,
            max_latency: None,
            hedge: None,
            mirror: mirror.map(|to| Mirror { to, percentage: 100.0 }),
            last: None,
        };
        let links = upstreams
            .iter()
            .map(|upstream| Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["own-*".to_owned()]));
        let routes = Routes::new(vec![route], Arc::new(|_, _, _| Facts::default()), None).unwrap();
        Router::new(routes, Arc::new(Chain::new("chain", links.collect())))
    }

    fn scripted(name: &str, play: Play) -> Arc<Scripted> {
        Arc::new(Scripted::new(name, [play]))
    }

    fn call() -> Call {
        Call { priority: Priority::User, ..Call::within(Duration::from_mins(1)) }
    }

    fn request(model: &str) -> Request {
        Request { model: model.into(), ..Request::default() }
    }

    #[tokio::test]
    async fn a_plan_is_followed_and_each_is_asked_for_its_own_model() {
        let (a, b) = (scripted("a", Play::Fail(Kind::Server)), scripted("b", Play::say("hi")));
        let members = vec![step("b", Some("small")), step("a", Some("large"))];
        let opened = router(members, None, &[&a, &b]).open(&request("r"), &call()).await.unwrap();
        assert_eq!((&*opened.by, &*opened.model), ("b", "small"));
        let members = vec![step("a", Some("large")), step("b", Some("small"))];
        let opened = router(members, None, &[&a, &b]).open(&request("r"), &call()).await.unwrap();
        assert_eq!((&*opened.by, &*opened.model, opened.failed.len()), ("b", "small", 1));
    }

    #[tokio::test]
    async fn a_step_without_a_model_asks_only_who_serves_the_one_that_was_named() {
        let a = scripted("a", Play::say("hi"));
        let error =
            router(vec![step("a", None)], None, &[&a]).open(&request("r"), &call()).await.unwrap_err();
        assert_eq!((error.kind, a.calls()), (Kind::NoRoute, 0), "the route's name is nobody's model");
        // Whoever is not asked by a route is asked as before.
        let opened = router(vec![step("a", None)], None, &[&a]).open(&request("own-model"), &call()).await;
        assert_eq!(&*opened.unwrap().by, "a");
    }

    #[tokio::test]
    async fn a_mirrored_answer_is_heard_out_and_nobody_waits_for_it() {
        let (a, m) = (scripted("a", Play::say("hi")), scripted("m", Play::say("me")));
        let mirrored = router(vec![step("a", Some("x"))], Some(step("m", Some("y"))), &[&a, &m]);
        let opened = mirrored.open(&request("r"), &call()).await.unwrap();
        assert_eq!(&*opened.by, "a");
        while mirrored.mirrored().answered == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((m.calls(), m.live()), (1, 0));
        let background = Call { priority: Priority::Background, ..call() };
        mirrored.open(&request("r"), &background).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(m.calls(), 1, "what nobody waits for is not mirrored");
    }

    #[tokio::test(start_paused = true)]
    async fn mirrors_are_bounded_in_number_and_in_time() {
        let (a, m) = (scripted("a", Play::say("hi")), scripted("m", Play::Stall));
        let mirrored = router(vec![step("a", Some("x"))], Some(step("m", Some("y"))), &[&a, &m]);
        for _ in 0..MAX_MIRRORED + 3 {
            mirrored.open(&request("r"), &call()).await.unwrap();
        }
        assert_eq!(mirrored.mirrored().dropped, 3);
        tokio::time::sleep(MIRROR_DEADLINE * 2).await;
        let told = Mirrored { answered: 0, failed: MAX_MIRRORED as u64, dropped: 3 };
        assert_eq!(mirrored.mirrored(), told);
    }
}
