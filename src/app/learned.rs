//! What the bound has learned, in a file: read at the start, and written every minute and at the end.

use super::state_file::{self, Error};
use crate::cache::bound::{Bound, Report};
use crate::cache::judge;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "bound.json";
/// What a file begins with that this program can read; a digest of the rest follows.
const FORMAT: &str = "weir bound 1 ";
/// A thousand grounds are a megabyte or two.
const MAX_BYTES: u64 = 16 << 20;
/// How often it is written, and how often it is told in the log, in writes.
const WRITE_EVERY: Duration = Duration::from_mins(1);
const TELL_EVERY: u32 = 10;

/// The bound, and where its memory is.
pub(super) struct Learned {
    bound: Arc<Bound>,
    /// `None`: nothing outlives this process.
    file: Option<PathBuf>,
}

impl Learned {
    /// Goes on from what lies in `folder`. What cannot be used is set aside; nothing stops the start.
    pub(super) async fn open(bound: &Arc<Bound>, folder: Option<PathBuf>) -> Self {
        let learned = Self { bound: Arc::clone(bound), file: folder.map(|folder| folder.join(FILE)) };
        learned.blocking(restore).await;
        learned
    }

    /// Writes it from time to time, until it is dropped.
    pub(super) async fn keep(&self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.tick().await;
        let (mut written, mut told) = (self.bound.events(), 0);
        for minute in 1u32.. {
            ticks.tick().await;
            let events = self.bound.events();
            if events != written {
                self.write().await;
                written = events;
            }
            if minute % TELL_EVERY == 0 && events != told {
                tell(&self.bound.report());
                told = events;
            }
        }
    }

    /// Writes it.
    pub(super) async fn write(&self) {
        self.blocking(|bound, file| {
            if let Err(error) = state_file::write(file, FORMAT, &bound.snapshot(judge::version())) {
                tracing::warn!(%error, "what the cache has learned could not be written down");
            }
        })
        .await;
    }

    async fn blocking(&self, work: impl FnOnce(&Bound, &Path) + Send + 'static) {
        let Some(file) = self.file.clone() else { return };
        let bound = Arc::clone(&self.bound);
        if tokio::task::spawn_blocking(move || work(&bound, &file)).await.is_err() {
            tracing::error!("a part broke down while it kept what the cache has learned");
        }
    }
}

fn tell(report: &Report) {
    let Report { requests, served, served_wrong, max_wrong, grounds, .. } = report;
    tracing::info!(
        requests,
        served,
        wrong = format!("{:.1}", served_wrong.mean),
        wrong_at_most = format!("{:.1}", served_wrong.most),
        max_wrong,
        grounds,
        "what the semantic cache has served, or would have"
    );
}

fn restore(bound: &Bound, file: &Path) {
    let restored = match state_file::read(file, FORMAT, MAX_BYTES) {
        Ok(None) => return,
        Ok(Some(snapshot)) => bound.restore(snapshot, judge::version()).map_err(|_| Error::Damaged),
        Err(error) => Err(error),
    };
    if let Err(error) = restored {
        state_file::set_aside(file, &error, "what the cache had learned cannot be used; it learns anew");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::bound::{Config, GroundId};
    use std::fs;

    fn bound() -> Arc<Bound> {
        Arc::new(Bound::new(Config::default()))
    }

    async fn written(folder: &Path) -> PathBuf {
        let bound = bound();
        for _ in 0..50 {
            bound.decide(GroundId::of("t", "p"), None);
        }
        Learned::open(&bound, Some(folder.to_owned())).await.write().await;
        folder.join(FILE)
    }

    async fn requests(folder: &Path) -> Option<f32> {
        let bound = bound();
        Learned::open(&bound, Some(folder.to_owned())).await;
        bound.report_of(GroundId::of("t", "p")).map(|report| report.requests)
    }

    #[tokio::test]
    async fn it_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(requests(folder.path()).await, None);
        let file = written(&folder.path().join("new")).await;
        assert_eq!(requests(&folder.path().join("new")).await, Some(50.0));
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with("weir bound 1 ") && !text.contains("\"t\""), "{text}");
    }

    #[tokio::test]
    async fn what_is_damaged_or_foreign_is_set_aside() {
        let damages: [fn(&str) -> Vec<u8>; 6] = [
            |text| text.replace("50.0", "60.0").into_bytes(),
            |text| text.as_bytes()[..text.len() / 2].to_vec(),
            |text| text.replacen("bound 1", "bound 2", 1).into_bytes(),
            |_| b"hello".to_vec(),
            |_| vec![0xff, 0xfe, 0x00],
            |_| Vec::new(),
        ];
        for damage in damages {
            let folder = tempfile::tempdir().unwrap();
            let file = written(folder.path()).await;
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, damage(&text)).unwrap();
            assert_eq!(requests(folder.path()).await, None);
            assert!(!file.exists() && folder.path().join("bound.json.damaged").exists());
        }
    }
}
