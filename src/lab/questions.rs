//! What was asked: the questions of a journal of ours, or of any record that can be made one.

use super::import::{self, Format, Place, import};
use super::replay::request;
use crate::chat::Message;
use crate::journal::{Fault, Keys, Line, Reader, Row, files, is_sealed};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// How much of a file is looked at to see what it is.
const GLANCE: u64 = 1 << 20;

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] Fault),
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] import::Error),
    /// The disk is at fault.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A journal of ours.
    Journal,
    /// Lines of JSON with a `text`.
    Texts,
    /// Another program's record.
    Record(Format),
}

/// The questions that a journal (a folder or a file) or another record holds, and that no rule answered: at most
/// `most`. What it is is seen from its beginning, where nobody says; what is sealed is opened with one of `keys`.
pub fn questions(
    path: &Path,
    format: Option<Format>,
    most: usize,
    keys: &Keys,
) -> Result<Vec<String>, Error> {
    let kind = match format {
        Some(format) => Kind::Record(format),
        None => kind(path)?,
    };
    let mut texts = Vec::new();
    let mut take = |row: &Row| {
        if texts.len() < most && row.source.as_deref() != Some("rule") {
            texts.extend(request(row).and_then(|request| request.question().map(Message::plain_text)));
        }
    };
    match kind {
        Kind::Journal => {
            for path in files(path)? {
                for line in Reader::open(&path, keys)? {
                    if let Line::Request(row) = line? {
                        take(&row);
                    }
                }
            }
        }
        Kind::Record(format) => {
            let place = Place { project: String::new(), model: "unknown".to_owned() };
            let from = BufReader::new(File::open(path)?);
            import(format, from, &HashMap::new(), &place, |row| {
                take(&row);
                Ok(())
            })?;
        }
        Kind::Texts => {
            for line in BufReader::new(File::open(path)?).lines().take(most) {
                texts.extend(text_of(&line?));
            }
        }
    }
    Ok(texts)
}

fn text_of(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    value.get("text")?.as_str().map(str::to_owned)
}

/// What a file is, by its name and its first line.
fn kind(path: &Path) -> io::Result<Kind> {
    let is = |ending: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending));
    if path.is_dir() || is("zst") || is_sealed(path) {
        return Ok(Kind::Journal);
    }
    if is("csv") {
        return Ok(Kind::Record(Format::Csv));
    }
    let beginning = BufReader::new(File::open(path)?.take(GLANCE));
    let first =
        beginning.split(b'\n').find(|line| line.as_ref().map_or(true, |line| !line.trim_ascii().is_empty()));
    let first = first.transpose()?.unwrap_or_default();
    Ok(kind_of_line(&first))
}

fn kind_of_line(line: &[u8]) -> Kind {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return Kind::Record(Format::Text) };
    let has = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
    if fields.len() == 1 && has(&["head", "request", "fresh", "learned", "feedback"]) {
        Kind::Journal
    } else if fields.get("text").is_some_and(Value::is_string) {
        Kind::Texts
    } else if has(&["startTime", "model_parameters", "custom_llm_provider", "request_id"]) {
        Kind::Record(Format::LiteLlm)
    } else {
        Kind::Record(Format::OpenAi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        questions(&path, None, 10, &Keys::default()).unwrap()
    }

    #[test]
    fn whatever_holds_questions_is_read_for_what_it_is() {
        let row = |id: &str, source: &str, says: &str| {
            format!(
                r#"{{"request":{{"at":1,"id":"{id}","tenant":"t","project":"p","protocol":"openai_chat","model":"m","source":"{source}","ended":"complete","body":{{"model":"m","messages":[{{"role":"user","content":"{says}"}}]}}}}}}"#
            )
        };
        let journal = [
            r#"{"head":{"version":1,"weir":"0","at":1}}"#.to_owned(),
            row("1", "upstream", "one"),
            row("2", "rule", "not this"),
            row("3", "exact", "two"),
        ]
        .join("\n");
        let openai = r#"{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"one"}]}}
{"messages":[{"role":"user","content":"two"}]}"#;
        let litellm = r#"{"id":"1","startTime":1,"model":"m","messages":[{"role":"user","content":"one"}]}
{"id":"2","startTime":2,"model":"m","messages":[{"role":"user","content":"two"}]}"#;
        for (name, text) in [
            ("00000001.jsonl", journal.as_str()),
            ("batch.jsonl", openai),
            ("logs.jsonl", litellm),
            ("questions.csv", "question,answer\none,x\ntwo,y\n"),
            ("questions.txt", "one\n\ntwo\n"),
            ("texts.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n"),
        ] {
            assert_eq!(read(name, text), ["one", "two"], "{name}");
        }
        assert!(read("empty.txt", "").is_empty());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("00000001.jsonl"), &journal).unwrap();
        assert_eq!(
            questions(folder.path(), None, 1, &Keys::default()).unwrap(),
            ["one"],
            "no more than are wanted"
        );
    }
}
