//! The store, killed two hundred times in the middle of its work: what was flushed is there, what was removed,
//! cleared or swept stays away, and nothing else is there either.
//!
//! Each round is a process of its own, this binary with other orders ([`victim`]). What it does follows from a seed
//! ([`load`]), so whoever kills it knows what had been done by then. In each scope one operation follows the other:
//! what is found afterwards must be what some number of them leaves, at least those that had been flushed, and at most
//! one more than had been acknowledged.

pub(crate) mod load;
mod victim;

use load::{Held, LANES, Operations, told};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use victim::{ORDERS, Orders};

const ROUNDS: u64 = 200;
/// So many rounds are played on the same files, one crash after the other.
const ROUNDS_PER_FOLDER: u64 = 20;
/// In which files are flushed each time, or after these.
const FLUSH: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100), Duration::from_millis(10)];
/// What was acknowledged so long before the kill is on disk, whether or not a flush was asked for: more than any
/// `flush_ms` here, as the machine may be busy.
const SURELY: Duration = Duration::from_secs(2);
/// The longest a victim may say nothing.
const PATIENCE: Duration = Duration::from_mins(1);
const SEED: &str = "WEIR_CRASH_SEED";

/// What is known of a lane.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was there when its round began.
    held: Held,
    round: u64,
    acknowledged: usize,
    flushed: usize,
}

/// When the victim is killed.
#[derive(Clone, Copy, Debug)]
enum End {
    /// So long after its start, most likely while it opens the store.
    Early(Duration),
    /// After so many operations, and a little later.
    After(usize, Duration),
    /// When it has been written anew, or a little later.
    Anew(Duration),
    /// It is left alone until it ends.
    InOrder(u64),
}

#[test]
fn killed_at_any_moment_it_keeps_what_was_flushed_and_nothing_that_is_gone() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("{SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut operations, mut compacted, mut ends) = (0, 0, [0; 4]);
    for nth in 0..ROUNDS / ROUNDS_PER_FOLDER {
        let folder = tempfile::tempdir().unwrap();
        let flush = FLUSH[nth as usize % FLUSH.len()];
        let mut known = vec![Known::default(); LANES.into()];
        // The last one only looks at what is there.
        for round in nth * ROUNDS_PER_FOLDER..=(nth + 1) * ROUNDS_PER_FOLDER {
            let end = match random.random_range(0..20) {
                _ if round == (nth + 1) * ROUNDS_PER_FOLDER => End::InOrder(0),
                // Of those in which it is written anew all the time.
                _ if round.is_multiple_of(6) => {
                    End::Anew(Duration::from_micros(random.random_range(0..3000)))
                }
                0..2 => End::Early(Duration::from_micros(random.random_range(0..60_000))),
                2 => End::InOrder(random.random_range(0..100)),
                _ => End::After(
                    random.random_range(0..400),
                    Duration::from_micros(random.random_range(0..3000)),
                ),
            };
            ends[match end {
                End::Early(_) => 0,
                End::After(..) => 1,
                End::InOrder(_) => 2,
                End::Anew(_) => 3,
            }] += 1;
            let limit = if let End::InOrder(limit) = end { limit } else { u64::MAX };
            let orders =
                Orders { folder: folder.path().join("store"), flush, seed, round, operations: limit };
            let context = format!("{SEED}={seed}, round {round}, {flush:?}, {end:?}");
            compacted += play(&orders, end, &mut known, &context);
            operations += known.iter().map(|known| known.acknowledged).sum::<usize>();
        }
        assert_eq!(beside(folder.path()), 1, "nothing was set aside");
    }
    println!(
        "{operations} operations acknowledged, {compacted} times written anew; killed early, later, ended in order, killed when written anew: {ends:?}"
    );
    assert!(operations > 10_000 && compacted >= ends[3], "too little was done: {operations}, {compacted}");
    assert!(ends[3] > 20, "{ends:?}");
}

