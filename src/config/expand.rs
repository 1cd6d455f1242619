//! What a string stands for: `${NAME}`, `${NAME:-default}`, `$$` for a dollar, and `file:PATH` as a whole.

use super::env::Environment;
use super::origin::Origin;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The longest value read from a `file:`; a key or token is a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What strings can refer to.
pub(super) struct Surroundings<'e> {
    pub(super) environment: &'e Environment,
    /// The folder of the configuration file, where there is one.
    pub(super) config_dir: Option<&'e Path>,
}

impl Surroundings<'_> {
    /// `path`, which came from `origin`, from the root: a relative path in the file is relative to the file,
    /// any other one to the working directory.
    pub(super) fn resolve(&self, path: &str, origin: &Origin) -> PathBuf {
        let working = self.environment.working_dir.as_path();
        let base = match origin {
            Origin::File { .. } => self.config_dir.unwrap_or(working),
            _ => working,
        };
        base.join(path)
    }
}

/// Why a string stands for nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the environment variable {0} is not set; set it, or write ${{{0}:-default}}")]
    Unset(String),
    #[error("\"${{\" is not followed by a variable's name and \"}}\"; write $$ for a dollar")]
    Malformed,
    #[error("could not read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0} is not a text file of at most {MAX_FILE_BYTES} bytes")]
    NotText(PathBuf),
}

/// What `text`, which came from `origin`, stands for.
pub(super) fn expand(text: &str, origin: &Origin, surroundings: &Surroundings<'_>) -> Result<String, Error> {
    // A shell has been over the command line already.
    if matches!(origin, Origin::Flag(_)) {
        return Ok(text.to_owned());
    }
    match text.strip_prefix("file:") {
        Some(path) => {
            let path = variables(path, surroundings.environment)?;
            contents(surroundings.resolve(&path, origin))
        }
        None => variables(text, surroundings.environment),
    }
}

/// Replaces variables. What they stand for is not expanded again: it is a value, not a template.
fn variables(text: &str, environment: &Environment) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let (reference, after) = after.split_once('}').ok_or(Error::Malformed)?;
            expanded.push_str(variable(reference, environment)?);
            after
        } else {
            expanded.push('$');
            after
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of `NAME` or `NAME:-default`.
fn variable<'v>(reference: &'v str, environment: &'v Environment) -> Result<&'v str, Error> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::Malformed);
    }
    environment.get(name).or(default).ok_or_else(|| Error::Unset(name.to_owned()))
}

/// The text of a file, without the newline an editor puts at its end.
fn contents(path: PathBuf) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(Error::Unreadable { path, source });
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::NotText(path));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::NotText(path))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment = Environment::with([("KEY", "sk-1"), ("EMPTY", ""), ("DOLLAR", "${KEY}")]);
        let surroundings = Surroundings { environment: &environment, config_dir: None };
        expand(text, &Origin::Default, &surroundings).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_stand_for_their_values() {
        assert_eq!(expanded("Bearer ${KEY}!").unwrap(), "Bearer sk-1!");
        assert_eq!(expanded("${NONE:-x}${EMPTY:-y}${KEY:-z}${NONE:-}").unwrap(), "xysk-1");
        assert_eq!(expanded("$$ $5 $${KEY} $").unwrap(), "$ $5 ${KEY} $");
        assert_eq!(expanded("${DOLLAR}").unwrap(), "${KEY}", "values are not templates");
    }

    #[test]
    fn what_stands_for_nothing_is_an_error() {
        let unset = "the environment variable NONE is not set; set it, or write ${NONE:-default}";
        assert_eq!(expanded("${NONE}").unwrap_err(), unset);
        assert!(expanded("${EMPTY}").is_err());
        for malformed in ["${KEY", "${}", "${A-B}", "${ KEY }"] {
            assert!(expanded(malformed).unwrap_err().contains("write $$"), "{malformed}");
        }
    }

    #[test]
    fn files_stand_for_their_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-${KEY}\r\n\n").unwrap();
        let reference = format!("file:{}", path.display());
        assert_eq!(expanded(&reference).unwrap(), "sk-${KEY}");

        std::fs::write(&path, vec![b'a'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(expanded(&reference).unwrap_err().ends_with("at most 65536 bytes"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(expanded(&reference).unwrap_err().contains("not a text file"));
        assert!(expanded("file:/no/such/file").unwrap_err().starts_with("could not read /no/such/file"));
    }
}
