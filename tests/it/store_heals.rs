//! A folder without rights, a full disk, another process: there is no store then, everyone is told at once, and it is
//! there again when the cause has gone, without a restart.

use rand::{RngExt as _, SeedableRng as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use weir::store::embedded::{Config, Embedded, Tuning};
use weir::store::guarded::{self, Guarded};
use weir::store::{Entry, EntryId, Error, Scope, Store as _};

use crate::store_crash::load::{Held, Operation, Operations, entry, id, scope};

const ORDERS: &str = "WEIR_HEAL_FOLDER";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Some versions of entries, in their order.
fn versions() -> impl Iterator<Item = Entry> {
    Operations::new(7, 1, 1).filter_map(|operation| match operation {
        Operation::Put(n, version) => Some(entry(1, n, &version)),
        _ => None,
    })
}

fn here() -> Scope {
    scope(1)
}

fn waiting(path: &Path) -> Arc<Embedded> {
    let config = Config { path: path.to_path_buf(), flush: Duration::ZERO, ..Config::default() };
    let tuning =
        Tuning { retry: Duration::from_millis(20), probe: Duration::from_secs(5), ..Tuning::default() };
    let store = Arc::new(Embedded::open_or_wait(config, tuning).unwrap());
    let healed = Arc::clone(&store);
    tokio::spawn(async move { healed.heal().await });
    store
}

async fn comes_back(store: &Embedded) {
    let back = async {
        while store.why_away().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("the store comes back");
}

async fn works(store: &Embedded) {
    let one = versions().next().unwrap();
    store.put(&here(), one.clone()).await.unwrap();
    assert_eq!(store.load(&here(), &one.id).await.unwrap(), Some(one));
    assert!(!store.counters().away);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_at_the_start_may_go_later() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    std::fs::write(&path, "a file").unwrap();
    let store = waiting(&path);
    let why = store.why_away().unwrap();
    assert!(why.contains(&path.display().to_string()), "{why}");
    assert!(store.counters().away);
    assert!(matches!(store.load(&here(), &id(1)).await, Err(Error::Away(_))));
    store.close().await.expect("there is nothing to close");

    std::fs::remove_file(&path).unwrap();
    comes_back(&store).await;
    works(&store).await;
    assert_eq!(store.counters().reopened, 1);
}

/// Whoever may do anything cannot be kept out, so the store is then another user's. Where sled cannot make a file for
/// a long value it hangs from then on, and lets go of nothing.
#[cfg(unix)]
#[test]
fn rights_that_are_missing_or_lost_are_told_and_it_is_there_when_they_are_back() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let parent = tempfile::tempdir().unwrap();
    let (home, this) = (parent.path().join("home"), parent.path().join("this"));
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(&home).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    if std::fs::metadata(&home).unwrap().uid() == 0 {
        // Where that one may read it.
        std::fs::copy(std::env::current_exe().unwrap(), &this).unwrap();
        mode(parent.path(), 0o755);
        mode(&this, 0o755);
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        command = Command::new(&this);
        command.uid(NOBODY).gid(NOBODY).current_dir(&home);
    }
    mode(&home, 0o500);
    let mut other = Other::start(command, "has_no_rights", &home.join("store"));
    let denied = |why: &str| assert!(why.to_lowercase().contains("permission denied"), "{why}");
    denied(&other.says("away"));
    mode(&home, 0o700);
    other.says("well");

    // It has its files open, and cannot make new ones.
    let values = home.join("store").join("sled-0").join("values");
    mode(&values, 0o500);
    other.go_on();
    denied(&other.says("away"));
    mode(&values, 0o700);
    other.says("well");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1, "nothing was set aside");
}

/// The process of the test above; without orders it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn has_no_rights() {
    let Some(path) = orders() else { return };
    let store = waiting(&path);
    let away = |store: &Embedded| say(&format!("away {}", store.why_away().unwrap_or_default()));
    away(&store);
    comes_back(&store).await;
    works(&store).await;
    say("well");
    std::io::stdin().read_line(&mut String::new()).unwrap();

    // So long that the next one needs another file.
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let long: String = (0..1_500_000).map(|_| char::from(random.random_range(b'!'..b'~'))).collect();
    let one = versions().next().unwrap();
    let large = Entry { id: id(77), reply: weir::chat::Reply::text("a-model", long), ..one.clone() };
    store.put(&here(), large.clone()).await.unwrap();
    let large = Entry { id: id(78), ..large };
    assert!(store.put(&here(), large.clone()).await.is_err());
    let gone = async {
        while store.why_away().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("that it fails is noticed");
    away(&store);
    comes_back(&store).await;
    assert_eq!(store.load(&here(), &one.id).await.unwrap(), Some(one), "what was acknowledged is there");
    store.put(&here(), large.clone()).await.unwrap();
    assert_eq!(store.load(&here(), &large.id).await.unwrap(), Some(large));
    say("well");
}

