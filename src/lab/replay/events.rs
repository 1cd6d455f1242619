//! What happened, in the order in which it happened. A journal is written in the order in which requests end; what
//! decides is when they came.

use crate::journal::{Fault, Fresh, Keys, Learned, Line, Reader, Row, Word};
use sha2::{Digest as _, Sha256};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// Something that happened.
#[derive(Clone)]
pub(super) enum Event {
    /// Memory was asked for a request.
    Asked(u64, Arc<Row>),
    /// A request has ended.
    Ended(u64, Arc<Row>),
    /// Something was learned from an answer.
    Learned(Learned),
    /// Somebody said something about an answer.
    Said(Word),
}

/// Whose request it was, and its name, as a digest: there may be a million.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(u128);

impl Name {
    pub(super) fn of(tenant: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update(id);
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest[..16].iter().fold(0, |number, byte| (number << 8) | u128::from(*byte)))
    }
}

/// What there is to know before anything is replayed.
#[derive(Default)]
pub(super) struct Overview {
    pub(super) requests: u64,
    pub(super) unreadable: u64,
    /// Where the numbers begin by which hits are picked to be checked.
    pub(super) seed: Option<u64>,
    /// In microseconds since the Unix epoch.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    /// The longest time from a request to its line.
    longest: u64,
    /// What was answered in the background.
    fresh: HashMap<Name, Vec<Arc<Fresh>>>,
    /// From which answers something was learned.
    learned: HashSet<Name>,
    /// Whether it is written down what was learned.
    verdicts: bool,
}

impl Overview {
    /// Reads everything once.
    pub(super) fn of(files: &[PathBuf], keys: &Keys) -> Result<Self, Fault> {
        let mut overview = Self::default();
        for path in files {
            let mut reader = Reader::open(path, keys)?;
            for line in reader.by_ref() {
                overview.add(line?);
            }
            overview.unreadable += reader.unreadable();
        }
        Ok(overview)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Head(head) => self.seed = self.seed.or(head.seed),
            Line::Request(row) => {
                self.requests += 1;
                self.first = Some(self.first.map_or(row.at, |first| first.min(row.at)));
                self.last = self.last.max(row.ended_at());
                self.longest = self.longest.max(row.ended_at() - row.at);
            }
            Line::Fresh(fresh) => {
                let name = Name::of(&fresh.tenant, &fresh.id);
                self.fresh.entry(name).or_default().push(Arc::from(fresh));
            }
            Line::Learned(learned) => {
                self.learned.insert(Name::of(&learned.tenant, &learned.id));
                self.verdicts |= learned.verdict.is_some();
            }
            Line::Feedback(_) => {}
        }
    }

    /// Whether it is known when something was learned from the answer to a request.
    pub(super) fn tells_when_learned(&self, name: Name) -> bool {
        self.learned.contains(&name)
    }

    /// Whether it is known what was learned, and from which answers nothing was.
    pub(super) fn tells_verdicts(&self) -> bool {
        self.verdicts
    }

    /// What was answered in the background for a request.
    pub(super) fn fresh(&self, row: &Row) -> &[Arc<Fresh>] {
        // Most have nothing, and the name is made for nothing then: so look first whether any has.
        if self.fresh.is_empty() {
            return &[];
        }
        self.fresh.get(&Name::of(&row.tenant, &row.id)).map_or(&[], Vec::as_slice)
    }
}

/// When something happened, and in which line it stands.
type When = (u64, u64);

/// What happened, in order. It holds as much as happened within the time of the longest request.
pub(super) struct Events {
    files: VecDeque<PathBuf>,
    keys: Keys,
    reader: Option<Reader>,
    longest: u64,
    /// The end of the latest line that was read.
    read: u64,
    lines: u64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    done: bool,
}

struct Waiting(When, Event);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Events {
    pub(super) fn of(files: &[PathBuf], keys: &Keys, overview: &Overview) -> Self {
        Self {
            files: files.iter().cloned().collect(),
            keys: keys.clone(),
            reader: None,
            longest: overview.longest,
            read: 0,
            lines: 0,
            waiting: BinaryHeap::new(),
            done: false,
        }
    }

    /// Reads one line more.
    fn read(&mut self) -> Result<(), Fault> {
        let Some(reader) = &mut self.reader else {
            match self.files.pop_front() {
                Some(path) => self.reader = Some(Reader::open(&path, &self.keys)?),
                None => self.done = true,
            }
            return Ok(());
        };
        match reader.next().transpose()? {
            Some(line) => self.take(line),
            None => self.reader = None,
        }
        Ok(())
    }

    fn take(&mut self, line: Line) {
        self.lines += 1;
        let number = self.lines;
        match line {
            Line::Request(row) => {
                let row: Arc<Row> = Arc::from(row);
                self.read = self.read.max(row.ended_at());
                // One that is asked and ends in the same microsecond is asked first.
                let ended = row.ended_at().saturating_add(1);
                self.wait((ended, number), Event::Ended(number, Arc::clone(&row)));
                self.wait((row.decided(), number), Event::Asked(number, row));
            }
            Line::Learned(learned) => self.wait((learned.at, number), Event::Learned(learned)),
            Line::Feedback(word) => self.wait((word.at, number), Event::Said(word)),
            Line::Head(_) | Line::Fresh(_) => {}
        }
    }

    fn wait(&mut self, when: When, event: Event) {
        self.waiting.push(Reverse(Waiting(when, event)));
    }
}

impl Iterator for Events {
    /// When, in microseconds since the Unix epoch, and what.
    type Item = Result<(u64, Event), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let settled = self.read.saturating_sub(self.longest);
            let first = self.waiting.peek().map(|Reverse(Waiting((at, ..), _))| *at);
            if first.is_some_and(|at| self.done || at < settled) {
                let Reverse(Waiting((at, ..), event)) = self.waiting.pop()?;
                return Some(Ok((at, event)));
            }
            if self.done {
                return None;
            }
            if let Err(fault) = self.read() {
                self.done = true;
                self.waiting.clear();
                return Some(Err(fault));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn written(rows: &[(u64, u64, u64)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.jsonl");
        let mut text = r#"{"head":{"version":1,"weir":"0","at":1,"seed":9}}"#.to_owned();
        for (at, recall, total) in rows {
            let row = format!(
                r#"{{"request":{{"id":"{at}","at":{at},"recall_us":{recall},"total_us":{total},"ended":"complete"}}}}"#
            );
            let _ = write!(text, "\n{row}");
        }
        std::fs::write(&path, text).unwrap();
        (folder, vec![path])
    }

    fn told(rows: &[(u64, u64, u64)]) -> Vec<String> {
        let (_folder, files) = written(rows);
        let overview = Overview::of(&files, &Keys::default()).unwrap();
        assert_eq!((overview.seed, overview.requests), (Some(9), rows.len() as u64));
        let events = Events::of(&files, &Keys::default(), &overview).map(|event| match event.unwrap().1 {
            Event::Asked(_, row) => format!("?{}", row.id),
            Event::Ended(_, row) => format!("!{}", row.id),
            Event::Learned(learned) => learned.id,
            Event::Said(word) => word.id,
        });
        events.collect()
    }

    #[test]
    fn what_came_first_is_asked_first_though_it_was_written_last() {
        assert_eq!(told(&[(20, 1, 5), (40, 1, 2), (10, 1, 90)]), ["?10", "?20", "!20", "?40", "!40", "!10"]);
    }

    #[test]
    fn what_takes_no_time_is_asked_before_it_ends() {
        assert_eq!(told(&[(20, 0, 0), (21, 0, 0)]), ["?20", "!20", "?21", "!21"]);
    }
}
