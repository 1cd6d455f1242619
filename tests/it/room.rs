//! What is kept when room is short: by what it is worth, within the limits, whatever happens.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use weir::chat::{Reply, Usage};
use weir::clock::Millis;
use weir::store::embedded::{Config, Embedded};
use weir::store::memory::Memory;
use weir::store::{About, Entry, EntryId, Room, Scope, Store, Walk};

const HERE: Scope = Scope([1; 32]);

/// The same numbers in every run.
struct Random(u64);

impl Random {
    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn even(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 53) as f64
    }
}

/// Questions as they are asked: few of them often, most of them seldom, and some once and never again.
struct Zipf {
    random: Random,
    sums: Vec<f64>,
    once: u32,
}

impl Zipf {
    fn new(questions: u32, exponent: f64) -> Self {
        let sums = (1..=questions).scan(0.0, |sum, rank| {
            *sum += f64::from(rank).powf(-exponent);
            Some(*sum)
        });
        Self { random: Random(42), sums: sums.collect(), once: questions }
    }

    fn next(&mut self) -> u32 {
        if self.random.even() < 0.2 {
            self.once += 1;
            return self.once;
        }
        let at = self.random.even() * self.sums.last().unwrap();
        self.sums.partition_point(|sum| *sum < at) as u32
    }
}

fn id(n: u32) -> EntryId {
    use sha2::{Digest as _, Sha256};
    EntryId(Sha256::digest(n.to_le_bytes()).into())
}

fn entry(n: u32, created: u64) -> Entry {
    Entry {
        id: id(n),
        text: format!("question {n}"),
        vector: None,
        reply: Reply::text("a-model", format!("answer {n}")),
        upstream: "primary".into(),
        created: Millis(created),
        expires: None,
        stale_until: None,
        about: About::default(),
        pinned: false,
    }
}

fn long(n: u32, created: u64, letters: usize) -> Entry {
    // Nothing that gets shorter when it is compressed.
    let mut random = Random(u64::from(n) << 16 | letters as u64 | 1);
    let text: String = (0..letters).map(|_| char::from(b'!' + (random.next() % 90) as u8)).collect();
    Entry { reply: Reply::text("a-model", text), ..entry(n, created) }
}

fn open(folder: &Path, room: Room) -> Embedded {
    let Room { max_entries, max_bytes } = room;
    let config = Config { path: folder.join("store"), max_entries, max_bytes, ..Config::default() };
    Embedded::open(config).unwrap().0
}

async fn has(store: &dyn Store, n: u32) -> bool {
    store.load(&HERE, &id(n)).await.unwrap().is_some()
}

/// Asks for `n` as the cache does, and keeps the answer where there was none.
async fn ask(store: &dyn Store, n: u32, now: u64) -> bool {
    let answered = has(store, n).await;
    store.asked(&HERE, &id(n), answered);
    if !answered {
        store.put(&HERE, entry(n, now)).await.unwrap();
    }
    answered
}

/// How many are answered by a store, and by one that forgets the oldest.
async fn hits(store: &dyn Store, mut stream: Zipf, asked: u64, most: usize) -> (u64, u64) {
    let (mut hits, mut oldest_first) = (0, 0);
    let (mut queue, mut kept) = (VecDeque::new(), HashSet::new());
    for now in 0..asked {
        let n = stream.next();
        hits += u64::from(ask(store, n, now).await);
        if !kept.insert(n) {
            oldest_first += 1;
            continue;
        }
        queue.push_back(n);
        if queue.len() > most {
            kept.remove(&queue.pop_front().unwrap());
        }
    }
    (hits, oldest_first)
}

#[tokio::test]
async fn what_is_asked_often_stays() {
    for (exponent, most) in [(0.8, 500), (1.0, 500), (1.0, 100)] {
        let store = Memory::new(Room { max_entries: most as u64, ..Room::default() });
        let (ours, oldest_first) = hits(&store, Zipf::new(10_000, exponent), 60_000, most).await;
        println!("zipf {exponent}, room for {most}: {ours} hits, oldest first {oldest_first} of 60000");
        assert!(ours * 4 > oldest_first * 5, "{ours} are not a quarter more than {oldest_first}");
        assert!(store.counters().entries <= most as u64);
    }
}

