//! Getting model files from a folder, from wheels and from a hub; and never a wrong or half one.

use sha2::Digest;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::cli::models::{Error, FetchArgs, SourceKind, fetch};
use weir::models::{Fault, File, Length, Manifest, Model, Source, verify};

const REVISION: &str = "0123456789";

/// A models folder to fetch into, and a manifest of one model with the files `a.bin` and `b.bin`.
struct Bench {
    folder: tempfile::TempDir,
    manifest: Manifest,
    contents: [Vec<u8>; 2],
}

impl Bench {
    fn new() -> Self {
        let contents = [noise(300_000, 1), noise(1_000, 2)];
        let files = contents.iter().zip(["a.bin", "b.bin"]).map(|(content, name)| File {
            path: format!("m/{name}"),
            sha256: sha256(content).try_into().unwrap(),
            bytes: Length::Exact(content.len() as u64),
            sources: vec![
                Source::Pip { package: "served".into(), version: "1.0".into(), path: format!("in/{name}") },
                Source::Hub { repository: "o/m".into(), revision: REVISION.into(), path: name.into() },
            ],
        });
        let model = Model {
            id: "m".into(),
            name: "M".into(),
            purpose: "tests".into(),
            licence: "MIT".into(),
            family: None,
            optional: false,
            homepage: "none".into(),
            files: files.collect(),
        };
        let manifest = Manifest { models: vec![model] };
        Self { folder: tempfile::tempdir().unwrap(), manifest, contents }
    }

    fn models_dir(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    async fn fetch(&self, args: FetchArgs) -> Result<(), Error> {
        fetch(&self.manifest, &args, &self.models_dir()).await
    }

    fn verified(&self) -> Result<(), Fault> {
        verify(&self.models_dir(), &self.manifest.models[0])
    }

    fn put(&self, path: &str, content: &[u8]) {
        let path = self.models_dir().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Every file in the models folder but the lock, which stays.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        walk(&self.models_dir(), &mut left);
        let name = |path: PathBuf| path.strip_prefix(self.models_dir()).unwrap().display().to_string();
        let mut left: Vec<_> = left.into_iter().map(name).filter(|name| name != ".fetch.lock").collect();
        left.sort();
        left
    }

    /// A folder with a Python whose pip "downloads" a wheel of both files, or fails.
    fn python(&self, works: bool) -> PathBuf {
        let folder = self.folder.path().join("python");
        std::fs::create_dir(&folder).unwrap();
        let python = folder.join("python3");
        let stub = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/python3");
        std::os::unix::fs::symlink(stub, &python).unwrap();
        if works {
            let names = ["in/a.bin", "in/b.bin"];
            let members = names.into_iter().zip(self.contents.iter().map(Vec::as_slice));
            write_wheel(&folder.join("served.whl"), members);
        }
        python
    }

    fn folder_with(&self, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.folder.path().join("given");
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// The hub answers on no port, so a test that uses it without meaning to fails at once.
fn args() -> FetchArgs {
    FetchArgs {
        names: vec![],
        from: None,
        source: None,
        force: false,
        hub_url: "http://127.0.0.1:1".into(),
        python: Some("no-such-python".into()),
    }
}

fn from_folder(folder: PathBuf) -> FetchArgs {
    FetchArgs { from: Some(folder), source: Some(SourceKind::Folder), ..args() }
}

fn from_pip(python: PathBuf) -> FetchArgs {
    FetchArgs { python: Some(python), source: Some(SourceKind::Pip), ..args() }
}

fn from_hub(hub: &FakeHub) -> FetchArgs {
    FetchArgs { hub_url: hub.url.clone(), source: Some(SourceKind::Hub), ..args() }
}

/// Bytes that do not repeat, so that a piece in the wrong place shows.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed));
    std::iter::successors(Some(seed), next).map(|state| (state >> 56) as u8).take(length).collect()
}

fn sha256(content: &[u8]) -> String {
    format!("{:x}", sha2::Sha256::digest(content))
}

fn write_wheel<'a>(path: &Path, members: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    let mut wheel = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, content) in members {
        wheel.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(content).unwrap();
    }
    wheel.finish().unwrap();
}

// ---------------------------------------------------------------------------------------------- folder

#[tokio::test]
async fn a_folder_may_be_laid_out_like_ours_or_flat() {
    let bench = Bench::new();
    let folder = bench.folder_with(&[("m/a.bin", &bench.contents[0]), ("b.bin", &bench.contents[1])]);
    bench.fetch(from_folder(folder)).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(bench.left(), ["m/a.bin", "m/b.bin"]);
}

