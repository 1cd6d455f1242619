//! Random operations with crashes and damage in between, in one process, against the store in memory: after a crash
//! all is as it was; after damage nothing is answered that was never put, and the store goes on working.

use crate::store_crash::load::{Held, IDS, LANES, Operation, Operations, entry, id, scope, vector};
use proptest::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir::clock::Millis;
use weir::store::embedded::{Config, Embedded, Recovery, Tuning};
use weir::store::memory::Memory;
use weir::store::{Entry, EntryId, Scope, Seen, Store, Walk};

/// How long an operation is waited for: where something is damaged sled may hang in it.
fn deadline(exact: bool) -> Duration {
    Duration::from_secs(if exact { 60 } else { 10 })
}

/// How the store comes to an end.
#[derive(Clone, Debug)]
enum Ending {
    /// In order.
    Closed,
    /// Flushed, and gone without a word.
    Dropped,
    /// Flushed, and its files as they are at that moment: what a crash leaves.
    Copied,
    /// Some values are changed behind its back.
    ValuesFlipped(Vec<prop::sample::Index>),
    /// One of its files is cut off.
    Cut(prop::sample::Index, prop::sample::Index),
    /// Bits of one of its files are flipped.
    Flipped(prop::sample::Index, Vec<(prop::sample::Index, u8)>),
}

