//! Giving back what values take that were written over or removed: the files of which least lives are left by what lives
//! in them, and removed. Requests go on meanwhile.
//!
//! What lives is known to sled alone, so all places are looked at. A file that is finished is never added to: what is
//! counted in it can only become less. What is moved is on disk before sled says so, and that is before the file goes
//! that it was in: whatever a crash or a loss of power leaves, each value is where it is said to be.

use super::disk::failed;
use super::engine::Engine;
use super::entries;
use super::progress::Watch;
use super::trees::Trees;
use crate::store::Error;
use sled::IVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// How many values are noted to lie elsewhere before other writes get their turn.
const NOTED_AT_ONCE: usize = 64;
/// How many bytes of values are written again before they are forced to the disk and noted.
const MOVED_AT_ONCE: u32 = 1 << 20;
/// How many places are looked at between two signs of life.
const LOOKED_AT: usize = 4096;
/// What is written again in one go is this part of what lives, or so many bytes: for as long it lies there twice.
const MOVED_PART: u64 = 8;
const MOVED_AT_LEAST: u64 = 4 << 20;
/// More files than that are too many, as many starts leave them: the shortest become one.
pub(super) const MOST_FILES: usize = 256;

/// How much of what is there may be dead when all is done, as a part of what lives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aim {
    /// As much as is worth it while the store is in use.
    Fifth,
    Nothing,
}

impl Aim {
    fn may_stay(self, live: u64) -> u64 {
        match self {
            Self::Fifth => live / 5,
            Self::Nothing => 0,
        }
    }
}

/// A file that is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Finished {
    number: u64,
    size: u64,
    live: u64,
}

/// Goes on until as little is dead as is aimed at. Blocks.
pub(super) fn reclaim(engine: &Engine, aim: Aim, watch: &Watch) -> Result<(), Error> {
    let trees = engine.disk.now();
    while pass(engine, &trees, aim, watch)? {}
    Ok(())
}

/// Removes some files, and says whether more are worth it.
fn pass(engine: &Engine, trees: &Trees, aim: Aim, watch: &Watch) -> Result<bool, Error> {
    let files = survey(trees, watch)?;
    let chosen = choose(files, aim);
    if chosen.is_empty() {
        return Ok(false);
    }
    let numbers: BTreeSet<u64> = chosen.iter().map(|file| file.number).collect();
    if chosen.iter().any(|file| file.live > 0) {
        leave(engine, trees, &numbers, watch)?;
    }
    trees.flush()?;
    watch.step()?;
    numbers.into_iter().try_for_each(|number| trees.entries.values().remove(number))?;
    Ok(true)
}

/// What lives in the files that are finished.
fn survey(trees: &Trees, watch: &Watch) -> Result<Vec<Finished>, Error> {
    let files = trees.entries.values().finished()?;
    let mut live: BTreeMap<u64, u64> = files.iter().map(|(number, _)| (*number, 0)).collect();
    for (place, nth) in trees.entries.places::<IVec>(..).zip(1..) {
        if let Some(at) = entries::extent(&place.map_err(failed)?.1)
            && let Some(live) = live.get_mut(&at.file)
        {
            *live += u64::from(at.length);
        }
        if nth % LOOKED_AT == 0 {
            watch.step()?;
        }
    }
    let finished = |(number, size)| Finished { number, size, live: live.get(&number).copied().unwrap_or(0) };
    Ok(files.into_iter().map(finished).collect())
}

/// The files of which least lives, as long as more is dead than may be and not too much has to be written again.
fn choose(mut files: Vec<Finished>, aim: Aim) -> Vec<Finished> {
    let live: u64 = files.iter().map(|file| file.live).sum();
    let mut dead: u64 = files.iter().map(|file| file.size.saturating_sub(file.live)).sum();
    let most = (live / MOVED_PART).max(MOVED_AT_LEAST);
    let part = |file: &Finished| file.live as f64 / file.size.max(1) as f64;
    files.sort_by(|one, other| part(one).total_cmp(&part(other)));
    let (mut chosen, mut moved) = (Vec::new(), 0);
    for file in &files {
        let is_of_use = file.live < file.size && dead > aim.may_stay(live);
        let is_free = file.live == 0;
        if !is_free && (!is_of_use || (moved > 0 && moved + file.live > most)) {
            break;
        }
        chosen.push(*file);
        moved += file.live;
        dead -= file.size.saturating_sub(file.live);
    }
    if chosen.is_empty() && files.len() > MOST_FILES {
        files.sort_by_key(|file| file.size);
        chosen.extend(&files[..files.len() - MOST_FILES / 2]);
    }
    chosen
}

