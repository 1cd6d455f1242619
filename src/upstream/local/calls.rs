//! Calls of tools in what a model writes, where it may call them and need not.

use serde_json::Value;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Llama 3 says so in front of some calls.
const TAG: &str = "<|python_tag|>";

/// How a model was taught to write calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, anywhere and as often as it likes (Hermes, Qwen).
    Tagged,
    /// The whole answer is `{"name": …, "parameters": {…}}`, or several of these (Llama 3).
    Bare,
}

impl Style {
    /// The style that a chat template teaches, where it knows of tools.
    pub(super) fn of(template: &str) -> Option<Self> {
        if !template.contains("tools") {
            return None;
        }
        let styles = [(OPEN, Self::Tagged), ("\"parameters\":", Self::Bare)];
        styles.into_iter().find(|(sign, _)| template.contains(sign)).map(|(_, style)| style)
    }
}

/// The call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    /// A JSON object.
    pub(super) arguments: String,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    Thought(String),
    Call(Call),
}

/// Looks for calls in a text that comes in pieces, and holds back what may be the beginning of one. What is none in the
/// end is text, to the letter.
pub(super) struct Calls {
    style: Style,
    names: Vec<String>,
    held: String,
    state: State,
    /// Space that is said only if words follow.
    blank: String,
    /// Whether anything was said, or called.
    begun: bool,
    /// Whether a call was the last thing that was heard.
    called: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    /// No call can come any more.
    Text,
}

impl Calls {
    /// Looks for calls of the tools called `names`.
    pub(super) fn new(style: Style, names: Vec<String>) -> Self {
        let (held, blank) = (String::new(), String::new());
        Self { style, names, held, state: State::Outside, blank, begun: false, called: false }
    }

    /// Adds `text`.
    pub(super) fn push(&mut self, text: &str) -> Vec<Heard> {
        self.held.push_str(text);
        let mut heard = Vec::new();
        match self.style {
            Style::Tagged => while self.step(&mut heard) {},
            Style::Bare => {
                if self.state == State::Text || !may_begin(&self.held) {
                    self.state = State::Text;
                    let text = std::mem::take(&mut self.held);
                    self.say(&text, &mut heard);
                }
            }
        }
        heard
    }

    /// What was held back, when no more comes.
    pub(super) fn finish(&mut self) -> Vec<Heard> {
        let (mut heard, held) = (Vec::new(), std::mem::take(&mut self.held));
        let calls = match (self.style, self.state) {
            // Some leave out the end.
            (Style::Tagged, State::Inside) => self.call(&held).map(|call| vec![call]),
            (Style::Bare, State::Outside) => self.all_calls(&held),
            _ => None,
        };
        match calls {
            Some(calls) => heard.extend(calls.into_iter().map(Heard::Call)),
            None if self.state == State::Inside => self.say(&format!("{OPEN}{held}"), &mut heard),
            None => self.say(&held, &mut heard),
        }
        // Space is all that it said.
        if !self.begun && heard.is_empty() && !self.blank.is_empty() {
            heard.push(Heard::Text(std::mem::take(&mut self.blank)));
        }
        heard
    }

    /// Takes a stretch of what is held. Whether there may be another.
    fn step(&mut self, heard: &mut Vec<Heard>) -> bool {
        if self.state == State::Inside {
            let Some(end) = self.held.find(CLOSE) else { return false };
            let rest = self.held.split_off(end + CLOSE.len());
            let inside = std::mem::replace(&mut self.held, rest);
            self.state = State::Outside;
            match self.call(&inside[..end]) {
                Some(call) => {
                    (self.begun, self.called) = (true, true);
                    self.blank.clear();
                    heard.push(Heard::Call(call));
                }
                None => self.say(&format!("{OPEN}{inside}"), heard),
            }
            return true;
        }
        if let Some(begin) = self.held.find(OPEN) {
            let rest = self.held.split_off(begin + OPEN.len());
            let mut text = std::mem::replace(&mut self.held, rest);
            text.truncate(begin);
            self.say(&text, heard);
            self.state = State::Inside;
            return true;
        }
        let begins = |at: &usize| OPEN.starts_with(&self.held[*at..]);
        let end = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(end);
        let text = std::mem::replace(&mut self.held, rest);
        self.say(&text, heard);
        false
    }

