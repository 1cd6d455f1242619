//! A report in one file: it opens anywhere, asks nobody for anything, and can be printed.

mod charts;

use super::replay::{Interval, Lanes, Report};
use charts::{AMBER, BLUE, GREEN, GREY, Point, RED, SKY, Step};
use plotters::style::RGBColor;
use std::error::Error;
use std::fmt::Write as _;

/// A replay, and under which settings.
pub struct Run {
    /// What it is called: a setting, or a file.
    pub name: String,
    /// What it came to.
    pub report: Report,
}

type Made = Result<String, Box<dyn Error>>;

const STYLE: &str = include_str!("style.css");
const PAGE: &str = include_str!("page.html");

/// The page of one run, or of several side by side.
pub fn page(title: &str, runs: &[Run]) -> Made {
    let mut body = String::new();
    match runs {
        [only] => one(&mut body, &only.report)?,
        all => several(&mut body, all)?,
    }
    let dark: String = charts::DARK.iter().fold(String::new(), |mut css, (light, dark)| {
        let _ = write!(css, "svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}");
        css
    });
    let filled = PAGE.replace("{title}", &escaped(title)).replace("{style}", STYLE).replace("{dark}", &dark);
    Ok(filled.replace("{body}", &body))
}

/// A text, as it stands in a page.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    // A number and its sign stay on one line.
    text.replace(" %", "&nbsp;%")
}

fn one(page: &mut String, report: &Report) -> Result<(), Box<dyn Error>> {
    let journal = &report.journal;
    let saved = &report.saved;
    let _ = writeln!(page, "<h1>What a cache in front of this traffic does</h1>");
    let _ = writeln!(
        page,
        "<p class=\"lead\"><b>{}</b> of {} requests need nobody upstream: {} calls, {}{} of waiting.</p>",
        percent(saved.share),
        whole(journal.replayed),
        whole(saved.calls),
        if saved.cost_without > 0.0 {
            format!("{} of {}, ", dollars(saved.cost), dollars(saved.cost_without))
        } else {
            String::new()
        },
        time(saved.seconds),
    );
    let wrong = &report.wrong;
    let _ = writeln!(page, "<div class=\"tiles\">");
    tile(page, &percent(saved.share), "of requests answered here");
    if saved.cost_without > 0.0 {
        tile(page, &dollars(saved.cost), &format!("not spent, of {}", dollars(saved.cost_without)));
    } else {
        tile(page, &whole(saved.calls), "calls not made");
    }
    tile(page, &whole(wrong.served), "answers in other words");
    let believed = wrong.believed.mean / journal.replayed.max(1) as f64;
    let allowed = format!("of requests believed to be answered wrongly; {} may be", fine(wrong.max_wrong));
    tile(page, &fine(believed), &allowed);
    let _ = writeln!(page, "</div>");

    section(page, "Who answers", "Each request then, and now.");
    let bar = |lanes: &Lanes| -> Vec<charts::Part<'static>> {
        LANES
            .iter()
            .map(|(lane, colour)| (*lane, lanes.get(*lane).copied().unwrap_or_default() as f64, *colour))
            .collect()
    };
    page.push_str(&figure(&charts::shares(&[
        ("then", bar(&report.recorded)),
        ("now", bar(&report.replayed)),
    ])?));
    table(
        page,
        &["", "then", "now"],
        LANES.iter().filter_map(|(lane, colour)| {
            let count = |lanes: &Lanes| lanes.get(*lane).copied().unwrap_or_default();
            let (then, now) = (count(&report.recorded), count(&report.replayed));
            let of = |some: u64| {
                let share = some as f64 / journal.replayed.max(1) as f64;
                Cell::Two(whole(some), percent(share))
            };
            let named = Cell::Marked(*colour, (*lane).to_owned());
            (then + now > 0).then(|| vec![named, of(then), of(now)])
        }),
    );

    wrong_answers(page, report);
    over_time(page, report)?;
    similarity(page, report)?;
    latency(page, report)?;
    changes(page, report);
    unknown(page, report);
    Ok(())
}

const LANES: [(&str, RGBColor); 7] = [
    ("rule", AMBER),
    ("exact", BLUE),
    ("semantic", GREEN),
    ("joined", SKY),
    ("upstream", GREY),
    ("failed", RED),
    ("not recorded", GREY),
];

