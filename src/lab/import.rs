//! Other programs' records of what was asked, as a journal of ours.
//!
//! What such a record does not say stays unknown: a question without an answer is replayed for its hits, and nothing
//! is said about whether they are right.

use crate::chat::{Folder, Protocol, Reply};
use crate::clock::days;
use crate::journal::Row;
use crate::journal::row::Voice;
use crate::wire::Decoder;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead};

/// The longest line.
const MAX_LINE: u64 = 64 << 20;
/// How far apart questions are whose time is not known.
const APART_US: u64 = 1_000_000;

/// Answers, by the ids of their requests.
pub type Answers = HashMap<String, Reply>;

/// What a record looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A question on each line.
    Text,
    /// Columns with a head: `question` (or `prompt`, `text`, `input`), and where there are any `answer` (or
    /// `response`, `output`), `project`, `model`, `time`, `id`.
    Csv,
    /// OpenAI's batch or evaluation files: `{"custom_id", "url", "body"}`, or lines with `messages`.
    OpenAi,
    /// LiteLLM's logs.
    LiteLlm,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is at fault.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no column of questions.
    #[error("there is no column named question, prompt, text or input; there is: {0}")]
    NoQuestions(String),
    /// The columns cannot be read.
    #[error("the columns cannot be read: {0}")]
    Csv(#[from] csv::Error),
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Those whose answer is known.
    pub answered: u64,
    /// Lines that hold none.
    pub passed_over: u64,
}

/// Where requests go that say nothing about it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
}

/// A request as a record tells it.
#[derive(Default)]
struct Told {
    id: Option<String>,
    at: Option<u64>,
    took_us: Option<u64>,
    project: Option<String>,
    tenant: Option<String>,
    protocol: Protocol,
    body: Value,
    reply: Option<Reply>,
    upstream: Option<String>,
}

/// Reads a record. `answers` are answers by the ids of their requests, from a second file.
pub fn import(
    format: Format,
    from: impl BufRead,
    answers: &Answers,
    place: &Place,
    mut write: impl FnMut(Row) -> io::Result<()>,
) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    let mut take = |told: Option<Told>| -> io::Result<()> {
        let Some(mut told) = told else {
            counts.passed_over += 1;
            return Ok(());
        };
        counts.requests += 1;
        if told.reply.is_none() {
            told.reply = told.id.as_ref().and_then(|id| answers.get(id)).cloned();
        }
        counts.answered += u64::from(told.reply.is_some());
        write(row(told, counts.requests, place))
    };
    match format {
        Format::Csv => columns(from, take)?,
        Format::Text | Format::OpenAi | Format::LiteLlm => lines(from, |line| {
            let value = || serde_json::from_str::<Value>(line).ok();
            take(match format {
                Format::OpenAi => value().and_then(|value| openai(&value)),
                Format::LiteLlm => value().and_then(|value| litellm(&value)),
                Format::Text | Format::Csv => Some(Told { body: asking(line), ..Told::default() }),
            })
        })?,
    }
    Ok(counts)
}

/// Answers of an OpenAI batch, by the ids of their requests.
pub fn batch_answers(from: impl BufRead) -> io::Result<Answers> {
    let mut answers = Answers::new();
    lines(from, |line| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let id = value.get("custom_id").and_then(Value::as_str);
        let reply = value.pointer("/response/body").and_then(|body| reply(body, Protocol::OpenAiChat));
        answers.extend(id.map(str::to_owned).zip(reply));
        Ok(())
    })?;
    Ok(answers)
}

fn lines(mut from: impl BufRead, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut from, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim().trim_start_matches('\u{feff}');
        if !text.is_empty() {
            each(text)?;
        }
    }
}

