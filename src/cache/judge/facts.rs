//! [`Facts`]: what a question says that must be the same in another, gathered once.

use super::question::{Kind, Word, WordId, word_id};
use super::sides::{self, List};

/// How many words behind a question's first few are looked at for what it asks.
const WH: [&str; 14] = [
    "how many",
    "how much",
    "how long",
    "how old",
    "how far",
    "how often",
    "how",
    "why",
    "when",
    "where",
    "who",
    "whose",
    "which",
    "what",
];

/// What a question says that must be the same in another. All lists are sorted, so that they can be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Spellings that must be the same.
    pub(super) telling: Vec<WordId>,
    pub(super) signs: Vec<WordId>,
    pub(super) quoted: Vec<WordId>,
    /// But for 1: a thing is one thing.
    pub(super) numbers: Vec<WordId>,
    pub(super) all_numbers: Vec<WordId>,
    /// Numbers in order, each with the word before.
    pub(super) numbers_in_order: Vec<(WordId, WordId)>,
    pub(super) bounds: Vec<(Bound, WordId)>,
    /// Numbers by which something changes, and to which.
    pub(super) changes_by: Vec<WordId>,
    pub(super) changes_to: Vec<WordId>,
    pub(super) units: Vec<WordId>,
    /// Numbers with their units.
    pub(super) measures: Vec<(WordId, WordId)>,
    pub(super) dates: Vec<WordId>,
    pub(super) languages: Vec<WordId>,
    pub(super) owners: Vec<WordId>,
    pub(super) moments: Vec<WordId>,
    pub(super) roles: Vec<(Role, WordId)>,
    pub(super) negations: usize,
    /// Whether it has a verb that turns what follows around.
    pub(super) shuns: bool,
    /// Whether a number of things is asked for, and not the things.
    pub(super) counts: bool,
    /// Whether it asks if all are so, and whether it speaks of only some.
    pub(super) extent: (bool, bool),
    pub(super) is_yes_no: bool,
    pub(super) wh: Option<&'static str>,
    /// The stems of all its words.
    pub(super) stems: Vec<WordId>,
    /// The words around each word, articles and owners left out; 0 is the end of the text.
    pub(super) neighbours: Vec<(WordId, WordId)>,
    pub(super) owning: Vec<WordId>,
    pub(super) quantifiers: Vec<WordId>,
    pub(super) modals: Vec<WordId>,
    pub(super) superlatives: Vec<WordId>,
    pub(super) times: Vec<WordId>,
    pub(super) functions: Vec<WordId>,
}

/// What bounds a number: "at least 5".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bound {
    AtLeast,
    AtMost,
    MoreThan,
    LessThan,
    Since,
    Before,
    After,
}

/// Which part a word plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    From,
    To,
    Than,
    By,
    Before,
    After,
    When,
    Over,
    Under,
    Against,
    Via,
    Replacing,
}

impl Facts {
    pub(super) fn new(words: &[Word], quoted: Vec<WordId>, mut telling: Vec<WordId>) -> Self {
        telling.sort_unstable();
        telling.dedup();
        let ids = |keep: &dyn Fn(&Word) -> bool| {
            sorted(words.iter().filter(|word| keep(word)).map(|word| word.id).collect())
        };
        let listed = |list: List| ids(&|word| word.is_in(list));
        let is_number = |word: &Word| word.kind == Kind::Number;
        let mut numbers: Vec<WordId> =
            words.iter().filter(|word| is_number(word)).map(|word| word.id).collect();
        numbers.sort_unstable();
        let has = |form: &str| words.iter().any(|word| word.is(form));
        let is_yes_no = words.first().is_some_and(|word| word.is_in(sides::AUXILIARIES));
        Self {
            telling,
            signs: words.iter().filter(|word| word.kind == Kind::Sign).map(|word| word.id).collect(),
            quoted,
            numbers: numbers.iter().copied().filter(|number| *number != word_id("1")).collect(),
            all_numbers: numbers,
            numbers_in_order: numbers_in_order(words),
            bounds: bounds(words),
            changes_by: numbers_behind(words, &["by"]),
            changes_to: numbers_behind(words, &["to", "at"]),
            units: sorted(words.iter().filter(|word| word.kind == Kind::Unit).map(unit).collect()),
            measures: measures(words),
            dates: listed(sides::DATES),
            languages: listed(sides::LANGUAGES),
            owners: listed(sides::OWNERS),
            moments: listed(sides::MOMENTS),
            roles: roles(words),
            negations: words.iter().filter(|word| word.is_in(sides::NEGATIONS)).count(),
            shuns: words.iter().any(|word| word.is_in(sides::SHUNNING)),
            counts: counts(words),
            extent: (is_yes_no && (has("all") || has("every") || has("each")), has("only")),
            is_yes_no,
            wh: first_wh(words),
            stems: sorted(words.iter().map(|word| word.stem).collect()),
            neighbours: neighbours(words),
            owning: listed(sides::OWNING),
            quantifiers: listed(sides::QUANTIFIERS),
            modals: listed(sides::MODALS),
            superlatives: ids(&|word| {
                word.is_in(sides::SUPERLATIVES) || (word.form.len() > 5 && word.form.ends_with("est"))
            }),
            times: listed(sides::TIMES),
            functions: ids(&|word| word.kind == Kind::Function),
        }
    }

