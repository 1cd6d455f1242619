//! Reads a journal back, line by line, whatever a crash has left: a torn or unreadable line is passed over and
//! counted.

use super::file::in_folder;
use super::row::{Line, VERSION};
use super::seal::{Inside, Keys, MAGIC, Opening, is_changed};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

/// The longest line. A longer one is nothing that was written here.
const MAX_LINE: u64 = 128 << 20;

/// How what is compressed begins.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

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
    /// It is sealed, and there is no key.
    #[error("{} is sealed, and there is no key to open it; set `journal.key` to the one that it was sealed with", .0.display())]
    Sealed(PathBuf),
    /// It is sealed with a key that is not here.
    #[error("{} is sealed with another key (its name is {name}) than those in `journal.key`, which may hold several", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// What the key is called in it.
        name: String,
    },
    /// It is not what was sealed.
    #[error("{} is not as it was sealed: a piece of it was changed, moved, left out or put in", .0.display())]
    Changed(PathBuf),
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

impl Fault {
    /// What is wrong with the file, by what its reader says.
    pub(super) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_changed(&source) { Self::Changed(path) } else { Self::Io { path, source } }
    }
}

/// The files of a journal, the oldest first: those in a folder, or the one that is named. There is one at least.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Fault::Nothing(path.to_owned()),
        _ => Fault::Io { path: path.to_owned(), source },
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files = in_folder(path).map_err(failed)?;
    if files.is_empty() { Err(Fault::Nothing(path.to_owned())) } else { Ok(files) }
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
    /// Opens a file. What is sealed is opened with one of `keys`.
    pub fn open(path: &Path, keys: &Keys) -> Result<Self, Fault> {
        let lines = Self::text(path, keys)?;
        Ok(Self { path: path.to_owned(), lines, buffer: Vec::new(), unreadable: 0, done: false })
    }

    /// The text of a file, however it lies there.
    pub(super) fn text(path: &Path, keys: &Keys) -> Result<Box<dyn BufRead + Send>, Fault> {
        let failed = |source| Fault::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut magic = Vec::with_capacity(MAGIC.len());
        file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
        if magic == MAGIC {
            let opening = Opening::begin(BufReader::new(file), path, keys)?;
            return match opening.inside() {
                Inside::Lines => Ok(Box::new(BufReader::with_capacity(1 << 20, opening))),
                Inside::Compressed => Ok(unpacked(opening).map_err(failed)?),
            };
        }
        file.rewind().map_err(failed)?;
        match magic.starts_with(ZSTD) {
            true => Ok(unpacked(file).map_err(failed)?),
            false => Ok(Box::new(BufReader::with_capacity(1 << 20, file))),
        }
    }

    /// How many lines could not be read so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The bytes of the next line.
    fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let read = Read::take(&mut self.lines, MAX_LINE).read_until(b'\n', &mut self.buffer)?;
        Ok(read > 0)
    }
}

fn unpacked(packed: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(Box::new(BufReader::with_capacity(1 << 20, zstd::Decoder::new(packed)?)))
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
                    return Some(Err(Fault::of(&self.path, source)));
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
        let mut reader = Reader::open(&path, &Keys::default()).unwrap();
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
        for nothing in [folder.path().join("nothing"), tempfile::tempdir().unwrap().keep()] {
            let why = files(&nothing).unwrap_err().to_string();
            assert!(why.starts_with("there is no journal in"), "{why}");
        }
    }
}
