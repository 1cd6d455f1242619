//! One request on its way through the chain.
//!
//! Everyone who may be asked is asked, in order, until one answers. Only who is asked with nobody left behind him is
//! asked a second time after a moment: another one answers sooner. When all are left alone, it waits for the first of
//! them, if there is time; and before the model in this process stands in, it waits for those who come back in
//! a moment.

use super::fault::{self, passed_over, passes_by_itself};
use super::order::Candidate;
use super::ward::{Attempt, Unit};
use super::{Chain, follow, hedge};
use crate::chat::Request;
use crate::upstream::health::{KeyId, Outcome, Reason, Refused};
use crate::upstream::{Call, Error, Kind, Opened, Origin, Priority};
use crate::wire::tokens::estimate_tokens;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Who waits for somebody must have so much time left afterwards.
const TIME_TO_ANSWER: Duration = Duration::from_secs(1);

pub(super) struct Run<'r> {
    pub(super) chain: &'r Chain,
    pub(super) request: &'r Request,
    pub(super) call: &'r Call,
    model: Arc<str>,
    pub(super) failed: Vec<Error>,
    /// Who has failed in this round before its turn, since it was asked beside another one.
    pub(super) over: Vec<(KeyId, Arc<str>)>,
    /// How many calls were made, and how long was waited for others' sake.
    pub(super) calls: u32,
    /// Whom they were made to.
    asked: Vec<KeyId>,
    waited: Duration,
    /// The conversation does not fit into so many tokens.
    too_small: Option<u64>,
}

/// What came of asking everyone.
enum Round {
    Answered(Opened),
    /// Nobody else would do better.
    Hopeless(Error),
    /// Somebody can be asked again so soon that it is worth to wait.
    Soon(Duration),
    Nobody,
}

/// A call that was made or was not to be.
pub(super) enum Tried {
    Answered(Opened),
    /// Not asked: nothing was spent.
    PassedOver(Error),
    Failed(Error),
}

impl<'r> Run<'r> {
    pub(super) fn new(chain: &'r Chain, request: &'r Request, call: &'r Call) -> Self {
        Self {
            chain,
            request,
            call,
            model: request.model.as_str().into(),
            failed: Vec::new(),
            over: Vec::new(),
            calls: 0,
            asked: Vec::new(),
            waited: Duration::ZERO,
            too_small: None,
        }
    }

    pub(super) async fn answer(mut self) -> Result<Opened, Error> {
        loop {
            let candidates = self.chain.candidates(self.request, self.call);
            match self.round(&candidates).await {
                Round::Answered(mut opened) => {
                    self.failed.append(&mut opened.failed);
                    return Ok(Opened { failed: self.failed, ..opened });
                }
                Round::Hopeless(error) => return Err(Error { attempts: self.failed, ..error }),
                Round::Soon(wait) => self.wait(wait).await,
                Round::Nobody => match self.earliest(&candidates).filter(|wait| self.has_time_for(*wait)) {
                    Some(wait) => self.wait(wait).await,
                    None => return Err(fault::exhausted(&self.chain.name, self.failed, &self.model)),
                },
            }
        }
    }

