//! What outlives a restart, as JSON in one file behind a line that says of which format it is, and a digest.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
    #[error("it is not of this format, or damaged")]
    Damaged,
}

/// What lies in `file`; `None` where there is none.
pub(super) fn read<T: DeserializeOwned>(file: &Path, format: &str, most: u64) -> Result<Option<T>, Error> {
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|file| file.take(most + 1).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(Error::Damaged),
        Err(error) => return Err(error.into()),
        Ok(bytes) if bytes as u64 > most => return Err(Error::TooLong(most)),
        Ok(_) => {}
    }
    let (head, body) = text.split_once('\n').ok_or(Error::Damaged)?;
    if head.strip_prefix(format) != Some(&digest(body)) {
        return Err(Error::Damaged);
    }
    serde_json::from_str(body).map(Some).map_err(|_| Error::Damaged)
}

/// In one piece or not at all: it is written beside the old one, and takes its place when it is on the disk.
pub(super) fn write(file: &Path, format: &str, value: &impl Serialize) -> Result<(), Error> {
    let body = serde_json::to_string(value).map_err(io::Error::other)?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("json.new");
    let mut new = fs::File::create(&beside)?;
    new.write_all(format!("{format}{}\n{body}", digest(&body)).as_bytes())?;
    new.sync_all()?;
    Ok(fs::rename(&beside, file)?)
}

/// Moves away what cannot be used, and says so.
pub(super) fn set_aside(file: &Path, error: &Error, what: &'static str) {
    let aside = file.with_extension("json.damaged");
    let moved = fs::rename(file, &aside).is_ok();
    tracing::error!(%error, file = %file.display(), aside = moved.then(|| aside.display().to_string()), "{what}");
}

fn digest(body: &str) -> String {
    use std::fmt::Write as _;
    let digest: [u8; 32] = Sha256::digest(body).into();
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
