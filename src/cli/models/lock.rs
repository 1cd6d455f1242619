//! One fetch at a time: a second one waits, and then finds everything there.

use super::{Error, say};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longer than a fetch takes on a slow line.
const PATIENCE: Duration = Duration::from_mins(30);
const POLL: Duration = Duration::from_millis(200);

/// The right to write into the models folder, and a folder for what is only needed meanwhile. The operating
/// system takes the right back from a process that dies, so there is no stale lock.
pub(super) struct Lock {
    _file: File,
    scratch: PathBuf,
}

impl Lock {
    /// Waits for its turn, with a deadline.
    pub(super) async fn acquire(models_dir: &Path) -> Result<Self, Error> {
        let failed = |path: &Path, reason| Error::Folder { path: path.to_owned(), reason };
        std::fs::create_dir_all(models_dir).map_err(|error| failed(models_dir, error))?;
        let path = models_dir.join(".fetch.lock");
        let file = File::create(&path).map_err(|error| failed(&path, error))?;
        wait(&file, &path).await?;
        let scratch = models_dir.join(".fetch");
        // Whoever left something here has died: the lock is ours.
        let _ = std::fs::remove_dir_all(&scratch);
        std::fs::create_dir(&scratch).map_err(|error| failed(&scratch, error))?;
        Ok(Self { _file: file, scratch })
    }

    /// On the same disk as the models, and gone with the lock.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next fetch.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

async fn wait(file: &File, path: &Path) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    let mut said = false;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                if !said {
                    say("another `weir models fetch` is at work in this folder: waiting for it");
                    said = true;
                }
                sleep(POLL).await;
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
            // Some network file systems have no locks. Going on is safe enough: a file is checked before
            // it takes its name.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}
