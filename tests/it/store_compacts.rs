//! Written anew while it is in use: the files shrink, and whatever is done meanwhile is there, or gone.

use crate::store_crash::load::{IDS, Operation, Operations, entry, id, scope};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use weir::store::embedded::upkeep::folder_size;
use weir::store::embedded::{Config, Embedded, Tuning};
use weir::store::memory::Memory;
use weir::store::{Entry, EntryId, Scope, Store as _};

const PATIENCE: Duration = Duration::from_mins(1);

fn opened(path: &Path, tuning: Tuning) -> Embedded {
    Embedded::open_tuned(Config { path: path.to_path_buf(), ..Config::default() }, tuning).unwrap().0
}

/// An entry of two thousand bytes, as long as most with their vectors, and hardly to be compressed.
pub(crate) fn noise(n: u32, version: u32) -> Entry {
    let mut state = u64::from(n) << 32 | u64::from(version) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    Entry {
        id: EntryId(digest),
        reply: weir::chat::Reply::text("a-model", (0..2500).map(|_| next()).collect::<String>()),
        ..entry(0, 1, &any_version())
    }
}

fn any_version() -> crate::store_crash::load::Version {
    Operations::new(1, 1, 1)
        .find_map(|operation| match operation {
            Operation::Put(_, version) => Some(version),
            _ => None,
        })
        .unwrap()
}

pub(crate) fn sled_folders(path: &Path) -> Vec<String> {
    let files =
        std::fs::read_dir(path).unwrap().flatten().map(|file| file.file_name().into_string().unwrap());
    let mut folders: Vec<String> = files.filter(|name| name.starts_with("sled-")).collect();
    folders.sort();
    folders
}

