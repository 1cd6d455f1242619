//! Fills the index of a scope from disk, a few entries at a time, while writes and searches of it go on.
//!
//! Whoever asks first reads the first entries, which are all of them in most scopes. The rest of a large one comes
//! on a thread of its own ([`Filler`]), and so do its stored graphs; until then a search finds what is there
//! already, so it may miss, but never names what is not.

use super::disk::Disk;
use super::index::ScopeIndex;
use super::rows::Quantised;
use super::scope_index::Vectors;
use super::snapshot::Snapshots;
use crate::store::{EntryId, Error};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// How many entries are read before what was read is put in.
const STEP: usize = 256;
/// How many bytes of stored graphs whoever asks first reads: some milliseconds.
const FILES_AT_ONCE: u64 = 1 << 20;
/// How many scopes may wait to be filled.
const QUEUE: usize = 64;

/// How far the filling of an index has come.
pub(super) struct Filling {
    /// Whether what was stored has been taken over.
    adopted: bool,
    /// What has been seen on disk, where there is something stored to be held to it.
    there: Option<HashSet<EntryId>>,
    last: Option<EntryId>,
    count: usize,
    /// Whose values are damaged.
    pub(super) damaged: Vec<EntryId>,
}

impl Filling {
    pub(super) fn new() -> Self {
        Self { adopted: false, there: None, last: None, count: 0, damaged: Vec::new() }
    }

    /// Goes on, and reads up to `most` entries. Says whether all is there.
    pub(super) fn go_on(
        &mut self,
        index: &ScopeIndex,
        disk: &Disk,
        snapshots: &Snapshots,
        most: usize,
    ) -> Result<bool, Error> {
        let mut read = 0;
        if !self.adopted {
            if most == 0 || snapshots.size(&index.scope) > FILES_AT_ONCE {
                return Ok(false);
            }
            self.adopt(index, snapshots);
        }
        while read < most {
            let some = disk.vectors(&index.scope, index.space, self.last.as_ref(), STEP.min(most - read))?;
            self.damaged.extend(some.damaged);
            let is_end = some.last.is_none();
            self.last = some.last.or(self.last);
            read += some.looked_at;
            self.count += some.vectors.len();
            if let Some(there) = &mut self.there {
                there.extend(some.vectors.iter().map(|(id, _)| *id));
            }
            let quantised = |(id, vector): (EntryId, Vec<f32>)| (id, vector.len(), Quantised::of(&vector));
            let vectors: Vec<_> = some.vectors.into_iter().map(quantised).collect();
            index.change(|held| held.fill(&vectors));
            if is_end {
                self.end(index);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes over what was stored. It is not to be believed yet, but what it names is read from disk before it is
    /// told to anyone, so it may answer.
    fn adopt(&mut self, index: &ScopeIndex, snapshots: &Snapshots) {
        self.adopted = true;
        let Some(limit) = index.read().as_ref().map(Vectors::limit) else { return };
        let stored = snapshots.load(&index.scope, index.space, index.dimensions, limit);
        if stored.is_empty() {
            index.change(Vectors::begin_with_nothing);
            return;
        }
        self.there = Some(HashSet::new());
        let prepared = index.read().as_ref().map(Vectors::another);
        if let Some(mut prepared) = prepared {
            prepared.adopt(stored);
            index.change(|held| held.give_way_to(prepared));
        }
    }

    fn end(&mut self, index: &ScopeIndex) {
        let strangers = self.there.take().and_then(|there| {
            let held = index.read();
            held.as_ref().map(|held| held.strangers(&there))
        });
        index.change(|held| held.end_filling(&strangers.unwrap_or_default()));
    }
}

/// A scope on its way to be filled.
type Job = (Weak<ScopeIndex>, Filling);

/// A handle to the thread that fills large indexes. The thread ends with it, after the step it is at.
pub(super) struct Filler {
    queue: SyncSender<Job>,
}

impl Filler {
    /// Starts the thread. It calls `filled` after each step, for what is to be done then.
    pub(super) fn spawn(
        disk: Weak<Disk>,
        snapshots: Arc<Snapshots>,
        filled: impl Fn(&Arc<ScopeIndex>, &mut Filling) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let run = move || run(&jobs, &disk, &snapshots, filled);
        std::thread::Builder::new().name("weir-fill".to_owned()).spawn(run)?;
        Ok(Self { queue })
    }

    /// Asks for the rest; says whether it will come.
    pub(super) fn ask(&self, index: &Arc<ScopeIndex>, filling: Filling) -> bool {
        self.queue.try_send((Arc::downgrade(index), filling)).is_ok()
    }
}

fn run(
    jobs: &Receiver<Job>,
    disk: &Weak<Disk>,
    snapshots: &Snapshots,
    filled: impl Fn(&Arc<ScopeIndex>, &mut Filling),
) {
    while let Ok((index, mut filling)) = jobs.recv() {
        let began = Instant::now();
        // Nothing is held between two steps: a store that is closed, or an index that was dropped, ends it.
        while let Some(index) = index.upgrade() {
            if !filling.adopted {
                filling.adopt(&index, snapshots);
            }
            let Some(disk) = disk.upgrade() else { return };
            let went_on = filling.go_on(&index, &disk, snapshots, STEP);
            filled(&index, &mut filling);
            match went_on {
                Ok(false) => {}
                Ok(true) => {
                    let (count, took) = (filling.count, began.elapsed());
                    tracing::info!(scope = ?index.scope, count, ?took, "the vectors of a large scope were read");
                    break;
                }
                Err(error) => {
                    tracing::warn!(scope = ?index.scope, %error, "the vectors of a scope could not be read");
                    index.forget();
                    break;
                }
            }
        }
    }
}
