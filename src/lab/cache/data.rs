//! Labelled questions: streams and pairs, as JSON Lines (`fixtures/decisions/README.md` tells the format).

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A question of a stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Its name.
    pub id: String,
    /// Where it is asked. Two contexts share nothing.
    pub context: String,
    /// The question.
    pub text: String,
    /// Two questions of one context have the same answer if, and only if, this is the same.
    pub answer_class: String,
}

/// Two questions.
#[derive(Clone, Debug, Deserialize)]
pub struct Pair {
    /// Its name.
    pub id: String,
    /// The one that is asked first.
    pub a: String,
    /// The one that is asked then.
    pub b: String,
    /// Whether they have the same answer.
    pub same_answer: bool,
    /// In what they differ.
    #[serde(default)]
    pub diff: String,
    /// Set where people do not agree.
    #[serde(default)]
    pub ambiguous: Option<serde_json::Value>,
}

/// One file of questions.
#[derive(Clone, Debug)]
pub struct Set {
    /// The name of the file, without its ending.
    pub name: String,
    /// What is in it.
    pub questions: Questions,
}

/// What is in a file.
#[derive(Clone, Debug)]
pub enum Questions {
    /// Asked one after the other.
    Stream(Vec<Line>),
    /// Each pair apart from all others.
    Pairs(Vec<Pair>),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line is neither a question nor a pair.
    #[error("{}:{line}: {error}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// There is nothing in it.
    #[error("{}: there are no questions in it", .0.display())]
    Empty(PathBuf),
}

/// All sets in `paths`: files, and the `.jsonl` files of folders, by name. Groups in a folder are to learn from, and
/// left out.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Set>, Error> {
    let mut sets = Vec::new();
    for path in paths {
        for file in files(path)? {
            sets.push(set(&file)?);
        }
    }
    Ok(sets)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let fault = |error| Error::Read { path: path.to_owned(), error };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        files.push(entry.map_err(fault)?.path());
    }
    let is_group = |file: &Path| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("groups_"))
    };
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl") && !is_group(file));
    files.sort();
    if files.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(files) }
}

fn set(path: &Path) -> Result<Set, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let first = lines().next().map(|(_, line)| line).ok_or_else(|| Error::Empty(path.to_owned()))?;
    let questions = match serde_json::from_str::<Line>(first) {
        Ok(_) => Questions::Stream(parsed(path, lines())?),
        Err(_) => Questions::Pairs(parsed(path, lines())?),
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Set { name, questions })
}

fn parsed<'a, T: Deserialize<'a>>(
    path: &Path,
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Vec<T>, Error> {
    let fault = |at: usize, error| Error::Line { path: path.to_owned(), line: at + 1, error };
    lines.map(|(at, line)| serde_json::from_str(line).map_err(|error| fault(at, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_pairs_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.jsonl", r#"{"id":"1","a":"x","b":"y","same_answer":true,"diff":"none"}"#);
        write("a.jsonl", "\n{\"id\":\"1\",\"context\":\"c\",\"text\":\"t\",\"answer_class\":\"k\"}\n");
        write("README.md", "no");
        write("groups_x.jsonl", r#"{"id":"1","same":["x","y"],"other":[]}"#);
        let sets = read(&[folder.path().to_owned()]).unwrap();
        assert!(matches!(&sets[0].questions, Questions::Stream(lines) if lines.len() == 1));
        assert!(matches!(&sets[1].questions, Questions::Pairs(pairs) if pairs[0].same_answer));
        write("c.jsonl", "{\"id\":\"1\"}");
        let error = read(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("c.jsonl:1: missing field"), "{error}");
    }
}