#[tokio::test]
async fn what_is_asked_often_stays_on_disk_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Room { max_entries: 100, ..Room::default() });
    let (ours, oldest_first) = hits(&store, Zipf::new(2000, 1.0), 8000, 100).await;
    println!("on disk, zipf 1, room for 100: {ours} hits, oldest first {oldest_first} of 8000");
    assert!(ours * 4 > oldest_first * 5, "{ours} are not a quarter more than {oldest_first}");
}

#[tokio::test]
async fn what_is_asked_now_replaces_what_was_asked_once() {
    let store = Memory::new(Room { max_entries: 50, ..Room::default() });
    // Everybody asks the same fifty for a while, and then fifty others.
    let mut now = 0;
    for from in [0, 1000] {
        for _ in 0..600 {
            for n in from..from + 50 {
                now += 1;
                ask(&store, n, now).await;
            }
        }
    }
    let mut kept = 0;
    for n in 1000..1050 {
        kept += u32::from(has(&store, n).await);
    }
    assert!(kept > 45, "{kept} of the new ones are kept");
}

#[tokio::test]
async fn a_flood_of_questions_asked_once_washes_nothing_out() {
    let store = Memory::new(Room { max_entries: 40, ..Room::default() });
    for round in 0..5 {
        for n in 0..40 {
            ask(&store, n, round * 40 + u64::from(n)).await;
        }
    }
    for n in 1000..2000 {
        assert!(!ask(&store, n, 10_000 + u64::from(n)).await);
    }
    for n in 0..40 {
        assert!(has(&store, n).await, "{n} was washed out");
    }
    assert_eq!(store.counters().turned_away, 1000);
}

#[tokio::test]
async fn of_equals_the_long_and_cheap_go_first_and_the_expired_before_all() {
    let store = Memory::new(Room { max_entries: 3, ..Room::default() });
    let costly = |mut entry: Entry| {
        entry.reply.usage = Some(Usage { output: 4000, ..Usage::default() });
        entry
    };
    // The same tokens in more bytes; few tokens in as many bytes; a good one; and a better one whose time is over.
    let verbose = costly(long(1, 1, 20_000));
    let good = costly(long(2, 2, 2000));
    let over = Entry { expires: Some(Millis(50)), ..costly(long(3, 3, 200)) };
    for entry in [verbose, good, over] {
        store.asked(&HERE, &entry.id, false);
        store.put(&HERE, entry).await.unwrap();
    }
    for (n, gone) in [(10, 3), (11, 1)] {
        store.asked(&HERE, &id(n), false);
        store.put(&HERE, costly(long(n, 100, 1000))).await.unwrap();
        assert!(has(&store, n).await && !has(&store, gone).await, "{gone} should have gone for {n}");
    }
}

#[tokio::test]
async fn what_is_pinned_stays_however_old_and_useless() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room { max_entries: 60, ..Room::default() };
    for store in [&open(folder.path(), room) as &dyn Store, &Memory::new(room)] {
        for n in 0..40 {
            let pinned = Entry { pinned: true, expires: Some(Millis(1)), ..entry(n, u64::from(n)) };
            store.put(&HERE, pinned).await.unwrap();
        }
        for n in 100..400 {
            store.put(&HERE, entry(n, 1000 + u64::from(n))).await.unwrap();
        }
        for n in 0..40 {
            assert!(has(store, n).await, "{n} was pinned");
        }
        // The rest of the room is used, by the youngest.
        assert_eq!(store.counters().entries, 60);
        assert!(has(store, 399).await && !has(store, 100).await);
    }
}

