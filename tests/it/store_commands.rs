//! `weir store …` as a user types it: beside a running sidecar, on a full disk, given a backup of a newer weir, and killed.

use crate::cli::{Sidecar, weir};
use crate::store_compacts::noise;
use rand::{RngExt as _, SeedableRng as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use weir::chat::Reply;
use weir::store::embedded::{Config, Embedded};
use weir::store::{Entry, Scope, Store as _};

const HERE: Scope = Scope([1; 32]);
/// Longer than any command here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
const ENTRIES: u32 = 300;

fn store(home: &Path) -> PathBuf {
    home.join("data").join("store")
}

/// A store of these entries, in the data folder of `home`.
async fn filled(home: &Path, entries: u32, also: Option<Entry>) {
    // Room for one of ten megabytes: none may take more than a small part.
    let config = Config { path: store(home), max_bytes: 4 << 30, ..Config::default() };
    std::fs::create_dir_all(store(home)).unwrap();
    let store = Embedded::open(config).unwrap().0;
    for n in 1..=entries {
        store.put(&HERE, noise(n, 0)).await.unwrap();
    }
    if let Some(entry) = also {
        store.put(&HERE, entry).await.unwrap();
    }
    store.close().await.unwrap();
}

/// `weir store …`, with its own settings.
fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = weir(home);
    command.args(["--data-dir", "data", "store"]).args(arguments);
    command
}

