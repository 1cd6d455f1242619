//! [`Values`]: what entries say, in files that are only ever added to. sled has where in them each value lies: it would
//! write a value several times over, and keep what was written over for long.
//!
//! Files have numbers. The newest is written until it is long enough; then the next is begun, and so it is at each start.
//! What is written over or removed stays where it is until little of its file lives: then that little is written again
//! and the file is removed (see `reclaim`). A value carries its own checksum, so nothing here is believed.

use crate::store::Error;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A file ends when it has this part of all there is: enough files that room is made in small steps, and not so many
/// that they weigh.
const PART: u64 = 32;
/// But no more than that, and what is told when it is opened at least.
const LONGEST: u64 = 1 << 30;
/// How many files are held open for reading.
const OPEN_FILES: usize = 128;
/// How many that have ended may wait to be forced to the disk: they are open as well.
const UNSYNCED_FILES: usize = 64;
/// A longer value is looked for in a file that is as long before there is memory for it: its place may be damaged.
const UNCHECKED: u32 = 1 << 20;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) file: u64,
    pub(super) from: u32,
    pub(super) length: u32,
}

/// Where files of values are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
    /// How long one is at least before it ends.
    pub(super) shortest: u64,
}

/// The files of one database.
pub(super) struct Values {
    files: Files,
    tail: Mutex<Tail>,
    open: RwLock<HashMap<u64, Arc<File>>>,
    /// Held by whoever makes it survive a crash: who comes later waits, and is not told too soon.
    syncing: Mutex<()>,
    /// Something that was written may not be there: nothing more is until it is opened anew.
    failed: AtomicBool,
}

struct Tail {
    /// The file that is written, and how long it is.
    file: Option<(u64, Arc<File>, u64)>,
    /// The number of the next one.
    next: u64,
    /// What all of them take.
    total: u64,
    /// Written since they were last made to survive a crash, and whether files came.
    unsynced: Vec<Arc<File>>,
    came: bool,
    /// Where files lie that may be taken over, and those that were.
    source: Option<PathBuf>,
    adopted: HashMap<u64, Adopted>,
}

/// How a file was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adopted {
    /// It is the same one, under another name.
    Shared,
    /// As it was then: what is added to the source is missing here.
    Copied,
}

impl Values {
    /// The files in a folder, which is made where there is none, and one more, so that it is known at once whether that
    /// can be written.
    pub(super) fn open(files: Files) -> Result<Self, Error> {
        let values = Self::opened(files, None)?;
        let begun = values.begin(&mut values.tail()).map_err(|error| values.failed(&error))?;
        values.tail().file = Some(begun);
        Ok(values)
    }

    /// Those of a database that is to take the place of another, whose files it may take over.
    pub(super) fn beside(folder: PathBuf, older: Files) -> Result<Self, Error> {
        Self::opened(Files { folder, shortest: older.shortest }, Some(older.folder))
    }

