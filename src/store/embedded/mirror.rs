//! [`Mirror`]: a database that is written beside the one in force, and the thread that writes it.
//!
//! sled may hang in any write, in a flush, and while it is let go of, where its disk is full. So nobody but a thread of
//! its own touches the new database. Whoever writes the one in force leaves the same write here, in the same order, and
//! goes on; what is copied comes the same way. Where nothing has been written for a while the mirror is given up, and
//! the database in force goes on without it.

use super::disk::{failed, set};
use super::recovery;
use super::trees::Trees;
use crate::store::Error;
use crate::store::room::Used;
use sled::IVec;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many bytes of writes may wait here. Beyond, whoever writes waits until they become fewer.
const MOST_BYTES: usize = 16 << 20;
/// How many may wait for more to be copied: most of the room is for what is written meanwhile.
const COPIED_AHEAD: usize = 256 << 10;
/// What a write takes beside its key and value.
const BESIDE: usize = 128;

/// How long nothing may be written before the mirror is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// While nobody waits.
    pub(super) alone: Duration,
    /// While those wait who write the database in force.
    pub(super) waited_for: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { alone: Duration::from_secs(20), waited_for: Duration::from_secs(3) }
    }
}

/// A write to the new database.
#[derive(Debug)]
pub(super) enum Write {
    Age(IVec, Option<IVec>),
    /// With its value, or where that lies (see [`Takes`]).
    Entry(IVec, Option<IVec>),
}

/// What is left here of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// They themselves: they are written to files of its own.
    Values,
    /// Where they lie: the files of the database in force are its own as well.
    Places,
}

/// What makes the new database whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seal {
    /// It is to be in force.
    Used(Option<Used>),
    /// It is left as a store that was closed in order.
    Closed,
}

/// The other database, as those see it who write to it.
pub(super) struct Mirror {
    queue: Mutex<Queue>,
    changed: Condvar,
    patience: Patience,
    takes: Takes,
}

struct Queue {
    steps: VecDeque<Step>,
    /// What these take, and the one that is being made.
    bytes: usize,
    /// How many have been left here, and made.
    left: u64,
    made: u64,
    state: State,
    /// Its thread has let go of all.
    has_left: bool,
}

enum Step {
    Write(Write),
    Flush,
    Seal(Seal),
}

enum State {
    /// It is opened, or written.
    Writing,
    Sealed(Box<Trees>),
    /// It was handed over, or is of no use, and why.
    Over(String),
}

impl Mirror {
    /// Has a thread make a new database and write it. Where nothing comes of it the thread says so by `left` when it has
    /// let go of it, which may be never.
    pub(super) fn begin(
        patience: Patience,
        takes: Takes,
        open: impl FnOnce() -> Result<Trees, Error> + Send + 'static,
        left: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Self>, Error> {
        let queue = Queue {
            steps: VecDeque::new(),
            bytes: 0,
            left: 0,
            made: 0,
            state: State::Writing,
            has_left: false,
        };
        let mirror = Arc::new(Self { queue: Mutex::new(queue), changed: Condvar::new(), patience, takes });
        let written = Arc::clone(&mirror);
        std::thread::Builder::new()
            .name("weir-mirror".to_owned())
            .spawn(move || {
                // sled may panic.
                let ended = catch_unwind(AssertUnwindSafe(|| written.work(open)));
                if !ended.unwrap_or(false) {
                    written.give_up("writing it ended in a panic");
                    left();
                }
                written.queue().has_left = true;
                written.changed.notify_all();
            })
            .map_err(|error| Error::Io(error.to_string()))?;
        Ok(mirror)
    }

    pub(super) fn takes(&self) -> Takes {
        self.takes
    }

    /// Leaves a write that the database in force has taken. Waits where too many lie here, as long as they become
    /// fewer. The writer's lock is held.
    pub(super) fn take(&self, write: Write) -> Result<(), Error> {
        let queue = self.wait(self.patience.waited_for, |queue| queue.bytes < MOST_BYTES)?;
        self.push(queue, Step::Write(write));
        Ok(())
    }

    /// Waits until more can be copied.
    pub(super) fn has_room(&self) -> Result<(), Error> {
        self.wait(self.patience.alone, |queue| queue.bytes < COPIED_AHEAD).map(drop)
    }

    /// Writes all that lies here, and makes it survive a crash.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let nth = self.push(self.queue(), Step::Flush);
        self.wait(self.patience.alone, |queue| queue.made >= nth).map(drop)
    }

