//! What form an answer must have, and what becomes of it: words, JSON, or the call of a tool.

use super::calls::Call;
use super::grammar::{Constraint, Grammar, Mask, Refused, Vocabulary};
use super::tokenizer::Tokenizer;
use crate::chat::{Request, ResponseFormat, Tool, ToolChoice};
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;

/// Longer schemas are kept to, and not shown to the model: a small one reads no more out of them.
const SHOWN: usize = 2_000;

/// The form that a request wants.
#[derive(Clone, Debug)]
pub(super) struct Form {
    grammar: Arc<Grammar>,
    /// What the model is told of it.
    pub(super) instructions: String,
    /// Whether the answer is the call of a tool.
    pub(super) is_call: bool,
}

impl Form {
    /// The form that `request` wants, where it wants one. A call that must be made goes before the form of words.
    pub(super) fn of(request: &Request) -> Result<Option<Self>, String> {
        match &request.tool_choice {
            Some(ToolChoice::Required) => Self::call(&request.tools, None).map(Some),
            Some(ToolChoice::Function(name)) => Self::call(&request.tools, Some(name)).map(Some),
            Some(ToolChoice::Opaque(_)) => {
                Err("`tool_choice`: the local model does not know this one".to_owned())
            }
            Some(ToolChoice::Auto | ToolChoice::None) | None => {
                request.response_format.as_ref().map_or(Ok(None), Self::of_words)
            }
        }
    }

    fn of_words(format: &ResponseFormat) -> Result<Option<Self>, String> {
        let refused = |refused: Refused| format!("`response_format`: {refused}");
        match format {
            ResponseFormat::Text => Ok(None),
            ResponseFormat::Json => {
                let grammar = Arc::new(Grammar::object().map_err(refused)?);
                let instructions = "Answer with a JSON object.".to_owned();
                Ok(Some(Self { grammar, instructions, is_call: false }))
            }
            ResponseFormat::Schema { schema, name: _, description: _, strict: _ } => {
                let grammar = Arc::new(Grammar::of_schema(schema).map_err(refused)?);
                let instructions = instructions("Answer with JSON", schema);
                Ok(Some(Self { grammar, instructions, is_call: false }))
            }
            ResponseFormat::Opaque(_) => {
                Err("`response_format`: the local model does not know this one".to_owned())
            }
        }
    }

    fn call(tools: &[Tool], only: Option<&str>) -> Result<Self, String> {
        let anything = json!({"type": "object"});
        let functions: Vec<(&str, &Value)> = tools
            .iter()
            .filter_map(|tool| match tool {
                Tool::Function { name, parameters, .. } if only.is_none_or(|only| only == name) => {
                    Some((name.as_str(), parameters.as_ref().unwrap_or(&anything)))
                }
                _ => None,
            })
            .collect();
        if functions.is_empty() {
            return Err("`tool_choice`: there is no such tool".to_owned());
        }
        let grammar = Grammar::call(&functions).map_err(|refused| format!("`tools`: {refused}"))?;
        let told: Vec<String> = tools.iter().filter_map(|tool| described(tool, only)).collect();
        let mut instructions = "Answer by calling a function, in JSON.".to_owned();
        if told.iter().map(String::len).sum::<usize>() <= SHOWN {
            instructions.push_str(" Functions:\n");
            instructions.push_str(&told.join("\n"));
        }
        Ok(Self { grammar: Arc::new(grammar), instructions, is_call: true })
    }

    /// Keeps one answer to it.
    pub(super) fn keeper(&self, vocabulary: &Arc<Vocabulary>) -> Keeper {
        let constraint = Constraint::new(Arc::clone(&self.grammar), Arc::clone(vocabulary));
        Keeper { constraint, hurried: false, call: self.is_call.then(Vec::new) }
    }
}

fn described(tool: &Tool, only: Option<&str>) -> Option<String> {
    match tool {
        Tool::Function { name, description, parameters, .. } if only.is_none_or(|only| only == name) => {
            let about = json!({ "name": name, "description": description, "parameters": parameters });
            Some(about.to_string())
        }
        _ => None,
    }
}

fn instructions(what: &str, schema: &Value) -> String {
    let schema = schema.to_string();
    if schema.len() > SHOWN { format!("{what}.") } else { format!("{what} that fits this schema: {schema}") }
}

