//! How those who are asked were, in a file: read at the start, written soon after anything has happened, and at the end.

use super::state_file;
use crate::clock::Clock;
use crate::upstream::chain::Ward;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "chain.json";
const FORMAT: &str = "weir chain 1 ";
/// Twenty keys with as many models as are remembered of each are a megabyte or two.
const MAX_BYTES: u64 = 16 << 20;
/// A cooldown that a crash forgets is one call too many; so this is often.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// The ward, and where its memory is.
pub(super) struct Remembered {
    ward: Arc<Ward>,
    clock: Arc<dyn Clock>,
    file: PathBuf,
}

impl Remembered {
    /// Goes on from what lies in `folder`. What cannot be used is set aside; nothing stops the start.
    pub(super) async fn open(ward: &Arc<Ward>, clock: &Arc<dyn Clock>, folder: &Path) -> Self {
        let remembered = Self { ward: Arc::clone(ward), clock: Arc::clone(clock), file: folder.join(FILE) };
        let file = remembered.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = state_file::read(&file, FORMAT, MAX_BYTES);
            let what = "what was known of the upstreams cannot be used; all of them are taken for well";
            read.inspect_err(|error| state_file::set_aside(&file, error, what)).ok().flatten()
        });
        if let Ok(Some(snapshot)) = read.await {
            remembered.ward.restore(snapshot, remembered.clock.now());
        }
        remembered
    }

    /// Writes it soon after something has happened, until it is dropped.
    pub(super) async fn keep(&self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.tick().await;
        let mut written = self.ward.events();
        loop {
            ticks.tick().await;
            let events = self.ward.events();
            if events != written {
                self.write().await;
                written = events;
            }
        }
    }

    /// Writes it.
    pub(super) async fn write(&self) {
        let (snapshot, file) = (self.ward.snapshot(self.clock.now()), self.file.clone());
        let written = tokio::task::spawn_blocking(move || state_file::write(&file, FORMAT, &snapshot));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "how the upstreams are could not be written down"),
            Err(_) => tracing::error!("a part broke down while it wrote down how the upstreams are"),
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
    async fn open(folder: &Path, step: Step) -> (Chain, Remembered) {
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
    async fn what_is_damaged_is_set_aside_and_all_are_well() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "hello", "weir chain 1 x\n{}", "weir chain 2 x\n{}"] {
            std::fs::write(folder.path().join(FILE), damaged).unwrap();
            assert!(ask(&open(folder.path(), Step::say("a")).await.0).await, "{damaged}");
            assert!(folder.path().join("chain.json.damaged").exists() && !folder.path().join(FILE).exists());
        }
    }
}
