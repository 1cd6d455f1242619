//! How a file comes to its place: written as `NAME.part` beside it, checked, and renamed.

use crate::models::{self, Fault, File, Length, Sha256};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file on its way in. At every moment its place holds the right file, the one that was there before, or
/// none.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    length: Length,
    /// What it must hash to, where anybody has told.
    sha256: Option<Sha256>,
    place: PathBuf,
    part: PathBuf,
}

/// Why a file did not land.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The disk is full, or not ours.
    #[error("cannot write {}: {reason}", path.display())]
    Disk { path: PathBuf, reason: io::Error },
    /// What came could not be read to its end.
    #[error("cannot read it: {0}")]
    Source(io::Error),
    /// It is another file than the manifest means.
    #[error("this is not the file the manifest means: {0}")]
    Wrong(String),
}

impl Landing {
    /// Makes room for `file`.
    pub(super) fn new(models_dir: &Path, file: &File) -> Result<Self, Error> {
        Self::at(models::path(models_dir, file), file.bytes, Some(file.sha256.clone()))
    }

    /// Makes room for a file at `place`. Without a `sha256` whatever comes is taken, if it is no longer than it may
    /// be; then nothing of an earlier one is gone on with.
    pub(super) fn at(place: PathBuf, length: Length, sha256: Option<Sha256>) -> Result<Self, Error> {
        let mut part = place.clone().into_os_string();
        part.push(".part");
        let landing = Self { length, sha256, place, part: part.into() };
        if let Some(folder) = landing.part.parent() {
            fs::create_dir_all(folder).map_err(|error| landing.disk(error))?;
        }
        if landing.sha256.is_none() {
            landing.discard();
        }
        Ok(landing)
    }

    /// How long the file will be.
    pub(super) fn length(&self) -> Length {
        self.length
    }

    /// How much of it is here.
    pub(super) fn received(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |part| part.len())
    }

    /// Starts from nothing.
    pub(super) fn begin(&self) -> Result<fs::File, Error> {
        fs::File::create(&self.part).map_err(|error| self.disk(error))
    }

    /// Goes on behind what is here.
    pub(super) fn resume(&self) -> Result<fs::File, Error> {
        fs::File::options().append(true).open(&self.part).map_err(|error| self.disk(error))
    }

    /// Takes the whole file from `content`, reading no more than one byte too many, and settles.
    pub(super) fn fill(&self, content: impl Read) -> Result<(), Error> {
        let bar = bar(self.length);
        let copied = self.copy(content, &bar);
        bar.finish_and_clear();
        copied.inspect_err(|_| self.discard())?;
        self.settle()
    }

    fn copy(&self, content: impl Read, bar: &ProgressBar) -> Result<(), Error> {
        let mut part = self.begin()?;
        let mut content = content.take(self.length.most().saturating_add(1));
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => part.write_all(&buffer[..length]).map_err(|error| self.disk(error))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Source(error)),
            }
            bar.set_position(self.length.most().saturating_add(1) - content.limit());
        }
    }

    /// Gives the file its name if it is the right one, and removes it if not.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let settled = self.check().and_then(|()| self.rename().map_err(|error| self.disk(error)));
        settled.inspect_err(|_| self.discard())
    }

    fn check(&self) -> Result<(), Error> {
        let Some(sha256) = &self.sha256 else { return Ok(()) };
        models::check_content(&self.part, self.length, sha256).map_err(|fault| {
            Error::Wrong(match fault {
                Fault::WrongSize { found, wanted, .. } => format!("it has {found} bytes and not {wanted}"),
                Fault::WrongDigest { found, wanted, .. } => format!("its sha256 is {found} and not {wanted}"),
                Fault::Missing { .. } | Fault::Unreadable { .. } => fault.to_string(),
            })
        })
    }

    /// On the disk first, then under its name: after a power cut there is no half file under the right name.
    fn rename(&self) -> io::Result<()> {
        fs::File::options().append(true).open(&self.part)?.sync_all()?;
        fs::rename(&self.part, &self.place)?;
        if let Some(folder) = self.place.parent().and_then(|folder| fs::File::open(folder).ok()) {
            // Not every system syncs a folder; then the name may be lost in a power cut, never the content.
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Forgets what is here.
    pub(super) fn discard(&self) {
        // It may not be there at all, and what is wrong is never renamed.
        let _ = fs::remove_file(&self.part);
    }

    /// What the disk said, with the file it said it about.
    pub(super) fn disk(&self, reason: io::Error) -> Error {
        Error::Disk { path: self.part.clone(), reason }
    }
}

/// A bar on a terminal's stderr, nothing otherwise.
pub(super) fn bar(length: Length) -> ProgressBar {
    let template = "  [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length.roughly()).with_style(style.progress_chars("=> "))
}
