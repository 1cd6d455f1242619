//! From a JSON schema to the graph of the texts that fit it.
//!
//! What comes out may be narrower than the schema (properties come in the order they are named in, and no others),
//! never wider: a keyword that would have to be obeyed and cannot is refused.

use super::Refused;
use super::apart::apart;
use super::graph::{At, Graph, Rule};
use super::keywords::{
    OF_ARRAYS, OF_NUMBERS, OF_OBJECTS, OF_STRINGS, Schema, alone, counts, is, is_known, list, text,
};
use super::values::CHARACTERS;
use serde_json::Value;
use std::collections::HashMap;

/// Schemas in schemas; more would be a way to fill the stack.
const DEPTH: usize = 64;
/// Larger bounds on the number of items are as good as none.
const ITEMS: usize = 1_000;
/// The largest whole number that all readers of JSON agree on.
const WHOLE: f64 = 999_999_999_999_999.0;

/// Puts schemas into a graph.
pub(super) struct Compiler<'a> {
    root: &'a Value,
    pub(super) graph: Graph,
    /// Rules of schemas that are referred to.
    named: HashMap<String, Rule>,
    any: Option<Rule>,
    character: Option<Rule>,
    /// Rules of strings of so many characters: a limit takes two places for each, and many strings have the same.
    strings: HashMap<(usize, Option<usize>), Rule>,
    depth: usize,
}

impl<'a> Compiler<'a> {
    /// Puts `root` and what it refers to into `graph`.
    pub(super) fn within(graph: Graph, root: &'a Value) -> Self {
        Self {
            root,
            graph,
            named: HashMap::new(),
            any: None,
            character: None,
            strings: HashMap::new(),
            depth: 0,
        }
    }

    /// The texts that fit `schema`, before `next`.
    pub(super) fn value(&mut self, schema: &Value, next: At) -> Result<At, Refused> {
        match schema {
            Value::Bool(true) => self.any_value(next),
            Value::Object(schema) if self.depth < DEPTH => {
                self.depth += 1;
                let at = self.object_schema(schema, next);
                self.depth -= 1;
                at
            }
            Value::Object(_) => Err(Refused::new("the schema is nested too deeply for the local model")),
            Value::Bool(false) => Err(Refused::new("the schema says `false`: nothing fits it")),
            _ => Err(Refused::new("a schema is an object or a boolean")),
        }
    }

    fn object_schema(&mut self, schema: &Schema, next: At) -> Result<At, Refused> {
        if let Some(keyword) = schema.keys().find(|keyword| !is_known(keyword)) {
            return Err(Refused::keyword(keyword));
        }
        if let Some(target) = text(schema, "$ref")? {
            alone(schema, &["$ref"])?;
            let rule = self.named(target)?;
            return self.graph.call(rule, next);
        }
        if let Some(value) = schema.get("const") {
            alone(schema, &["const", "type"])?;
            return self.literals(std::slice::from_ref(value), schema, next);
        }
        if let Some(values) = list(schema, "enum")? {
            alone(schema, &["enum", "type"])?;
            return self.literals(values, schema, next);
        }
        if let Some(all) = list(schema, "allOf")? {
            let [one] = all else { return Err(Refused::keyword("allOf")) };
            alone(schema, &["allOf"])?;
            return self.value(one, next);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(ways) = list(schema, keyword)? {
                // A type beside it says nothing more where every way keeps to it, which ways of their own types do.
                alone(schema, &[keyword])?;
                if keyword == "oneOf" && !apart(ways, |target| self.find(target).ok()) {
                    return Err(Refused::new(
                        "`oneOf`: the local model cannot tell that no answer fits two of its schemas; say `anyOf`",
                    ));
                }
                let ways: Vec<At> = ways.iter().map(|way| self.value(way, next)).collect::<Result<_, _>>()?;
                return self.some(&ways);
            }
        }
        self.typed(schema, next)
    }

    fn some(&mut self, ways: &[At]) -> Result<At, Refused> {
        if ways.is_empty() {
            return Err(Refused::new("the schema leaves nothing to answer"));
        }
        self.graph.either(ways)
    }

