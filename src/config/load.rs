//! Finds and reads the file.

use super::Overrides;
use super::env::{CONFIG_VARIABLE, Environment};
use super::error::Error;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file where nobody named another.
const FILE_NAME: &str = "weir.toml";

/// The largest file read; a long one with many upstreams is some ten thousand bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration file.
pub(super) struct ConfigFile {
    /// As it was named, for errors.
    pub(super) name: Arc<str>,
    /// Where it is.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The file to use, if there is one: that of `--config` or `WEIR_CONFIG`, else `weir.toml` in the working
/// directory, else `weir/weir.toml` in the user's configuration directory.
pub(super) fn find(overrides: &Overrides, environment: &Environment) -> Result<Option<ConfigFile>, Error> {
    if let Some(path) = &overrides.config {
        return named(path, "--config", environment).map(Some);
    }
    if let Some(path) = environment.get(CONFIG_VARIABLE) {
        return named(Path::new(path), CONFIG_VARIABLE, environment).map(Some);
    }
    if let Some(file) = read(Path::new(FILE_NAME), environment)? {
        return Ok(Some(file));
    }
    match &environment.config_dir {
        Some(folder) => read(&folder.join("weir").join(FILE_NAME), environment),
        None => Ok(None),
    }
}

fn named(path: &Path, named_by: &'static str, environment: &Environment) -> Result<ConfigFile, Error> {
    read(path, environment)?.ok_or_else(|| Error::NotFound { named_by, path: path.to_owned() })
}

fn read(name: &Path, environment: &Environment) -> Result<Option<ConfigFile>, Error> {
    let path = environment.working_dir.join(name);
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Unreadable { path: name.to_owned(), source }),
        Ok(bytes) if bytes as u64 > MAX_BYTES => {
            Err(Error::TooLarge { path: name.to_owned(), limit: MAX_BYTES })
        }
        Ok(_) => Ok(Some(ConfigFile { name: name.to_string_lossy().into(), path, text })),
    }
}
