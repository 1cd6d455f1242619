//! Counting the tokens of a request where no upstream can.

use crate::chat::{Media, MediaSource, Part, Request, Tool};
use serde_json::json;

/// What a message costs beside its words.
const PER_MESSAGE: u64 = 4;

/// What a picture costs, and a sound or document of unknown length: a large picture's price.
const PER_MEDIA: u64 = 1_600;

/// How many characters make a token. It fits English; code and other languages need more tokens.
const CHARS_PER_TOKEN: u64 = 4;

/// About how many tokens a request has: four for each message, a quarter of its characters, a quarter of the
/// length of its tools' JSON, and 1600 for each picture or document.
pub fn estimate_tokens(request: &Request) -> u64 {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    let (chars, media) = parts.map(weight).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    let tools: u64 = request.tools.iter().map(tool_chars).sum();
    PER_MESSAGE * request.messages.len() as u64
        + chars.div_ceil(CHARS_PER_TOKEN)
        + tools.div_ceil(CHARS_PER_TOKEN)
        + PER_MEDIA * media
}

/// The characters and the media in a part.
fn weight(part: &Part) -> (u64, u64) {
    match part {
        Part::Text { text, .. }
        | Part::Reasoning { text, .. }
        | Part::Refusal(text)
        | Part::File(Media { source: MediaSource::Text(text), .. }) => (chars(text), 0),
        Part::Image(_) | Part::Audio(_) | Part::File(_) => (0, 1),
        Part::ToolCall(call) => (chars(&call.name) + chars(&call.arguments), 0),
        Part::Opaque(value) => (chars(&value.to_string()), 0),
    }
}

fn tool_chars(tool: &Tool) -> u64 {
    match tool {
        Tool::Function { name, description, parameters, strict: _, extra: _ } => chars(
            &json!({ "name": name, "description": description, "input_schema": parameters }).to_string(),
        ),
        Tool::Opaque(value) => chars(&value.to_string()),
    }
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};

    #[test]
    fn four_for_a_message_and_one_for_four_characters() {
        let mut request =
            Request { messages: vec![Message::text(Role::User, "x".repeat(400))], ..Request::default() };
        assert_eq!(estimate_tokens(&request), 104);
        request.messages[0].parts.push(Part::Image(Media::at("data:image/png;base64,eA==")));
        assert_eq!(estimate_tokens(&request), 1704);
    }

    #[test]
    fn tools_count_by_their_json() {
        let tool = Tool::Opaque(json!({ "type": "abc" }));
        let request = Request { tools: vec![tool], ..Request::default() };
        assert_eq!(estimate_tokens(&request), 4, "14 characters");
    }
}
