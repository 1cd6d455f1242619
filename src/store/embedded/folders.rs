//! Which of sled's folders there are, and which is in force: the newest that is whole. Others are on their way there, or
//! given up, or left over.

use crate::clock::{Clock, SystemClock};
use crate::store::Error;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// sled's own folders within ours are `sled-0`, `sled-1`, …
const FOLDER: &str = "sled-";
/// Behind the name of one that is not whole yet: the name of a file that says so.
const UNFINISHED: &str = ".unfinished";
/// The folder of values within each of them.
const VALUES: &str = "values";
/// In how many that were begun sled may hang before no more are.
const MOST_THAT_HANG: usize = 4;

/// How long to wait for another process that holds the folder. sled lets go of its lock a little after it has
/// been dropped.
pub(super) const RELEASE: Duration = Duration::from_secs(3);

/// What must be free on the disk, and writable, for the store to be opened.
const PROBE_BYTES: usize = 64 << 10;

/// Where sled's folder of that number is.
pub(super) fn folder(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{FOLDER}{number}"))
}

/// Where the files of values of a database are: in its folder, and with it in all that becomes of it.
pub(super) fn values(folder: &Path) -> PathBuf {
    folder.join(VALUES)
}

/// The number of the newest of sled's folders. Makes the folder around them where there is none.
pub(super) fn newest_folder(path: &Path) -> Result<Option<u64>, Error> {
    let io = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(io)?;
    let folders = folders(path).map_err(io)?;
    Ok(folders.into_iter().filter(|(_, is_unfinished)| !is_unfinished).map(|(number, _)| number).max())
}

/// The number of the next database: beyond all that were begun, whatever became of them.
pub(super) fn next_number(path: &Path) -> Result<u64, Error> {
    let folders = folders(path).map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
    let hang =
        folders.iter().filter(|&(number, is_unfinished)| *is_unfinished && is_held(&folder(path, *number)));
    if hang.count() >= MOST_THAT_HANG {
        let why = "sled hangs in several databases that were begun; a restart lets go of them";
        return Err(Error::Io(why.to_owned()));
    }
    Ok(folders.keys().max().map_or(0, |newest| newest + 1))
}

/// The numbers of sled's folders, and whether each is unfinished: has a mark that says so, or is that mark alone.
fn folders(path: &Path) -> std::io::Result<BTreeMap<u64, bool>> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(path)? {
        let name = file?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(FOLDER)) else { continue };
        let (number, is_mark) = match name.strip_suffix(UNFINISHED) {
            Some(number) => (number, true),
            None => (name, false),
        };
        if let Ok(number) = number.parse() {
            *found.entry(number).or_default() |= is_mark;
        }
    }
    Ok(found)
}

fn mark_of_unfinished(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{FOLDER}{number}{UNFINISHED}"))
}

/// Says of a folder that is still to come that it is not whole, until [`finish`]: a crash before leaves the older one in
/// force.
pub(super) fn mark_unfinished(path: &Path, number: u64) -> std::io::Result<()> {
    File::create(mark_of_unfinished(path, number))?.sync_all()?;
    sync_folder(path)
}

/// Makes a database that is whole, and on disk, the newest of all, in one step.
pub(super) fn finish(path: &Path, number: u64) -> Result<(), Error> {
    let io = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
    std::fs::remove_file(mark_of_unfinished(path, number)).map_err(io)?;
    // From here on it is what a start would open: to turn back now would lose what comes next.
    let _ = sync_folder(path);
    Ok(())
}

/// Where a store is written anew that nobody has open, until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.join("unfinished")
}

/// Removes what was begun and not finished. Where sled hangs and still holds it only what it takes is given back, and
/// its folder and mark stay until the next start: should sled ever go on, it must not meet another database there.
pub(super) fn give_up(path: &Path, number: u64) {
    let folder = folder(path, number);
    if is_held(&folder) {
        empty(&folder);
        return;
    }
    let removed = std::fs::remove_dir_all(&folder);
    if removed.is_ok() || !folder.exists() {
        let _ = std::fs::remove_file(mark_of_unfinished(path, number));
    }
}

/// The same, for whoever has just let go of it, which sled does a little later.
pub(super) fn leave(path: &Path, number: u64) {
    wait_until_free(&folder(path, number), RELEASE, || {});
    give_up(path, number);
}

/// Removes all databases that are older than that, or not finished.
pub(super) fn remove_others(path: &Path, number: u64) {
    let _ = std::fs::remove_dir_all(unfinished(path));
    for (other, is_unfinished) in folders(path).unwrap_or_default() {
        let other_folder = folder(path, other);
        if is_unfinished {
            give_up(path, other);
        } else if other < number {
            // Where sled hangs in it, nothing is given back before it lets go.
            if is_held(&other_folder) {
                empty(&other_folder);
            }
            let _ = std::fs::remove_dir_all(other_folder);
        }
    }
}