#[tokio::test]
async fn what_is_here_and_right_is_not_fetched_again() {
    let bench = Bench::new();
    let folder = bench.folder_with(&[("a.bin", &bench.contents[0]), ("b.bin", &bench.contents[1])]);
    bench.fetch(from_folder(folder.clone())).await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    bench.fetch(from_folder(folder.clone())).await.unwrap();
    // Unless it is asked for; and when that fails, what was there stays.
    let forced = FetchArgs { force: true, ..from_folder(folder) };
    assert!(matches!(bench.fetch(forced).await, Err(Error::Unfetched(_))));
    assert_eq!(bench.verified(), Ok(()));
}

#[tokio::test]
async fn only_the_damaged_file_is_replaced() {
    let bench = Bench::new();
    bench.put("m/a.bin", b"half a file");
    bench.put("m/b.bin", &bench.contents[1]);
    let folder = bench.folder_with(&[("a.bin", &bench.contents[0])]);
    bench.fetch(from_folder(folder)).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
}

#[tokio::test]
async fn a_wrong_file_in_the_folder_leaves_nothing_behind() {
    let bench = Bench::new();
    let mut wrong = bench.contents[0].clone();
    wrong[7] ^= 1;
    for content in [wrong, bench.contents[0][1..].to_vec(), [&bench.contents[0][..], b"more"].concat()] {
        let folder = bench.folder_with(&[("a.bin", &content)]);
        let error = bench.fetch(from_folder(folder)).await.unwrap_err().to_string();
        assert!(error.contains("this is not the file the manifest means"), "{error}");
        assert!(error.contains("weir models fetch --from DIR"), "{error}");
        assert_eq!(bench.left(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_folder_as_the_only_source_has_to_be_named() {
    let nameless = FetchArgs { source: Some(SourceKind::Folder), ..args() };
    assert!(matches!(Bench::new().fetch(nameless).await, Err(Error::NoFolder)));
}

// ----------------------------------------------------------------------------------------------- wheel

#[tokio::test]
async fn one_wheel_is_downloaded_once_and_removed() {
    let bench = Bench::new();
    let python = bench.python(true);
    bench.fetch(from_pip(python.clone())).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(bench.left(), ["m/a.bin", "m/b.bin"]);
    let calls = std::fs::read_to_string(python.with_file_name("calls")).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.starts_with("-m pip download --no-deps --no-cache-dir"), "{calls}");
    assert!(calls.ends_with(" served==1.0\n"), "{calls}");
}

#[tokio::test]
async fn what_pip_says_is_passed_on_and_the_hub_is_asked() {
    let bench = Bench::new();
    let error = bench.fetch(from_pip(bench.python(false))).await.unwrap_err().to_string();
    let said =
        "pip served==1.0: pip failed (exit status: 1): ERROR: No matching distribution found for served==1.0";
    assert!(error.contains(said), "{error}");

    let hub = FakeHub::start(&bench, []).await;
    let python = Some(bench.folder.path().join("python/python3"));
    bench.fetch(FetchArgs { python, source: None, ..from_hub(&hub) }).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    let calls = std::fs::read_to_string(bench.folder.path().join("python/calls")).unwrap();
    assert_eq!(calls.lines().count(), 2, "a failure is remembered for the second file: {calls}");
}

#[tokio::test]
async fn a_wheel_without_the_file_or_with_a_huge_one_leaves_nothing_behind() {
    let bench = Bench::new();
    let python = bench.python(false);
    let huge = vec![0; 50_000_000];
    for (member, content, reason) in [
        ("in/c.bin", &b"other"[..], "cannot read in/a.bin from the wheel"),
        ("in/a.bin", &huge, "it has 300001 bytes and not 300000"),
    ] {
        write_wheel(&python.with_file_name("served.whl"), [(member, content)]);
        let error = bench.fetch(from_pip(python.clone())).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(bench.left(), [] as [&str; 0]);
    }
    std::fs::write(python.with_file_name("served.whl"), "not a zip archive").unwrap();
    assert!(matches!(bench.fetch(from_pip(python)).await, Err(Error::Unfetched(_))));
    assert_eq!(bench.left(), [] as [&str; 0]);
}

// ------------------------------------------------------------------------------------------- by its name

/// A hub that knows one repository: what it says about it, and its files.
async fn named_hub(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, content)| match *name {
            "model.safetensors" => serde_json::json!({
                "rfilename": name, "size": content.len(),
                "lfs": { "sha256": sha256(content), "size": content.len(), "pointerSize": 1 }
            }),
            _ => serde_json::json!({ "rfilename": name, "size": content.len(), "blobId": "x" }),
        })
        .collect();
    let told = serde_json::json!({
        "id": "o/small", "sha": "c0ffee0123", "cardData": { "license": "mit" }, "siblings": siblings
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let body = if path == "/api/models/o/small/revision/main?blobs=true" {
                Some(told.to_string().into_bytes())
            } else {
                let name = path.strip_prefix("/o/small/resolve/c0ffee0123/");
                files.iter().find(|(known, _)| name == Some(known)).map(|(_, content)| content.clone())
            };
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    });
    url
}

fn small_files() -> Vec<(&'static str, Vec<u8>)> {
    let names = ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json", "README.md"];
    names.into_iter().zip(1..).map(|(name, seed)| (name, noise(1000 * seed as usize, seed))).collect()
}

async fn weir_models(models_dir: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().arg("--models-dir").arg(models_dir).arg("models").args(arguments);
    command.output().await.unwrap()
}

#[tokio::test]
async fn a_model_of_the_hub_is_fetched_by_its_name_and_verified_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = named_hub(small_files()).await;
    let fetch = ["fetch", "o/small", "--hub-url", url.as_str()];
    let fetched = weir_models(folder.path(), &fetch).await;
    let said = String::from_utf8(fetched.stdout).unwrap();
    assert!(fetched.status.success(), "{said} {}", String::from_utf8_lossy(&fetched.stderr));
    assert!(said.contains("embed.model = \"o/small\""), "{said}");
    for (name, content) in small_files().iter().filter(|(name, _)| *name != "README.md") {
        assert_eq!(std::fs::read(folder.path().join("o--small").join(name)).unwrap(), *content, "{name}");
    }
    assert!(!folder.path().join("o--small/README.md").exists());

    // From now on it is a model like any other, and needs no hub.
    let verify = ["verify", "o/small"];
    assert!(weir_models(folder.path(), &verify).await.status.success());
    assert!(
        weir_models(folder.path(), &["fetch", "o/small", "--hub-url", "http://127.0.0.1:1"])
            .await
            .status
            .success()
    );
    let listed = String::from_utf8(weir_models(folder.path(), &["list"]).await.stdout).unwrap();
    assert!(listed.contains("o/small") && listed.contains("mit"), "{listed}");
    std::fs::write(folder.path().join("o--small/model.safetensors"), noise(3000, 9)).unwrap();
    let damaged = weir_models(folder.path(), &verify).await;
    assert!(!damaged.status.success());
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("damaged"));
}

