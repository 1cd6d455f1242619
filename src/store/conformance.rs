//! The suite that every [`Store`] must pass, and every decorator around one: ordinary code, so that it can be
//! run against a store that is set up elsewhere (a server over the network, say). It panics on a violation.

use super::{About, Entry, EntryId, Error, IdPrefix, Match, Place, Scope, Seen, Store, Walk};
use crate::chat::{Block, Choice, Citation, Finish, Protocol, Reply, Signature, ToolCall, Usage};
use crate::clock::Millis;
use crate::vector::UnitVector;

/// How far a cosine may be from the true one: rounding of `f32`, summed up in any order.
const TOLERANCE: f32 = 1e-5;

/// Runs every law on `store`. It may hold other entries, but none in the scopes used here.
pub async fn suite(store: &dyn Store) {
    an_empty_scope_has_nothing(store).await;
    the_nearest_come_first_with_their_cosines(store).await;
    scopes_never_see_each_other(store).await;
    a_second_put_replaces(store).await;
    what_is_removed_is_gone(store).await;
    clearing_counts_and_leaves_other_scopes(store).await;
    without_a_vector_only_the_id_finds(store).await;
    vectors_of_another_model_are_not_found(store).await;
    any_text_and_every_field_come_back(store).await;
    a_walk_meets_everything_once_the_newest_first(store).await;
    a_walk_goes_on_where_it_was_whatever_changes(store).await;
    a_walk_brings_what_is_wanted(store).await;
    hits_are_counted_and_stay_with_the_answer(store).await;
    what_is_held_is_counted(store).await;
}

/// An entry with every field set, and a reply with every field set.
pub fn full_entry() -> Entry {
    let seal = |by| Signature { by, data: "c2VhbA==".into() };
    let call = ToolCall {
        id: "call_1".into(),
        name: "weather".into(),
        arguments: r#"{"city":"Zürich"}"#.into(),
        signature: Some(seal(Protocol::Gemini)),
        ..ToolCall::default()
    };
    let citation = Citation {
        url: Some("https://example.com".into()),
        title: None,
        quote: Some("“so”".into()),
        by: Protocol::Anthropic,
        raw: serde_json::json!({ "deep": [1, 2.5, null] }),
    };
    let usage = Usage { input: 12, output: 345, cached_input: 6, cache_write: 7, reasoning: 78 };
    let choice = |finish| Choice {
        blocks: vec![
            Block::Reasoning { text: "hm".into(), signature: Some(seal(Protocol::Anthropic)) },
            Block::Redacted(seal(Protocol::Anthropic)),
            Block::Text {
                text: "Grüße, 世界 👋🏽\n\u{0}\"quoted\"".into(),
                citations: vec![citation.clone()],
                signature: Some(seal(Protocol::Gemini)),
            },
            Block::Refusal("no".into()),
            Block::ToolCall(call.clone()),
            Block::ToolCall(ToolCall::default()),
        ],
        logprobs: vec![serde_json::json!({ "token": "a", "logprob": -0.25 })],
        finish,
    };
    let finishes = [
        Some(Finish::Stop),
        Some(Finish::Length),
        Some(Finish::ToolCalls),
        Some(Finish::ContentFilter),
        Some(Finish::StopSequence("ZZZ".into())),
        Some(Finish::Refusal),
        Some(Finish::Other("weary".into())),
        None,
    ];
    Entry {
        id: EntryId([42; 32]),
        text: "What — if anything — is “it”? 🤔".into(),
        vector: Some(unit(&[0.3, -1.7, 12.0])),
        reply: Reply {
            id: "chatcmpl-1".into(),
            model: "a-model".into(),
            created: u64::MAX,
            choices: finishes.map(choice).into(),
            usage: Some(usage),
        },
        upstream: "primary".into(),
        created: Millis(1_700_000_000_123),
        expires: Some(Millis(u64::MAX - 1)),
        stale_until: Some(Millis(u64::MAX)),
        about: About {
            tenant: "a tenant".into(),
            project: "Grüße".into(),
            model: "a-model".into(),
            tags: vec!["song".into(), "a, b".into()],
        },
        pinned: true,
    }
}

async fn an_empty_scope_has_nothing(store: &dyn Store) {
    let scope = scope(0);
    assert!(nearest(store, &scope, &[1.0, 0.0], 3).await.is_empty(), "an empty scope has matches");
    assert!(ok(store.load(&scope, &id(1)).await).is_none(), "an empty scope has an entry");
    assert!(!ok(store.remove(&scope, &id(1)).await), "something was removed from an empty scope");
    assert_eq!(ok(store.clear(&scope).await), 0, "an empty scope had entries");
}

