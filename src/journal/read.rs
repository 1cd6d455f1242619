//! Reads a journal back, line by line, whatever a crash has left: a torn or unreadable line is passed over and
//! counted.

use super::row::{Line, VERSION};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The longest line. A longer one is nothing that was written here.
const MAX_LINE: u64 = 128 << 20;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The disk, or the compression, is at fault.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by a newer program.
    #[error("{} has format {found}, and this weir reads up to {VERSION}; use a newer weir", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is nothing to read.
    #[error("there is no journal in {}; `[journal] enabled = true` has the sidecar write one", .0.display())]
    Nothing(PathBuf),
}

/// The files of a journal, the oldest first: those in a folder, or the one that is named.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed = |source| Fault::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    in_folder(path).map_err(failed)
}

/// The files of a journal in a folder, the oldest first.
pub(super) fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_journal(path)).collect();
    files.sort();
    Ok(files)
}

fn is_journal(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| {
        !name.starts_with('.') && (name.ends_with(".jsonl") || name.ends_with(".jsonl.zst"))
    })
}

/// Whether a file is compressed.
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// The lines of one file.
pub struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    unreadable: u64,
    done: bool,
}

impl Reader {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let failed = |source| Fault::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let lines: Box<dyn BufRead + Send> = match is_compressed(path) {
            true => Box::new(BufReader::with_capacity(1 << 20, zstd::Decoder::new(file).map_err(failed)?)),
            false => Box::new(BufReader::with_capacity(1 << 20, file)),
        };
        Ok(Self { path: path.to_owned(), lines, buffer: Vec::new(), unreadable: 0, done: false })
    }

    /// How many lines could not be read so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The bytes of the next line.
    fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let read = io::Read::take(&mut self.lines, MAX_LINE).read_until(b'\n', &mut self.buffer)?;
        Ok(read > 0)
    }
}

impl Iterator for Reader {
    type Item = Result<Line, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                // A compressed file that was cut ends here; what was read before stands.
                Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                    self.unreadable += 1;
                    break;
                }
                Err(source) => {
                    self.done = true;
                    return Some(Err(Fault::Io { path: self.path.clone(), source }));
                }
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&self.buffer) {
                Ok(Line::Head(head)) if head.version > VERSION => {
                    self.done = true;
                    return Some(Err(Fault::Newer { path: self.path.clone(), found: head.version }));
                }
                Ok(line) => return Some(Ok(line)),
                Err(_) => self.unreadable += 1,
            }
        }
        self.done = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"head":{"version":1,"weir":"0","at":1}}"#;
    const ROW: &str = r#"{"request":{"at":5,"id":"one","ended":"complete"}}"#;

    fn read(name: &str, bytes: &[u8]) -> (Vec<Result<Line, Fault>>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let lines: Vec<_> = reader.by_ref().collect();
        (lines, reader.unreadable())
    }

    #[test]
    fn what_a_crash_has_left_is_passed_over() {
        let text = format!("{HEAD}\n{ROW}\nnonsense\n\n{{\"later\":{{}}}}\n{ROW}\n{}", &ROW[..20]);
        let (lines, unreadable) = read("1.jsonl", text.as_bytes());
        assert_eq!((lines.len(), unreadable), (3, 3));
        let whole = zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert_eq!(read("1.jsonl.zst", &whole).0.len(), 3);
        let (lines, unreadable) = read("1.jsonl.zst", &whole[..whole.len() - 4]);
        assert!(lines.iter().all(Result::is_ok), "{lines:?}");
        assert!(unreadable >= 1);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (lines, _) = read("1.jsonl", HEAD.replace(":1,\"weir", ":99,\"weir").as_bytes());
        assert!(matches!(lines.as_slice(), [Err(Fault::Newer { found: 99, .. })]), "{lines:?}");
    }

    #[test]
    fn a_folder_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["00000002.jsonl", "00000001.jsonl.zst", "00000003.jsonl.zst.part", ".salt", "x.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = files(folder.path()).unwrap();
        let names: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["00000001.jsonl.zst", "00000002.jsonl"]);
    }
}
