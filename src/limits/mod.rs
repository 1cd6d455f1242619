//! How much is let in: the [`Limiter`] hands out [`Permit`]s, or says no at once.
//!
//! There is one bound on everything in work at once, and there are limits on those who ask (`rate`).

pub mod bucket;
mod rate;

pub use rate::{Budget, Limit, Per, What, Who};

use crate::chat::matches;
use crate::clock::Millis;
use rate::{Counted, Limits, Reached, Used};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What the bound on everything is called.
const EVERYTHING: &str = "concurrency";

/// The moment at which a process begins: a budget whose time began a year before has a moment, too.
const BEGINNING: Duration = Duration::from_hours(400 * 24);

/// The most budgets that outlive a restart.
const MAX_USED: usize = 50_000;

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
    /// How often anything was charged.
    charges: AtomicU64,
    limits: Mutex<Limits>,
}

/// The right to be in work, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
    charge: Arc<Charge>,
    /// And where it is counted since it has taken a route.
    on_route: Option<Arc<Charge>>,
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
        let limits = Mutex::new(Limits::new(config.limits));
        let counts = Counts { epoch: Instant::now(), charges: AtomicU64::new(0), limits };
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
        Ok(Permit { _slot: slot, charge: self.charge(counted), on_route: None })
    }

    /// Counts a request that was let in by the limits on the route that it takes, too.
    pub fn take_route(&self, permit: &mut Permit, who: &Who<'_>) -> Result<(), Refusal> {
        let counted = self.counted.begin(who)?;
        permit.on_route = (!counted.is_empty()).then(|| self.charge(counted));
        Ok(())
    }

    fn charge(&self, counted: Vec<Counted>) -> Arc<Charge> {
        Arc::new(Charge { counts: Arc::clone(&self.counted), counted })
    }
}

/// What has been used of budgets, by the clock on the wall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    limit: Arc<str>,
    whose: Arc<str>,
    since: Millis,
    tokens: u64,
}

/// What outlives a restart.
impl Limiter {
    /// How much has happened since the start.
    pub fn charges(&self) -> u64 {
        self.counted.charges.load(Ordering::Relaxed)
    }

    /// Whether there is any budget, of which something could be used.
    pub fn has_budgets(&self) -> bool {
        self.counted.lock().has_budgets()
    }

    /// What has been used, where `wall` is the time of day.
    pub fn spending(&self, wall: Millis) -> Spending {
        let used = self.counted.lock().used(self.counted.now());
        let entry = |Used { limit, whose, age, tokens }| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            Entry { limit, whose, since: Millis(wall.0.saturating_sub(age)), tokens }
        };
        Spending(used.into_iter().take(MAX_USED).map(entry).collect())
    }

    /// Goes on from what was used before. Where the clock was set back, a budget's time begins now.
    pub fn restore(&self, Spending(entries): Spending, wall: Millis) {
        let now = self.counted.now();
        let mut limits = self.counted.lock();
        for Entry { limit, whose, since, tokens } in entries {
            limits.restore(now, Used { limit, whose, age: wall.since(since), tokens });
        }
    }
}

impl Counts {
    fn begin(&self, who: &Who<'_>) -> Result<Vec<Counted>, Refusal> {
        let begun = self.lock().begin(self.now(), who, matches);
        begun.map_err(|Reached { limit, what, wait }| Refusal { limit, what, retry_after: wait })
    }

    fn now(&self) -> Duration {
        BEGINNING + self.epoch.elapsed()
    }

    /// It is whole between any two lines.
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Where what the request costs is counted.
    pub fn charges(&self) -> Vec<Arc<Charge>> {
        [&self.charge].into_iter().chain(&self.on_route).map(Arc::clone).collect()
    }
}

impl Charge {
    /// It has cost so many tokens.
    pub fn tokens(&self, tokens: u64) {
        let now = self.counts.now();
        self.counts.lock().charge(now, &self.counted, tokens);
        self.counts.charges.fetch_add(1, Ordering::Relaxed);
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

    fn spend(permit: &Permit, tokens: u64) {
        permit.charges().iter().for_each(|charge| charge.tokens(tokens));
    }

    #[test]
    fn a_permit_given_back_lets_the_next_one_in() {
        let limiter = Limiter::new(Config { concurrent_requests: 1, ..Config::default() });
        let permit = limiter.admit(None).unwrap();
        assert_eq!(&*limiter.admit(None).unwrap_err().limit, "concurrency");
        drop(permit);
        assert!(limiter.admit(None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_is_spent_after_a_restart_too() {
        let hour = Duration::from_hours(1);
        let limiter = || {
            let budget = Some(Budget { tokens: 100, every: hour });
            let limit = Limit { name: "mine".into(), per: Per::Tenant, budget, ..Limit::default() };
            Limiter::new(Config { limits: vec![limit], ..Config::default() })
        };
        let who = Who { tenant: "t", project: "p", model: "m", ..Who::default() };
        let (before, wall) = (limiter(), Millis(1_800_000_000_000));
        spend(&before.admit(Some(&who)).unwrap(), 100);
        tokio::time::advance(hour / 2).await;
        let text = serde_json::to_string(&before.spending(wall)).unwrap();
        let restored = |wall: Millis| {
            let after = limiter();
            after.restore(serde_json::from_str(&text).unwrap(), wall);
            after.admit(Some(&who)).err().map(|refusal| (refusal.what, refusal.retry_after))
        };
        assert_eq!(restored(wall), Some((What::Budget, hour / 2)));
        assert_eq!(restored(wall.plus(hour / 4)), Some((What::Budget, hour / 4)));
        assert_eq!(restored(wall.plus(hour / 2)), None, "its time is over");
        assert_eq!(
            restored(Millis(0)),
            Some((What::Budget, hour)),
            "a clock that was set back gives nothing"
        );
        assert!(before.has_budgets() && !Limiter::new(Config::default()).has_budgets());
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
        let who = Who { tenant: "t1", project: "p", model: "m", ..Who::default() };
        spend(&limiter.admit(Some(&who)).unwrap(), 100);
        let refusal = limiter.admit(Some(&who)).unwrap_err();
        assert_eq!((&*refusal.limit, refusal.what), ("mine", What::Budget));
        assert_eq!(refusal.to_string(), "the budget is spent; there is more in 3600 s (limit \"mine\")");
        assert!(limiter.admit(None).is_ok() && limiter.admit(Some(&Who { tenant: "u", ..who })).is_ok());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(limiter.admit(Some(&who)).is_ok());
    }
}