    /// Says `text`; space in front of words and between calls waits for the words.
    fn say(&mut self, text: &str, heard: &mut Vec<Heard>) {
        if text.trim().is_empty() && (!self.begun || self.called) {
            self.blank.push_str(text);
        } else if !text.is_empty() {
            (self.begun, self.called) = (true, false);
            heard.push(Heard::Text(std::mem::take(&mut self.blank) + text));
        }
    }

    fn call(&self, text: &str) -> Option<Call> {
        self.call_of(&serde_json::from_str(text).ok()?)
    }

    /// The call that `value` is, if it is one of a tool that there is.
    fn call_of(&self, value: &Value) -> Option<Call> {
        let function = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
        let name = function.get("name").or_else(|| function.get("function"))?.as_str()?;
        let arguments = match function.get("arguments").or_else(|| function.get("parameters")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => {
                serde_json::from_str::<Value>(text).ok().filter(Value::is_object)?.to_string()
            }
            Some(arguments) => Some(arguments).filter(|arguments| arguments.is_object())?.to_string(),
        };
        self.names.iter().any(|known| known == name).then(|| Call { name: name.to_owned(), arguments })
    }

    /// The calls that `text` is made of, if there is nothing else to it.
    fn all_calls(&self, text: &str) -> Option<Vec<Call>> {
        let mut rest = untagged(text);
        let mut calls = Vec::new();
        while !rest.is_empty() {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            calls.push(self.call_of(&values.next()?.ok()?)?);
            let separator = |c: char| c.is_whitespace() || matches!(c, ';' | ',');
            rest = untagged(rest[values.byte_offset()..].trim_start_matches(separator));
        }
        (!calls.is_empty()).then_some(calls)
    }
}

fn untagged(text: &str) -> &str {
    let text = text.trim_start();
    text.strip_prefix(TAG).unwrap_or(text).trim_start()
}

