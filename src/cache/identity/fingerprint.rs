//! A digest of values, fed one after the other, so that no two different rows of values run together: each
//! says its kind and its length before it. Nothing is copied, however long it is.

use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Up to here every whole number is a float, and a float that looks whole is one.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// The kinds of values.
#[derive(Clone, Copy)]
enum Tag {
    None = 0,
    Some,
    False,
    True,
    Whole,
    Float,
    Text,
    Masked,
    List,
    Object,
    Absent,
}

/// A digest in the making.
#[derive(Default)]
pub(super) struct Fingerprint {
    hash: Sha256,
    /// Whether something was fed that means something to one protocol alone.
    dialectal: bool,
}

impl Fingerprint {
    pub(super) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }

    /// Whether something was fed that means something to one protocol alone.
    pub(super) fn is_dialectal(&self) -> bool {
        self.dialectal
    }

    fn tag(&mut self, tag: Tag) {
        self.hash.update([tag as u8]);
    }

    fn sized(&mut self, tag: Tag, size: usize) {
        self.tag(tag);
        self.hash.update((size as u64).to_le_bytes());
    }

    /// A list of so many values follows.
    pub(super) fn list(&mut self, length: usize) {
        self.sized(Tag::List, length);
    }

    /// Words.
    pub(super) fn text(&mut self, text: &str) {
        self.sized(Tag::Text, text.len());
        self.hash.update(text);
    }

    /// Another digest.
    pub(super) fn bytes(&mut self, bytes: &[u8; 32]) {
        self.hash.update(bytes);
    }

    /// Words with holes in them: what was in the holes does not count.
    pub(super) fn masked(&mut self, text: &str, holes: impl IntoIterator<Item = Range<usize>>) {
        match pieces(text, holes.into_iter().collect()).as_slice() {
            [whole] => self.text(whole),
            pieces => {
                self.sized(Tag::Masked, pieces.len());
                pieces.iter().for_each(|piece| self.text(piece));
            }
        }
    }

    /// The place of words that do not count here.
    pub(super) fn absent(&mut self) {
        self.tag(Tag::Absent);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.tag(if flag { Tag::True } else { Tag::False });
    }

    pub(super) fn whole(&mut self, number: i128) {
        self.tag(Tag::Whole);
        self.hash.update(number.to_le_bytes());
    }

    /// A number as it counts: 0.0 is 0.
    pub(super) fn number(&mut self, number: f64) {
        if number.fract() == 0.0 && number.abs() < WHOLE {
            return self.whole(number as i128);
        }
        self.tag(Tag::Float);
        self.hash.update(number.to_bits().to_le_bytes());
    }

    /// A value that may be missing.
    pub(super) fn option<T>(&mut self, value: Option<T>, feed: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.tag(Tag::None),
            Some(value) => {
                self.tag(Tag::Some);
                feed(self, value);
            }
        }
    }

    /// JSON, whatever order its keys are in and however its numbers are written.
    pub(super) fn value(&mut self, value: &Value) {
        self.value_with(value, &mut Self::text);
    }

    /// The same, with the strings in it fed by `text`.
    pub(super) fn value_with(&mut self, value: &Value, text: &mut impl FnMut(&mut Self, &str)) {
        match value {
            Value::Null => self.tag(Tag::None),
            Value::Bool(flag) => self.flag(*flag),
            Value::Number(number) => self.json_number(number),
            Value::String(string) => text(self, string),
            Value::Array(items) => {
                self.list(items.len());
                items.iter().for_each(|item| self.value_with(item, text));
            }
            Value::Object(fields) => self.object(fields.iter().collect(), text),
        }
    }

    fn object(&mut self, mut fields: Vec<(&String, &Value)>, text: &mut impl FnMut(&mut Self, &str)) {
        fields.sort_unstable_by_key(|(name, _)| *name);
        self.sized(Tag::Object, fields.len());
        for (name, value) in fields {
            self.text(name);
            self.value_with(value, text);
        }
    }

    fn json_number(&mut self, number: &Number) {
        match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => self.whole(whole),
            (None, Some(float)) => self.number(float),
            (None, None) => self.text(&number.to_string()),
        }
    }

    /// Fields that no codec knows, but for those that are `ignored`.
    pub(super) fn extra(&mut self, extra: &Map<String, Value>, ignored: &[&str]) {
        let counts = |(name, _): &(&String, &Value)| !ignored.contains(&name.as_str());
        let counting: Vec<_> = extra.iter().filter(counts).collect();
        self.dialectal |= !counting.is_empty();
        self.object(counting, &mut Self::text);
    }

    /// What came in a form that means something to its protocol alone.
    pub(super) fn opaque(&mut self, value: &Value) {
        self.dialectal = true;
        self.value(value);
    }
}

