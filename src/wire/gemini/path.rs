//! Paths: they name the model, and say whether a stream is wanted.

use crate::chat::Request;
use crate::wire::Target;
use std::fmt::Write as _;

/// The path that `request` is sent to, below the API's version. A stream is asked for as server-sent events.
pub fn path(request: &Request) -> String {
    let model = encoded(bare(&request.model));
    match request.delivery.stream {
        true => format!("models/{model}:streamGenerateContent?alt=sse"),
        false => format!("models/{model}:generateContent"),
    }
}

/// What the rest of a path after `models/` says, such as `gemini-2.5-flash:streamGenerateContent`. `None`: it
/// is no path of this protocol.
pub fn target(path_tail: &str, query: Option<&str>) -> Option<Target> {
    let (model, method) = path_tail.rsplit_once(':')?;
    let stream = match method {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return None,
    };
    let model = decoded(model)?;
    let model = bare(&model).to_owned();
    let mut pairs = query.unwrap_or_default().split('&');
    let sse = stream && pairs.any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse"));
    (!model.is_empty()).then_some(Target { model: Some(model), stream: Some(stream), sse })
}

/// The model whose tokens are to be counted, where the rest of a path after `models/` says so.
pub fn counted_model(path_tail: &str) -> Option<String> {
    let model = decoded(path_tail.strip_suffix(":countTokens")?)?;
    Some(bare(&model).to_owned()).filter(|model| !model.is_empty())
}

/// The model's name without the name of its collection, which SDKs take and leave.
pub(super) fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

/// `None` where a `%` is not followed by two digits, or the bytes are no text.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Delivery;

    #[test]
    fn a_path_says_the_model_and_the_delivery() {
        let cases = [
            ("gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("org/a b:é", "models/org%2Fa%20b%3A%C3%A9"),
        ];
        for (model, wanted) in cases {
            let mut request = Request { model: model.into(), ..Request::default() };
            assert_eq!(path(&request), format!("{wanted}:generateContent"));
            request.delivery = Delivery { stream: true, ..Delivery::default() };
            let streamed = path(&request);
            assert_eq!(streamed, format!("{wanted}:streamGenerateContent?alt=sse"));
            let (tail, query) = streamed.strip_prefix("models/").unwrap().split_once('?').unwrap();
            let target = target(tail, Some(query)).unwrap();
            assert_eq!(target.model.as_deref(), Some(bare(model)));
            assert_eq!((target.stream, target.sse), (Some(true), true));
        }
    }

    #[test]
    fn a_path_says_whose_tokens_are_counted() {
        assert_eq!(counted_model("org%2Fa:countTokens").as_deref(), Some("org/a"));
        for tail in ["m", "m:generateContent", ":countTokens", "%zz:countTokens"] {
            assert_eq!(counted_model(tail), None, "{tail}");
        }
    }

    #[test]
    fn what_is_no_path_here_is_none() {
        for tail in
            ["m", "m:countTokens", ":generateContent", "%zz:generateContent", "%ff:generateContent", "m%4"]
        {
            assert_eq!(target(tail, None), None, "{tail}");
        }
        let plain = target("m:streamGenerateContent", Some("key=x&alt=json")).unwrap();
        assert_eq!((plain.stream, plain.sse), (Some(true), false));
        assert!(target("m:streamGenerateContent", Some("key=x&alt=sse")).unwrap().sse);
        assert!(!target("m:generateContent", Some("alt=sse")).unwrap().sse);
    }
}
