//! The model files: which there are, where each comes from, and whether what lies on the disk is it.
//!
//! [`Manifest::builtin`] is `models/manifest.toml`, compiled in. Getting the files is for `cli::models`;
//! reading them, for `embed` and `upstream::local`.

mod installed;
mod verify;

pub use installed::{Installed, InstalledError};
pub use verify::{Fault, check, check_content, digest_of, sha256_of, verify};

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Every model Weir knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The models, in the order a listing shows them.
    #[serde(rename = "model")]
    pub models: Vec<Model>,
}

/// A model: some files with one purpose and one licence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What commands call it.
    pub id: String,
    /// What its authors call it.
    pub name: String,
    /// What Weir uses it for.
    pub purpose: String,
    /// SPDX expression.
    pub licence: String,
    /// How it is built (`llama`, `qwen3`), where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Where to read about it.
    pub homepage: String,
    /// Fetched only by name: nothing needs it unless the configuration says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Its files.
    #[serde(rename = "file")]
    pub files: Vec<File>,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it belongs, under the models folder.
    pub path: String,
    /// What its content must hash to.
    pub sha256: Sha256,
    /// How long it is.
    pub bytes: Length,
    /// Where to get it, best first.
    pub sources: Vec<Source>,
}

/// How long a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Length {
    /// To the byte.
    Exact(u64),
    /// As far as anybody says who has told its sha256.
    About {
        /// So long, or a little less or more.
        about: u64,
    },
}

impl Length {
    /// Where it is known to the byte.
    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exact(bytes) => Some(bytes),
            Self::About { .. } => None,
        }
    }

    /// The most bytes that it can have.
    pub fn most(self) -> u64 {
        match self {
            Self::Exact(bytes) => bytes,
            Self::About { about } => about.saturating_add(about / 4),
        }
    }

    /// For people.
    pub fn roughly(self) -> u64 {
        match self {
            Self::Exact(bytes) | Self::About { about: bytes } => bytes,
        }
    }
}

/// A place a file can be had from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// Inside a wheel on the Python package index.
    Pip {
        /// The package.
        package: String,
        /// Its exact version.
        version: String,
        /// The file's path inside the wheel.
        path: String,
    },
    /// In a repository of the Hugging Face hub.
    Hub {
        /// Owner and name.
        repository: String,
        /// The exact commit.
        revision: String,
        /// The file's path inside the repository.
        path: String,
    },
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256(String);

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not TOML, or not of this shape.
    #[error("the models manifest is malformed: {0}")]
    Malformed(String),
    /// Two models share an id, or two files a path.
    #[error("the models manifest names `{0}` twice")]
    Twice(String),
    /// A path leads out of the models folder.
    #[error("the models manifest has a path that is not plain and relative: `{0}`")]
    Path(String),
}

impl Manifest {
    /// The manifest of this build.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test parses what is compiled in")]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../models/manifest.toml")).expect("models/manifest.toml is sound")
    }

    /// Reads a manifest and checks what its shape alone does not say.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        let mut seen = HashSet::new();
        let ids = manifest.models.iter().map(|model| &model.id);
        let paths = manifest.models.iter().flat_map(|model| &model.files).map(|file| &file.path);
        if let Some(twice) = ids.chain(paths.clone()).find(|name| !seen.insert(*name)) {
            return Err(ManifestError::Twice(twice.clone()));
        }
        match paths.into_iter().find(|path| !is_plain(path)) {
            Some(path) => Err(ManifestError::Path(path.clone())),
            None => Ok(manifest),
        }
    }

    /// The model called `id`.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }
}

impl Model {
    /// The folder that its files lie in, under the models folder.
    pub fn folder(&self) -> Option<&Path> {
        self.files.first().and_then(|file| Path::new(&file.path).parent())
    }

    /// The beginning of the commit that its files are of, where it is one of the hub.
    pub fn revision(&self) -> Option<&str> {
        let sources = self.files.iter().flat_map(|file| &file.sources);
        sources.into_iter().find_map(|source| match source {
            Source::Hub { revision, .. } => Some(revision.get(..8).unwrap_or(revision)),
            Source::Pip { .. } => None,
        })
    }

    /// How long its files are together, to the byte where that is known of all.
    pub fn bytes(&self) -> Length {
        let all = || self.files.iter().map(|file| file.bytes);
        match all().map(Length::exact).sum() {
            Some(bytes) => Length::Exact(bytes),
            None => Length::About { about: all().map(Length::roughly).sum() },
        }
    }
}