    /// Writes all that lies here, makes the new database whole, and hands it over. The writer's lock is held.
    pub(super) fn sealed(&self, seal: Seal) -> Result<Trees, Error> {
        self.push(self.queue(), Step::Seal(seal));
        let is_sealed = |queue: &Queue| matches!(queue.state, State::Sealed(_));
        let mut queue = self.wait(self.patience.waited_for, is_sealed)?;
        match std::mem::replace(&mut queue.state, State::Over("it was handed over".to_owned())) {
            State::Sealed(trees) => Ok(*trees),
            State::Writing | State::Over(_) => Err(Error::Io("nothing was sealed".to_owned())),
        }
    }

    /// Nothing more is written.
    pub(super) fn give_up(&self, why: &str) {
        let mut queue = self.queue();
        if matches!(queue.state, State::Over(_)) {
            return;
        }
        let was = std::mem::replace(&mut queue.state, State::Over(why.to_owned()));
        queue.steps = VecDeque::new();
        drop(queue);
        self.changed.notify_all();
        drop(was);
    }

    /// Waits for the thread to let go of the database, and says whether it has.
    pub(super) fn has_left_within(&self, patience: Duration) -> bool {
        let queue = self.queue();
        let waited = self.changed.wait_timeout_while(queue, patience, |queue| !queue.has_left);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_left
    }

    /// Leaves a step here, and says how many those are with it.
    fn push(&self, mut queue: MutexGuard<'_, Queue>, step: Step) -> u64 {
        queue.bytes += step.bytes();
        queue.steps.push_back(step);
        queue.left += 1;
        let left = queue.left;
        drop(queue);
        self.changed.notify_all();
        left
    }