/// Keeps everyone from opening the store as long as this is held, whatever is wrong with it: by sled's own lock.
#[expect(clippy::disallowed_methods, reason = "this blocks, and is no async code")]
pub(super) fn hold(path: &Path) -> Result<Option<File>, Error> {
    let Some(number) = newest_folder(path)? else { return Ok(None) };
    let Ok(file) = File::open(folder(path, number).join("db")) else { return Ok(None) };
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if began.elapsed() < RELEASE => std::thread::sleep(RELEASE / 20),
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(Error::Io(format!("{}: {error}", path.display()))),
        }
    }
}

/// Waits for sled to let go of a folder, and says whether it has.
#[expect(clippy::disallowed_methods, reason = "this blocks, and is no async code")]
pub(super) fn wait_until_free(folder: &Path, patience: Duration, mut each: impl FnMut()) -> bool {
    let began = Instant::now();
    while is_held(folder) {
        if began.elapsed() >= patience {
            return false;
        }
        each();
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether sled has a folder open, of this process or another.
fn is_held(folder: &Path) -> bool {
    File::open(folder.join("db")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Gives back what the files of a folder take that is of no use any more, though somebody holds them.
pub(super) fn empty(folder: &Path) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if file.file_type().is_ok_and(|kind| kind.is_dir()) {
            empty(&file.path());
        } else if file.metadata().is_ok_and(|about| has_names(&about)) {
            // Another database has it too, under a name of its own.
            let _ = std::fs::remove_file(file.path());
        } else {
            let _ = File::options().write(true).open(file.path()).and_then(|file| file.set_len(0));
        }
    }
}

/// Whether a file has several names, or may have: where that cannot be told.
pub(super) fn has_names(about: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(about) > 1;
    #[cfg(not(unix))]
    return true;
}

/// What is the same of all names of a file, where that can be told; else each name is another file.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);
#[cfg(not(unix))]
pub(super) type Identity = PathBuf;

#[cfg(unix)]
pub(super) fn identity(_path: &Path, about: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (about.dev(), about.ino())
}

#[cfg(not(unix))]
pub(super) fn identity(path: &Path, _about: &Metadata) -> Identity {
    path.to_path_buf()
}

/// Copies what is on disk of a database, as a crash would leave it, and makes the copy the newest of all. Says its
/// number.
pub(super) fn copy_beside(path: &Path, number: u64) -> Result<u64, Error> {
    let io = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
    let (old, next) = (folder(path, number), next_number(path)?);
    let copied = (|| {
        mark_unfinished(path, next)?;
        copy_files(&old, &folder(path, next), true)?;
        std::fs::remove_file(mark_of_unfinished(path, next))?;
        sync_folder(path)
    })();
    if let Err(error) = copied {
        give_up(path, next);
        return Err(io(error));
    }
    Ok(next)
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    copy_files(from, to, false)
}

/// Files of values may get a second name in place of a copy: what they hold is never changed.
fn copy_files(from: &Path, to: &Path, shares_values: bool) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    let is_shared = shares_values && from.ends_with(VALUES);
    for file in std::fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.metadata()?.is_dir() {
            copy_files(&file.path(), &to, shares_values)?;
            continue;
        }
        if !is_shared || std::fs::hard_link(file.path(), &to).is_err() {
            std::fs::copy(file.path(), &to)?;
        }
        File::open(&to)?.sync_all()?;
    }
    sync_folder(to)
}

/// What was made and removed in a folder survives a crash.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Whether files can be written at all: if not, nothing that sled says then is about what is there.
pub(super) fn check_writable(path: &Path) -> Result<(), Error> {
    let probe = path.join("probe");
    let written = std::fs::write(&probe, vec![0; PROBE_BYTES]);
    let removed = std::fs::remove_file(&probe);
    written.and(removed).map_err(|error| Error::Io(format!("{} cannot be written: {error}", path.display())))
}

pub(super) fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", SystemClock.now().0));
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside).map_err(|error| {
        Error::Io(format!("{} is damaged and cannot be set aside: {error}; move it away", path.display()))
    })?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two databases may have the same file, and one of them be of no use any more.
    #[test]
    fn what_is_emptied_leaves_alone_what_another_has_as_well() {
        let parent = tempfile::tempdir().unwrap();
        let (old, new) = (parent.path().join("old"), parent.path().join("new"));
        std::fs::create_dir_all(values(&old)).unwrap();
        for name in ["db", "values/0", "values/1"] {
            std::fs::write(old.join(name), name).unwrap();
        }
        copy_files(&old, &new, true).unwrap();
        std::fs::write(values(&old).join("2"), "of the old one alone").unwrap();
        empty(&old);
        let read = |name: &str| std::fs::read_to_string(new.join(name)).unwrap();
        for name in ["db", "values/0", "values/1"] {
            assert_eq!(read(name), name);
        }
        assert_eq!(super::super::upkeep::folder_size(&old), 0);
    }
}
