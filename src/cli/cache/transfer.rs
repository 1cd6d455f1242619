//! `weir cache export` and `weir cache import`: files on this machine, answers in the sidecar.

use super::filter::Filter;
use super::{Remote, table};
use crate::cli::output;
use crate::cli::sidecar::cut;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::Path;

/// How much is sent at once: the sidecar may have to embed each line.
const LINES_AT_ONCE: u64 = 200;
const BYTES_AT_ONCE: usize = 2 << 20;
/// The longest line; the sidecar takes no longer body unless it is told to.
const LONGEST_LINE: usize = 16 << 20;

impl Remote {
    /// Writes what the filter finds, beside the file first: half of an export is not taken for a whole one.
    pub(super) async fn export(
        &self,
        filter: &Filter,
        vectors: bool,
        file: Option<&Path>,
    ) -> Result<(), Box<dyn Error>> {
        let path = format!("/export?{}vectors={vectors}", filter.query());
        let mut response = self.sidecar.send(self.get(&path)).await?;
        let beside = file.map(|file| file.with_added_extension("part"));
        let mut out: Box<dyn Write> = match &beside {
            Some(path) => Box::new(File::create(path).map_err(|error| told(path, &error))?),
            None => Box::new(io::stdout().lock()),
        };
        let mut lines = 0;
        while let Some(piece) = response.chunk().await.map_err(cut)? {
            lines += piece.split(|byte| *byte == b'\n').count() - 1;
            out.write_all(&piece)?;
        }
        out.flush()?;
        drop(out);
        if let (Some(beside), Some(file)) = (beside, file) {
            std::fs::rename(&beside, file).map_err(|error| told(file, &error))?;
        }
        output::note(format!("exported {} answers", lines.saturating_sub(1)));
        Ok(())
    }

    /// Sends the lines of a file, some at a time, and adds up what became of them.
    pub(super) async fn import(&self, file: Option<&Path>) -> Result<(), Box<dyn Error>> {
        let mut lines: Lines = match file {
            Some(path) => {
                Lines::new(Box::new(BufReader::new(File::open(path).map_err(|error| told(path, &error))?)))
            }
            None => Lines::new(Box::new(io::stdin().lock())),
        };
        let mut sum = Sum::default();
        while let Some(batch) = lines.batch()? {
            let answer = self.ask(self.post("/import").body(batch.text)).await?;
            sum.add(&answer, batch.before);
        }
        let told = sum.told();
        output::line(if self.json { told.to_string() } else { table::imported(&told) });
        if sum.bad == 0 { Ok(()) } else { Err(format!("{} lines could not be used", sum.bad).into()) }
    }
}

fn told(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Some lines, and how many of the file's are before the first of them.
struct Batch {
    text: Vec<u8>,
    before: i64,
}

/// The lines of a file, in batches that each begin with its head.
struct Lines {
    file: Box<dyn BufRead>,
    head: Vec<u8>,
    read: u64,
}

impl Lines {
    fn new(file: Box<dyn BufRead>) -> Self {
        Self { file, head: Vec::new(), read: 0 }
    }

    fn batch(&mut self) -> Result<Option<Batch>, Box<dyn Error>> {
        // The head counts as a line of the batch, and stands only once in the file.
        let before = i64::try_from(self.read)? - i64::from(self.read > 0);
        let mut text = self.head.clone();
        let begin = text.len();
        for _ in 0..LINES_AT_ONCE {
            let from = text.len();
            let most = LONGEST_LINE as u64 + 1;
            (&mut self.file).take(most).read_until(b'\n', &mut text)?;
            if text.len() == from {
                break;
            }
            self.read += 1;
            if text.len() - from > LONGEST_LINE {
                return Err(format!("line {} is longer than {LONGEST_LINE} bytes", self.read).into());
            }
            if self.head.is_empty() {
                self.head = text.clone();
                if !self.head.ends_with(b"\n") {
                    self.head.push(b'\n');
                }
            }
            if text.len() > BYTES_AT_ONCE {
                break;
            }
        }
        Ok((text.len() > begin).then_some(Batch { text, before }))
    }
}

/// What became of all batches.
#[derive(Default)]
struct Sum {
    imported: u64,
    known: u64,
    expired: u64,
    no_room: u64,
    bad: u64,
    bad_lines: Vec<Value>,
}

impl Sum {
    fn add(&mut self, told: &Value, before: i64) {
        let count = |name: &str| told[name].as_u64().unwrap_or_default();
        self.imported += count("imported");
        self.known += count("known");
        self.expired += count("expired");
        self.no_room += count("no_room");
        self.bad += count("bad");
        for bad in told["bad_lines"].as_array().into_iter().flatten() {
            let line = bad["line"].as_i64().unwrap_or_default() + before;
            self.bad_lines.push(json!({ "line": line, "why": bad["why"] }));
        }
    }

    fn told(&self) -> Value {
        let Self { imported, known, expired, no_room, bad, bad_lines } = self;
        json!({
            "imported": imported, "known": known, "expired": expired, "no_room": no_room, "bad": bad,
            "bad_lines": bad_lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_begins_with_the_head_and_knows_where_it_stands() {
        let file: String = std::iter::once("head\n".to_owned())
            .chain((2..=450).map(|line| format!("line {line}\n")))
            .collect();
        let mut lines = Lines::new(Box::new(io::Cursor::new(file)));
        let mut seen = 1;
        while let Some(Batch { text, before }) = lines.batch().unwrap() {
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with("head\n"));
            for (at, line) in text.lines().enumerate().skip(1) {
                seen += 1;
                assert_eq!(line, format!("line {seen}"));
                assert_eq!(i64::try_from(at).unwrap() + 1 + before, seen, "the place in the file");
            }
        }
        assert_eq!(seen, 450);
    }
}