fn wrong_answers(page: &mut String, report: &Report) {
    let wrong = &report.wrong;
    section(
        page,
        "How much is wrong",
        "An answer in other words can be compared where the journal holds the answer that was given to the request \
         itself. Two right answers may differ, so what differs is more than what is wrong; the bound takes that into \
         account.",
    );
    let rows = [
        ("answers in other words", whole(wrong.served)),
        ("of these compared", whole(wrong.compared)),
        ("of these different", whole(wrong.different)),
        ("not clear", whole(wrong.unclear)),
        ("share that differs (95 %)", interval(wrong.share, wrong.compared > 0)),
        (
            "wrong, as the bound believes",
            format!("{:.1} ({:.1} to {:.1})", wrong.believed.mean, wrong.believed.least, wrong.believed.most),
        ),
        ("requests that may be answered wrongly", percent(wrong.max_wrong)),
    ];
    table(page, &[], rows.into_iter().map(|(name, value)| vec![name.into(), value.into()]));
}

fn over_time(page: &mut String, report: &Report) -> Result<(), Box<dyn Error>> {
    let cost = report.saved.cost > 0.0;
    let what = if cost { "US dollars not spent" } else { "calls not made" };
    section(
        page,
        "Savings over time",
        &format!("From the first request of the journal to the last: {what}."),
    );
    let hours = (report.journal.to.saturating_sub(report.journal.from)) as f64 / 3_600e6;
    let (span, unit) = match hours {
        _ if hours > 48.0 => (hours / 24.0, "days"),
        _ if hours < 2.0 => (hours * 60.0, "minutes"),
        _ => (hours, "hours"),
    };
    let mut sum = 0.0;
    let count = report.timeline.len().max(1) as f64;
    let mut points = vec![(0.0, 0.0)];
    for (nth, slice) in report.timeline.iter().enumerate() {
        sum += if cost { slice.cost } else { slice.saved as f64 };
        points.push(((nth + 1) as f64 / count * span, sum));
    }
    let up = |at: f64| if cost { tidy(format!("${at:.4}")) } else { whole(at as u64) };
    let across = |at: f64| tidy(format!("{at:.1}"));
    page.push_str(&figure(&charts::growth(&points, (unit, ""), (&across, &up))?));
    Ok(())
}

fn similarity(page: &mut String, report: &Report) -> Result<(), Box<dyn Error>> {
    if report.similarity.is_empty() {
        return Ok(());
    }
    section(
        page,
        "How like the nearest question is",
        "Of requests that were looked up in other words. Cosine alone decides nothing: a question that is as like may be \
         another one.",
    );
    legend(page, &[(GREEN, "answered from memory"), (GREY, "not")]);
    let steps: Vec<Step> = report
        .similarity
        .iter()
        .filter_map(|(step, near)| {
            let from: f64 = step.parse().ok()?;
            Some(Step { from, to: from + 0.02, front: near.served as f64, behind: near.missed as f64 })
        })
        .collect();
    let written: (&dyn Fn(f64) -> String, &dyn Fn(f64) -> String) =
        (&|at| format!("{at:.2}"), &|at| whole(at as u64));
    page.push_str(&figure(&charts::columns(&steps, ("cosine", "requests"), (GREEN, GREY), written)?));
    Ok(())
}

fn latency(page: &mut String, report: &Report) -> Result<(), Box<dyn Error>> {
    let rows: Vec<(&str, [f64; 3])> = report
        .latency_ms
        .iter()
        .map(|(lane, all)| (lane.as_str(), *all))
        .filter(|(_, all)| all[2] > 0.0)
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    section(page, "How long requests took", "Then, by who answered.");
    legend(page, &[(BLUE, "half of them"), (GREEN, "nine in ten"), (AMBER, "ninety-nine in a hundred")]);
    page.push_str(&figure(&charts::quantiles(&rows)?));
    Ok(())
}

fn changes(page: &mut String, report: &Report) {
    let decisions = &report.decisions;
    if decisions.same + decisions.changed == 0 {
        return;
    }
    section(
        page,
        "What changes",
        &format!(
            "{} decisions are the same as then, {} are others.",
            whole(decisions.same),
            whole(decisions.changed)
        ),
    );
    table(
        page,
        &["", "requests"],
        decisions
            .moves
            .iter()
            .map(|(kind, count)| vec![kind.replace(" -> ", " → ").into(), whole(*count).into()]),
    );
    if report.changes.is_empty() {
        return;
    }
    let _ = writeln!(page, "<details><summary>Examples</summary>");
    for change in &report.changes {
        let likeness = change.similarity.map(|cosine| format!(", cosine {cosine:.3}")).unwrap_or_default();
        let answers = change.answers.as_ref().map(|said| format!(", {said}")).unwrap_or_default();
        let _ = writeln!(
            page,
            "<div class=\"change\"><p>{} <span class=\"quiet\">{}</span></p><p class=\"was\">{}: {}</p><p class=\"now\">{}{likeness}{answers}: {}</p></div>",
            escaped(&change.asked),
            escaped(&change.project),
            escaped(&change.was),
            escaped(change.then.as_deref().unwrap_or("–")),
            escaped(&change.now),
            escaped(change.instead.as_deref().unwrap_or("–")),
        );
    }
    let _ = writeln!(page, "</details>");
}

