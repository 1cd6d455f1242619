//! `weir bench cache`: what it counts is the same however the sidecar is asked.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Questions with their paraphrases and their traps, in two contexts.
fn stream() -> String {
    let texts = [
        ("What is the capital of France?", "france"),
        ("what's the capital of france", "france"),
        ("What is the capital of Spain?", "spain"),
        ("Turn on the light in the kitchen", "on"),
        ("turn on the kitchen light", "on"),
        ("Turn off the light in the kitchen", "off"),
        ("How many users signed up in May?", "may"),
        ("How many users signed up in June?", "june"),
    ];
    let mut lines = String::new();
    for round in 0..3 {
        for context in ["a", "b"] {
            for (at, (text, class)) in texts.iter().enumerate() {
                let id = format!("{context}-{round}-{at}");
                let line = serde_json::json!({
                    "id": id, "context": context, "text": text, "answer_class": format!("{context}/{class}"),
                });
                writeln!(lines, "{line}").unwrap();
            }
        }
    }
    lines
}

fn pairs() -> String {
    let pair = |id: &str, a: &str, b: &str, same: bool| {
        serde_json::json!({ "id": id, "a": a, "b": b, "same_answer": same, "diff": "x" }).to_string()
    };
    [
        pair("1", "What is the capital of France?", "what is the capital of France", true),
        pair("2", "What is the capital of France?", "What is the capital of Spain?", false),
    ]
    .join("\n")
}

fn bench(arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stream.jsonl"), stream()).unwrap();
    std::fs::write(folder.path().join("twins.jsonl"), pairs()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .arg("--models-dir")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
        .args(["bench", "cache", "--json", "--data", "."])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row<'a>(report: &'a Value, policy: &str) -> &'a Value {
    let rows = report["policies"].as_array().unwrap();
    rows.iter().find(|row| row["policy"] == policy).unwrap_or_else(|| panic!("no {policy} in {report}"))
}

#[test]
fn every_bench_has_its_name() {
    for name in ["cache", "intents", "embed", "store", "local", "serve", "all"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_weir")).args(["bench", name, "--help"]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_load_is_answered_in_full_and_told_by_who_answered() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        // Without the model: the same questions are found again, and that is enough here.
        .args(["--models-dir", "nowhere", "bench", "serve", "--json"])
        .args(["--rate", "60", "--seconds", "2", "--known", "5", "--upstream-ms", "5"])
        .args(["--mix", "exact=1,miss=1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["requests"], report["answered"], "{report}");
    assert_eq!(report["failures"], serde_json::json!({}));
    for source in ["exact", "exact, streamed", "upstream", "upstream, streamed"] {
        let times = &report["answers"][source];
        assert!(times["count"].as_u64().is_some_and(|count| count > 5), "{source}: {report}");
        assert_eq!(times["added_ms"].is_null(), source.starts_with("exact"), "{source}: {report}");
    }
    let upstream = &report["answers"]["upstream"];
    assert!(upstream["last_ms"][0].as_f64().unwrap() >= 5.0, "the upstream's own time is in it: {report}");
}

/// What stands between the marks of a table in the README.
fn table_in_the_readme() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let from_table = readme.split("<!-- weir bench cache --table -->").nth(1).unwrap().trim_start();
    from_table.lines().take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// The first cell of each row, and how many cells there are.
fn shape(lines: &[String]) -> Vec<(&str, usize)> {
    lines.iter().map(|line| (line.split('|').nth(1).unwrap().trim(), line.matches('|').count())).collect()
}

#[test]
fn the_table_in_the_readme_is_the_one_that_a_command_prints() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .args(["--models-dir", "models", "bench", "cache", "--table", "--limit", "4"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let kept = table_in_the_readme();
    assert_eq!(printed[0], kept[0], "the same streams");
    assert_eq!(shape(&printed), shape(&kept), "the same rows");
    // No figure is missing, and none is from a run that was cut short.
    let cells =
        |line: &String| line.split('|').skip(2).any(|cell| cell.contains(|c: char| c.is_ascii_digit()));
    assert!(kept[2..].iter().all(cells), "{kept:?}");
}

#[test]
fn in_process_and_over_http_the_same_is_served() {
    let reports = bench(&["--http", "--seeds", "2"]);
    let [stream, pairs] = reports.as_slice() else { panic!("{reports:?}") };
    let names: Vec<&str> =
        stream["policies"].as_array().unwrap().iter().map(|row| row["policy"].as_str().unwrap()).collect();
    let ours: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(", in process")).collect();
    assert!(!ours.is_empty(), "{names:?}");
    for name in ours {
        let (here, there) = (format!("{name}, in process"), format!("{name}, over HTTP"));
        for fact in ["seeds", "sources", "leaks"] {
            assert_eq!(row(stream, &here)[fact], row(stream, &there)[fact], "{name}: {fact}");
        }
        assert_eq!(row(pairs, &here)["counts"], row(pairs, &there)["counts"], "{name}");
    }
    let ours = row(stream, "weir at 1 %, in process");
    assert_eq!(ours["within"], 2, "{ours}");
    assert_eq!((&ours["leaks"], &ours["wrong"]), (&0.into(), &0.0.into()), "{ours}");
    assert_eq!(ours["seeds"][0]["requests"], 48);
    // Each text is asked three times in each context: that is two exact hits of three.
    assert!(ours["seeds"][0]["hits"].as_u64().unwrap() >= 32, "{ours}");
    assert!((stream["attainable"].as_f64().unwrap() - 36.0 / 48.0).abs() < 1e-9);
    assert!(row(stream, "static cosine 0.80")["wrong"].as_f64().unwrap() > 0.05, "it serves the traps");
    assert_eq!(row(pairs, "static cosine 0.80")["counts"]["same"], 1);
}