    /// The words that play this part.
    pub(super) fn players(&self, role: Role) -> impl Iterator<Item = WordId> {
        let begin = self.roles.partition_point(|(other, _)| *other < role);
        self.roles[begin..].iter().take_while(move |(other, _)| *other == role).map(|(_, word)| *word)
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

/// A unit; pounds of money and of weight are told apart by nobody.
fn unit(word: &Word) -> WordId {
    if word.is("gbp") { word_id("pound") } else { word.id }
}

fn numbers_in_order(words: &[Word]) -> Vec<(WordId, WordId)> {
    let numbers = words.iter().enumerate().filter(|(_, word)| word.kind == Kind::Number);
    numbers.map(|(at, word)| (word.id, at.checked_sub(1).map_or(0, |before| words[before].stem))).collect()
}

fn numbers_behind(words: &[Word], prepositions: &[&str]) -> Vec<WordId> {
    let pairs = words
        .windows(2)
        .filter(|pair| pair[1].kind == Kind::Number && prepositions.contains(&pair[0].form.as_str()));
    sorted(pairs.map(|pair| pair[1].id).collect())
}

fn measures(words: &[Word]) -> Vec<(WordId, WordId)> {
    let pairs = words.windows(2).filter(|pair| pair[0].kind == Kind::Number && pair[1].kind == Kind::Unit);
    sorted(pairs.map(|pair| (pair[0].id, unit(&pair[1]))).collect())
}

fn bounds(words: &[Word]) -> Vec<(Bound, WordId)> {
    use Bound::{After, AtLeast, AtMost, Before, LessThan, MoreThan, Since};
    const BOUNDS: [(Bound, &[&str]); 23] = [
        (AtLeast, &["at", "least"]),
        (AtLeast, &["no", "less", "than"]),
        (AtLeast, &["no", "fewer", "than"]),
        (AtLeast, &["minimum", "of"]),
        (AtMost, &["at", "most"]),
        (AtMost, &["no", "more", "than"]),
        (AtMost, &["maximum", "of"]),
        (AtMost, &["up", "to"]),
        (MoreThan, &["more", "than"]),
        (MoreThan, &["greater", "than"]),
        (MoreThan, &["higher", "than"]),
        (MoreThan, &["larger", "than"]),
        (MoreThan, &["over"]),
        (MoreThan, &["above"]),
        (MoreThan, &["exceeding"]),
        (LessThan, &["less", "than"]),
        (LessThan, &["fewer", "than"]),
        (LessThan, &["lower", "than"]),
        (LessThan, &["under"]),
        (LessThan, &["below"]),
        (Since, &["since"]),
        (Before, &["before"]),
        (After, &["after"]),
    ];
    if words.iter().all(|word| word.kind != Kind::Number) {
        return Vec::new();
    }
    let words: Vec<&Word> = words.iter().filter(|word| !word.is("a")).collect();
    let is_number = |at: usize| words.get(at).is_some_and(|word| word.kind == Kind::Number);
    let is = |at: usize, form: &str| words.get(at).is_some_and(|word| word.is(form));
    let is_time = |at: usize| ["second", "minute", "hour", "ms", "bar"].iter().any(|unit| is(at, unit));
    let mut found = Vec::new();
    for at in 0..words.len() {
        for (bound, phrase) in BOUNDS {
            let end = at + phrase.len();
            let same = phrase.iter().zip(at..).all(|(form, at)| is(at, form));
            // "over 15 seconds" is how long, not a bound.
            if same && is_number(end) && !(phrase == ["over"] && is_time(end + 1)) {
                found.push((bound, words[end].id));
            }
        }
        let behind = |forms: &[&str]| {
            (at + 1..at + 3).any(|or| is(or, "or") && forms.iter().any(|form| is(or + 1, form)))
        };
        if is_number(at) && behind(&["more", "above", "over"]) {
            found.push((AtLeast, words[at].id));
        }
        if is_number(at) && behind(&["less", "fewer", "below", "under"]) {
            found.push((AtMost, words[at].id));
        }
    }
    // The longer phrase tells: "no more than 5" holds "more than 5".
    let whole = found.clone();
    found.retain(|(bound, number)| match bound {
        MoreThan => !whole.contains(&(AtMost, *number)),
        LessThan => !whole.contains(&(AtLeast, *number)),
        _ => true,
    });
    sorted(found)
}

/// Whether a number of things is asked for, and not the things.
fn counts(words: &[Word]) -> bool {
    words.windows(3).any(|three| {
        let is = |forms: [&str; 3]| three.iter().zip(forms).all(|(word, form)| word.is(form));
        // "How many miles are in ..." asks for a size.
        let how_many = three[0].is("how") && three[1].is("many") && three[2].kind != Kind::Unit;
        how_many || is(["the", "number", "of"]) || is(["total", "number", "of"]) || is(["the", "count", "of"])
    })
}

/// The question word that comes first.
fn first_wh(words: &[Word]) -> Option<&'static str> {
    (0..words.len()).find_map(|at| {
        WH.into_iter().find(|wh| {
            let mut forms = wh.split(' ').zip(&words[at..]);
            words.len() - at >= wh.split(' ').count() && forms.all(|(form, word)| word.is(form))
        })
    })
}

fn role(form: &str) -> Option<Role> {
    Some(match form {
        "from" | "leaving" | "leave" | "leaves" | "departs" | "departing" => Role::From,
        "to" | "into" | "onto" | "toward" | "towards" | "reach" => Role::To,
        "than" => Role::Than,
        "by" => Role::By,
        "before" => Role::Before,
        "after" | "behind" => Role::After,
        "when" | "whenever" => Role::When,
        "over" | "above" => Role::Over,
        "under" | "below" => Role::Under,
        "against" => Role::Against,
        "via" | "through" => Role::Via,
        "replacing" => Role::Replacing,
        _ => return None,
    })
}

/// What each marker is said of: the content words behind it, up to the next function word.
fn roles(words: &[Word]) -> Vec<(Role, WordId)> {
    const LEAVING: [&str; 8] =
        ["leave", "leaves", "leaving", "depart", "departs", "departing", "bound", "heading"];
    let mut roles = Vec::new();
    let mut marker: Option<(Role, bool)> = None;
    for (at, word) in words.iter().enumerate() {
        let leaves = || {
            let before = &words[at.saturating_sub(4)..at];
            before.iter().any(|word| LEAVING.contains(&word.form.as_str()))
        };
        if word.is("for") && leaves() {
            marker = Some((Role::To, false));
        } else if let Some(role) = role(&word.form) {
            // "When is ..." asks, and says nothing of what follows.
            marker = (at > 0 || role != Role::When).then_some((role, false));
        } else if word.is_in(sides::DATES) {
            marker = None;
        } else if let Some((role, begun)) = marker {
            match word.kind {
                Kind::Content => {
                    roles.push((role, word.stem));
                    marker = Some((role, true));
                }
                Kind::Function
                    if begun || !matches!(word.form.as_str(), "the" | "a" | "an" | "my" | "our" | "your") =>
                {
                    marker = None;
                }
                _ => {}
            }
        }
    }
    sorted(roles)
}

fn neighbours(words: &[Word]) -> Vec<(WordId, WordId)> {
    let says = |word: &&Word| !matches!(word.form.as_str(), "the" | "a" | "an" | "my" | "our" | "your");
    (0..words.len())
        .map(|at| {
            let before = words[..at].iter().rev().find(says).map_or(0, |word| word.stem);
            let after = words[at + 1..].iter().find(says).map_or(0, |word| word.stem);
            (before, after)
        })
        .collect()
}
