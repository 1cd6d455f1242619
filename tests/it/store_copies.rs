//! Copies of a store that is in use: a copy that cannot be written costs nobody anything, and a backup is what was there
//! when it ended.

use crate::store_compacts::{noise, sled_folders};
use crate::store_crash::load::{Held, IDS, Operation, Operations, entry, id, scope, told};
use rand::{RngExt as _, SeedableRng as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir::chat::Reply;
use weir::store::embedded::upkeep::folder_size;
use weir::store::embedded::{Config, Embedded};
use weir::store::{Entry, Error, Scope, Store as _};

const ORDERS: &str = "WEIR_COPY_FOLDER";
const HERE: Scope = Scope([1; 32]);
const BELOW: Scope = Scope([0; 32]);
const ABOVE: Scope = Scope([9; 32]);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
const ENTRIES: u32 = 200;
/// The largest file that may be written: too little for the long one, and enough for the rest.
const LIMIT: u64 = 4 << 20;

fn opened(path: &Path) -> Embedded {
    // Room for one that takes ten megabytes: none may take more than a small part.
    let config = Config {
        path: path.to_path_buf(),
        flush: Duration::from_millis(10),
        max_bytes: 4 << 30,
        ..Config::default()
    };
    Embedded::open(config).unwrap().0
}

/// What comes of something, within the time that it may take.
async fn within<T>(what: &str, of: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, of).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits for a process, and gives back how it ended.
fn ended(mut child: Child, what: &str) {
    let began = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "{what}: {status}"),
            None if began.elapsed() > 3 * PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{what}: it does not end");
            }
            None => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
}

/// How large a file this process may write from now on; `None` is any size.
fn limit(bytes: Option<u64>) {
    let soft = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let limited = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--fsize={soft}:unlimited")])
        .status();
    assert!(limited.is_ok_and(|limited| limited.success()), "prlimit of util-linux is needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_in_use_is_what_was_there_at_one_moment() {
    let parent = tempfile::tempdir().unwrap();
    let store = Arc::new(opened(&parent.path().join("store")));
    for n in 0..500 {
        store.put(&HERE, noise(n, 0)).await.unwrap();
    }
    let mut operations = Operations::new(11, 1, 1);
    let mut held = Held::new();
    for nth in 0..3 {
        let (backed, to) = (Arc::clone(&store), parent.path().join(format!("backup-{nth}")));
        let backing = tokio::spawn({
            let to = to.clone();
            async move { backed.backup(to).await }
        });
        let mut states = vec![held.clone()];
        while !backing.is_finished() || states.len() < 20 {
            let Some(operation) = operations.next() else { break };
            match &operation {
                Operation::Put(n, version) => store.put(&scope(1), entry(1, *n, version)).await.unwrap(),
                Operation::Remove(n) => drop(store.remove(&scope(1), &id(*n)).await.unwrap()),
                Operation::Clear => drop(store.clear(&scope(1)).await.unwrap()),
                _ => continue,
            }
            operation.apply(&mut held);
            states.push(held.clone());
        }
        let copied = within("the backup", backing).await.unwrap().unwrap();
        let backup = opened(&to);
        let mut found = Held::new();
        for n in 0..IDS {
            let loaded = backup.load(&scope(1), &id(n)).await.unwrap();
            if let Some((1, of, version)) = loaded.as_ref().and_then(|entry| told(&entry.text)) {
                assert_eq!((of, loaded), (n, Some(entry(1, n, &version))));
                found.insert(n, version);
            }
        }
        assert!(states.contains(&found), "backup {nth} is of no moment");
        assert_eq!(copied.entries, 500 + found.len() as u64);
        assert_eq!(backup.counters().entries, copied.entries, "no age is without its entry");
        for n in 0..500 {
            assert!(backup.load(&HERE, &noise(n, 0).id).await.unwrap().is_some());
        }
        backup.close().await.unwrap();
    }
}

fn long_noise() -> String {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    (0..12_000_000).map(|_| char::from(random.random_range(b'!'..b'~'))).collect()
}

/// A backup finds no room, as on a disk that is full, while the files in force have some. To write the store anew takes
/// hardly any.
#[cfg(target_os = "linux")]
#[test]
fn a_copy_that_cannot_be_written_is_given_up_and_a_later_one_is_made() {
    let parent = tempfile::tempdir().unwrap();
    // A signal that is ignored stays so in what is executed: writing fails then, as it does on a full disk.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store_copies::has_no_room_for_a_copy", "--nocapture"])
        .env(ORDERS, parent.path().join("store"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    ended(child, "the process without room for a copy");
}

/// The process of the test above; without orders it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn has_no_room_for_a_copy() {
    let Some(path) = std::env::var_os(ORDERS).map(PathBuf::from) else { return };
    let store = Arc::new(opened(&path));
    let long = Entry { reply: Reply::text("a-model", long_noise()), ..noise(0, 0) };
    store.put(&ABOVE, long.clone()).await.unwrap();
    for n in 1..ENTRIES {
        store.put(&HERE, noise(n, 0)).await.unwrap();
    }
    store.flush().await.unwrap();
    assert!(folder_size(&path) > 2 * LIMIT);

    within("backed up at first", store.backup(path.with_file_name("first"))).await.unwrap();

    limit(Some(LIMIT));
    let mut put = 0;
    for kind in ["written anew", "backed up"] {
        let (copied, backup) = (Arc::clone(&store), path.with_file_name("backup"));
        let copying = tokio::spawn(async move {
            match kind {
                "written anew" => copied.compact().await.map(drop),
                _ => copied.backup(backup).await.map(drop),
            }
        });
        let began = Instant::now();
        while !copying.is_finished() {
            assert!(began.elapsed() < PATIENCE, "being {kind} has no end");
            let at = Instant::now();
            within("a write meanwhile", store.put(&BELOW, noise(put % 50, put))).await.unwrap();
            assert!(within("a read", store.load(&HERE, &noise(1, 0).id)).await.unwrap().is_some());
            assert!(
                at.elapsed() < Duration::from_secs(10),
                "a write waits for what hangs: {:?}",
                at.elapsed()
            );
            put += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let refused = copying.await.unwrap();
        println!("being {kind} took {:?} and came to {refused:?}", began.elapsed());
        match kind {
            "written anew" => refused.unwrap(),
            _ => assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}"),
        }
        assert!(!path.with_file_name("backup").exists());
    }

    limit(None);
    within("written anew", store.compact()).await.unwrap();
    within("backed up", store.backup(path.with_file_name("backup"))).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    for folder in [&path, &path.with_file_name("backup")] {
        let store = opened(folder);
        assert_eq!(store.counters().entries, u64::from(ENTRIES + put.min(50)), "{}", folder.display());
        assert_eq!(store.load(&ABOVE, &long.id).await.unwrap(), Some(long.clone()));
        for n in 1..ENTRIES {
            assert_eq!(store.load(&HERE, &noise(n, 0).id).await.unwrap(), Some(noise(n, 0)));
        }
        store.close().await.unwrap();
    }
    println!("{:?}", sled_folders(&path));
}