    fn opened(files: Files, source: Option<PathBuf>) -> Result<Self, Error> {
        let folder = &files.folder;
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let there = listed(folder).map_err(|error| failed(folder, &error))?;
        let next = there.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        // Of starts in which nothing was written.
        for (number, _) in there.iter().filter(|(_, size)| *size == 0) {
            let _ = fs::remove_file(folder.join(number.to_string()));
        }
        let tail = Tail {
            file: None,
            next,
            total: there.iter().map(|(_, size)| size).sum(),
            unsynced: Vec::new(),
            came: true,
            source,
            adopted: HashMap::new(),
        };
        Ok(Self {
            files,
            tail: Mutex::new(tail),
            open: RwLock::default(),
            syncing: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Writes a value, and says where it lies.
    pub(super) fn append(&self, value: &[u8]) -> Result<Extent, Error> {
        self.check()?;
        let mut tail = self.tail();
        self.append_in(&mut tail, value).map_err(|error| self.failed(&error))
    }

    fn append_in(&self, tail: &mut Tail, value: &[u8]) -> io::Result<Extent> {
        let long_enough = (tail.total / PART).min(LONGEST).max(self.files.shortest);
        let (number, file, length) = match tail.file.take() {
            Some(file) if file.2 < long_enough => file,
            _ => self.begin(tail)?,
        };
        let written = write_at(&file, value, length);
        // What was written in part is written over by the next.
        let is = if written.is_ok() { length + value.len() as u64 } else { length };
        if written.is_ok() && tail.unsynced.last().is_none_or(|last| !Arc::ptr_eq(last, &file)) {
            tail.unsynced.push(Arc::clone(&file));
        }
        tail.file = Some((number, file, is));
        tail.total += is - length;
        written?;
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        Ok(Extent {
            file: number,
            from: u32::try_from(length).map_err(too_long)?,
            length: u32::try_from(value.len()).map_err(too_long)?,
        })
    }

    /// Begins the next file.
    fn begin(&self, tail: &mut Tail) -> io::Result<(u64, Arc<File>, u64)> {
        if tail.unsynced.len() >= UNSYNCED_FILES {
            let synced = std::mem::take(&mut tail.unsynced).iter().try_for_each(|file| file.sync_data());
            synced.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        }
        let number = tail.next;
        let file = File::options().read(true).write(true).create_new(true).open(self.path(number))?;
        tail.next += 1;
        tail.came = true;
        Ok((number, Arc::new(file), 0))
    }

    /// The value that lies there; `None` where there is nothing of that length, or the file has gone.
    pub(super) fn read(&self, at: Extent) -> Result<Option<Vec<u8>>, Error> {
        let read = || {
            let file = self.file(at.file)?;
            let end = u64::from(at.from) + u64::from(at.length);
            if at.length > UNCHECKED && file.metadata()?.len() < end {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let mut value = vec![0; at.length as usize];
            read_at(&file, &mut value, at.from.into())?;
            Ok(value)
        };
        match read() {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Ok(None)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn file(&self, number: u64) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.read().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return Ok(Arc::clone(file));
        }
        // Held while it is opened: none is kept open that has been removed meanwhile.
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let file = Arc::new(File::open(self.path(number))?);
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Takes a file over from the source under its number, unless it is here already.
    pub(super) fn adopt(&self, number: u64) -> Result<(), Error> {
        // One file with two names, where the disk can do that: it is only ever added to, and by one.
        self.adopt_by(number, |from, to| fs::hard_link(from, to))
    }

    fn adopt_by(&self, number: u64, share: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<(), Error> {
        let mut tail = self.tail();
        let Some(source) = tail.source.as_ref().filter(|_| !tail.adopted.contains_key(&number)) else {
            return Ok(());
        };
        let (from, to) = (source.join(number.to_string()), self.path(number));
        let adopted = match share(&from, &to) {
            Ok(()) => Ok(Adopted::Shared),
            Err(_) => copy_over(&from, &to).map(|()| Adopted::Copied),
        };
        let adopted = adopted.and_then(|adopted| Ok((adopted, fs::metadata(&to)?.len())));
        let (adopted, size) = adopted.map_err(|error| failed(&from, &error))?;
        tail.total += size;
        tail.next = tail.next.max(number + 1);
        tail.adopted.insert(number, adopted);
        tail.came = true;
        Ok(())
    }

    /// Has what was added to files of the source since they were copied. The source is written no more.
    pub(super) fn catch_up(&self) -> Result<(), Error> {
        let tail = self.tail();
        let Some(source) = &tail.source else { return Ok(()) };
        for (number, adopted) in &tail.adopted {
            let (from, to) = (source.join(number.to_string()), self.path(*number));
            let catch_up = || match adopted {
                Adopted::Copied if fs::metadata(&from)?.len() != fs::metadata(&to)?.len() => {
                    copy_over(&from, &to)
                }
                Adopted::Copied | Adopted::Shared => Ok(()),
            };
            catch_up().map_err(|error| failed(&from, &error))?;
        }
        Ok(())
    }

    /// From here on it stands alone: the source is written no more.
    pub(super) fn stand_alone(&self) {
        let mut tail = self.tail();
        (tail.source, tail.adopted) = (None, HashMap::new());
        // What was taken over may have grown since.
        if let Ok(files) = listed(&self.files.folder) {
            tail.total = files.iter().map(|(_, size)| size).sum();
        }
    }

    /// Makes everything that was written up to now survive a crash.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let (unsynced, came) = {
            let mut tail = self.tail();
            (std::mem::take(&mut tail.unsynced), std::mem::take(&mut tail.came))
        };
        let synced = unsynced.iter().try_for_each(|file| file.sync_data());
        let synced =
            synced.and_then(|()| if came { super::folders::sync_folder(&self.files.folder) } else { Ok(()) });
        synced.map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            self.failed(&error)
        })
    }

    /// Whether a value can still be written.
    pub(super) fn probe(&self) -> Result<(), Error> {
        const PROBE: [u8; 64] = [0; 64];
        self.append(&PROBE).map(drop)
    }

    /// The files that are not written any more, and what they take.
    pub(super) fn finished(&self) -> Result<Vec<(u64, u64)>, Error> {
        // Asked for first: what is finished stays so.
        let written = self.tail().next.saturating_sub(1);
        let files = listed(&self.files.folder).map_err(|error| self.failed(&error))?;
        Ok(files.into_iter().filter(|(number, _)| *number < written).collect())
    }

    /// What all files take.
    pub(super) fn size(&self) -> u64 {
        self.tail().total
    }

    /// Removes a file of which nothing lives.
    pub(super) fn remove(&self, number: u64) -> Result<(), Error> {
        let path = self.path(number);
        let size = fs::metadata(&path).map_or(0, |file| file.len());
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number);
        fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        drop(open);
        let mut tail = self.tail();
        tail.total = tail.total.saturating_sub(size);
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::Io(format!(
                "{}: what was written may not be there",
                self.files.folder.display()
            )));
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        failed(&self.files.folder, error)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.files.folder.join(number.to_string())
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // A panic leaves nothing half-done here.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy_over(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// The files in a folder, by number, and what they take.
fn listed(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        if let Some(number) = file.file_name().to_str().and_then(|name| name.parse().ok()) {
            files.push((number, file.metadata().map_or(0, |about| about.len())));
        }
    }
    Ok(files)
}

#[cfg(unix)]
fn write_at(file: &File, value: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, value, at)
}

