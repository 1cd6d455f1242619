//! The chain: one upstream after the other, until one answers.
//!
//! What is known of them is kept in a [`Ward`], which all chains share; what one request goes through is in `run`.

mod fault;
mod follow;
mod hedge;
mod link;
mod order;
mod run;
mod ward;

pub use hedge::Hedge;
pub use link::{Link, Rotation};
pub use ward::{Change, Pricing, Spent, Ward, WardReport, Watcher};

use super::health::{Backoff, BudgetRules, KeyId, Rules};
use super::{Call, Error, Kind, Opened, Origin, Upstream};
use crate::chat::Request;
use async_trait::async_trait;
use run::Run;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Models with this prefix are the local model's alone.
const LOCAL_PREFIX: &str = "local/";

/// How hard a chain tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How often one upstream is asked in a row, where there is nobody else to ask.
    pub max_attempts: u32,
    /// How long is waited between.
    pub backoff: Backoff,
    /// After which failures somebody else is asked, or the same one again.
    pub triggers: Triggers,
    /// How many calls one request may cause in all.
    pub max_calls: u32,
    /// How long a request waits in all for those who are left alone, where nobody else is there.
    pub max_wait: Duration,
    /// When a second one is asked beside the first.
    pub hedge: Hedge,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            backoff: Backoff::default(),
            triggers: Triggers::default(),
            max_calls: 8,
            max_wait: Duration::from_secs(30),
            hedge: Hedge::Off,
        }
    }
}

impl Config {
    /// Whether `error` is one after which the chain goes on.
    fn triggers(&self, error: &Error) -> bool {
        let Triggers { statuses, auth, timeout } = &self.triggers;
        match (error.kind, error.status) {
            (Kind::Auth, _) => *auth,
            (Kind::Timeout, _) => *timeout,
            (Kind::RateLimit | Kind::Overloaded | Kind::Server, Some(status)) => statuses.include(status),
            _ => true,
        }
    }
}

/// After which failures a chain goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triggers {
    /// Statuses.
    pub statuses: Statuses,
    /// A key that is refused.
    pub auth: bool,
    /// Silence.
    pub timeout: bool,
}

impl Default for Triggers {
    fn default() -> Self {
        Self { statuses: Statuses::default(), auth: true, timeout: true }
    }
}

/// Statuses, one by one or by their first digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![(429, 429), (500, 599)])
    }
}

impl Statuses {
    /// `429`, `5xx`, each; or the one that cannot be read.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, &'t str> {
        let range = |text: &'t str| {
            let whole = || text.parse().ok().filter(|status| (400..600).contains(status));
            let hundred = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok());
            match hundred.filter(|digit| (4..=5).contains(digit)) {
                Some(digit) => Ok((digit * 100, digit * 100 + 99)),
                None => whole().map(|status| (status, status)).ok_or(text),
            }
        };
        texts.into_iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    fn include(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// As they are written.
    pub fn shown(&self) -> Vec<String> {
        let one = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{}xx", first / 100),
        };
        self.0.iter().map(one).collect()
    }
}

/// Tries its links in order. Itself an upstream, so chains nest.
pub struct Chain {
    name: Arc<str>,
    rungs: Vec<Rung>,
    config: Config,
    ward: Arc<Ward>,
    /// Whose turn it is, where keys take turns.
    turn: AtomicU64,
}

/// A link, and where its keys are in the ward.
struct Rung {
    link: Link,
    /// As its profiles; none for who looks after itself.
    keys: Vec<KeyId>,
}

impl Chain {
    /// A chain of `links`, asked in order, with a ward of its own. Must be called within a tokio runtime.
    pub fn new(name: &str, links: Vec<Link>) -> Self {
        let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
        Self::sharing(name, links, Config::default(), &ward)
    }

