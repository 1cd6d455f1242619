//! Looking after a store that nobody has open: checking it, repairing it, and writing it anew without what sled
//! keeps of the past (to have it smaller, somewhere else, or back again).
//!
//! All of this blocks, and holds the folder as a sidecar does: neither can be there while the other is.

use super::disk::{Disk, failed};
use super::folders::{self, Identity};
use super::mirror::{Mirror, Patience, Seal, Takes, Write};
use super::recovery::{self, Opened};
use super::trees::Trees;
use super::{Config, Space, Tuning, codec, compact};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Error;
use crate::store::room::Facts;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// What is behind the name of a folder until it is whole.
const UNFINISHED: &str = "unfinished";
/// How long to wait for sled to let go of what was given up, or is whole.
const LEAVING: Duration = Duration::from_secs(5);
/// How long a store may take to be closed.
const CLOSING: Duration = Duration::from_secs(20);
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
    let opened = open(path)?;
    let unfinished = folders::unfinished(path);
    let copied = rewrite(opened, &unfinished, tell)?;
    let before = folder_size(path) - folder_size(&unfinished);
    // From here on this is the newest, and whole; the others are only in the way.
    let number = put_in_force(path)?;
    folders::remove_others(path, number);
    Ok(Copied { before, after: folder_size(path), ..copied })
}

/// Writes a store with the same entries to a folder that is not there yet.
pub fn backup(path: &Path, to: &Path, tell: Tell<'_>) -> Result<Copied, Error> {
    check_free(to)?;
    let opened = open(path)?;
    let unfinished = begin_beside(to)?;
    let copied = rewrite(opened, &folders::folder(&unfinished, 0), tell)
        .inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
    finish_beside(&unfinished, to)?;
    Ok(Copied { before: folder_size(path), after: folder_size(to), ..copied })
}

/// Moves what was backed up to a folder that is not there yet, also on another disk.
pub fn move_backup(from: &Path, to: &Path) -> Result<(), Error> {
    check_free(to)?;
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let unfinished = begin_beside(to)?;
    let copied = fs::remove_dir(&unfinished).and_then(|()| folders::copy_folder(from, &unfinished));
    copied.map_err(io_error(&unfinished)).and_then(|()| finish_beside(&unfinished, to)).inspect_err(
        |_| {
            let _ = fs::remove_dir_all(&unfinished);
        },
    )?;
    fs::remove_dir_all(from).map_err(io_error(from))
}

/// Puts the store of a backup in place of the one that is there, whatever is wrong with that, and says where that one is
/// now. At any moment one of the two is in force.
pub fn restore(path: &Path, from: &Path, tell: Tell<'_>) -> Result<(Copied, Option<PathBuf>), Error> {
    let is_new = !path.exists();
    let restored = restore_in(path, from, tell);
    if restored.is_err() && is_new {
        let _ = fs::remove_dir(path);
    }
    restored
}

fn restore_in(path: &Path, from: &Path, tell: Tell<'_>) -> Result<(Copied, Option<PathBuf>), Error> {
    fs::create_dir_all(path).map_err(io_error(path))?;
    // Until the new one is in force, so that no sidecar starts meanwhile.
    let held = folders::hold(path)?;
    let opened = open(from)?;
    let before = folder_size(from);
    let copied = rewrite(opened, &folders::unfinished(path), tell)?;
    let number = put_in_force(path)?;
    drop(held);
    let aside = set_beside(path, number)?;
    Ok((Copied { before, after: folder_size(path), ..copied }, aside))
}

/// Makes what has been written anew the newest of all, and says its number, which is none that a crash has left a mark
/// for: that would say that it is not whole.
fn put_in_force(path: &Path) -> Result<u64, Error> {
    let number = folders::next_number(path)?;
    fs::rename(folders::unfinished(path), folders::folder(path, number)).map_err(io_error(path))?;
    folders::sync_folder(path).map_err(io_error(path))?;
    Ok(number)
}

/// Moves all that is in the folder but the database in force to a folder beside it, and says which, if there is any.
fn set_beside(path: &Path, number: u64) -> Result<Option<PathBuf>, Error> {
    let in_force = folders::folder(path, number);
    let others = fs::read_dir(path).map_err(io_error(path))?.flatten().map(|file| file.path());
    let others: Vec<PathBuf> = others.filter(|other| *other != in_force).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let aside = beside(path, &format!("before-{}", SystemClock.now().0));
    fs::create_dir(&aside).map_err(io_error(&aside))?;
    for other in others {
        let name = other.file_name().unwrap_or_default();
        fs::rename(&other, aside.join(name)).map_err(io_error(&other))?;
    }
    Ok(Some(aside))
}

