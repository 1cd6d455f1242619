use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, json};
use std::sync::Arc;

/// Every byte, and what JSON is often written in.
fn vocabulary() -> (Arc<Vocabulary>, Vec<Vec<u8>>) {
    let longer = [
        "{\"", "\":", "\": ", "\", \"", "\"}", "},", "}]", "[]", "{}", "[[", "]]", "[\"", "\"]", "true",
        "false", "null", "name", "\n  ", "  ", ", ", "12", "00", ".5", "é", "\\u00", "hello", " world",
        "{\n", "\": [", "e1",
    ];
    let mut tokens = vec![b"<end>".to_vec()];
    tokens.extend((0..=u8::MAX).map(|byte| vec![byte]));
    tokens.extend(longer.iter().map(|token| token.as_bytes().to_vec()));
    let texts = tokens.iter().zip(0..).skip(1).map(|(bytes, id)| (id, bytes.as_slice()));
    (Arc::new(Vocabulary::new(tokens.len(), vec![0], texts)), tokens.clone())
}

/// An answer of at most `limit` tokens, drawn at random, and whether it was cut short.
fn written(grammar: Grammar, random: &mut StdRng, limit: usize) -> (String, bool) {
    let (vocabulary, tokens) = vocabulary();
    let mut constraint = Constraint::new(Arc::new(grammar), vocabulary);
    let (mut text, mut cut) = (Vec::new(), false);
    assert!(constraint.least() <= limit, "{limit} tokens are too few");
    for left in (1..=limit).rev() {
        if constraint.is_complete() {
            break;
        }
        let (mask, hurried) = constraint.mask(left);
        cut |= hurried;
        let allowed: Vec<u32> = mask.tokens().collect();
        assert!(!allowed.is_empty(), "nothing may follow {:?}", String::from_utf8_lossy(&text));
        let token = allowed[random.random_range(0..allowed.len())];
        if token == 0 {
            break;
        }
        text.extend_from_slice(&tokens[token as usize]);
        constraint.take(&tokens[token as usize]);
    }
    (String::from_utf8(text).unwrap(), cut)
}

fn fits(schema: &Value, text: &str) -> bool {
    let (vocabulary, _) = vocabulary();
    let Ok(grammar) = Grammar::of_schema(schema) else { panic!("{schema} is refused") };
    let mut constraint = Constraint::new(Arc::new(grammar), vocabulary);
    constraint.take(text.as_bytes());
    constraint.mask(10_000).0.has(0)
}

fn refusal(schema: &Value) -> String {
    Grammar::of_schema(schema).err().map(|refused| refused.to_string()).unwrap_or_default()
}

#[test]
fn json_mode_always_gives_an_object() {
    let mut random = StdRng::seed_from_u64(1);
    let mut cut = 0;
    for limit in 2..302 {
        let (text, hurried) = written(Grammar::object().unwrap(), &mut random, limit);
        cut += usize::from(hurried);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(value.is_object(), "{text}");
    }
    assert!((20..280).contains(&cut), "{cut} of 300 were closed in a hurry");
}

#[test]
fn five_hundred_schemas_are_kept_to() {
    let mut random = StdRng::seed_from_u64(2);
    let mut tried = 0;
    while tried < 500 {
        let schema = any_schema(&mut random, 3);
        let grammar = match Grammar::of_schema(&schema) {
            Ok(grammar) => grammar,
            Err(refused) => panic!("{refused}: {schema}"),
        };
        tried += 1;
        for _ in 0..3 {
            let grammar = Grammar { graph: clone(&grammar.graph), need: grammar.need.clone(), ..grammar };
            let limit = 400 + random.random_range(0..200);
            let (text, _) = written(grammar, &mut random, limit);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} for {schema}"));
            assert!(validates(&schema, &value), "{text} does not fit {schema}");
        }
    }
}

fn clone(graph: &Graph) -> Graph {
    Graph { nodes: graph.nodes.clone(), rules: graph.rules.clone(), space: graph.space }
}

/// A schema of all that is understood, at random.
fn any_schema(random: &mut StdRng, depth: usize) -> Value {
    let kinds = if depth == 0 { 7 } else { 12 };
    match random.random_range(0..kinds) {
        0 => json!({"type": "string"}),
        1 => {
            let least = random.random_range(0..4);
            json!({"type": "string", "minLength": least, "maxLength": least + random.random_range(0..9)})
        }
        2 => {
            let low = random.random_range(-1200..1200);
            json!({"type": "integer", "minimum": low, "maximum": low + random.random_range(0..3000)})
        }
        3 => {
            let low: f64 = random.random_range(-20.0..20.0);
            json!({"type": "number", "exclusiveMinimum": low, "maximum": low + 1.0 + random.random_range(0.0..50.0)})
        }
        4 => json!({"type": ["boolean", "null", "integer"]}),
        5 => json!({"enum": ["a\"b", 1, null, {"x": [true]}, -2.5]}),
        6 => json!({"const": "fest ✓"}),
        7 | 8 => object_schema(random, depth),
        9 => {
            let least = random.random_range(0..3);
            let items = any_schema(random, depth - 1);
            json!({"type": "array", "items": items, "minItems": least, "maxItems": least + random.random_range(0..4)})
        }
        10 => json!({"anyOf": [any_schema(random, depth - 1), any_schema(random, depth - 1)]}),
        _ => json!({"type": "object", "additionalProperties": any_schema(random, depth - 1)}),
    }
}

