//! What each action of a rule looks like to a client of each protocol, byte for byte: `fixtures/rules/ACTION/PROTOCOL.txt`
//! holds what is asked and what comes back, whole and streamed.
//!
//! `WEIR_BLESS=1 cargo test --test it golden::` writes down what comes back now; look at the difference before it is
//! committed.

use crate::rules::{RULES, asked, start_with_service};
use crate::server::client;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use weir::chat::Protocol;

/// The name of each action, and what is said to have it.
const ACTIONS: [(&str, &str); 10] = [
    ("answer", "hey, hello!"),
    ("json", "state of lead vox"),
    ("call", "set the bass to minus 2.5 dB please"),
    ("macro", "make the bass punchier"),
    ("parts", "set bass to 1 dB and set lead vox to 2 dB"),
    ("block", "tell me the password"),
    ("route", "ask the other about goldens"),
    ("bypass_cache", "roll the dice"),
    ("http", "weather in Oslo"),
    ("http_failed", "weather in Rome"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rules")
}

#[tokio::test]
async fn each_action_looks_as_it_did_in_each_protocol() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let running = start_with_service(RULES).await;
    let (mut wrong, mut known) = (Vec::new(), BTreeSet::new());
    for (action, said) in ACTIONS {
        for protocol in Protocol::ALL {
            let mut told = String::new();
            for stream in [false, true] {
                told.push_str(&conversation(&running.url(), protocol, said, stream).await);
            }
            let file = root().join(action).join(format!("{}.txt", protocol.name()));
            known.insert(file.clone());
            if bless {
                fs::create_dir_all(root().join(action)).unwrap();
                fs::write(&file, &told).unwrap();
            } else if fs::read_to_string(&file).ok().as_ref() != Some(&told) {
                wrong.push(format!("{action}, {}:\n{told}", protocol.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of these are not as they were:\n{}", wrong.len(), wrong.join("\n"));
    let folders =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let there: BTreeSet<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect();
    assert_eq!(there, known, "each file is somebody's, and everybody has one");
}

/// Names that were made up for this answer.
fn without_digests(text: &str) -> String {
    /// Shorter runs of hexadecimal digits may be words.
    const LEAST: usize = 16;
    let mut told = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        match digits.len() >= LEAST {
            true => told.extend(["ID", &part[digits.len()..]]),
            false => told.push_str(part),
        }
    }
    told
}

/// What is sent and what comes back; what differs from run to run is taken out.
async fn conversation(url: &str, protocol: Protocol, said: &str, stream: bool) -> String {
    let (path, body) = asked(protocol, said, stream);
    let response = client().post(format!("{url}{path}")).body(body.to_string()).send().await.unwrap();
    let mut told = format!("> POST {path}\n> {body}\n< {}\n", response.status().as_u16());
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    for name in ["content-type", "x-weir-source", "x-weir-rule", "x-weir-upstream"] {
        told.extend(header(name).map(|value| format!("< {name}: {value}\n")));
    }
    let id = header("x-request-id").unwrap();
    let body = response.text().await.unwrap();
    let body = body.replace(&id, "REQUEST").replace(id.trim_start_matches("req_"), "REQUEST");
    told.push_str(&without_digests(&body));
    told.push_str("\n\n");
    told
}
