//! `weir advise` on a sidecar that runs.

use crate::replay::{Recording, config, keys, questions};
use serde_json::Value;
use std::process::Output;
use std::time::Duration;
use weir::secret::Secret;
use weir::server::Client;

impl Recording {
    /// What is written down by now is on the disk.
    async fn flush(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.unwrap();
    }

    async fn advise(&self, variables: &[(&str, &str)]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .args(["advise", "--json", "--url", &format!("http://{}", self.address)]);
        tokio::time::timeout(Duration::from_mins(2), command.output()).await.unwrap().unwrap()
    }
}

fn told(output: &Output) -> (Vec<Value>, String) {
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{note}");
    (serde_json::from_slice(&output.stdout).unwrap(), note)
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_goes_by_the_journal_where_there_is_one() {
    let running = Recording::start(config(), |config| config.enabled = true).await;
    running.ask_all(&questions(60), 1).await;
    running.flush().await;
    let (advice, note) = told(&running.advise(&[]).await);
    assert!(advice.iter().all(|advice| advice["evidence"].is_string()), "{advice:?}");
    assert!(!note.contains("counted"), "{note}");
}

#[tokio::test]
async fn it_opens_a_sealed_journal_with_the_key_and_goes_by_the_counters_without() {
    let running = Recording::start(config(), |config| {
        config.enabled = true;
        config.keys = keys(&['a']);
    })
    .await;
    running.ask_all(&questions(60), 1).await;
    running.flush().await;
    let key = "a".repeat(64);
    let (_, note) = told(&running.advise(&[("WEIR_JOURNAL_KEY", key.as_str())]).await);
    assert!(!note.contains("counted"), "{note}");
    let (_, note) = told(&running.advise(&[]).await);
    assert!(note.contains("is sealed") && note.contains("by what it has counted"), "{note}");
}

#[tokio::test]
async fn without_a_journal_it_goes_by_what_was_counted_and_says_so() {
    let running = Recording::start(config(), |_| {}).await;
    running.ask_all(&questions(60), 1).await;
    let (advice, note) = told(&running.advise(&[]).await);
    assert!(note.contains("it writes no journal; this is by what it has counted"), "{note}");
    let evidence = advice[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("of 60 requests were answered in other words"), "{evidence}");
}

#[tokio::test]
async fn where_neither_says_enough_it_says_what_to_do() {
    let running = Recording::start(config(), |_| {}).await;
    let why = refused(&running.advise(&[]).await);
    assert!(why.contains("it has answered 0 requests") && why.contains("enabled = true"), "{why}");
}

#[tokio::test]
async fn it_needs_the_key_of_a_client() {
    let client = Client { name: "a".into(), key: Secret::new("key-a"), tenant: "a".into() };
    let running = Recording::start_for(config(), |_| {}, vec![client]).await;
    let why = refused(&running.advise(&[]).await);
    assert!(why.contains("status 401"), "{why}");
    let why = refused(&running.advise(&[("WEIR_API_KEY", "key-a")]).await);
    assert!(why.contains("it has answered 0 requests"), "{why}");
}
