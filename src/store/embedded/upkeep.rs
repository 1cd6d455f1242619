//! Looking after a store that nobody has open: checking it, repairing it, and writing it anew without what sled
//! keeps of the past (to have it smaller, somewhere else, or back again).
//!
//! All of this blocks, and holds the folder as a sidecar does: neither can be there while the other is.

use super::disk::{Disk, Trees, failed};
use super::recovery::{self, Opened};
use super::{Config, Space, Tuning, codec};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Error;
use crate::store::room::Facts;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a store is written anew, until it is whole.
const UNFINISHED: &str = "unfinished";
/// How many entries are written before the caller is told how far it is.
const STEP: u64 = 256;

/// Is told how many entries are done, and about how many there are.
pub type Tell<'t> = &'t mut dyn FnMut(u64, u64);

/// What was found in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries that are whole.
    pub entries: u64,
    /// Values that are not what was written, and those that no age finds.
    pub damaged: u64,
    /// Ages without an entry; a crash leaves some. They do no harm.
    pub orphans: u64,
    /// Entries of which something else is noted than they say.
    pub misnoted: u64,
    /// Whether it had been closed in an orderly way.
    pub clean: bool,
    /// What the entries take.
    pub bytes: u64,
    /// What the files take.
    pub disk: u64,
}

/// What was written anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries that are in it.
    pub entries: u64,
    /// Entries that are not, since they were damaged or had been removed in part.
    pub left_out: u64,
    /// What the files took.
    pub before: u64,
    /// What they take now.
    pub after: u64,
}

/// Reads everything, and says what is there. What the start after a crash would drop is dropped.
pub fn check(path: &Path, tell: Tell<'_>) -> Result<Checked, Error> {
    looked_over(path, false, tell)
}

/// As [`check`], and drops what is damaged or has lost its other half.
pub fn repair(path: &Path, tell: Tell<'_>) -> Result<Checked, Error> {
    looked_over(path, true, tell)
}

/// Writes the store anew in place, which leaves behind what sled keeps of what was overwritten and removed.
pub fn compact(path: &Path, tell: Tell<'_>) -> Result<Copied, Error> {
    let (_, opened) = open(path)?;
    let unfinished = path.join(UNFINISHED);
    let copied = rewrite(&opened, &unfinished, tell)?;
    drop(opened);
    let before = folder_size(path) - folder_size(&unfinished);
    // From here on this is the newest, and whole; the others are only in the way. Its number is none that a crash has
    // left a mark for, which would say that it is not whole.
    let next = recovery::next_number(path)?;
    fs::rename(&unfinished, recovery::folder(path, next)).map_err(io_error(path))?;
    recovery::remove_others(path, next);
    Ok(Copied { before, after: folder_size(path), ..copied })
}

/// Writes a store with the same entries to a folder that is not there yet.
pub fn backup(path: &Path, to: &Path, tell: Tell<'_>) -> Result<Copied, Error> {
    let (_, opened) = open(path)?;
    let unfinished = begin_beside(to)?;
    let copied = rewrite(&opened, &recovery::folder(&unfinished, 0), tell)?;
    finish_beside(&unfinished, to)?;
    Ok(Copied { before: folder_size(path), after: folder_size(to), ..copied })
}

/// Puts the store of a backup in place of the one that is there, and says where that one is now.
pub fn restore(path: &Path, from: &Path, tell: Tell<'_>) -> Result<(Copied, Option<PathBuf>), Error> {
    // Held until the new one is whole, so that no sidecar starts meanwhile.
    let held = path.exists().then(|| open(path)).transpose()?;
    let restored = beside(path, "restored");
    if restored.exists() {
        fs::remove_dir_all(&restored).map_err(io_error(&restored))?;
    }
    let copied = backup(from, &restored, tell)?;
    drop(held);
    let aside = path.exists().then(|| beside(path, &format!("before-{}", SystemClock.now().0)));
    if let Some(aside) = &aside {
        fs::rename(path, aside).map_err(io_error(path))?;
    }
    fs::rename(&restored, path).map_err(io_error(path))?;
    Ok((copied, aside))
}

/// An empty folder beside one that is not there yet, and takes its name when it is whole.
pub(super) fn begin_beside(to: &Path) -> Result<PathBuf, Error> {
    if to.exists() {
        return Err(Error::Io(format!("{} is there already; name a new folder", to.display())));
    }
    let unfinished = beside(to, UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io_error(&unfinished))?;
    }
    fs::create_dir_all(&unfinished).map_err(io_error(&unfinished))?;
    Ok(unfinished)
}

/// Gives it its name.
pub(super) fn finish_beside(unfinished: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(unfinished, to).map_err(io_error(to))?;
    recovery::sync_folder(to.parent().unwrap_or(to)).map_err(io_error(to))
}

