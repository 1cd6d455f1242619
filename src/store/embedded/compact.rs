//! Writing the store anew while it is in use: sled keeps what was overwritten and removed for good, and its file grows
//! to several times of what it holds.
//!
//! A new database is begun beside the old one. From then on every write goes to both, and what was there before is
//! copied, some entries at a time, with the writer's lock held for each few: so whatever is changed meanwhile is
//! right in both. When all is copied and flushed the mark that the new one is unfinished is removed, and it is in
//! force. A crash before leaves the old one, a crash behind it the new one; the next start removes the other.
//! A backup of a store that is in use is such a copy, which is not put in force.
//!
//! The new one is written by a thread of its own ([`Mirror`]), so that nobody waits for ever where sled hangs in it: it
//! is given up then, and a later one has another number.
//!
//! First all keys are written, in order, and then all values. sled keeps a leaf as its last whole picture and up to
//! ten changes; written so, a leaf is split while it is still empty, each value is written once, and nothing of it is
//! left behind. Written in one go each value is written about three times, and the file is 2.2 times what it holds.

use super::Config;
use super::disk::{Trees, failed};
use super::engine::Engine;
use super::mirror::{Mirror, Patience, Seal, Write};
use super::progress::{self, Halted};
use super::upkeep::{self, Copied, folder_size};
use super::{codec, folders, recovery};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Error;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How many keys, or values, are copied before other writes get their turn.
const KEYS_AT_ONCE: usize = 256;
const VALUES_AT_ONCE: usize = 32;
/// How long to wait for those who still read the old database, and for sled to let go of its files. What is left
/// then is removed at the next start.
const LETTING_GO: Duration = Duration::from_mins(2);
/// How long to wait for sled to let go of a copy that was given up. It may hang in it.
const LEAVING: Duration = Duration::from_secs(5);
/// How long nothing may be copied. Longer than anything that is waited for in between.
const WATCHED: Duration = Duration::from_mins(1);

/// What must be free on the disk beside twice what is copied.
const SPARE: u64 = 64 << 20;

/// When the files are worth being written anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// What the files took when that was last done, or zero.
    pub(super) files: u64,
    /// What was kept then.
    pub(super) kept: u64,
}

