//! Is the file on the disk the one the manifest means?

use super::{File, Length, Model, Sha256, path};
use sha2::Digest;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Large enough that reading costs nothing beside hashing, small enough for any stack.
const BUFFER: usize = 64 * 1024;

/// Why a model file must not be used. The message names the file and the command that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error("{} is missing: {ADVICE}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is too short or too long.
    #[error("{} is damaged, it has {found} bytes and not {wanted}: {ADVICE}", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it should be.
        wanted: u64,
    },
    /// It has the right length and the wrong content.
    #[error("{} is damaged, its sha256 is {found} and not {wanted}: {ADVICE}", path.display())]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What its content hashes to.
        found: String,
        /// What it should hash to.
        wanted: String,
    },
    /// The operating system does not let us read it.
    #[error("{} cannot be read ({reason}): check its permissions, then {ADVICE}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
}

const ADVICE: &str = "run `weir models fetch` (in a checkout: `make models`)";

/// Checks every file of `model`; the first fault is the answer. Reads each file in full and blocks: about a
/// tenth of a second for a hundred megabytes.
pub fn verify(models_dir: &Path, model: &Model) -> Result<(), Fault> {
    model.files.iter().try_for_each(|file| check(&path(models_dir, file), file))
}

/// Checks that what lies at `path` is `file`.
pub fn check(path: &Path, file: &File) -> Result<(), Fault> {
    check_content(path, file.bytes, &file.sha256)
}

/// Checks that what lies at `path` is so long, where that is known to the byte, and hashes to `sha256`.
pub fn check_content(path: &Path, length: Length, sha256: &Sha256) -> Result<(), Fault> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Fault::Missing { path: path.to_owned() },
        _ => Fault::Unreadable { path: path.to_owned(), reason: error.to_string() },
    };
    let mut content = std::fs::File::open(path).map_err(unreadable)?;
    let found = content.metadata().map_err(unreadable)?.len();
    if let Some(wanted) = length.exact().filter(|wanted| *wanted != found) {
        return Err(Fault::WrongSize { path: path.to_owned(), found, wanted });
    }
    let found = digest(&mut content).map_err(unreadable)?;
    let wanted = sha256.to_string();
    if found == wanted { Ok(()) } else { Err(Fault::WrongDigest { path: path.to_owned(), found, wanted }) }
}

/// What lies at `path` hashes to this. Reads it in full and blocks.
pub fn sha256_of(path: &Path) -> std::io::Result<Sha256> {
    digest(&mut std::fs::File::open(path)?).map(Sha256)
}

/// The SHA-256 over those of `files` that are there, with their names: equal for equal models, wherever they lie.
pub fn digest_of(files: &[PathBuf]) -> std::io::Result<String> {
    let mut hash = sha2::Sha256::new();
    for file in files {
        match std::fs::File::open(file) {
            Ok(mut content) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                hash.update(format!("{name} {}\n", digest(&mut content)?));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn digest(content: &mut impl Read) -> std::io::Result<String> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

impl Fault {
    /// One word for a listing.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::WrongSize { .. } | Self::WrongDigest { .. } => "damaged",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}