fn columns(from: impl BufRead, mut take: impl FnMut(Option<Told>) -> io::Result<()>) -> Result<(), Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(from);
    let head = reader.headers()?.clone();
    let column = |names: &[&str]| {
        let known = |name: &str| name.trim().trim_start_matches('\u{feff}').to_ascii_lowercase();
        names.iter().find_map(|wanted| head.iter().position(|name| known(name) == *wanted))
    };
    let questions = column(&["question", "prompt", "text", "input", "query"])
        .ok_or_else(|| Error::NoQuestions(head.iter().collect::<Vec<_>>().join(", ")))?;
    let answers = column(&["answer", "response", "output", "completion"]);
    let (ids, times) = (column(&["id", "request_id"]), column(&["time", "timestamp", "at", "date"]));
    let (projects, models) = (column(&["project", "context"]), column(&["model"]));
    for record in reader.records() {
        let record = record?;
        let field = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).map(str::trim).filter(|field| !field.is_empty())
        };
        let Some(question) = field(Some(questions)) else {
            take(None)?;
            continue;
        };
        let mut body = asking(question);
        if let Some(model) = field(models) {
            body["model"] = model.into();
        }
        take(Some(Told {
            id: field(ids).map(str::to_owned),
            at: field(times).and_then(moment),
            project: field(projects).map(str::to_owned),
            body,
            reply: field(answers).map(|answer| Reply::text("", answer)),
            ..Told::default()
        }))?;
    }
    Ok(())
}

/// A body that asks one question.
fn asking(question: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": question }] })
}

fn openai(line: &Value) -> Option<Told> {
    let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = text("custom_id").or_else(|| text("id"));
    if let Some(body @ Value::Object(_)) = line.get("body") {
        let protocol = match line.get("url").and_then(Value::as_str) {
            Some(url) if url.ends_with("/responses") => Protocol::OpenAiResponses,
            Some(url) if url.ends_with("/chat/completions") => Protocol::OpenAiChat,
            Some(url) if url.ends_with("/completions") => Protocol::OpenAiCompletions,
            Some(url) if url.ends_with("/messages") => Protocol::Anthropic,
            Some(_) => return None,
            None => Protocol::OpenAiChat,
        };
        return Some(Told { id, protocol, body: body.clone(), ..Told::default() });
    }
    // Training and evaluation: the last message may be the answer.
    let line = line.get("item").filter(|item| item.is_object()).unwrap_or(line);
    let mut messages = line.get("messages").or_else(|| line.get("input"))?.as_array()?.clone();
    let says = |message: &Value| message.get("role").and_then(Value::as_str) == Some("assistant");
    let answer = messages.last().is_some_and(says).then(|| messages.pop()).flatten();
    let answer = answer.as_ref().and_then(|answer| answer.get("content")?.as_str());
    let mut body = json!({ "messages": messages });
    if let Some(model) = line.get("model") {
        body["model"] = model.clone();
    }
    Some(Told { id, body, reply: answer.map(|answer| Reply::text("", answer)), ..Told::default() })
}

fn litellm(line: &Value) -> Option<Told> {
    let line = line.get("standard_logging_object").filter(|log| log.is_object()).unwrap_or(line);
    let text = |name: &str| line.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let messages = inner(line.get("messages")?);
    let messages = match &messages {
        Value::String(question) => json!([{ "role": "user", "content": question }]),
        Value::Array(all) if !all.is_empty() => messages,
        // Where prompts are not logged there is nothing to ask.
        _ => return None,
    };
    let mut body = json!({ "messages": messages });
    if let Some(Value::Object(parameters)) = line.get("model_parameters") {
        for (name, value) in
            parameters.iter().filter(|(name, _)| !matches!(name.as_str(), "stream" | "messages"))
        {
            body[name] = value.clone();
        }
    }
    if let Some(model) = text("model_group").or_else(|| text("model")) {
        body["model"] = model.into();
    }
    let mut reply = line.get("response").map(inner).and_then(|response| match &response {
        Value::String(said) => Some(Reply::text("", said.as_str())),
        response => reply(response, Protocol::OpenAiChat),
    });
    let tokens = |name: &str| line.get(name).and_then(Value::as_u64);
    if let (Some(reply), Some(input), Some(output)) =
        (&mut reply, tokens("prompt_tokens"), tokens("completion_tokens"))
    {
        reply.usage.get_or_insert_with(|| crate::chat::Usage { input, output, ..Default::default() });
    }
    let at = line.get("startTime").and_then(time);
    let ended = line.get("endTime").and_then(time);
    Some(Told {
        id: text("id").or_else(|| text("request_id")).map(str::to_owned),
        at,
        took_us: at.zip(ended).map(|(at, ended)| ended.saturating_sub(at)),
        project: text("team_alias").or_else(|| text("team_id")).map(str::to_owned),
        tenant: None,
        body,
        reply,
        upstream: text("custom_llm_provider").map(str::to_owned),
        ..Told::default()
    })
}

