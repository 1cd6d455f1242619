//! What English words mean to each other: synonyms, opposites, kinds of the same thing.

use super::question::WordId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::read(include_str!("words/lexicon.tsv")));

/// How two words are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    /// Not, as far as we know.
    None,
    /// Two kinds of the same thing: Monday and Tuesday.
    Siblings,
    /// One is a kind of the other: to raise and to increase.
    Kind,
    /// One is derived from the other: to teach and teacher.
    Derived,
    /// They may mean the same.
    Synonyms,
    /// They are opposites.
    Opposites,
}

/// A word by its place in the lexicon.
pub(super) type Lemma = u32;

struct Row {
    /// From 0 (never met in a corpus) to 9.
    common: u8,
    senses: Box<[u32]>,
    parents: Box<[u32]>,
    derived: Box<[u32]>,
    opposites: Box<[u32]>,
}

struct Lexicon {
    rows: Vec<Row>,
    by_word: HashMap<&'static str, Lemma>,
}

impl Lexicon {
    /// A word a line: `word TAB how common TAB senses TAB parents TAB derived TAB opposites`.
    fn read(text: &'static str) -> Self {
        let lines = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let word = |line: &'static str| line.split('\t').next().unwrap_or_default();
        let by_word: HashMap<_, _> = lines().zip(0..).map(|(line, at)| (word(line), at)).collect();
        let rows = lines()
            .map(|line| {
                let mut fields = line.split('\t').skip(1);
                let common = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
                let mut ids = || {
                    let field = fields.next().unwrap_or_default();
                    let mut ids: Vec<u32> =
                        field.split(',').filter_map(|id| u32::from_str_radix(id, 36).ok()).collect();
                    ids.sort_unstable();
                    ids.into_boxed_slice()
                };
                let (senses, parents, derived) = (ids(), ids(), ids());
                let opposites = fields.next().unwrap_or_default().split(',');
                let opposites = opposites.filter_map(|word| by_word.get(word).copied()).collect();
                Row { common, senses, parents, derived, opposites }
            })
            .collect();
        Self { rows, by_word }
    }
}

/// Endings, and what may stand in their place in the lexicon.
const ENDINGS: [(&str, &str); 16] = [
    ("ies", "y"),
    ("ied", "y"),
    ("ves", "f"),
    ("es", ""),
    ("es", "e"),
    ("s", ""),
    ("ing", ""),
    ("ing", "e"),
    ("ed", ""),
    ("ed", "e"),
    ("er", ""),
    ("er", "e"),
    ("est", ""),
    ("est", "e"),
    ("ier", "y"),
    ("iest", "y"),
];

const IRREGULAR: [(&str, &str); 38] = [
    ("children", "child"),
    ("women", "woman"),
    ("men", "man"),
    ("went", "go"),
    ("gone", "go"),
    ("bought", "buy"),
    ("sold", "sell"),
    ("took", "take"),
    ("taken", "take"),
    ("gave", "give"),
    ("given", "give"),
    ("sent", "send"),
    ("paid", "pay"),
    ("taught", "teach"),
    ("found", "find"),
    ("kept", "keep"),
    ("met", "meet"),
    ("made", "make"),
    ("built", "build"),
    ("won", "win"),
    ("lost", "lose"),
    ("began", "begin"),
    ("begun", "begin"),
    ("wrote", "write"),
    ("written", "write"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("better", "good"),
    ("best", "good"),
    ("worse", "bad"),
    ("worst", "bad"),
    ("spoke", "speak"),
    ("spoken", "speak"),
    ("ran", "run"),
    ("grew", "grow"),
    ("grown", "grow"),
    ("chose", "choose"),
    ("chosen", "choose"),
];

/// The words of the lexicon that `word` may be a form of.
pub(super) fn lemmas(word: &str) -> Vec<Lemma> {
    let lexicon = &*LEXICON;
    let mut found = Vec::new();
    let mut note = |word: &str| {
        if let Some(lemma) = lexicon.by_word.get(word)
            && !found.contains(lemma)
        {
            found.push(*lemma);
        }
    };
    note(word);
    for (form, base) in IRREGULAR {
        if form == word {
            note(base);
        }
    }
    for (ending, instead) in ENDINGS {
        let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() >= 2) else { continue };
        note(&format!("{stem}{instead}"));
        let mut ends = stem.bytes().rev();
        let (last, before) = (ends.next(), ends.next());
        if instead.is_empty() && last == before && stem.len() > 3 {
            note(&stem[..stem.len() - 1]);
        }
    }
    found
}

/// How common a word is, from 0 to 9.
pub(super) fn common(lemmas: &[Lemma]) -> Option<u8> {
    lemmas.iter().map(|lemma| LEXICON.rows[*lemma as usize].common).max()
}

/// Whether there is an opposite of any of them.
pub(super) fn have_opposites(lemmas: &[Lemma]) -> bool {
    lemmas.iter().any(|lemma| !LEXICON.rows[*lemma as usize].opposites.is_empty())
}

/// How many relations a thread remembers: 192 KiB.
const REMEMBERED: usize = 1 << 13;

thread_local! {
    /// The relations that were asked for of late, each where its pair's ids say. The same words are compared again and
    /// again, and to look a pair up takes a hundred times as long as to remember it.
    static RELATIONS: RefCell<Vec<(WordId, WordId, Relation)>> =
        RefCell::new(vec![(0, 0, Relation::None); REMEMBERED]);
}

/// How two words are related. Each comes with its lemmas.
pub(super) fn relation(a: (WordId, &[Lemma]), b: (WordId, &[Lemma])) -> Relation {
    if a.1.is_empty() || b.1.is_empty() {
        return Relation::None;
    }
    // It is the same either way.
    let (one, other) = (a.0.min(b.0), a.0.max(b.0));
    RELATIONS.with_borrow_mut(|remembered| {
        let place = (one ^ other.rotate_left(17)) as usize % REMEMBERED;
        let remembered = &mut remembered[place];
        if (remembered.0, remembered.1) != (one, other) {
            *remembered = (one, other, looked_up(a.1, b.1));
        }
        remembered.2
    })
}

/// How the words with these lemmas are related.
fn looked_up(a: &[Lemma], b: &[Lemma]) -> Relation {
    let rows = &LEXICON.rows;
    let mut best = Relation::None;
    for one in a {
        for other in b {
            if one == other {
                return Relation::Synonyms;
            }
            let (x, y) = (&rows[*one as usize], &rows[*other as usize]);
            if x.opposites.contains(other) || y.opposites.contains(one) {
                return Relation::Opposites;
            }
            best = best.max(if meet(&x.senses, &y.senses) {
                Relation::Synonyms
            } else if meet(&x.derived, &y.senses) || meet(&x.senses, &y.derived) {
                Relation::Derived
            } else if meet(&x.parents, &y.senses) || meet(&x.senses, &y.parents) {
                Relation::Kind
            } else if meet(&x.parents, &y.parents) {
                Relation::Siblings
            } else {
                Relation::None
            });
        }
    }
    best
}

/// Whether two sorted lists share anything.
fn meet(a: &[u32], b: &[u32]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}
