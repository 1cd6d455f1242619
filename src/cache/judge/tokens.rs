//! From a text to its tokens: words, numbers and signs, in lower case, with what the case said.

/// What a token is, by its letters alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Letters.
    Word,
    /// A number, with its sign: `-2.5`, `10:30`.
    Number,
    /// Letters and digits in one: `b12`, `7a`, `h264`.
    Mixed,
    /// A sign that means something: `+`, `%`, an emoji.
    Sign,
    /// A sign that only parts words.
    Mark,
    /// An opening or closing quote.
    Quote,
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// In lower case.
    pub(super) form: String,
    pub(super) shape: Shape,
    /// It follows the one before without a space.
    pub(super) glued: bool,
    /// It begins with a capital, and not because a sentence does.
    pub(super) is_name: bool,
    /// Its spelling where the case tells it from others: `-V`, `aGVs8`, `US`.
    pub(super) telling: Option<String>,
}

impl Token {
    pub(super) fn word(form: &str, glued: bool) -> Self {
        let shape = if form.chars().all(|c| c.is_ascii_digit()) { Shape::Number } else { Shape::Word };
        Self { form: form.to_owned(), shape, glued, is_name: false, telling: None }
    }

    pub(super) fn is_mark(&self) -> bool {
        matches!(self.shape, Shape::Mark | Shape::Quote)
    }
}

/// Words that hold a sign.
const WITH_SIGNS: [&str; 5] = ["c++", "c#", "f#", ".net", "g++"];

/// Cuts a text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let text = plain_quotes(text);
    let shouting = is_shouting(&text);
    let titled = is_titled(&text);
    let characters: Vec<char> = text.chars().collect();
    let mut tokens: Vec<Token> = Vec::with_capacity(characters.len() / 4);
    let mut at = 0;
    let mut glued = false;
    while at < characters.len() {
        if characters[at].is_whitespace() || is_invisible(characters[at]) {
            glued = false;
            at += 1;
            continue;
        }
        let end = end_of_token(&characters, at);
        let raw: String = characters[at..end].iter().collect();
        let begins = tokens.last().is_none_or(|last| matches!(last.form.as_str(), "." | "?" | "!" | ":"));
        let mut token = token(&raw, glued, begins, shouting);
        // "bus A", "vitamin C": a letter that is a name.
        let is_letter = raw.len() == 1 && raw != "I" && raw.chars().all(|c| c.is_ascii_uppercase());
        let says_nothing = begins || shouting || (titled && raw == "A");
        if is_letter && !says_nothing && characters.get(end) != Some(&'.') {
            token.shape = Shape::Mixed;
        }
        tokens.push(token);
        glued = true;
        at = end;
    }
    mark_operators(&mut tokens);
    tokens
}

/// `-`, `/` and `*` are signs beside a number, and mere marks between words.
fn mark_operators(tokens: &mut [Token]) {
    for at in 0..tokens.len() {
        let numeric = |at: Option<usize>| {
            at.and_then(|at| tokens.get(at)).is_some_and(|token| token.shape == Shape::Number)
        };
        let is_operator = matches!(tokens[at].form.as_str(), "-" | "/" | "*" | "|" | "~");
        let between = numeric(at.checked_sub(1)) && (numeric(Some(at + 1)) || tokens[at].form != "-");
        if is_operator && between {
            tokens[at].shape = Shape::Sign;
        }
    }
}

fn plain_quotes(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' | '´' => '\'',
            '“' | '”' | '„' | '«' | '»' => '"',
            '–' | '—' | '−' | '‐' | '‑' => '-',
            other => other,
        })
        .collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{2060}')
}

/// A text all in capitals says nothing by them.
fn is_shouting(text: &str) -> bool {
    let (mut upper, mut lower) = (0, 0);
    for c in text.chars() {
        upper += usize::from(c.is_uppercase());
        lower += usize::from(c.is_lowercase());
    }
    upper > 3 && lower * 8 < upper
}

/// A text Whose Words Begin With Capitals says nothing by them.
fn is_titled(text: &str) -> bool {
    let words = || text.split_whitespace().filter(|word| word.starts_with(char::is_alphabetic));
    let capital = words().filter(|word| word.starts_with(char::is_uppercase)).count();
    capital > 2 && capital * 3 > words().count() * 2
}

