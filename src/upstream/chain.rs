//! The chain: one upstream after the other, until one answers.

use super::{Call, Error, Kind, Opened, Origin, Upstream};
use crate::chat::{Request, matches};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// Models with this prefix are the local model's alone.
const LOCAL_PREFIX: &str = "local/";

/// Tries its links in order. Itself an upstream, so chains nest.
pub struct Chain {
    name: Arc<str>,
    links: Vec<Link>,
}

/// An upstream, and the models it is asked for.
pub struct Link {
    upstream: Arc<dyn Upstream>,
    models: Vec<String>,
}

impl Link {
    /// `models` are patterns in which `*` stands for anything.
    pub fn new(upstream: Arc<dyn Upstream>, models: Vec<String>) -> Self {
        Self { upstream, models }
    }

    /// The local model stands in for any other; nobody else stands in for it.
    fn serves(&self, request: &Request) -> bool {
        match self.upstream.origin(request) {
            Origin::Local => true,
            Origin::Provider if is_local(&request.model) => false,
            Origin::Provider => self.models.iter().any(|pattern| matches(pattern, &request.model)),
        }
    }
}

impl Chain {
    /// A chain of `links`, asked in order.
    pub fn new(name: &str, links: Vec<Link>) -> Self {
        Self { name: name.into(), links }
    }

    /// Its links' names, in order.
    pub fn order(&self) -> Vec<&str> {
        self.links.iter().map(|link| link.upstream.name()).collect()
    }

    fn serving<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = &'a Arc<dyn Upstream>> {
        self.links.iter().filter(|link| link.serves(request)).map(|link| &link.upstream)
    }

    /// What to say when everyone failed. One failure speaks for itself.
    fn exhausted(&self, mut attempts: Vec<Error>, request: &Request) -> Error {
        match attempts.len() {
            0 => {
                let message =
                    format!("no upstream is configured for the model \"{}\"", shortened(&request.model));
                Error::new(Kind::NoRoute, &self.name, message)
            }
            1 => attempts.remove(0),
            // Nobody can say what is asked: the client had better ask otherwise.
            _ if attempts.iter().all(|failed| failed.kind == Kind::Unsupported) => {
                let first = attempts.remove(0);
                Error { attempts, ..first }
            }
            count => {
                let causes: Vec<String> = attempts
                    .iter()
                    .map(|failed| format!("{}: {}", failed.upstream, failed.kind.name()))
                    .collect();
                let message = format!("all {count} upstreams failed ({})", causes.join("; "));
                Error {
                    retry_after: soonest(&attempts),
                    attempts,
                    ..Error::new(Kind::Exhausted, &self.name, message)
                }
            }
        }
    }
}

/// When the first of them can be asked again, where any of them said so.
fn soonest(attempts: &[Error]) -> Option<Duration> {
    attempts.iter().filter_map(|failed| failed.retry_after).min()
}

/// Enough of a model's name to recognise it in an error.
fn shortened(model: &str) -> String {
    model.chars().take(100).collect()
}

#[async_trait]
impl Upstream for Chain {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, request: &Request) -> Origin {
        self.serving(request).next().map_or(Origin::Provider, |first| first.origin(request))
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        let mut attempts = Vec::new();
        for upstream in self.serving(request) {
            match upstream.open(request, call).await {
                Ok(mut opened) => {
                    attempts.append(&mut opened.failed);
                    return Ok(Opened { failed: attempts, ..opened });
                }
                Err(error) => {
                    // Its words may quote the request, so they are not for everyone's eyes.
                    tracing::warn!(upstream = %error.upstream, kind = error.kind.name(), status = error.status, "an upstream failed");
                    tracing::debug!(upstream = %error.upstream, message = %error.message, "what it said");
                    let hopeless = !error.kind.worth_failing_over();
                    // What is too much for the small model may be right for those who failed before it.
                    if hopeless && upstream.origin(request) == Origin::Provider {
                        return Err(Error { attempts, ..error });
                    }
                    attempts.push(error);
                }
            }
        }
        Err(self.exhausted(attempts, request))
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

    fn link(upstream: Scripted, models: &str) -> Link {
        Link::new(Arc::new(upstream), vec![models.to_owned()])
    }