async fn the_nearest_come_first_with_their_cosines(store: &dyn Store) {
    let scope = scope(1);
    for (n, vector) in [(1, [-1.0, 0.0]), (2, [0.0, 1.0]), (3, [1.0, 0.0]), (4, [0.6, 0.8])] {
        ok(store.put(&scope, entry(n, Some(&vector))).await);
    }
    let all = [(3, 1.0), (4, 0.6), (2, 0.0), (1, -1.0)];
    for k in 0..6 {
        let found = nearest(store, &scope, &[2.0, 0.0], k).await;
        assert_eq!(found.len(), k.min(all.len()), "{k} were asked for, {} are there", all.len());
        for (found, (n, cosine)) in found.iter().zip(all) {
            assert_eq!(found.entry.id, id(n), "the order is wrong");
            assert!((found.cosine - cosine).abs() < TOLERANCE, "{} is not the cosine {cosine}", found.cosine);
        }
    }
}

async fn scopes_never_see_each_other(store: &dyn Store) {
    let (here, there) = (scope(2), scope(3));
    ok(store.put(&here, entry(1, Some(&[1.0, 0.0]))).await);
    assert!(nearest(store, &there, &[1.0, 0.0], 9).await.is_empty(), "a search left its scope");
    assert!(ok(store.load(&there, &id(1)).await).is_none(), "a load left its scope");
    assert!(!ok(store.remove(&there, &id(1)).await), "a removal left its scope");
    assert!(ok(store.load(&here, &id(1)).await).is_some(), "another scope's removal reached this one");
}

async fn a_second_put_replaces(store: &dyn Store) {
    let scope = scope(4);
    ok(store.put(&scope, entry(1, Some(&[1.0, 0.0]))).await);
    // The first search may build an index, which the second put must reach.
    nearest(store, &scope, &[1.0, 0.0], 1).await;
    let second = Entry { text: "again".into(), created: Millis(2), ..entry(1, Some(&[0.0, 1.0])) };
    ok(store.put(&scope, second.clone()).await);
    assert_eq!(ok(store.load(&scope, &id(1)).await), Some(second.clone()), "the old entry was loaded");
    let found = nearest(store, &scope, &[1.0, 0.0], 9).await;
    assert_eq!(found.len(), 1, "a replaced entry was found beside the new one");
    assert_eq!(*found[0].entry, second, "a replaced entry was found");
    assert!(found[0].cosine.abs() < TOLERANCE, "the cosine is that of the replaced vector");
}

async fn what_is_removed_is_gone(store: &dyn Store) {
    let scope = scope(5);
    for n in [1, 2] {
        ok(store.put(&scope, entry(n, Some(&[1.0, 0.0]))).await);
    }
    nearest(store, &scope, &[1.0, 0.0], 2).await;
    assert!(ok(store.remove(&scope, &id(1)).await), "what was there could not be removed");
    assert!(!ok(store.remove(&scope, &id(1)).await), "it was removed twice");
    assert!(ok(store.load(&scope, &id(1)).await).is_none(), "a removed entry was loaded");
    let found = nearest(store, &scope, &[1.0, 0.0], 2).await;
    assert_eq!(ids(&found), [id(2)], "the removed one, or not the other, was found");
}

async fn clearing_counts_and_leaves_other_scopes(store: &dyn Store) {
    let (cleared, kept) = (scope(6), scope(7));
    for n in [1, 2, 3] {
        ok(store.put(&cleared, entry(n, (n != 3).then_some(&[1.0, 0.0][..]))).await);
    }
    ok(store.put(&kept, entry(1, Some(&[1.0, 0.0]))).await);
    nearest(store, &cleared, &[1.0, 0.0], 2).await;
    assert_eq!(ok(store.clear(&cleared).await), 3, "the count is wrong");
    assert_eq!(ok(store.clear(&cleared).await), 0, "a cleared scope had entries");
    assert!(nearest(store, &cleared, &[1.0, 0.0], 9).await.is_empty(), "a cleared entry was found");
    assert!(ok(store.load(&cleared, &id(3)).await).is_none(), "a cleared entry was loaded");
    assert!(ok(store.load(&kept, &id(1)).await).is_some(), "another scope was cleared as well");
}

