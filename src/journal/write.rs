//! [`Journal`]: a bounded queue, and the thread that writes what is in it. Nobody ever waits for the disk: what
//! finds no place is dropped and counted, and a disk that fails costs lines and no requests.

use super::file::{self, Sheet};
use super::row::{Fresh, Head, Learned, Line, Row, VERSION, Word};
use super::scrub::Scrubber;
use super::{Config, Content};
use crate::secret::Secret;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a line may wait for the disk: so much is lost at most when the machine dies.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long a disk that fails is left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written to.
    #[error("the journal cannot be written to {}: {source}", folder.display())]
    Folder {
        /// The folder, or the file.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An expression of the configuration cannot be read.
    #[error("journal.redact: {0}")]
    Expression(#[from] Box<regex::Error>),
}

/// What became of the lines, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines that were written.
    pub written: u64,
    /// Lines that were not, since too many waited.
    pub dropped: u64,
    /// Lines that were not, since the disk failed.
    pub failed: u64,
    /// Files that went to make room.
    pub removed: u64,
    /// Bytes of all its files now.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    removed: AtomicU64,
    bytes: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

enum Job {
    Write(Box<Line>),
    Close(SyncSender<()>),
}

/// A handle to the thread that writes. Cheap to clone; what waits is written when the last one goes.
#[derive(Clone)]
pub struct Journal {
    jobs: SyncSender<Job>,
    counters: Arc<Counters>,
    projects: Arc<[String]>,
    folder: Arc<Path>,
}

impl Journal {
    /// Begins a file, and starts the thread. `now` is in microseconds since the Unix epoch; `known` are the
    /// secrets of the configuration.
    pub fn open(config: Config, known: Vec<Secret>, head: Head) -> Result<Self, Error> {
        let unusable = |source| Error::Folder { folder: config.salt.clone(), source };
        let salt = salt(&config.salt).map_err(unusable)?;
        let scrubber = Scrubber::new(salt, known, &config.redact).map_err(Box::new)?;
        let (jobs, waiting) = mpsc::sync_channel(config.queue);
        let (counters, projects) = (Arc::<Counters>::default(), config.projects.clone().into());
        let folder = config.folder.clone();
        let mut pen =
            Pen { head, file: None, written: 0, again: None, counters: Arc::clone(&counters), config };
        // A folder that cannot be written to is told at the start, and not with the first request.
        pen.begin().map_err(|source| Error::Folder { folder: folder.clone(), source })?;
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || pen.run(&waiting, &scrubber))
            .map_err(|source| Error::Folder { folder: folder.clone(), source })?;
        Ok(Self { jobs, counters, projects, folder: folder.into() })
    }

    /// Whether requests of `project` are written down.
    pub fn wants(&self, project: &str) -> bool {
        self.projects.is_empty() || self.projects.iter().any(|known| known == project)
    }

    /// Writes a request down. Never waits.
    pub fn request(&self, row: Row) {
        self.write(Line::Request(Box::new(row)));
    }

    /// Writes down what somebody answered in the background. Never waits.
    pub fn fresh(&self, fresh: Fresh) {
        self.write(Line::Fresh(Box::new(fresh)));
    }

    /// Writes down that something was learned. Never waits.
    pub fn learned(&self, learned: Learned) {
        self.write(Line::Learned(learned));
    }

    /// Writes down what somebody said about an answer. Never waits.
    pub fn feedback(&self, word: Word) {
        self.write(Line::Feedback(word));
    }

    fn write(&self, line: Line) {
        if self.jobs.try_send(Job::Write(Box::new(line))).is_err() {
            count(&self.counters.dropped);
        }
    }

    /// Waits until all that waits is on the disk. Blocks.
    pub fn close(&self) {
        let (done, closed) = mpsc::sync_channel(1);
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ = closed.recv();
        }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What became of the lines.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { written, dropped, failed, removed, bytes } = &*self.counters;
        Counts {
            written: read(written),
            dropped: read(dropped),
            failed: read(failed),
            removed: read(removed),
            bytes: read(bytes),
        }
    }
}

