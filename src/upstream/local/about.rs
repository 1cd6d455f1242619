//! What a GGUF file says about its model, without reading the weights.

use super::fault::Fault;
use super::gguf;
use super::template::Template;
use super::tokenizer::{Metadata, Tokenizer};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// The families of models that run here.
pub(super) const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

/// What a GGUF file says about its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// How it is built.
    pub family: String,
    /// What its authors call it.
    pub name: Option<String>,
    /// Under which terms it may be used.
    pub licence: Option<String>,
}

impl About {
    /// Reads the head of `file`. What could not be run is a fault.
    pub fn read(file: &Path) -> Result<Self, Fault> {
        let opened = File::open(file).map_err(|source| Fault::Open { path: file.to_owned(), source })?;
        Self::of(&mut BufReader::new(opened))
    }

    /// The same of what is no file on a disk.
    pub fn of(file: &mut (impl Read + Seek)) -> Result<Self, Fault> {
        let content = gguf::read(file)?;
        let family = family(&content.metadata)?.to_owned();
        Tokenizer::from_metadata(&content.metadata)?;
        Template::from_metadata(&content.metadata)?;
        let text = |key: &str| content.metadata.get(key)?.to_string().ok().cloned();
        Ok(Self { family, name: text("general.name"), licence: text("general.license") })
    }
}

/// The family of the model that `metadata` describes, where it is one that runs here.
pub(super) fn family(metadata: &Metadata) -> Result<&str, Fault> {
    const KEY: &str = "general.architecture";
    let family = metadata.get(KEY).and_then(|value| value.to_string().ok()).ok_or(Fault::Metadata(KEY))?;
    if FAMILIES.contains(&family.as_str()) { Ok(family) } else { Err(Fault::Family(family.clone())) }
}