    /// A chain that shares what is known of its links with others.
    pub fn sharing(name: &str, links: Vec<Link>, config: Config, ward: &Arc<Ward>) -> Self {
        let rung = |link: Link| {
            let keys = if link.exempt { &[][..] } else { &link.profiles };
            Rung { keys: keys.iter().map(|profile| ward.register(&profile.name)).collect(), link }
        };
        let rungs = links.into_iter().map(rung).collect();
        Self { name: name.into(), rungs, config, ward: Arc::clone(ward), turn: AtomicU64::new(0) }
    }

    /// Its links' names, in order.
    pub fn order(&self) -> Vec<&str> {
        self.rungs.iter().filter(|rung| rung.link.in_order).map(|rung| &*rung.link.name).collect()
    }

    /// What is known of its links.
    pub fn ward(&self) -> &Arc<Ward> {
        &self.ward
    }

    /// What a strategy goes by: how long the first words of `model` take at the link called `name`, how many calls
    /// that has in work, and whether any of its keys may be asked now.
    pub fn known(&self, name: &str, model: &str) -> Option<Known> {
        let rung = self.rungs.iter().find(|rung| *rung.link.name == *name)?;
        let keys = || rung.keys.iter().copied();
        let lately = |key| self.ward.latency(key, model, super::health::Latency::lately).flatten();
        Some(Known {
            latency: keys().filter_map(lately).min(),
            in_flight: keys().map(|key| self.ward.in_flight(key)).sum(),
            available: rung.keys.is_empty() || keys().any(|key| self.ward.may_ask(key, model, false).is_ok()),
        })
    }
}

/// What is known of an upstream right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// How long its first words take of late.
    pub latency: Option<Duration>,
    /// How many calls it has in work.
    pub in_flight: usize,
    /// Whether it may be asked.
    pub available: bool,
}

#[async_trait]
impl Upstream for Chain {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, request: &Request) -> Origin {
        let mut serving = self.rungs.iter().filter(|rung| rung.link.is_asked_for(request));
        serving.next().map_or(Origin::Provider, |first| first.link.origin(request))
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        Run::new(self, request, call).answer().await
    }
}