/// An error of that kind says at once that there is nothing, and is over at once: no pause of the guard goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_does_not_pause_for_a_store_that_is_not_there() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    std::fs::write(&path, "a file").unwrap();
    let config = Config { path: path.clone(), ..Config::default() };
    let tuning = Tuning { retry: Duration::from_millis(20), ..Tuning::default() };
    let patient = guarded::Config { failures: 2, pause: Duration::from_hours(1), deadline: PATIENCE };
    let guarded = Arc::new(Guarded::new(Embedded::open_or_wait(config, tuning).unwrap(), patient));
    for _ in 0..10 {
        assert!(matches!(guarded.load(&here(), &id(1)).await, Err(Error::Away(_))));
    }
    let healed = Arc::clone(&guarded);
    tokio::spawn(async move { healed.inner().heal().await });
    std::fs::remove_file(&path).unwrap();
    comes_back(guarded.inner()).await;
    assert_eq!(guarded.load(&here(), &id(1)).await.unwrap(), None);
}

/// A process that is told by its standard input when to go on.
struct Other {
    child: Child,
    told: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Other {
    fn start(mut command: Command, name: &str, folder: &Path) -> Self {
        let mut child = command
            .args(["--exact", &format!("store_heals::{name}"), "--nocapture"])
            .env(ORDERS, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (line, said) = channel();
        std::thread::spawn(move || lines.into_iter().try_for_each(|said| line.send(said)));
        Self { told: child.stdin.take(), child, said }
    }

    fn go_on(&mut self) {
        self.told.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits for a line that begins so, and gives the rest of it.
    fn says(&mut self, word: &str) -> String {
        let (mut all, until) = (String::new(), Instant::now() + 2 * PATIENCE);
        loop {
            let Ok(line) = self.said.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                panic!("no {word:?}, but {all:?}");
            };
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
            all.push_str(&line);
            all.push('\n');
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn orders() -> Option<PathBuf> {
    std::env::var_os(ORDERS).map(PathBuf::from)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn wait_for_the_end_of_input() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_another_process_holds_is_taken_when_it_is_free() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let this = Command::new(std::env::current_exe().unwrap());
    let mut other = Other::start(this, "holds_the_folder", &path);
    other.says("holds");
    let store = waiting(&path);
    let why = store.why_away().unwrap();
    assert!(why.contains("in use by another process"), "{why}");

    other.told = None;
    comes_back(&store).await;
    let put = versions().next().unwrap();
    assert_eq!(store.load(&here(), &put.id).await.unwrap(), Some(put), "what the other one has put");
    works(&store).await;
}

/// The other process of the test above; without orders it has nothing to do.
#[tokio::test]
async fn holds_the_folder() {
    let Some(path) = orders() else { return };
    let (store, _) = Embedded::open(Config { path, ..Config::default() }).unwrap();
    store.put(&here(), versions().next().unwrap()).await.unwrap();
    say("holds");
    wait_for_the_end_of_input();
    store.close().await.unwrap();
}

/// A disk that is full: the system lets this process write no file beyond a size, until the limit is raised.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_what_was_flushed_is_there_when_it_has_room_again() {
    let parent = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    // A signal that is ignored stays so in what is executed: writing fails then, as it does on a full disk.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -S -f 4096; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let mut other = Other::start(limited, "fills_its_disk", &parent.path().join("store"));
    let why = other.says("away");
    assert!(!why.is_empty());
    let raised = Command::new("prlimit")
        .args(["--pid", &other.child.id().to_string(), "--fsize=unlimited:unlimited"])
        .status();
    assert!(raised.is_ok_and(|raised| raised.success()), "prlimit of util-linux is needed");
    other.told = None;
    other.says("well");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "nothing was set aside");
}

/// The process of the test above; without orders it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_its_disk() {
    let Some(path) = orders() else { return };
    let store = waiting(&path);
    let mut acknowledged = Held::new();
    let mut puts = Operations::new(7, 1, 1);
    // The last one may or may not be there.
    let failed = loop {
        let Some(Operation::Put(n, version)) = puts.next() else { continue };
        let put = tokio::time::timeout(PATIENCE, store.put(&here(), entry(1, n, &version))).await;
        match put.expect("an error is told at once") {
            Ok(()) => drop(acknowledged.insert(n, version)),
            Err(_) => break n,
        }
    };
    let gone = async {
        while store.why_away().is_none() {
            // Whoever asks meanwhile gets an answer.
            let _ = store.load(&here(), &EntryId([0; 32])).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("that it fails is noticed");
    say(&format!("away {}", store.why_away().unwrap_or_default()));
    wait_for_the_end_of_input();
    comes_back(&store).await;
    for (n, version) in acknowledged.iter().filter(|(n, _)| **n != failed) {
        let loaded = store.load(&here(), &id(*n)).await.unwrap();
        assert_eq!(loaded, Some(entry(1, *n, version)), "what was acknowledged is there");
    }
    works(&store).await;
    say("well");
}
