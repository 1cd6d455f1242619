//! What two questions share, and in what they differ.

use super::lexicon::{Relation, relation};
use super::question::{Question, Word};

/// A word that the other side does not have, and the best that it has instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) word: &'a Word,
    pub(super) instead: Relation,
}

/// Two questions side by side.
pub(super) struct Comparison<'a> {
    pub(super) asked: &'a Question,
    pub(super) known: &'a Question,
    /// Pairs of places of words that are the same, misspellings included.
    pub(super) same: Vec<(usize, usize)>,
    pub(super) typos: usize,
    /// How many pairs of words may mean the same.
    pub(super) synonyms: usize,
    /// How many pairs there are of which one is derived from the other.
    pub(super) derived: usize,
    /// What is left of each.
    pub(super) asked_left: Vec<Left<'a>>,
    pub(super) known_left: Vec<Left<'a>>,
    /// The same before synonyms were set off: how many words, what they weigh, the heaviest.
    pub(super) unlike: [(usize, f32, f32); 2],
}

impl<'a> Comparison<'a> {
    pub(super) fn new(asked: &'a Question, known: &'a Question) -> Self {
        let mut used = (vec![false; asked.words.len()], vec![false; known.words.len()]);
        let mut same = Vec::with_capacity(asked.words.len());
        // The nearest place first: a word that is said twice pairs with its own.
        for (i, word) in asked.words.iter().enumerate() {
            let found = (0..known.words.len())
                .filter(|j| !used.1[*j] && known.words[*j].stem == word.stem)
                .min_by_key(|j| j.abs_diff(i));
            if let Some(j) = found {
                (used.0[i], used.1[j]) = (true, true);
                same.push((i, j));
            }
        }
        let typos = pair(asked, known, &mut used, is_typo);
        let unlike = [tally(&asked.words, &used.0), tally(&known.words, &used.1)];
        let mut related = |wanted| {
            let is_pair = |a: &Word, b: &Word| relation(a.meaning(), b.meaning()) == wanted;
            pair(asked, known, &mut used, is_pair).len()
        };
        let (synonyms, derived) = (related(Relation::Synonyms), related(Relation::Derived));
        let left = |of: &'a Question, used: &[bool], others: &'a Question, other_used: &[bool]| {
            let places = (0..of.words.len()).filter(|at| !used[*at] && of.words[*at].is_content());
            places
                .map(|at| {
                    let word = &of.words[at];
                    let rest = (0..others.words.len()).filter(|at| !other_used[*at]);
                    let instead = rest.map(|at| relation(word.meaning(), others.words[at].meaning())).max();
                    Left { word, instead: instead.unwrap_or(Relation::None) }
                })
                .collect::<Vec<_>>()
        };
        let asked_left = left(asked, &used.0, known, &used.1);
        let known_left = left(known, &used.1, asked, &used.0);
        let typo_count = typos.len();
        same.extend(typos);
        same.sort_unstable();
        Self { asked, known, same, typos: typo_count, synonyms, derived, asked_left, known_left, unlike }
    }
}

/// Pairs content words that are not used yet.
fn pair(
    asked: &Question,
    known: &Question,
    used: &mut (Vec<bool>, Vec<bool>),
    is_pair: impl Fn(&Word, &Word) -> bool,
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (i, word) in asked.words.iter().enumerate() {
        if used.0[i] || !word.is_content() {
            continue;
        }
        let found = (0..known.words.len()).find(|j| {
            let other = &known.words[*j];
            !used.1[*j] && other.is_content() && is_pair(word, other)
        });
        if let Some(j) = found {
            (used.0[i], used.1[j]) = (true, true);
            pairs.push((i, j));
        }
    }
    pairs
}

fn tally(words: &[Word], used: &[bool]) -> (usize, f32, f32) {
    let left = words.iter().zip(used).filter(|(word, used)| !**used && word.is_content());
    left.fold((0, 0.0, 0.0), |(count, sum, most), (word, _)| {
        (count + 1, sum + word.weight, f32::max(most, word.weight))
    })
}

/// Whether two words stand on both sides of an "and", so that their order says nothing.
pub(super) fn joined(words: &[Word], one: usize, other: usize) -> bool {
    const JOINING: [&str; 4] = ["and", "or", "versus", "with"];
    let between = &words[one.min(other) + 1..one.max(other)];
    between.len() <= 4 && between.iter().any(|word| JOINING.contains(&word.form.as_str()))
}

/// Prefixes that turn a word around.
pub(super) const TURNING: [&str; 8] = ["un", "dis", "in", "im", "ir", "non", "de", "mis"];

/// Whether one is the other misspelt: nearly the same letters, and one of them is not a word.
fn is_typo(a: &Word, b: &Word) -> bool {
    const LEAST: usize = 4;
    const ALIKE: f32 = 0.74;
    if a.form.len() < LEAST || b.form.len() < LEAST || a.is_known == b.is_known {
        return false;
    }
    let turns =
        |one: &str, other: &str| one.strip_suffix(other).is_some_and(|prefix| TURNING.contains(&prefix));
    !turns(&a.form, &b.form) && !turns(&b.form, &a.form) && alike(&a.form, &b.form) >= ALIKE
}

/// One less the share of letters that must be changed, swapped neighbours counting once.
fn alike(a: &str, b: &str) -> f32 {
    const MOST: usize = 24;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(MOST).collect(), b.chars().take(MOST).collect());
    let longest = a.len().max(b.len());
    if longest == 0 || a.len().abs_diff(b.len()) * 4 > longest {
        return 0.0;
    }
    let mut rows = [[0usize; MOST + 1]; 3];
    for (j, cell) in rows[1].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    1.0 - rows[1][b.len()] as f32 / longest as f32
}
