//! Lists of words that mean something to the guards.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A place in the table of opposites: which line, and which side of it.
pub(super) type Side = (u16, u8);

/// Each word of the table, with every place where it stands.
static OPPOSITES: LazyLock<HashMap<&'static str, Vec<Side>>> = LazyLock::new(|| {
    let mut places: HashMap<&'static str, Vec<Side>> = HashMap::new();
    let lines = include_str!("words/opposites.txt").lines().filter(|line| !line.starts_with('#'));
    for (line, text) in (0..).zip(lines) {
        for (side, words) in (0..).zip(text.split('|')) {
            for word in words.split_whitespace() {
                places.entry(word).or_default().push((line, side));
            }
        }
    }
    places
});

/// Where `word` stands in the table of opposites.
pub(super) fn of(word: &str) -> &'static [Side] {
    OPPOSITES.get(word).map_or(&[], Vec::as_slice)
}

/// Whether two words stand on different sides of a line.
pub(super) fn are_opposite(one: &[Side], other: &[Side]) -> bool {
    one.iter().any(|(line, side)| other.iter().any(|(same, opposite)| line == same && side != opposite))
}

/// A list of words, as a bit of [`Lists`].
#[derive(Clone, Copy, Debug)]
pub(super) struct List(u32);

/// The lists that a word is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists(u32);

impl Lists {
    /// The lists that have `word`.
    pub(super) fn of(word: &str) -> Self {
        LISTS.get(word).copied().unwrap_or_default()
    }

    /// Whether `list` is one of them.
    pub(super) fn has(self, list: List) -> bool {
        self.0 & list.0 != 0
    }
}

macro_rules! lists {
    ($($(#[$about:meta])* $bit:literal $name:ident = $words:literal;)+) => {
        $($(#[$about])* pub(super) const $name: List = List(1 << $bit);)+

        /// Each word, with the lists that have it.
        static LISTS: LazyLock<HashMap<&'static str, Lists>> = LazyLock::new(|| {
            let mut lists: HashMap<&'static str, Lists> = HashMap::new();
            for (list, words) in [$(($name, $words)),+] {
                for word in words.split_whitespace() {
                    lists.entry(word).or_default().0 |= list.0;
                }
            }
            lists
        });
    };
}

lists! {
    /// Words that hold a sentence together, or are said in any sentence.
    0 FUNCTION = "a an the is are was were be been being am do does did done doing to of in on at for from by with and
        or as it its this that these those there here i me my mine we us our you your yours he she him his her they
        them their can could would should will shall may might must have has had having what which who whom whose
        when where why how if then than so such about into onto over under up down out off some any all one s t
        please want like get got let need know give show much many also just actually really currently now again too
        very ever still yet already back away through during while until since before after between both either each
        every other another same no not nor neither never without per via onto across against along around within
        upon toward towards because though although however etc something anything someone anyone everything
        everyone somewhere thing things stuff go going";
    /// What is counted.
    1 UNITS = "db % usd eur gbp jpy chf cad aud nzd inr cny mxn sek nok dkk pln hkd sgd minute second hour day week
        month year kilometer meter centimeter millimeter mile inch foot yard pound kilogram gram ounce stone liter
        milliliter gallon pint cup tablespoon teaspoon gb mb tb kb hz khz ms bpm am pm celsius fahrenheit degree
        semitone k kelvin";
    /// Words that tell English from its neighbours.
    2 ENGLISH = "the is are what how which who why when where does did can could would should will of and to for from
        with my your it this that be have not there versus at by any get";
    /// What turns a sentence around.
    3 NEGATIONS = "not no never none nothing without nobody neither nor hardly except excluding";
    /// Verbs that turn what follows around.
    4 SHUNNING = "avoid avoiding exclude excludes excluding excluded stop except prevent unable refuse ban bans banned
        prohibited forbidden";
    /// Languages, spoken and written.
    5 LANGUAGES = "english french spanish german italian japanese portuguese dutch polish korean swedish chinese
        mandarin cantonese hindi arabic russian turkish greek latin tamil telugu bengali urdu norwegian danish
        finnish czech hebrew thai vietnamese ukrainian romanian hungarian indonesian malay swahili catalan welsh
        irish icelandic persian farsi python rust java javascript typescript kotlin swift ruby golang php scala
        haskell perl c++ c# f# sql bash cobol fortran julia lua elixir clojure erlang matlab";
    /// Days, months, seasons and parts of the day.
    6 DATES = "monday tuesday wednesday thursday friday saturday sunday january february march april june july august
        september october november december today tomorrow yesterday tonight weekend christmas easter spring summer
        fall autumn winter noon midnight morning afternoon evening";
    /// Whose it is.
    7 OWNERS = "my our their his her";
    /// Whose it is, for the score.
    8 OWNING = "my our your his her their its mine ours yours company joint personal";
    /// When it is, next to something else.
    9 MOMENTS = "before after during until since while";
    /// The same, for the score.
    10 TIMES = "before after during until since while now already yet still currently";
    /// How many are meant.
    11 QUANTIFIERS = "all any some every each only most both either few several none just other another else";
    /// Whether one can, must or would.
    12 MODALS = "can should must need have would will may might could";
    /// What singles one out.
    13 SUPERLATIVES = "first last latest best worst most least next previous recent only main average total top";
    /// What begins a question that is answered by yes or no.
    14 AUXILIARIES = "is are was were do does did can could will would should shall may might must has have had am any";
    /// Words that bind the next one.
    15 BINDING = "from to into before after than by over under behind for against with without between via";
}
