//! The files of a journal: begun with one number more than the last, written, closed, compressed; each in the clear or
//! sealed.

use super::read::{Fault, Reader};
use super::seal::{Inside, Keys, Sealing};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How hard closed files are compressed.
const LEVEL: i32 = 9;

/// The files of a journal in a folder, the oldest first.
pub(super) fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_journal(path)).collect();
    files.sort();
    // A crash may come between the compressed file and the end of the other: it is whole, and stands for both.
    let all: Vec<PathBuf> = files.clone();
    files.retain(|path| is_closed(path) || !all.iter().any(|other| is_closed(other) && are_one(path, other)));
    Ok(files)
}

/// Files of which the compressed one is there, too.
pub(super) fn left_over(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let kept = in_folder(folder)?;
    let entries = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(entries.filter(|path| is_journal(path) && !kept.contains(path)).collect())
}

/// Whether a file was closed, and compressed; `None` where it is none of a journal.
fn kind(path: &Path) -> Option<bool> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".sealed").unwrap_or(name);
    let closed = name.strip_suffix(".zst");
    let stem = closed.unwrap_or(name).strip_suffix(".jsonl")?;
    (!stem.starts_with('.')).then_some(closed.is_some())
}

fn is_journal(path: &Path) -> bool {
    kind(path).is_some()
}

/// Whether two files are the same one, compressed and not.
fn are_one(one: &Path, other: &Path) -> bool {
    number(one).is_some_and(|of_one| number(other) == Some(of_one))
}

/// Whether a file was closed, and compressed.
pub(super) fn is_closed(path: &Path) -> bool {
    kind(path) == Some(true)
}

/// Whether a file is sealed, by its name.
pub fn is_sealed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sealed")
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// What is said in it is nobody else's business on this machine.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// A file that is being written.
pub(super) struct Sheet {
    pub(super) path: PathBuf,
    ink: Ink,
}

enum Ink {
    Clear(BufWriter<File>),
    Sealing(Box<Sealing<BufWriter<File>>>),
}

impl Sheet {
    /// Begins a file in `folder`. Its name sorts behind those before it.
    pub(super) fn begin(folder: &Path, keys: &Keys) -> io::Result<Self> {
        make_private(folder)?;
        let last = in_folder(folder).unwrap_or_default();
        let last = last.iter().rev().find_map(|path| number(path)).unwrap_or(0);
        let ending = if keys.is_empty() { "jsonl" } else { "jsonl.sealed" };
        let path = folder.join(format!("{:08}.{ending}", last + 1));
        let file = private(OpenOptions::new().write(true).create_new(true)).open(&path)?;
        Ok(Self { path, ink: Ink::new(file, keys, Inside::Lines)? })
    }

    /// Says that this is its end.
    pub(super) fn close(self) -> io::Result<()> {
        self.ink.finish().map(drop)
    }
}

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ink.flush()
    }
}

impl Ink {
    fn new(file: File, keys: &Keys, inside: Inside) -> io::Result<Self> {
        let file = BufWriter::new(file);
        if keys.is_empty() {
            return Ok(Self::Clear(file));
        }
        Ok(Self::Sealing(Box::new(Sealing::begin(file, keys, inside)?)))
    }

    fn finish(self) -> io::Result<File> {
        let mut file = match self {
            Self::Clear(file) => file,
            Self::Sealing(sealing) => sealing.finish()?,
        };
        file.flush()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl Write for Ink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(file) => file.write(bytes),
            Self::Sealing(sealing) => sealing.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(file) => file.flush(),
            Self::Sealing(sealing) => sealing.flush(),
        }
    }
}

/// Compresses a file, and seals it where there is a key. The new one appears whole, or not at all; of one that a crash
/// has cut, what is before that is kept.
pub(super) fn compress(path: &Path, keys: &Keys) -> Result<(), Fault> {
    let failed = |source| Fault::Io { path: path.to_owned(), source };
    let mut from = Reader::text(path, keys)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    let ending = if keys.is_empty() { "jsonl.zst" } else { "jsonl.zst.sealed" };
    let whole = path.with_file_name(format!("{name}.{ending}"));
    let half = path.with_file_name(format!("{name}.{ending}.part"));
    let to = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&half);
    let ink = Ink::new(to.map_err(failed)?, keys, Inside::Compressed).map_err(failed)?;
    let mut to = zstd::Encoder::new(ink, LEVEL).map_err(failed)?;
    to.include_checksum(true).map_err(failed)?;
    match io::copy(&mut from, &mut to) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(Fault::of(path, error)),
    }
    let finished = to.finish().and_then(Ink::finish).and_then(|file| file.sync_all());
    finished.map_err(failed)?;
    fs::rename(&half, whole).map_err(failed)?;
    fs::remove_file(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_compressed_stands_for_the_one_that_a_crash_has_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["00000001.jsonl", "00000001.jsonl.zst", "00000002.jsonl.zst.sealed", "00000002.jsonl.sealed"]
        {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |files: Vec<PathBuf>| -> Vec<String> {
            files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(
            names(in_folder(folder.path()).unwrap()),
            ["00000001.jsonl.zst", "00000002.jsonl.zst.sealed"]
        );
        let mut left = names(left_over(folder.path()).unwrap());
        left.sort();
        assert_eq!(left, ["00000001.jsonl", "00000002.jsonl.sealed"]);
    }
}
