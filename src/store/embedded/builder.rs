//! [`Builder`]: makes graphs on a thread of its own, one after the other, while scans go on answering.

use super::graph::Graph;
use super::index::ScopeIndex;
use super::scope_index::Next;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

/// How many indexes may wait for their graph.
const QUEUE: usize = 64;
/// How many vectors are taken out of an index at once: few, so that its lock is held for microseconds only.
const STEP: usize = 256;

/// A handle to the thread that builds graphs. The thread ends with it, after the step it is at.
pub(super) struct Builder {
    // Weak: an index that was dropped to make room needs no graph.
    queue: SyncSender<Weak<ScopeIndex>>,
}

impl Builder {
    /// Starts the thread.
    pub(super) fn spawn() -> std::io::Result<Self> {
        let (queue, wanted) = sync_channel(QUEUE);
        std::thread::Builder::new().name("weir-index".to_owned()).spawn(move || run(&wanted))?;
        Ok(Self { queue })
    }

    /// Asks for a graph; says whether there will be one.
    pub(super) fn ask(&self, index: &Arc<ScopeIndex>) -> bool {
        self.queue.try_send(Arc::downgrade(index)).is_ok()
    }
}

fn run(wanted: &Receiver<Weak<ScopeIndex>>) {
    while let Ok(index) = wanted.recv() {
        let built = build(&index);
        if let (None, Some(index)) = (built, index.upgrade()) {
            index.give_up_building();
        }
    }
}

/// Builds a graph and installs it. `None` when it was not needed any more.
fn build(index: &Weak<ScopeIndex>) -> Option<()> {
    let (size, generation) = index.upgrade()?.read().as_ref()?.outline();
    let mut graph = Graph::new(size);
    loop {
        let index = index.upgrade()?;
        let next = index.read().as_ref()?.next(graph.covered(), generation, STEP);
        match next {
            Next::Push(vectors) => {
                // Whoever drops the index need not wait for this step.
                drop(index);
                for vector in &vectors {
                    graph.push(vector.as_ref());
                }
            }
            Next::Install => {
                index.write().as_mut()?.install(graph, generation);
                return Some(());
            }
            Next::Outdated => return None,
        }
    }
}
