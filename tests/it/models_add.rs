//! `weir models add`: language models that no manifest knows.

use crate::tiny;
use sha2::Digest as _;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const COMMIT: &str = "c0ffee0123";

fn tiny_model(folder: &Path) -> Vec<u8> {
    let file = folder.join("given/Tiny.Q8_0.gguf");
    tiny::write(&file);
    std::fs::read(file).unwrap()
}

fn sha256(content: &[u8]) -> String {
    format!("{:x}", sha2::Sha256::digest(content))
}

async fn weir(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().current_dir(folder).args(["--models-dir", "models", "models"]).args(arguments);
    command.output().await.unwrap()
}

async fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = weir(folder, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = weir(folder, arguments).await;
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_file_that_is_added_is_a_model_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let digest = sha256(&tiny_model(folder));
    let added = said(folder, &["add", "mine", "given/Tiny.Q8_0.gguf"]).await;
    assert!(added.starts_with("mine: llama, ") && added.contains("apache-2.0"), "{added}");
    assert!(added.contains(&digest) && added.contains("weir models run mine"), "{added}");

    std::fs::remove_dir_all(folder.join("given")).unwrap();
    let listed = said(folder, &["list"]).await;
    let line = listed.lines().find(|line| line.starts_with("mine")).unwrap();
    assert!(line.contains(" ok ") && line.contains("apache-2.0") && line.contains(" llama "), "{line}");
    assert!(
        listed.lines().any(|line| line.starts_with("qwen3-0.6b") && line.contains(" missing ")),
        "{listed}"
    );
    said(folder, &["run", "mine", "hello", "--max-tokens", "3"]).await;
    assert!(said(folder, &["verify", "mine"]).await.contains("mine: ok"));

    let file = folder.join("models/mine/Tiny.Q8_0.gguf");
    let mut damaged = std::fs::read(&file).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, damaged).unwrap();
    assert!(refusal(folder, &["run", "mine", "hello"]).await.contains("is damaged"));
    // What lies in the folder is checked though nobody needs it.
    assert!(refusal(folder, &["verify"]).await.contains("Tiny.Q8_0.gguf is damaged"));
}

#[tokio::test]
async fn a_name_is_given_once_unless_it_is_said_twice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny_model(folder);
    let file = "given/Tiny.Q8_0.gguf";
    said(folder, &["add", "mine", file]).await;
    assert!(refusal(folder, &["add", "mine", file]).await.contains("mine: there is one already"));
    said(folder, &["add", "mine", file, "--replace", "--licence", "MIT"]).await;
    assert!(said(folder, &["list"]).await.contains("MIT"));
    for (name, why) in [("minilm", "built in"), ("a/b", "a name has letters"), ("..", "a name has letters")] {
        assert!(refusal(folder, &["add", name, file]).await.contains(why), "{name}");
    }
}

#[tokio::test]
async fn what_could_not_be_run_is_not_added() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("text.gguf"), "no model").unwrap();
    tiny::write_family(&folder.join("other.gguf"), "falcon");
    assert!(
        refusal(folder, &["add", "x", "text.gguf"])
            .await
            .contains("text.gguf: the model file cannot be used: it is no GGUF file")
    );
    let other = refusal(folder, &["add", "x", "other.gguf"]).await;
    assert!(other.contains("models of the family `falcon` cannot be run here"), "{other}");
    assert!(refusal(folder, &["add", "x", "none.gguf"]).await.contains("none.gguf"));
    assert!(!folder.join("models/x").exists());
}

/// A hub with one file in `o/m`, which says of it what `headers` say; what was asked of it.
async fn hub(content: Vec<u8>, headers: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            let (method, path) = line.split_once(' ').unwrap();
            // The hub leads to where large files lie, and a renamed repository to its new name.
            let (status, more, body) = match (method, path) {
                (_, path) if path.starts_with("/old/m/") => (
                    "307 Temporary Redirect",
                    format!("location: {}\r\n", path.replacen("old", "o", 1)),
                    &[][..],
                ),
                ("HEAD", path) if path.starts_with("/o/m/resolve/") && path.ends_with("/m.gguf") => {
                    ("302 Found", format!("{headers}location: http://127.0.0.1:1/elsewhere\r\n"), &[][..])
                }
                ("GET", path) if path.starts_with("/o/m/resolve/") && path.ends_with("/m.gguf") => {
                    ("200 OK", String::new(), &content[..])
                }
                _ => ("404 Not Found", String::new(), &[][..]),
            };
            log.lock().unwrap().push(line);
            let head = format!(
                "HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body).await;
        }
    });
    (url, asked)
}