impl Due {
    /// Beyond twice what is kept, and a little: small files are not worth it. Nor are those that came out nearly as
    /// large the last time, unless much has gone since. A lower bound gains nothing under load (ADR 21).
    pub(super) fn is_due(self, files: u64, kept: u64, slack: u64) -> bool {
        let has_grown = files > self.files + self.files / 4;
        let has_emptied = kept < self.kept - self.kept / 4;
        files > kept.saturating_mul(2).saturating_add(slack) && (has_grown || has_emptied)
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
    folder_size(&folders::folder(path, engine.disk.now().number))
}

/// Writes the store anew. Blocks, for as long as it takes to copy everything; requests go on.
pub(super) fn compact(engine: &Arc<Engine>, config: &Config) -> Result<Compacted, Error> {
    let config = config.clone();
    watched(engine, move |engine, watch| write_anew(engine, &config, watch))
}

/// Writes what is there when it ends to a folder that is not there yet. Blocks as long; requests go on.
pub(super) fn backup(engine: &Arc<Engine>, config: &Config, to: &Path) -> Result<Copied, Error> {
    let (path, to) = (config.path.clone(), to.to_path_buf());
    watched(engine, move |engine, watch| write_backup(engine, &path, &to, watch))
}

fn write_anew(engine: &Engine, config: &Config, watch: &Watch) -> Result<Compacted, Error> {
    let old = engine.disk.now();
    let (path, flush) = (config.path.clone(), config.flush);
    let before = folder_size(&folders::folder(&path, old.number));
    check_room(engine.counters().bytes, &path)?;
    let number = folders::next_number(&path)?;
    let open = {
        let path = path.clone();
        move || recovery::begin(&path, number, flush)
    };
    let leave = {
        let path = path.clone();
        move || folders::leave(&path, number)
    };
    let new = Begun { engine, mirror: Mirror::begin(Patience::default(), open, leave)? };
    let written = copy(&new, &old, Damage::Stays, watch).and_then(|_| take_over(&new, &path, &old));
    if let Err(error) = written {
        if !new.has_left() {
            // sled hangs in it. What it takes on a disk that may be full is given back.
            folders::empty(&folders::folder(&path, number));
        }
        return Err(error);
    }
    remove_when_free(old, &path, watch);
    Ok(Compacted { before, after: folder_size(&folders::folder(&path, number)) })
}

fn write_backup(engine: &Engine, path: &Path, to: &Path, watch: &Watch) -> Result<Copied, Error> {
    let old = engine.disk.now();
    let before = folder_size(&folders::folder(path, old.number));
    engine.note_hits()?;
    let unfinished = upkeep::begin_beside(to)?;
    check_room(engine.counters().bytes, &unfinished)
        .inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
    // Of a number that no other has had: see `folders::give_up`.
    let number = SystemClock.now().0;
    let folder = folders::folder(&unfinished, number);
    let open = {
        let folder = folder.clone();
        move || recovery::new_database(&folder, number)
    };
    let leave = {
        let unfinished = unfinished.clone();
        move || drop(fs::remove_dir_all(unfinished))
    };
    let new = Begun { engine, mirror: Mirror::begin(Patience::default(), open, leave)? };
    let copied = copy(&new, &old, Damage::LeftOut, watch).and_then(|left_out| {
        new.mirror.flush()?;
        let sealed = {
            let _writer = engine.writer()?;
            new.mirror.sealed(Seal::Closed)?
        };
        // Some have come and gone behind the copying.
        let mut entries = 0;
        for key in sealed.entries.iter().keys() {
            key.map_err(failed)?;
            entries += 1;
            watch.step()?;
        }
        Ok((entries, left_out))
    });
    let (entries, left_out) = match copied {
        Ok(copied) => copied,
        Err(error) => {
            if !new.has_left() {
                folders::empty(&unfinished);
            }
            return Err(error);
        }
    };
    drop(new);
    folders::wait_until_free(&folder, LETTING_GO, || drop(watch.step()));
    upkeep::finish_beside(&unfinished, to)?;
    Ok(Copied { entries, left_out, before, after: folder_size(to) })
}

/// What was begun: whatever becomes of it, nothing is written to it in the end.
struct Begun<'e> {
    engine: &'e Engine,
    mirror: Arc<Mirror>,
}

impl Begun<'_> {
    /// Gives it up, and says whether its thread has let go of it.
    fn has_left(&self) -> bool {
        self.end();
        self.mirror.has_left_within(LEAVING)
    }

    fn end(&self) {
        const WHY: &str = "it was given up";
        self.engine.disk.unmirror(WHY);
        self.mirror.give_up(WHY);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// How far a copy has come, and whether anybody waits for it.
#[derive(Default)]
struct Watch {
    steps: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    fn step(&self) -> Result<(), Error> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            return Err(Error::Io("nobody waits for the copy any more".to_owned()));
        }
        Ok(())
    }
}

/// Copies on a thread of its own, as long as that shows progress: the database in force may hang as well. Then it is
/// opened anew (see `slot`), and what comes next must not wait for what never ends.
fn watched<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine, &Watch) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let watch = Arc::new(Watch::default());
    let (done, result) = sync_channel(1);
    let (of, its) = (Arc::clone(engine), Arc::clone(&watch));
    std::thread::Builder::new()
        .name("weir-copy".to_owned())
        .spawn(move || drop(done.send(work(&of, &its))))
        .map_err(|error| Error::Io(error.to_string()))?;
    match progress::wait(&result, &watch.steps, WATCHED) {
        Ok(done) => done,
        Err(Halted::Panic) => Err(Error::Damaged("copying it ended in a panic".to_owned())),
        Err(Halted::Standstill) => {
            let why = format!("copying it made no progress for {WATCHED:?}");
            watch.is_over.store(true, Ordering::Relaxed);
            engine.disk.unmirror(&why);
            Err(Error::Io(why))
        }
    }
}

/// A disk that is full because of a copy would be the end of what it is a copy of as well.
pub(super) fn check_room(kept: u64, path: &Path) -> Result<(), Error> {
    let needed = kept * 2 + SPARE;
    if available(path).is_some_and(|available| available < needed) {
        return Err(Error::Io(format!("{} has no room for a second copy of {needed} bytes", path.display())));
    }
    Ok(())
}