/// What a command says, which must end.
fn said(mut command: Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{command:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn works(home: &Path, arguments: &[&str]) -> String {
    let output = said(command(home, arguments));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(command: Command) -> String {
    let output = said(command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// What is in a folder, all the way down, without what sled writes when it is opened.
fn files(folder: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap().flatten();
        files.map(|file| file.path().file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let mut all = names(folder);
    all.extend(names(&folder.join("store")).into_iter().map(|name| format!("store/{name}")));
    all.sort();
    all
}

#[tokio::test]
async fn a_command_and_a_sidecar_keep_out_of_each_others_way() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    filled(home, 20, None).await;
    works(home, &["backup", "backup"]);
    let sidecar = Sidecar::start(home, "");
    for arguments in [&["check"][..], &["repair"], &["compact"], &["restore", "backup"]] {
        let why = fails(command(home, arguments));
        assert!(why.contains("in use by another process"), "{arguments:?}: {why}");
    }
    let stats = said({
        let mut stats = weir(home);
        stats.args(["cache", "stats", "--url", &sidecar.url]);
        stats
    });
    assert!(String::from_utf8_lossy(&stats.stdout).contains("20"), "{stats:?}");
    // A backup is written by the sidecar, if it is the one that has the store.
    let backup = |url: &str, to: &str| {
        let mut backup = command(home, &["backup", to]);
        backup.env("WEIR_URL", url);
        backup
    };
    let told = said(backup(&sidecar.url, "other"));
    assert!(told.status.success(), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stdout).starts_with("20 entries written, 0 left out"), "{told:?}");
    assert!(fails(backup(&sidecar.url, "other")).contains("is there already"));
    let nobody = fails(backup("http://127.0.0.1:9", "third"));
    assert!(
        nobody.contains("in use by another process") && nobody.contains("no sidecar answers"),
        "{nobody}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Sidecar::start(elsewhere.path(), "");
    let why = fails(backup(&stranger.url, "third"));
    assert!(why.contains("this sidecar keeps its answers in"), "{why}");
    assert_eq!(
        std::fs::read_dir(home.join("data"))
            .unwrap()
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().contains("backup"))
            .count(),
        0
    );
    drop(stranger);
    let shared = "[[client]]\nname = 'a'\nkey = 'key-a'\ntenant = 'a'\n[[client]]\nname = 'b'\nkey = 'key-b'\ntenant = 'b'\n";
    let shared = Sidecar::start(elsewhere.path(), shared);
    assert!(fails(backup(&shared.url, "third")).contains("401"), "whoever has no key");
    let mut tenant = backup(&shared.url, "third");
    tenant.env("WEIR_API_KEY", "key-a");
    let why = fails(tenant);
    assert!(why.contains("what all tenants have asked"), "{why}");
    assert!(!home.join("third").exists());
    drop((sidecar, shared));
    assert!(works(home, &["check"]).starts_with("20 entries"));
    works(home, &["restore", "other"]);
    assert!(works(home, &["check"]).starts_with("20 entries"));

    // The other way round.
    let held = Embedded::open(Config { path: store(home), ..Config::default() }).unwrap().0;
    let sidecar = Sidecar::start(home, "");
    assert!(sidecar.banner.join("\n").contains("in use by another process"), "{:?}", sidecar.banner);
    drop((sidecar, held));
    assert!(works(home, &["check"]).starts_with("20 entries"));
}

/// So long that sled keeps it in a file of its own, which it cannot make beyond the limit: then sled fails or hangs.
fn long() -> Entry {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let text: String = (0..12_000_000).map(|_| char::from(random.random_range(b'!'..b'~'))).collect();
    Entry { reply: Reply::text("a-model", text), ..noise(0, 0) }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_everything_is_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    filled(home, 100, Some(long())).await;
    works(home, &["backup", "data/backup"]);
    // Reading it now writes nothing.
    works(home, &["compact"]);
    works(home, &["check"]);
    let before = files(&home.join("data"));
    for arguments in [&["compact"][..], &["backup", "data/other"], &["restore", "data/backup"]] {
        // Files of up to 4 MiB; a signal that is ignored stays so in what is executed, and writing fails then.
        let mut limited = Command::new("sh");
        limited
            .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_weir"))
            .args(["--data-dir", "data", "store"])
            .args(arguments)
            .current_dir(home);
        let why = fails(limited);
        assert!(why.contains("File too large"), "{arguments:?}: {why}");
        assert_eq!(files(&home.join("data")), before, "{arguments:?} leaves something: {why}");
        let checked = works(home, &["check"]);
        assert!(checked.starts_with("101 entries"), "{arguments:?}: {checked}");
        assert!(checked.contains("damaged 0"), "{arguments:?}: {checked}");
    }
    works(home, &["restore", "data/backup"]);
    assert!(works(home, &["check"]).starts_with("101 entries"));
}

#[tokio::test]
async fn a_backup_of_a_newer_weir_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    filled(home, 5, None).await;
    works(home, &["backup", "data/backup"]);
    {
        let backup = sled::open(home.join("data").join("backup").join("sled-0")).unwrap();
        backup.open_tree("meta").unwrap().insert("format", &1000_u32.to_le_bytes()).unwrap();
        backup.flush().unwrap();
    }
    let before = files(&home.join("data"));
    let why = fails(command(home, &["restore", "data/backup"]));
    assert!(why.contains("format 1000") && why.contains("newer weir"), "{why}");
    assert_eq!(files(&home.join("data")), before);
    assert!(works(home, &["check"]).starts_with("5 entries"));
    // And where there is no store at all.
    std::fs::remove_dir_all(store(home)).unwrap();
    fails(command(home, &["restore", "data/backup"]));
    assert!(!store(home).exists(), "nothing is begun");
}

#[tokio::test]
async fn what_cannot_be_opened_does_not_keep_a_backup_from_coming_back() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    filled(home, 5, None).await;
    works(home, &["backup", "data/backup"]);
    for ruin in ["no database", ""] {
        let newest = std::fs::read_dir(store(home)).unwrap().flatten();
        let newest = newest.map(|file| file.path()).find(|path| path.join("db").exists()).unwrap();
        std::fs::write(newest.join("db"), ruin.repeat(100_000)).unwrap();
        let told = works(home, &["restore", "data/backup"]);
        assert!(told.contains("5 entries written") && told.contains("store.before-"), "{told}");
        assert!(works(home, &["check"]).starts_with("5 entries"));
    }
}

/// Killed at any moment, a command leaves a store that is whole, and the next one is not kept from anything.
#[tokio::test]
async fn one_that_is_killed_leaves_a_store_that_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    filled(home, ENTRIES, None).await;
    works(home, &["backup", "data/backup"]);
    filled(home, ENTRIES + 7, None).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(rand::random());
    let began = Instant::now();
    works(home, &["compact"]);
    let usual = began.elapsed();
    let mut finished = 0;
    for round in 0..24 {
        let arguments = [&["compact"][..], &["backup", "data/other"], &["restore", "data/backup"]][round % 3];
        let mut child = command(home, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(usual.mul_f64(random.random_range(0.0..1.0)));
        child.kill().unwrap();
        finished += u32::from(child.wait().unwrap().success());
        let checked = works(home, &["check"]);
        let whole = [format!("{ENTRIES} entries"), format!("{} entries", ENTRIES + 7)];
        let is_whole = whole.iter().any(|whole| checked.starts_with(whole.as_str()));
        assert!(is_whole && checked.contains("damaged 0"), "round {round}, {arguments:?}: {checked}");
        let _ = std::fs::remove_dir_all(home.join("data").join("other"));
    }
    println!("{finished} of 24 had ended before they were killed");
    works(home, &["backup", "data/other"]);
    works(home, &["restore", "data/backup"]);
    works(home, &["compact"]);
    assert!(works(home, &["check"]).starts_with(&format!("{ENTRIES} entries")));
    let left = files(&home.join("data"));
    assert!(!left.iter().any(|name| name.contains("unfinished")), "{left:?}");
}