/// Keeps an answer to its form.
pub(super) struct Keeper {
    constraint: Constraint,
    /// Whether the answer had to be brought to an end.
    pub(super) hurried: bool,
    /// What was written of a call.
    call: Option<Vec<u8>>,
}

impl Keeper {
    /// How many tokens the answer takes at least.
    pub(super) fn least(&self) -> usize {
        self.constraint.least()
    }

    /// The tokens that may come where `left` more can be written.
    pub(super) fn mask(&mut self, left: usize) -> Rc<Mask> {
        let (mask, hurried) = self.constraint.mask(left);
        self.hurried |= hurried;
        mask
    }

    /// Takes a token that was drawn. What of it is said: all, but nothing of a call.
    pub(super) fn take<'a>(&mut self, token: u32, tokenizer: &'a Tokenizer) -> &'a [u8] {
        let bytes = tokenizer.bytes(token);
        self.constraint.take(bytes);
        match &mut self.call {
            Some(call) => {
                call.extend_from_slice(bytes);
                &[]
            }
            None => bytes,
        }
    }

    /// Whether nothing can be added.
    pub(super) fn is_complete(&self) -> bool {
        self.constraint.is_complete()
    }

    /// The call that was written, if it is a whole one.
    pub(super) fn call(&mut self) -> Option<Call> {
        let call: Value = serde_json::from_slice(&self.call.take()?).ok()?;
        Some(Call { name: call["name"].as_str()?.to_owned(), arguments: call["arguments"].to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::toy;
    use super::*;

    fn tool(name: &str, parameters: &Value) -> Tool {
        Tool::Function {
            name: name.to_owned(),
            description: None,
            parameters: Some(parameters.clone()),
            strict: None,
            extra: serde_json::Map::new(),
        }
    }

    fn asking(choice: ToolChoice) -> Request {
        let sky = json!({"$ref": "#/$defs/place", "$defs": {"place": {"type": "object", "required": ["at"],
            "properties": {"at": {"type": "integer"}}}}});
        let tools = vec![tool("sky", &sky), tool("sea", &json!({"type": "object", "properties": {}}))];
        Request { tools, tool_choice: Some(choice), ..Request::default() }
    }

    fn written(request: &Request, text: &str) -> (Option<(String, String)>, bool) {
        let tokenizer = toy();
        let form = Form::of(request).unwrap().unwrap();
        let mut keeper = form.keeper(tokenizer.vocabulary());
        for byte in text.bytes() {
            let token = (0..300).find(|token| tokenizer.bytes(*token) == [byte]).unwrap();
            if !keeper.mask(1_000).has(token) {
                return (None, false);
            }
            assert!(keeper.take(token, &tokenizer).is_empty());
        }
        let complete = keeper.is_complete();
        (keeper.call().map(|call| (call.name, call.arguments)), complete)
    }

    #[test]
    fn a_call_that_must_be_made_is_one_of_the_tools() {
        let any = asking(ToolChoice::Required);
        let expected = |name: &str, arguments: &str| (Some((name.to_owned(), arguments.to_owned())), true);
        let sky = r#"{"name": "sky", "arguments": {"at":-5}}"#;
        assert_eq!(written(&any, sky), expected("sky", r#"{"at":-5}"#));
        assert_eq!(written(&any, r#"{"name": "sea", "arguments": {}}"#), expected("sea", "{}"));
        assert_eq!(written(&any, r#"{"name": "sun"#).0, None);
        let sea = asking(ToolChoice::Function("sea".to_owned()));
        assert_eq!(written(&sea, sky), (None, false));
        assert_eq!(
            Form::of(&asking(ToolChoice::Function("sun".to_owned()))).unwrap_err(),
            "`tool_choice`: there is no such tool"
        );
    }

    #[test]
    fn tools_that_may_be_called_change_nothing() {
        assert!(Form::of(&asking(ToolChoice::Auto)).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_kept_to_is_refused_by_name() {
        let schema = json!({"type": "string", "pattern": "a"});
        let format = ResponseFormat::Schema { name: None, description: None, schema, strict: None };
        let request = Request { response_format: Some(format), ..Request::default() };
        assert_eq!(
            Form::of(&request).unwrap_err(),
            "`response_format`: `pattern` in the schema: the local model cannot keep to it"
        );
    }
}