#[tokio::test]
async fn where_all_is_pinned_nothing_is_let_in() {
    let store = Memory::new(Room { max_entries: 2, ..Room::default() });
    for n in 0..3 {
        store.put(&HERE, Entry { pinned: true, ..entry(n, 1) }).await.unwrap();
    }
    assert!(has(&store, 0).await && has(&store, 1).await && !has(&store, 2).await);
    store.put(&HERE, Entry { pinned: false, ..entry(1, 1) }).await.unwrap();
    store.put(&HERE, entry(2, 2)).await.unwrap();
    assert!(has(&store, 2).await, "once one is not pinned any more there is room");
}

#[tokio::test]
async fn a_giant_pushes_nobody_out() {
    let store = Memory::new(Room { max_bytes: 256 << 10, ..Room::default() });
    for n in 0..100 {
        store.put(&HERE, long(n, u64::from(n), 1000)).await.unwrap();
    }
    store.put(&HERE, long(1000, 1000, 100_000)).await.unwrap();
    let held = store.counters();
    assert_eq!((held.entries, held.evicted, held.turned_away), (100, 0, 1));
}

#[tokio::test]
async fn the_bytes_stay_below_the_limit_and_are_known_again_after_a_restart() {
    const LIMIT: u64 = 300 << 10;
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let mut n = 0;
    for round in 0..3u64 {
        let store = open(folder.path(), Room { max_bytes: LIMIT, ..Room::default() });
        let begun = store.counters();
        assert_eq!(begun.bytes, bytes(&store).await, "the bytes are added up at the start");
        assert!(begun.bytes <= LIMIT && (round == 0 || begun.bytes > LIMIT / 2), "{begun:?}");
        for _ in 0..300 {
            n += 1;
            // Some are replaced, by longer and by shorter ones, given at the same time or later.
            let number = if n % 5 == 0 { n - 4 } else { n };
            let created = u64::from(if n % 10 == 0 { n - 4 } else { n });
            let letters = (random.next() % 9000) as usize;
            store.put(&HERE, long(number, created, letters)).await.unwrap();
            assert!(store.counters().bytes <= LIMIT, "{:?}", store.counters());
        }
        let held = store.counters();
        assert_eq!(held.bytes, bytes(&store).await);
        assert!(held.bytes > LIMIT * 3 / 4 && held.evicted > 0, "the room is used: {held:?}");
        // Once in an orderly way, once not.
        if round == 0 {
            store.close().await.unwrap();
        } else {
            store.flush().await.unwrap();
        }
    }
    let smaller = open(folder.path(), Room { max_bytes: LIMIT / 4, ..Room::default() });
    let held = smaller.counters();
    assert!(
        held.bytes <= LIMIT / 4 && held.bytes > LIMIT / 8,
        "a smaller limit holds from the start: {held:?}"
    );
    assert_eq!(held.bytes, bytes(&smaller).await);
}

#[tokio::test]
async fn what_was_asked_often_before_a_restart_still_counts() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room { max_entries: 20, ..Room::default() };
    let store = open(folder.path(), room);
    for n in 0..20 {
        store.put(&HERE, entry(n, u64::from(n))).await.unwrap();
    }
    for _ in 0..5 {
        for n in 0..3 {
            ask(&store, n, 100).await;
        }
    }
    store.close().await.unwrap();
    drop(store);
    let store = open(folder.path(), room);
    for n in 100..300 {
        ask(&store, n, u64::from(n)).await;
    }
    for n in 0..3 {
        assert!(has(&store, n).await, "{n} was asked five times");
    }
    let seen = store.walk(Walk { most: 100, ..Walk::default() }).await.unwrap().seen;
    let hits: Vec<u32> = seen.iter().rev().take(3).map(|seen| seen.hits).collect();
    assert_eq!(hits, [5, 5, 5]);
}

/// What all entries take, one by one.
async fn bytes(store: &dyn Store) -> u64 {
    let (mut sum, mut walk) = (0, Walk { most: 50, ..Walk::default() });
    loop {
        let steps = store.walk(walk.clone()).await.unwrap();
        sum += steps.seen.iter().map(|seen| u64::from(seen.bytes)).sum::<u64>();
        if steps.next.is_none() {
            return sum;
        }
        walk.after = steps.next;
    }
}