async fn without_a_vector_only_the_id_finds(store: &dyn Store) {
    let scope = scope(8);
    ok(store.put(&scope, entry(1, None)).await);
    assert!(nearest(store, &scope, &[1.0, 0.0], 9).await.is_empty(), "found without a vector");
    assert!(ok(store.load(&scope, &id(1)).await).is_some(), "not loaded without a vector");
    ok(store.put(&scope, entry(1, Some(&[1.0, 0.0]))).await);
    assert_eq!(nearest(store, &scope, &[1.0, 0.0], 9).await.len(), 1, "a vector given later is not found");
    ok(store.put(&scope, entry(1, None)).await);
    assert!(nearest(store, &scope, &[1.0, 0.0], 9).await.is_empty(), "found by the vector it no longer has");
}

async fn vectors_of_another_model_are_not_found(store: &dyn Store) {
    let scope = scope(9);
    ok(store.put(&scope, entry(1, Some(&[1.0, 0.0]))).await);
    ok(store.put(&scope, entry(2, Some(&[1.0, 0.0, 0.0]))).await);
    assert!(ok(store.load(&scope, &id(2)).await).is_some(), "a vector of another length was not kept");
    let found = nearest(store, &scope, &[1.0, 0.0], 9).await;
    assert!(found.iter().all(|found| found.entry.id == id(1)), "vectors of two lengths were compared");
    assert!(nearest(store, &scope, &[1.0; 7], 9).await.is_empty(), "vectors of two lengths were compared");
}

async fn any_text_and_every_field_come_back(store: &dyn Store) {
    let scope = scope(10);
    let mut entry = full_entry();
    for text in ["", " ", "\u{0}", "naïve café — \u{202e}right to left\u{202c} 👩‍👩‍👧", &"long ".repeat(50_000)]
    {
        text.clone_into(&mut entry.text);
        ok(store.put(&scope, entry.clone()).await);
        assert_eq!(ok(store.load(&scope, &entry.id).await), Some(entry.clone()), "an entry was changed");
        let found = nearest(store, &scope, &[0.3, -1.7, 12.0], 1).await;
        assert_eq!(found.first().map(|found| &*found.entry), Some(&entry), "an entry was changed in a match");
    }
}

async fn a_walk_meets_everything_once_the_newest_first(store: &dyn Store) {
    let (one, other) = (scope(11), scope(12));
    for n in 1..=9 {
        // Some are of the same age, and the two scopes take turns.
        let entry = Entry { created: Millis(u64::from(n / 2)), ..entry(n, Some(&[1.0, 0.0])) };
        ok(store.put(if n % 2 == 0 { &one } else { &other }, entry).await);
    }
    for most in [1, 2, 5, 100] {
        let mut seen = walked(store, most, Walk::default()).await;
        seen.retain(|seen| [one, other].contains(&seen.scope));
        assert_eq!(seen.len(), 9, "a walk in steps of {most} missed some, or met some twice");
        assert!(seen.is_sorted_by(|a, b| a.place() > b.place()), "the order is not the newest first");
    }
    for seen in walked(store, 3, Walk { scope: Some(one), ..Walk::default() }).await {
        assert_eq!(ok(store.load(&one, &seen.entry.id).await), Some(seen.entry), "a walk changed an entry");
        assert!(seen.bytes > 0, "an entry takes no room");
    }
}

async fn a_walk_goes_on_where_it_was_whatever_changes(store: &dyn Store) {
    let scope = scope(13);
    let put = async |n: u8, created: u64| {
        ok(store.put(&scope, Entry { created: Millis(created), ..entry(n, None) }).await);
    };
    for n in 1..=6 {
        put(n, n.into()).await;
    }
    let of_scope = |after| Walk { after, most: 2, scope: Some(scope), ..Walk::default() };
    let mut steps = ok(store.walk(of_scope(None)).await);
    while steps.seen.is_empty() {
        steps = ok(store.walk(of_scope(steps.next)).await);
    }
    assert_eq!(steps.seen.iter().map(|seen| seen.entry.id).collect::<Vec<_>>(), [id(6), id(5)]);
    // The place it stands at goes, one before it goes, one is renewed, and a new one comes.
    for n in [5, 4] {
        ok(store.remove(&scope, &id(n)).await);
    }
    put(3, 30).await;
    put(7, 70).await;
    let rest = walked(store, 2, of_scope(steps.next)).await;
    assert_eq!(rest.iter().map(|seen| seen.entry.id).collect::<Vec<_>>(), [id(2), id(1)]);
}