    async fn round(&mut self, candidates: &[Candidate<'_>]) -> Round {
        // Who was only passed over is told of once.
        self.failed.retain(|error| error.asked);
        self.over.clear();
        for (at, candidate) in candidates.iter().enumerate() {
            if self.call.left().is_zero() {
                break;
            }
            let spent = candidate.key.is_some() && self.calls >= self.chain.config.max_calls;
            if spent || self.has_no_room(candidate) || self.is_over(candidate) {
                continue;
            }
            if candidate.key.is_none()
                && let Some(wait) = self.soon(&candidates[..at])
            {
                return Round::Soon(wait);
            }
            let next = candidates.get(at + 1..).unwrap_or_default();
            let tried = match self.hedge_after(candidate, next) {
                Some(delay) => self.ask_two(candidate, next, delay).await,
                None => self.ask(candidate, next, candidates).await,
            };
            match tried {
                Tried::Answered(opened) => return Round::Answered(opened),
                Tried::PassedOver(error) => self.failed.push(error),
                Tried::Failed(error) => {
                    if self.is_hopeless(&error, candidate, candidates) {
                        return Round::Hopeless(error);
                    }
                    self.failed.push(error);
                }
            }
        }
        Round::Nobody
    }

    /// Asks one, and again where there is nobody else and it may be another's moment.
    async fn ask(
        &mut self,
        candidate: &Candidate<'_>,
        next: &[Candidate<'_>],
        all: &[Candidate<'_>],
    ) -> Tried {
        let config = &self.chain.config;
        let mut nth = 0;
        loop {
            nth += 1;
            let alone = !self.another_may_be_asked(candidate, all) && !self.was_of_no_use(candidate);
            let attempt = match self.attempt(candidate, alone) {
                Ok(attempt) => attempt,
                Err(passed_over) => return Tried::PassedOver(passed_over),
            };
            if nth == 1 {
                self.chain.ward.first_try(candidate.key);
            }
            self.made(candidate);
            let error = match hedge::opening(candidate, self.call.clone(), self.until(next)).await {
                Ok(opened) => return Tried::Answered(self.begun(candidate, attempt, opened)),
                Err(error) => error,
            };
            log(candidate, &error);
            let Some(attempt) = attempt else { return Tried::Failed(error) };
            let again = alone && nth < config.max_attempts && self.calls < config.max_calls;
            let pause = again.then(|| self.pause(&attempt, &error, nth)).flatten();
            let Some(pause) = pause else {
                // What the chain does not go on after is the client's to judge, and nobody is left alone for it.
                let told = if config.triggers(&error) { fault::outcome(&error) } else { Outcome::Unknown };
                attempt.ended(told);
                return Tried::Failed(self.with_wait(candidate, error));
            };
            attempt.ended(fault::reason(&error).map_or(Outcome::Unknown, Outcome::Stumbled));
            self.failed.push(error);
            sleep(pause).await;
        }
    }

    /// A call is made to `candidate`.
    pub(super) fn made(&mut self, candidate: &Candidate<'_>) {
        self.calls += 1;
        self.asked.extend(candidate.key);
    }

    fn is_over(&self, candidate: &Candidate<'_>) -> bool {
        self.over.iter().any(|(key, model)| (Some(*key), model) == (candidate.key, &candidate.model))
    }

    /// The right to ask; a stand-in needs none.
    pub(super) fn attempt(&self, candidate: &Candidate<'_>, alone: bool) -> Result<Option<Attempt>, Error> {
        let Some(key) = candidate.key else { return Ok(None) };
        let attempt = self.chain.ward.ask(key, &candidate.model, alone);
        attempt.map(Some).map_err(|refused| {
            let name = &candidate.profile.name;
            named(candidate, passed_over(name, refused, |refused| self.left(refused)))
        })
    }

    /// Until when one is waited for, so that there is time left for those who come next.
    pub(super) fn until(&self, next: &[Candidate<'_>]) -> Instant {
        self.patience(next).map_or(self.call.deadline, |patience| Instant::now() + patience)
    }

    /// How long one is waited for while others are left: half of the time; of a reply that comes whole, which has
    /// cost a lot by then, three quarters.
    fn patience(&self, next: &[Candidate<'_>]) -> Option<Duration> {
        let others = next.iter().any(|candidate| self.may_be_asked(candidate));
        let left = self.call.left();
        others.then(|| if self.request.delivery.stream { left / 2 } else { left * 3 / 4 })
    }

    pub(super) fn begun(
        &self,
        candidate: &Candidate<'_>,
        attempt: Option<Attempt>,
        opened: Opened,
    ) -> Opened {
        let first = self.failed.iter().find(|failed| !failed.beside);
        if let Some(first) = first.filter(|first| first.upstream != candidate.profile.name) {
            let correlation_id = self.call.envelope.correlation_id.as_str();
            let (by, used) = (&opened.by, &candidate.profile.name);
            let notice = format!("⚡ Switched to {by} ({} {})", first.upstream, first.kind.words());
            tracing::info!(correlation_id, used = %used, "{notice}");
        }
        let whole = !self.request.delivery.stream;
        let Some(attempt) = attempt else { return opened };
        let key = attempt.key();
        let busy = attempt.answered(whole, opened.load.waited);
        let unit = Unit {
            key,
            upstream: Arc::clone(&candidate.rung.link.name),
            model: Arc::clone(&candidate.model),
        };
        Opened { chunks: follow::to_the_end(opened.chunks, &self.chain.ward, unit, busy), ..opened }
    }

    /// How long to wait before the same one is asked again; `None`: it is not.
    fn pause(&self, attempt: &Attempt, error: &Error, nth: u32) -> Option<Duration> {
        let config = &self.chain.config;
        let reason = fault::reason(error).filter(|reason| passes_by_itself(*reason))?;
        // Who has waited for a silent one does not wait again, and who only looks asks once.
        let worth = config.triggers(error) && reason != Reason::Timeout;
        if !worth || attempt.is_probe() || self.call.priority == Priority::Background {
            return None;
        }
        let pause = match error.retry_after {
            Some(wait) if wait > self.chain.ward.rules().short_wait => return None,
            Some(wait) => wait,
            None => config.backoff.wait(nth, rand::random::<f64>()),
        };
        let fits = self.call.left() > pause + TIME_TO_ANSWER;
        (fits && self.chain.ward.another_try(attempt.key())).then_some(pause)
    }

    /// With the time after which it may be asked again, where it did not say so itself.
    pub(super) fn with_wait(&self, candidate: &Candidate<'_>, error: Error) -> Error {
        let left =
            candidate.key.and_then(|key| match self.chain.ward.may_ask(key, &candidate.model, false) {
                Err(refused) => Some(self.left(refused)),
                Ok(()) => None,
            });
        if let (Some(left), None) = (left, error.retry_after) {
            tracing::info!(upstream = %candidate.profile.name, seconds = left.as_secs(), "left alone for a while");
        }
        Error { retry_after: error.retry_after.max(left), ..error }
    }

    fn is_hopeless(&mut self, error: &Error, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
        let stand_in = candidate.rung.link.origin(self.request) == Origin::Local;
        // What is too much for the small model may be right for those who failed before it.
        if stand_in {
            return false;
        }
        if error.kind == Kind::ContextOverflow {
            return !self.larger_window(candidate, all);
        }
        !error.kind.worth_failing_over() || !self.chain.config.triggers(error)
    }

    /// Whether somebody reads longer conversations; whoever does not is not asked any more.
    fn larger_window(&mut self, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
        let known = candidate.rung.link.window(&candidate.model);
        let window = known.unwrap_or_else(|| estimate_tokens(self.request));
        self.too_small = Some(self.too_small.map_or(window, |before| before.max(window)));
        all.iter().any(|other| other.key.is_some() && !self.has_no_room(other))
    }

    pub(super) fn has_no_room(&self, candidate: &Candidate<'_>) -> bool {
        let Some(too_small) = self.too_small else { return false };
        candidate.rung.link.window(&candidate.model).is_none_or(|window| window <= too_small)
    }

    /// Whether somebody else who gives a provider's answer may be asked at once.
    fn another_may_be_asked(&self, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
        let other = |other: &&Candidate<'_>| {
            other.key.is_some() && (other.key, &other.model) != (candidate.key, &candidate.model)
        };
        all.iter().filter(other).any(|other| !self.has_no_room(other) && self.may_be_asked(other))
    }

    fn may_be_asked(&self, candidate: &Candidate<'_>) -> bool {
        candidate.key.is_none_or(|key| self.chain.ward.may_ask(key, &candidate.model, false).is_ok())
    }

    /// After how long the first of `candidates` may be asked, where waiting helps.
    fn earliest(&self, candidates: &[Candidate<'_>]) -> Option<Duration> {
        let waits =
            candidates.iter().filter(|candidate| !self.has_no_room(candidate)).filter_map(|candidate| {
                let Err(refused) = self.chain.ward.may_ask(candidate.key?, &candidate.model, true) else {
                    // It could be asked this very moment; but not what it has no words for.
                    return (!self.was_of_no_use(candidate)).then_some(Duration::ZERO);
                };
                match refused {
                    // Who says when to come back is waited for; who has just failed us again is not.
                    Refused::Cooling { reason: Reason::RateLimit | Reason::Overloaded, .. } => {
                        Some(self.left(refused))
                    }
                    Refused::Cooling { reason, .. }
                        if passes_by_itself(reason) && self.may_be_tried_again(candidate) =>
                    {
                        Some(self.left(refused))
                    }
                    // Somebody looks at it in a moment, and this may be the request that does.
                    Refused::Cooling { reason, .. }
                        if reason.waits_for_hands() && !self.was_of_no_use(candidate) =>
                    {
                        Some(self.left(refused)).filter(|left| *left <= self.chain.ward.rules().short_wait)
                    }
                    Refused::Cooling { .. } | Refused::Disabled => None,
                }
            });
        waits.min()
    }

    /// The same, where it is a moment only and there is time. A stand-in is put off once: whoever was waited for in vain
    /// is down for longer than a moment.
    fn soon(&self, before: &[Candidate<'_>]) -> Option<Duration> {
        if !self.waited.is_zero() {
            return None;
        }
        let short = self.chain.ward.rules().short_wait;
        let is_worth = |candidate: &&Candidate<'_>| {
            self.may_be_tried_again(candidate) && !self.lasts_until_repaired(candidate)
        };
        let worth: Vec<_> = before.iter().filter(is_worth).cloned().collect();
        self.earliest(&worth).filter(|wait| *wait <= short && self.has_time_for(*wait))
    }

    /// Whether it is left alone for what somebody must repair: then a stand-in is the better answer.
    fn lasts_until_repaired(&self, candidate: &Candidate<'_>) -> bool {
        let refused = candidate.key.map(|key| self.chain.ward.may_ask(key, &candidate.model, true));
        matches!(refused, Some(Err(Refused::Cooling { reason, .. })) if reason.waits_for_hands())
    }

    /// Whether it failed this request for a reason that does not pass in a moment: it will again.
    fn was_of_no_use(&self, candidate: &Candidate<'_>) -> bool {
        let of_it = |error: &&Error| error.asked && error.upstream == candidate.profile.name;
        let passes = |error: &Error| fault::reason(error).is_some_and(passes_by_itself);
        self.failed.iter().filter(of_it).any(|error| !passes(error))
    }

    /// Whoever asks to be left alone for a moment again and again is not waited for again and again.
    fn may_be_tried_again(&self, candidate: &Candidate<'_>) -> bool {
        let tries = self.asked.iter().filter(|key| Some(**key) == candidate.key).count();
        u32::try_from(tries).is_ok_and(|tries| tries < self.chain.config.max_attempts)
    }

    fn left(&self, refused: Refused) -> Duration {
        match refused {
            Refused::Cooling { until, .. } => until.since(self.chain.ward.now()),
            Refused::Disabled => Duration::ZERO,
        }
    }

    fn has_time_for(&self, wait: Duration) -> bool {
        self.call.priority == Priority::User
            && self.calls < self.chain.config.max_calls
            && self.waited + wait <= self.chain.config.max_wait
            && self.call.left() > wait + TIME_TO_ANSWER
    }

    async fn wait(&mut self, wait: Duration) {
        // Never quite nothing: whoever waits lets others go on.
        let wait = wait.max(Duration::from_millis(10));
        tracing::info!(seconds = wait.as_secs_f64(), "all are left alone: waiting for the first of them");
        let began = Instant::now();
        self.chain.ward.wait(wait).await;
        self.waited += began.elapsed().max(Duration::from_millis(1));
    }
}

/// A failure is told of under the name of the key, where there are several, and with the sort of provider.
pub(super) fn named(candidate: &Candidate<'_>, error: Error) -> Error {
    let link = &candidate.rung.link;
    let upstream = if link.profiles.len() < 2 { error.upstream } else { Arc::clone(&candidate.profile.name) };
    Error { upstream, family: error.family.or(link.family), ..error }
}

pub(super) fn log(candidate: &Candidate<'_>, error: &Error) {
    // Its words may quote the request, so they are not for everyone's eyes.
    tracing::warn!(
        upstream = %candidate.profile.name, kind = error.kind.name(), status = error.status,
        retry_after = error.retry_after.map(|wait| wait.as_secs_f64()), "an upstream failed"
    );
    tracing::debug!(upstream = %candidate.profile.name, message = %error.message, "what it said");
}