/// An empty folder beside one that is not there yet, and takes its name when it is whole.
pub(super) fn begin_beside(to: &Path) -> Result<PathBuf, Error> {
    check_free(to)?;
    let unfinished = beside(to, UNFINISHED);
    remove_if_there(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(io_error(&unfinished))?;
    Ok(unfinished)
}

fn check_free(to: &Path) -> Result<(), Error> {
    match to.exists() {
        true => Err(Error::Io(format!("{} is there already; name a new folder", to.display()))),
        false => Ok(()),
    }
}

/// Gives it its name.
pub(super) fn finish_beside(unfinished: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(unfinished, to).map_err(io_error(to))?;
    // The parent of a plain name is an empty one.
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    folders::sync_folder(parent.unwrap_or(Path::new("."))).map_err(io_error(to))
}

/// What the files of a folder take. One that has several names there, as those of values may while the store is
/// written anew, counts once.
pub fn folder_size(folder: &Path) -> u64 {
    size_of_new(folder, &mut HashSet::new())
}

fn size_of_new(folder: &Path, seen: &mut HashSet<Identity>) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    let mut size = 0;
    for file in files.flatten() {
        let Ok(about) = file.metadata() else { continue };
        if about.is_dir() {
            size += size_of_new(&file.path(), seen);
        } else if seen.insert(folders::identity(&file.path(), &about)) {
            size += about.len();
        }
    }
    size
}

fn open(path: &Path) -> Result<Opened, Error> {
    let config = Config { path: path.to_path_buf(), ..Config::default() };
    recovery::open_as_it_is(&config, &Tuning::default())
}

fn looked_over(path: &Path, mend: bool, tell: Tell<'_>) -> Result<Checked, Error> {
    let Opened { disk, recovery, used, .. } = open(path)?;
    let clean = recovery.clean;
    let mut found = Checked { clean, damaged: recovery.damaged, bytes: used.bytes, ..Checked::default() };
    for pair in disk.values(None) {
        let (key, value) = pair?;
        if is_whole(&disk, &key, &value)? {
            found.entries += 1;
            found.misnoted += u64::from(is_misnoted(&disk, &key, &value, mend)?);
        } else {
            found.damaged += 1;
            if mend {
                disk.now().entries.remove(&key)?;
            }
        }
        told(tell, found.entries + found.damaged, used.entries);
    }
    for aged in disk.by_age(None) {
        let (place, _) = aged?;
        if disk.head_at(&place)?.is_none() {
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

/// Writes the entries that are whole to a database of their own, and lets go of both. Where that cannot be written, or
/// sled hangs in it, nothing of it is left.
fn rewrite(opened: Opened, to: &Path, tell: Tell<'_>) -> Result<Copied, Error> {
    remove_if_there(to)?;
    compact::check_room(opened.used.bytes, to.parent().unwrap_or(to))?;
    let (open, leave) = (to.to_path_buf(), to.to_path_buf());
    // No write to the old one waits for it.
    let alone = Patience::default().alone;
    let new = Mirror::begin(
        Patience { alone, waited_for: alone },
        Takes::Values,
        move || recovery::new_database(&open, 0),
        move || drop(fs::remove_dir_all(leave)),
    )?;
    let copied = copy(&opened, &new, tell).and_then(|copied| {
        drop(new.sealed(Seal::Closed)?);
        Ok(copied)
    });
    if copied.is_err() {
        new.give_up("it was given up");
        // Where sled hangs in it, what it takes is given back when this process ends.
        if !new.has_left_within(LEAVING) {
            folders::empty(to);
            let _ = fs::remove_dir_all(to);
        }
    }
    let closed = close(opened);
    let copied = copied?;
    closed?;
    folders::wait_until_free(to, LEAVING, || {});
    Ok(copied)
}

/// Leaves the mark of an orderly end, and lets go of it. sled may hang in either, where the disk is full.
fn close(opened: Opened) -> Result<(), Error> {
    let (done, result) = sync_channel(1);
    let close = move || {
        let closed = recovery::close(&opened.disk.now(), None);
        drop(opened);
        let _ = done.send(closed);
    };
    std::thread::Builder::new()
        .name("weir-close".to_owned())
        .spawn(close)
        .map_err(|error| Error::Io(format!("a thread could not be started: {error}")))?;
    result
        .recv_timeout(CLOSING)
        .unwrap_or_else(|_| Err(Error::Io(format!("it could not be closed within {CLOSING:?}"))))
}

fn copy(opened: &Opened, new: &Mirror, tell: Tell<'_>) -> Result<Copied, Error> {
    let old = opened.disk.now();
    let write = |write| new.has_room().and_then(|()| new.take(write));
    let mut copied = Copied::default();
    for pair in &old.ages {
        let (age_key, noted) = pair.map_err(failed)?;
        let Ok((created, key)) = codec::split_age_key(&age_key) else { continue };
        if old.entries.head(&key)?.is_some_and(|head| head.is_ok_and(|head| head.created == created)) {
            write(Write::Age(age_key, Some(noted)))?;
        } else {
            copied.left_out += 1;
        }
    }
    for pair in opened.disk.values(None) {
        let (key, value) = pair?;
        let is_whole = codec::is_sound(&key, &value) && has_age(&old, &key, &value)?;
        *(if is_whole { &mut copied.entries } else { &mut copied.left_out }) += 1;
        if is_whole {
            write(Write::Entry(key, Some(value)))?;
        }
        told(tell, copied.entries + copied.left_out, opened.used.entries);
    }
    Ok(copied)
}

fn remove_if_there(folder: &Path) -> Result<(), Error> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(io_error(folder)) } else { Ok(()) }
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
