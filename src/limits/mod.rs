//! How much is let in: the [`Limiter`] hands out [`Permit`]s, or says no at once.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much is let in at once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most requests in work at the same time; more get a 429 at once.
    pub concurrent_requests: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { concurrent_requests: 1024 }
    }
}

/// Lets requests in.
#[derive(Clone, Debug)]
pub struct Limiter {
    slots: Arc<Semaphore>,
}

/// The right to be in work, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
}

/// Why a request is not let in. The name is stable: it is the `limit_id` of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many requests are in work.
    #[error("too many requests are in work at once; try again in a moment")]
    Concurrency,
}

impl Refusal {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
        }
    }
}

impl Limiter {
    /// A limiter with these bounds.
    pub fn new(config: Config) -> Self {
        let most = config.concurrent_requests.clamp(1, Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(most)) }
    }

    /// Lets a request in, or says no at once: whoever waits here would only time out later.
    pub fn admit(&self) -> Result<Permit, Refusal> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refusal::Concurrency)?;
        Ok(Permit { _slot: slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_given_back_lets_the_next_one_in() {
        let limiter = Limiter::new(Config { concurrent_requests: 1 });
        let permit = limiter.admit().unwrap();
        assert_eq!(limiter.admit().unwrap_err(), Refusal::Concurrency);
        drop(permit);
        assert!(limiter.admit().is_ok());
    }
}
