//! Sentence models of the hub that the built-in manifest does not know, fetched by name: `owner/name`, or
//! `owner/name@revision`. What the hub says about the files is written down beside them, so that from then on
//! they are verified like any other.

use super::hub::{self, Hub};
use crate::models::{File, Length, Manifest, Model, Sha256, Source, is_model_name};
use serde::Deserialize;
use sha2::Digest as _;
use std::path::Path;

/// Without these a folder is no sentence model.
const NEEDED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// What sentence-transformers adds.
const WELCOME: [&str; 2] = ["1_Pooling/config.json", "sentence_bert_config.json"];
/// Files without a sha256 of the hub's are small; larger ones are not what they seem.
const MOST_SMALL_BYTES: u64 = 32 << 20;
/// The longest description of a model.
const MOST_DESCRIPTION_BYTES: u64 = 16 << 20;

/// Why a model of the hub cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is no name.
    #[error("`{0}` is no name of a model on the hub: write `owner/name`, or `owner/name@revision`")]
    Name(String),
    /// The hub did not answer as one.
    #[error("{name}: {reason}")]
    Hub { name: String, reason: hub::Error },
    /// The hub says something else than expected.
    #[error("{name}: the hub's description cannot be understood: {reason}")]
    Description { name: String, reason: String },
    /// A file that it takes is not there.
    #[error("{name} has no {file}: it is no sentence model of the BERT family in safetensors")]
    Lacks { name: String, file: &'static str },
}

/// What the hub says about a repository.
#[derive(Deserialize)]
struct Description {
    /// The commit.
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

#[derive(Deserialize)]
struct Card {
    /// Nearly always a string.
    #[serde(default)]
    license: Option<serde_json::Value>,
}

/// Whether `name` is meant to be one of the hub.
pub(super) fn is_hub_name(name: &str) -> bool {
    name.contains('/')
}

/// The name without the revision.
pub(super) fn id(name: &str) -> &str {
    name.split_once('@').map_or(name, |(id, _)| id)
}

/// Asks the hub what the model called `name` is made of.
pub(super) async fn describe(hub: &Hub, name: &str) -> Result<Model, Error> {
    let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_hub_name(id) || !is_model_name(id) || !plain(revision) {
        return Err(Error::Name(name.to_owned()));
    }
    let failed = |reason| Error::Hub { name: name.to_owned(), reason };
    let path = format!("api/models/{id}/revision/{revision}?blobs=true");
    let told = hub.read(&path, MOST_DESCRIPTION_BYTES).await.map_err(failed)?;
    let unclear = |reason: String| Error::Description { name: name.to_owned(), reason };
    let Description { sha, siblings, card } =
        serde_json::from_slice(&told).map_err(|error| unclear(error.to_string()))?;
    if !plain(&sha) {
        return Err(unclear(format!("`{sha}` is no commit")));
    }
    let mut files = Vec::new();
    for wanted in NEEDED.into_iter().chain(WELCOME) {
        let Some(sibling) = siblings.iter().find(|sibling| sibling.rfilename == wanted) else {
            if NEEDED.contains(&wanted) {
                return Err(Error::Lacks { name: name.to_owned(), file: wanted });
            }
            continue;
        };
        let (digest, bytes) = if let Some(Lfs { sha256, size }) = &sibling.lfs {
            (sha256.clone(), *size)
        } else {
            let most = sibling.size.unwrap_or(MOST_SMALL_BYTES).min(MOST_SMALL_BYTES);
            let content = hub.read(&format!("{id}/resolve/{sha}/{wanted}"), most).await.map_err(failed)?;
            (format!("{:x}", sha2::Sha256::digest(&content)), content.len() as u64)
        };
        files.push(File {
            path: format!("{}/{wanted}", Model::hub_folder(id)),
            sha256: Sha256::try_from(digest).map_err(unclear)?,
            bytes: Length::Exact(bytes),
            sources: vec![Source::Hub {
                repository: id.to_owned(),
                revision: sha.clone(),
                path: wanted.to_owned(),
            }],
        });
    }
    let licence = card.and_then(|card| card.license).and_then(|licence| licence.as_str().map(str::to_owned));
    Ok(Model {
        id: id.to_owned(),
        name: id.to_owned(),
        purpose: "text to vectors, where embed.model names it".to_owned(),
        licence: licence.unwrap_or_else(|| "unknown".to_owned()),
        family: None,
        homepage: format!("https://huggingface.co/{id}"),
        optional: false,
        files,
    })
}

/// Writes down what `model` is made of, beside its files.
pub(super) fn remember(models_dir: &Path, model: &Model) -> std::io::Result<()> {
    let manifest = Manifest { models: vec![model.clone()] };
    let text = toml::to_string(&manifest).map_err(std::io::Error::other)?;
    let note = "# Written by `weir models`: where these files came from, and how to know that they are the same.\n\n";
    let place = models_dir.join(Model::own_manifest(&model.id));
    let part = place.with_extension("part");
    std::fs::write(&part, format!("{note}{text}"))?;
    std::fs::rename(&part, &place)
}
