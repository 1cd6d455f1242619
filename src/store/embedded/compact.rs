//! Writing the store anew while it is in use: sled keeps what was overwritten and removed for good, and its file grows
//! to several times of what it holds.
//!
//! A new database is begun beside the old one. From then on every write goes to both, and what was there before is
//! copied, some entries at a time, with the writer's lock held for each few: so whatever is changed meanwhile is
//! right in both. When all is copied and flushed the mark that the new one is unfinished is removed, and it is in
//! force. A crash before leaves the old one, a crash behind it the new one; the next start removes the other.
//! Values are not copied: the new one takes the files over in which they lie.
//! A backup of a store that is in use is such a copy, with files of its own, which is not put in force.
//!
//! The new one is written by a thread of its own ([`Mirror`]), so that nobody waits for ever where sled hangs in it: it
//! is given up then, and a later one has another number.

use super::Config;
use super::disk::failed;
use super::engine::Engine;
use super::mirror::{Mirror, Patience, Seal, Takes, Write};
use super::progress::{Watch, watched};
use super::reclaim::{Aim, reclaim};
use super::trees::Trees;
use super::upkeep::{self, Copied, folder_size};
use super::{codec, entries, folders, recovery};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Error;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many keys, or entries with their values, are copied before other writes get their turn.
const KEYS_AT_ONCE: usize = 256;
const VALUES_AT_ONCE: usize = 32;
/// For values a little is this part of what it is for sled's files.
const VALUES_SLACK: u64 = 4;
/// sled's files may take so many times what is kept in them.
const TIMES: u64 = 4;
/// Written anew they take some five times that all the same: what they keep is short, and a leaf is kept with the changes
/// to it.
const USUAL: u64 = 5;
/// What sled keeps of an entry.
pub(super) const IN_TREE: u64 = (codec::KEYS + codec::STUB) as u64;
/// How long to wait for those who still read the old database, and for sled to let go of its files. What is left
/// then is removed at the next start.
const LETTING_GO: Duration = Duration::from_mins(2);
/// How long to wait for sled to let go of a copy that was given up. It may hang in it.
const LEAVING: Duration = Duration::from_secs(5);
/// What must be free on the disk beside twice what is copied.
const SPARE: u64 = 64 << 20;

/// When files are worth being made smaller. What was left the last time is remembered: where nothing could be gained,
/// nothing will be before more has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// What sled's files took when they were last written anew, or zero, and what was kept in them.
    pub(super) keys: u64,
    pub(super) kept: u64,
    /// What the values took when some were last given back, or zero, and what lived of them.
    pub(super) values: u64,
    pub(super) live: u64,
}

impl Due {
    /// Beyond some times what is kept, and a little: small files are not worth it. Nor are those that came out as large
    /// the last time, unless much has come or gone since.
    pub(super) fn are_keys(self, files: u64, kept: u64, slack: u64) -> bool {
        // On a busy machine they may come out larger than they need be.
        let has_grown = files > self.keys.min(kept * USUAL) + kept && files > self.keys + kept / 4;
        let has_emptied = kept < self.kept - self.kept / 4;
        files > kept.saturating_mul(TIMES).saturating_add(slack) && (has_grown || has_emptied)
    }

