//! [`Builder`]: makes graphs on a thread of its own, one after the other, while searches go on.

use super::index::ScopeIndex;
use super::snapshot::Snapshots;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

/// How many indexes may wait for their graph.
const QUEUE: usize = 64;

/// A handle to the thread that builds graphs. The thread ends with it, after the step it is at.
pub(super) struct Builder {
    // Weak: an index that was dropped to make room needs no graph.
    queue: SyncSender<Weak<ScopeIndex>>,
}

impl Builder {
    /// Starts the thread.
    pub(super) fn spawn(snapshots: Arc<Snapshots>) -> std::io::Result<Self> {
        let (queue, wanted) = sync_channel(QUEUE);
        std::thread::Builder::new().name("weir-index".to_owned()).spawn(move || run(&wanted, &snapshots))?;
        Ok(Self { queue })
    }

    /// Asks for what the index wants built; says whether it will be.
    pub(super) fn ask(&self, index: &Arc<ScopeIndex>) -> bool {
        self.queue.try_send(Arc::downgrade(index)).is_ok()
    }
}

fn run(wanted: &Receiver<Weak<ScopeIndex>>, snapshots: &Snapshots) {
    while let Ok(index) = wanted.recv() {
        while build(&index, snapshots).is_some() {}
    }
}

/// Builds what is wanted, installs it and stores it. `None` when nothing is, or it was not needed any more.
fn build(index: &Weak<ScopeIndex>, snapshots: &Snapshots) -> Option<()> {
    let merge = index.upgrade()?.write().as_mut()?.claim_build()?;
    // hnsw_rs may panic: then there is no graph, and scans go on answering.
    let merged = catch_unwind(AssertUnwindSafe(|| merge.run(|| index.strong_count() > 0)));
    let index = index.upgrade()?;
    if let Ok(Some(merged)) = merged {
        let replaced = index.write().as_mut()?.install(merged);
        drop(replaced);
        while index.write().as_mut()?.settle() {}
        index.save(snapshots);
        return Some(());
    }
    tracing::warn!("no graph could be made of the vectors of a scope; all of them are looked at instead");
    index.write().as_mut()?.give_up(true);
    None
}