/// JSON that is written as a text within JSON.
fn inner(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        value => value.clone(),
    }
}

fn reply(body: &Value, protocol: Protocol) -> Option<Reply> {
    let events = Decoder::new(protocol).whole(body.to_string().as_bytes()).ok()?;
    let mut folder = Folder::default();
    events.iter().for_each(|event| folder.push(event));
    folder.finish_lossy().ok().map(|(reply, _)| reply)
}

fn row(told: Told, number: u64, place: &Place) -> Row {
    let Told { id, at, took_us, project, tenant, protocol, mut body, reply, upstream } = told;
    if body.get("model").and_then(Value::as_str).is_none() {
        body["model"] = place.model.as_str().into();
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let known = reply.is_some();
    Row {
        at: at.unwrap_or(number * APART_US),
        id: id.unwrap_or_else(|| number.to_string()),
        tenant: tenant.unwrap_or_else(|| "imported".to_owned()),
        project: project.unwrap_or_else(|| place.project.clone()),
        protocol,
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or_default(),
        body: to_raw_value(&body).ok(),
        // Whoever kept the record asked somebody each time.
        source: known.then(|| "upstream".to_owned()),
        upstream: known.then(|| upstream.unwrap_or_else(|| "imported".to_owned())),
        voice: Some(Voice { origin: "provider".to_owned(), model: model.clone(), arm: None }),
        model,
        ended: "complete".to_owned(),
        usage: reply.as_ref().and_then(|reply| reply.usage),
        total_us: took_us.unwrap_or_default(),
        upstream_us: took_us,
        reply,
        ..Row::default()
    }
}

/// A moment, in microseconds since the Unix epoch.
fn time(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => seconds(number.as_f64()?),
        Value::String(text) => moment(text),
        _ => None,
    }
}

/// Seconds, or milliseconds where seconds would be far away.
fn seconds(number: f64) -> Option<u64> {
    let seconds = if number > 1e11 { number / 1e3 } else { number };
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e6) as u64)
}