async fn overwritten(store: &Embedded, entries: u32, times: u32) {
    for version in 0..times {
        for n in 0..entries {
            store.put(&Scope([1; 32]), noise(n, version)).await.unwrap();
        }
    }
    store.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_little_more_than_what_it_holds() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    // sled gives back segments when what is written over has been flushed: on a machine that is slow by so much more that
    // the files are hardly too large. So nothing is flushed in between.
    let config = Config { path: path.clone(), flush: Duration::from_hours(1), ..Config::default() };
    let store = Embedded::open(config).unwrap().0;
    overwritten(&store, 3000, 4).await;
    let held = store.counters();
    let compacted = store.compact().await.unwrap();
    assert!(compacted.before > 2 * held.bytes, "{compacted:?}, {held:?}");
    assert!(compacted.after < held.bytes * 9 / 5, "{compacted:?}, {held:?}");
    assert_eq!((store.counters().entries, store.counters().bytes), (held.entries, held.bytes));
    assert_eq!(sled_folders(&path), ["sled-1"], "the old files are gone");
    for n in 0..3000 {
        let loaded = store.load(&Scope([1; 32]), &noise(n, 3).id).await.unwrap();
        assert_eq!(loaded, Some(noise(n, 3)));
    }
    store.close().await.unwrap();
    drop(store);
    let store = opened(&path, Tuning::default());
    assert_eq!((store.counters().entries, store.counters().bytes), (held.entries, held.bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_small_by_itself() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let tuning =
        Tuning { look: Duration::from_millis(20), slack: 0, values_file: 64 << 10, ..Tuning::default() };
    // Nothing is flushed in between, see above.
    let config = Config { path: path.clone(), flush: Duration::from_hours(1), ..Config::default() };
    let store = Arc::new(Embedded::open_tuned(config, tuning).unwrap().0);
    for _ in 0..2 {
        overwritten(&store, 1000, 4).await;
        let held = store.counters();
        assert!(folder_size(&path) as f64 > 2.5 * held.bytes as f64, "{held:?}");
        let kept_small = Arc::clone(&store);
        let keeps = tokio::spawn(async move { kept_small.stay_small().await });
        let small = async {
            while folder_size(&path) as f64 > 1.6 * held.bytes as f64 {
                tokio::time::sleep(tuning.look).await;
            }
        };
        tokio::time::timeout(PATIENCE, small).await.expect("the files become small");
        keeps.abort();
        for n in 0..1000 {
            let loaded = store.load(&Scope([1; 32]), &noise(n, 3).id).await.unwrap();
            assert_eq!(loaded, Some(noise(n, 3)));
        }
    }
}

/// As when they expire, and nobody asks anything any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_goes_is_given_back_too() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let tuning =
        Tuning { look: Duration::from_millis(20), slack: 0, values_file: 64 << 10, ..Tuning::default() };
    let store = Arc::new(opened(&path, tuning));
    overwritten(&store, 1000, 3).await;
    let all = store.counters().bytes;
    let kept_small = Arc::clone(&store);
    tokio::spawn(async move { kept_small.stay_small().await });
    let takes_at_most = async |most: u64| {
        let small = async {
            while values_in(&path) > most {
                tokio::time::sleep(tuning.look).await;
            }
        };
        tokio::time::timeout(PATIENCE, small).await.expect("the files become small");
    };
    takes_at_most(all * 3 / 2).await;
    // It has looked again, and has nothing to do.
    tokio::time::sleep(tuning.look * 10).await;
    // In each file some stay.
    for n in (0..1000).filter(|n| n % 10 > 0) {
        assert!(store.remove(&Scope([1; 32]), &noise(n, 2).id).await.unwrap());
    }
    takes_at_most(all / 4).await;
    for n in (0..1000).step_by(10) {
        assert_eq!(store.load(&Scope([1; 32]), &noise(n, 2).id).await.unwrap(), Some(noise(n, 2)));
    }
}

/// What the values take, of the database that has most: while one takes the place of another both are there.
fn values_in(path: &Path) -> u64 {
    let values = |folder: &String| folder_size(&path.join(folder).join("values"));
    sled_folders(path).iter().map(values).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_meanwhile_is_done() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let store = Arc::new(opened(&path, Tuning { values_file: 16 << 10, ..Tuning::default() }));
    let oracle = Memory::default();
    overwritten(&store, 500, 1).await;
    let (done, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (compacting, ended, compacted) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(&times));
    let compacts = tokio::spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            compacting.compact().await.unwrap();
            compacted.fetch_add(1, Ordering::Relaxed);
        }
    });
    // In a scope of its own beside the 500.
    for (operation, nth) in Operations::new(11, 1, 1).zip(1..) {
        if nth > 3000 && (times.load(Ordering::Relaxed) > 1 || compacts.is_finished()) {
            break;
        }
        let here = scope(1);
        match operation {
            Operation::Put(n, version) => {
                store.put(&here, entry(1, n, &version)).await.unwrap();
                oracle.put(&here, entry(1, n, &version)).await.unwrap();
            }
            Operation::Remove(n) => assert_eq!(
                store.remove(&here, &id(n)).await.unwrap(),
                oracle.remove(&here, &id(n)).await.unwrap()
            ),
            Operation::Clear => {
                assert_eq!(store.clear(&here).await.unwrap(), oracle.clear(&here).await.unwrap());
            }
            _ => assert_same(&store, &oracle).await,
        }
    }
    done.store(true, Ordering::Relaxed);
    compacts.await.unwrap();
    assert_same(&store, &oracle).await;
    store.flush().await.unwrap();
    drop(store);
    let store = opened(&path, Tuning::default());
    assert_same(&store, &oracle).await;
    assert_eq!(store.counters().damaged, 0);
    assert_eq!(store.counters().entries, 500 + oracle.counters().entries, "no age is without its entry");
}

async fn assert_same(store: &Embedded, oracle: &Memory) {
    for n in 0..IDS {
        assert_eq!(
            store.load(&scope(1), &id(n)).await.unwrap(),
            oracle.load(&scope(1), &id(n)).await.unwrap()
        );
    }
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_no_store() {
    let parent = tempfile::tempdir().unwrap();
    let path: PathBuf = parent.path().join("store");
    let store = opened(&path, Tuning::default());
    store.put(&Scope([1; 32]), noise(1, 1)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    // As a crash leaves it while it is being written.
    std::fs::create_dir_all(path.join("sled-1")).unwrap();
    std::fs::write(path.join("sled-1").join("db"), "half of it").unwrap();
    std::fs::write(path.join("sled-1.unfinished"), "").unwrap();
    let store = opened(&path, Tuning::default());
    assert_eq!(store.load(&Scope([1; 32]), &noise(1, 1).id).await.unwrap(), Some(noise(1, 1)));
    assert_eq!(sled_folders(&path), ["sled-0"]);
    assert_eq!(store.compact().await.unwrap().after, folder_size(&path.join("sled-1")));
    assert_eq!(sled_folders(&path), ["sled-1"]);
}