    fn typed(&mut self, schema: &Schema, next: At) -> Result<At, Refused> {
        let has = |keywords: &[&str]| keywords.iter().any(|keyword| schema.contains_key(*keyword));
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err(Refused::new("`type` is a string or a list of strings")),
            None if has(&OF_OBJECTS) => vec!["object"],
            None if has(&OF_ARRAYS) => vec!["array"],
            None if has(&OF_STRINGS) => vec!["string"],
            None if has(&OF_NUMBERS) => vec!["number"],
            None => return self.any_value(next),
        };
        let ways: Vec<At> =
            types.into_iter().map(|kind| self.of_type(kind, schema, next)).collect::<Result<_, _>>()?;
        self.some(&ways)
    }

    fn of_type(&mut self, kind: &str, schema: &Schema, next: At) -> Result<At, Refused> {
        match kind {
            "object" => self.object(schema, next),
            "array" => self.array(schema, next),
            "string" => self.string(schema, next),
            "integer" | "number" => self.number(schema, kind == "integer", next),
            "boolean" => self.literals(&[Value::Bool(true), Value::Bool(false)], &Schema::new(), next),
            "null" => self.graph.text("null", next),
            _ => Err(Refused::new(format!("`type` is {kind:?}, which no JSON is"))),
        }
    }

    fn any_value(&mut self, next: At) -> Result<At, Refused> {
        let rule = self.any_rule()?;
        self.graph.call(rule, next)
    }

    fn any_rule(&mut self) -> Result<Rule, Refused> {
        if let Some(rule) = self.any {
            return Ok(rule);
        }
        let rule = self.graph.any()?;
        self.any = Some(rule);
        Ok(rule)
    }

    /// A rule for what fits `schema`.
    fn rule_for(&mut self, schema: &Value) -> Result<Rule, Refused> {
        let rule = self.graph.rule();
        let begin = self.value(schema, Graph::END)?;
        self.graph.begin(rule, begin);
        Ok(rule)
    }

    /// The rule of the schema that `target` refers to.
    fn named(&mut self, target: &str) -> Result<Rule, Refused> {
        if let Some(rule) = self.named.get(target) {
            return Ok(*rule);
        }
        let found = self.find(target)?;
        let rule = self.graph.rule();
        self.named.insert(target.to_owned(), rule);
        let begin = self.value(found, Graph::END)?;
        self.graph.begin(rule, begin);
        Ok(rule)
    }

    fn find(&self, target: &str) -> Result<&'a Value, Refused> {
        let root: &'a Value = self.root;
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        found.ok_or_else(|| Refused::new(format!("`$ref` to {target:?}, which is not in the schema")))
    }

    fn literals(&mut self, values: &[Value], schema: &Schema, next: At) -> Result<At, Refused> {
        let types = schema.get("type");
        let fits = |value: &&Value| match types {
            Some(Value::String(kind)) => is(value, kind),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(|kind| is(value, kind)),
            _ => true,
        };
        let texts: Vec<String> = values.iter().filter(fits).map(Value::to_string).collect();
        let ways: Vec<At> = texts.iter().map(|text| self.graph.text(text, next)).collect::<Result<_, _>>()?;
        self.some(&ways)
    }

    fn string(&mut self, schema: &Schema, next: At) -> Result<At, Refused> {
        let (least, most) = counts(schema, "minLength", "maxLength", CHARACTERS)?;
        if (least, most) == (0, None) {
            return self.graph.string(next);
        }
        let rule = self.string_rule((least, most))?;
        self.graph.call(rule, next)
    }

    fn string_rule(&mut self, counts: (usize, Option<usize>)) -> Result<Rule, Refused> {
        if let Some(rule) = self.strings.get(&counts) {
            return Ok(*rule);
        }
        let character = self.character_rule()?;
        let rule = self.graph.rule();
        let begin = self.graph.string_of(counts, character, Graph::END)?;
        self.graph.begin(rule, begin);
        self.strings.insert(counts, rule);
        Ok(rule)
    }

    fn character_rule(&mut self) -> Result<Rule, Refused> {
        if let Some(rule) = self.character {
            return Ok(rule);
        }
        let rule = self.graph.rule();
        let begin = self.graph.character(Graph::END)?;
        self.graph.begin(rule, begin);
        self.character = Some(rule);
        Ok(rule)
    }

    fn array(&mut self, schema: &Schema, next: At) -> Result<At, Refused> {
        let (least, most) = counts(schema, "minItems", "maxItems", ITEMS)?;
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        if unique && most.is_none_or(|most| most > 1) {
            return Err(Refused::keyword("uniqueItems"));
        }
        if let Some(first) = list(schema, "prefixItems")? {
            return self.tuple(first, (least, most), next);
        }
        let item = match schema.get("items") {
            None => self.any_rule()?,
            Some(Value::Bool(false)) if least == 0 => return self.graph.text("[]", next),
            Some(items) if most != Some(0) => self.rule_for(items)?,
            Some(_) => return self.graph.text("[]", next),
        };
        self.graph.array((least, most), next, item)
    }

    /// As many items as are named, each by its own schema, and no more.
    fn tuple(
        &mut self,
        items: &[Value],
        (least, most): (usize, Option<usize>),
        next: At,
    ) -> Result<At, Refused> {
        if least > items.len() || most.is_some_and(|most| most < items.len()) || items.is_empty() {
            return Err(Refused::keyword("prefixItems"));
        }
        // Fewer would fit as well; all of them is what is meant.
        let close = self.graph.text("]", next)?;
        let mut at = self.graph.space(close)?;
        for (number, item) in items.iter().enumerate().rev() {
            at = self.value(item, at)?;
            at = if number > 0 { self.graph.comma(at)? } else { self.graph.space(at)? };
        }
        self.graph.text("[", at)
    }

    fn object(&mut self, schema: &Schema, next: At) -> Result<At, Refused> {
        let nothing = Schema::new();
        let named = match schema.get("properties") {
            None => &nothing,
            Some(Value::Object(named)) => named,
            Some(_) => return Err(Refused::new("`properties` is an object")),
        };
        let required: Vec<&str> = list(schema, "required")?
            .unwrap_or_default()
            .iter()
            .map(|name| name.as_str().ok_or_else(|| Refused::new("`required` is a list of strings")))
            .collect::<Result<_, _>>()?;
        let others = schema.get("additionalProperties").or(schema.get("unevaluatedProperties"));
        let anything = Value::Bool(true);
        let unnamed = required.iter().filter(|name| !named.contains_key(**name));
        let unnamed: Vec<(&str, &Value)> = unnamed.map(|name| (*name, others.unwrap_or(&anything))).collect();
        let (least, most) = counts(schema, "minProperties", "maxProperties", usize::MAX)?;
        let properties: Vec<(&str, &Value)> =
            named.iter().map(|(name, schema)| (name.as_str(), schema)).chain(unnamed).collect();
        if properties.is_empty() && others != Some(&Value::Bool(false)) && most != Some(0) {
            // Of more than one of any name it is not certain that no two are the same.
            if least > 1 || most.is_some() {
                return Err(Refused::keyword(if least > 1 { "minProperties" } else { "maxProperties" }));
            }
            let value = match others {
                Some(schema) => self.rule_for(schema)?,
                None => self.any_rule()?,
            };
            return self.graph.object_of(least, value, next);
        }
        if most.is_some_and(|most| most < properties.len()) {
            return Err(Refused::keyword("maxProperties"));
        }
        // Where more must be there than are required, all are.
        let all = least > required.len();
        if least > properties.len() {
            return Err(Refused::keyword("minProperties"));
        }
        self.properties(&properties, |name| all || required.contains(&name), next)
    }

    /// The properties in their order, those that are not `needed` or not there.
    fn properties(
        &mut self,
        properties: &[(&str, &Value)],
        needed: impl Fn(&str) -> bool,
        next: At,
    ) -> Result<At, Refused> {
        let close = self.graph.text("}", next)?;
        // What may come where none has been written yet, and where one has.
        let (mut first, mut later) = (close, self.graph.space(close)?);
        for (name, schema) in properties.iter().rev() {
            let value = match self.value(schema, later) {
                Ok(value) => value,
                // What nothing fits is left out.
                Err(_) if !needed(name) && **schema == Value::Bool(false) => continue,
                Err(refused) => return Err(refused),
            };
            let colon = self.graph.colon(value)?;
            let pair = self.graph.text(&Value::from(*name).to_string(), colon)?;
            let (begun, gone_on) = (self.graph.space(pair)?, self.graph.comma(pair)?);
            if needed(name) {
                (first, later) = (begun, gone_on);
            } else {
                first = self.graph.either(&[begun, first])?;
                later = self.graph.either(&[gone_on, later])?;
            }
        }
        self.graph.text("{", first)
    }

    fn number(&mut self, schema: &Schema, whole: bool, next: At) -> Result<At, Refused> {
        if schema.get("multipleOf").is_some_and(|step| !(whole && step.as_f64() == Some(1.0))) {
            return Err(Refused::keyword("multipleOf"));
        }
        let bound = |keyword: &str| match schema.get(keyword) {
            None => Ok(None),
            Some(bound) => {
                bound.as_f64().map(Some).ok_or_else(|| Refused::new(format!("`{keyword}` is a number")))
            }
        };
        let [low, high, above, below] =
            [bound("minimum")?, bound("maximum")?, bound("exclusiveMinimum")?, bound("exclusiveMaximum")?];
        if [low, high, above, below].iter().all(Option::is_none) {
            return if whole { self.graph.integer(next) } else { self.graph.number(next) };
        }
        // The whole numbers between the bounds; with them, where any are wanted, what lies between two of those.
        let low = low
            .map(f64::ceil)
            .into_iter()
            .chain(above.map(|above| above.floor() + 1.0))
            .fold(-WHOLE, f64::max);
        let high = high
            .map(f64::floor)
            .into_iter()
            .chain(below.map(|below| below.ceil() - 1.0))
            .fold(WHOLE, f64::min);
        if low > high {
            return Err(Refused::new(
                "the local model finds no whole number between the bounds of the schema",
            ));
        }
        let mut ways = Vec::new();
        if high >= 0.0 {
            ways.push(self.magnitude(low.max(0.0) as u64, high as u64, whole, next)?);
        }
        if low < 0.0 {
            let magnitude = self.magnitude((-high).max(1.0) as u64, -low as u64, whole, next)?;
            ways.push(self.graph.text("-", magnitude)?);
        }
        self.some(&ways)
    }

    fn magnitude(&mut self, low: u64, high: u64, whole: bool, next: At) -> Result<At, Refused> {
        let at = self.graph.between(low, high, next)?;
        if whole || low == high {
            return Ok(at);
        }
        let fraction = self.graph.fraction(next)?;
        let between = self.graph.between(low, high - 1, fraction)?;
        self.graph.either(&[at, between])
    }
}
