//! A second one is asked beside the first when that takes long; who has the first word answers, and the other is let go.
//!
//! It costs a call, so it is off unless it is switched on, comes out of the same budget as second tries, and is asked
//! of nobody who is in any trouble or limited.

use super::fault;
use super::order::Candidate;
use super::run::{Run, Tried, log, named};
use super::ward::Attempt;
use crate::upstream::health::{KeyId, Outcome};
use crate::upstream::{Call, Error, Kind, Opened, Priority};
use futures_util::future::{Either, select};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Who was asked beside the one who answers, or answers in its place.
const HEDGED: &str = "x-weir-hedged";

/// The longest time that can be written.
const LONGEST: Duration = Duration::from_mins(10);

/// When a second one is asked beside the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedge {
    /// Never.
    #[default]
    Off,
    /// When the first takes longer than 19 of 20 of its answers of late did; never while little is known.
    AtP95,
    /// After so long.
    After(Duration),
}

impl Hedge {
    /// `off`, `p95`, or a time: `800ms`, `2s`.
    pub fn parse(text: &str) -> Option<Self> {
        let time = || {
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let unit = match unit {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                _ => return None,
            };
            let time = unit.checked_mul(number.parse().ok()?)?;
            (unit..=LONGEST).contains(&time).then_some(Self::After(time))
        };
        match text {
            "off" => Some(Self::Off),
            "p95" => Some(Self::AtP95),
            _ => time(),
        }
    }
}

impl fmt::Display for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::AtP95 => f.write_str("p95"),
            Self::After(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl Run<'_> {
    /// After how long somebody else is asked beside `candidate`, where anybody can be.
    pub(super) fn hedge_after(&self, candidate: &Candidate<'_>, next: &[Candidate<'_>]) -> Option<Duration> {
        let planned = self.call.plan.as_ref().and_then(|plan| plan.hedge);
        let key = candidate.key.filter(|_| self.call.priority == Priority::User)?;
        let delay = match planned.unwrap_or(self.chain.config.hedge) {
            Hedge::Off => return None,
            Hedge::After(time) => time,
            Hedge::AtP95 => {
                let whole = !self.request.delivery.stream;
                self.chain
                    .ward
                    .latency_of(key, &candidate.model, whole, |known| known.quantile(0.95))
                    .flatten()?
            }
        };
        self.to_hedge_with(candidate, next).map(|_| delay)
    }

    /// Somebody else who is well, and reads as much. Who would find out whether it is well is none.
    fn to_hedge_with<'n, 'c>(
        &self,
        candidate: &Candidate<'_>,
        next: &'n [Candidate<'c>],
    ) -> Option<&'n Candidate<'c>> {
        let fit = |other: &&Candidate<'_>| {
            unit(other) != unit(candidate)
                && !self.has_no_room(other)
                && other.key.is_some_and(|key| self.chain.ward.is_well(key, &other.model))
        };
        next.iter().find(fit)
    }

    /// Asks `candidate`, and after `delay` somebody else beside it.
    pub(super) async fn ask_two(
        &mut self,
        candidate: &Candidate<'_>,
        next: &[Candidate<'_>],
        delay: Duration,
    ) -> Tried {
        let attempt = match self.attempt(candidate, false) {
            Ok(Some(attempt)) => attempt,
            Ok(None) => {
                return Tried::Failed(Error::new(Kind::NoRoute, &self.chain.name, "nobody was asked"));
            }
            Err(passed_over) => return Tried::PassedOver(passed_over),
        };
        self.chain.ward.first_try(candidate.key);
        self.made(candidate);
        let began = Instant::now();
        let opening = opening(candidate, self.call.clone(), self.until(next));
        let pause = sleep(delay);
        tokio::pin!(opening, pause);
        let opening = match select(opening, pause).await {
            Either::Left((ended, _)) => return self.settled(candidate, attempt, ended),
            Either::Right(((), opening)) => opening,
        };
        let Some((other, its_attempt)) = self.beside(candidate, attempt.key(), next) else {
            let ended = opening.await;
            return self.settled(candidate, attempt, ended);
        };
        // Behind those who have nobody else to answer them.
        let its_call = Call { priority: Priority::Background, ..self.call.clone() };
        let is_left = |left: &&Candidate<'_>| unit(left) != unit(other);
        let left: Vec<_> = next.iter().filter(is_left).cloned().collect();
        let its_opening = self::opening(other, its_call, self.until(&left));
        tokio::pin!(its_opening);
        match select(opening, its_opening).await {
            Either::Left((Ok(opened), _)) => {
                its_attempt.ended(Outcome::Unknown);
                self.failed.push(overtaken(other, true));
                Tried::Answered(self.begun(candidate, Some(attempt), hedged(opened, other)))
            }
            Either::Right((Ok(opened), _)) => {
                let whole = !self.request.delivery.stream;
                attempt.ended(Outcome::Overtaken { waited: began.elapsed(), whole });
                self.failed.push(overtaken(candidate, false));
                Tried::Answered(self.begun(other, Some(its_attempt), hedged(opened, other)))
            }
            Either::Left((Err(error), its_opening)) => {
                if !error.kind.worth_failing_over() || !self.chain.config.triggers(&error) {
                    return self.settled(candidate, attempt, Err(error));
                }
                let failure = self.noted(candidate, attempt, error);
                match its_opening.await {
                    Ok(opened) => {
                        self.failed.push(failure);
                        Tried::Answered(self.begun(other, Some(its_attempt), hedged(opened, other)))
                    }
                    Err(error) => {
                        self.failed_beside(other, its_attempt, error);
                        Tried::Failed(failure)
                    }
                }
            }
            Either::Right((Err(error), opening)) => {
                self.failed_beside(other, its_attempt, error);
                let ended = opening.await.map(|opened| hedged(opened, other));
                self.settled(candidate, attempt, ended)
            }
        }
    }

    /// The right to ask somebody else beside, where there is one and it can be afforded.
    fn beside<'n, 'c>(
        &mut self,
        candidate: &Candidate<'_>,
        key: KeyId,
        next: &'n [Candidate<'c>],
    ) -> Option<(&'n Candidate<'c>, Attempt)> {
        if self.calls >= self.chain.config.max_calls {
            return None;
        }
        let other = self.to_hedge_with(candidate, next).filter(|_| self.chain.ward.another_try(key))?;
        let attempt = self.attempt(other, false).ok()??;
        self.made(other);
        tracing::info!(
            upstream = %candidate.profile.name, beside = %other.profile.name,
            correlation_id = self.call.envelope.correlation_id.as_str(), "slow: another one is asked beside"
        );
        Some((other, attempt))
    }

    fn settled(
        &mut self,
        candidate: &Candidate<'_>,
        attempt: Attempt,
        ended: Result<Opened, Error>,
    ) -> Tried {
        match ended {
            Ok(opened) => Tried::Answered(self.begun(candidate, Some(attempt), opened)),
            Err(error) => Tried::Failed(self.noted(candidate, attempt, error)),
        }
    }

    /// Tells the ward of a failure, and has it ready to be told to the client.
    fn noted(&self, candidate: &Candidate<'_>, attempt: Attempt, error: Error) -> Error {
        log(candidate, &error);
        let triggers = self.chain.config.triggers(&error);
        attempt.ended(if triggers { fault::outcome(&error) } else { Outcome::Unknown });
        self.with_wait(candidate, error)
    }

    /// Whoever has failed beside is not asked again in this round.
    fn failed_beside(&mut self, other: &Candidate<'_>, attempt: Attempt, error: Error) {
        let error = self.noted(other, attempt, error);
        self.failed.push(Error { beside: true, ..error });
        self.over.extend(other.key.map(|key| (key, Arc::clone(&other.model))));
    }
}