    #[tokio::test]
    async fn the_first_that_answers_answers_and_the_failures_before_it_are_told() {
        let chain = Chain::new(
            "chain",
            vec![
                link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*"),
                link(Scripted::new("b", [Step::Fail(Kind::Server)]), "other-*"),
                link(Scripted::new("c", [Step::say("hi")]), "*"),
            ],
        );
        let opened = chain.open(&request("m"), &call()).await.unwrap();
        assert_eq!(&*opened.by, "c");
        let failed: Vec<_> = opened.failed.iter().map(|error| (&*error.upstream, error.kind)).collect();
        assert_eq!(failed, [("a", Kind::RateLimit)], "b does not serve this model");
    }

    #[tokio::test]
    async fn a_request_at_fault_is_not_carried_around() {
        let second = Arc::new(Scripted::new("b", [Step::say("hi")]));
        let chain = Chain::new(
            "chain",
            vec![
                link(Scripted::new("a", [Step::Fail(Kind::BadRequest)]), "*"),
                Link::new(Arc::clone(&second) as Arc<dyn Upstream>, vec!["*".into()]),
            ],
        );
        assert_eq!(chain.open(&request("m"), &call()).await.unwrap_err().kind, Kind::BadRequest);
        assert_eq!(second.calls(), 0);
    }

    #[tokio::test]
    async fn a_request_at_fault_is_told_as_such_after_a_failover_too() {
        let limited = || link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*");
        let overflow = Step::Fail(Kind::ContextOverflow);
        let chain = Chain::new("chain", vec![limited(), link(Scripted::new("b", [overflow.clone()]), "*")]);
        let error = chain.open(&request("m"), &call()).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len()), (Kind::ContextOverflow, 1));
        // The local model's own limits are not the request's fault.
        let chain = Chain::new("chain", vec![limited(), link(Scripted::local([overflow]), "*")]);
        assert_eq!(chain.open(&request("m"), &call()).await.unwrap_err().kind, Kind::Exhausted);
    }

    #[tokio::test]
    async fn when_all_fail_the_error_names_each() {
        let chain = Chain::new(
            "chain",
            vec![
                link(Scripted::new("a", [Step::Fail(Kind::RateLimit)]), "*"),
                link(Scripted::new("b", [Step::Fail(Kind::Timeout)]), "*"),
            ],
        );
        let error = chain.open(&request("m"), &call()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted);
        assert_eq!(error.message, "all 2 upstreams failed (a: rate_limit; b: timeout)");
        assert_eq!(error.attempts.len(), 2);
        assert_eq!(
            Chain::new("chain", vec![]).open(&request("m"), &call()).await.unwrap_err().kind,
            Kind::NoRoute
        );
    }

    #[tokio::test]
    async fn what_nobody_can_say_is_told_as_such() {
        let unable = |name| link(Scripted::new(name, [Step::Fail(Kind::Unsupported)]), "*");
        let error = Chain::new("chain", vec![unable("a"), unable("b")])
            .open(&request("m"), &call())
            .await
            .unwrap_err();
        assert_eq!((error.kind, &*error.upstream, error.attempts.len()), (Kind::Unsupported, "a", 1));
        let error = Chain::new("chain", vec![unable("a")]).open(&request("m"), &call()).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len()), (Kind::Unsupported, 0));
        let down = link(Scripted::new("b", [Step::Fail(Kind::Server)]), "*");
        let error =
            Chain::new("chain", vec![unable("a"), down]).open(&request("m"), &call()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted, "the second might have");
        let able = link(Scripted::new("b", [Step::say("hi")]), "*");
        let opened = Chain::new("chain", vec![unable("a"), able]).open(&request("m"), &call()).await.unwrap();
        assert_eq!((&*opened.by, opened.failed.len()), ("b", 1));
    }

    #[tokio::test]
    async fn local_models_are_asked_of_the_local_model_alone() {
        let provider = Arc::new(Scripted::new("a", [Step::say("hi")]));
        let chain = Chain::new(
            "chain",
            vec![
                Link::new(Arc::clone(&provider) as Arc<dyn Upstream>, vec!["*".into()]),
                link(Scripted::local([Step::say("me")]), "*"),
            ],
        );
        assert_eq!(&*chain.open(&request("local/smollm2"), &call()).await.unwrap().by, "local");
        assert_eq!(provider.calls(), 0);
        assert_eq!(chain.origin(&request("local/x")), Origin::Local);
        assert_eq!(chain.origin(&request("x")), Origin::Provider);
    }
}