fn object_schema(random: &mut StdRng, depth: usize) -> Value {
    let names = ["name", "a", "b c", "é\n", "\"", "id"];
    let count = random.random_range(1..=names.len());
    let properties: Map<String, Value> =
        names[..count].iter().map(|name| ((*name).to_owned(), any_schema(random, depth - 1))).collect();
    let required: Vec<&str> =
        names[..count].iter().copied().filter(|_| random.random_range(0..2) == 0).collect();
    json!({"type": "object", "properties": properties, "required": required,
           "additionalProperties": random.random_range(0..2) == 0})
}

/// Whether `value` fits `schema`, as the standard has it, for the keywords that the schemas above have.
fn validates(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return schema == &Value::Bool(true) };
    schema.iter().all(|(keyword, told)| {
        let number =
            |compare: fn(f64, f64) -> bool| value.as_f64().is_none_or(|n| compare(n, told.as_f64().unwrap()));
        let count = |compare: fn(usize, usize) -> bool| {
            let count = match value {
                Value::String(text) => text.chars().count(),
                Value::Array(items) => items.len(),
                _ => return true,
            };
            compare(count, told.as_u64().unwrap() as usize)
        };
        match keyword.as_str() {
            "type" => match told {
                Value::String(kind) => is(value, kind),
                told => told.as_array().unwrap().iter().any(|kind| is(value, kind.as_str().unwrap())),
            },
            "enum" => told.as_array().unwrap().contains(value),
            "const" => told == value,
            "anyOf" => told.as_array().unwrap().iter().any(|way| validates(way, value)),
            "minimum" => number(|n, bound| n >= bound),
            "maximum" => number(|n, bound| n <= bound),
            "exclusiveMinimum" => number(|n, bound| n > bound),
            "minLength" | "minItems" => count(|count, bound| count >= bound),
            "maxLength" | "maxItems" => count(|count, bound| count <= bound),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| validates(told, item))),
            "required" => value.as_object().is_none_or(|object| {
                told.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" => value.as_object().is_none_or(|object| {
                object
                    .iter()
                    .all(|(name, value)| told.get(name).is_none_or(|schema| validates(schema, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let named =
                    |name: &String| schema.get("properties").is_some_and(|named| named.get(name).is_some());
                object.iter().all(|(name, value)| named(name) || validates(told, value))
            }),
            other => panic!("the validator does not know {other}"),
        }
    })
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.as_i64().is_some(),
        _ => value.is_number(),
    }
}

#[test]
fn what_is_no_json_is_kept_out() {
    let any = json!({});
    for text in
        ["{\"a\": [1, -2.5e+3, \"\\u00e9\\n\", true, null], \"\": {}}", "0", "\"\u{7f}é👋\"", "[\n  1\n]"]
    {
        assert!(fits(&any, text), "{text}");
        let _: Value = serde_json::from_str(text).unwrap();
    }
    for text in
        ["01", "-", "[1,]", "{\"a\"}", "\"\n\"", "\"\\ud800\"", "\"\\x\"", "nul", "{} {}", "1.", "\t1"]
    {
        assert!(!fits(&any, text), "{text}");
    }
}

#[test]
fn bytes_that_are_no_characters_are_kept_out() {
    let (vocabulary, _) = vocabulary();
    for bytes in [&b"\"\xff"[..], b"\"\xc0\x80", b"\"\xed\xa0\x80", b"\"\xf4\x90\x80\x80", b"\"\xe0\x80\x80"]
    {
        let grammar = Grammar::of_schema(&json!({})).unwrap();
        let mut constraint = Constraint::new(Arc::new(grammar), Arc::clone(&vocabulary));
        constraint.take(bytes);
        assert!(constraint.mask(100).0.is_empty(), "{bytes:x?}");
    }
}

