//! Looking after a store that nobody has open: nothing is lost that is whole, and nothing is kept that is not.

use std::path::{Path, PathBuf};
use std::time::Duration;
use weir::chat::Reply;
use weir::clock::Millis;
use weir::store::embedded::upkeep::{self, folder_size};
use weir::store::embedded::{Config, Embedded};
use weir::store::{About, Entry, EntryId, Error, Scope, Store as _};
use weir::vector::UnitVector;

const HERE: Scope = Scope([1; 32]);

fn entry(n: u8, words: &str) -> Entry {
    Entry {
        id: EntryId([n; 32]),
        text: format!("question {n}"),
        vector: UnitVector::new(vec![f32::from(n), 1.0]).ok(),
        reply: Reply::text("a-model", words.to_owned()),
        upstream: "primary".into(),
        created: Millis(u64::from(n)),
        expires: None,
        stale_until: None,
        about: About::default(),
        pinned: n == 3,
    }
}

fn opened(path: &Path) -> Embedded {
    Embedded::open(Config { path: path.to_path_buf(), ..Config::default() }).unwrap().0
}

/// A store of ten entries, the first of which is gone.
async fn filled(parent: &Path) -> PathBuf {
    let path = parent.join("store");
    let store = opened(&path);
    for n in 0..10 {
        store.put(&HERE, entry(n, "words")).await.unwrap();
    }
    store.remove(&HERE, &EntryId([0; 32])).await.unwrap();
    store.close().await.unwrap();
    path
}

async fn assert_all_there(path: &Path) {
    let store = opened(path);
    for n in 1..10 {
        assert_eq!(store.load(&HERE, &EntryId([n; 32])).await.unwrap(), Some(entry(n, "words")));
    }
    assert_eq!(store.load(&HERE, &EntryId([0; 32])).await.unwrap(), None, "what was removed stays so");
    assert_eq!(store.counters().entries, 9);
    store.close().await.unwrap();
}

/// Changes sled's trees behind the store's back.
fn spoil(path: &Path, change: impl FnOnce(&sled::Db)) {
    // sled lets go of its lock a little after it has been dropped.
    let mut attempts = (0..6000).map(|_| {
        std::thread::park_timeout(Duration::from_millis(5));
        sled::open(path.join("sled-0"))
    });
    let sled = attempts.find_map(Result::ok).expect("the folder is free in time");
    change(&sled);
    sled.flush().unwrap();
}

fn silent(_: u64, _: u64) {}

#[tokio::test]
async fn a_sound_store_is_told_to_be_sound() {
    let parent = tempfile::tempdir().unwrap();
    let path = filled(parent.path()).await;
    let mut last = (0, 0);
    let found = upkeep::check(&path, &mut |done, all| last = (done, all)).unwrap();
    assert_eq!((found.entries, found.damaged, found.orphans, found.clean), (9, 0, 0, true));
    assert_eq!(last, (9, 9));
    assert_all_there(&path).await;
}

#[tokio::test]
async fn what_is_damaged_or_half_gone_is_told_and_then_dropped() {
    let parent = tempfile::tempdir().unwrap();
    let path = filled(parent.path()).await;
    spoil(&path, |sled| {
        let entries = sled.open_tree("entries").unwrap();
        let keys: Vec<_> = entries.iter().keys().map(Result::unwrap).collect();
        entries.insert(&keys[0], "no entry").unwrap();
        entries.remove(&keys[1]).unwrap();
    });
    // The damaged one's age has no entry either.
    let found = upkeep::check(&path, &mut silent).unwrap();
    assert_eq!((found.entries, found.damaged, found.orphans), (7, 1, 2));
    let again = upkeep::repair(&path, &mut silent).unwrap();
    assert_eq!((again.entries, again.damaged, again.orphans), (7, 1, 2), "checking changed nothing");
    let mended = upkeep::check(&path, &mut silent).unwrap();
    assert_eq!((mended.entries, mended.damaged, mended.orphans), (7, 0, 0));
}

