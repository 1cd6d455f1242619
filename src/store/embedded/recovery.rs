//! Opening the store, whatever is found.
//!
//! sled may answer damaged files with an error, with a panic, or not at all. So it is opened on a thread of its
//! own, which must show progress; where it does not, the folder is set aside and a new one is begun. A cache
//! can be filled again, and a sidecar that does not start helps nobody.

use super::codec;
use super::disk::{Disk, failed};
use super::folders::{self, RELEASE, folder, newest_folder};
use super::progress::{self, Halted};
use super::stock::{self, Left, Rest};
use super::trees::Trees;
use super::values::{Files, Values};
use super::{Config, Tuning};
use crate::store::Error;
use crate::store::popularity::Popularity;
use crate::store::room::Used;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// The format written here. A folder of a newer one is left as it is.
const FORMAT: u32 = 5;
/// The oldest whose values can be read; they are written as today's when they are written again.
const OLDEST: u32 = 3;
const FORMAT_KEY: &str = "format";

/// Set while a process has the store open, so that the next one knows whether it was closed.
const STATE_KEY: &str = "state";
const OPEN: &[u8] = b"open";
const CLOSED: &[u8] = b"closed";

/// Counts the probes. sled writes nothing where a value stays as it is, and says that all is well also when nothing
/// can be written any more.
const PROBES_KEY: &str = "probes";

/// How much there is: exactly, when it was closed, and about, while it is open.
const USED_KEY: &str = "used";

/// What sled may keep of its pages in memory. Most look-ups are of few entries, and the vectors have an index of
/// their own, so a modest amount serves; sled's default is a gigabyte.
const PAGE_CACHE_BYTES: u64 = 64 << 20;

/// What was found when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How many entries there are; where the rest is read in the background, at least.
    pub entries: u64,
    /// How many damaged values were found and dropped up to now. All values are verified after an unclean shutdown
    /// only; else each is verified when it is read.
    pub damaged: u64,
    /// Whether the rest is still being counted, and verified after an unclean shutdown, in the background.
    pub in_background: bool,
    /// Whether the store had been closed in an orderly way, or is new.
    pub clean: bool,
    /// How long it took.
    pub took: Duration,
    /// Where the folder went that could not be opened, and why.
    pub set_aside: Option<SetAside>,
}

/// A folder that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now. Nothing in it is used any more.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// An opened store.
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) recovery: Recovery,
    /// How many age keys there are, and how long what they stand for is.
    pub(super) used: Used,
    /// How often entries have answered up to now.
    pub(super) popularity: Popularity,
    /// What has not been read yet.
    pub(super) rest: Rest,
}

/// Why it could not be opened.
enum Failure {
    /// The folder is of no use.
    Unusable(String),
    /// The folder may be fine: say so, and leave it alone.
    Other(Error),
}

/// Opens the store, or a new one in place of one that is damaged. Blocks. Where this process itself still holds the
/// folder (`is_ours`), since sled hangs in it, a copy of what is on disk is opened.
pub(super) fn open(config: &Config, tuning: &Tuning, is_ours: bool) -> Result<Opened, Error> {
    let began = Instant::now();
    let newest = newest_folder(&config.path)?;
    folders::check_writable(&config.path)?;
    let mut number = newest.unwrap_or(0);
    let mut result = open_when_free(config, tuning, number);
    if is_ours && matches!(result, Err(Failure::Other(Error::InUse(_)))) {
        number = folders::copy_beside(&config.path, number)?;
        result = open_when_free(config, tuning, number);
    }
    let mut opened = match result {
        Ok(opened) => {
            // Its lock is held: nobody else uses what lies beside it.
            folders::remove_others(&config.path, number);
            opened
        }
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Unusable(reason)) => {
            // Another number: should the thread that hangs ever go on, it must not write into the new folder.
            let next = folders::next_number(&config.path)?;
            let path = folders::set_aside(&config.path)?;
            let mut opened = open_watched(config, tuning, next).map_err(Failure::into_error)?;
            opened.recovery.set_aside = Some(SetAside { path, reason });
            opened
        }
    };
    // In a ruined file sled may find nothing at all, and call that success; only a new folder is rightly empty.
    stock::unmark(&stock::mark(&config.path));
    opened.recovery.clean |= newest.is_none();
    opened.recovery.took = began.elapsed();
    Ok(opened)
}