/// Whom the ward knows.
fn unit<'c>(candidate: &'c Candidate<'_>) -> (Option<KeyId>, &'c str) {
    (candidate.key, &candidate.model)
}

/// Asks `candidate`, until then.
pub(super) async fn opening(candidate: &Candidate<'_>, call: Call, until: Instant) -> Result<Opened, Error> {
    // Whoever waits in a queue of its own gives up by then, and says so.
    let call = Call { deadline: until, ..call };
    let opening = candidate.profile.upstream.open(&candidate.request, &call);
    let opened = tokio::time::timeout_at(until, opening).await.unwrap_or_else(|_| {
        let why = "no answer in the time that the request leaves it";
        Err(Error::new(Kind::Timeout, &candidate.profile.name, why))
    });
    opened.map_err(|error| named(candidate, error))
}

fn overtaken(candidate: &Candidate<'_>, beside: bool) -> Error {
    let error = Error::new(Kind::Overtaken, &candidate.rung.link.name, "another one was quicker");
    Error { beside, ..named(candidate, error) }
}

fn hedged(mut opened: Opened, other: &Candidate<'_>) -> Opened {
    opened.headers.push((HEDGED.to_owned(), other.profile.name.to_string()));
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hedge_is_written_as_it_is_read() {
        for (text, hedge) in [
            ("off", Some(Hedge::Off)),
            ("p95", Some(Hedge::AtP95)),
            ("800ms", Some(Hedge::After(Duration::from_millis(800)))),
            ("2s", Some(Hedge::After(Duration::from_secs(2)))),
            ("0ms", None),
            ("9999999999999999999s", None),
            ("11m", None),
            ("ms", None),
            ("800", None),
            ("", None),
        ] {
            assert_eq!(Hedge::parse(text), hedge, "{text}");
            let again = hedge.map(|hedge| hedge.to_string());
            assert_eq!(again.as_deref().and_then(Hedge::parse), hedge, "{text}");
        }
    }
}