#[tokio::test]
async fn written_anew_it_has_the_same_and_is_smaller() {
    let parent = tempfile::tempdir().unwrap();
    let path = filled(parent.path()).await;
    let store = opened(&path);
    let long = "and so on ".repeat(2000);
    for round in 0..60 {
        for n in 1..10 {
            store.put(&HERE, entry(n, &format!("{round} {long}"))).await.unwrap();
        }
        store.flush().await.unwrap();
    }
    for n in 1..10 {
        store.put(&HERE, entry(n, "words")).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let before = folder_size(&path);
    let copied = upkeep::compact(&path, &mut silent).unwrap();
    assert_eq!((copied.entries, copied.left_out), (9, 0));
    assert!(folder_size(&path) < before, "{before} {}", folder_size(&path));
    assert_all_there(&path).await;
    upkeep::compact(&path, &mut silent).unwrap();
    assert_all_there(&path).await;
}

#[tokio::test]
async fn a_backup_comes_back_and_what_was_there_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    let path = filled(parent.path()).await;
    let backup = parent.path().join("backup");
    upkeep::backup(&path, &backup, &mut silent).unwrap();
    assert!(upkeep::backup(&path, &backup, &mut silent).is_err(), "nothing is written over");
    let store = opened(&path);
    assert_eq!(store.clear(&HERE).await.unwrap(), 9);
    store.close().await.unwrap();
    drop(store);

    let (copied, aside) = upkeep::restore(&path, &backup, &mut silent).unwrap();
    assert_eq!(copied.entries, 9);
    assert_all_there(&path).await;
    let aside = upkeep::check(&aside.expect("there was one"), &mut silent).unwrap();
    assert_eq!(aside.entries, 0);
    let elsewhere = parent.path().join("elsewhere");
    let (_, aside) = upkeep::restore(&elsewhere, &backup, &mut silent).unwrap();
    assert_eq!(aside, None);
    assert_all_there(&elsewhere).await;
}

#[tokio::test]
async fn a_folder_in_use_or_without_a_store_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let nowhere = parent.path().join("nowhere");
    assert!(upkeep::check(&nowhere, &mut silent).unwrap_err().to_string().contains("there is no store"));
    assert!(!nowhere.exists());
    let path = filled(parent.path()).await;
    let store = opened(&path);
    for refused in [
        upkeep::repair(&path, &mut silent).map(drop),
        upkeep::compact(&path, &mut silent).map(drop),
        upkeep::backup(&path, &nowhere, &mut silent).map(drop),
        upkeep::restore(&path, &nowhere, &mut silent).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::InUse(_))), "{refused:?}");
    }
    assert_eq!(store.counters().entries, 9);
}

#[tokio::test]
async fn without_a_flush_window_what_is_acknowledged_is_on_disk() {
    for (flush, is_there) in [(Duration::ZERO, true), (Duration::from_mins(1), false)] {
        let parent = tempfile::tempdir().unwrap();
        let (path, copy) = (parent.path().join("store"), parent.path().join("copy"));
        let store = Embedded::open(Config { path: path.clone(), flush, ..Config::default() }).unwrap().0;
        store.put(&HERE, entry(1, "words")).await.unwrap();
        store.put(&HERE, Entry { expires: Some(Millis(5)), ..entry(2, "words") }).await.unwrap();
        assert_eq!(store.sweep(Millis(9)).await.unwrap(), 1);
        // What a crash at this moment would leave.
        copied(&path, &copy);
        let left = opened(&copy);
        let found = left.load(&HERE, &EntryId([1; 32])).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{flush:?}");
        assert_eq!(
            left.load(&HERE, &EntryId([2; 32])).await.unwrap(),
            None,
            "{flush:?}: swept, and back again"
        );
    }
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (file.path(), to.join(file.file_name()));
        if from.is_dir() {
            copied(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}