fn unknown(page: &mut String, report: &Report) {
    let (journal, unknown) = (&report.journal, &report.unknown);
    let mut notes = Vec::new();
    if unknown.answers > 0 {
        notes.push(format!(
            "Of {} requests that would be asked upstream the journal holds no answer; {} hits repeat one of these.",
            whole(unknown.answers),
            whole(unknown.hits)
        ));
    }
    if unknown.older > 0 {
        notes.push(format!("{} of them repeat what is older than the journal.", whole(unknown.older)));
    }
    if report.saved.unpriced > 0 {
        notes.push(format!("Of {} saved calls the price is not known.", whole(report.saved.unpriced)));
    }
    notes.extend(
        journal
            .skipped
            .iter()
            .map(|(why, count)| format!("{} requests were not asked again: {why}.", whole(*count))),
    );
    if journal.unreadable > 0 {
        notes.push(format!("{} lines could not be read.", whole(journal.unreadable)));
    }
    if notes.is_empty() {
        return;
    }
    section(page, "What is not known", "");
    page.push_str(&listed("li", "ul", notes.iter().map(String::as_str)));
}

fn several(page: &mut String, runs: &[Run]) -> Result<(), Box<dyn Error>> {
    let _ = writeln!(page, "<h1>Runs side by side</h1>");
    let _ = writeln!(page, "<p class=\"lead\">{}</p>", escaped(&verdict(runs)));
    section(
        page,
        "What is served against what is wrong",
        "Up: the share of requests that need nobody upstream. Across: the share of requests answered wrongly, as the \
         bound believes, with what it is at least and at most.",
    );
    let (what, labels) = labels(runs);
    let points: Vec<Point> = runs
        .iter()
        .zip(&labels)
        .map(|(Run { report, .. }, name)| {
            let all = report.journal.replayed.max(1) as f64;
            let Interval { mean, least, most } = report.wrong.believed;
            Point {
                name: (*name).to_owned(),
                served: report.saved.share,
                wrong: (mean / all, least / all, most / all),
            }
        })
        .collect();
    page.push_str(&figure(&charts::against(&points, ("answered wrongly", "answered here"))?));
    let head = [what, "answered here", "calls saved", "exact", "other words", "believed wrong", "differ"];
    table(
        page,
        &head,
        runs.iter().zip(&labels).map(|(Run { report, .. }, name)| {
            let count = |lane: &str| whole(report.replayed.get(lane).copied().unwrap_or_default());
            let wrong = &report.wrong;
            let Interval { mean, least, most } = wrong.believed;
            let share = |Interval { mean, least, most }: Interval| {
                Cell::Two(percent(mean), format!("{:.1} to {:.1}", 100.0 * least, 100.0 * most))
            };
            let differ = if wrong.compared > 0 { share(wrong.share) } else { "–".to_owned().into() };
            vec![
                (*name).to_owned().into(),
                share(Interval::share(report.saved.calls, report.journal.replayed)),
                Cell::Two(whole(report.saved.calls), dollars(report.saved.cost)),
                count("exact").into(),
                count("semantic").into(),
                Cell::Two(format!("{mean:.1}"), format!("{least:.1} to {most:.1}")),
                differ,
            ]
        }),
    );
    let _ = writeln!(
        page,
        "<p class=\"quiet\">In small: what it is at least and at most (95&nbsp;%), and what the saved calls would \
         have cost.</p>"
    );
    for Run { name, report } in runs {
        let _ = writeln!(page, "<details class=\"run\"><summary>{}</summary>", escaped(name));
        one(page, report)?;
        let _ = writeln!(page, "</details>");
    }
    Ok(())
}

/// What all runs have in common (the key of `key = value`), and what each is called beside it.
fn labels(runs: &[Run]) -> (&str, Vec<&str>) {
    let parts: Option<Vec<(&str, &str)>> = runs.iter().map(|run| run.name.split_once(" = ")).collect();
    if let Some(parts) = parts
        && let Some((key, _)) = parts.first().copied()
        && parts.iter().all(|(other, _)| *other == key)
    {
        return (key, parts.into_iter().map(|(_, value)| value).collect());
    }
    ("", runs.iter().map(|run| run.name.as_str()).collect())
}

