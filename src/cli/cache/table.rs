//! What was answered, to be read.

use indicatif::DecimalBytes;
use serde_json::Value;
use std::fmt::Write as _;

/// How much of an id is shown: enough to name one among millions.
const DIGITS: usize = 12;
/// How much of a question is shown in a line.
const SHOWN: usize = 60;

/// A table of rows.
pub(super) fn rows(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "no answers".to_owned();
    }
    let similar = rows.iter().any(|row| row["similarity"].is_number());
    let mut head = vec!["ID", "AGE", "EXPIRES IN", "HITS", "SIZE", "PROJECT", "MODEL"];
    if similar {
        head.push("LIKE");
    }
    head.push("QUESTION");
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| cells(row, similar)));
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Value, similar: bool) -> Vec<String> {
    let mut cells = vec![
        short_id(row),
        span(row["age_seconds"].as_u64().unwrap_or_default()),
        expiry(row),
        row["hits"].to_string(),
        size(&row["bytes"]),
        word(&row["project"]),
        word(&row["model"]),
    ];
    if similar {
        cells.push(row["similarity"].as_f64().map_or(String::new(), |cosine| format!("{cosine:.3}")));
    }
    cells.push(question(row));
    cells
}

/// An answer in full.
pub(super) fn item(item: &Value) -> String {
    let tags = item["tags"]
        .as_array()
        .map_or(String::new(), |tags| tags.iter().map(word).collect::<Vec<_>>().join(", "));
    let facts = [
        ("id", word(&item["id"])),
        ("tenant", word(&item["tenant"])),
        ("project", word(&item["project"])),
        ("model", word(&item["model"])),
        ("tags", tags),
        ("from", word(&item["upstream"])),
        ("age", span(item["age_seconds"].as_u64().unwrap_or_default())),
        ("expires in", expiry(item)),
        ("hits", item["hits"].to_string()),
        ("size", size(&item["bytes"])),
        ("other words", if item["has_vector"] == true { "may find it" } else { "do not find it" }.to_owned()),
    ];
    let mut text = facts.into_iter().filter(|(_, fact)| !fact.is_empty()).fold(
        String::new(),
        |mut text, (name, fact)| {
            let _ = writeln!(text, "{name:<12} {fact}");
            text
        },
    );
    let words = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let _ = write!(text, "\n{}\n\n{}", words(&item["question"]), words(&item["answer"]));
    text
}

/// What a purge did, or would do.
pub(super) fn purge(purge: &Value) -> String {
    let dry = purge["dry_run"] == true;
    let (matched, removed, spared) =
        (count(&purge["matched"]), count(&purge["removed"]), count(&purge["spared"]));
    let mut text = match (dry, matched) {
        (_, 0) => "nothing to remove".to_owned(),
        (true, _) => {
            format!("would remove {} ({}); --yes removes them", answers(matched), size(&purge["bytes"]))
        }
        (false, _) => format!("removed {} ({})", answers(removed), size(&purge["bytes"])),
    };
    if spared > 0 {
        let _ = write!(text, "\n{} pinned and kept; --pinned means those", answers_are(spared));
    }
    if dry && matched > 0 {
        let _ = write!(text, "\n{}", listed(&purge["examples"], matched));
    }
    text
}

/// What went because it was wrong.
pub(super) fn wrong(wrong: &Value) -> String {
    let (removed, spared) = (count(&wrong["removed"]), count(&wrong["spared"]));
    let mut text = format!("removed {}\n{}", answers(removed), listed(&wrong["entries"], removed));
    if spared > 0 {
        let _ = write!(text, "\n{} like it but pinned and kept", answers_are(spared));
    }
    text
}

/// What was removed.
pub(super) fn removed(row: &Value) -> String {
    format!("removed {}  {}", short_id(row), question(row))
}

/// What was pinned.
pub(super) fn pinned(row: &Value) -> String {
    format!("pinned {}  {}", short_id(row), question(row))
}

/// What is no longer pinned.
pub(super) fn unpinned(row: &Value) -> String {
    format!("unpinned {} (expires in: {})  {}", short_id(row), expiry(row), question(row))
}

