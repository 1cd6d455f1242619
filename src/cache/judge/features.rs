//! What the learned score looks at.

use super::compare::{Comparison, Left};
use super::lexicon::Relation;
use super::question::{Kind, Question, Word, WordId};
use super::sides;

/// The names of the features, in order.
pub const NAMES: [&str; 62] = [
    "cosine",
    "length_ratio",
    "length_gap",
    "shortest",
    "shared_stems",
    "shared_weight",
    "covered_asked",
    "covered_known",
    "trigrams",
    "left_asked",
    "left_known",
    "left_weight_asked",
    "left_weight_known",
    "left_most_asked",
    "left_most_known",
    "unlike_asked",
    "unlike_known",
    "unlike_weight_asked",
    "unlike_weight_known",
    "unlike_most_asked",
    "unlike_most_known",
    "left_weight",
    "one_for_one",
    "typos",
    "synonyms",
    "derived",
    "kinds",
    "siblings",
    "strangers",
    "names_left_asked",
    "names_left_known",
    "unknown_left_asked",
    "unknown_left_known",
    "numbers",
    "numbers_equal",
    "units_equal",
    "wh_same",
    "wh_conflict",
    "yes_no_same",
    "inversions",
    "in_order",
    "subsequence",
    "same_words",
    "same_function",
    "own_same",
    "quantifiers_same",
    "modals_same",
    "superlatives_same",
    "time_same",
    "shared_content",
    "shared_content_weight",
    "bound_apart",
    "known",
    "quoted_same",
    "prefix",
    "suffix",
    "begins_same",
    "counts",
    "content_asked",
    "content_known",
    "covered_least",
    "left_most_least",
];

/// How many features there are.
pub const COUNT: usize = NAMES.len();

