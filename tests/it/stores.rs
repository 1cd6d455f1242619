//! Every store against the suite and the oracle; the embedded one also against damage, limits and restarts.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir::chat::Reply;
use weir::clock::Millis;
use weir::sim::store::{Fault, Faulty};
use weir::store::conformance::{full_entry, suite};
use weir::store::embedded::{Config, Embedded, Recovery, Tuning};
use weir::store::guarded::{self, Guarded};
use weir::store::memory::Memory;
use weir::store::{About, Entry, EntryId, Error, Match, Scope, Store, Walk};
use weir::vector::UnitVector;

const HERE: Scope = Scope([1; 32]);
const THERE: Scope = Scope([2; 32]);

mod all {
    use super::*;

    #[tokio::test]
    async fn memory_passes_the_suite() {
        suite(&Memory::default()).await;
    }

    #[tokio::test]
    async fn embedded_passes_the_suite() {
        let folder = Folder::new();
        suite(&folder.open().0).await;
    }

    #[tokio::test]
    async fn embedded_passes_the_suite_with_a_graph_for_every_scope() {
        let folder = Folder::new();
        let tuning = Tuning { graph_from: 1, ..Tuning::default() };
        suite(&opened(folder.config(), tuning).0).await;
    }

    #[tokio::test]
    async fn guarded_passes_the_suite() {
        let folder = Folder::new();
        let guarded =
            Guarded::new(folder.open().0, guarded::Config { deadline: PATIENCE, ..Default::default() });
        suite(&guarded).await;
        assert_eq!(guarded.calls().failures, 0);
    }

    #[tokio::test]
    async fn faulty_passes_the_suite_while_its_fault_is_off() {
        suite(&Faulty::new(Memory::default()).0).await;
    }
}

mod guard {
    use super::*;