#[cfg(unix)]
fn read_at(file: &File, value: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, value, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut value: &[u8], mut at: u64) -> io::Result<()> {
    while !value.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, value, at)?;
        (value, at) = (&value[written..], at + written as u64);
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, mut value: &mut [u8], mut at: u64) -> io::Result<()> {
    while !value.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, value, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (value, at) = (&mut value[read..], at + read as u64);
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &Path, shortest: u64) -> Values {
        Values::open(Files { folder: folder.to_path_buf(), shortest }).unwrap()
    }

    fn numbers(folder: &Path) -> Vec<u64> {
        let mut numbers: Vec<u64> = listed(folder).unwrap().into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_was_written_is_read_also_behind_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let values = opened(folder.path(), 10);
        let written: Vec<(Extent, Vec<u8>)> = (1..20_u8)
            .map(|n| vec![n; n.into()])
            .map(|value| (values.append(&value).unwrap(), value))
            .collect();
        assert!(numbers(folder.path()).len() > 5, "each ends when it is long enough");
        let all: usize = written.iter().map(|(_, value)| value.len()).sum();
        assert_eq!(values.size(), all as u64);
        values.sync().unwrap();
        let again = opened(folder.path(), 10);
        assert_eq!(again.size(), all as u64);
        for (at, value) in written {
            assert_eq!(values.read(at).unwrap(), Some(value.clone()));
            assert_eq!(again.read(at).unwrap(), Some(value));
        }
        // It never goes on with what another may still write.
        let last = numbers(folder.path()).pop();
        assert_eq!(last, Some(again.append(b"more").unwrap().file));
    }

    #[test]
    fn what_is_not_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let values = opened(folder.path(), 10);
        let at = values.append(b"value").unwrap();
        for odd in [Extent { length: 6, ..at }, Extent { file: 77, ..at }, Extent { length: u32::MAX, ..at }]
        {
            assert_eq!(values.read(odd).unwrap(), None, "{odd:?}");
        }
        values.append(b"so that the first file has ended").unwrap();
        values.append(b"another").unwrap();
        values.remove(at.file).unwrap();
        assert_eq!(values.read(at).unwrap(), None);
    }

    #[test]
    fn what_is_still_written_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let values = opened(folder.path(), 10);
        assert_eq!(values.finished().unwrap(), []);
        values.append(&[1; 30]).unwrap();
        assert_eq!(values.finished().unwrap(), []);
        values.append(&[2; 3]).unwrap();
        assert_eq!(values.finished().unwrap(), [(0, 30)]);
        values.remove(0).unwrap();
        assert_eq!(values.size(), 3);
    }

    #[test]
    fn files_in_which_nothing_was_written_go_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            opened(folder.path(), 10);
        }
        assert_eq!(numbers(folder.path()).len(), 1);
    }

    #[test]
    fn where_a_file_has_one_name_only_what_is_added_later_comes_too() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let older = opened(old.path(), 100);
        let first = older.append(&[1; 30]).unwrap();
        let values = Values::beside(new.path().join("values"), older.files().clone()).unwrap();
        let no_links = |_: &Path, _: &Path| Err(io::ErrorKind::Unsupported.into());
        values.adopt_by(first.file, no_links).unwrap();
        let second = older.append(&[2; 30]).unwrap();
        assert_eq!(first.file, second.file);
        values.adopt_by(second.file, no_links).unwrap();
        assert_eq!(values.read(second).unwrap(), None, "it came behind the copy");
        values.catch_up().unwrap();
        values.stand_alone();
        assert_eq!(values.size(), 60);
        for (at, value) in [(first, [1; 30]), (second, [2; 30])] {
            assert_eq!(values.read(at).unwrap(), Some(value.to_vec()));
        }
    }

    #[test]
    fn however_many_files_end_few_of_them_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let values = opened(folder.path(), 1);
        for _ in 0..3 * UNSYNCED_FILES {
            values.append(&[1; 200]).unwrap();
            assert!(values.tail().unsynced.len() <= UNSYNCED_FILES);
        }
        assert!(numbers(folder.path()).len() > UNSYNCED_FILES);
    }

    #[test]
    fn files_are_taken_over_once_and_stay_when_the_other_has_gone() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let older = opened(old.path(), 100);
        let at = older.append(&[1; 30]).unwrap();
        let values = Values::beside(new.path().join("values"), older.files().clone()).unwrap();
        for _ in 0..2 {
            values.adopt(at.file).unwrap();
        }
        assert!(values.adopt(77).is_err(), "there is none");
        assert_eq!(values.size(), 30);
        older.append(&[3; 5]).unwrap();
        values.stand_alone();
        assert_eq!(values.size(), 35, "it has grown meanwhile");
        let next = values.append(&[2; 3]).unwrap();
        assert_ne!(next.file, at.file);
        drop(older);
        old.close().unwrap();
        assert_eq!(values.read(at).unwrap(), Some(vec![1; 30]));
        values.sync().unwrap();
    }
}
