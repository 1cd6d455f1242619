//! The layers of ARCHITECTURE.md, enforced: reads the `use` lines and fails on an edge that is not in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Who may know whom. A module that is not in the table may not exist.
const MAY_USE: &[(&str, &str)] = &[
    // layer 0: words
    ("chat", ""),
    ("numerals", ""),
    ("vector", ""),
    ("clock", ""),
    ("device", ""),
    ("secret", ""),
    // layer 1: skills
    ("embed", "vector device"),
    ("intent", "chat numerals vector"),
    ("journal", "chat secret"),
    ("limits", "chat clock"),
    ("models", ""),
    ("store", "chat vector clock"),
    ("wire", "chat clock"),
    // layer 2: judgement
    ("cache", "store chat numerals vector clock secret"),
    ("upstream", "wire limits chat clock device secret"),
    // layer 3: the path
    ("pipeline", "cache embed intent limits upstream chat vector clock"),
    // layer 4: faces
    ("lab", "sim telemetry journal wire pipeline cache embed intent limits store upstream chat vector clock"),
    ("sim", "embed store upstream chat vector clock"),
    ("webhook", "pipeline limits upstream wire clock secret"),
    ("telemetry", "journal webhook pipeline cache embed intent limits upstream store wire chat vector clock"),
    ("server", "telemetry webhook pipeline cache intent limits upstream wire chat vector clock secret"),
    // layer 5: assembly
    (
        "config",
        "journal chat cache embed intent limits server store telemetry upstream webhook models device secret",
    ),
    ("app", "*"),
    ("cli", "*"),
];

/// Crates that are known in one place only.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["server/"]),
    ("hyper", &["server/"]),
    ("hyper_util", &["server/"]),
    ("reqwest", &["upstream/provider/", "cli/"]),
    ("candle_core", &["device.rs", "embed/", "upstream/local/"]),
    ("candle_nn", &["embed/", "upstream/local/"]),
    ("candle_transformers", &["embed/", "upstream/local/"]),
    ("safetensors", &["embed/"]),
    ("tokenizers", &["embed/", "upstream/local/"]),
    ("sled", &["store/embedded/"]),
    ("rustix", &["store/embedded/compact.rs"]),
    ("chacha20poly1305", &["journal/seal.rs"]),
    ("zstd", &["journal/", "store/embedded/packed.rs"]),
    ("plotters", &["lab/report/"]),
    ("csv", &["lab/import"]),
    ("hnsw_rs", &["store/embedded/"]),
    ("prometheus_client", &["telemetry/"]),
    ("clap", &["cli/", "main.rs"]),
    ("regex", &["cache/identity/", "intent/", "journal/", "upstream/local/", "upstream/route/"]),
];

/// Production code of one source file: up to its tests, without comments.
struct Source {
    path: String,
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    visit(&root, &root, &mut found);
    assert!(found.len() > 30, "the sources were not found");
    found
}

fn visit(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            found.push(source(&path, &text));
        }
    }
}

fn source(path: &str, text: &str) -> Source {
    let module = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    Source { path: path.to_owned(), module, code: lines.collect::<Vec<_>>().join("\n") }
}

/// The modules named after `crate::`, in paths and in `use crate::{a, b::c}` lists.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, marker) in code.match_indices("crate::") {
        // Not `my_crate::`, and not the `$crate::` of a macro of another crate.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        used.extend(heads(&code[at + marker.len()..]));
    }
    used
}

fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut heads, mut start) = (1, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => start = true,
            c if start && c.is_alphabetic() => {
                heads.push(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Every edge that the table does not allow, as `from -> to (file)`.
fn forbidden_edges(sources: &[Source]) -> Vec<String> {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(module, others)| (*module, others.split(' ').collect())).collect();
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !matches!(source.path.as_str(), "lib.rs" | "main.rs")) {
        let Some(allowed) = table.get(source.module.as_str()) else {
            faults.push(format!("{} is in no layer ({})", source.module, source.path));
            continue;
        };
        for used in modules_used(&source.code) {
            let fine = used == source.module || allowed.contains("*") || allowed.contains(used.as_str());
            // Items at the root of the crate (there are none) would show up here too.
            if !fine {
                faults.push(format!("{} -> {used} ({})", source.module, source.path));
            }
        }
    }
    faults
}

fn misplaced_crates(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (name, homes) in CRATES {
            let named = source.code.match_indices(&format!("{name}::")).any(|(at, _)| {
                !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'))
            });
            if named && !homes.iter().any(|home| source.path.starts_with(home)) {
                faults.push(format!("{name} in {}", source.path));
            }
        }
    }
    faults
}

#[test]
fn modules_know_only_the_layers_below() {
    assert_eq!(forbidden_edges(&sources()), [] as [&str; 0]);
}

#[test]
fn each_crate_is_known_in_its_own_place_only() {
    assert_eq!(misplaced_crates(&sources()), [] as [&str; 0]);
}

#[test]
fn a_forbidden_edge_is_found_however_it_is_written() {
    let cases = [
        ("store/mod.rs", "use crate::cache::Query;", "store -> cache (store/mod.rs)"),
        ("wire/sse.rs", "use crate::{chat::Event, server::{Config, error}};", "wire -> server (wire/sse.rs)"),
        ("cache/mod.rs", "fn f() { crate::wire::sse::frame(b\"\"); }", "cache -> wire (cache/mod.rs)"),
        ("server/mod.rs", "use crate::sim::Scripted;", "server -> sim (server/mod.rs)"),
        ("extra/mod.rs", "", "extra is in no layer (extra/mod.rs)"),
    ];
    for (path, code, fault) in cases {
        assert_eq!(forbidden_edges(&[source(path, code)]), [fault]);
    }
    assert_eq!(misplaced_crates(&[source("cache/mod.rs", "use sled::Db;")]), ["sled in cache/mod.rs"]);
    assert_eq!(misplaced_crates(&[source("cache/mod.rs", "let db = sled::open(x);")]).len(), 1);
    let tests = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::sim::Scripted;\n}\n";
    assert_eq!(forbidden_edges(&[source("cache/mod.rs", tests)]), [] as [&str; 0]);
}

#[test]
fn unsafe_code_is_in_the_kernels_only() {
    for source in sources() {
        let has_unsafe =
            source.code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        let kernel = ["embed/kernels/", "store/embedded/kernels/", "upstream/local/kernels/"]
            .iter()
            .any(|home| source.path.starts_with(home));
        assert!(!has_unsafe || kernel, "{} has unsafe code", source.path);
    }
}