/// `2026-11-26T01:02:03.5+01:00`, `2026-11-26 01:02:03`, or seconds since the Unix epoch.
fn moment(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds(number);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let rest = rest.trim_start_matches(['T', 't', ' ']);
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let mut parts = clock.trim().splitn(3, ':').map(|part| part.parse::<f64>().ok());
    // A day alone is its beginning.
    let mut part = || if clock.trim().is_empty() { Some(0.0) } else { parts.next().unwrap_or(Some(0.0)) };
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    let ahead = match zone.strip_prefix(['+', '-']) {
        Some(ahead) => {
            let digits: String = ahead.chars().filter(char::is_ascii_digit).collect();
            let (hours, minutes) = digits.split_at_checked(2)?;
            let minutes = hours.parse::<f64>().ok()? * 60.0 + minutes.parse::<f64>().unwrap_or_default();
            if zone.starts_with('-') { -minutes } else { minutes }
        }
        None => 0.0,
    };
    let days = days(year, month, day)?;
    let seconds = days as f64 * 86_400.0 + hours * 3_600.0 + (minutes - ahead) * 60.0 + seconds;
    (seconds >= 0.0).then_some((seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(format: Format, text: &str) -> (Vec<Row>, Counts) {
        let place = Place { project: "default".into(), model: "m".into() };
        let mut rows = Vec::new();
        let counts = import(format, text.as_bytes(), &HashMap::new(), &place, |row| {
            rows.push(row);
            Ok(())
        });
        (rows, counts.unwrap())
    }

    fn says(row: &Row) -> String {
        let body: Value = serde_json::from_str(row.body.as_ref().unwrap().get()).unwrap();
        let last = body["messages"].as_array().unwrap().last().unwrap().clone();
        last["content"].as_str().unwrap().to_owned()
    }

    fn answer(row: &Row) -> Option<String> {
        row.reply.as_ref().map(|reply| reply.choices[0].said())
    }

    #[test]
    fn lines_are_questions() {
        let (rows, counts) = imported(Format::Text, "\u{feff}What is two?\n\n  And three? \n");
        assert_eq!(rows.iter().map(says).collect::<Vec<_>>(), ["What is two?", "And three?"]);
        assert_eq!(counts, Counts { requests: 2, ..Counts::default() });
        assert!(rows[0].at < rows[1].at && rows[0].source.is_none() && rows[0].model == "m");
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let text = "id,Prompt,Response,project,time\n7,\"one, two\",fine,docs,2026-11-26T00:00:01Z\n8,,x,,\n";
        let (rows, counts) = imported(Format::Csv, text);
        assert_eq!(counts, Counts { requests: 1, answered: 1, passed_over: 1 });
        let row = &rows[0];
        assert_eq!((says(row).as_str(), answer(row).as_deref()), ("one, two", Some("fine")));
        assert_eq!((row.id.as_str(), row.project.as_str()), ("7", "docs"));
        let place = Place { project: String::new(), model: String::new() };
        let fault = import(Format::Csv, "a,b\n1,2\n".as_bytes(), &HashMap::new(), &place, |_| Ok(()));
        assert!(fault.unwrap_err().to_string().ends_with("there is: a, b"));
    }

    #[test]
    fn batches_and_their_answers_meet() {
        let asked = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt","messages":[{"role":"user","content":"hi"}]}}
{"custom_id":"b","url":"/v1/embeddings","body":{"model":"e","input":"x"}}
{"messages":[{"role":"user","content":"train"},{"role":"assistant","content":"ing"}]}"#;
        let said = r#"{"custom_id":"a","response":{"status_code":200,"body":{"id":"1","object":"chat.completion","created":1,"model":"gpt","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}}}"#;
        let answers = batch_answers(said.as_bytes()).unwrap();
        let place = Place { project: "p".into(), model: "m".into() };
        let mut rows = Vec::new();
        let counts = import(Format::OpenAi, asked.as_bytes(), &answers, &place, |row| {
            rows.push(row);
            Ok(())
        });
        assert_eq!(counts.unwrap(), Counts { requests: 2, answered: 2, passed_over: 1 });
        assert_eq!((answer(&rows[0]).as_deref(), rows[0].usage.unwrap().input), (Some("hello"), 3));
        assert_eq!((says(&rows[1]), answer(&rows[1]).as_deref()), ("train".to_owned(), Some("ing")));
    }

    #[test]
    fn logs_of_litellm_are_read_in_both_their_forms() {
        let text = r#"{"id":"1","startTime":1764115200.5,"endTime":1764115201.0,"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"response":{"id":"r","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"yo"},"finish_reason":"stop"}]},"prompt_tokens":2,"completion_tokens":1,"custom_llm_provider":"openai","model_parameters":{"temperature":0}}
{"request_id":"2","startTime":"2026-11-26T00:00:00.000Z","model":"m","messages":"[{\"role\":\"user\",\"content\":\"there\"}]","response":"{}"}
{"id":"3","messages":{}}"#;
        let (rows, counts) = imported(Format::LiteLlm, text);
        assert_eq!(counts, Counts { requests: 2, answered: 1, passed_over: 1 });
        assert_eq!((says(&rows[0]), answer(&rows[0]).as_deref()), ("hi".to_owned(), Some("yo")));
        assert_eq!((rows[0].at, rows[0].total_us), (1_764_115_200_500_000, 500_000));
        assert_eq!(rows[0].usage.unwrap().input, 2);
        assert_eq!(says(&rows[1]), "there");
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000-03-01 00:00:00", 951_868_800.0),
            ("2026-11-26T01:02:03.25+01:00", 1_795_651_323.25),
            ("2024-02-29", 1_709_164_800.0),
            ("1764115200", 1_764_115_200.0),
            ("1764115200000", 1_764_115_200.0),
        ] {
            assert_eq!(moment(text), Some((seconds * 1e6) as u64), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-11", "26.11.2026 10:00"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