async fn a_walk_brings_what_is_wanted(store: &dyn Store) {
    let scope = scope(14);
    let alike = |last: u8| {
        let mut digest = [0xe7; 32];
        digest[31] = last;
        EntryId(digest)
    };
    for (id, created) in [(alike(1), 1), (alike(2), 2), (id(3), 3)] {
        ok(store.put(&scope, Entry { id, created: Millis(created), ..entry(1, None) }).await);
    }
    let of = |digits: &str| Walk { id: IdPrefix::new(digits), scope: Some(scope), ..Walk::default() };
    let full = alike(1).to_hex();
    for (digits, expected) in
        [(&full[..], &[alike(1)][..]), (&full[..8], &[alike(2), alike(1)]), ("00000000", &[])]
    {
        let seen = walked(store, 1, of(digits)).await;
        assert_eq!(seen.iter().map(|seen| seen.entry.id).collect::<Vec<_>>(), expected, "{digits}");
    }
}

async fn hits_are_counted_and_stay_with_the_answer(store: &dyn Store) {
    let scope = scope(15);
    let hits = async || {
        let seen = walked(store, 9, Walk { scope: Some(scope), ..Walk::default() }).await;
        seen.iter().map(|seen| seen.hits).collect::<Vec<_>>()
    };
    let answer = entry(1, None);
    ok(store.put(&scope, answer.clone()).await);
    for answered in [false, true, true] {
        store.asked(&scope, &answer.id, answered);
    }
    assert_eq!(hits().await, [2], "hits are not counted");
    ok(store.put(&scope, Entry { pinned: true, ..answer }).await);
    assert_eq!(hits().await, [2], "hits are lost when an answer is pinned");
}

async fn what_is_held_is_counted(store: &dyn Store) {
    let scope = scope(16);
    let before = store.counters();
    for n in [1, 2, 1] {
        ok(store.put(&scope, entry(n, Some(&[1.0, 0.0]))).await);
    }
    let seen = walked(store, 9, Walk { scope: Some(scope), ..Walk::default() }).await;
    let bytes: u64 = seen.iter().map(|seen| u64::from(seen.bytes)).sum();
    let held = store.counters();
    assert_eq!(held.entries - before.entries, 2, "the entries are not counted");
    assert_eq!(held.bytes - before.bytes, bytes, "the bytes are not counted");
    ok(store.remove(&scope, &id(1)).await);
    ok(store.clear(&scope).await);
    let after = store.counters();
    assert_eq!((after.entries, after.bytes), (before.entries, before.bytes), "what is gone is counted still");
}

/// All that a walk brings, in steps of `most`.
async fn walked(store: &dyn Store, most: usize, mut walk: Walk) -> Vec<Seen> {
    let mut seen = Vec::new();
    walk.most = most;
    loop {
        let steps = ok(store.walk(walk.clone()).await);
        assert!(steps.seen.len() <= most, "a step of a walk brought more than {most}");
        seen.extend(steps.seen);
        let Some(next) = steps.next else { return seen };
        assert!(walk.after.is_none_or(|after: Place| next < after), "a walk does not get on");
        walk.after = Some(next);
    }
}

async fn nearest(store: &dyn Store, scope: &Scope, query: &[f32], k: usize) -> Vec<Match> {
    ok(store.nearest(scope, &unit(query), k).await)
}

fn entry(n: u8, vector: Option<&[f32]>) -> Entry {
    Entry {
        id: id(n),
        text: format!("question {n}"),
        vector: vector.map(unit),
        reply: Reply::text("a-model", format!("answer {n}")),
        upstream: "primary".into(),
        created: Millis(1),
        expires: None,
        stale_until: None,
        about: About::default(),
        pinned: false,
    }
}

/// A scope that nothing else uses: the suite may run on a store that is in use.
fn scope(n: u8) -> Scope {
    let mut digest = *b"conformance suite, scope number ";
    digest[31] = n;
    Scope(digest)
}

fn id(n: u8) -> EntryId {
    EntryId([n; 32])
}

fn ids(matches: &[Match]) -> Vec<EntryId> {
    matches.iter().map(|found| found.entry.id).collect()
}

#[expect(clippy::expect_used, reason = "the vectors are written above")]
fn unit(values: &[f32]) -> UnitVector {
    UnitVector::new(values.to_vec()).expect("it has a direction")
}

#[expect(clippy::panic, reason = "a violation is said by a panic")]
fn ok<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error}"))
}
