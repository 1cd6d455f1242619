//! Writing the store anew while it is in use: sled keeps what was overwritten and removed for good, and its file grows
//! to several times of what it holds.
//!
//! A new database is begun beside the old one. From then on every write goes to both, and what was there before is
//! copied, some entries at a time, with the writer's lock held for each few: so whatever is changed meanwhile is
//! right in both. When all is copied and flushed the mark that the new one is unfinished is removed, and it is in
//! force. A crash before leaves the old one, a crash behind it the new one; the next start removes the other.
//!
//! First all keys are written, in order, and then all values. sled keeps a leaf as its last whole picture and up to
//! ten changes; written so, a leaf is split while it is still empty, each value is written once, and nothing of it is
//! left behind. Written in one go each value is written about three times, and the file is 2.2 times what it holds.

use super::Config;
use super::disk::{Trees, failed};
use super::engine::Engine;
use super::recovery;
use super::upkeep::folder_size;
use crate::store::Error;
use std::fs::File;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many keys, or values, are copied before other writes get their turn.
const KEYS_AT_ONCE: usize = 256;
const VALUES_AT_ONCE: usize = 32;
/// How long to wait for those who still read the old database, and for sled to let go of its files. What is left
/// then is removed at the next start.
const LETTING_GO: Duration = Duration::from_mins(2);

/// What must be free on the disk beside twice what is copied.
const SPARE: u64 = 64 << 20;

/// When the files are worth being written anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// What the files took when that was last done, or zero.
    pub(super) before: u64,
}

impl Due {
    /// Beyond twice what is kept, and a little: small files are not worth it. Nor are those that came out nearly as
    /// large the last time.
    pub(super) fn is_due(self, files: u64, kept: u64, slack: u64) -> bool {
        files > kept.saturating_mul(2).saturating_add(slack) && files > self.before + self.before / 4
    }
}

/// What was written anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// What the files took.
    pub before: u64,
    /// What they take now.
    pub after: u64,
}

/// What the files of the database take that is in force.
pub(super) fn file_bytes(engine: &Engine, path: &Path) -> u64 {
    folder_size(&recovery::folder(path, engine.disk.now().number))
}

/// Writes the store anew. Blocks, for as long as it takes to copy everything; requests go on.
pub(super) fn compact(engine: &Engine, config: &Config) -> Result<Compacted, Error> {
    let old = engine.disk.now();
    let path = &config.path;
    let before = folder_size(&recovery::folder(path, old.number));
    // A disk that is full because of this would be the end of the old one as well.
    let needed = engine.counters().bytes * 2 + SPARE;
    if available(path).is_some_and(|available| available < needed) {
        return Err(Error::Io(format!("{} has no room for a second copy of {needed} bytes", path.display())));
    }
    let number = old.number + 1;
    let copied = recovery::begin(path, number, config.flush).and_then(|new| {
        let new = Arc::new(new);
        let copied = copy(engine, &old, &new).and_then(|()| take_over(engine, path, &new));
        if copied.is_err() {
            engine.disk.mirror(None);
        }
        copied
    });
    if let Err(error) = copied {
        // sled may still hold its files; then the next start removes them.
        recovery::give_up(path, number);
        return Err(error);
    }
    remove_when_free(old, path);
    Ok(Compacted { before, after: folder_size(&recovery::folder(path, number)) })
}

/// How many bytes are free on the disk, where that can be told.
fn available(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    #[cfg(not(unix))]
    return None;
}

fn copy(engine: &Engine, old: &Trees, new: &Arc<Trees>) -> Result<(), Error> {
    {
        let _writer = engine.writer()?;
        engine.disk.mirror(Some(Arc::clone(new)));
    }
    in_steps(engine, &old.ages, KEYS_AT_ONCE, |key, value| new.ages.insert(key, value).map(drop))?;
    in_steps(engine, &old.entries, KEYS_AT_ONCE, |key, _| {
        // It may have come with its value already.
        new.entries.compare_and_swap(key, None::<&[u8]>, Some(&[])).map(drop)
    })?;
    in_steps(engine, &old.entries, VALUES_AT_ONCE, |key, value| {
        // What is damaged stays so, and is found and counted when it is read.
        new.entries.insert(key, value).map(drop)
    })
}

/// Hands over all pairs of a tree, as they are at that moment: the writer's lock is held, for a few at a time.
fn in_steps(
    engine: &Engine,
    tree: &sled::Tree,
    at_once: usize,
    write: impl Fn(sled::IVec, sled::IVec) -> sled::Result<()>,
) -> Result<(), Error> {
    let mut after: Option<sled::IVec> = None;
    loop {
        let _writer = engine.writer()?;
        if !engine.disk.is_mirrored() {
            return Err(Error::Io("what was written meanwhile could not be copied".to_owned()));
        }
        let begin = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for pair in tree.range((begin, Bound::Unbounded)).take(at_once) {
            let (key, value) = pair.map_err(failed)?;
            write(key.clone(), value).map_err(failed)?;
            last = Some(key);
        }
        let Some(last) = last else { return Ok(()) };
        after = Some(last);
    }
}

fn take_over(engine: &Engine, path: &Path, new: &Arc<Trees>) -> Result<(), Error> {
    // Most of it without the lock.
    new.db.flush().map_err(failed)?;
    let writer = engine.writer()?;
    if !engine.disk.is_mirrored() {
        return Err(Error::Io("what was written meanwhile could not be copied".to_owned()));
    }
    if let Some(used) = engine.all_used(&writer) {
        recovery::note_used(new, used)?;
    }
    recovery::finish(path, new)?;
    engine.disk.swap();
    Ok(())
}

/// Removes the files of a database when nobody reads it any more.
#[expect(clippy::disallowed_methods, reason = "this blocks, and is no async code")]
fn remove_when_free(old: Arc<Trees>, path: &Path) {
    const STEP: Duration = Duration::from_millis(20);
    let folder = recovery::folder(path, old.number);
    let began = Instant::now();
    while Arc::strong_count(&old) > 1 && began.elapsed() < LETTING_GO {
        std::thread::sleep(STEP);
    }
    drop(old);
    let is_free = || File::open(folder.join("db")).is_ok_and(|file| file.try_lock().is_ok());
    while !is_free() {
        if began.elapsed() > LETTING_GO {
            return;
        }
        std::thread::sleep(STEP);
    }
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::debug!(%error, "the older files of the store stay until the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_beyond_twice_what_is_kept_unless_that_did_not_help() {
        let (first, again) = (Due { before: 0 }, Due { before: 900 });
        assert!(!first.is_due(1000, 500, 0));
        assert!(first.is_due(1001, 500, 0));
        assert!(!first.is_due(1001, 500, 100));
        assert!(!again.is_due(1001, 500, 0), "it came out at 900");
        assert!(again.is_due(1126, 500, 0));
    }
}
