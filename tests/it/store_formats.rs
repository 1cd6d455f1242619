//! What older formats of the store hold is read by this one, and written as this one does from then on; a newer one is
//! refused.
//!
//! `fixtures/store/format-3.zip` and the like are stores that were written by the last weir with that format, by
//! [`written`]. To keep one of today's: `WEIR_STORE_TO=folder cargo test --test it store_formats::written`, and zip the folder.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use weir::chat::Reply;
use weir::clock::Millis;
use weir::store::conformance::full_entry;
use weir::store::embedded::{Config, Embedded, upkeep};
use weir::store::{About, Entry, EntryId, Scope, Store, Walk};
use weir::vector::UnitVector;

const HERE: Scope = Scope([1; 32]);

/// What is in the fixture.
fn entries() -> Vec<Entry> {
    let plain = |n: u8, words: String| Entry {
        id: EntryId([n; 32]),
        text: format!("question {n}"),
        vector: UnitVector::new(vec![f32::from(n), 1.0, -0.5]).ok(),
        reply: Reply::text("a-model", words),
        upstream: "primary".into(),
        created: Millis(1000 + u64::from(n)),
        expires: None,
        stale_until: None,
        about: About { tags: vec!["a tag".into()], ..About::default() },
        pinned: false,
    };
    vec![
        plain(1, "short".into()),
        plain(2, "The same is said again and again. ".repeat(100)),
        Entry { vector: None, ..plain(3, "without a vector".into()) },
        Entry { pinned: true, ..plain(4, "stays".into()) },
        Entry { expires: Some(Millis(5000)), ..plain(5, "goes".into()) },
        Entry { reply: Reply::default(), ..plain(6, String::new()) },
        full_entry(),
    ]
}

async fn write(path: &Path) {
    let (store, _) = Embedded::open(Config { path: path.to_path_buf(), ..Config::default() }).unwrap();
    for entry in entries() {
        store.put(&HERE, entry).await.unwrap();
    }
    let gone = Entry { id: EntryId([9; 32]), ..full_entry() };
    store.put(&HERE, gone.clone()).await.unwrap();
    store.remove(&HERE, &gone.id).await.unwrap();
    store.close().await.unwrap();
}

/// Writes the fixture of today's format, where one is wanted.
#[tokio::test]
async fn written() {
    if let Some(to) = std::env::var_os("WEIR_STORE_TO") {
        write(Path::new(&to)).await;
    }
}

fn unpacked(parent: &Path, name: &str) -> PathBuf {
    let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store").join(name);
    let path = parent.join("store");
    zip::ZipArchive::new(Cursor::new(std::fs::read(zip).unwrap())).unwrap().extract(&path).unwrap();
    path
}

async fn assert_all_there(store: &Embedded) {
    for entry in entries() {
        assert_eq!(store.load(&HERE, &entry.id).await.unwrap(), Some(entry));
    }
    let walked = store.walk(Walk { most: 99, ..Walk::default() }).await.unwrap();
    assert_eq!(walked.seen.len(), entries().len(), "and nothing else");
    let query = UnitVector::new(vec![1.0, 1.0, -0.5]).unwrap();
    let found = store.nearest(&HERE, &query, 1).await.unwrap();
    assert_eq!(*found[0].entry, entries()[0]);
}

#[tokio::test]
async fn what_older_formats_hold_is_there() {
    for name in ["format-3.zip", "format-4.zip"] {
        assert_is_read(name).await;
    }
}

async fn assert_is_read(name: &str) {
    let parent = tempfile::tempdir().unwrap();
    let path = unpacked(parent.path(), name);
    let config = Config { path: path.clone(), ..Config::default() };
    let (store, recovery) = Embedded::open(config.clone()).unwrap();
    assert_eq!((recovery.entries, recovery.damaged, recovery.clean), (7, 0, true));
    assert_eq!(recovery.set_aside, None);
    assert_all_there(&store).await;
    // What is written now lies beside what was written then, and takes its place.
    store.put(&HERE, entries()[1].clone()).await.unwrap();
    assert_eq!(store.sweep(Millis(4999)).await.unwrap(), 0);
    assert_all_there(&store).await;
    // Written anew while it is in use, all of it is of this format.
    store.compact().await.unwrap();
    assert_all_there(&store).await;
    store.close().await.unwrap();
    drop(store);

    let checked = upkeep::check(&path, &mut |_, _| {}).unwrap();
    assert_eq!((checked.entries, checked.damaged, checked.orphans), (7, 0, 0));
    upkeep::compact(&path, &mut |_, _| {}).unwrap();
    let (store, _) = Embedded::open(config).unwrap();
    assert_all_there(&store).await;
}