/// Writes again what lives in those files. It is on disk before sled says that it lies there.
fn leave(engine: &Engine, trees: &Trees, files: &BTreeSet<u64>, watch: &Watch) -> Result<(), Error> {
    let mut after = Bound::Unbounded;
    loop {
        let (some, last) = chosen_behind(trees, after, files)?;
        watch.step()?;
        let Some(last) = last else { return Ok(()) };
        let mut moved = Vec::with_capacity(some.len());
        for (key, lies) in some {
            let to = trees.entries.written_again(&lies)?;
            moved.extend(to.map(|to| (key, lies, to)));
        }
        trees.entries.values().sync()?;
        for some in moved.chunks(NOTED_AT_ONCE) {
            let _writer = engine.writer()?;
            for (key, from, to) in some {
                trees.entries.moved(key, from, to.clone())?;
            }
        }
        after = Bound::Excluded(last);
    }
}

type Places = Vec<(IVec, IVec)>;

/// Some of the places that are in one of those files, and the last key that was looked at.
fn chosen_behind(
    trees: &Trees,
    after: Bound<IVec>,
    files: &BTreeSet<u64>,
) -> Result<(Places, Option<IVec>), Error> {
    let (mut some, mut last, mut bytes) = (Places::new(), None, 0_u32);
    for place in trees.entries.places((after, Bound::Unbounded)).take(LOOKED_AT) {
        let (key, lies) = place.map_err(failed)?;
        last = Some(key.clone());
        if let Some(at) = entries::extent(&lies).filter(|at| files.contains(&at.file)) {
            bytes = bytes.saturating_add(at.length);
            some.push((key, lies));
        }
        if bytes >= MOVED_AT_ONCE {
            break;
        }
    }
    Ok((some, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(number: u64, size: u64, live: u64) -> Finished {
        Finished { number, size, live }
    }

    fn numbers(files: Vec<Finished>, aim: Aim) -> Vec<u64> {
        choose(files, aim).iter().map(|file| file.number).collect()
    }

    #[test]
    fn those_of_which_least_lives_go_until_little_is_dead() {
        let files = vec![file(0, 8 * MIB, 8 * MIB), file(1, 8 * MIB, MIB), file(2, 8 * MIB, 0)];
        assert_eq!(numbers(files.clone(), Aim::Fifth), [2, 1]);
        // 5 of 27 are dead, and may be.
        let files = vec![file(0, 16 * MIB, 16 * MIB), file(1, 16 * MIB, 11 * MIB)];
        assert_eq!(numbers(files.clone(), Aim::Fifth), [0; 0]);
        assert_eq!(numbers(files, Aim::Nothing), [1]);
    }

    #[test]
    fn what_is_free_goes_and_not_much_is_written_again_at_once() {
        let half = |number| file(number, 8 * MIB, 4 * MIB);
        let mut files: Vec<_> = (0..10).map(half).collect();
        assert_eq!(numbers(files.clone(), Aim::Fifth), [0], "40 live");
        files.extend((10..20).map(|number| file(number, MIB, 0)));
        assert_eq!(numbers(files, Aim::Fifth).len(), 11);
        assert_eq!(numbers(vec![file(1, 80 * MIB, 40 * MIB)], Aim::Fifth), [1], "one at least");
    }

    #[test]
    fn many_short_ones_become_few() {
        let files: Vec<_> = (0..300).map(|number| file(number, 100 + number, 100 + number)).collect();
        assert_eq!(numbers(files, Aim::Nothing), (0..172).collect::<Vec<_>>());
    }
}