/// Opens the store that is there. Nothing is set aside or begun.
pub(super) fn open_as_it_is(config: &Config, tuning: &Tuning) -> Result<Opened, Error> {
    let nothing = || Error::Io(format!("there is no store in {}", config.path.display()));
    if !config.path.is_dir() {
        return Err(nothing());
    }
    let number = newest_folder(&config.path)?.ok_or_else(nothing)?;
    let tuning = Tuning { read_at_opening: usize::MAX, ..*tuning };
    open_when_free(config, &tuning, number).map_err(Failure::into_error)
}

/// A new database in a folder of that name, with the format that is written here.
pub(super) fn new_database(folder: &Path, number: u64) -> Result<Trees, Error> {
    made(folder, number, Values::open(values_in(folder, Tuning::default().values_file)))
}

/// A new database, which is none until [`folders::finish`]: a crash before leaves the older one in force. It may take
/// files of values over from that one's.
pub(super) fn begin(path: &Path, number: u64, older: Files) -> Result<Trees, Error> {
    let io = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
    folders::mark_unfinished(path, number).map_err(io)?;
    let folder = folder(path, number);
    made(&folder, number, Values::beside(folders::values(&folder), older))
}

fn values_in(folder: &Path, shortest: u64) -> Files {
    Files { folder: folders::values(folder), shortest }
}

fn made(folder: &Path, number: u64, values: Result<Values, Error>) -> Result<Trees, Error> {
    let sled = configured(folder).open().map_err(|error| why(error, folder).into_error())?;
    let trees = Trees::new(sled, number, values?)?;
    trees.meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()).map_err(failed)?;
    Ok(trees)
}

/// Leaves the mark that it is in use, on disk.
pub(super) fn mark_open(trees: &Trees) -> Result<(), Error> {
    trees.meta.insert(STATE_KEY, OPEN).map_err(failed)?;
    trees.flush()
}

/// Writes something, and makes it survive a crash: whether that still works.
pub(super) fn probe(trees: &Trees) -> Result<(), Error> {
    let probes = trees.meta.get(PROBES_KEY).map_err(failed)?;
    let probes = probes.and_then(|probes| probes.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes);
    trees.entries.values().probe()?;
    trees.meta.insert(PROBES_KEY, &probes.wrapping_add(1).to_le_bytes()).map_err(failed)?;
    trees.flush()
}

/// Leaves the mark of an orderly shutdown, after everything else is safe on disk, and what is used where that is
/// known.
pub(super) fn close(trees: &Trees, used: Option<Used>) -> Result<(), Error> {
    match used {
        Some(used) => note_used(trees, used)?,
        None => drop(trees.meta.remove(USED_KEY).map_err(failed)?),
    }
    trees.flush()?;
    trees.meta.insert(STATE_KEY, CLOSED).map_err(failed)?;
    trees.flush()
}

/// Notes about how much there is, for a start after a crash.
pub(super) fn note_used(trees: &Trees, used: Used) -> Result<(), Error> {
    let numbers: Vec<u8> = [used.entries, used.bytes].into_iter().flat_map(u64::to_le_bytes).collect();
    trees.meta.insert(USED_KEY, numbers).map_err(failed)?;
    Ok(())
}

fn noted_used(trees: &Trees) -> Result<Option<Used>, Failure> {
    let noted = trees.meta.get(USED_KEY)?;
    let numbers = noted.as_deref().map(|noted| noted.as_chunks::<8>());
    let Some(([entries, bytes], [])) = numbers else { return Ok(None) };
    Ok(Some(Used { entries: u64::from_le_bytes(*entries), bytes: u64::from_le_bytes(*bytes) }))
}

/// Opens sled. Where another process holds it, waits a moment for that one to end, as in a restart.
#[expect(clippy::disallowed_methods, reason = "all of this blocks, and is no async code")]
fn open_when_free(config: &Config, tuning: &Tuning, number: u64) -> Result<Opened, Failure> {
    let began = Instant::now();
    loop {
        match open_watched(config, tuning, number) {
            Err(Failure::Other(Error::InUse(_))) if began.elapsed() < RELEASE => {
                std::thread::sleep(RELEASE / 20);
            }
            // Another process has written it anew and lets go of the old files, not of the new ones.
            Ok(_) | Err(Failure::Unusable(_))
                if newest_folder(&config.path).is_ok_and(|newest| newest > Some(number)) =>
            {
                return Err(Failure::Other(Error::InUse(config.path.display().to_string())));
            }
            opened => return opened,
        }
    }
}

