//! [`Gated`]: an upstream with a [`Gate`] in front of it.

use super::gate::{Gate, Pass, Refused};
use super::pace::Seen;
use super::{Limits, Why};
use crate::chat::{Chunk, Event, Request};
use crate::upstream::{Call, Chunks, Error, Kind, Opened, Origin, Upstream};
use crate::wire::tokens::estimate_tokens;
use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an answer is taken to be where nobody says, and at most.
const USUAL_ANSWER_TOKENS: u64 = 512;
const LONGEST_ANSWER_TOKENS: u64 = 4_096;

/// An upstream that says with its answer that it takes no more is given so long; whoever would have to wait for longer
/// had better be refused, for then the chain knows how long, and asks another one.
const A_MOMENT: Duration = Duration::from_secs(2);

/// Where in the line a request stood, and how long, in milliseconds.
const POSITION: &str = "x-weir-queue-position";
const WAITED: &str = "x-weir-queue-ms";

/// Asks the upstream behind it when it is the request's turn.
pub struct Gated {
    upstream: Arc<dyn Upstream>,
    name: Arc<str>,
    gate: Arc<Gate>,
    /// Whether it matters how long requests are.
    counts_tokens: bool,
}

impl Gated {
    /// `upstream`, which takes so much.
    pub fn new(upstream: Arc<dyn Upstream>, limits: Limits) -> Self {
        let name = upstream.name().into();
        let counts_tokens = limits != Limits::default();
        Self { upstream, name, gate: Gate::new(limits), counts_tokens }
    }

    /// Its gate.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn tokens(&self, request: &Request) -> u64 {
        if !self.counts_tokens {
            return 1;
        }
        let limit = request.sampling.answer_limit().map_or(USUAL_ANSWER_TOKENS, u64::from);
        estimate_tokens(request) + limit.min(LONGEST_ANSWER_TOKENS)
    }

    fn refusal(&self, Refused { why, wait }: Refused) -> Error {
        let message = match why {
            Why::Full => "too many requests wait for it".to_owned(),
            Why::TooLate => format!("its turn would come too late, in about {} s", wait.as_secs_f64().ceil()),
        };
        Error { retry_after: Some(wait), ..Error::new(Kind::Busy, &self.name, message) }
    }
}

#[async_trait]
impl Upstream for Gated {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, request: &Request) -> Origin {
        self.upstream.origin(request)
    }

    fn choose(&self, request: &Request, call: Call) -> Call {
        self.upstream.choose(request, call)
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        let passed = self.gate.pass(call, self.tokens(request)).await;
        let pass = passed.map_err(|refused| self.refusal(refused))?;
        match self.upstream.open(request, call).await {
            Ok(mut opened) => {
                pass.seen(Seen::Answered);
                opened.load.waited += pass.waited;
                if let Some(full_for) = opened.load.full_for.filter(|time| *time <= A_MOMENT) {
                    pass.pause(full_for);
                }
                if let Some(position) = pass.position() {
                    opened.headers.push((POSITION.to_owned(), position.to_string()));
                    opened.headers.push((WAITED.to_owned(), pass.waited.as_millis().to_string()));
                }
                let chunks = Passing { chunks: opened.chunks, pass: Some(pass) }.boxed();
                Ok(Opened { chunks, ..opened })
            }
            Err(error) => {
                pass.seen(match error.kind {
                    Kind::RateLimit | Kind::Overloaded => Seen::Refused(error.retry_after),
                    _ => Seen::Neither,
                });
                Err(error)
            }
        }
    }
}

/// An answer on its way through the gate: it is in work until it has ended, or is dropped.
struct Passing {
    chunks: Chunks,
    pass: Option<Pass>,
}

impl Passing {
    fn see(&mut self, chunk: &Chunk) {
        let Some(pass) = &mut self.pass else { return };
        for event in &chunk.events {
            match event {
                Event::Usage(usage) => pass.used(usage.input + usage.output),
                Event::End => return self.pass = None,
                _ => {}
            }
        }
    }
}

impl Stream for Passing {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.chunks.poll_next_unpin(context);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => self.see(chunk),
            Poll::Ready(None | Some(Err(_))) => self.pass = None,
            Poll::Pending => {}
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Scripted, Step};
    use crate::upstream::Load;

    fn gated(limits: Limits, steps: impl IntoIterator<Item = Step>) -> Gated {
        Gated::new(Arc::new(Scripted::new("a", steps)), limits)
    }

    fn one() -> Limits {
        Limits { concurrent: Some(1), ..Limits::default() }
    }

    fn call(seconds: u64) -> Call {
        Call::within(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_held_until_the_answer_is_over() {
        let gated = gated(one(), [Step::say("hi")]);
        let request = Request::default();
        let mut first = gated.open(&request, &call(60)).await.unwrap();
        let busy = gated.open(&request, &call(1)).await.unwrap_err();
        assert_eq!((busy.kind, &*busy.upstream), (Kind::Busy, "a"));
        assert!(busy.retry_after.is_some());
        while let Some(Ok(_)) = first.chunks.next().await {}
        gated.open(&request, &call(1)).await.unwrap();
        // That one was dropped unread.
        gated.open(&request, &call(1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_waited_is_told_where_and_how_long() {
        let gated = Arc::new(gated(one(), [Step::say("hi")]));
        let first = gated.open(&Request::default(), &call(60)).await.unwrap();
        let second = tokio::spawn({
            let gated = Arc::clone(&gated);
            async move { gated.open(&Request::default(), &call(60)).await.unwrap().headers }
        });
        tokio::time::sleep(Duration::from_millis(250)).await;
        drop(first);
        let told = second.await.unwrap();
        assert_eq!(told, [(POSITION.to_owned(), "1".to_owned()), (WAITED.to_owned(), "250".to_owned())]);
    }

    /// Says with its answer for how long it takes no more.
    struct Full(Duration);

    #[async_trait]
    impl Upstream for Full {
        fn name(&self) -> &'static str {
            "full"
        }

        fn origin(&self, _: &Request) -> Origin {
            Origin::Provider
        }

        async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
            let opened = Scripted::new("full", [Step::say("hi")]).open(request, call).await?;
            Ok(Opened { load: Load { full_for: Some(self.0), ..Load::default() }, ..opened })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_that_nothing_is_left_for_a_moment_is_given_it() {
        for (full_for, waited) in [(1500, 1500), (20_000, 0)] {
            let upstream = Full(Duration::from_millis(full_for));
            let gated = Gated::new(Arc::new(upstream), Limits::default());
            let began = tokio::time::Instant::now();
            let first = gated.open(&Request::default(), &call(60)).await.unwrap();
            assert_eq!((first.load.waited, began.elapsed()), (Duration::ZERO, Duration::ZERO));
            let second = gated.open(&Request::default(), &call(60)).await.unwrap();
            let told = second.load.waited.as_millis();
            assert!((waited..waited + 10).contains(&told), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_by_the_provider_makes_the_next_ones_wait() {
        let gated = gated(Limits::default(), [Step::Fail(Kind::RateLimit), Step::say("hi")]);
        assert_eq!(gated.open(&Request::default(), &call(60)).await.unwrap_err().kind, Kind::RateLimit);
        assert_eq!(gated.gate().report().at_once, Some(1));
        gated.open(&Request::default(), &call(60)).await.unwrap();
    }
}