#[tokio::test]
async fn what_is_no_sentence_model_is_refused_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let url =
        named_hub(small_files().into_iter().filter(|(name, _)| *name != "tokenizer.json").collect()).await;
    for (name, reason) in [
        ("o/small", "o/small has no tokenizer.json"),
        ("o/none", "404"),
        ("o/../x", "`o/../x` is no name of a model on the hub"),
        ("o/small@a/b", "is no name of a model"),
    ] {
        let refused = weir_models(folder.path(), &["fetch", name, "--hub-url", &url]).await;
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains(reason), "{name}: {said}");
    }
    assert!(!folder.path().join("o--small").exists());
}

// ------------------------------------------------------------------------------------------------- hub

/// How the hub answers one request; when it has run out of these it answers as it should.
#[derive(Clone, Copy)]
enum Mood {
    CutAfter(usize),
    IgnoresRange,
    Refuses(&'static str),
    Lies,
    NeverEnds,
}

struct FakeHub {
    url: String,
    /// Path and range of each request.
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    async fn start(bench: &Bench, moods: impl IntoIterator<Item = Mood>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, contents) = (asked.clone(), bench.contents.clone());
        let mut moods: Vec<Mood> = moods.into_iter().collect();
        moods.reverse();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The client may hang up first.
                let _ = answer(stream, moods.pop(), &contents, &log).await;
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: TcpStream,
    mood: Option<Mood>,
    contents: &[Vec<u8>; 2],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let request = read_head(&mut stream).await?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let from =
        request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    log.lock().unwrap().push(from.map_or(path.clone(), |from: usize| format!("{path} from {from}")));
    let mut content = match path.strip_prefix(&format!("/o/m/resolve/{REVISION}/")) {
        Some("a.bin") => contents[0].clone(),
        Some("b.bin") => contents[1].clone(),
        _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await,
    };
    let mut from = from.unwrap_or(0);
    match mood {
        Some(Mood::Refuses(status)) => {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return stream.write_all(head.as_bytes()).await;
        }
        Some(Mood::IgnoresRange) => from = 0,
        Some(Mood::Lies) => content[3] ^= 1,
        Some(Mood::NeverEnds) => content.extend_from_slice(&[0; 1000]),
        Some(Mood::CutAfter(_)) | None => {}
    }
    let status = if from > 0 {
        format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{}", content.len() - 1, content.len())
    } else {
        "200 OK".to_owned()
    };
    let body = &content[from..];
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    let sent = if let Some(Mood::CutAfter(length)) = mood { length } else { body.len() };
    stream.write_all(&body[..sent]).await?;
    stream.shutdown().await
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).to_lowercase())
}