/// Whether `model` is the local model's alone.
pub fn is_local(model: &str) -> bool {
    model.starts_with(LOCAL_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Scripted, Step};

    fn request(model: &str) -> Request {
        Request { model: model.into(), ..Request::default() }
    }

    fn call() -> Call {
        Call::within(Duration::from_mins(1))
    }

    /// One that waits for nobody.
    fn impatient(links: Vec<Link>) -> Chain {
        let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
        let config = Config { max_wait: Duration::ZERO, max_attempts: 1, ..Config::default() };
        Chain::sharing("chain", links, config, &ward)
    }

    fn link(upstream: Scripted, models: &str) -> Link {
        Link::new(Arc::new(upstream), vec![models.to_owned()])
    }

    #[tokio::test]
    async fn the_first_that_answers_answers_and_the_failures_before_it_are_told() {
        let chain = impatient(vec![
            link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*"),
            link(Scripted::new("b", [Step::Fail(Kind::Server)]), "other-*"),
            link(Scripted::new("c", [Step::say("hi")]), "*"),
        ]);
        let opened = chain.open(&request("m"), &call()).await.unwrap();
        assert_eq!(&*opened.by, "c");
        let failed: Vec<_> = opened.failed.iter().map(|error| (&*error.upstream, error.kind)).collect();
        assert_eq!(failed, [("a", Kind::RateLimit)], "b does not serve this model");
    }

    #[tokio::test]
    async fn a_request_at_fault_is_not_carried_around() {
        let second = Arc::new(Scripted::new("b", [Step::say("hi")]));
        let chain = impatient(vec![
            link(Scripted::new("a", [Step::Fail(Kind::BadRequest)]), "*"),
            Link::new(Arc::clone(&second) as Arc<dyn Upstream>, vec!["*".into()]),
        ]);
        assert_eq!(chain.open(&request("m"), &call()).await.unwrap_err().kind, Kind::BadRequest);
        assert_eq!(second.calls(), 0);
    }

    #[tokio::test]
    async fn a_request_at_fault_is_told_as_such_after_a_failover_too() {
        let limited = || link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*");
        let overflow = Step::Fail(Kind::ContextOverflow);
        let chain = impatient(vec![limited(), link(Scripted::new("b", [overflow.clone()]), "*")]);
        let error = chain.open(&request("m"), &call()).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len()), (Kind::ContextOverflow, 1));
        // The local model's own limits are not the request's fault.
        let chain = impatient(vec![limited(), link(Scripted::local([overflow]), "*")]);
        assert_eq!(chain.open(&request("m"), &call()).await.unwrap_err().kind, Kind::Exhausted);
    }

    #[tokio::test]
    async fn when_all_fail_the_error_names_each() {
        let chain = impatient(vec![
            link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*"),
            link(Scripted::new("b", [Step::Fail(Kind::Timeout)]), "*"),
        ]);
        let error = chain.open(&request("m"), &call()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted);
        assert_eq!(error.message, "all 2 upstreams failed (a: rate_limit; b: timeout)");
        assert_eq!(error.attempts.len(), 2);
        assert_eq!(impatient(vec![]).open(&request("m"), &call()).await.unwrap_err().kind, Kind::NoRoute);
    }

    #[tokio::test]
    async fn what_nobody_can_say_is_told_as_such() {
        let unable = |name| link(Scripted::new(name, [Step::Fail(Kind::Unsupported)]), "*");
        let error = impatient(vec![unable("a"), unable("b")]).open(&request("m"), &call()).await.unwrap_err();
        assert_eq!((error.kind, &*error.upstream, error.attempts.len()), (Kind::Unsupported, "a", 1));
        let error = impatient(vec![unable("a")]).open(&request("m"), &call()).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len()), (Kind::Unsupported, 0));
        let down = link(Scripted::new("b", [Step::Fail(Kind::Server)]), "*");
        let error = impatient(vec![unable("a"), down]).open(&request("m"), &call()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted, "the second might have");
        let able = link(Scripted::new("b", [Step::say("hi")]), "*");
        let opened = impatient(vec![unable("a"), able]).open(&request("m"), &call()).await.unwrap();
        assert_eq!((&*opened.by, opened.failed.len()), ("b", 1));
    }

    #[tokio::test]
    async fn local_models_are_asked_of_the_local_model_alone() {
        let provider = Arc::new(Scripted::new("a", [Step::say("hi")]));
        let chain = impatient(vec![
            Link::new(Arc::clone(&provider) as Arc<dyn Upstream>, vec!["*".into()]),
            link(Scripted::local([Step::say("me")]), "*"),
        ]);
        assert_eq!(&*chain.open(&request("local/smollm2"), &call()).await.unwrap().by, "local");
        assert_eq!(provider.calls(), 0);
        assert_eq!(chain.origin(&request("local/x")), Origin::Local);
        assert_eq!(chain.origin(&request("x")), Origin::Provider);
    }

    #[tokio::test]
    async fn a_local_model_that_stands_in_for_nobody_is_asked_by_its_name_alone() {
        let local = Arc::new(Scripted::local([Step::say("me")]));
        let spare = Link::new(Arc::clone(&local) as Arc<dyn Upstream>, vec![]).in_order(false);
        let chain = impatient(vec![link(Scripted::new("a", [Step::Fail(Kind::Server)]), "*"), spare]);
        assert_eq!(chain.open(&request("m"), &call()).await.unwrap_err().kind, Kind::Server);
        assert_eq!(local.calls(), 0);
        assert_eq!(&*chain.open(&request("local/smollm2"), &call()).await.unwrap().by, "local");
        assert_eq!(chain.origin(&request("local/smollm2")), Origin::Local);
    }
}
