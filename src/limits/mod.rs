//! How much is let in: the [`Limiter`] hands out [`Permit`]s, or says no at once.
//!
//! There is one bound on everything in work at once, and there are limits on those who ask (`rate`).

pub mod bucket;
mod rate;

pub use rate::{Budget, Limit, Per, What, Who};

use crate::chat::matches;
use rate::{Counted, Limits, Reached};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What the bound on everything is called.
const EVERYTHING: &str = "concurrency";

/// How much is let in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most requests in work at the same time; more get a 429 at once.
    pub concurrent_requests: usize,
    /// Limits on those who ask.
    pub limits: Vec<Limit>,
}

impl Default for Config {
    fn default() -> Self {
        Self { concurrent_requests: 1024, limits: Vec::new() }
    }
}

/// Lets requests in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limiter {
    slots: Arc<Semaphore>,
    counted: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    epoch: Instant,
    limits: Mutex<Limits>,
}

/// The right to be in work, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
    charge: Arc<Charge>,
}

/// Where a request is counted, for as long as anyone holds it.
#[derive(Debug)]
pub struct Charge {
    counts: Arc<Counts>,
    counted: Vec<Counted>,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Refusal {
    /// The limit that is reached: the `limit_id` of the metric.
    pub limit: Arc<str>,
    /// What of it.
    pub what: What,
    /// When to come back.
    pub retry_after: Duration,
}

impl Refusal {
    fn words(&self) -> String {
        let Self { limit, what, retry_after } = self;
        let seconds = retry_after.as_secs_f64().ceil();
        match what {
            What::Concurrency if **limit == *EVERYTHING => {
                "too many requests are in work at once; try again in a moment".to_owned()
            }
            What::Concurrency => format!("too many of your requests are in work at once (limit \"{limit}\")"),
            What::Requests => format!("too many requests; come back in {seconds} s (limit \"{limit}\")"),
            What::Tokens => format!("too many tokens; come back in {seconds} s (limit \"{limit}\")"),
            What::Budget => format!("the budget is spent; there is more in {seconds} s (limit \"{limit}\")"),
        }
    }
}

impl Limiter {
    /// A limiter with these bounds.
    pub fn new(config: Config) -> Self {
        let most = config.concurrent_requests.clamp(1, Semaphore::MAX_PERMITS);
        let counts = Counts { epoch: Instant::now(), limits: Mutex::new(Limits::new(config.limits)) };
        Self { slots: Arc::new(Semaphore::new(most)), counted: Arc::new(counts) }
    }

    /// Lets a request in, or says no at once: whoever waits here would only time out later. What nobody asks for
    /// (`None`) is under the bound on everything alone.
    pub fn admit(&self, who: Option<&Who<'_>>) -> Result<Permit, Refusal> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refusal {
            limit: EVERYTHING.into(),
            what: What::Concurrency,
            retry_after: Duration::from_secs(1),
        })?;
        let counted = who.map_or(Ok(Vec::new()), |who| self.counted.begin(who))?;
        let charge = Arc::new(Charge { counts: Arc::clone(&self.counted), counted });
        Ok(Permit { _slot: slot, charge })
    }
}

impl Counts {
    fn begin(&self, who: &Who<'_>) -> Result<Vec<Counted>, Refusal> {
        let begun = self.lock().begin(self.epoch.elapsed(), who, matches);
        begun.map_err(|Reached { limit, what, wait }| Refusal { limit, what, retry_after: wait })
    }

    /// It is whole between any two lines.
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Where what the request costs is counted.
    pub fn charge(&self) -> Arc<Charge> {
        Arc::clone(&self.charge)
    }
}

impl Charge {
    /// It has cost so many tokens.
    pub fn tokens(&self, tokens: u64) {
        let now = self.counts.epoch.elapsed();
        self.counts.lock().charge(now, &self.counted, tokens);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.counts.lock().end(&self.counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_given_back_lets_the_next_one_in() {
        let limiter = Limiter::new(Config { concurrent_requests: 1, ..Config::default() });
        let permit = limiter.admit(None).unwrap();
        assert_eq!(&*limiter.admit(None).unwrap_err().limit, "concurrency");
        drop(permit);
        assert!(limiter.admit(None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_who_has_spent_it_comes_back_later_and_what_nobody_asks_for_goes_on() {
        let limit = Limit {
            name: "mine".into(),
            tenants: vec!["t*".to_owned()],
            per: Per::Tenant,
            budget: Some(Budget { tokens: 100, every: Duration::from_hours(1) }),
            ..Limit::default()
        };
        let limiter = Limiter::new(Config { limits: vec![limit], ..Config::default() });
        let who = Who { tenant: "t1", project: "p", model: "m" };
        limiter.admit(Some(&who)).unwrap().charge().tokens(100);
        let refusal = limiter.admit(Some(&who)).unwrap_err();
        assert_eq!((&*refusal.limit, refusal.what), ("mine", What::Budget));
        assert_eq!(refusal.to_string(), "the budget is spent; there is more in 3600 s (limit \"mine\")");
        assert!(limiter.admit(None).is_ok() && limiter.admit(Some(&Who { tenant: "u", ..who })).is_ok());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(limiter.admit(Some(&who)).is_ok());
    }
}