fn any_ending() -> impl Strategy<Value = Ending> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Ending::Closed),
        2 => Just(Ending::Dropped),
        2 => Just(Ending::Copied),
        2 => prop::collection::vec(index(), 1..4).prop_map(Ending::ValuesFlipped),
        2 => (index(), index()).prop_map(|(file, at)| Ending::Cut(file, at)),
        3 => (index(), prop::collection::vec((index(), 0..8u8), 1..9))
            .prop_map(|(file, bits)| Ending::Flipped(file, bits)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_its_files_nothing_wrong_is_answered(
        seed in any::<u32>(),
        parts in prop::collection::vec((1..120usize, any_ending()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let played = runtime.block_on(play(seed.into(), parts));
        // A thread with which sled hangs is waited for by nobody.
        runtime.shutdown_background();
        played.map_err(TestCaseError::fail)?;
    }
}

/// One life after the other, each with as many operations and an ending. What has been met once is damage, from then
/// on only what is said without an oracle is checked.
async fn play(seed: u64, parts: Vec<(usize, Ending)>) -> Result<(), String> {
    let parent = tempfile::tempdir().unwrap();
    let mut life = Life {
        folder: parent.path().join("0").join("store"),
        oracle: Memory::default(),
        put: HashSet::new(),
    };
    let Some(mut opened) = life.open(true).await? else { return Err("a new store does not open".to_owned()) };
    let mut exact = true;
    for ((count, ending), round) in parts.into_iter().zip(1..) {
        life.work(&opened.0, seed, round, count, exact).await?;
        let home = parent.path().join(round.to_string()).join("store");
        let before = walked(&life.oracle).await?;
        let Some(again) = life.end(opened.0, &ending, home, exact).await? else { return Ok(()) };
        opened = again;
        let (store, recovery) = &opened;
        match ending {
            Ending::Closed | Ending::Dropped | Ending::Copied if exact => {
                let all = recovery.damaged == 0 && recovery.set_aside.is_none();
                if !all || recovery.clean != matches!(ending, Ending::Closed) {
                    return Err(format!("after {ending:?} it found {recovery:?}"));
                }
            }
            Ending::ValuesFlipped(_) if exact => {
                let there = walked(store).await?;
                let damaged = store.counters().damaged;
                if damaged as usize != before.len() - there.len() || (damaged == 0 && !before.is_empty()) {
                    return Err(format!("{damaged} damaged of {}, and {} left", before.len(), there.len()));
                }
                life.forget_all_but(&there).await;
            }
            _ => exact = false,
        }
        life.check(store, exact).await?;
    }
    Ok(())
}

struct Life {
    folder: PathBuf,
    oracle: Memory,
    /// The texts of all that was ever put: the whole entry follows from its text.
    put: HashSet<String>,
}

impl Life {
    /// `None` where it says why not.
    async fn open(&self, is_sound: bool) -> Result<Option<(Embedded, Recovery)>, String> {
        let config = Config { path: self.folder.clone(), ..Config::default() };
        // Where sled hangs in what is damaged it is not waited for long.
        let patience = if is_sound { Tuning::default().patience } else { Duration::from_secs(5) };
        let tuning = Tuning { graph_from: 16, patience, values_file: 4 << 10, ..Tuning::default() };
        let opening = tokio::task::spawn_blocking(move || Embedded::open_tuned(config, tuning));
        Ok(opening.await.map_err(|panic| format!("opening it: {panic}"))?.ok())
    }

    async fn work(
        &mut self,
        store: &Embedded,
        seed: u64,
        round: u64,
        count: usize,
        exact: bool,
    ) -> Result<(), String> {
        let mut lanes: Vec<Operations> = (0..LANES).map(|lane| Operations::new(seed, round, lane)).collect();
        for nth in 0..count {
            let lane = nth as u8 % LANES;
            let operation = lanes[usize::from(lane)].next().unwrap();
            let said = tokio::time::timeout(deadline(exact), self.perform(store, lane, &operation)).await;
            // With damaged pages sled may fail, or hang: an error, never a wrong answer.
            match said {
                Ok(Ok(())) => {}
                Ok(Err(why)) if exact => return Err(format!("{operation:?}: {why}")),
                _ if exact => return Err(format!("{operation:?}: no answer")),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn perform(&mut self, store: &Embedded, lane: u8, operation: &Operation) -> Result<(), String> {
        let here = scope(lane);
        let told = |error: weir::store::Error| error.to_string();
        match *operation {
            Operation::Put(n, version) => {
                let entry = entry(lane, n, &version);
                self.put.insert(entry.text.clone());
                store.put(&here, entry.clone()).await.map_err(told)?;
                self.oracle.put(&here, entry).await.map_err(told)
            }
            Operation::Remove(n) => {
                let removed = store.remove(&here, &id(n)).await.map_err(told)?;
                let expected = self.oracle.remove(&here, &id(n)).await.map_err(told)?;
                same(&removed, &expected)
            }
            Operation::Clear => {
                let cleared = store.clear(&here).await.map_err(told)?;
                same(&cleared, &self.oracle.clear(&here).await.map_err(told)?)
            }
            Operation::Sweep(now) => {
                let mut due = 0;
                for Seen { scope, entry, .. } in walked(&self.oracle).await? {
                    if entry.useless_from().is_some_and(|from| from <= Millis(now)) {
                        self.oracle.remove(&scope, &entry.id).await.map_err(told)?;
                        due += 1;
                    }
                }
                same(&store.sweep(Millis(now)).await.map_err(told)?, &due)
            }
            Operation::Load(n) | Operation::Pin(n) | Operation::ClearTag(n) => {
                let loaded = store.load(&here, &id(n)).await.map_err(told)?;
                same(&loaded, &self.oracle.load(&here, &id(n)).await.map_err(told)?)
            }
            Operation::Nearest(n) => found_alike(store, &self.oracle, lane, n).await,
        }
    }

    /// Ends the store, does to its files what is to be done, and opens it in `home` again.
    async fn end(
        &mut self,
        store: Embedded,
        ending: &Ending,
        home: PathBuf,
        exact: bool,
    ) -> Result<Option<(Embedded, Recovery)>, String> {
        let flushed = match ending {
            Ending::Closed => store.close().await,
            _ => store.flush().await,
        };
        // Where it is ruined already that fails.
        drop(flushed);
        copied(&self.folder, &home);
        drop(store);
        self.folder = home;
        self.spoil(ending);
        self.open(exact && !matches!(ending, Ending::Cut(..) | Ending::Flipped(..))).await
    }

    fn spoil(&self, ending: &Ending) {
        match ending {
            Ending::Closed | Ending::Dropped | Ending::Copied => {}
            Ending::ValuesFlipped(which) => flip_values(&self.folder, which),
            Ending::Cut(file, at) => {
                let file = file.get(&files(&self.folder)).clone();
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(&file, &bytes[..at.index(bytes.len().max(1))]).unwrap();
            }
            Ending::Flipped(file, bits) => {
                let file = file.get(&files(&self.folder)).clone();
                let mut bytes = std::fs::read(&file).unwrap();
                for (at, bit) in bits {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] ^= 1 << bit;
                    }
                }
                std::fs::write(&file, &bytes).unwrap();
            }
        }
    }

    async fn forget_all_but(&mut self, there: &[Seen]) {
        let there: HashSet<(Scope, EntryId)> = there.iter().map(|seen| (seen.scope, seen.entry.id)).collect();
        for seen in walked(&self.oracle).await.unwrap() {
            if !there.contains(&(seen.scope, seen.entry.id)) {
                self.oracle.remove(&seen.scope, &seen.entry.id).await.unwrap();
            }
        }
    }

    /// What is there is what the oracle has; without one, what was put at some time, and it can be put again.
    async fn check(&mut self, store: &Embedded, exact: bool) -> Result<(), String> {
        let checked = tokio::time::timeout(deadline(exact), async {
            if exact {
                let (found, expected) = (walked(store).await?, walked(&self.oracle).await?);
                let entries = |seen: &[Seen]| seen.iter().map(|seen| seen.entry.clone()).collect::<Vec<_>>();
                same(&entries(&found), &entries(&expected))?;
                for lane in 0..LANES {
                    found_alike(store, &self.oracle, lane, 5).await?;
                }
                return Ok(());
            }
            for lane in 0..LANES {
                self.check_lane(store, lane).await?;
            }
            Ok(())
        });
        match checked.await {
            Ok(checked) => checked,
            Err(_) if exact => Err("no answer".to_owned()),
            Err(_) => Ok(()),
        }
    }

    async fn check_lane(&self, store: &Embedded, lane: u8) -> Result<(), String> {
        let here = scope(lane);
        let was_put = |entry: &Entry| -> Result<(), String> {
            let told = crate::store_crash::load::told(&entry.text).filter(|_| self.put.contains(&entry.text));
            let whole = told.is_some_and(|(lane, n, version)| {
                scope(lane) == here && *entry == crate::store_crash::load::entry(lane, n, &version)
            });
            if whole { Ok(()) } else { Err(format!("never put: {}", entry.text)) }
        };
        let mut held = Held::new();
        for n in 0..IDS {
            if let Ok(Some(entry)) = store.load(&here, &id(n)).await {
                was_put(&entry)?;
                held.extend(crate::store_crash::load::told(&entry.text).map(|(_, n, version)| (n, version)));
            }
        }
        if let Ok(found) = store.nearest(&here, &vector(1, 1).unwrap(), 99).await {
            for found in found {
                was_put(&found.entry)?;
            }
        }
        // What it takes it keeps.
        if let Some((n, version)) = held.first_key_value() {
            let again = entry(lane, *n, version);
            if store.put(&here, again.clone()).await.is_ok() {
                same(&store.load(&here, &id(*n)).await.ok().flatten(), &Some(again))?;
            }
        }
        Ok(())
    }
}

async fn found_alike(store: &Embedded, oracle: &Memory, lane: u8, towards: u8) -> Result<(), String> {
    let query = vector(towards, 0).unwrap();
    let most = usize::from(IDS) + 1;
    let found = store.nearest(&scope(lane), &query, most).await.map_err(|error| error.to_string())?;
    let expected = oracle.nearest(&scope(lane), &query, most).await.map_err(|error| error.to_string())?;
    same(&found, &expected)
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} in place of {expected:?}")) }
}

async fn walked(store: &dyn Store) -> Result<Vec<Seen>, String> {
    let (mut all, mut walk) = (Vec::new(), Walk { most: 64, ..Walk::default() });
    loop {
        let steps = store.walk(walk.clone()).await.map_err(|error| error.to_string())?;
        all.extend(steps.seen);
        let Some(next) = steps.next else { return Ok(all) };
        walk.after = Some(next);
    }
}

/// Changes a byte of some values, those that there are, or of where they lie.
fn flip_values(folder: &Path, which: &[prop::sample::Index]) {
    let sled = sled::open(folder.join("sled-0")).unwrap();
    let entries = sled.open_tree("entries").unwrap();
    let keys: Vec<sled::IVec> = entries.iter().keys().map(Result::unwrap).collect();
    let chosen: HashSet<usize> =
        which.iter().filter(|_| !keys.is_empty()).map(|at| at.index(keys.len())).collect();
    for at in chosen {
        let mut place = entries.get(&keys[at]).unwrap().unwrap().to_vec();
        if at % 2 == 0 {
            place[at % 32] ^= 1;
            entries.insert(&keys[at], place).unwrap();
            continue;
        }
        // The number of its file, where in it, and how long it is.
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let (file, from, length) = (number(&place[..8]), number(&place[8..12]), number(&place[12..16]));
        let file = folder.join("sled-0/values").join(file.to_string());
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[from + length / 2] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    sled.flush().unwrap();
    drop((entries, sled));
    // sled lets go of its lock a little after it has been dropped; a copy is free at once.
    let (aside, moved) = (folder.join("sled-0"), folder.with_extension("moved"));
    copied(&aside, &moved);
    std::fs::remove_dir_all(&aside).unwrap();
    std::fs::rename(&moved, &aside).unwrap();
}

/// All files, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        match file.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (file.path(), to.join(file.file_name()));
        if from.is_dir() {
            copied(&from, &to);
        } else {
            // A graph may just have been put in place of an older one.
            let _ = std::fs::copy(from, to);
        }
    }
}