/// Which run is best, in one sentence; or that they cannot be told apart.
pub fn verdict(runs: &[Run]) -> String {
    let share = |run: &Run| Interval::share(run.report.saved.calls, run.report.journal.replayed);
    let sound = |run: &&Run| {
        let report = &run.report;
        report.wrong.believed.mean <= report.wrong.max_wrong * report.journal.replayed as f64
    };
    let mut best: Vec<&Run> = runs.iter().filter(sound).collect();
    best.sort_by(|a, b| share(b).mean.total_cmp(&share(a).mean));
    let Some(first) = best.first() else {
        return "None of these keeps what is wrong below its own bound.".to_owned();
    };
    let alike: Vec<&str> = best[1..]
        .iter()
        .filter(|run| share(run).most >= share(first).least)
        .map(|run| run.name.as_str())
        .collect();
    let Interval { mean, least, most } = share(first);
    let wrong = &first.report.wrong;
    let most_of = format!(
        "\"{}\" saves most: {} of requests ({:.1} to {:.1} %), and {:.2} % are believed to be answered wrongly, where {} % \
         may be",
        first.name,
        percent(mean),
        100.0 * least,
        100.0 * most,
        100.0 * wrong.believed.mean / first.report.journal.replayed.max(1) as f64,
        // No more digits than it takes: 1, and 0.5.
        (1e4 * wrong.max_wrong).round() / 100.0,
    );
    match alike.as_slice() {
        [] if runs.len() == 1 => format!("{most_of}."),
        [] if best.len() < runs.len() => {
            format!("{most_of}; the others save less, beyond chance, or do not keep to their bounds.")
        }
        [] => format!("{most_of}; the others save less, beyond chance."),
        some => format!("{most_of}; it cannot be told apart from {}.", some.join(", ")),
    }
}

fn section(page: &mut String, title: &str, about: &str) {
    let _ = writeln!(page, "<h2>{}</h2>", escaped(title));
    if !about.is_empty() {
        let _ = writeln!(page, "<p class=\"quiet\">{}</p>", escaped(about));
    }
}

fn tile(page: &mut String, value: &str, name: &str) {
    let _ = writeln!(page, "<div><b>{}</b><span>{}</span></div>", escaped(value), escaped(name));
}

/// What stands in a cell of a table.
enum Cell {
    Text(String),
    /// A number, and what there is to say of it.
    Two(String, String),
    /// What a colour stands for.
    Marked(RGBColor, String),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Cell {
    fn html(&self) -> String {
        match self {
            Self::Text(text) => escaped(text),
            Self::Two(first, second) => format!("{}<small>{}</small>", escaped(first), escaped(second)),
            Self::Marked(colour, text) => format!("{}{}", dot(*colour), escaped(text)),
        }
    }
}

/// A dot of a colour: a picture, so that it is another one on a dark page as those in the pictures are.
fn dot(RGBColor(red, green, blue): RGBColor) -> String {
    format!(
        "<svg class=\"dot\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle cx=\"5\" cy=\"5\" r=\"5\" \
         fill=\"#{red:02X}{green:02X}{blue:02X}\"/></svg>"
    )
}

/// What the colours of a picture stand for.
fn legend(page: &mut String, colours: &[(RGBColor, &str)]) {
    let named =
        colours.iter().map(|(colour, name)| format!("<span>{}{}</span>", dot(*colour), escaped(name)));
    let _ = writeln!(page, "<p class=\"quiet legend\">{}</p>", named.collect::<String>());
}

fn figure(svg: &str) -> String {
    format!("<figure>{svg}</figure>\n")
}

fn table(page: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<Cell>>) {
    let mut body = String::new();
    for row in rows {
        let cells = row.iter().map(|cell| format!("<td>{}</td>", cell.html()));
        let _ = writeln!(body, "<tr>{}</tr>", cells.collect::<String>());
    }
    if body.is_empty() {
        return;
    }
    let names = listed("th", "tr", head.iter().copied());
    let head = if head.is_empty() { String::new() } else { format!("<thead>{names}</thead>") };
    let _ = writeln!(page, "<div class=\"wide\"><table>{head}<tbody>{body}</tbody></table></div>");
}

/// Texts, each in an element of its own, and all in one.
fn listed<'t>(each: &str, all: &str, texts: impl Iterator<Item = &'t str>) -> String {
    let mut list = format!("<{all}>");
    for text in texts {
        let _ = write!(list, "<{each}>{}</{each}>", escaped(text));
    }
    let _ = writeln!(list, "</{all}>");
    list
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A share that is often far below one in a hundred.
fn fine(share: f64) -> String {
    format!("{} %", tidy(format!("{:.2}", 100.0 * share)))
}

/// A number without zeros that say nothing.
fn tidy(number: String) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number,
    }
}