    /// Waits until something is so, as long as there is progress.
    fn wait(
        &self,
        patience: Duration,
        is_so: impl Fn(&Queue) -> bool,
    ) -> Result<MutexGuard<'_, Queue>, Error> {
        let mut queue = self.queue();
        let (mut seen, mut since) = (queue.made, Instant::now());
        loop {
            if let State::Over(why) = &queue.state {
                return Err(Error::Io(format!("the new files cannot be written: {why}")));
            }
            if is_so(&queue) {
                return Ok(queue);
            }
            if queue.made != seen {
                (seen, since) = (queue.made, Instant::now());
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                drop(queue);
                self.give_up(&format!("no progress for {patience:?}"));
                queue = self.queue();
                continue;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the database and writes it, until it is sealed or given up; says whether it was sealed.
    fn work(&self, open: impl FnOnce() -> Result<Trees, Error>) -> bool {
        let trees = match open() {
            Ok(trees) => trees,
            Err(error) => {
                self.give_up(&error.to_string());
                return false;
            }
        };
        while let Some(step) = self.next() {
            if let Err(error) = step.make(&trees) {
                // Told first: to let go of the database may take for ever.
                self.give_up(&error.to_string());
                return false;
            }
            let mut queue = self.queue();
            queue.made += 1;
            queue.bytes -= step.bytes();
            let is_sealed = matches!((&step, &queue.state), (Step::Seal(_), State::Writing));
            if is_sealed {
                queue.state = State::Sealed(Box::new(trees));
                drop(queue);
                self.changed.notify_all();
                return true;
            }
            drop(queue);
            self.changed.notify_all();
        }
        false
    }

    /// The next step; `None` when no more is wanted.
    fn next(&self) -> Option<Step> {
        let mut queue = self.queue();
        loop {
            if !matches!(queue.state, State::Writing) {
                return None;
            }
            match queue.steps.pop_front() {
                Some(step) => return Some(step),
                // Ended by whoever gives up.
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in it is left half-done by a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    fn bytes(&self) -> usize {
        BESIDE
            + match self {
                Self::Write(Write::Age(key, value) | Write::Entry(key, value)) => {
                    key.len() + value.as_ref().map_or(0, |value| value.len())
                }
                Self::Flush | Self::Seal(_) => 0,
            }
    }

    fn make(&self, trees: &Trees) -> Result<(), Error> {
        match self {
            Self::Write(Write::Age(key, value)) => {
                set(&trees.ages, key, value.clone()).map(drop).map_err(failed)
            }
            Self::Write(Write::Entry(key, value)) => trees.entries.set(key, value.as_deref()).map(drop),
            Self::Flush => trees.flush(),
            Self::Seal(Seal::Closed) => recovery::close(trees, None),
            Self::Seal(Seal::Used(used)) => {
                if let Some(used) = *used {
                    recovery::note_used(trees, used)?;
                }
                trees.entries.values().catch_up()?;
                recovery::mark_open(trees)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{SyncSender, sync_channel};

    /// Longer than anything here takes on a busy machine.
    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Patience =
        Patience { alone: Duration::from_millis(50), waited_for: Duration::from_millis(50) };

    /// One that hangs while it is opened, until it is told to go on by what is handed back.
    fn hanging(patience: Patience) -> (Arc<Mirror>, SyncSender<()>) {
        let (go_on, told) = sync_channel::<()>(0);
        let open = move || {
            let _ = told.recv_timeout(LONG);
            Err(Error::Io("the disk was full".to_owned()))
        };
        (Mirror::begin(patience, Takes::Values, open, || {}).unwrap(), go_on)
    }

    fn opened(folder: &std::path::Path) -> Arc<Mirror> {
        let folder = folder.join("sled");
        let patience = Patience { alone: LONG, waited_for: LONG };
        Mirror::begin(patience, Takes::Values, move || recovery::new_database(&folder, 7), || {}).unwrap()
    }

    fn entry(key: u8, value: &[u8]) -> Write {
        Write::Entry(IVec::from(&[key]), Some(value.into()))
    }

    #[test]
    fn what_is_left_is_written_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = opened(folder.path());
        for write in [entry(1, b"another"), entry(1, b"one"), entry(2, b"two")] {
            mirror.take(write).unwrap();
        }
        mirror.flush().unwrap();
        mirror.take(Write::Entry(IVec::from(&[2]), None)).unwrap();
        let trees = mirror.sealed(Seal::Closed).unwrap();
        let found: Vec<_> = trees.entries.keys().map(Result::unwrap).collect();
        assert_eq!(found, [IVec::from(&[1])]);
        assert_eq!(trees.entries.get(&[1]).unwrap(), Some(IVec::from(b"one")));
        assert_eq!(trees.number, 7);
        assert!(mirror.take(entry(4, b"four")).is_err(), "it was handed over");
        assert!(mirror.has_left_within(LONG));
    }

    #[test]
    fn one_that_hangs_stalls_nobody_for_longer_than_is_waited() {
        let (mirror, go_on) = hanging(SHORT);
        // As long as there is room nobody notices.
        let mut taken = 0;
        let refused = loop {
            match mirror.take(entry(1, &vec![0; 64 << 10])) {
                Ok(()) => taken += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert!(taken >= 200, "{taken}");
        assert!(refused.contains("no progress for 50ms"), "{refused}");
        assert!(
            mirror.flush().is_err() && mirror.has_room().is_err() && mirror.sealed(Seal::Closed).is_err()
        );
        assert!(!mirror.has_left_within(Duration::ZERO), "it hangs");
        drop(go_on);
        assert!(mirror.has_left_within(LONG));
    }

    #[test]
    fn sealing_what_hangs_has_an_end() {
        let (mirror, _go_on) = hanging(SHORT);
        let refused = mirror.sealed(Seal::Used(None)).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|refused| refused.contains("no progress")));
    }

    #[test]
    fn why_it_failed_is_told() {
        let patient = Patience { alone: LONG, waited_for: LONG };
        let (mirror, go_on) = hanging(patient);
        drop(go_on);
        let refused = mirror.flush().err().map(|error| error.to_string());
        assert!(refused.is_some_and(|refused| refused.contains("the disk was full")));
    }

    #[test]
    fn a_panic_is_told() {
        let patient = Patience { alone: LONG, waited_for: LONG };
        let mirror =
            Mirror::begin(patient, Takes::Values, || panic!("as sled does, sometimes"), || {}).unwrap();
        let refused = mirror.flush().err().map(|error| error.to_string());
        assert!(refused.is_some_and(|refused| refused.contains("panic")));
        assert!(mirror.has_left_within(LONG));
    }
}
