//! Answers of a given form: which tokens may come next, so that what comes out is JSON, or JSON of a schema.
//!
//! ```text
//! schema ─▶ Grammar: bytes, choices and calls ─▶ Automaton: states, found as they are met ─▶ Mask: tokens
//! ```
//!
//! A [`Grammar`] is a graph of bytes. The automaton walks it in all ways at once, and a state that was met before is
//! known again, so a text is followed by looking up one number for each byte. For a state, all tokens are tried
//! along the tree of their bytes, once: what may come is kept with the state.
//!
//! An answer also ends in time: for each place it is known how many tokens the shortest way to the end takes, and
//! a token after which too few would be left is not taken.

mod apart;
mod automaton;
mod graph;
mod keywords;
mod schema;
#[cfg(test)]
mod tests;
mod values;
mod vocabulary;

pub(super) use automaton::Constraint;
pub(super) use vocabulary::{Mask, Vocabulary};

use graph::{Graph, NEVER, Node};
use schema::Compiler;
use serde_json::Value;

/// Rules that may be gone into at a time: as deep as an answer may be nested.
const DEPTH: u32 = 48;

/// What texts there may be.
#[derive(Debug)]
pub(super) struct Grammar {
    graph: Graph,
    begin: graph::At,
    /// How many more rules must be gone into from each place to get to the end.
    need: Vec<u32>,
}

/// Why there is no grammar for what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Refused {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    fn keyword(keyword: &str) -> Self {
        Self(format!("`{keyword}` in the schema: the local model cannot keep to it"))
    }
}

impl Grammar {
    /// Any object.
    pub(super) fn object() -> Result<Self, Refused> {
        Self::of_schema(&serde_json::json!({"type": "object"}))
    }

    /// What fits `schema`.
    pub(super) fn of_schema(schema: &Value) -> Result<Self, Refused> {
        let mut compiler = Compiler::within(Graph::new(), schema);
        let begin = compiler.value(schema, Graph::END)?;
        Self::of(compiler.graph, begin)
    }

    /// The call of one of `functions`, by name, with arguments that fit its schema: an object of both.
    pub(super) fn call(functions: &[(&str, &Value)]) -> Result<Self, Refused> {
        let mut graph = Graph::new();
        let close = graph.text("}", Graph::END)?;
        let mut ways = Vec::new();
        for (name, schema) in functions {
            let mut compiler = Compiler::within(graph, schema);
            let arguments = compiler.value(schema, close)?;
            graph = compiler.graph;
            let name = Value::from(*name);
            ways.push(graph.text(&format!("{{\"name\": {name}, \"arguments\": "), arguments)?);
        }
        let begin = graph.either(&ways)?;
        Self::of(graph, begin)
    }

    fn of(graph: Graph, begin: graph::At) -> Result<Self, Refused> {
        let need = graph.least(|_, node, least, rules| match node {
            Node::Byte(_, next) => least[*next as usize],
            Node::Either(ways) => ways.iter().map(|way| least[*way as usize]).min().unwrap_or(NEVER),
            Node::Call(rule, next) => {
                let rule = least[rules[*rule as usize] as usize].saturating_add(1);
                rule.max(least[*next as usize])
            }
            Node::End => 0,
        });
        if need[begin as usize] > DEPTH {
            return Err(Refused::new("no answer that fits the schema comes to an end"));
        }
        Ok(Self { graph, begin, need })
    }
}