/// What is left of `text` around the holes: one piece more than there are holes, once those that touch or
/// overlap are one.
pub(super) fn pieces(text: &str, mut holes: Vec<Range<usize>>) -> Vec<&str> {
    holes.retain(|hole| !hole.is_empty());
    holes.sort_unstable_by_key(|hole| hole.start);
    let mut pieces = Vec::with_capacity(holes.len() + 1);
    let mut end = None;
    for hole in holes {
        // The holes were found in this text, so they cut it where it can be cut.
        match end {
            Some(end) if hole.start <= end => {}
            _ => pieces.push(text.get(end.unwrap_or(0)..hole.start).unwrap_or_default()),
        }
        end = end.max(Some(hole.end));
    }
    pieces.push(text.get(end.unwrap_or(0)..).unwrap_or_default());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(feed: impl FnOnce(&mut Fingerprint)) -> [u8; 32] {
        let mut fingerprint = Fingerprint::default();
        feed(&mut fingerprint);
        fingerprint.finish()
    }

    fn of(value: &Value) -> [u8; 32] {
        digest(|fingerprint| fingerprint.value(value))
    }

    #[test]
    fn how_it_is_written_does_not_count() {
        let read = |text: &str| of(&serde_json::from_str(text).unwrap());
        for (one, other) in [
            (r#"{"a":1,"b":[2,{"c":3,"d":null}]}"#, r#"{ "b" : [2.0, {"d":null, "c":3e0}], "a":1 }"#),
            ("0", "-0.0"),
            ("0.10", "1e-1"),
            ("9007199254740991", "9007199254740991.0"),
        ] {
            assert_eq!(read(one), read(other), "{one} / {other}");
        }
    }

    #[test]
    fn no_two_values_run_together() {
        let values = [
            json!(null),
            json!(false),
            json!(0),
            json!(0.5),
            json!(""),
            json!("0"),
            json!([]),
            json!([null]),
            json!([[]]),
            json!([[], []]),
            json!({}),
            json!({"a": null}),
            json!({"a": {}}),
            json!(["a", "b"]),
            json!(["ab"]),
            json!(["ab", ""]),
            json!({"a": "b"}),
            json!([{"a": "b"}]),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992_u64),
            json!(-1),
            json!(u64::MAX),
            json!("false"),
        ];
        let digests: std::collections::BTreeSet<_> = values.iter().map(of).collect();
        assert_eq!(digests.len(), values.len());
    }

    #[test]
    fn what_is_in_a_hole_does_not_count_and_that_there_is_one_does() {
        let masked = |text: &str, holes: &[(usize, usize)]| {
            digest(|f| f.masked(text, holes.iter().map(|(start, end)| *start..*end)))
        };
        let one = masked("at 12 o'clock", &[(3, 5)]);
        assert_eq!(one, masked("at 7 o'clock", &[(3, 4)]));
        assert_eq!(one, masked("at 123 o'clock", &[(4, 6), (3, 5), (5, 5)]));
        assert_ne!(one, masked("at  o'clock", &[]));
        assert_ne!(one, masked("at 12 o'clock", &[(3, 5), (6, 7)]));
        assert_eq!(pieces("abc", Vec::from([0..1, 2..3])), ["", "b", ""]);
        assert_eq!(masked("abc", &[(1, 1)]), masked("abc", &[]));
    }
}