const A: &str = "/o/m/resolve/0123456789/a.bin";
const B: &str = "/o/m/resolve/0123456789/b.bin";

fn from(path: &str, offset: usize) -> String {
    format!("{path} from {offset}")
}

#[tokio::test]
async fn the_hub_gives_both_files() {
    let bench = Bench::new();
    let hub = FakeHub::start(&bench, []).await;
    bench.fetch(from_hub(&hub)).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(bench.left(), ["m/a.bin", "m/b.bin"]);
    assert_eq!(hub.asked(), [A, B]);
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let hub = FakeHub::start(&bench, [Mood::CutAfter(100_000), Mood::CutAfter(50_000)]).await;
    bench.fetch(from_hub(&hub)).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(hub.asked(), [A.to_owned(), from(A, 100_000), from(A, 150_000), B.to_owned()]);
}

#[tokio::test]
async fn a_download_that_an_earlier_run_left_goes_on() {
    let bench = Bench::new();
    let cuts = [Mood::CutAfter(100), Mood::CutAfter(0), Mood::CutAfter(0), Mood::CutAfter(0)];
    let hub = FakeHub::start(&bench, cuts).await;
    let error = bench.fetch(from_hub(&hub)).await.unwrap_err().to_string();
    assert!(error.contains("hub o/m: cut off after 100 of 300000 bytes"), "{error}");
    assert_eq!(bench.left(), ["m/a.bin.part"], "what came is kept for the next run");
    bench.fetch(from_hub(&hub)).await.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(hub.asked()[4..], [from(A, 100), B.to_owned()]);
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_is_begun_again() {
    for (part, moods) in [
        (noise(100, 9), vec![]),
        (noise(300_000, 9), vec![]),
        (noise(400_000, 9), vec![]),
        (noise(100, 9), vec![Mood::IgnoresRange]),
        (noise(100, 9), vec![Mood::Refuses("416 Range Not Satisfiable")]),
    ] {
        let bench = Bench::new();
        bench.put("m/a.bin.part", &part);
        let hub = FakeHub::start(&bench, moods).await;
        bench.fetch(from_hub(&hub)).await.unwrap();
        assert_eq!(bench.verified(), Ok(()));
        assert_eq!(bench.left(), ["m/a.bin", "m/b.bin"]);
    }
}

#[tokio::test]
async fn a_hub_with_another_file_leaves_nothing_behind() {
    for (mood, reason) in [(Mood::Lies, "its sha256 is"), (Mood::NeverEnds, "longer than 300000 bytes")] {
        let bench = Bench::new();
        let hub = FakeHub::start(&bench, [mood]).await;
        let error = bench.fetch(from_hub(&hub)).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(bench.left(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_busy_hub_is_asked_again_and_one_that_says_no_is_not() {
    let bench = Bench::new();
    let hub = FakeHub::start(&bench, [Mood::Refuses("503 Busy"), Mood::Refuses("401 No")]).await;
    let error = bench.fetch(from_hub(&hub)).await.unwrap_err().to_string();
    assert!(error.contains("answered 401 Unauthorized"), "{error}");
    assert_eq!(hub.asked(), [A, A]);
}

#[tokio::test]
async fn two_at_once_do_not_hurt_each_other() {
    let bench = Bench::new();
    let hub = FakeHub::start(&bench, []).await;
    let (first, second) = tokio::join!(bench.fetch(from_hub(&hub)), bench.fetch(from_hub(&hub)));
    first.unwrap();
    second.unwrap();
    assert_eq!(bench.verified(), Ok(()));
    assert_eq!(hub.asked(), [A, B], "the second found them there");
}

// ---------------------------------------------------------------------------------------------- verify

#[test]
fn every_fault_names_the_file_and_what_to_do() {
    let bench = Bench::new();
    let faults = [
        (None, "missing", "a.bin is missing: run `weir models fetch` (in a checkout: `make models`)"),
        (
            Some(vec![0; 7]),
            "damaged",
            "a.bin is damaged, it has 7 bytes and not 300000: run `weir models fetch`",
        ),
        (Some(noise(300_000, 9)), "damaged", "a.bin is damaged, its sha256 is "),
    ];
    for (content, state, message) in faults {
        if let Some(content) = content {
            bench.put("m/a.bin", &content);
        }
        let fault = bench.verified().unwrap_err();
        assert_eq!(fault.state(), state);
        assert!(fault.to_string().contains(message), "{fault}");
        assert!(fault.to_string().contains("run `weir models fetch`"), "{fault}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_missing() {
    let bench = Bench::new();
    // A file where the folder should be.
    bench.put("m", b"");
    let fault = bench.verified().unwrap_err();
    assert!(matches!(fault, Fault::Unreadable { .. }), "{fault}");
    assert_eq!(fault.state(), "unreadable");
}