/// The process that is killed; without orders it has nothing to do.
#[test]
fn works_until_it_is_killed() {
    let Some(orders) = std::env::var(ORDERS).ok().and_then(|orders| Orders::parse(&orders)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(victim::work(orders));
}

fn beside(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Starts a victim, holds what it finds to what is known, kills it, and notes what is known then.
fn play(orders: &Orders, end: End, known: &mut Vec<Known>, context: &str) -> u32 {
    let began = Instant::now();
    let (child, lines) = start(orders);
    let mut victim = Victim(child);
    let mut found = vec![Held::new(); LANES.into()];
    let mut now: Option<Vec<Known>> = None;
    let mut heard: Vec<(Instant, usize, usize)> = Vec::new();
    let mut kill_at = match end {
        End::Early(after) => Some(began + after),
        _ => None,
    };
    let (mut in_order, mut compacted) = (false, 0);
    let mut last_heard = began;
    // The longest between two flushes that were told: as long may those take that nobody tells of.
    let (mut last_flushed, mut longest) = (None::<Instant>, Duration::ZERO);
    let mut killed = None;
    loop {
        let until = kill_at.unwrap_or(last_heard + PATIENCE);
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                last_heard = Instant::now();
                let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
                match (word, &mut now) {
                    ("has", None) => {
                        let (lane, n, version) = told(rest).unwrap();
                        found[usize::from(lane)].insert(n, version);
                    }
                    ("ready", None) => {
                        for ((known, found), lane) in known.iter().zip(&found).zip(0..) {
                            assert_follows(known, found, orders.seed, lane, context);
                        }
                        let begin = |held: &Held| Known {
                            held: held.clone(),
                            round: orders.round,
                            ..Known::default()
                        };
                        now = Some(found.iter().map(begin).collect());
                    }
                    ("ack", Some(now)) => {
                        let (lane, count) = rest.split_once(' ').unwrap();
                        let (lane, count): (usize, usize) = (lane.parse().unwrap(), count.parse().unwrap());
                        now[lane].acknowledged = count;
                        heard.push((Instant::now(), lane, count));
                        if let End::After(most, then) = end
                            && kill_at.is_none()
                            && now.iter().map(|known| known.acknowledged).sum::<usize>() >= most
                        {
                            kill_at = Some(Instant::now() + then);
                        }
                    }
                    ("flushed", Some(now)) => {
                        let since = last_flushed.replace(Instant::now());
                        longest = longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
                        for (known, count) in now.iter_mut().zip(rest.split(' ')) {
                            known.flushed = count.parse().unwrap();
                            // What is flushed is done, also where it was killed before it said so.
                            known.acknowledged = known.acknowledged.max(known.flushed);
                        }
                    }
                    ("compacted", Some(_)) => {
                        compacted += 1;
                        if let End::Anew(then) = end
                            && kill_at.is_none()
                        {
                            kill_at = Some(Instant::now() + then);
                        }
                    }
                    ("closed", Some(_)) => in_order = true,
                    ("wrong", _) => panic!("{context}: {rest}"),
                    // What the test harness says.
                    _ => {}
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                assert!(kill_at.is_some(), "{context}: the victim is stuck");
                // On a busy machine it may take long until it is gone.
                killed.get_or_insert_with(Instant::now);
                victim.kill();
                kill_at = Some(last_heard + PATIENCE);
            }
            // It has ended, and all that it said has been heard.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    victim.kill();
    assert_eq!(in_order, matches!(end, End::InOrder(_)), "{context}: it ended in another way");
    let Some(mut now) = now else { return compacted };
    for known in &mut now {
        if in_order || orders.flush.is_zero() {
            known.flushed = known.acknowledged;
        }
    }
    let surely = SURELY.max(3 * longest.max(last_flushed.map_or(Duration::ZERO, |last| last.elapsed())));
    for (at, lane, count) in heard {
        if killed.is_some_and(|killed| killed.saturating_duration_since(at) > surely) {
            now[lane].flushed = now[lane].flushed.max(count);
        }
    }
    *known = now;
    compacted
}

/// Whether what was found is what the operations leave: all that were flushed, then some, in order, and perhaps one
/// in part.
fn assert_follows(known: &Known, found: &Held, seed: u64, lane: u8, context: &str) {
    let mut held = known.held.clone();
    let mut operations = Operations::new(seed, known.round, lane);
    for operation in operations.by_ref().take(known.flushed) {
        operation.apply(&mut held);
    }
    let oldest = held.clone();
    for operation in operations.take(known.acknowledged + 1 - known.flushed) {
        let before = held.clone();
        let changed = operation.apply(&mut held);
        let is_one_of = |n: &u8| {
            let found = found.get(n);
            found == before.get(n) || (changed.contains(n) && found == held.get(n))
        };
        if (0..load::IDS).all(|n| is_one_of(&n)) {
            return;
        }
    }
    let told = |held: &Held, n: u8| held.get(&n).map(|version| load::entry(lane, n, version).text);
    let odd = (0..load::IDS).filter(|n| found.get(n) != oldest.get(n));
    let odd =
        odd.map(|n| format!("{n}: {:?}, not {:?} or {:?}", told(found, n), told(&oldest, n), told(&held, n)));
    let asked: Vec<_> = Operations::new(seed, known.round, lane).take(known.acknowledged + 1).collect();
    panic!(
        "{context}: lane {lane} holds what it never held after {} to {} operations of round {}:\n{}\n{:#?}",
        known.flushed,
        known.acknowledged,
        known.round,
        odd.collect::<Vec<_>>().join("\n"),
        &asked[known.flushed.saturating_sub(3)..]
    );
}

fn start(orders: &Orders) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_crash::works_until_it_is_killed", "--nocapture"])
        .env(ORDERS, orders.to_text())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (heard, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if heard.send(line).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

struct Victim(Child);

impl Victim {
    /// As `kill -9` does.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}