/// Opens sled on a thread of its own, and waits as long as it shows progress.
fn open_watched(config: &Config, tuning: &Tuning, number: u64) -> Result<Opened, Failure> {
    let folder = folder(&config.path, number);
    let (files, expected) = ((config.flush, tuning.values_file), config.room().expected_entries());
    // The last start may have hung on what it read.
    let is_marked = stock::mark(&config.path).exists();
    let at_once = if is_marked { usize::MAX } else { tuning.read_at_opening };
    let progress = Arc::new(AtomicU64::new(0));
    let (done, result) = sync_channel(1);
    let seen = Arc::clone(&progress);
    std::thread::Builder::new()
        .name("weir-open".to_owned())
        // When nobody waits any more the database goes out of scope here, and gives back its files.
        .spawn(move || drop(done.send(open_folder(&folder, number, files, expected, at_once, &seen))))
        .map_err(|error| Failure::Other(Error::Io(error.to_string())))?;
    wait(&result, &progress, tuning.patience)
}

fn wait(
    result: &Receiver<Result<Opened, Failure>>,
    progress: &AtomicU64,
    patience: Duration,
) -> Result<Opened, Failure> {
    progress::wait(result, progress, patience).unwrap_or_else(|halted| {
        Err(Failure::Unusable(match halted {
            Halted::Panic => "opening it ended in a panic".to_owned(),
            Halted::Standstill => format!("opening it made no progress for {patience:?}"),
        }))
    })
}

/// How sled keeps it. It does not flush by itself: values are to be on disk before what says where they lie.
fn configured(folder: &Path) -> sled::Config {
    sled::Config::default().path(folder).cache_capacity(PAGE_CACHE_BYTES).flush_every_ms(None)
}

/// Removes the pictures of its state that sled was writing when it was killed. It takes the newest there is, also one
/// that was never finished (it passes over names that it does not use), cannot read it, and gives up the database. The
/// one before and the log behind it are whole.
fn remove_half_written(folder: &Path) {
    const GENERATING: &str = ".generating";
    // Whoever has it open may be writing one at this moment.
    let Ok(lock) = File::open(folder.join("db")) else { return };
    if lock.try_lock().is_err() {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(GENERATING) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn open_folder(
    folder: &Path,
    number: u64,
    (flush, values_file): (Duration, u64),
    expected: u64,
    at_once: usize,
    progress: &AtomicU64,
) -> Result<Opened, Failure> {
    remove_half_written(folder);
    let sled = configured(folder).open().map_err(|error| why(error, folder))?;
    let values = Values::open(values_in(folder, values_file)).map_err(Failure::Other)?;
    let trees = Trees::new(sled, number, values).map_err(Failure::of)?;
    check_format(&trees, progress)?;
    let clean = trees.meta.get(STATE_KEY)?.is_some_and(|state| state == CLOSED);
    trees.meta.insert(STATE_KEY, OPEN)?;
    let disk = Disk::new(trees, flush).map_err(Failure::Other)?;
    let popularity = Popularity::of(expected);
    let (used, mut rest) = take_stock(&disk, &popularity, clean, at_once, progress)?;
    let (mut entries, mut damaged) = (used.entries, 0);
    if !clean {
        let (kept, dropped, left) = verify(&disk, at_once, progress)?;
        (entries, damaged) = (if left.is_some() { entries } else { kept }, dropped);
        rest.values = left.map_or(Left::Nothing, Left::Behind);
    }
    // The mark that it is open must be there before the first write is.
    disk.flush().map_err(Failure::of)?;
    let in_background = !rest.is_nothing();
    let recovery = Recovery { entries, damaged, in_background, clean, took: Duration::ZERO, set_aside: None };
    Ok(Opened { disk, recovery, used, popularity, rest })
}

/// What is older than can be read is forgotten: its answers were given to questions that are told apart in another
/// way now.
fn check_format(disk: &Trees, progress: &AtomicU64) -> Result<(), Failure> {
    let Some(found) = disk.meta.get(FORMAT_KEY)? else {
        disk.meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes())?;
        return Ok(());
    };
    let found = <[u8; 4]>::try_from(found.as_ref())
        .map_err(|_| Failure::Unusable("its format cannot be read".to_owned()))?;
    let found = u32::from_le_bytes(found);
    if found > FORMAT {
        return Err(Failure::Other(Error::NewerFormat { found, known: FORMAT }));
    }
    if found < OLDEST {
        for key in disk.entries.keys() {
            key.and_then(|key| disk.entries.remove(&key)).map_err(Failure::of)?;
            progress.fetch_add(1, Ordering::Relaxed);
        }
        for key in disk.ages.iter().keys() {
            disk.ages.remove(key?)?;
            progress.fetch_add(1, Ordering::Relaxed);
        }
    }
    if found < FORMAT {
        disk.meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes())?;
    }
    Ok(())
}