/// What the files of a folder take.
pub fn folder_size(folder: &Path) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    let size = |file: fs::DirEntry| match file.metadata() {
        Ok(about) if about.is_dir() => folder_size(&file.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    files.flatten().map(size).sum()
}

fn open(path: &Path) -> Result<(u64, Opened), Error> {
    let config = Config { path: path.to_path_buf(), ..Config::default() };
    recovery::open_as_it_is(&config, &Tuning::default())
}

fn looked_over(path: &Path, mend: bool, tell: Tell<'_>) -> Result<Checked, Error> {
    let (_, Opened { disk, recovery, used, .. }) = open(path)?;
    let clean = recovery.clean;
    let mut found = Checked { clean, damaged: recovery.damaged, bytes: used.bytes, ..Checked::default() };
    for pair in &disk.now().entries {
        let (key, value) = pair.map_err(failed)?;
        if is_whole(&disk, &key, &value)? {
            found.entries += 1;
            found.misnoted += u64::from(is_misnoted(&disk, &key, &value, mend)?);
        } else {
            found.damaged += 1;
            if mend {
                disk.now().entries.remove(&key).map_err(failed)?;
            }
        }
        told(tell, found.entries + found.damaged, used.entries);
    }
    for aged in disk.by_age(None) {
        let (place, _) = aged?;
        if disk.value_at(&place)?.is_none() {
            found.orphans += 1;
            if mend {
                disk.remove_at(&place)?;
            }
        }
    }
    recovery::close(&disk.now(), None)?;
    drop(disk);
    Ok(Checked { disk: folder_size(path), ..found })
}

/// Whether the value is what was written, and has its age.
fn is_whole(disk: &Disk, key: &[u8], value: &[u8]) -> Result<bool, Error> {
    Ok(codec::is_sound(key, value) && has_age(&disk.now(), key, value)?)
}

/// Whether something else is noted of a whole entry than it says; how often it has answered is known only there.
fn is_misnoted(disk: &Disk, key: &[u8], value: &[u8], mend: bool) -> Result<bool, Error> {
    let Ok((scope, id)) = codec::split_key(key) else { return Ok(false) };
    let (Ok(entry), Some((place, noted))) =
        (codec::decode(key, value, Space::default()), disk.facts(&scope, &id)?)
    else {
        return Ok(false);
    };
    let right = Facts { hits: noted.hits, ..Facts::of(&entry, value.len() + codec::KEYS) };
    if mend && noted != right {
        disk.note(&place, &right)?;
    }
    Ok(noted != right)
}

fn has_age(trees: &Trees, key: &[u8], value: &[u8]) -> Result<bool, Error> {
    let (Ok(key), Ok(created)) = (codec::Key::try_from(key), codec::decode_created(key, value)) else {
        return Ok(false);
    };
    trees.ages.contains_key(codec::age_key(created, &key)).map_err(failed)
}

/// Writes the entries that are whole to a database of their own.
fn rewrite(opened: &Opened, to: &Path, tell: Tell<'_>) -> Result<Copied, Error> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(io_error(to))?;
    }
    let (old, new) = (opened.disk.now(), recovery::new_database(to, 0)?);
    let mut copied = Copied::default();
    for pair in &old.ages {
        let (age_key, noted) = pair.map_err(failed)?;
        let Ok((created, key)) = codec::split_age_key(&age_key) else { continue };
        let value = old.entries.get(key).map_err(failed)?;
        if value.is_some_and(|value| codec::decode_created(&key, &value) == Ok(created)) {
            new.ages.insert(age_key, noted).map_err(failed)?;
        } else {
            copied.left_out += 1;
        }
    }
    // First the keys and then the values, in order: see `compact`.
    for key in old.entries.iter().keys() {
        new.entries.insert(key.map_err(failed)?, &[]).map_err(failed)?;
    }
    for pair in &old.entries {
        let (key, value) = pair.map_err(failed)?;
        let is_whole = || Ok(codec::is_sound(&key, &value) && has_age(&new, &key, &value)?);
        if is_whole()? {
            new.entries.insert(key, value).map_err(failed)?;
            copied.entries += 1;
        } else {
            new.entries.remove(&key).map_err(failed)?;
            copied.left_out += 1;
        }
        told(tell, copied.entries + copied.left_out, opened.used.entries);
    }
    recovery::close(&new, None)?;
    recovery::close(&old, None)?;
    Ok(copied)
}

fn told(tell: Tell<'_>, done: u64, all: u64) {
    if done.is_multiple_of(STEP) || done == all {
        tell(done, all);
    }
}

/// A folder beside another, on the same file system, so that renaming it is one step.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Io(format!("{}: {error}", path.display()))
}