/// How much is kept.
pub(super) fn stats(stats: &Value) -> String {
    let mut text = format!(
        "{}, {}; {} hits, {} pinned, {} whose time is over",
        answers(count(&stats["entries"])),
        size(&stats["bytes"]),
        stats["hits"],
        stats["pinned"],
        stats["expired"],
    );
    for project in stats["projects"].as_array().into_iter().flatten() {
        let name = [word(&project["tenant"]), word(&project["project"])].join("/");
        let _ = write!(
            text,
            "\n  {name}: {}, {}, {} hits",
            answers(count(&project["entries"])),
            size(&project["bytes"]),
            project["hits"],
        );
    }
    if let Some(store) = stats["store"].as_object() {
        let told = |name: &str| store.get(name).cloned().unwrap_or_default();
        let _ = write!(
            text,
            "\nsince the start: {} made room, {} not let in, {} damaged\nvectors in memory: {} of {} scopes",
            told("evicted"),
            told("turned_away"),
            told("damaged"),
            size(&told("index")["bytes"]),
            told("index")["scopes"],
        );
    }
    text
}

/// What became of an import.
pub(super) fn imported(told: &Value) -> String {
    let mut text = format!("imported {}", answers(count(&told["imported"])));
    let rest = [
        ("known", "not newer than what is kept"),
        ("expired", "expired"),
        ("no_room", "without room"),
        ("bad", "bad lines"),
    ];
    for (name, said) in rest {
        if count(&told[name]) > 0 {
            let _ = write!(text, ", {} {said}", told[name]);
        }
    }
    for line in told["bad_lines"].as_array().into_iter().flatten() {
        let _ = write!(text, "\n  line {}: {}", line["line"], word(&line["why"]));
    }
    text
}

fn listed(rows: &Value, all: u64) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> =
        rows.iter().map(|row| format!("  {}  {}", short_id(row), question(row))).collect();
    let rest = all.saturating_sub(rows.len() as u64);
    if rest > 0 {
        lines.push(format!("  and {rest} more"));
    }
    lines.join("\n")
}

fn answers(count: u64) -> String {
    if count == 1 { "1 answer".to_owned() } else { format!("{count} answers") }
}

fn answers_are(count: u64) -> String {
    format!("{} {}", answers(count), if count == 1 { "is" } else { "are" })
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn size(bytes: &Value) -> String {
    DecimalBytes(count(bytes)).to_string()
}

fn short_id(row: &Value) -> String {
    word(&row["id"]).chars().take(DIGITS).collect()
}

fn question(row: &Value) -> String {
    word(&row["question"]).chars().take(SHOWN).collect()
}

/// A word that anyone may have chosen: nothing in it moves the terminal's cursor.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn expiry(row: &Value) -> String {
    match row["expires_in_seconds"].as_u64() {
        _ if row["pinned"] == true => "pinned".to_owned(),
        None => "never".to_owned(),
        Some(0) => "over".to_owned(),
        Some(seconds) => span(seconds),
    }
}

/// A time in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, question: &str) -> Value {
        json!({
            "id": id, "tenant": "default", "project": "live", "model": "m", "tags": ["song"], "age_seconds": 7300,
            "expires_in_seconds": 90, "pinned": false, "hits": 3, "bytes": 2048, "question": question,
        })
    }

    #[test]
    fn rows_stand_in_columns() {
        let other =
            json!({ "pinned": true, "age_seconds": 5, "hits": 10, "bytes": 9, "id": "ab", "project": "p" });
        let text = rows(&[row("0123456789abcdef", "How\u{1b}[2J many?"), other]);
        let expected = "\
ID            AGE  EXPIRES IN  HITS  SIZE     PROJECT  MODEL  QUESTION
0123456789ab  2h   1m          3     2.05 kB  live     m      How [2J many?
ab            5s   pinned      10    9 B      p";
        assert_eq!(text, expected);
        assert_eq!(rows(&[]), "no answers");
    }

    #[test]
    fn a_dry_run_says_what_would_be_removed_and_how() {
        let told = |dry_run: bool, matched: u64, spared: u64| {
            purge(&json!({
                "dry_run": dry_run, "matched": matched, "removed": matched, "bytes": 4096, "spared": spared,
                "examples": [row("0123456789abcdef", "one?")],
            }))
        };
        assert_eq!(
            told(true, 12, 0),
            "would remove 12 answers (4.10 kB); --yes removes them\n  0123456789ab  one?\n  and 11 more"
        );
        assert_eq!(
            told(false, 1, 1),
            "removed 1 answer (4.10 kB)\n1 answer is pinned and kept; --pinned means those"
        );
        assert_eq!(told(true, 0, 0), "nothing to remove");
    }
}