    /// Beyond two fifths more than what lives, and a little.
    pub(super) fn are_values(self, files: u64, live: u64, slack: u64) -> bool {
        let has_grown = files > self.values + live / 8;
        let has_emptied = live < self.live - self.live / 8;
        files > (live + live * 2 / 5).saturating_add(slack / VALUES_SLACK) && (has_grown || has_emptied)
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

/// What files take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// Those of the database that is in force, all of them.
    pub(super) all: u64,
    /// Its values.
    pub(super) values: u64,
    /// In how many files these are, beside the one that is written.
    pub(super) files: usize,
}

impl Sizes {
    /// What sled takes, which has the keys.
    pub(super) fn keys(self) -> u64 {
        self.all.saturating_sub(self.values)
    }
}

pub(super) fn sizes(engine: &Engine, path: &Path) -> Sizes {
    let trees = engine.disk.now();
    let all = folder_size(&folders::folder(path, trees.number));
    let values = trees.entries.values();
    Sizes { all, values: values.size(), files: values.finished().map_or(0, |files| files.len()) }
}

/// Writes sled's part anew, and gives back what values take that are gone before that, where that is an aim. Blocks, for
/// as long as it takes to copy everything; requests go on.
pub(super) fn compact(
    engine: &Arc<Engine>,
    config: &Config,
    values: Option<Aim>,
) -> Result<Compacted, Error> {
    let path = config.path.clone();
    watched(engine, move |engine, watch| {
        let before = sizes(engine, &path).all;
        if let Some(aim) = values {
            reclaim(engine, aim, watch)?;
        }
        write_anew(engine, &path, watch)?;
        Ok(Compacted { before, after: sizes(engine, &path).all })
    })
}

/// Writes what is there when it ends to a folder that is not there yet. Blocks as long; requests go on.
pub(super) fn backup(engine: &Arc<Engine>, config: &Config, to: &Path) -> Result<Copied, Error> {
    let (path, to) = (config.path.clone(), to.to_path_buf());
    watched(engine, move |engine, watch| write_backup(engine, &path, &to, watch))
}

fn write_anew(engine: &Engine, path: &Path, watch: &Watch) -> Result<(), Error> {
    let old = engine.disk.now();
    // Values of older formats are written too, and lie in sled by now.
    check_room(sizes(engine, path).keys() / 2, path)?;
    let number = folders::next_number(path)?;
    let open = {
        let (path, older) = (path.to_path_buf(), old.entries.values().files().clone());
        move || recovery::begin(&path, number, older)
    };
    let leave = {
        let path = path.to_path_buf();
        move || folders::leave(&path, number)
    };
    let new = Begun { engine, mirror: Mirror::begin(Patience::default(), Takes::Places, open, leave)? };
    let written = copy(&new, &old, watch).and_then(|_| take_over(&new, path, &old));
    if let Err(error) = written {
        if !new.has_left() {
            // sled hangs in it. What it takes on a disk that may be full is given back.
            folders::empty(&folders::folder(path, number));
        }
        return Err(error);
    }
    remove_when_free(old, path, watch);
    Ok(())
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
    let new = Begun { engine, mirror: Mirror::begin(Patience::default(), Takes::Values, open, leave)? };
    let copied = copy(&new, &old, watch).and_then(|left_out| {
        new.mirror.flush()?;
        let sealed = {
            let _writer = engine.writer()?;
            check_in_force(path, &old)?;
            new.mirror.sealed(Seal::Closed)?
        };
        // Some have come and gone behind the copying.
        let mut entries = 0;
        for key in sealed.entries.keys() {
            key?;
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

/// Copies everything, and has everything copied that is written from now on. Says how many values were left out, since
/// they were damaged: where they themselves are not copied they stay, and are found and counted when they are read.
fn copy(new: &Begun<'_>, old: &Trees, watch: &Watch) -> Result<u64, Error> {
    {
        let _writer = new.engine.writer()?;
        watch.step()?;
        new.engine.disk.mirror(&new.mirror);
    }
    let steps = Steps { new, watch };
    steps.over(
        KEYS_AT_ONCE,
        |after| old.ages.range(after),
        |key, noted| Ok(Some(Write::Age(key, Some(noted)))),
    )?;
    let mut left_out = 0;
    match new.mirror.takes() {
        Takes::Places => steps.over(
            KEYS_AT_ONCE,
            |after| old.entries.places(after),
            |key, lies| {
                // One of an older format lies in sled itself.
                let lies = if entries::extent(&lies).is_some() { lies } else { old.entries.placed(&lies)? };
                Ok(Some(Write::Entry(key, Some(lies))))
            },
        )?,
        Takes::Values => steps.over(
            VALUES_AT_ONCE,
            |after| old.entries.places(after),
            |key, lies| {
                let Some((key, value)) = old.entries.read(Ok((key, lies))).transpose()? else {
                    return Ok(None);
                };
                let is_sound = codec::is_sound(&key, &value);
                left_out += u64::from(!is_sound);
                Ok(is_sound.then(|| Write::Entry(key, Some(value))))
            },
        )?,
    }
    Ok(left_out)
}

struct Steps<'c> {
    new: &'c Begun<'c>,
    watch: &'c Watch,
}

impl Steps<'_> {
    /// Hands over all pairs from behind some key on, as they are at that moment: the writer's lock is held, for a few
    /// at a time.
    fn over(
        &self,
        at_once: usize,
        pairs: impl Fn((Bound<sled::IVec>, Bound<sled::IVec>)) -> sled::Iter,
        mut write: impl FnMut(sled::IVec, sled::IVec) -> Result<Option<Write>, Error>,
    ) -> Result<(), Error> {
        let mut after = Bound::Unbounded;
        loop {
            self.watch.step()?;
            self.new.mirror.has_room()?;
            let _writer = self.new.engine.writer()?;
            let mut last = None;
            for pair in pairs((after.clone(), Bound::Unbounded)).take(at_once) {
                let (key, value) = pair.map_err(failed)?;
                last = Some(key.clone());
                if let Some(write) = write(key, value)? {
                    self.new.mirror.take(write)?;
                }
            }
            let Some(last) = last else { return Ok(()) };
            after = Bound::Excluded(last);
        }
    }
}

/// Where the store has been opened anew meanwhile, what was copied is not in force any more.
fn check_in_force(path: &Path, old: &Trees) -> Result<(), Error> {
    if folders::newest_folder(path)? != Some(old.number) {
        return Err(Error::Io("other files are in force by now".to_owned()));
    }
    Ok(())
}

fn take_over(new: &Begun<'_>, path: &Path, old: &Trees) -> Result<(), Error> {
    // Most of it without the lock.
    new.mirror.flush()?;
    let writer = new.engine.writer()?;
    check_in_force(path, old)?;
    // What was written to files that the new one has by now is on disk before it is in force.
    old.entries.values().sync()?;
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
    fn keys_are_due_beyond_some_times_what_is_kept() {
        let first = Due::default();
        assert!(!first.are_keys(2000, 500, 0));
        assert!(first.are_keys(2001, 500, 0));
        assert!(!first.are_keys(2001, 500, 100));
    }

    #[test]
    fn keys_are_due_again_when_they_have_grown_or_much_has_gone() {
        let again = Due { keys: 1900, kept: 400, ..Due::default() };
        assert!(!again.are_keys(2300, 400, 0), "they came out at 1900");
        assert!(again.are_keys(2301, 400, 0));
        assert!(!again.are_keys(1900, 300, 0), "they may well come out at 1900 again");
        assert!(again.are_keys(1900, 299, 0));
        let odd = Due { keys: 3000, kept: 400, ..Due::default() };
        assert!(!odd.are_keys(3100, 400, 0), "hardly anything has come since");
        assert!(odd.are_keys(3101, 400, 0), "they should have come out at 2000");
    }

    #[test]
    fn values_are_due_beyond_some_more_than_what_lives() {
        let first = Due::default();
        assert!(!first.are_values(1400, 1000, 0));
        assert!(first.are_values(1401, 1000, 0));
        assert!(!first.are_values(1401, 1000, 40));
        let again = Due { values: 1500, live: 1000, ..first };
        assert!(!again.are_values(1600, 1000, 0), "nothing could be gained at 1500");
        assert!(again.are_values(1626, 1000, 0));
        assert!(!again.are_values(1500, 875, 0), "hardly any of them have gone since");
        assert!(again.are_values(1500, 874, 0), "nothing has come, but some have gone");
    }
}