/// Reads the first values, and removes those that are not what was written; their age keys stay as orphans. Says
/// how many were kept and removed, and the last one, if there are more.
fn verify(
    disk: &Disk,
    at_once: usize,
    progress: &AtomicU64,
) -> Result<(u64, u64, Option<codec::Key>), Failure> {
    let mut read = 0;
    let each = || {
        read += 1;
        progress.fetch_add(1, Ordering::Relaxed);
    };
    let (damaged, left) = stock::verify(disk, None, at_once, each).map_err(Failure::of)?;
    for key in &damaged {
        disk.now().entries.remove(key).map_err(Failure::of)?;
    }
    let damaged = damaged.len() as u64;
    Ok((read - damaged, damaged, left))
}

/// Counts the entries and their bytes by what lies beside their age keys, whose pages are small, and learns how often
/// they have answered: of the first ones, and in a small store of all.
fn take_stock(
    disk: &Disk,
    popularity: &Popularity,
    clean: bool,
    at_once: usize,
    progress: &AtomicU64,
) -> Result<(Used, Rest), Failure> {
    let each = || {
        progress.fetch_add(1, Ordering::Relaxed);
    };
    let counted = stock::count(disk, popularity, None, at_once, each).map_err(Failure::of)?;
    let seen =
        Used { entries: counted.change.entries.unsigned_abs(), bytes: counted.change.bytes.unsigned_abs() };
    if counted.is_all {
        return Ok((seen, Rest::default()));
    }
    let noted = noted_used(&disk.now())?;
    let places = Left::behind(counted.last);
    if let Some(noted) = noted.filter(|_| clean) {
        return Ok((noted, Rest { places, ..Rest::default() }));
    }
    disk.set_counted(counted.last.as_ref());
    // Nothing was noted: there may be anything.
    let most = noted.unwrap_or(Used { entries: u64::MAX / 2, bytes: u64::MAX / 2 });
    Ok((seen, Rest { counts: true, places, most: Some(most), ..Rest::default() }))
}

/// Whether what sled says is damage, another process, or the machine.
fn why(error: sled::Error, folder: &Path) -> Failure {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        // sled 0.34 has no other word for it.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            Failure::Other(Error::InUse(folder.display().to_string()))
        }
        sled::Error::Io(error) if !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput) => {
            Failure::Other(Error::Io(format!("{}: {error}", folder.display())))
        }
        damage => Failure::Unusable(damage.to_string()),
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        Self::of(failed(error))
    }
}

impl Failure {
    fn of(error: Error) -> Self {
        match error {
            Error::Damaged(reason) => Self::Unusable(reason),
            other => Self::Other(other),
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Unusable(reason) => Error::Damaged(reason),
            Self::Other(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::SyncSender;

    /// Long enough for a machine that is busy with other tests.
    const PATIENCE: Duration = Duration::from_secs(4);

    /// Waits for what `work` does on another thread.
    fn waited(
        patience: Duration,
        work: impl FnOnce(&SyncSender<Result<Opened, Failure>>, &AtomicU64) + Send + 'static,
    ) -> String {
        let progress = Arc::new(AtomicU64::new(0));
        let (done, result) = sync_channel(1);
        let seen = Arc::clone(&progress);
        let worker = std::thread::spawn(move || work(&done, &seen));
        let failure = wait(&result, &progress, patience).err().map(Failure::into_error);
        drop(result);
        let _ = worker.join();
        failure.map(|error| error.to_string()).unwrap_or_default()
    }

    fn pause(time: Duration) {
        // A channel that nobody answers: the plain way to sleep is not for us.
        let (_open, never) = sync_channel::<()>(0);
        let _ = never.recv_timeout(time);
    }

    #[test]
    fn a_hang_is_noticed() {
        let (_hangs, result) = sync_channel(1);
        let failure = wait(&result, &AtomicU64::new(0), Duration::from_millis(20)).err();
        let said = failure.map(|failure| failure.into_error().to_string()).unwrap_or_default();
        assert!(said.contains("no progress for 20ms"), "{said}");
    }

    #[test]
    fn a_panic_is_noticed() {
        // Printing a panic may take a while.
        let said = waited(Duration::from_secs(20), |_, _| panic!("as sled does, sometimes"));
        assert!(said.contains("ended in a panic"), "{said}");
    }

    #[test]
    fn slow_progress_is_waited_for() {
        let said = waited(PATIENCE, |done, progress| {
            for _ in 0..5 {
                pause(PATIENCE / 4);
                progress.fetch_add(1, Ordering::Relaxed);
            }
            let _ = done.send(Err(Failure::Other(Error::InUse("in the end".to_owned()))));
        });
        assert!(said.contains("in the end"), "{said}");
    }
}
