//! How those who are asked were, and what has been spent, each in a file: read at the start, written soon after anything
//! has happened, and at the end.

use super::state_file;
use crate::clock::{Clock, Millis};
use crate::limits::{Limiter, Spending};
use crate::upstream::chain::Ward;
use crate::upstream::health::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Twenty keys with as many models as are remembered of each are a megabyte or two.
const MAX_BYTES: u64 = 16 << 20;
/// A cooldown that a crash forgets is one call too many; so this is often.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// What outlives a restart.
pub(super) trait Outlives: Send + Sync {
    const FILE: &str;
    /// What a file begins with that this program can read; a digest of the rest follows.
    const FORMAT: &str;
    /// What is said where it cannot be read.
    const LOST: &str;
    type Snapshot: Serialize + DeserializeOwned + Send + 'static;

    /// How much has happened.
    fn events(&self) -> u64;
    /// Whether there is nothing that could ever be written.
    fn is_idle(&self) -> bool;
    fn snapshot(&self, wall: Millis) -> Self::Snapshot;
    fn restore(&self, snapshot: Self::Snapshot, wall: Millis);
}

impl Outlives for Ward {
    const FILE: &str = "chain.json";
    const FORMAT: &str = "weir chain 1 ";
    const LOST: &str = "what was known of the upstreams cannot be used; all of them are taken for well";
    type Snapshot = Snapshot;

    fn events(&self) -> u64 {
        self.events()
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn snapshot(&self, wall: Millis) -> Snapshot {
        self.snapshot(wall)
    }

    fn restore(&self, snapshot: Snapshot, wall: Millis) {
        self.restore(snapshot, wall);
    }
}

impl Outlives for Limiter {
    const FILE: &str = "budgets.json";
    const FORMAT: &str = "weir budgets 1 ";
    const LOST: &str = "what was used of the budgets cannot be read; all of them are taken for whole";
    type Snapshot = Spending;

    fn events(&self) -> u64 {
        self.charges()
    }

    fn is_idle(&self) -> bool {
        !self.has_budgets()
    }

    fn snapshot(&self, wall: Millis) -> Spending {
        self.spending(wall)
    }

    fn restore(&self, spending: Spending, wall: Millis) {
        self.restore(spending, wall);
    }
}

/// What outlives a restart, and where it is written.
pub(super) struct Remembered<T> {
    what: Arc<T>,
    clock: Arc<dyn Clock>,
    file: PathBuf,
}

impl<T: Outlives> Remembered<T> {
    /// Goes on from what lies in `folder`. What cannot be used is set aside; nothing stops the start.
    pub(super) async fn open(what: &Arc<T>, clock: &Arc<dyn Clock>, folder: &Path) -> Self {
        let (what, clock, file) = (Arc::clone(what), Arc::clone(clock), folder.join(T::FILE));
        let remembered = Self { what, clock, file };
        let file = remembered.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = state_file::read(&file, T::FORMAT, MAX_BYTES);
            read.inspect_err(|error| state_file::set_aside(&file, error, T::LOST)).ok().flatten()
        });
        if let Ok(Some(snapshot)) = read.await {
            remembered.what.restore(snapshot, remembered.clock.now());
        }
        remembered
    }

    /// Writes it soon after something has happened, until it is dropped.
    pub(super) async fn keep(&self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.tick().await;
        let mut written = self.what.events();
        loop {
            ticks.tick().await;
            let events = self.what.events();
            if events != written {
                self.write().await;
                written = events;
            }
        }
    }

    /// Writes it.
    pub(super) async fn write(&self) {
        if self.what.is_idle() {
            return;
        }
        let (snapshot, file) = (self.what.snapshot(self.clock.now()), self.file.clone());
        let written = tokio::task::spawn_blocking(move || state_file::write(&file, T::FORMAT, &snapshot));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, file = T::FILE, "a file could not be written"),
            Err(_) => tracing::error!(file = T::FILE, "a part broke down while it wrote a file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Request;
    use crate::clock::SystemClock;
    use crate::sim::{Scripted, Step};
    use crate::upstream::chain::{Chain, Config, Link};
    use crate::upstream::health::{BudgetRules, Rules};
    use crate::upstream::{Call, Kind, Upstream as _};

    /// A chain of one, and what is remembered of it.
    async fn open(folder: &Path, step: Step) -> (Chain, Remembered<Ward>) {
        let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
        let link = Link::new(Arc::new(Scripted::new("a", [step])), vec!["*".into()]);
        let chain = Chain::sharing("chain", vec![link], Config::default(), &ward);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let remembered = Remembered::open(&ward, &clock, folder).await;
        (chain, remembered)
    }

    async fn ask(chain: &Chain) -> bool {
        chain.open(&Request::default(), &Call::within(Duration::from_secs(9))).await.is_ok()
    }

    #[tokio::test]
    async fn whoever_was_left_alone_still_is_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let limited = Step::FailFor(Kind::RateLimit, Duration::from_mins(5));
        let (chain, remembered) = open(folder.path(), limited).await;
        assert!(!ask(&chain).await);
        remembered.write().await;
        let (chain, remembered) = open(folder.path(), Step::say("a")).await;
        assert!(!ask(&chain).await);
        chain.ward().reset(None);
        remembered.write().await;
        assert!(ask(&open(folder.path(), Step::say("a")).await.0).await);
    }

    #[tokio::test]
    async fn a_budget_is_written_where_there_is_one() {
        use crate::limits::{Budget, Config, Limit, Who};
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nothing = Arc::new(Limiter::new(Config::default()));
        Remembered::open(&nothing, &clock, folder.path()).await.write().await;
        assert!(!folder.path().join(Limiter::FILE).exists());
        let limiter = || {
            let budget = Some(Budget { tokens: 9, every: Duration::from_hours(1) });
            let limits = vec![Limit { name: "l".into(), budget, ..Limit::default() }];
            Arc::new(Limiter::new(Config { limits, ..Config::default() }))
        };
        let before = limiter();
        let remembered = Remembered::open(&before, &clock, folder.path()).await;
        before.admit(Some(&Who::default())).unwrap().charges()[0].tokens(9);
        remembered.write().await;
        let after = limiter();
        Remembered::open(&after, &clock, folder.path()).await;
        assert!(after.admit(Some(&Who::default())).is_err());
    }

    #[tokio::test]
    async fn what_is_damaged_is_set_aside_and_all_are_well() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "hello", "weir chain 1 x\n{}", "weir chain 2 x\n{}"] {
            let file = folder.path().join(Ward::FILE);
            std::fs::write(&file, damaged).unwrap();
            assert!(ask(&open(folder.path(), Step::say("a")).await.0).await, "{damaged}");
            assert!(folder.path().join("chain.json.damaged").exists() && !file.exists());
        }
    }
}