fn end_of_token(characters: &[char], from: usize) -> usize {
    let rest = &characters[from..];
    for known in WITH_SIGNS {
        let length = known.chars().count();
        let same = rest.len() >= length
            && rest.iter().zip(known.chars()).all(|(a, b)| a.to_lowercase().eq(b.to_lowercase()));
        if same && rest.get(length).is_none_or(|next| !next.is_alphanumeric()) {
            return from + length;
        }
    }
    let first = rest[0];
    let previous = from.checked_sub(1).map(|at| characters[at]);
    let next = |at: usize| characters.get(at).copied();
    let is_signed = first == '-'
        && !previous.is_some_and(|c| c.is_alphanumeric() || c == ')')
        && next(from + 1).is_some_and(char::is_alphanumeric);
    if !first.is_alphanumeric() && !is_signed {
        return from + 1;
    }
    let mut end = from + 1;
    while let Some(c) = next(end) {
        let (before, after) = (characters[end - 1], next(end + 1));
        let inside_number = matches!(c, '.' | ',' | ':' | '/')
            && before.is_ascii_digit()
            && after.is_some_and(|c| c.is_ascii_digit());
        let inside_word = c == '\'' && before.is_alphabetic() && after.is_some_and(char::is_alphabetic);
        // `req_8f3a` is one name, `well_known` as well.
        let inside_name = c == '_' && after.is_some_and(char::is_alphanumeric);
        // Scripts without spaces between words are read sign by sign.
        let new_sign = c.is_alphanumeric() && (is_ideographic(c) || is_ideographic(before));
        if (c.is_alphanumeric() && !new_sign) || inside_number || inside_word || inside_name {
            end += 1;
        } else {
            break;
        }
    }
    end
}

fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{0e00}'..='\u{0eff}')
}

fn token(raw: &str, glued: bool, begins: bool, shouting: bool) -> Token {
    let form = raw.to_lowercase();
    let has_digit = form.chars().any(char::is_numeric);
    let has_letter = form.chars().any(char::is_alphabetic);
    let shape = match (has_letter, has_digit) {
        (true, true) => Shape::Mixed,
        (true, false) => Shape::Word,
        (false, true) => Shape::Number,
        (false, false) => sign(&form),
    };
    let capital = raw.chars().next().is_some_and(char::is_uppercase);
    let is_name = capital && !begins && !shouting && raw != "I" && !raw.starts_with("I'");
    let telling = telling(raw, shape).filter(|_| !shouting || !raw.is_ascii());
    Token { form, shape, glued, is_name, telling }
}

fn sign(form: &str) -> Shape {
    match form {
        "\"" => Shape::Quote,
        "'" | "." | "," | ";" | ":" | "!" | "?" | "(" | ")" | "[" | "]" | "{" | "}" | "…" | "¿" | "¡"
        | "、" | "。" | "，" | "？" | "！" | "-" | "/" | "|" | "~" | "_" | "*" => Shape::Mark,
        _ => Shape::Sign,
    }
}

/// Where the spelling says what the encoder does not see: an option, a code, an accent, or an abbreviation that is a
/// common word otherwise.
fn telling(raw: &str, shape: Shape) -> Option<String> {
    let letters = raw.chars().filter(|c| c.is_alphabetic()).count();
    let upper = raw.chars().filter(|c| c.is_uppercase()).count();
    let lower = raw.chars().filter(|c| c.is_lowercase()).count();
    let is_option = raw.starts_with('-') && raw.chars().nth(1).is_some_and(char::is_alphabetic);
    let is_code = shape == Shape::Mixed && upper > 0 && lower > 0 && letters > 3;
    let is_abbreviation = lower == 0 && matches!(raw, "US" | "IT" | "WHO" | "AID" | "AIDS");
    // The encoder reads without accents: "papá" and "papa" are one to it.
    let is_accented = shape == Shape::Word && !raw.is_ascii();
    match is_accented {
        true => Some(raw.to_lowercase()),
        false => (is_option || is_code || is_abbreviation).then(|| raw.to_owned()),
    }
}