fn interval(Interval { mean, least, most }: Interval, known: bool) -> String {
    if known {
        format!("{:.1} % ({:.1} to {:.1})", 100.0 * mean, 100.0 * least, 100.0 * most)
    } else {
        "–".to_owned()
    }
}

fn dollars(amount: f64) -> String {
    match amount {
        _ if amount >= 100.0 => format!("${amount:.0}"),
        _ if amount >= 1.0 || amount == 0.0 => format!("${amount:.2}"),
        _ => format!("${amount:.4}"),
    }
}

fn whole(number: u64) -> String {
    super::replay::whole(number)
}

fn time(seconds: f64) -> String {
    super::replay::time(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, saved: u64, wrong: f64) -> Run {
        let mut report = Report::default();
        report.journal.replayed = 1_000;
        report.saved.calls = saved;
        report.saved.share = saved as f64 / 1_000.0;
        report.wrong.believed = Interval { mean: wrong, least: 0.0, most: 2.0 * wrong };
        report.wrong.max_wrong = 0.01;
        report.timeline = vec![super::super::replay::Slice { requests: 10, saved: 4, cost: 0.1 }; 60];
        report.similarity.insert("0.90".into(), super::super::replay::Near { served: 3, missed: 4 });
        report.latency_ms.insert("exact".into(), [0.1, 0.2, 1.0]);
        report.recorded.insert("upstream".into(), 1_000);
        report.replayed.insert("exact".into(), saved);
        Run { name: name.to_owned(), report }
    }

    #[test]
    fn the_verdict_tells_what_can_be_told_apart() {
        let told = verdict(&[run("a", 300, 5.0), run("b", 500, 5.0), run("c", 900, 50.0)]);
        assert!(told.starts_with("\"b\" saves most: 50.0 %"), "{told}");
        assert!(told.contains("0.50 % are believed to be answered wrongly, where 1 % may be"), "{told}");
        assert!(told.ends_with("beyond chance, or do not keep to their bounds."), "{told}");
        let told = verdict(&[run("a", 300, 5.0), run("b", 500, 5.0)]);
        assert!(told.ends_with("; the others save less, beyond chance."), "{told}");
        let told = verdict(&[run("a", 490, 5.0), run("b", 500, 5.0)]);
        assert!(told.ends_with("cannot be told apart from a."), "{told}");
        assert!(verdict(&[run("c", 900, 50.0)]).starts_with("None"));
    }

    #[test]
    fn numbers_say_no_more_than_they_must() {
        let told = |text: &str| tidy(text.to_owned());
        assert_eq!([told("5.0"), told("$0.0600"), told("$0.0000"), told("100")], ["5", "$0.06", "$0", "100"]);
        assert_eq!((fine(0.01), fine(0.00071)), ("1 %".to_owned(), "0.07 %".to_owned()));
    }

    #[test]
    fn what_all_have_in_common_is_said_once() {
        let runs = [run("cache.max_wrong = 0.01", 1, 0.0), run("cache.max_wrong = 0.02", 1, 0.0)];
        assert_eq!(labels(&runs), ("cache.max_wrong", vec!["0.01", "0.02"]));
        let others = [run("cache.max_wrong = 0.01", 1, 0.0), run("a.json", 1, 0.0)];
        assert_eq!(labels(&others), ("", vec!["cache.max_wrong = 0.01", "a.json"]));
    }

    #[test]
    fn a_page_asks_nobody_for_anything_and_takes_no_word_for_markup() {
        let mut bad = run("a", 300, 5.0);
        bad.report.decisions.moves.insert("<script>alert(1)</script>".into(), 1);
        for page in [page("<b>", &[bad]), page("two", &[run("a", 300, 5.0), run("<i>", 500, 5.0)])] {
            let page = page.unwrap();
            assert!(!page.contains("<script") && !page.contains("<i>"));
            let without_names = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
            assert!(!without_names.contains("http"), "nothing is fetched");
            assert!(page.matches("<figure>").count() >= 3);
        }
    }
}