/// What the learned score looks at in a pair of questions whose vectors have this cosine.
pub(super) fn features(pair: &Comparison<'_>, cosine: f32) -> [f32; COUNT] {
    let (a, b) = (pair.asked, pair.known);
    let (fa, fb) = (&a.facts, &b.facts);
    let (la, lb) = (a.words.len() as f32, b.words.len() as f32);
    let weight = |q: &Question| q.words.iter().map(|word| word.weight).sum::<f32>().max(1e-6);
    let shared: f32 = pair.same.iter().map(|(i, j)| a.words[*i].weight.min(b.words[*j].weight)).sum();
    let (wa, wb) = (weight(a), weight(b));
    let (left_a, left_b) = (tally(&pair.asked_left), tally(&pair.known_left));
    let both = || pair.asked_left.iter().chain(&pair.known_left);
    let count = |relation| both().filter(|left| left.instead == relation).count() as f32;
    let names = |left: &[Left<'_>]| left.iter().filter(|left| left.word.is_name).count() as f32;
    let unknown = |left: &[Left<'_>]| left.iter().filter(|left| !left.word.is_known).count() as f32;
    let content: Vec<(usize, usize)> =
        pair.same.iter().copied().filter(|(i, _)| a.words[*i].matters()).collect();
    let inversions = inversions(&content) as f32;
    let content_count = |q: &Question| {
        q.words.iter().filter(|word| matches!(word.kind, Kind::Content | Kind::Number)).count() as f32
    };
    let shared_content: f32 = content.iter().map(|(i, _)| a.words[*i].weight).sum();
    let covered = (shared / wa, shared / wb);
    let [unlike_a, unlike_b] = pair.unlike;
    [
        cosine,
        la.min(lb) / la.max(lb).max(1.0),
        (la - lb).abs(),
        la.min(lb),
        pair.same.len() as f32 / (la + lb - pair.same.len() as f32).max(1.0),
        shared / (wa + wb - shared).max(1e-6),
        covered.0,
        covered.1,
        overlap(&a.trigrams, &b.trigrams),
        pair.asked_left.len() as f32,
        pair.known_left.len() as f32,
        left_a.0,
        left_b.0,
        left_a.1,
        left_b.1,
        unlike_a.0 as f32,
        unlike_b.0 as f32,
        unlike_a.1,
        unlike_b.1,
        unlike_a.2,
        unlike_b.2,
        left_a.0 + left_b.0,
        flag(pair.asked_left.len() == 1 && pair.known_left.len() == 1),
        pair.typos as f32,
        pair.synonyms as f32,
        pair.derived as f32,
        count(Relation::Kind),
        count(Relation::Siblings),
        count(Relation::None),
        names(&pair.asked_left),
        names(&pair.known_left),
        unknown(&pair.asked_left),
        unknown(&pair.known_left),
        fa.all_numbers.len().max(fb.all_numbers.len()) as f32,
        flag(fa.all_numbers == fb.all_numbers),
        flag(fa.units == fb.units),
        flag(fa.wh == fb.wh),
        flag(fa.wh.is_some() && fb.wh.is_some() && fa.wh != fb.wh),
        flag(fa.is_yes_no == fb.is_yes_no),
        inversions,
        flag(inversions == 0.0),
        longest_rising(&content) as f32 / (content.len() as f32).max(1.0),
        flag(pair.asked_left.is_empty() && pair.known_left.is_empty()),
        jaccard(&fa.functions, &fb.functions),
        flag(fa.owning == fb.owning),
        flag(fa.quantifiers == fb.quantifiers),
        flag(fa.modals == fb.modals),
        flag(fa.superlatives == fb.superlatives),
        flag(fa.times == fb.times),
        content.len() as f32,
        shared_content,
        apart(pair, &content),
        a.known.min(b.known),
        flag(fa.quoted == fb.quoted),
        common_ends(a, b, false),
        common_ends(a, b, true),
        flag(a.words.first().map(|word| word.stem) == b.words.first().map(|word| word.stem)),
        flag(fa.counts || fb.counts),
        content_count(a),
        content_count(b),
        covered.0.min(covered.1),
        left_a.1.min(left_b.1),
    ]
}

/// How many pairs of shared words stand the other way round.
fn inversions(pairs: &[(usize, usize)]) -> usize {
    pairs.iter().enumerate().map(|(n, (_, j))| pairs[n + 1..].iter().filter(|(_, l)| l < j).count()).sum()
}

fn flag(is: bool) -> f32 {
    if is { 1.0 } else { 0.0 }
}

fn tally(left: &[Left<'_>]) -> (f32, f32) {
    left.iter()
        .fold((0.0, 0.0), |(sum, most), left| (sum + left.word.weight, f32::max(most, left.word.weight)))
}

/// The share of two sorted lists of words that is in both.
fn jaccard(a: &[WordId], b: &[WordId]) -> f32 {
    let shared = a.iter().filter(|word| b.binary_search(word).is_ok()).count() as f32;
    let all = (a.len() + b.len()) as f32 - shared;
    if all == 0.0 { 1.0 } else { shared / all }
}

/// The share of two sorted lists that is in both.
fn overlap(a: &[u32], b: &[u32]) -> f32 {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                shared += 1;
                i += 1;
                j += 1;
            }
        }
    }
    let all = a.len() + b.len() - shared;
    if all == 0 { 1.0 } else { shared as f32 / all as f32 }
}

/// The length of the longest run of pairs that is in order on both sides.
fn longest_rising(pairs: &[(usize, usize)]) -> usize {
    let mut ends: Vec<usize> = Vec::new();
    for (_, j) in pairs {
        let at = ends.partition_point(|end| end < j);
        if at == ends.len() { ends.push(*j) } else { ends[at] = *j }
    }
    ends.len()
}

/// How many shared words are bound by other function words than on the other side.
fn apart(pair: &Comparison<'_>, content: &[(usize, usize)]) -> f32 {
    let bound = |words: &[Word], at: usize| {
        let says = |word: &&Word| !matches!(word.form.as_str(), "the" | "a" | "an" | "my" | "our" | "your");
        let before = words[..at].iter().rev().find(says)?;
        before.is_in(sides::BINDING).then_some(before.id)
    };
    let apart = content.iter().filter(|(i, j)| {
        let (x, y) = (bound(&pair.asked.words, *i), bound(&pair.known.words, *j));
        x.is_some() && y.is_some() && x != y
    });
    apart.count() as f32
}

/// The share of words that both begin or end with.
fn common_ends(a: &Question, b: &Question, from_the_end: bool) -> f32 {
    let least = a.words.len().min(b.words.len()).max(1);
    let same = |(x, y): &(&Word, &Word)| x.stem == y.stem;
    let count = if from_the_end {
        a.words.iter().rev().zip(b.words.iter().rev()).take_while(same).count()
    } else {
        a.words.iter().zip(&b.words).take_while(same).count()
    };
    count as f32 / least as f32
}
