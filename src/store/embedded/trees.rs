//! [`Trees`]: one database: what sled has of it, and the files of its values.

use super::disk::failed;
use super::entries::Entries;
use super::values::Values;
use crate::store::Error;
use sled::Tree;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// One database.
pub(super) struct Trees {
    db: sled::Db,
    pub(super) meta: Tree,
    pub(super) entries: Entries,
    pub(super) ages: Tree,
    /// The number of its folder.
    pub(super) number: u64,
    /// Ends the thread that flushes it.
    flushed: OnceLock<SyncSender<()>>,
    /// There as long as sled holds the folder: it goes last.
    held: Arc<()>,
}

impl Trees {
    /// The trees of an opened database, and the files of its values.
    pub(super) fn new(db: sled::Db, number: u64, values: Values) -> Result<Self, Error> {
        let tree = |name| db.open_tree(name).map_err(failed);
        let (meta, entries, ages) = (tree("meta")?, Entries::new(tree("entries")?, values), tree("ages")?);
        Ok(Self { db, meta, entries, ages, number, flushed: OnceLock::new(), held: Arc::default() })
    }

    /// Makes everything written up to now survive a crash: the values before what says where they lie.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.entries.values().sync()?;
        self.db.flush().map(drop).map_err(failed)
    }

    /// Has it flushed every so often, on a thread of its own, until it is dropped.
    pub(super) fn keep_flushed(self: &Arc<Self>, every: Duration) -> Result<(), Error> {
        let (flushed, end) = sync_channel(0);
        let trees = Arc::downgrade(self);
        let flush = move || {
            while end.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(trees) = trees.upgrade() else { return };
                // Whoever calls next meets the error as well.
                if let Err(error) = trees.flush() {
                    tracing::debug!(%error, "the store could not be flushed");
                }
            }
        };
        let thread = std::thread::Builder::new().name("weir-flush".to_owned());
        thread.spawn(flush).map_err(|error| Error::Io(format!("a thread could not be started: {error}")))?;
        let _ = self.flushed.set(flushed);
        Ok(())
    }

    /// Is there as long as this is, or sled hangs while it is let go of.
    pub(super) fn held(&self) -> Weak<()> {
        Arc::downgrade(&self.held)
    }
}
