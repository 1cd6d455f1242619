//! What is read of a store when it is opened, and what behind it: how much there is, how often it has answered, and,
//! after an end without notice, whether it is what was written.
//!
//! A small store is read in full before it is opened for use. Of a large one the first entries are, and the rest
//! on a thread of its own, while it answers. Values need no verifying to be safe: each is held to its checksum when
//! it is read. Until all is counted the limits are held to the most that there can be.
//!
//! On damaged files sled may hang, or panic. Where that happens here a mark is left, and the next start reads all
//! before it opens, so that it notices and sets the folder aside.

use super::codec::{self, Key};
use super::disk::{Change, Disk};
use super::engine::Engine;
use crate::store::popularity::Popularity;
use crate::store::room::Used;
use crate::store::{Error, Place};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The mark of a start that could not read all.
const MARK: &str = "unreadable";
/// Places that are counted, and values that are verified, before others get their turn.
const COUNTED_AT_ONCE: usize = 512;
const VERIFIED_AT_ONCE: usize = 64;

/// What is left of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Left<T> {
    #[default]
    Nothing,
    All,
    Behind(T),
}

impl<T> Left<T> {
    /// What is left where something is, by the last one that was read.
    pub(super) fn behind(last: Option<T>) -> Self {
        last.map_or(Self::All, Self::Behind)
    }

    /// The last one that was read.
    pub(super) fn last(&self) -> Option<&T> {
        if let Self::Behind(last) = self { Some(last) } else { None }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// What is still to be read.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Whether to count, or only to learn how often entries have answered.
    pub(super) counts: bool,
    pub(super) places: Left<Place>,
    /// Of those that are to be verified.
    pub(super) values: Left<Key>,
    /// The most that there can be, until all is counted.
    pub(super) most: Option<Used>,
}

impl Rest {
    pub(super) fn is_nothing(&self) -> bool {
        self.places.is_nothing() && self.values.is_nothing()
    }
}

/// Some places, added up.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) change: Change,
    pub(super) last: Option<Place>,
    pub(super) is_all: bool,
}

/// Adds up to `most` places up, from behind `after` on, and learns how often they have answered. Orphans are counted
/// along; there are few.
pub(super) fn count(
    disk: &Disk,
    popularity: &Popularity,
    after: Option<&Place>,
    most: usize,
    mut each: impl FnMut(),
) -> Result<Counted, Error> {
    let mut counted = Counted { last: after.copied(), ..Counted::default() };
    let mut places = disk.by_age(after);
    for aged in places.by_ref().take(most) {
        let (place, facts) = aged?;
        popularity.recall(&place.id, facts.hits);
        counted.change += Change { entries: 1, bytes: facts.size.into() };
        counted.last = Some(place);
        each();
    }
    counted.is_all = places.next().is_none();
    Ok(counted)
}

/// Looks at up to `most` values from behind `after` on. Says which are not what was written, and how to go on.
pub(super) fn verify(
    disk: &Disk,
    after: Option<&Key>,
    most: usize,
    mut each: impl FnMut(),
) -> Result<(Vec<sled::IVec>, Option<Key>), Error> {
    let (mut damaged, mut last, mut count) = (Vec::new(), None, 0);
    for pair in disk.values(after).take(most) {
        let (key, value) = pair?;
        count += 1;
        last = Key::try_from(key.as_ref()).ok().or(last);
        if !codec::is_sound(&key, &value) {
            damaged.push(key);
        }
        each();
    }
    Ok((damaged, last.filter(|_| count == most)))
}

/// Where the mark is.
pub(super) fn mark(path: &Path) -> PathBuf {
    path.join(MARK)
}

/// Reads the rest on a thread of its own, which ends when the sender goes, or with the store. Another thread watches
/// whether it gets on.
pub(super) fn read_behind(
    engine: &Arc<Engine>,
    path: &Path,
    rest: Rest,
    patience: Duration,
    end: Receiver<()>,
) -> std::io::Result<()> {
    let mark = mark(path);
    let engine = Arc::downgrade(engine);
    let (tell, told) = sync_channel(1);
    let work = move || {
        let began = Instant::now();
        match read(&engine, rest, &end, &tell) {
            Ok(true) => tracing::info!(took = ?began.elapsed(), "all of the store was read"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the store could not be read to its end"),
        }
        let _ = tell.send(Told::Ends);
    };
    std::thread::Builder::new().name("weir-stock".to_owned()).spawn(work)?;
    std::thread::Builder::new().name("weir-watch".to_owned()).spawn(move || watch(&told, &mark, patience))?;
    Ok(())
}

/// What a reader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    GetsOn,
    Ends,
}

/// Leaves the mark while nothing is heard, and when the reader ends without a word.
fn watch(told: &Receiver<Told>, mark: &Path, patience: Duration) {
    let mut is_marked = false;
    loop {
        match told.recv_timeout(patience) {
            Ok(Told::Ends) => return unmark(mark),
            Ok(Told::GetsOn) if !is_marked => {}
            Ok(Told::GetsOn) => {
                unmark(mark);
                is_marked = false;
            }
            Err(silent) => {
                tracing::error!(
                    "the store's files may be damaged: reading them does not end; the next start finds out"
                );
                let _ = fs::write(mark, b"");
                is_marked = true;
                if silent == RecvTimeoutError::Disconnected {
                    return;
                }
            }
        }
    }
}

/// Removes the mark.
pub(super) fn unmark(mark: &Path) {
    let _ = fs::remove_file(mark);
}

/// Says whether it came to the end.
fn read(
    engine: &Weak<Engine>,
    mut rest: Rest,
    end: &Receiver<()>,
    tell: &SyncSender<Told>,
) -> Result<bool, Error> {
    while !rest.is_nothing() {
        let began = Instant::now();
        let Some(engine) = engine.upgrade() else { return Ok(false) };
        if rest.places.is_nothing() {
            engine.verify_more(&mut rest, VERIFIED_AT_ONCE)?;
        } else {
            engine.count_more(&mut rest, COUNTED_AT_ONCE)?;
        }
        drop(engine);
        let _ = tell.send(Told::GetsOn);
        // As long as it took: half of the time is for the others.
        let pause = began.elapsed().min(Duration::from_millis(50));
        if end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough for a machine that is busy with other tests.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_mark_is_left_where_reading_hangs_or_panics_and_only_there() {
        let folder = tempfile::tempdir().unwrap();
        let mark = mark(folder.path());
        let (tell, told) = sync_channel(4);
        for say in [Told::GetsOn, Told::Ends] {
            tell.send(say).unwrap();
        }
        watch(&told, &mark, LONG);
        assert!(!mark.exists(), "it came to its end");

        // Nothing is said until the mark is there, and then that it gets on after all.
        let seen = mark.clone();
        let slow = std::thread::spawn(move || {
            let began = Instant::now();
            while !seen.exists() && began.elapsed() < LONG {
                std::thread::yield_now();
            }
            let was_there = seen.exists();
            tell.send(Told::Ends).unwrap();
            (was_there, tell)
        });
        watch(&told, &mark, Duration::from_millis(1));
        let (was_there, tell) = slow.join().unwrap();
        assert!(was_there && !mark.exists());

        drop(tell);
        watch(&told, &mark, LONG);
        assert!(mark.exists(), "it ended without a word");
    }
}
