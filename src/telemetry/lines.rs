//! Log lines on their way out: a bounded queue and a thread, so that a reader who stands still (a full pipe,
//! a paused terminal) never holds up a request. Lines that find no place are dropped, counted, and told.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait: a few megabytes, and a tenth of a second at the highest load measured.
const MAX_WAITING: usize = 8192;

/// How long the last lines get at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// How many bytes are written at once.
const MAX_TOGETHER: usize = 64 << 10;

/// How long lines are left to gather. Nobody reads faster.
const PAUSE: Duration = Duration::from_millis(2);

/// Where lines are put. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    /// Begins to write to `out`, on a thread of its own.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(out, &waiting, &told))?;
        Ok(Self { queue, dropped })
    }

    /// Waits until everything put in up to now is out, but not for ever; and not at all where no place is left.
    pub(super) fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.queue.try_send(Job::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_DEADLINE);
        }
    }
}

/// Lines go out together: whoever waits for each of them must be woken for each of them, which costs a busy
/// sidecar more than all the rest of its log.
fn write(mut out: impl Write, waiting: &Receiver<Job>, dropped: &AtomicU64) {
    let mut together = Vec::with_capacity(2 * MAX_TOGETHER);
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Line(line) => together.extend_from_slice(&line),
                Job::Flush(done) => {
                    write_out(&mut out, &mut together);
                    let _ = out.flush().and_then(|()| done.send(()).map_err(io::Error::other));
                }
            }
            next = (together.len() < MAX_TOGETHER).then(|| waiting.try_recv().ok()).flatten();
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => {
                let told =
                    format!("{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{lost}}}\n");
                together.extend_from_slice(told.as_bytes());
            }
        }
        write_out(&mut out, &mut together);
        #[expect(clippy::disallowed_methods, reason = "this thread is the writer's own")]
        std::thread::sleep(PAUSE);
    }
}

/// A log that cannot be written is no reason to stop answering.
fn write_out(out: &mut impl Write, together: &mut Vec<u8>) {
    let _ = out.write_all(together);
    together.clear();
}

/// The subscriber writes each event as one whole line.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Job::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes nothing until its gate is opened.
    struct Gated {
        gate: Receiver<()>,
        open: bool,
        seen: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                let _ = self.gate.recv();
                self.open = true;
            }
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_stands_still_holds_nobody_up_and_what_is_lost_is_told() {
        let (open, gate) = sync_channel(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut lines = Lines::to(Gated { gate, open: false, seen: Arc::clone(&seen) }).unwrap();
        // More than the thread can take together while there is still room.
        let all = MAX_WAITING + MAX_TOGETHER;
        for number in 0..all {
            lines.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        open.send(()).unwrap();
        let written = || String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        let lines_in = |text: &str| text.lines().filter(|line| line.starts_with("line ")).count();
        // All that found a place comes out, and what did not is told.
        while lines_in(&written()) < MAX_WAITING || !written().contains("log lines dropped") {
            std::thread::yield_now();
        }
        assert!(written().starts_with("line 0\n"));
        assert!(lines_in(&written()) < all, "some were dropped");
    }
}