/// Where `file` belongs.
pub fn path(models_dir: &Path, file: &File) -> PathBuf {
    models_dir.join(&file.path)
}

/// Whether `name` can be that of a model: a word, or `owner/name` as on the hub.
pub fn is_model_name(name: &str) -> bool {
    let is_word = |word: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !word.is_empty() && !word.starts_with('.') && word.len() <= 96 && word.chars().all(known)
    };
    match name.split_once('/') {
        Some((owner, name)) => is_word(owner) && is_word(name),
        None => is_word(name),
    }
}

/// Neither absolute, nor with a `..` in it, nor empty.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_digest { Ok(Self(text.to_ascii_lowercase())) } else { Err(format!("`{text}` is not a sha256")) }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pip { package, version, .. } => write!(f, "pip {package}=={version}"),
            Self::Hub { repository, .. } => write!(f, "hub {repository}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_file(path: &str, sha256: &str, more: &str) -> String {
        format!(
            "[[model]]\nid = 'm'\nname = 'M'\npurpose = 'p'\nlicence = 'MIT'\nhomepage = 'h'\n{more}\n\
             [[model.file]]\npath = '{path}'\nsha256 = '{sha256}'\nbytes = 1\nsources = []\n"
        )
    }

    #[test]
    fn the_builtin_manifest_is_sound() {
        let manifest = Manifest::builtin();
        assert_eq!(manifest.get("minilm").unwrap().files.len(), 3);
        assert_eq!(manifest.get("smollm2-135m-instruct").unwrap().bytes(), Length::Exact(98_362_432));
        assert!(manifest.get("gpt").is_none());
        let files = manifest.models.iter().flat_map(|model| &model.files);
        assert!(files.into_iter().all(|file| !file.sources.is_empty()));
    }

    #[test]
    fn a_manifest_survives_being_written_and_read() {
        let manifest = Manifest::builtin();
        assert_eq!(Manifest::parse(&toml::to_string(&manifest).unwrap()), Ok(manifest));
    }

    #[test]
    fn a_length_that_is_not_known_to_the_byte_has_a_limit() {
        let told = one_file("m/f", &"a".repeat(64), "").replace("bytes = 1", "bytes = { about = 1000 }");
        let about = Manifest::parse(&told).unwrap().models[0].bytes();
        assert_eq!(about, Length::About { about: 1000 });
        assert_eq!((about.exact(), about.most(), about.roughly()), (None, 1250, 1000));
        assert_eq!(Length::Exact(7).most(), 7);
        let silent = told.replace("bytes = { about = 1000 }", "");
        assert!(matches!(Manifest::parse(&silent), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn what_nobody_needs_is_fetched_by_name_only() {
        let manifest = Manifest::builtin();
        let needed = manifest.models.iter().filter(|model| !model.optional).map(|model| model.id.as_str());
        assert_eq!(needed.collect::<Vec<_>>(), ["minilm", "smollm2-135m-instruct"]);
    }

    #[test]
    fn refuses_what_would_go_wrong_later() {
        let digest = "a".repeat(64);
        assert!(Manifest::parse(&one_file("m/f", &digest, "")).is_ok());
        for path in ["", "/etc/passwd", "../f", "m/../../f"] {
            let refused = Manifest::parse(&one_file(path, &digest, ""));
            assert_eq!(refused, Err(ManifestError::Path(path.to_owned())));
        }
        let twice = one_file("m/f", &digest, "") + &one_file("m/g", &digest, "");
        assert_eq!(Manifest::parse(&twice), Err(ManifestError::Twice("m".to_owned())));
        for malformed in [one_file("m/f", "abc", ""), one_file("m/f", &digest, "colour = 'blue'")] {
            assert!(matches!(Manifest::parse(&malformed), Err(ManifestError::Malformed(_))));
        }
    }

    #[test]
    fn refuses_an_unknown_key_in_a_source() {
        let source = "sources = [{ kind = 'pip', package = 'p', version = '1', path = 'f', hash = 'x' }]";
        let text = one_file("m/f", &"a".repeat(64), "").replace("sources = []", source);
        assert!(matches!(Manifest::parse(&text), Err(ManifestError::Malformed(_))));
    }
}