    fn impatient() -> guarded::Config {
        guarded::Config { deadline: Duration::from_millis(250), failures: 3, pause: Duration::from_secs(5) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stalls_costs_the_deadline_and_then_nothing() {
        let (faulty, switch) = Faulty::new(Memory::default());
        let store = Guarded::new(faulty, impatient());
        switch.set(Fault::Stall);
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            assert!(matches!(store.load(&HERE, &id(1)).await, Err(Error::Deadline(_))));
        }
        assert_eq!(began.elapsed(), Duration::from_millis(750));
        assert!(matches!(store.put(&HERE, entry(1, None)).await, Err(Error::Open)));
        assert_eq!(began.elapsed(), Duration::from_millis(750), "a refusal does not wait");
        let expected = guarded::Counters { calls: 3, failures: 3, deadline_misses: 3, rejected: 1 };
        assert_eq!(store.calls(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_call_tries_and_a_success_lets_all_through() {
        let (faulty, switch) = Faulty::new(Memory::default());
        let store = Guarded::new(faulty, impatient());
        switch.set(Fault::Fail);
        for _ in 0..3 {
            assert!(matches!(store.remove(&HERE, &id(1)).await, Err(Error::Io(_))));
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(matches!(store.clear(&HERE).await, Err(Error::Io(_))), "the probe is let through");
        assert!(matches!(store.clear(&HERE).await, Err(Error::Open)), "and nothing else is");
        switch.set(Fault::Off);
        tokio::time::advance(Duration::from_secs(5)).await;
        for _ in 0..2 {
            store.put(&HERE, entry(1, None)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stalled_call_is_woken_when_the_fault_goes() {
        let (store, switch) = Faulty::new(Memory::default());
        switch.set(Fault::Stall);
        let call = tokio::spawn(async move { store.put(&HERE, entry(1, None)).await });
        tokio::task::yield_now().await;
        switch.set(Fault::Off);
        call.await.unwrap().unwrap();
    }
}

mod oracle {
    use super::*;

    #[derive(Clone, Debug)]
    enum Operation {
        Put(Scope, Box<Entry>),
        Remove(Scope, EntryId),
        Clear(Scope),
        Load(Scope, EntryId),
        Nearest(Scope, UnitVector, usize),
    }
    use Operation::{Clear, Load, Nearest, Put, Remove};

    fn any_scope() -> impl Strategy<Value = Scope> {
        prop_oneof![9 => Just(HERE), 3 => Just(THERE), 1 => Just(Scope([3; 32]))]
    }

    fn any_vector() -> impl Strategy<Value = UnitVector> {
        // Few values: equal, opposite and orthogonal vectors are common.
        prop::collection::vec(-2i8..=2, 3)
            .prop_filter_map("no direction", |v| UnitVector::new(v.into_iter().map(f32::from).collect()).ok())
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        (0..40u32, prop::option::weighted(0.9, any_vector()), "\\PC{0,9}", 0..5u64).prop_map(
            |(n, vector, text, created)| Entry { text, created: Millis(created), ..entry(n, vector) },
        )
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        let any_id = || (0..40u32).prop_map(id);
        prop_oneof![
            60 => (any_scope(), any_entry()).prop_map(|(scope, entry)| Put(scope, Box::new(entry))),
            20 => (any_scope(), any_id()).prop_map(|(scope, id)| Remove(scope, id)),
            1 => any_scope().prop_map(Clear),
            10 => (any_scope(), any_id()).prop_map(|(scope, id)| Load(scope, id)),
            20 => (any_scope(), any_vector(), 0..50usize).prop_map(|(scope, query, k)| Nearest(scope, query, k)),
        ]
    }

    async fn same(operation: Operation, store: &Embedded, oracle: &Memory) {
        match operation {
            Put(scope, entry) => {
                store.put(&scope, Entry::clone(&entry)).await.unwrap();
                oracle.put(&scope, *entry).await.unwrap();
            }
            Remove(scope, id) => {
                assert_eq!(
                    store.remove(&scope, &id).await.unwrap(),
                    oracle.remove(&scope, &id).await.unwrap()
                );
            }
            Clear(scope) => {
                assert_eq!(store.clear(&scope).await.unwrap(), oracle.clear(&scope).await.unwrap());
            }
            Load(scope, id) => {
                assert_eq!(store.load(&scope, &id).await.unwrap(), oracle.load(&scope, &id).await.unwrap());
            }
            Nearest(scope, query, k) => {
                let expected = oracle.nearest(&scope, &query, k).await.unwrap();
                assert_alike(&store.nearest(&scope, &query, k).await.unwrap(), &expected, store, &scope)
                    .await;
            }
        }
    }

    /// The same cosines in the same order. Of entries that are equally near, a graph may name others.
    async fn assert_alike(found: &[Match], expected: &[Match], store: &Embedded, scope: &Scope) {
        let cosines = |matches: &[Match]| matches.iter().map(|m| m.cosine).collect::<Vec<_>>();
        assert_eq!(cosines(found), cosines(expected));
        for found in found {
            assert_eq!(store.load(scope, &found.entry.id).await.unwrap().as_ref(), Some(&*found.entry));
        }
    }

    fn check(operations: Vec<Operation>, graph_from: usize) {
        runtime().block_on(async {
            let folder = Folder::new();
            let (store, _) = opened(folder.config(), Tuning { graph_from, ..Tuning::default() });
            let oracle = Memory::default();
            for operation in operations {
                settle(&store).await;
                same(operation, &store, &oracle).await;
            }
            let entries = store.clear(&HERE).await.unwrap()
                + store.clear(&THERE).await.unwrap()
                + store.clear(&Scope([3; 32])).await.unwrap();
            assert!(entries <= 120);
            assert_eq!(store.counters().entries, 0, "every age key has gone with its entry");
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn embedded_does_as_memory_does(operations in prop::collection::vec(any_operation(), 1..200)) {
            check(operations, usize::MAX);
        }

    }

    proptest! {
        // A graph finds nearly always what a scan finds: with a fixed seed, always the same.
        #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn embedded_does_as_memory_does_with_graphs(operations in prop::collection::vec(any_operation(), 1..200)) {
            check(operations, 8);
        }
    }
}

mod restart {
    use super::*;

    #[tokio::test]
    async fn what_was_flushed_is_there_again_and_a_drop_is_unclean() {
        let folder = Folder::new();
        let (store, recovery) = folder.open();
        assert_eq!((recovery.clean, recovery.entries, recovery.set_aside), (true, 0, None));
        store.put(&HERE, full_entry()).await.unwrap();
        store.put(&THERE, entry(2, None)).await.unwrap();
        store.flush().await.unwrap();
        drop(store);

        let (store, recovery) = folder.open();
        assert_eq!((recovery.clean, recovery.entries, recovery.damaged), (false, 2, 0));
        assert_eq!(store.load(&HERE, &full_entry().id).await.unwrap(), Some(full_entry()));
        let query = full_entry().vector.unwrap();
        assert_eq!(store.nearest(&HERE, &query, 5).await.unwrap()[0].entry.as_ref(), &full_entry());
        assert_eq!(store.load(&THERE, &id(2)).await.unwrap(), Some(entry(2, None)));
    }

    #[tokio::test]
    async fn a_closed_store_was_clean_and_takes_no_more_writes() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        store.put(&HERE, entry(1, None)).await.unwrap();
        store.close().await.unwrap();
        assert!(store.put(&HERE, entry(2, None)).await.is_err());
        assert!(store.load(&HERE, &id(1)).await.unwrap().is_some(), "it can still be read");
        drop(store);
        let recovery = folder.open().1;
        assert_eq!((recovery.clean, recovery.entries), (true, 1));
    }

    #[tokio::test]
    async fn a_folder_in_use_is_left_alone() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        assert!(matches!(Embedded::open(folder.config()), Err(Error::InUse(_))));
        store.put(&HERE, entry(1, None)).await.unwrap();
        assert_eq!(folder.set_aside(), 0);
    }

    #[tokio::test]
    async fn what_an_older_format_holds_is_forgotten_once() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        store.put(&HERE, entry(1, None)).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        folder.tree("meta", |meta| {
            meta.insert("format", &2u32.to_le_bytes()).unwrap();
        });
        let (store, recovery) = folder.open();
        assert_eq!((recovery.entries, recovery.damaged, recovery.set_aside), (0, 0, None));
        assert_eq!((store.counters().entries, store.counters().bytes), (0, 0));
        store.put(&HERE, entry(2, None)).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        assert_eq!(folder.open().1.entries, 1, "what is written now is kept");
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_and_left_alone() {
        let folder = Folder::new();
        drop(folder.open());
        folder.tree("meta", |meta| {
            meta.insert("format", &99u32.to_le_bytes()).unwrap();
        });
        let refused = Embedded::open(folder.config()).err();
        assert!(matches!(refused, Some(Error::NewerFormat { found: 99, known: 5 })), "{refused:?}");
        assert_eq!(folder.set_aside(), 0);
    }
}

mod damage {
    use super::*;

    /// What is changed.
    #[derive(Clone, Copy, Debug)]
    enum Flipped {
        /// A value.
        Value,
        /// Where it lies.
        Place,
    }

    /// Flips a bit of the first entry, or of the last.
    fn flip(folder: &Folder, what: Flipped, is_first: bool) {
        match what {
            Flipped::Value => {
                let file = folder.sled().join("values/0");
                let mut bytes = std::fs::read(&file).unwrap();
                let at = if is_first { 40 } else { bytes.len() - 1 };
                bytes[at] ^= 1;
                std::fs::write(file, bytes).unwrap();
            }
            Flipped::Place => folder.tree("entries", |entries| {
                let entry = if is_first { entries.first() } else { entries.last() };
                let (key, place) = entry.unwrap().unwrap();
                let mut place = place.to_vec();
                *place.last_mut().unwrap() ^= 1;
                entries.insert(key, place).unwrap();
            }),
        }
    }

    async fn with_one_flipped_byte(close: bool, what: Flipped) -> (Folder, Embedded, Recovery) {
        let folder = Folder::new();
        let (store, _) = folder.open();
        for n in 1..=3 {
            store.put(&HERE, entry(n, Some(unit(&[1.0, n as f32])))).await.unwrap();
        }
        if close {
            store.close().await.unwrap();
        }
        drop(store);
        flip(&folder, what, true);
        let (store, recovery) = folder.open();
        (folder, store, recovery)
    }

    async fn assert_only_the_damaged_one_is_missing(store: &Embedded) {
        let found = store.nearest(&HERE, &unit(&[1.0, 1.0]), 9).await.unwrap();
        let mut found: Vec<EntryId> = found.into_iter().map(|found| found.entry.id).collect();
        found.sort();
        assert_eq!(found, [id(2), id(3)]);
        assert_eq!(store.load(&HERE, &id(1)).await.unwrap(), None);
        assert_eq!(store.counters().damaged, 1, "it is counted once");
        assert!(!store.remove(&HERE, &id(1)).await.unwrap(), "it is gone from disk");
    }

    #[tokio::test]
    async fn a_flipped_byte_is_a_miss_when_it_is_read() {
        for what in [Flipped::Value, Flipped::Place] {
            let (_folder, store, recovery) = with_one_flipped_byte(true, what).await;
            assert_eq!((recovery.clean, recovery.damaged), (true, 0));
            assert_only_the_damaged_one_is_missing(&store).await;
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_is_found_at_the_start_after_a_crash() {
        for what in [Flipped::Value, Flipped::Place] {
            let (_folder, store, recovery) = with_one_flipped_byte(false, what).await;
            assert_eq!((recovery.clean, recovery.damaged, recovery.entries), (false, 1, 2));
            assert_only_the_damaged_one_is_missing(&store).await;
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_is_found_behind_the_opening_of_a_large_store() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        for n in 0..300 {
            store.put(&HERE, entry(n, None)).await.unwrap();
        }
        drop(store);
        flip(&folder, Flipped::Value, false);
        let (store, recovery) = opened(folder.config(), Tuning { read_at_opening: 100, ..Tuning::default() });
        assert_eq!((recovery.clean, recovery.damaged, recovery.in_background), (false, 0, true));
        let found = async {
            while store.counters().damaged == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap();
        assert_eq!(store.counters().entries, 299, "its age has gone with it");
        drop(store);
        let (store, recovery) = folder.open();
        assert_eq!((recovery.damaged, recovery.in_background), (0, false));
        assert_eq!(store.load(&HERE, &id(299)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_damaged_value_can_be_written_again() {
        let (_folder, store, _) = with_one_flipped_byte(true, Flipped::Value).await;
        assert_eq!(store.load(&HERE, &id(1)).await.unwrap(), None);
        store.put(&HERE, entry(1, None)).await.unwrap();
        assert_eq!(store.load(&HERE, &id(1)).await.unwrap(), Some(entry(1, None)));
        assert_eq!(store.clear(&HERE).await.unwrap(), 3);
    }

    /// What a test does to sled's file.
    type Ruin = fn(&mut Vec<u8>);

    /// Whatever is done to sled's file, the store opens (with what is left, or anew) or says why not.
    #[test]
    fn ruined_files_end_in_a_store_that_works_or_in_an_error() {
        let ruins: [(&str, Ruin); 6] = [
            ("empty", Vec::clear),
            ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
            ("cut oddly", |bytes| bytes.truncate(bytes.len() / 3 + 17)),
            ("all zero", |bytes| bytes.fill(0)),
            ("noise", |bytes| noise(bytes, 1)),
            ("noise here and there", |bytes| noise(bytes, 997)),
        ];
        for (name, ruin) in ruins {
            let folder = filled();
            let file = folder.sled().join("db");
            let mut bytes = std::fs::read(&file).unwrap();
            ruin(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
            assert_works_or_says_why(&folder, name);
        }
    }

    #[test]
    fn a_ruined_configuration_of_sled_is_set_aside() {
        let folder = filled();
        std::fs::write(folder.sled().join("conf"), [0x5a; 64]).unwrap();
        assert_works_or_says_why(&folder, "conf");
        assert_eq!(folder.set_aside(), 1);
    }

    #[test]
    fn what_sled_was_writing_when_it_was_killed_is_no_damage() {
        for half in [&b""[..], b"half", &[7; 400]] {
            let folder = filled();
            std::fs::write(folder.sled().join("snap.7FFFFFFFFFFFFFFF.generating"), half).unwrap();
            let (_store, recovery) = folder.open();
            assert_eq!((recovery.entries, recovery.set_aside), (300, None));
        }
    }

    fn filled() -> Folder {
        let folder = Folder::new();
        runtime().block_on(fill(&folder));
        folder
    }

    async fn fill(folder: &Folder) {
        let (store, _) = folder.open();
        for n in 0..300 {
            store.put(&HERE, entry(n, Some(unit(&[1.0, n as f32])))).await.unwrap();
        }
        store.close().await.unwrap();
    }

    fn noise(bytes: &mut [u8], step: usize) {
        let mut random = Random(7);
        for byte in bytes.iter_mut().step_by(step) {
            *byte = random.next() as u8;
        }
    }

    fn assert_works_or_says_why(folder: &Folder, name: &str) {
        let tuning = Tuning { patience: Duration::from_secs(5), ..Tuning::default() };
        let Ok((store, recovery)) = Embedded::open_tuned(folder.config(), tuning) else { return };
        assert_eq!(recovery.set_aside.is_some(), folder.set_aside() == 1);
        assert!(!recovery.clean || recovery.entries > 0, "{name}: a loss is not called clean");
        let use_it = async {
            // Damage that is met only now is an error of that call, or a miss.
            let _ = store.nearest(&HERE, &unit(&[1.0, 3.0]), 3).await;
            let was_put = store.put(&THERE, entry(1, None)).await.is_ok();
            let is_there = store.load(&THERE, &id(1)).await.is_ok_and(|entry| entry.is_some());
            assert!(is_there || !was_put, "{name}: it takes what it does not keep");
        };
        let runtime = runtime();
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), use_it).await });
        if ended.is_err() {
            // sled hangs: the guard's deadline is there for that. Nobody may wait for its thread.
            runtime.shutdown_background();
            std::mem::forget(store);
        }
    }
}

mod limits {
    use super::*;

    #[tokio::test]
    async fn the_oldest_go_when_there_are_too_many() {
        let folder = Folder::new();
        let config = Config { max_entries: 10, ..folder.config() };
        let (store, _) = opened(config, Tuning::default());
        for n in 0..25 {
            // The younger ones first, in one of two scopes each, so that neither order nor scope tells age.
            let scope = if n % 2 == 0 { HERE } else { THERE };
            let aged =
                Entry { created: Millis(1000 - u64::from(n * 7 % 25)), ..entry(n, Some(unit(&[1.0, 1.0]))) };
            store.put(&scope, aged).await.unwrap();
        }
        let mut ages = Vec::new();
        for scope in [HERE, THERE] {
            let found = store.nearest(&scope, &unit(&[1.0, 1.0]), 99).await.unwrap();
            ages.extend(found.iter().map(|found| found.entry.created.0));
        }
        ages.sort_unstable();
        assert_eq!(ages, (991..=1000).collect::<Vec<_>>());
        let held = store.counters();
        assert_eq!((held.entries, held.evicted + held.turned_away), (10, 15));
    }

    #[tokio::test]
    async fn a_smaller_limit_is_reached_at_the_start() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        for n in 0..100 {
            store.put(&HERE, entry(n, None)).await.unwrap();
        }
        drop(store);
        let (store, recovery) = opened(Config { max_entries: 10, ..folder.config() }, Tuning::default());
        assert_eq!(recovery.entries, 100);
        assert_eq!((store.counters().entries, store.counters().evicted), (10, 90));
    }

    /// Of a large store most is counted and verified behind the opening. Whatever comes and goes meanwhile, in the end
    /// the numbers are right, and there never is more than may be.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_counted_in_the_background_comes_to_the_same() {
        const MOST: u64 = 2900;
        let tuning = Tuning { read_at_opening: 100, ..Tuning::default() };
        for close in [true, false] {
            let folder = Folder::new();
            let config = Config { max_entries: MOST, ..folder.config() };
            let (store, _) = opened(config.clone(), Tuning::default());
            for n in 0..2800 {
                store.put(&HERE, entry(n, Some(unit(&[1.0, n as f32])))).await.unwrap();
            }
            if close {
                store.close().await.unwrap();
            }
            drop(store);
            let (store, recovery) = opened(config.clone(), tuning);
            assert_eq!((recovery.clean, recovery.in_background), (close, true));
            if close {
                assert_eq!(store.counters().entries, 2800, "it was noted");
            }
            for n in 0..400 {
                // The young, the old, and what is there already.
                for (id, created) in [(5000 + n, 9000 + n), (6000 + n, 0), (7 * n, 0), (7 * n + 1, 9000)] {
                    let new = Entry { created: Millis(created.into()), ..entry(id, None) };
                    store.put(&HERE, new).await.unwrap();
                }
                store.remove(&HERE, &id(7 * n + 2)).await.unwrap();
            }
            let counted = async {
                while store.counters().entries < count_all(&store).await.0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, counted).await.unwrap();
            let held = store.counters();
            assert_eq!((held.entries, held.bytes), count_all(&store).await);
            assert!((2000..=MOST).contains(&held.entries), "{held:?}");
            store.close().await.unwrap();
            drop(store);
            let (store, recovery) = opened(config, tuning);
            assert!(recovery.clean);
            assert_eq!((store.counters().entries, store.counters().bytes), (held.entries, held.bytes));
        }
    }

    /// How many entries there are, and their bytes.
    async fn count_all(store: &Embedded) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        let mut walk = Walk { most: 1000, ..Walk::default() };
        loop {
            let steps = store.walk(walk.clone()).await.unwrap();
            count += steps.seen.len() as u64;
            bytes += steps.seen.iter().map(|seen| u64::from(seen.bytes)).sum::<u64>();
            walk.after = steps.next;
            if walk.after.is_none() {
                return (count, bytes);
            }
        }
    }

    #[tokio::test]
    async fn replacing_does_not_count_twice() {
        let folder = Folder::new();
        let (store, _) = opened(Config { max_entries: 2, ..folder.config() }, Tuning::default());
        for created in 0..20 {
            store.put(&HERE, Entry { created: Millis(created), ..entry(1, None) }).await.unwrap();
            store.put(&HERE, entry(2, None)).await.unwrap();
        }
        assert_eq!((store.counters().entries, store.counters().evicted), (2, 0));
    }

    #[tokio::test]
    async fn what_has_expired_is_swept() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        for n in 0..300 {
            let expires = (n % 3 != 0).then_some(Millis(u64::from(n)));
            store.put(&HERE, Entry { expires, ..entry(n, Some(unit(&[1.0, 1.0]))) }).await.unwrap();
        }
        assert_eq!(store.sweep(Millis(0)).await.unwrap(), 0);
        assert_eq!(store.sweep(Millis(149)).await.unwrap(), 100);
        assert_eq!(store.sweep(Millis(149)).await.unwrap(), 0);
        assert_eq!(store.counters().entries, 200);
        assert_eq!(store.nearest(&HERE, &unit(&[1.0, 1.0]), 999).await.unwrap().len(), 200);
    }

    #[tokio::test]
    async fn the_indexes_stay_within_their_bytes_and_are_filled_again_when_asked() {
        const LIMIT: usize = 100_000;
        let folder = Folder::new();
        let config = Config { index_bytes: LIMIT, ..folder.config() };
        let (store, _) = opened(config, Tuning::default());
        let mut random = Random(3);
        for n in 0..600u32 {
            let scope = Scope([(n % 12) as u8; 32]);
            store.put(&scope, entry(n, Some(random.unit(64)))).await.unwrap();
            store.nearest(&scope, &random.unit(64), 1).await.unwrap();
            assert!(store.counters().index.bytes <= LIMIT, "{:?}", store.counters());
        }
        let scopes = store.counters().index.scopes;
        assert!((2..12).contains(&scopes), "{scopes} of 12 scopes are held");
        for scope in 0..12 {
            let found = store.nearest(&Scope([scope; 32]), &random.unit(64), 99).await.unwrap();
            assert_eq!(found.len(), 50, "all of a scope are found, held or not");
        }
    }

    /// A thousand scopes in turn, of which a tenth has room in memory.
    #[tokio::test]
    async fn of_a_thousand_scopes_those_asked_of_late_are_held_and_all_are_found() {
        const SCOPES: u32 = 1000;
        const LIMIT: usize = 200_000;
        let folder = Folder::new();
        let mut random = Random(9);
        let home = |n: u32| {
            let mut scope = [7; 32];
            scope[..4].copy_from_slice(&(n % SCOPES).to_be_bytes());
            Scope(scope)
        };
        let (store, _) = opened(Config { index_bytes: LIMIT, ..folder.config() }, Tuning::default());
        let entries: Vec<Entry> = (0..3 * SCOPES).map(|n| entry(n, Some(random.unit(32)))).collect();
        for (n, entry) in (0..).zip(&entries) {
            store.put(&home(n), entry.clone()).await.unwrap();
        }
        assert_eq!(store.counters().index.scopes, 0, "nobody has asked");
        for _ in 0..2 {
            for (n, entry) in (0..).zip(&entries) {
                let found = store.nearest(&home(n), entry.vector.as_ref().unwrap(), 5).await.unwrap();
                assert_eq!((found.len(), &*found[0].entry), (3, entry), "the three of its scope");
                assert!(store.counters().index.bytes <= LIMIT, "{:?}", store.counters());
            }
        }
        let scopes = store.counters().index.scopes;
        assert!((50..SCOPES as usize / 2).contains(&scopes), "{scopes} of {SCOPES} are held");
    }

    #[tokio::test]
    async fn one_scope_alone_stays_within_the_bytes() {
        const LIMIT: usize = 20_000;
        let folder = Folder::new();
        let config = Config { index_bytes: LIMIT, ..folder.config() };
        let (store, _) = opened(config, Tuning { graph_from: 4, ..Tuning::default() });
        let mut random = Random(4);
        for n in 0..200 {
            store.put(&HERE, entry(n, Some(random.unit(64)))).await.unwrap();
            store.nearest(&HERE, &random.unit(64), 1).await.unwrap();
            settle(&store).await;
            assert!(store.counters().index.bytes <= LIMIT, "{:?}", store.counters());
        }
        let found = store.nearest(&HERE, &random.unit(64), 999).await.unwrap().len();
        assert!(found > 5, "only {found} are found");
    }
}

mod graph {
    use super::*;

    const DIMENSIONS: usize = 64;

    /// Vectors in clusters, as sentences are: a graph has more trouble with them than with pure chance.
    fn clustered(random: &mut Random, count: u32) -> Vec<Entry> {
        let centres: Vec<UnitVector> = (0..50).map(|_| random.unit(DIMENSIONS)).collect();
        (0..count).map(|n| entry(n, Some(random.near(&centres[n as usize % centres.len()], 0.7)))).collect()
    }

    /// How many of 200 searches name the very nearest first.
    async fn recall(random: &mut Random, store: &Embedded, oracle: &Memory, entries: &[Entry]) -> f64 {
        let mut right = 0;
        for n in 0..200 {
            let query = random.near(entries[n * 37 % entries.len()].vector.as_ref().unwrap(), 0.3);
            let found = store.nearest(&HERE, &query, 1).await.unwrap();
            let expected = oracle.nearest(&HERE, &query, 1).await.unwrap();
            right += u32::from(found == expected);
        }
        f64::from(right) / 200.0
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn finds_the_nearest_of_ten_thousand() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        let oracle = Memory::default();
        let mut random = Random(5);
        let entries = clustered(&mut random, 10_000);
        for entry in &entries {
            store.put(&HERE, entry.clone()).await.unwrap();
            oracle.put(&HERE, entry.clone()).await.unwrap();
        }
        store.nearest(&HERE, &random.unit(DIMENSIONS), 1).await.unwrap();
        graphed(&store).await;
        assert_eq!(store.counters().index.graphs, 1);
        let fresh = recall(&mut random, &store, &oracle, &entries).await;
        assert!(fresh >= 0.95, "recall is {fresh}");

        // A quarter goes: not enough for a new graph, so the dead are among what it finds.
        for entry in entries.iter().step_by(4) {
            assert!(store.remove(&HERE, &entry.id).await.unwrap());
            oracle.remove(&HERE, &entry.id).await.unwrap();
        }
        assert_eq!(store.counters().index.graphs, 1);
        let worn = recall(&mut random, &store, &oracle, &entries).await;
        assert!(worn >= 0.95, "recall with removed entries is {worn}");
    }

    /// The files in which graphs are stored.
    fn stored(folder: &Folder) -> Vec<PathBuf> {
        let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        // As many folders as scopes.
        files(&folder.path().join("graphs")).flat_map(|scope| files(&scope).collect::<Vec<_>>()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stored_graph_answers_after_a_restart_for_what_is_still_there() {
        let folder = Folder::new();
        let tuning = Tuning { graph_from: 500, ..Tuning::default() };
        let mut random = Random(7);
        let entries = clustered(&mut random, 1000);
        let nearest = async |store: &Embedded, entry: &Entry| {
            store.nearest(&HERE, entry.vector.as_ref().unwrap(), 1).await.unwrap().remove(0).entry
        };
        let (store, _) = opened(folder.config(), tuning);
        for entry in &entries {
            store.put(&HERE, entry.clone()).await.unwrap();
        }
        nearest(&store, &entries[0]).await;
        settle(&store).await;
        assert_eq!(stored(&folder).len(), 1);
        // Behind the back of the stored graph: one goes, one points elsewhere, one comes.
        let moved = Entry { vector: Some(random.unit(DIMENSIONS)), ..entries[2].clone() };
        let new = entry(5000, Some(random.unit(DIMENSIONS)));
        store.remove(&HERE, &entries[1].id).await.unwrap();
        store.put(&HERE, moved.clone()).await.unwrap();
        store.put(&HERE, new.clone()).await.unwrap();
        store.close().await.unwrap();
        drop(store);

        let check = async |store: &Embedded| {
            assert_eq!(*nearest(store, &entries[0]).await, entries[0]);
            assert_ne!(nearest(store, &entries[1]).await.id, entries[1].id);
            assert_ne!(nearest(store, &entries[2]).await.id, entries[2].id);
            assert_eq!(*nearest(store, &moved).await, moved);
            assert_eq!(*nearest(store, &new).await, new);
        };
        let (store, _) = opened(folder.config(), tuning);
        check(&store).await;
        let index = store.counters().index;
        assert_eq!((index.graphs, index.building), (1, 0), "nothing had to be built");
        drop(store);

        // One that is damaged is made again; the answers do not depend on it.
        let file = stored(&folder).remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (store, _) = opened(folder.config(), tuning);
        check(&store).await;
        settle(&store).await;
        check(&store).await;
        assert_eq!(store.counters().index.graphs, 1);

        assert_eq!(store.clear(&HERE).await.unwrap(), 1000);
        assert!(stored(&folder).is_empty(), "what is cleared leaves nothing");
    }

    /// More scopes than there is room for, each with a graph: one that was dropped comes back with the graph that
    /// was stored, and nothing is left of scopes whose entries have expired.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn scopes_with_graphs_come_and_go_and_leave_nothing() {
        const SCOPES: u32 = 8;
        const EACH: u32 = 200;
        const LIMIT: usize = 250_000;
        let folder = Folder::new();
        let tuning = Tuning { graph_from: 100, ..Tuning::default() };
        let (store, _) = opened(Config { index_bytes: LIMIT, ..folder.config() }, tuning);
        let mut random = Random(10);
        let entries = clustered(&mut random, SCOPES * EACH);
        let home = |n: u32| Scope([(n / EACH) as u8 + 1; 32]);
        let expiring = |entry: &Entry| Entry { expires: Some(Millis(1000)), ..entry.clone() };
        for (n, entry) in (0..).zip(&entries) {
            if n % EACH == 0 {
                store.nearest(&home(n), entry.vector.as_ref().unwrap(), 1).await.unwrap();
            }
            store.put(&home(n), expiring(entry)).await.unwrap();
            if n % EACH == EACH - 1 {
                settle(&store).await;
            }
        }
        assert_eq!(stored(&folder).len(), SCOPES as usize);
        for _ in 0..2 {
            for (n, entry) in (0..).zip(&entries).step_by(EACH as usize / 4) {
                let found = store.nearest(&home(n), entry.vector.as_ref().unwrap(), 1).await.unwrap();
                assert_eq!(found[0].entry, expiring(entry).into());
                settle(&store).await;
                let index = store.counters().index;
                assert!(index.bytes <= LIMIT, "{index:?}");
                assert!((2..SCOPES as usize).contains(&index.scopes), "{index:?}");
                assert!(index.graphs >= 1, "{index:?}");
            }
        }
        assert_eq!(stored(&folder).len(), SCOPES as usize, "what was dropped from memory is still stored");
        assert_eq!(store.sweep(Millis(1000)).await.unwrap(), u64::from(SCOPES * EACH));
        // A graph that was just being stored is removed by the next sweep.
        let nothing_left = async {
            while std::fs::read_dir(folder.path().join("graphs")).unwrap().count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert_eq!(store.sweep(Millis(1000)).await.unwrap(), 0);
            }
        };
        tokio::time::timeout(PATIENCE, nothing_left).await.expect("nothing is left of what has expired");
    }

    /// Of a large scope nobody waits for the reading: searches answer from what is there, and what is written
    /// meanwhile counts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_and_writes_go_on_while_a_scope_is_read_in_the_background() {
        for graph_from in [usize::MAX, 500] {
            let folder = Folder::new();
            let tuning = Tuning { graph_from, read_at_once: 0, ..Tuning::default() };
            let mut random = Random(8);
            let entries = clustered(&mut random, 2000);
            let (store, _) = opened(folder.config(), tuning);
            let nowhere = random.unit(DIMENSIONS);
            store.nearest(&HERE, &nowhere, 1).await.unwrap();
            for entry in &entries {
                store.put(&HERE, entry.clone()).await.unwrap();
            }
            if graph_from == usize::MAX {
                settle(&store).await;
            } else {
                graphed(&store).await;
            }
            store.close().await.unwrap();
            drop(store);
            assert_eq!(folder.path().join("graphs").exists(), graph_from != usize::MAX);

            let (store, _) = opened(folder.config(), tuning);
            store.nearest(&HERE, &nowhere, 1).await.unwrap();
            let oracle = Memory::default();
            for entry in &entries {
                oracle.put(&HERE, entry.clone()).await.unwrap();
            }
            for (n, old) in (0u32..).zip(&entries).step_by(20) {
                let moved = Entry { vector: Some(random.unit(DIMENSIONS)), ..old.clone() };
                let new = entry(9000 + n, Some(random.unit(DIMENSIONS)));
                let gone = entries[n as usize + 1].id;
                for written in [moved, new] {
                    store.put(&HERE, written.clone()).await.unwrap();
                    oracle.put(&HERE, written.clone()).await.unwrap();
                    let found = store.nearest(&HERE, written.vector.as_ref().unwrap(), 1).await.unwrap();
                    assert_eq!(*found[0].entry, written, "what was just put is found");
                }
                assert!(store.remove(&HERE, &gone).await.unwrap());
                oracle.remove(&HERE, &gone).await.unwrap();
                let found = store.nearest(&HERE, entries[n as usize + 1].vector.as_ref().unwrap(), 9).await;
                assert!(found.unwrap().iter().all(|found| found.entry.id != gone), "what was removed is not");
            }
            settle(&store).await;
            let found = store.nearest(&HERE, &nowhere, 9999).await.unwrap();
            assert_eq!(found.len(), oracle.nearest(&HERE, &nowhere, 9999).await.unwrap().len());
            let recall = recall(&mut random, &store, &oracle, &entries).await;
            assert!(recall >= 0.98, "{recall}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_and_writes_go_on_while_it_is_built_and_after() {
        let folder = Folder::new();
        let (store, _) = opened(folder.config(), Tuning { graph_from: 500, ..Tuning::default() });
        let mut random = Random(6);
        for (n, entry) in (0u32..).zip(clustered(&mut random, 3000)) {
            store.put(&HERE, entry.clone()).await.unwrap();
            let found = store.nearest(&HERE, entry.vector.as_ref().unwrap(), 1).await.unwrap();
            assert_eq!(*found[0].entry, entry, "what was just put is found");
            // Replaced and removed all along, so that the graph is thrown away and built again.
            if n % 2 == 1 {
                assert!(store.remove(&HERE, &id(n - 1)).await.unwrap());
                let found = store.nearest(&HERE, entry.vector.as_ref().unwrap(), 20).await.unwrap();
                assert!(found.iter().all(|found| found.entry.id != id(n - 1)), "what was removed is not");
            }
        }
        settle(&store).await;
        assert_eq!(store.counters().index.graphs, 1);
    }
}

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn opened(config: Config, tuning: Tuning) -> (Embedded, Recovery) {
    Embedded::open_tuned(config, tuning).unwrap()
}

/// A folder for a store, which goes with the test.
struct Folder {
    parent: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join("store")
    }

    fn config(&self) -> Config {
        Config { path: self.path(), ..Config::default() }
    }

    fn open(&self) -> (Embedded, Recovery) {
        opened(self.config(), Tuning::default())
    }

    /// Where sled's own files are.
    fn sled(&self) -> PathBuf {
        self.path().join("sled-0")
    }

    /// Changes a tree behind the store's back.
    fn tree(&self, name: &str, change: impl FnOnce(&sled::Tree)) {
        // sled lets go of its lock a little after it has been dropped.
        let mut attempts = (0..6000).map(|_| {
            std::thread::park_timeout(Duration::from_millis(5));
            sled::open(self.sled())
        });
        let sled = attempts.find_map(Result::ok).expect("the folder is free in time");
        change(&sled.open_tree(name).unwrap());
        sled.flush().unwrap();
    }

    /// How many folders lie beside the store's.
    fn set_aside(&self) -> usize {
        let is_aside = |path: &Path| path.to_string_lossy().contains("store.damaged-");
        std::fs::read_dir(self.parent.path())
            .unwrap()
            .filter(|folder| is_aside(&folder.as_ref().unwrap().path()))
            .count()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until no graph is being built.
async fn settle(store: &Embedded) {
    built(store, 0).await;
}

/// The same, and until there is one: what has been read of a scope is there a moment before its graph is begun.
async fn graphed(store: &Embedded) {
    built(store, 1).await;
}

async fn built(store: &Embedded, least: usize) {
    let settled = async {
        while store.counters().index.building > 0 || store.counters().index.graphs < least {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 4, settled).await.expect("a graph is built in time");
}

fn id(n: u32) -> EntryId {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&n.to_be_bytes());
    EntryId(digest)
}

fn entry(n: u32, vector: Option<UnitVector>) -> Entry {
    Entry {
        id: id(n),
        text: format!("question {n}"),
        vector,
        reply: Reply::text("a-model", format!("answer {n}")),
        upstream: "primary".into(),
        created: Millis(1),
        expires: None,
        stale_until: None,
        about: About::default(),
        pinned: false,
    }
}

fn unit(values: &[f32]) -> UnitVector {
    UnitVector::new(values.to_vec()).unwrap()
}

/// Numbers without a pattern that matters, the same in every run.
struct Random(u64);

impl Random {
    /// xorshift64*.
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// About normally distributed: the sum of some even ones.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.next() as f32 / u32::MAX as f32 - 0.5).sum()
    }

    fn unit(&mut self, dimensions: usize) -> UnitVector {
        UnitVector::new((0..dimensions).map(|_| self.normal()).collect()).unwrap()
    }

    /// A vector near another: the sum of it and some noise of length `spread`.
    fn near(&mut self, centre: &UnitVector, spread: f32) -> UnitVector {
        let noise = self.unit(centre.dimensions());
        let sum = centre.as_slice().iter().zip(noise.as_slice()).map(|(a, b)| a + spread * b);
        UnitVector::new(sum.collect()).unwrap()
    }
}