/// How many bytes are free on the disk, where that can be told.
fn available(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    #[cfg(not(unix))]
    return None;
}

/// What becomes of a value that is not what was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// It is found and counted when it is read.
    Stays,
    LeftOut,
}

/// Copies everything, and has everything copied that is written from now on. Says how many values were left out.
fn copy(new: &Begun<'_>, old: &Trees, damage: Damage, watch: &Watch) -> Result<u64, Error> {
    {
        let _writer = new.engine.writer()?;
        watch.step()?;
        new.engine.disk.mirror(&new.mirror);
    }
    let steps = Steps { new, watch };
    steps.over(&old.ages, KEYS_AT_ONCE, |key, value| Write::Age(key, Some(value)))?;
    steps.over(&old.entries, KEYS_AT_ONCE, |key, _| Write::Key(key))?;
    let mut left_out = 0;
    steps.over(&old.entries, VALUES_AT_ONCE, |key, value| {
        let stays = damage == Damage::Stays || codec::is_sound(&key, &value);
        left_out += u64::from(!stays);
        Write::Entry(key, stays.then_some(value))
    })?;
    Ok(left_out)
}

struct Steps<'c> {
    new: &'c Begun<'c>,
    watch: &'c Watch,
}

impl Steps<'_> {
    /// Hands over all pairs of a tree, as they are at that moment: the writer's lock is held, for a few at a time.
    fn over(
        &self,
        tree: &sled::Tree,
        at_once: usize,
        mut write: impl FnMut(sled::IVec, sled::IVec) -> Write,
    ) -> Result<(), Error> {
        let mut after: Option<sled::IVec> = None;
        loop {
            self.watch.step()?;
            self.new.mirror.has_room()?;
            let _writer = self.new.engine.writer()?;
            let begin = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let mut last = None;
            for pair in tree.range((begin, Bound::Unbounded)).take(at_once) {
                let (key, value) = pair.map_err(failed)?;
                self.new.mirror.take(write(key.clone(), value))?;
                last = Some(key);
            }
            let Some(last) = last else { return Ok(()) };
            after = Some(last);
        }
    }
}

fn take_over(new: &Begun<'_>, path: &Path, old: &Trees) -> Result<(), Error> {
    // Most of it without the lock.
    new.mirror.flush()?;
    let writer = new.engine.writer()?;
    // Where the store has been opened anew meanwhile this one is not in force any more.
    if folders::newest_folder(path)? != Some(old.number) {
        return Err(Error::Io("other files are in force by now".to_owned()));
    }
    let trees = new.mirror.sealed(Seal::Used(new.engine.all_used(&writer)))?;
    let number = trees.number;
    if let Err(error) = folders::finish(path, number) {
        drop(trees);
        folders::leave(path, number);
        return Err(error);
    }
    new.engine.disk.swap(trees);
    Ok(())
}

/// Removes the files of a database when nobody reads it any more.
#[expect(clippy::disallowed_methods, reason = "this blocks, and is no async code")]
fn remove_when_free(old: Arc<Trees>, path: &Path, watch: &Watch) {
    let folder = folders::folder(path, old.number);
    let began = Instant::now();
    while Arc::strong_count(&old) > 1 && began.elapsed() < LETTING_GO {
        let _ = watch.step();
        std::thread::sleep(Duration::from_millis(20));
    }
    // sled hangs in this where it has failed.
    let _ = std::thread::Builder::new().name("weir-leave".to_owned()).spawn(move || drop(old));
    let left = LETTING_GO.saturating_sub(began.elapsed());
    if !folders::wait_until_free(&folder, left, || drop(watch.step())) {
        return;
    }
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::debug!(%error, "the older files of the store stay until the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_beyond_twice_what_is_kept() {
        let first = Due::default();
        assert!(!first.is_due(1000, 500, 0));
        assert!(first.is_due(1001, 500, 0));
        assert!(!first.is_due(1001, 500, 100));
    }

    #[test]
    fn it_is_due_again_when_it_has_grown_or_much_has_gone() {
        let again = Due { files: 900, kept: 400 };
        assert!(!again.is_due(1001, 400, 0), "it came out at 900");
        assert!(again.is_due(1126, 400, 0));
        assert!(!again.is_due(900, 300, 0), "it may well come out at 900 again");
        assert!(again.is_due(900, 299, 0));
    }
}