/// The salt of the digests; made where there is none.
pub fn salt(path: &Path) -> io::Result<[u8; 32]> {
    if let Ok(known) = fs::read(path)
        && let Ok(salt) = known.try_into()
    {
        return Ok(salt);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let salt: [u8; 32] = rand::random();
    file::private(OpenOptions::new().write(true).create(true).truncate(true)).open(path)?.write_all(&salt)?;
    Ok(salt)
}

/// Writes lines into files.
struct Pen {
    config: Config,
    head: Head,
    file: Option<Sheet>,
    /// Bytes in the file.
    written: u64,
    /// When a disk that has failed is tried again.
    again: Option<Instant>,
    counters: Arc<Counters>,
}

impl Pen {
    fn run(mut self, waiting: &mpsc::Receiver<Job>, scrubber: &Scrubber) {
        // What a crash has left is compressed, and what is too much goes.
        self.tidy();
        let mut flushed = Instant::now();
        loop {
            match waiting.recv_timeout(FLUSH_EVERY) {
                Ok(Job::Write(line)) => self.line(*line, scrubber),
                Ok(Job::Close(done)) => {
                    self.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if flushed.elapsed() >= FLUSH_EVERY {
                self.flush();
                flushed = Instant::now();
            }
        }
        if let Some(Err(error)) = self.file.take().map(Sheet::close) {
            self.fail(&error);
        }
    }

    fn line(&mut self, line: Line, scrubber: &Scrubber) {
        if self.again.is_some_and(|again| Instant::now() < again) {
            return count(&self.counters.failed);
        }
        let Some(text) = compose(line, self.config.content, scrubber) else {
            return count(&self.counters.failed);
        };
        match self.put(&text) {
            Ok(()) => count(&self.counters.written),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        count(&self.counters.failed);
        tracing::warn!(%error, "the journal cannot be written; it is tried again in a while");
        self.file = None;
        self.again = Some(Instant::now() + PAUSE);
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.written >= self.config.max_file_bytes {
            self.turn()?;
        }
        if self.file.is_none() {
            self.begin()?;
        }
        self.again = None;
        if let Some(file) = &mut self.file {
            file.write_all(text)?;
            self.written += text.len() as u64;
            self.counters.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self) -> io::Result<()> {
        let mut file = Sheet::begin(&self.config.folder, &self.config.keys)?;
        let head = self.head.clone();
        let mut text = serde_json::to_vec(&Line::Head(head))?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.flush()?;
        self.written = text.len() as u64;
        self.counters.bytes.fetch_add(self.written, Ordering::Relaxed);
        self.file = Some(file);
        Ok(())
    }

    /// Closes the file, and begins another one.
    fn turn(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.close()?;
        }
        self.begin()?;
        self.tidy();
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.fail(&error);
        }
    }

    /// Compresses the files that are closed, and removes the oldest where all together are too long.
    fn tidy(&mut self) {
        let open = self.file.as_ref().map(|file| file.path.clone());
        for path in file::left_over(&self.config.folder).unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
        let Ok(files) = file::in_folder(&self.config.folder) else { return };
        for path in files.iter().filter(|path| Some(*path) != open.as_ref() && !file::is_closed(path)) {
            if let Err(error) = file::compress(path, &self.config.keys) {
                tracing::warn!(%error, "a file of the journal could not be compressed");
            }
        }
        let Ok(files) = file::in_folder(&self.config.folder) else { return };
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |facts| facts.len());
        let mut total: u64 = files.iter().map(length).sum();
        for path in files.iter().filter(|path| Some(*path) != open.as_ref()) {
            if total <= self.config.max_bytes {
                break;
            }
            let gone = length(path);
            match fs::remove_file(path) {
                Ok(()) => {
                    total = total.saturating_sub(gone);
                    count(&self.counters.removed);
                }
                Err(error) => tracing::warn!(%error, "an old file of the journal could not be removed"),
            }
        }
        self.counters.bytes.store(total, Ordering::Relaxed);
    }
}

/// A line as it is written: without secrets, or without words.
pub fn compose(line: Line, content: Content, scrubber: &Scrubber) -> Option<Vec<u8>> {
    let line = match line {
        Line::Request(mut row) => {
            let body = row.body.take();
            match content {
                Content::Redacted => row.body = body.and_then(|body| scrubbed(&body, scrubber)),
                Content::Hashes => {
                    row.digest = body.map(|body| scrubber.digest(body.get()));
                    row.reply = None;
                    row.headers.clear();
                }
            }
            scrubber.row(&mut row);
            Line::Request(row)
        }
        Line::Fresh(mut fresh) => {
            match (&mut fresh.reply, content) {
                (Some(reply), Content::Redacted) => scrubber.reply(reply),
                (reply, _) => *reply = None,
            }
            Line::Fresh(fresh)
        }
        line @ (Line::Head(_) | Line::Learned(_) | Line::Feedback(_)) => line,
    };
    let mut text = serde_json::to_vec(&line).ok()?;
    text.push(b'\n');
    Some(text)
}

fn scrubbed(body: &RawValue, scrubber: &Scrubber) -> Option<Box<RawValue>> {
    let mut value = serde_json::from_str(body.get()).ok()?;
    scrubber.value(&mut value);
    to_raw_value(&value).ok()
}

impl Head {
    /// The head of a file that this program writes.
    pub fn new(at: u64, seed: Option<u64>) -> Self {
        Self { version: VERSION, weir: env!("CARGO_PKG_VERSION").to_owned(), at, seed }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Keys, Reader, read};
    use super::*;
    use crate::chat::Reply;

    fn journal(folder: &Path, change: impl FnOnce(&mut Config)) -> Journal {
        let (folder, salt) = (folder.to_owned(), folder.with_extension("salt"));
        let mut config = Config { folder, salt, ..Config::default() };
        change(&mut config);
        Journal::open(config, vec![Secret::new("configured-secret")], Head::new(1, Some(7))).unwrap()
    }

    fn row(id: &str, says: &str) -> Row {
        let body = serde_json::json!({ "model": "m", "messages": [{"role": "user", "content": says}] });
        Row {
            at: 10,
            id: id.to_owned(),
            body: to_raw_value(&body).ok(),
            reply: Some(Reply::text("m", format!("you said {says}"))),
            ..Row::default()
        }
    }

    fn rows(folder: &Path) -> Vec<Row> {
        rows_by(folder, &Keys::default())
    }

    fn rows_by(folder: &Path, keys: &Keys) -> Vec<Row> {
        let rows =
            read::files(folder).unwrap().into_iter().flat_map(|path| Reader::open(&path, keys).unwrap());
        let rows = rows.filter_map(|line| match line.unwrap() {
            Line::Request(row) => Some(*row),
            _ => None,
        });
        rows.collect()
    }

    fn bytes(folder: &Path) -> String {
        let read = |path: PathBuf| match file::is_closed(&path) {
            true => zstd::decode_all(fs::File::open(path).unwrap()).unwrap(),
            false => fs::read(path).unwrap(),
        };
        let files = read::files(folder).unwrap().into_iter().map(read);
        files.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn what_is_written_can_be_read_and_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path(), |_| {});
        journal.request(row("one", "mail a@example.com, configured-secret"));
        journal.feedback(Word { at: 2, id: "one".into(), tenant: "t".into(), correct: false });
        journal.close();
        let rows = rows(folder.path());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].id, "one");
        let text = bytes(folder.path());
        assert!(!text.contains("example.com") && !text.contains("configured-secret"), "{text}");
        assert!(text.contains("[email#") && text.contains("[configured#"), "{text}");
        let bytes = text.len() as u64;
        assert_eq!(journal.counts(), Counts { written: 2, bytes, ..Counts::default() });
    }

    #[test]
    fn with_digests_only_no_word_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path(), |config| config.content = Content::Hashes);
        for id in ["one", "two"] {
            journal.request(row(id, "a very private question"));
        }
        journal.close();
        let text = bytes(folder.path());
        assert!(!text.contains("private"), "{text}");
        let rows = rows(folder.path());
        assert!(rows[0].digest.is_some() && rows[0].digest == rows[1].digest);
    }

    #[test]
    fn files_are_turned_compressed_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path(), |config| {
            config.max_file_bytes = 2_000;
            config.max_bytes = 6_000;
        });
        for at in 0..400u32 {
            // What does not repeat cannot be compressed away.
            let noise: String = (0..200).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect();
            journal.request(row(&at.to_string(), &noise));
            if at % 100 == 0 {
                journal.close();
            }
        }
        journal.close();
        let files = read::files(folder.path()).unwrap();
        let total: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(total < 6_000 + 3_000, "{total}");
        assert!(files.iter().filter(|path| !file::is_closed(path)).count() == 1, "{files:?}");
        assert!(journal.counts().removed > 0);
        assert_eq!(journal.counts().bytes, total);
        assert_eq!(rows(folder.path()).last().unwrap().id, "399", "the newest stay");
    }

    fn keys(digits: &[char]) -> Keys {
        let text: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
        Keys::parse(&text.join("\n")).unwrap()
    }

    fn raw(folder: &Path) -> Vec<u8> {
        read::files(folder).unwrap().into_iter().flat_map(|path| fs::read(path).unwrap()).collect()
    }

    /// The thread ends behind the last handle, and says then that this is the end of its file.
    fn end(journal: Journal, folder: &Path) {
        let before = raw(folder).len();
        drop(journal);
        let (_silent, told) = mpsc::sync_channel::<()>(0);
        let ended = (0..30_000).any(|_| {
            let _ = told.recv_timeout(Duration::from_millis(1));
            raw(folder).len() > before
        });
        assert!(ended);
    }

    #[test]
    fn sealed_files_hold_no_word_while_they_are_written_and_after_they_were_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let key = keys(&['a']);
        let journal = journal(folder.path(), |config| {
            config.keys = key.clone();
            config.max_file_bytes = 4_000;
        });
        for at in 0..40u32 {
            journal.request(row(&format!("the-{at}"), "a very private question"));
        }
        journal.close();
        let files = read::files(folder.path()).unwrap();
        assert!(
            files.iter().any(|path| file::is_closed(path))
                && files.iter().all(|path| super::super::is_sealed(path))
        );
        let text = raw(folder.path());
        for word in ["private", "the-", "request", "head"] {
            assert!(!text.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
        let ids: Vec<String> = rows_by(folder.path(), &key).into_iter().map(|row| row.id).collect();
        assert_eq!(ids, (0..40).map(|at| format!("the-{at}")).collect::<Vec<_>>());
        assert!(matches!(Reader::open(&files[0], &Keys::default()), Err(Fault::Sealed(_))));
        assert!(matches!(Reader::open(&files[0], &keys(&['b'])), Err(Fault::OtherKey { .. })));
    }

    #[test]
    fn with_a_new_key_the_old_files_are_read_as_long_as_the_old_one_is_given_too() {
        let folder = tempfile::tempdir().unwrap();
        for (id, sealed) in [("clear", None), ("old", Some(keys(&['a']))), ("new", Some(keys(&['b', 'a'])))] {
            let key = sealed.unwrap_or_default();
            let journal = journal(folder.path(), |config| config.keys = key.clone());
            journal.request(row(id, "x"));
            journal.close();
            if !key.is_empty() {
                end(journal, folder.path());
            }
        }
        let ids: Vec<String> =
            rows_by(folder.path(), &keys(&['b', 'a'])).into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["clear", "old", "new"]);
        // What was closed before is sealed with the key of those who compressed it.
        let of_the_new = |path: &PathBuf| Reader::open(path, &keys(&['b'])).is_ok();
        assert!(read::files(folder.path()).unwrap().iter().skip(1).all(of_the_new));
    }

    #[test]
    fn what_a_crash_has_left_of_a_sealed_file_is_kept_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let key = keys(&['a']);
        let sealing = |config: &mut Config| config.keys = keys(&['a']);
        let first = journal(folder.path(), sealing);
        for id in ["one", "two"] {
            first.request(row(id, "x"));
            first.close();
        }
        let path = read::files(folder.path()).unwrap().remove(0);
        let cut = fs::read(&path).unwrap();
        end(first, folder.path());
        fs::write(&path, &cut[..cut.len() - 3]).unwrap();
        let second = journal(folder.path(), sealing);
        second.close();
        let files = read::files(folder.path()).unwrap();
        assert!(file::is_closed(&files[0]) && super::super::is_sealed(&files[0]), "{files:?}");
        assert_eq!(rows_by(folder.path(), &key).into_iter().map(|row| row.id).collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn without_its_key_a_sealed_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = journal(folder.path(), |config| config.keys = keys(&['a']));
        first.request(row("one", "x"));
        first.close();
        end(first, folder.path());
        let path = read::files(folder.path()).unwrap().remove(0);
        let before = fs::read(&path).unwrap();
        journal(folder.path(), |_| {}).close();
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_new_run_begins_a_new_file_and_keeps_the_salt() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["one", "two"] {
            let journal = journal(folder.path(), |_| {});
            journal.request(row(id, "mail a@example.com"));
            journal.close();
        }
        let rows = rows(folder.path());
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let said = |row: &Row| row.body.as_ref().unwrap().get().to_owned();
        assert_eq!(said(&rows[0]), said(&rows[1]));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_on_the_machine_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("journal");
        let journal = journal(&inner, |_| {});
        journal.close();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        for path in read::files(&inner).unwrap().iter().chain([&inner.with_extension("salt")]) {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn nobody_waits_for_a_disk_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("journal");
        let journal = journal(&inner, |config| config.max_file_bytes = 1);
        fs::remove_dir_all(&inner).unwrap();
        fs::write(&inner, "in the way").unwrap();
        for at in 0..3 {
            journal.request(row(&at.to_string(), "x"));
        }
        journal.close();
        assert_eq!(journal.counts().written, 0);
        assert_eq!(journal.counts().failed, 3);
    }
}