fn vouching(sha256: &str, bytes: usize) -> String {
    format!("x-repo-commit: {COMMIT}\r\nx-linked-size: {bytes}\r\nx-linked-etag: \"{sha256}\"\r\n")
}

#[tokio::test]
async fn a_file_of_the_hub_is_held_to_what_the_hub_says_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let content = tiny_model(folder);
    let (url, asked) = hub(content.clone(), vouching(&sha256(&content), content.len())).await;
    let added = said(folder, &["add", "mine", "hub:old/m/m.gguf", "--hub-url", &url]).await;
    assert!(added.contains(&sha256(&content)) && !added.contains("nobody told"), "{added}");
    assert_eq!(std::fs::read(folder.join("models/mine/m.gguf")).unwrap(), content);
    let expected = [
        "HEAD /old/m/resolve/main/m.gguf".to_owned(),
        "HEAD /o/m/resolve/main/m.gguf".to_owned(),
        // From then on it is asked for by its commit.
        format!("GET /old/m/resolve/{COMMIT}/m.gguf"),
        format!("GET /o/m/resolve/{COMMIT}/m.gguf"),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);

    // It comes again by its name alone.
    std::fs::remove_file(folder.join("models/mine/m.gguf")).unwrap();
    said(folder, &["fetch", "mine", "--hub-url", &url]).await;
    assert!(said(folder, &["verify", "mine"]).await.contains("mine: ok"));
}

#[tokio::test]
async fn a_hub_that_gives_something_else_than_it_says_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let content = tiny_model(folder);
    let arguments = |url: &str| ["add", "mine", "hub:o/m/m.gguf", "--hub-url", url].map(str::to_owned);
    for (headers, why) in [
        (vouching(&"a".repeat(64), content.len()), "its sha256 is"),
        (vouching(&sha256(&content), content.len() - 1), "longer than"),
    ] {
        let (url, _) = hub(content.clone(), headers).await;
        let arguments = arguments(&url);
        let said = refusal(folder, &arguments.each_ref().map(String::as_str)).await;
        assert!(said.contains(why), "{said}");
        let left: Vec<_> = std::fs::read_dir(folder.join("models/mine")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let (url, _) = hub(Vec::new(), String::new()).await;
    assert!(refusal(folder, &["add", "mine", "hub:o/m/none.gguf", "--hub-url", &url]).await.contains("404"));
    assert!(refusal(folder, &["add", "mine", "hub:o/m", "--hub-url", &url]).await.contains("write hub:"));
}

#[tokio::test]
async fn what_nobody_vouches_for_is_pinned_as_it_came_and_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let content = tiny_model(folder);
    let (url, _) = hub(content.clone(), String::new()).await;
    // What an earlier run left here is no beginning of it.
    std::fs::create_dir_all(folder.join("models/mine")).unwrap();
    std::fs::write(folder.join("models/mine/m.gguf.part"), "something else").unwrap();
    let added = said(folder, &["add", "mine", "hub:o/m/m.gguf", "--hub-url", &url]).await;
    assert!(added.contains("nobody told beforehand") && added.contains(&sha256(&content)), "{added}");
    assert!(said(folder, &["verify", "mine"]).await.contains("mine: ok"));

    let (url, _) = hub(b"no model".to_vec(), String::new()).await;
    assert!(
        refusal(folder, &["add", "other", "hub:o/m/m.gguf", "--hub-url", &url])
            .await
            .contains("it is no GGUF file")
    );
    assert!(!folder.join("models/other/m.gguf").exists());
}