/// Whether `text` may become a bare call.
fn may_begin(text: &str) -> bool {
    const BEGINNINGS: [&str; 3] = ["{\"name\":", "{\"type\":\"function\"", "{\"function\":"];
    let text = text.trim_start();
    if TAG.starts_with(text) {
        return true;
    }
    let begun: String = untagged(text).chars().filter(|c| !c.is_whitespace()).take(20).collect();
    BEGINNINGS.iter().any(|known| known.starts_with(&begun) || begun.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hear(style: Style, pieces: &[&str]) -> Vec<Heard> {
        let mut calls = Calls::new(style, vec!["sky".to_owned(), "sea".to_owned()]);
        let mut heard: Vec<Heard> = pieces.iter().flat_map(|piece| calls.push(piece)).collect();
        heard.extend(calls.finish());
        let mut joined: Vec<Heard> = Vec::new();
        for one in heard {
            match (joined.last_mut(), one) {
                (Some(Heard::Text(before)), Heard::Text(text)) => before.push_str(&text),
                (_, one) => joined.push(one),
            }
        }
        joined
    }

    fn text(text: &str) -> Heard {
        Heard::Text(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> Heard {
        Heard::Call(Call { name: name.to_owned(), arguments: arguments.to_owned() })
    }

    const SKY: &str = "<tool_call>\n{\"name\": \"sky\", \"arguments\": {\"at\": \"</b>\"}}\n</tool_call>";

    #[test]
    fn a_tagged_call_is_heard_in_the_middle_of_words() {
        let said = format!("Let me look.\n{SKY}");
        assert_eq!(hear(Style::Tagged, &[&said]), [text("Let me look.\n"), call("sky", r#"{"at":"</b>"}"#)]);
        let two = format!("\n\n{SKY}\n<tool_call>{{\"name\": \"sea\"}}</tool_call>\n");
        assert_eq!(hear(Style::Tagged, &[&two]), [call("sky", r#"{"at":"</b>"}"#), call("sea", "{}")]);
        // Some leave out the end, or write the arguments as a text.
        let open = r#"<tool_call>{"name": "sea", "arguments": "{\"a\": 1}"}"#;
        assert_eq!(hear(Style::Tagged, &[open]), [call("sea", r#"{"a":1}"#)]);
    }

    #[test]
    fn what_may_become_a_call_is_held_back_and_what_does_not_is_said() {
        let mut calls = Calls::new(Style::Tagged, vec!["sky".to_owned()]);
        assert_eq!(calls.push("a <tool"), [text("a ")]);
        assert_eq!(calls.push("box> <tool_call>{"), [text("<toolbox> ")]);
        assert_eq!(calls.push("\"name\": 1}"), []);
        assert_eq!(calls.push("</tool_call> b"), [text("<tool_call>{\"name\": 1}</tool_call>"), text(" b")]);
        for malformed in [
            "<tool_call>{\"name\": \"sun\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"sky\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"sky\"",
            "<tool_call>",
            "<tool_",
            "  \n",
        ] {
            assert_eq!(hear(Style::Tagged, &[malformed]), [text(malformed)]);
        }
    }

    #[test]
    fn a_bare_call_is_the_whole_answer() {
        let sky = r#"{"name": "sky", "parameters": {"at": 1}}"#;
        let expected = call("sky", r#"{"at":1}"#);
        assert_eq!(hear(Style::Bare, &[sky]), std::slice::from_ref(&expected));
        assert_eq!(
            hear(Style::Bare, &[&format!("\n<|python_tag|>{sky}; {sky}")]),
            [expected.clone(), expected.clone()]
        );
        let function = r#"{"type": "function", "function": {"name": "sky", "parameters": {"at": 1}}}"#;
        assert_eq!(hear(Style::Bare, &[function]), [expected]);
        for other in [
            &format!("{sky} is it"),
            "{\"name\": \"sky\"",
            "{\"sky\": 1}",
            "The sky {",
            "{",
            r#"{"name": "sun"}"#,
        ] {
            assert_eq!(hear(Style::Bare, &[other]), [text(other)]);
        }
    }

    #[test]
    fn json_that_is_no_call_is_not_held_back() {
        let mut calls = Calls::new(Style::Bare, vec!["sky".to_owned()]);
        assert_eq!(calls.push("{ \"na"), []);
        assert_eq!(calls.push("tion\": "), [text("{ \"nation\": ")]);
        assert_eq!(calls.push("{\"name\": "), [text("{\"name\": ")]);
    }

    #[test]
    fn the_style_is_that_of_the_template() {
        assert_eq!(Style::of("{% if tools %}<tool_call>"), Some(Style::Tagged));
        assert_eq!(Style::of("{% if tools %}{\"name\": x, \"parameters\": y}"), Some(Style::Bare));
        assert_eq!(Style::of("{% if tools %}[TOOL_CALLS]"), None);
        assert_eq!(Style::of("<tool_call>"), None);
    }

    proptest! {
        #[test]
        fn what_is_heard_does_not_depend_on_how_text_is_split(
            parts in prop::collection::vec(prop_oneof![
                Just(SKY), Just("<tool_call>"), Just("</tool_call>"), Just("{\"name\": \"sea\"}"), Just("<to"), Just(" "),
                Just("\n"), Just("é"), Just("word"),
            ], 0..8),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let whole = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| whole.floor_char_boundary(cut)).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            for style in [Style::Tagged, Style::Bare] {
                prop_assert_eq!(hear(style, &pieces), hear(style, &[&whole]));
                let letters: Vec<String> = whole.chars().map(String::from).collect();
                let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
                prop_assert_eq!(hear(style, &letters), hear(style, &[&whole]));
            }
        }
    }
}