#[test]
fn properties_come_in_their_order_and_those_not_required_may_be_left_out() {
    let schema =
        json!({"properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["b"]});
    for text in ["{\"a\":1,\"b\":true}", "{\"b\": false}", "{ \"a\": -7, \"b\":true }"] {
        assert!(fits(&schema, text), "{text}");
    }
    for text in ["{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,\"c\":1}", "{\"b\":1}"] {
        assert!(!fits(&schema, text), "{text}");
    }
}

#[test]
fn a_schema_may_refer_to_itself() {
    let schema = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["below"],
        "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}});
    assert!(fits(&schema, "{\"below\":[{\"below\":[]},{\"below\":[{\"below\":[]}]}]}"));
    assert!(!fits(&schema, "{\"below\":[1]}"));
    let mut random = StdRng::seed_from_u64(3);
    for limit in 20..60 {
        let (text, _) = written(Grammar::of_schema(&schema).unwrap(), &mut random, limit);
        let _: Value = serde_json::from_str(&text).unwrap();
    }
}

#[test]
fn what_is_nested_too_deeply_does_not_go_deeper() {
    let (vocabulary, _) = vocabulary();
    let mut constraint = Constraint::new(Arc::new(Grammar::of_schema(&json!({})).unwrap()), vocabulary);
    let mut depth = 0;
    while constraint.mask(10_000).0.has(1 + u32::from(b'[')) {
        constraint.take(b"[");
        depth += 1;
    }
    assert!((10..=1 + DEPTH as usize).contains(&depth), "{depth}");
    constraint.take(b"1");
    constraint.take("]".repeat(depth).as_bytes());
    assert!(constraint.is_complete());
}

#[test]
fn numbers_keep_within_their_bounds() {
    for (low, high) in [(0, 9), (7, 7), (3, 12), (95, 1203), (-17, 4), (-250, -3), (1000, 1999)] {
        let schema = json!({"type": "integer", "minimum": low, "maximum": high});
        for number in -1300..2100 {
            assert_eq!(
                fits(&schema, &number.to_string()),
                (low..=high).contains(&number),
                "{number}: {low} to {high}"
            );
        }
    }
    let schema = json!({"type": "number", "exclusiveMinimum": 0, "maximum": 2});
    for (text, expected) in
        [("1", true), ("1.999", true), ("2", true), ("2.1", false), ("0.0", false), ("-1", false)]
    {
        assert_eq!(fits(&schema, text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_kept_to_is_named() {
    let known = [
        (
            json!({"type": "string", "pattern": "^a"}),
            "`pattern` in the schema: the local model cannot keep to it",
        ),
        (
            json!({"type": "array", "uniqueItems": true}),
            "`uniqueItems` in the schema: the local model cannot keep to it",
        ),
        (json!({"not": {}}), "`not` in the schema: the local model cannot keep to it"),
        (json!({"$ref": "#/nowhere"}), "`$ref` to \"#/nowhere\", which is not in the schema"),
        (json!({"$ref": "#"}), "no answer that fits the schema comes to an end"),
        (json!({"type": "colour"}), "`type` is \"colour\", which no JSON is"),
        (json!(false), "the schema says `false`: nothing fits it"),
        (
            json!({"anyOf": [{"type": "string"}], "minLength": 1}),
            "`minLength` beside `anyOf`: the local model obeys one of them only",
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "`oneOf`: the local model cannot tell that no answer fits two of its schemas; say `anyOf`",
        ),
    ];
    for (schema, expected) in known {
        assert_eq!(refusal(&schema), expected, "{schema}");
    }
    let told =
        |name: &str| json!({"type": "object", "required": ["kind"], "properties": {"kind": {"const": name}}});
    assert_eq!(refusal(&json!({"oneOf": [told("a"), told("b"), {"type": "null"}]})), "");
    let deep = (0..100).fold(json!({}), |inner, _| json!({"items": inner}));
    assert_eq!(refusal(&deep), "the schema is nested too deeply for the local model");
    let wide: Map<String, Value> = (0..5_000).map(|at| (format!("{at:032}"), json!({}))).collect();
    assert_eq!(refusal(&json!({ "properties": wide })), "the schema is too large for the local model");
}

#[test]
fn many_strings_may_have_the_same_limit() {
    let fields: Map<String, Value> =
        (0..50).map(|at| (format!("field {at}"), json!({"type": "string", "maxLength": 5_000}))).collect();
    assert_eq!(refusal(&json!({ "properties": fields })), "");
    assert!(fits(&json!({"type": "string", "minLength": 2, "maxLength": 3}), "\"é\\u00e9\""));
    assert!(!fits(&json!({"type": "string", "minLength": 2, "maxLength": 3}), "\"abcd\""));
}

#[test]
fn what_was_found_out_is_forgotten_and_found_again() {
    let grammar = Grammar::of_schema(&json!({})).unwrap();
    let (vocabulary, _) = vocabulary();
    let mut constraint = Constraint::new(Arc::new(grammar), vocabulary);
    constraint.take(b"[{\"a\": [1, {\"b\":");
    let before: Vec<u32> = constraint.mask(1_000).0.tokens().collect();
    constraint.forget();
    assert_eq!(constraint.mask(1_000).0.tokens().collect::<Vec<_>>(), before);
    constraint.take(b" 2}]}]");
    assert!(constraint.is_complete());
}
